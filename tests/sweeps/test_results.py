import math

import attrs
import numpy as np
import pytest

from pydnn import BadInput, dense, describe, gradient_descent, mean_squared, serial
from pydnn.jobs.model import Model
from pydnn.parameters import NO_PARAMS, pack
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import Outcome, SweepResult, higher_is_better, spread_of

RECIPE = Recipe(
    data="points",
    network=describe(serial(dense(1))),
    loss=describe(mean_squared()),
    optimizer=describe(gradient_descent(learning_rate=0.1)),
    iterations=3,
)
NOTHING = pack(NO_PARAMS)


def outcome(costs, scores, fold=None, **setting):
    recipe = attrs.evolve(RECIPE, fold=fold)
    return Outcome(Model(recipe, NOTHING, costs, 2), setting, scores)


RESULT = SweepResult(
    (
        outcome([3.0, 2.0, 1.0], {"train cost": 1.0, "train r_squared": 0.5}, rate=1),
        outcome([3.0, 1.0, 0.5], {"train cost": 0.5, "train r_squared": 0.9}, rate=1),
        outcome([9.0], {}, rate=2),
        outcome([4.0, 4.0], {"train cost": 4.0, "train r_squared": 0.1}, rate=2),
    )
)


def test_a_spread_is_that_of_a_sample():
    spread = spread_of([1.0, 2.0, 6.0])
    assert (spread.mean, spread.least, spread.greatest, spread.count) == (3.0, 1.0, 6.0, 3)
    assert spread.deviation == pytest.approx(math.sqrt(7))
    assert spread_of([5.0]).deviation == 0
    assert spread_of([1.0, math.nan, math.inf]) == spread_of([1.0])
    assert spread_of([]).count == 0


def test_costs_have_one_row_for_each_training():
    np.testing.assert_array_equal(
        RESULT.costs,
        [[3, 2, 1], [3, 1, 0.5], [9, math.nan, math.nan], [4, 4, math.nan]],
    )
    assert not RESULT.costs.flags.writeable


def test_trainings_without_scores_are_left_out():
    np.testing.assert_array_equal(RESULT.values("train cost"), [1, 0.5, math.nan, 4])
    assert RESULT.spread("train cost").count == 3
    assert [own.spread("train cost").mean for own in RESULT.by_setting] == [0.75, 4.0]


def test_the_best_training_depends_on_a_score_and_its_direction():
    assert RESULT.best() == RESULT.best("train cost") == 1
    assert RESULT.best("train r_squared") == 1
    assert SweepResult(RESULT.outcomes[2:]).best() == 1
    assert [higher_is_better(f"test {n}") for n in ("accuracy", "cost", "log_loss")] == [
        True, False, False,
    ]  # fmt: skip


def test_held_back_data_choose_first_and_test_data_never():
    scores = {"train cost": 1.0, "test cost": 0.1}
    assert SweepResult((outcome([1.0], scores),)).selector == "train cost"
    scores["validation cost"] = 2.0
    assert SweepResult((outcome([1.0], scores),)).selector == "validation cost"


def test_refusals():
    with pytest.raises(BadInput, match="no score 'train acuracy'"):
        RESULT.best("train acuracy")
    with pytest.raises(BadInput, match="every training diverged"):
        SweepResult(RESULT.outcomes[2:3]).best()


def folds_of(rate, *costs):
    return [
        outcome([1.0], {} if cost is None else {"validation cost": cost}, (n, 3), rate=rate)
        for n, cost in enumerate(costs, start=1)
    ]


def test_folds_choose_the_setting_with_the_best_mean():
    lucky = folds_of(1, 0.1, 5.0, 5.0)
    steady = folds_of(2, 2.0, 1.0, 2.0)
    result = SweepResult((*lucky, *steady))
    assert result.best_setting() == 1
    assert result.best() == 4  # the best of the steady ones, not the lucky one
    lost = SweepResult((*folds_of(3, 0.1, 0.1, None), *steady))
    assert lost.best_setting() == 1  # since a fold of the other one diverged
    with pytest.raises(BadInput, match="no score 'validation accuracy'"):
        result.best_setting("validation accuracy")


def test_without_folds_the_best_training_may_be_of_any_setting():
    assert RESULT.best_setting() == 0
    assert RESULT.best("train cost") == 1
