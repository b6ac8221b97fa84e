"""What `pydnn` alone and `--help` show."""

import re
import shlex

import pytest

from pydnn import cli


def commands_of(parser):
    """The parsers of all commands below a parser by name, e.g. "data draw"."""
    commands = {}
    for group in parser._subparsers._group_actions if parser._subparsers else []:
        for name, one in group.choices.items():
            below = commands_of(one)
            commands |= {f"{name} {inner}": p for inner, p in below.items()} or {name: one}
    return commands


COMMANDS = commands_of(cli._parser())


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
    listed = set(re.findall(r"^    ([a-z]+)(?: |$)", out, flags=re.M))
    assert listed == {name.partition(" ")[0] for name in COMMANDS}
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("name", sorted({name.partition(" ")[0] for name in COMMANDS}))
def test_a_command_that_is_named_is_parsed_without_the_others(name):
    assert {one.partition(" ")[0] for one in commands_of(cli._parser(name))} == {name}


def sections(text):
    """The title of each part of a help text, and its lines."""
    _, *pairs = re.split(r"^(\S.*):\n", text, flags=re.M)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize("name", COMMANDS)
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
    assert ("where it is recorded" in groups) == (name in ("train", "sweep"))


@pytest.mark.parametrize(
    ("argv", "near"),
    [(("trian",), "'train'"), (("train", "--dtype", "float46"), "'float64'")],
    ids=["a command", "a choice"],
)
def test_a_misspelled_choice_gets_the_nearest_one(command, argv, near):
    status, out, err = command(*argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"invalid choice: {argv[-1]!r}; did you mean {near}?" in err
