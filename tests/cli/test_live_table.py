"""The live table of a sweep: what it says, and that nothing but text reaches the terminal."""

import io
import os
import re
import sys
import time

import attrs
import pytest

from pydnn import Batch, Key
from pydnn.cli import live_table as module
from pydnn.cli.live_table import LiveTable, live_table
from pydnn.cli.sweep import _called, _setting_of
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import outcomes, sweep

pytest.importorskip("tqdm")
X = Key(1).at("X").normal((2, 30))
BATCH = Batch(X, X[:1] * X[1:] > 0)
RECIPE = Recipe(
    "points", "dense(1)", "sigmoid_cross_entropy()", "gradient_descent(learning_rate=0.1)", 4
)
RATES = {"optimizer.learning_rate": [0.1, 1e300]}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setattr(module, "_PAUSE", 0.001)

    def begin():  # in the test, because pytest sets its own stream after the fixtures
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        return terminal

    return begin


def table_of(plan, by=""):
    return LiveTable(plan, by, _called, _setting_of)


def test_it_says_what_is_done_what_is_best_and_what_runs():
    plan = sweep(RECIPE, BATCH, seeds=2, over=RATES)
    table = table_of(plan)
    assert table.lines == ["0 of 4 trainings done", ""]
    table.on_begin([0, 1])
    table.on_begin([2])
    name = "optimizer.learning_rate"
    assert table.lines[2:] == [
        f"running for 0 s: seed 1, {name}=0.1 and 1 more in a stack",
        f"running for 0 s: seed 1, {name}=1e+300",
    ]
    ends = dict(outcomes(plan))
    for number in (1, 2, 0, 3):
        lost = {} if number < 2 else {"scores": {}}
        table.on_end(number, attrs.evolve(ends[number], **lost))
    costs = [ends[n].scores["train cost"] for n in (0, 1)]
    seed = 1 + costs.index(min(costs))
    assert table.lines == [
        "4 of 4 trainings done, 2 diverged",
        f"best train cost so far {min(costs):.6g}: seed {seed}, {name}=0.1",
    ]


def test_higher_is_better_where_it_is():
    plan = sweep(RECIPE, BATCH, seeds=2)
    ends = dict(outcomes(plan))
    table = table_of(plan, "train accuracy")
    for number, accuracy in enumerate((0.9, 0.7)):
        table.on_end(number, attrs.evolve(ends[number], scores={"train accuracy": accuracy}))
    assert table.lines[1] == "best train accuracy so far 0.9: seed 1"


def test_folds_are_compared_by_their_means():
    plan = sweep(RECIPE, BATCH, folds=2, over={"optimizer.learning_rate": [0.1, 0.2]})
    ends = dict(outcomes(plan))
    table = table_of(plan)
    for number, cost in enumerate((0.1, 0.9, 0.4, 0.5)):
        scores = {"validation cost": cost, "train cost": 0.0}
        table.on_end(number, attrs.evolve(ends[number], scores=scores))
    assert table.lines[1] == (
        "best mean validation cost of 2 so far 0.45: optimizer.learning_rate=0.2"
    )


def waits_for(text, terminal, table):
    for _ in range(3000):
        if text in terminal.getvalue():
            return
        table._changed.set()
        time.sleep(0.01)
    raise AssertionError(f"{text} is not shown")


def test_a_narrow_terminal_shows_lines_without_escapes_from_names(terminal):
    terminal = terminal()
    plan = sweep(RECIPE, BATCH, seeds=9, together=False)
    hostile = [attrs.evolve(run, setting={"na\x1b[31mme": "\u202evalue" * 9}) for run in plan.runs]
    plan = attrs.evolve(plan, runs=tuple(hostile))
    with live_table(plan, by="", called=_called, setting=_setting_of) as table:
        for number in range(9):
            table.on_begin([number])
        waits_for(r"seed 1, na\x1b", terminal, table)
        stream = outcomes(plan, on_progress=table.on_progress, on_begin=table.on_begin)
        for number, outcome in stream:
            table.on_end(number, outcome)
        waits_for("9 of 9 trainings done", terminal, table)
    text = terminal.getvalue()
    assert set(re.findall(r"\x1b\[?\w*", text)) <= {"\x1b[A"}  # which tqdm moves the cursor with
    assert "\u202e" not in text
    lines = re.split(r"[\r\n]|\x1b\[A", text)
    # The bar is tqdm's own, which looks at a real terminal for its width.
    assert max(len(line.rstrip()) for line in lines if "it" not in line) < 40


def test_nothing_is_shown_without_a_terminal_or_tqdm(terminal, monkeypatch, capsys):
    terminal = terminal()
    plan = sweep(RECIPE, BATCH)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with live_table(plan, by="", called=_called, setting=_setting_of) as table:
        table.on_progress(1)
        assert table._thread is None
    assert terminal.getvalue() == ""
    monkeypatch.undo()
    with live_table(plan, by="", called=_called, setting=_setting_of) as table:
        assert table._thread is None
    assert "".join(capsys.readouterr()) == ""
    assert os.environ.get("LINES") != "12"


def test_the_command_shows_it_and_leaves_only_its_results(terminal, tmp_path, monkeypatch, capsys):
    from pydnn.cli import main
    from pydnn.data import DataSet, save_table
    from pydnn.recipes.toml import write_recipe

    terminal = terminal()
    monkeypatch.chdir(tmp_path)
    save_table("points", DataSet(BATCH, BATCH.take(slice(5))))
    (tmp_path / "recipe.toml").write_text(write_recipe(RECIPE))
    assert main(["sweep", "recipe.toml", "--seeds", "3", "--folds", "2"]) == 0
    assert "/24" in terminal.getvalue()  # steps, in the bar
    assert "\x1b" not in capsys.readouterr().out
