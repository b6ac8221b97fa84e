"""What `pydnn` alone and `--help` show."""

import re
import shlex

import pytest

from pydnn import cli

COMMANDS = {"train", "sweep", "resume", "replay", "inspect", "diff", "prune", "doctor", "summary",
            "evaluate", "predict", "parts", "data", "completion"}  # fmt: skip
WITH_OWN_HELP = [*sorted(COMMANDS - {"data"}), "data draw", "data show", "data info"]


@pytest.fixture(autouse=True)
def on_a_wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def expect_valid(line):
    program, *argv = shlex.split(line)
    assert program == "pydnn"
    assert callable(cli._parser().parse_args(argv).run)


def test_pydnn_alone_shows_five_commands_and_where_the_others_are(command):
    status, out, err = command()
    assert (status, err) == (0, "")
    lines = re.findall(r"^  (pydnn .*?)  ", out, flags=re.M)
    assert len(lines) == 5
    for line in lines:
        expect_valid(line)
    assert "pydnn --help lists all commands" in out


def test_the_help_of_pydnn_lists_all_commands(command):
    status, out, _ = command("--help")
    assert status == 0
    assert set(re.findall(r"^    ([a-z]+)(?: |$)", out, flags=re.M)) >= COMMANDS
    assert set(cli._parser()._subparsers._group_actions[0].choices) >= COMMANDS


def sections(text):
    """The title of each part of a help text, and its lines."""
    _, *pairs = re.split(r"^(\S.*):\n", text, flags=re.M)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize("name", WITH_OWN_HELP)
def test_help_groups_options_and_shows_an_example_of_each_group(command, name):
    status, out, _ = command(*name.split(), "--help")
    assert status == 0
    groups = sections(out)
    assert "positional arguments" not in groups
    for title in set(groups) - {"options"}:
        text = groups[title]
        [example] = re.findall(r"^  example: (.*)$", text, flags=re.M)
        assert example.startswith(f"pydnn {name}")
        expect_valid(example)
        positional = re.search(r"^  [A-Za-z{]", text.replace("  example: ", ""), flags=re.M)
        assert positional or set(re.findall(r"--[a-z-]+", text.replace(example, ""))) & set(
            example.split()
        ), title


@pytest.mark.parametrize("name", ["train", "sweep", "summary"])
def test_the_options_of_a_recipe_are_in_the_same_groups_everywhere(command, name):
    _, out, _ = command(name, "--help")
    groups = sections(out)
    for title, option in {
        "what to train": "--data NAME",
        "how to train it": "--optimizer CALL",
        "when to stop": "--iterations N",
    }.items():
        assert f"\n  {option}" in groups[title]
    assert ("where it is recorded" in groups) == (name == "train")
