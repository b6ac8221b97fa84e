"""The Chinese tutorial shows the example's code, and what it says itself is true."""

import contextlib
import doctest
import io
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

import pydnn.tutorial
from pydnn.cli import main
from pydnn.data import drawn_cats
from pydnn.tutorial import dnn_model

TOP = Path(__file__).parents[1]
PAGE = TOP / ".docs" / "教程.md"
EXAMPLE = TOP / "examples" / "tutorial_in_seven_steps.py"
TEXT = PAGE.read_text(encoding="utf-8")
LINES = EXAMPLE.read_text(encoding="utf-8").splitlines()


def blocks(kind):
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", TEXT, flags=re.M | re.S)


INCLUDES = [
    dict(re.findall(r"^:([\w-]+): \"(.*)\"$", options, flags=re.M))
    for options in blocks("{literalinclude} ../examples/tutorial_in_seven_steps.py")
]


def line_of(mark):
    """The number, from 1, of the one line of the example that holds this mark."""
    (number,) = [n for n, line in enumerate(LINES, start=1) if mark in line]
    return number


@pytest.fixture(scope="module")
def example():
    """The names that the example defines and what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        names = runpy.run_path(str(EXAMPLE))
    return names, out.getvalue()


@pytest.fixture
def numpys_global_stream():
    """Restores NumPy's global random state, which the article's first step seeds."""
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


def test_the_page_includes_every_step_of_the_example_in_order():
    marks = re.findall(r"^# (\[[^\]]+\])", "\n".join(LINES), flags=re.M)
    assert marks == ["[imports and data]", *(f"[step {n}]" for n in range(1, 8))]
    assert [options.get("start-after") for options in INCLUDES] == marks
    assert [options.get("end-before") for options in INCLUDES] == [*marks[1:], None]
    assert TEXT.count("```{literalinclude}") == len(INCLUDES)


def test_the_link_above_each_include_leads_to_the_line_of_its_mark():
    links = re.findall(r"^\S+\[.*\.py#L(\d+)\)\n\n```\{literalinclude\}", TEXT, flags=re.M)
    lines = [line_of(options["start-after"]) for options in INCLUDES]
    assert list(map(int, links)) == lines, "write these lines into the links of .docs/教程.md"


def test_relative_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#:]+)(?:#L\d+)?\)", TEXT)
    assert len(targets) > 10
    for target in targets:
        assert (PAGE.parent / target).is_file(), target


def test_the_page_names_everything_that_the_tutorial_module_offers():
    assert not {name for name in pydnn.tutorial.__all__ if f"`{name}`" not in TEXT}


def test_the_page_shows_what_the_example_prints(example):
    _, output = example
    assert output in blocks("text")


def test_sessions_on_the_page_give_what_they_show(example):
    names, _ = example
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    session = "\n".join(blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(session, dict(names), PAGE.name, None, 0)
    out = io.StringIO()
    runner.run(test, out=out.write)
    assert runner.summarize(verbose=False).attempted > 25
    assert not out.getvalue()


def test_the_articles_functions_train_as_pydnns_do(numpys_global_stream, capsys):
    names = {}
    for code in blocks("python"):
        if "my_photos" not in code:
            exec(code, names)
    rng = np.random.default_rng(7)
    X = rng.normal(size=(6, 40))
    Y = (X[:1] > 0).astype(float)
    dims = (6, 5, 3, 1)
    by_hand = names["L_layer_model"](X, Y, dims, learning_rate=0.1, num_iterations=101)
    trained = dnn_model(X, Y, dims, learning_rate=0.1, num_iterations=101)
    assert list(by_hand) == list(trained)
    for name in trained:
        np.testing.assert_allclose(by_hand[name], trained[name], rtol=0, atol=1e-12)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[:2] == printed[2:]
    np.testing.assert_array_equal(
        names["predict"](X, Y, by_hand), names["predict"](X, Y, dict(trained))
    )


@pytest.mark.slow
def test_photos_of_ones_own_become_data_and_the_commands_run_on_them(
    tmp_path, monkeypatch, numpys_global_stream
):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    drawings, _ = drawn_cats(train_count=12, test_count=1)
    for label, kind in ((1, "cat"), (0, "other")):
        folder = tmp_path / "my_photos" / kind
        folder.mkdir(parents=True)
        for i, drawing in enumerate(drawings.images[drawings.labels == label], start=1):
            image.fromarray(drawing).save(folder / f"{i:03}.jpg")
    (code,) = (code for code in blocks("python") if "my_photos" in code)
    exec(code, {})
    commands = re.findall(r"^\$ pydnn (.*)$", "\n".join(blocks("console")), flags=re.M)
    assert [command.split()[0] for command in commands] == [
        "train", "resume", "replay", "inspect", "predict",
    ]  # fmt: skip
    # The same commands with fewer steps, and without a plot, so that this is fast.
    shorter = {
        "--data my_cats/ --plot costs.png": "--data my_cats/ --iterations 20",
        "--iterations 5000": "--iterations 30",
        "--step 1234": "--step 12",
    }
    for long, short in shorter.items():
        commands = [command.replace(long, short) for command in commands]
    for command in commands:
        assert main(shlex.split(command)) == 0, command
