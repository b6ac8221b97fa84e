"""Sweeps over executors give what a sweep gives alone; here tasks go over the wire in memory."""

import attrs
import numpy as np
import pytest
from own_parts import squared_relu
from sending import Sending

from pydnn import BadInput, Batch, Key, batch_norm, dense, relu, serial
from pydnn.data import DataSet, save_table
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import outcomes, run_sweep, running, sweep
from pydnn.workers import processes, threads
from pydnn.workers import serial as serially

X = Key(2).at("X").normal((3, 60))
DATA = DataSet(
    Batch(X, (X[:1] * X[1:2] > 0).astype(float)),
    Batch(X[:, :20] + 0.1, (X[:1, :20] > 0).astype(float)),
    classes=("out", "in"),
)
RECIPE = Recipe(
    data="points",
    network=serial(dense(5), relu(), dense(1)),
    loss="sigmoid_cross_entropy()",
    optimizer="momentum(learning_rate=0.1)",
    batches="mini_batches(16)",
    iterations=4,
    validation=0.2,
    standardize=True,
)
NORMED = attrs.evolve(RECIPE, network=serial(dense(5), batch_norm(), relu(), dense(1)))
WIDE = Batch(Key(3).normal((90, 12)), [[0, 1] * 6])
TABLE = {"x": [0.1 * n for n in range(20)], "c": ["u", "v", "w", "w"] * 5, "y": ["a", "b"] * 10}
OF_TABLE = Recipe("rows", "dense(1)", "sigmoid_cross_entropy()", "adam()", 5, target="y", test=0.25)
LETTERS = Recipe(
    "ids", "serial(embedding(3, 2), gru(4), dense(3))", "softmax_cross_entropy()", "adam()", 3
)
IDS = np.arange(40).reshape(4, 10) % 3
OWN = attrs.evolve(RECIPE, network=serial(dense(5), squared_relu(), dense(1)))
PLANS = {
    "stacks": (RECIPE, DATA, {"seeds": 4, "over": {"optimizer.learning_rate": [0.1, 0.02]}}),
    "folds": (RECIPE, DATA, {"folds": 4}),
    "one by one": (NORMED, DATA, {"seeds": 3}),
    "a divergence": (RECIPE, DATA, {"over": {"optimizer.learning_rate": [0.1, 1e300]}}),
    "a rotation": (
        attrs.evolve(
            RECIPE, validation=0.0, standardize=False, rotate=True, batches="full_batch()"
        ),
        WIDE,
        {"seeds": 2},
    ),
    "a table": (OF_TABLE, TABLE, {"seeds": 2}),
    "sequences": (LETTERS, Batch(IDS, IDS[::-1], lengths=[1, 2, 3, 4, 4, 3, 2, 1, 4, 4]), {}),
    "float32, portable": (
        attrs.evolve(RECIPE, iterations=2, numerics="portable"),
        DATA,
        {"over": {"dtype": ["float32", "float64"]}},
    ),
    "own parts": (OWN, DATA, {"seeds": 2}),
}


def without_reason(result):
    return [attrs.evolve(outcome, why_not_stacked="") for outcome in result.outcomes]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("recipe", "data", "options"), PLANS.values(), ids=PLANS)
def test_every_bit_is_that_of_the_sweep_alone(recipe, data, options):
    plan = sweep(recipe, data, **options)
    alone = run_sweep(plan)
    there = run_sweep(plan, executor=Sending())
    assert there == alone
    for ours, theirs in zip(alone.outcomes, there.outcomes, strict=True):
        assert ours.model.parameters.vector.tobytes() == theirs.model.parameters.vector.tobytes()
        assert ours.costs.tobytes() == theirs.costs.tobytes()
        assert ours.setting == theirs.setting


@pytest.mark.slow
def test_work_is_divided_among_the_workers():
    plan = sweep(RECIPE, DATA, seeds=16)
    for workers, sizes in ((1, [16]), (2, [8, 8]), (3, [6, 6, 4]), (16, [4] * 4)):
        found = list(running._chunks(plan, range(16), workers=workers))
        assert [len(chunk.numbers) for chunk in found] == sizes
    alone = sweep(NORMED, DATA, seeds=5)
    assert [c.numbers for c in running._chunks(alone, range(5), workers=2)] == [
        (n,) for n in range(5)
    ]
    executor = Sending(workers=2)
    assert without_reason(run_sweep(alone, executor=executor)) == without_reason(run_sweep(alone))
    assert len(executor.tasks) == 5


def test_outcomes_come_as_they_end_and_beginnings_are_reported():
    begun, steps = [], []
    plan = sweep(NORMED, DATA, seeds=3)
    stream = outcomes(plan, executor=Sending(2), on_begin=begun.append, on_progress=steps.append)
    assert begun == []
    assert next(stream)[0] == 0
    assert begun == [(0,)]
    assert [number for number, _ in stream] == [1, 2]
    assert (begun, sum(steps)) == ([(0,), (1,), (2,)], plan.steps)
    begun.clear()
    run_sweep(plan, on_begin=begun.append)
    assert begun == [(0, 1, 2)]


def test_data_with_a_name_is_loaded_by_the_workers_and_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_table("points.h5", DATA)
    recipe = attrs.evolve(RECIPE, data="points.h5")
    plan = sweep(recipe, "points.h5", seeds=2)
    assert plan.place == str(tmp_path / "points.h5")
    assert sweep(recipe, seeds=2).place == plan.place
    executor = Sending()
    there = run_sweep(plan, executor=executor)
    assert not executor.tasks[0].spec.arrays
    assert there == run_sweep(plan)
    changed = attrs.evolve(DATA, train=attrs.evolve(DATA.train, X=DATA.train.X + 1))
    (tmp_path / "points.h5").unlink()
    with pytest.raises(BadInput, match=r"a worker cannot load the data: .*points\.h5.*no file"):
        run_sweep(plan, executor=Sending())
    save_table("points.h5", changed)
    with pytest.raises(BadInput, match=r"a worker has other data at .*points\.h5 \(train X diff"):
        run_sweep(plan, executor=Sending())


def test_threads_train_on_the_data_that_is_there():
    plan = sweep(RECIPE, DATA, seeds=4)
    alone = without_reason(run_sweep(plan))
    with serially() as here, threads(2) as executor:
        assert without_reason(run_sweep(plan, executor=here)) == alone
        assert without_reason(run_sweep(plan, executor=executor)) == alone


@pytest.mark.slow
def test_processes_train_recipes_that_name_parts_of_ones_own():
    plan = sweep(OWN, DATA, seeds=4, over={"network.0.units": [3, 5]}, together=False)
    with processes(2) as executor:
        assert run_sweep(plan, executor=executor) == run_sweep(plan)
