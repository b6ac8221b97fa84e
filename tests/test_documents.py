"""What people read first must run as it stands."""

import re
import runpy
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
EXAMPLES = sorted((TOP / "examples").glob("*.py"))


def test_the_readme_opens_with_two_sentences_and_two_commands_of_one_line():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)
    assert len(blocks) == 2
    assert [block.count("\n") for block in blocks] == [1, 1]
    opening = README.partition("```")[0].partition("\n")[2].replace("NumPy alone:", "")
    assert len(re.findall(r"\.(?:\s|$)", opening)) == 2


def test_the_readmes_step_trains(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S)
    assert code.count("\n") <= 13
    names = {}
    exec(code, {"my_clip": lambda step: step}, names)
    assert names["info"].cost < 0.2
    assert names["state"].iteration == 500


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_files_that_the_readme_names_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (TOP / target).exists(), target
