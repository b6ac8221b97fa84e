import itertools
import math
import os
import shutil
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
from small_runs import recorded, resumed, small_recipe

from pydnn.board.finding import Found
from pydnn.board.heads import Catalog, Head
from pydnn.board.pages import list_page
from pydnn.checks import BadInput
from pydnn.runs import Run
from pydnn.runs.history import history_of
from pydnn.runs.live import LiveRow
from pydnn.runs.segments import read_segment


def test_a_head_has_what_the_run_has(runs):
    head = Catalog(runs).head("more/0002")
    run = Run.open(runs / "more" / "0002")
    assert (head.recorded, head.steps, head.goal) == (8, 8, 12)
    assert head.why == run.folder.ends[-1].why == "cut short"
    assert head.recipe["seed"] == 4
    assert head.recipe["optimizer"] == "adam(learning_rate=0.01)"
    assert head.values["cost"] == run.costs[-1]
    assert head.values["validation accuracy"] == run.history["validation accuracy"][-1]
    assert not head.problem
    assert not head.training(time.time())


def test_curves_are_those_of_the_run(runs):
    curves = Catalog(runs).curves("0001")
    history = Run.open(runs / "0001").history
    assert set(curves.columns) == set(history) - {"step"}
    for name, (iterations, values) in curves.columns.items():
        known = ~np.isnan(history[name])
        after = name.startswith(("train ", "validation "))  # is measured after its step
        assert iterations.tolist() == (history["step"][known] + after).tolist(), name
        assert values.tolist() == history[name][known].tolist(), name


def test_live_rows_continue_the_curves_and_the_head(tmp_path):
    path = tmp_path / "runs" / "run"
    recorded(path, small_recipe(tmp_path), steps=4)
    catalog = Catalog(path.parent)
    assert catalog.head("run").why == "cut short"
    (path / "live-0000000004.jsonl").write_text(
        '[3, 0.5, {"cost": 9.0}, []]\n[4, 1.0, {"cost": 0.5}, []]\n'
        '[9, 6.0, {"cost": 0.25, "validation cost": 1.0}, ["validation cost"]]\n'
    )
    head = catalog.head("run")
    assert (head.recorded, head.steps, head.why) == (4, 10, "")  # a resume goes on after the end
    assert (head.values["cost"], head.values["validation cost"], head.speed) == (0.25, 1.0, 1.0)
    assert head.training(time.time())
    curves = catalog.curves("run")
    assert curves.columns["cost"][0].tolist() == [0, 1, 2, 3, 4, 9]
    assert [part.tolist() for part in curves.columns["validation cost"]] == [[10], [1.0]]
    resumed(path)
    head = catalog.head("run")
    assert (head.steps, head.why, head.live) == (12, "finished", ())


def test_damaged_runs_have_a_reason_and_the_curves_before_the_damage(runs):
    catalog = Catalog(runs)
    head = catalog.head("damaged")
    assert "is damaged" in head.problem
    curves = catalog.curves("damaged")
    assert curves.problem == head.problem
    assert curves.columns["cost"][0].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("recipe.toml", b"\xff", "is not a UTF-8 text"),
        ("recipe.toml", b"a = [" * 50_000, ""),
        ("recipe.toml", b"x" * (1 << 21), "has 2097152 bytes"),
        ("segments/0000000012.h5", b"", "0000000012.h5"),
        ("segments/9999999999999999.h5", b"\x89HDF\r\n\x1a\n", "has no seal"),
    ],
)
def test_hostile_files_become_one_line(runs, tmp_path, file, content, words):
    shutil.copytree(runs / "0001", tmp_path / "run")
    (tmp_path / "run" / file).write_bytes(content)
    [head] = Catalog(tmp_path).listing().heads
    assert head.problem
    assert words in head.problem
    assert "\n" not in head.problem


@pytest.mark.parametrize("text", ["network = [inf, -inf, nan]", "optimizer = {a = {b = nan}}"])
def test_a_recipe_may_hold_any_number(runs, tmp_path, text):
    shutil.copytree(runs / "0001", tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").write_text(text)
    [head] = Catalog(tmp_path).listing().heads
    assert not head.problem
    assert "nan" in str(head.recipe)


def test_an_unforeseen_error_is_a_problem_of_one_run(runs, monkeypatch):
    def fails(path, **options):
        if "0001" in path.parts:
            raise OverflowError("too\nlarge")
        return read_segment(path, **options)

    monkeypatch.setattr("pydnn.board.heads.read_segment", fails)
    catalog = Catalog(runs)
    problems = {head.name: head.problem for head in catalog.listing().heads}
    assert problems["0001"].startswith("its files cannot be read (OverflowError: too")
    assert "\n" not in problems["0001"]
    assert not problems["more/0002"]
    assert catalog.curves("0001").problem == problems["0001"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, b'{"why": 3}', b"\xff", b'{"why": "<b>"}']
)
def test_the_reason_of_an_end_may_be_anything(runs, tmp_path, content):
    shutil.copytree(runs / "0001", tmp_path / "run")
    [end] = (tmp_path / "run").glob("end-*.json")
    end.write_bytes(content)
    [head] = Catalog(tmp_path).listing().heads
    assert head.why in ("the reason cannot be read", "<b>")


def test_runs_that_take_too_long_to_read_are_read_later(runs):
    catalog = Catalog(runs)
    listing = catalog.listing(seconds=0.0)
    assert listing.unread == len(listing.heads) == 4
    assert catalog.listing().unread == 0
    assert catalog.listing(seconds=0.0).unread == 0


def ticking(monkeypatch):
    """A clock of the board on which each look takes a second."""
    seconds = itertools.count()
    monkeypatch.setattr("pydnn.board.heads.time.monotonic", lambda: next(seconds))


def test_the_runs_of_a_page_are_read_first_then_those_that_changed_last(
    runs, tmp_path, monkeypatch
):
    for name, when in (("a", 1), ("b", 3), ("c", 2)):
        shutil.copytree(runs / "0001", tmp_path / name)
        for path in (tmp_path / name).rglob("*"):
            os.utime(path, (when, when))
    ticking(monkeypatch)
    catalog = Catalog(tmp_path)
    known = []
    for _ in range(3):
        listing = catalog.listing(seconds=1.5, first=lambda found: found[:1])
        known.append([head.name for head in listing.heads if head.known])
    assert known == [["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("query", "name"),
    [({}, "0001"), ({"page": ["3"]}, "damaged"), ({"order": ["down"]}, "more/0002"),
     ({"order": ["down"], "sort": ["name"], "page": ["2"]}, "damaged")],
)  # fmt: skip
def test_a_page_shows_its_runs_however_many_there_are(runs, monkeypatch, query, name):
    monkeypatch.setattr("pydnn.board.pages._PER_PAGE", 1)
    ticking(monkeypatch)
    monkeypatch.setitem(Catalog.listing.__kwdefaults__, "seconds", 1.5)
    text = list_page(Catalog(runs), query)
    assert f"Select {name}" in text
    assert "not read yet" not in text


@pytest.mark.parametrize("sealed", [True, False])
def test_last_numbers_are_those_of_the_rows(runs, tmp_path, monkeypatch, sealed):
    [*_, path] = sorted((runs / "0001" / "segments").iterdir())
    segment = read_segment(path)
    if not sealed:
        monkeypatch.setattr("pydnn.runs.segments.sealed_bytes", lambda raw: lambda name: None)
    last = {n: v[-1] for n, v in history_of(segment.rows()).items() if n != "step"}
    assert segment.last_numbers() == last


def test_a_damaged_column_is_not_taken_for_numbers(runs, monkeypatch):
    segment = read_segment(max((runs / "0001" / "segments").iterdir()))
    last = segment.last_numbers()
    monkeypatch.setattr("pydnn.runs.segments.sealed_bytes", lambda raw: lambda name: b"\0" * 9)
    assert segment.last_numbers() == last


def test_a_run_is_read_again_only_when_a_file_has_changed(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "0001", tmp_path / "run")
    catalog = Catalog(tmp_path)
    first = catalog.listing().heads[0]
    reads = []
    plain = Catalog._read_head
    monkeypatch.setattr(Catalog, "_read_head", lambda *args: reads.append(1) or plain(*args))
    assert catalog.listing().heads[0] == first
    assert not reads
    os.utime(tmp_path / "run" / "recipe.toml", (1.0, 1.0))
    catalog.listing()
    assert reads == [1]


def rows(*pairs):
    return tuple(LiveRow(step, seconds, {}) for step, seconds in pairs)


@pytest.mark.parametrize(
    ("live", "speed"),
    [
        ((), math.nan),
        (rows((5, 1.0)), math.nan),
        (rows((5, 1.0), (6, 1.0)), math.nan),
        (rows((0, 0.0), (10, 2.0)), 5.0),
        (rows((0, 0.0), (10, 2.0), (12, 2.0), (30, 8.0)), 3.0),  # over the last five seconds
    ],
)
def test_speeds_by_hand(live, speed):
    head = Head(Found("run", Path("run")), live=live)
    assert head.speed == speed or (math.isnan(head.speed) and math.isnan(speed))


def test_names_that_are_not_there(runs):
    catalog = Catalog(runs)
    for name in ("", ".", "..", "more", "nothing"):
        with pytest.raises(BadInput, match="there is no run"):
            catalog.head(name)
        with pytest.raises(BadInput, match="there is no sweep"):
            catalog.sweep(name)


def test_a_silent_run_is_not_training():
    head = Head(Found("run", Path("run")), changed=1000.0)
    assert head.training(1010.0)
    assert not head.training(1030.0)
    assert head.silent(1030.0) == 30.0
    assert head.silent(900.0) == 0.0  # a clock of another machine
    assert not attrs.evolve(head, why="finished").training(1010.0)
