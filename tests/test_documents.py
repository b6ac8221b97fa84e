"""What people read first must run as it stands."""

import re
import runpy
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pydnn.descriptions.builders import builders_of

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((TOP / "examples").glob("*.py"))


def test_the_readme_opens_with_two_sentences_and_two_commands_of_one_line():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)
    assert len(blocks) == 2
    assert [block.count("\n") for block in blocks] == [1, 1]
    opening = README.partition("```")[0].partition("\n")[2].replace("NumPy alone:", "")
    assert len(re.findall(r"\.(?:\s|$)", opening)) == 2


def test_the_readmes_second_line_leads_to_the_chinese_tutorial():
    assert README.splitlines()[1] == "[中文教程](.docs/教程.md)"


def test_the_readmes_step_trains(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S)
    assert code.count("\n") <= 20
    names = {}
    exec(code, names)
    assert names["info"].cost < 0.2
    assert capsys.readouterr().out.startswith(re.findall(r"# (0\.\d+)…", code)[0])
    assert names["state"].iteration == 500


def test_the_readme_names_every_builder():
    builders = {builder.name for builder in builders_of() if ":" not in builder.name}
    named = re.findall(r"`(\w+\*?)`", README)
    missing = {name for name in builders if not any(fnmatch(name, n) for n in named)}
    assert len(builders) > 60
    assert not missing


# What each example is there to show, as its output says it.
SHOWN = {
    "diabetes.py": r"the mean of all +off by +\d\d\.\d on average, R squared -?0\.0\d\d\n"
    r"the network +off by +\d\d\.\d on average, R squared 0\.[45]",
    "digits.py": r"kept: the state after [123]\d\d\d iter(.|\n)*test accuracy 0\.9[789]",
    "new_activation.py": r"cost 0\.\d+ before training, 0\.000\d+ after",
    "prove_a_stage.py": r"breaks 'gradients', 'examples':(.|\n)*a +\(3, 1\) .* WRONG\n"
    r"A_prev .* right\n(.|\n)*learned_slope keeps 11 laws(.|\n)*step keeps 5 laws(.|\n)*"
    r"0\.000\d+ after it",
    "recorded_run.py": r"whole  300 steps, fingerprint (\w{16})\ncut    300 steps, fingerprint \1\n"
    r"replay: every bit is the recorded one\nstep 200: cost 0\.\d+ of 32 examples",
    "regularize.py": r"nothing +train accuracy (1\.000|0\.99\d) +test accuracy 0\.8[5-8]\d\n"
    r"L2 penalty +train accuracy 0\.9[3-7]\d +test accuracy 0\.(8[89]|9[01])\d\n"
    r"dropout +train accuracy \S+ +test accuracy 0\.(8[789]|9[01])\d\n"
    r"early stopping +train accuracy \S+ +test accuracy 0\.(8[789]|9[01])\d\n",
    "same_bits.py": r"this machine +\w{16}  b839edc14988d74b\n(.|\n)*"
    r"different results: \d by fast, 1 by portable arithmetic",
    "step_by_hand.py": r"accuracy (1\.000|0\.99\d)\nafter forward",
    "tutorial_in_seven_steps.py": r"7\. train accuracy 0\.9\d\n7\. test accuracy 0\.8\d",
}
NEEDED = {"diabetes.py": "sklearn", "digits.py": "sklearn"}
# The examples that train for long are run in full among the slow tests, and otherwise with a
# smaller number in this file of theirs, which must then show this.
SHORTENED = {
    "digits.py": ("digits.toml", "iterations = 4000", "iterations = 150",
                  r"kept: the state after 150 iter(.|\n)*test accuracy 0\.9[0-9]"),
    "regularize.py": ("regularize.py", "repeat(train, 2000)", "repeat(train, 30)",
                      r"nothing +train accuracy 0\.[89]\d\d +test accuracy 0\.[89](.|\n)*\n"
                      r"early stopping +train accuracy 0\.[89]\d\d +test accuracy 0\.[89]"),
}  # fmt: skip


def output_of_example(path, capsys, monkeypatch, *argv):
    if path.name in NEEDED:
        pytest.importorskip(NEEDED[path.name])
    monkeypatch.setattr(sys, "argv", [path.name, *map(str, argv)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in SHORTENED else []) for p in EXAMPLES],
    ids=lambda path: path.name,
)
def test_examples_show_what_they_are_there_for(path, capsys, monkeypatch):
    assert re.search(SHOWN[path.name], output_of_example(path, capsys, monkeypatch))


@pytest.mark.parametrize("name", SHORTENED)
def test_long_examples_run_in_fewer_steps_too(name, tmp_path, capsys, monkeypatch):
    file, long, short, shown = SHORTENED[name]
    examples = shutil.copytree(TOP / "examples", tmp_path / "examples")
    text = (examples / file).read_text()
    assert text.count(long) == 1
    (examples / file).write_text(text.replace(long, short))
    argv = []
    if name == "regularize.py":
        pytest.importorskip("matplotlib")
        argv = [tmp_path / "picture.png"]
    assert re.search(shown, output_of_example(examples / name, capsys, monkeypatch, *argv))
    for picture in argv:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_files_that_the_readme_names_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (TOP / target).exists(), target
