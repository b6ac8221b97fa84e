"""Names from strangers reach the terminal and pages as text, whatever they hold."""

import contextlib
import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import pydnn as nn
from pydnn.cli import main

EVIL = "<script>alert('\"1\"')</script>\x1b[2J\x1b]0;x\x07\u202egpj.exe\n"
LONG = EVIL + "L" * 10_000
TARGET = "t" + EVIL
RUN = "<b>\x1b[2J\u202e'\"x"
RECIPE = [
    *("--data", "data.csv", "--target", TARGET, "--seed", "1", "--validation", "0.2"),
    *("--network", "serial(dense(3), relu, dense(1))", "--loss", "sigmoid_cross_entropy"),
    *("--optimizer", "adam(learning_rate=0.05)", "--iterations", "6", "--standardize"),
]
_WIDEST = 400  # characters of a line that is not a recipe's or a prediction's


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table whose columns and classes have hostile names, and a run on it."""
    path = tmp_path_factory.mktemp("hostile")
    a, b = nn.Key(1).at("ab").normal((2, 40))
    rows = zip(
        a,
        b,
        np.where(b > 0, EVIL + "Rome", LONG + "Oslo"),
        np.where(a > 0, EVIL + "yes", LONG + "no"),
        strict=True,
    )
    with (path / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[EVIL, LONG, "city", TARGET], *rows])
    with contextlib.chdir(path):
        assert main(["train", *RECIPE, "--run", RUN, "--quiet", "--evaluate-every", "2"]) == 0
    return path


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def obeyed(text):
    """The characters of a text that a terminal would not show as they are."""
    return {letter for letter in text if letter != "\n" and not letter.isprintable()}


COMMANDS = {
    "summary": ["summary", *RECIPE],
    "evaluate": ["evaluate", RUN, "--per-class"],
    "inspect": ["inspect", RUN, "--step", "3"],
    "diff": ["diff", RUN, RUN],
    "doctor": ["doctor", RUN],
    "replay": ["replay", RUN],
    "prune": ["prune", RUN, "--dry-run"],
    "resume": ["resume", RUN, "--iterations", "6"],
    "missing": ["report", RUN + "\x1b[3J"],
    "unknown": ["report", RUN, "--best-by", LONG],
}


SLOWER = {"prune", "resume", "doctor", "replay"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=name, marks=[pytest.mark.slow] if name in SLOWER else [])
        for name, arguments in COMMANDS.items()
    ],
)
def test_commands_show_hostile_names_as_text_of_a_sensible_length(inside, arguments, capsys):
    main(arguments)
    out, err = capsys.readouterr()
    assert obeyed(out + err) == set()
    assert max(map(len, out.splitlines()), default=0) < _WIDEST
    assert max(map(len, err.splitlines()), default=0) <= 1100


def test_predictions_are_text(inside, capsys):
    assert main(["predict", RUN, "data.csv"]) == 0
    assert obeyed(capsys.readouterr().out) == set()


def test_a_sweep_over_hostile_values_shows_a_table(inside, capsys):
    name = "adam\x1b[2J.csv"
    status = main(["sweep", *RECIPE, "--vary", f"watch='', '{name}{'L' * 5000}'", "--seeds", "1"])
    out, err = capsys.readouterr()
    assert obeyed(out + err) == set()
    assert status in (0, 2)


class Page(HTMLParser):
    """Collects the elements, the attributes and the texts of a page by their element."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], set(), set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))


def page_of(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not re.search(r"https?:", text)
    # Texts in code are recipes, which keep their lines.
    shown = "".join(data for tag, data in page.texts if tag not in ("code", "style", ""))
    assert obeyed(shown) == set()
    return page, text


def test_a_page_shows_hostile_names_as_text_of_a_sensible_length(inside, tmp_path):
    assert main(["report", RUN, "--out", str(tmp_path / "page.html")]) == 0
    page, text = page_of(tmp_path / "page.html")
    longest = {}
    for tag, data in page.texts:
        longest[tag] = max(longest.get(tag, 0), len(data))
    assert longest["th"] <= 60
    assert longest["td"] <= 400
    assert longest["h1"] <= 120
    assert any(data.startswith("<script>alert(") for tag, data in page.texts if tag == "th")
    assert len(text) < 300_000
    # The recipe can be copied, whatever its names.
    [code] = [data for tag, data in page.texts if tag == "code"]
    assert nn.recipes.read_recipe(code) == nn.Run.open(RUN).recipe


@pytest.mark.slow
def test_a_page_of_several_runs_shows_names_as_text(inside, tmp_path):
    assert main(["report", RUN, RUN, "--out", str(tmp_path / "page.html")]) == 0
    page_of(tmp_path / "page.html")


@pytest.mark.slow
def test_a_page_of_a_sweep_shows_names_as_text(inside, tmp_path):
    swept = tmp_path / RUN
    options = ["--learning-rates", "0.1,0.2", "--record", str(swept), "--seeds", "1"]
    assert main(["sweep", *RECIPE, *options]) == 0
    assert main(["report", str(swept), "--out", str(tmp_path / "page.html")]) == 0
    page_of(tmp_path / "page.html")


@pytest.fixture(scope="module")
def named_oddly(folder):
    """A run whose data set has a name of 10,000 characters, and a file with that data."""
    X = nn.Key(2).normal((3, 30))
    data = nn.data.DataSet(nn.Batch(X, X[:1] > 0), nn.Batch(X, X[:1] > 0), classes=(EVIL, LONG))
    nn.data.save_table(folder / "odd.h5", data)
    recipe = nn.Recipe(LONG, "dense(1)", "sigmoid_cross_entropy()", "adam()", iterations=4)
    job = nn.jobs.prepare(recipe, data)
    with nn.runs.create_run(folder / "odd", job, data) as recording:
        for _ in nn.runs.record(recording, nn.jobs.run(job)):
            pass
    return "odd"


@pytest.mark.parametrize("data", [[], ["--data", "odd.h5"]], ids=["lost", "given"])
@pytest.mark.parametrize(
    "command",
    [
        "report",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("replay", "doctor", "evaluate")),
    ],
)
def test_a_data_set_whose_name_no_file_can_have(
    inside, named_oddly, command, data, tmp_path, capsys
):
    out = ["--out", str(tmp_path / "page.html")] if command == "report" else []
    status = main([command, named_oddly, *data, *out])
    out, err = capsys.readouterr()
    assert status == (0 if data or command == "report" else 1 if command == "doctor" else 2)
    assert obeyed(out + err) == set()
    assert max(map(len, (out + err).splitlines())) <= 1010


def test_a_run_is_opened_from_python_whatever_its_data_is_called(inside, named_oddly):
    with pytest.raises(nn.BadInput, match="so long a name"):
        _ = nn.Run.open(named_oddly).data
    with pytest.raises(nn.BadInput, match="so long a name"):
        nn.Run.open("x" * 10_000)
