import math
from pathlib import Path

import pytest

from pydnn.board.choosing import chosen, ordered
from pydnn.board.finding import Found
from pydnn.board.heads import Head


def head(name, sweep="", *, recipe=(), values=(), why="finished", **options):
    found = Found(name, Path("runs") / name, sweep)
    return Head(found, dict(recipe), values=dict(values), why=why, **options)


HEADS = [
    head("run-1", recipe={"optimizer": "adam(learning_rate=0.1)", "seed": 1, "data": "cats"},
         values={"cost": 0.5, "validation accuracy": 0.75}, recorded=10),
    head("run-2", recipe={"optimizer": "momentum()", "seed": 2, "data": "Dogs & cats"},
         values={"cost": 0.25, "validation accuracy": 0.9}, recorded=5, why="interrupted"),
    head("sweep/a", "sweep", recipe={"network": "serial(dense(4), relu())"},
         values={"cost": math.nan}),
    head("broken", problem="recipe.toml is damaged", why=""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "run-1 run-2 sweep/a broken"),
        ("RUN", "run-1 run-2"),
        ("adam", "run-1"),
        ("run cats", "run-1 run-2"),
        ('"dogs & cats"', "run-2"),
        ("interrupted", "run-2"),
        ("cost<0.3", "run-2"),
        ("cost<=0.5 cost>0.25", "run-1"),
        ("validation_accuracy>=0.75", "run-1 run-2"),
        ("Validation-Accuracy>0.8", "run-2"),
        ("seed=1", "run-1"),
        ("seed=1.0", "run-1"),
        ("seed=x", ""),
        ("optimizer=adam", "run-1"),
        ('data="dogs & cats"', "run-2"),
        ("learning_rate=0.1", "run-1"),
        ("steps>5", "run-1"),
        ("sweep=sweep", "sweep/a"),
        ("nothing<1", ""),
        ("optimizer<3", ""),
        ("cost=nan", ""),
        ("dense(4)", "sweep/a"),
        ("=", "run-1 run-2 sweep/a"),  # plain words, as while somebody types
        ("seed=", "run-1 run-2"),
        ("<", ""),
    ],
)
def test_filters_by_hand(text, names):
    assert [one.name for one in chosen(HEADS, text)] == names.split()


def test_the_runs_of_a_sweep():
    assert [one.name for one in chosen(HEADS, "", sweep="sweep")] == ["sweep/a"]
    assert chosen(HEADS, "cats", sweep="sweep") == []


@pytest.mark.parametrize(
    ("by", "downward", "names"),
    [
        ("", False, "run-1 run-2 sweep/a broken"),
        ("name", True, "broken sweep/a run-2 run-1"),
        ("cost", False, "run-2 run-1 sweep/a broken"),
        ("cost", True, "run-1 run-2 sweep/a broken"),
        ("optimizer", True, "run-2 run-1 sweep/a broken"),
        ("steps", True, "run-1 run-2 sweep/a broken"),
        ("state", False, "run-1 sweep/a run-2 broken"),
        ("nothing", True, "run-1 run-2 sweep/a broken"),
    ],
)
def test_orders_by_hand(by, downward, names):
    placed = ordered(HEADS, by, downward=downward, now=1e9)
    assert [one.name for one in placed] == names.split()
