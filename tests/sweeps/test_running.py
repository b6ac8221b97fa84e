import attrs
import numpy as np
import pytest
import toolz
from own_parts import shrunk, signs_of_mean, squared_relu

from pydnn import (
    BadInput,
    Batch,
    Key,
    adam,
    batch_norm,
    best,
    dense,
    describe,
    full_batch,
    gradient_descent,
    l2_penalty,
    mean_squared,
    mini_batches,
    momentum,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import table_data
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import outcomes, run_sweep, running, sweep

X = Key(2).at("X").normal((3, 60))
DATA = Batch(X, (X[:1] * X[1:2] > 0).astype(float))
TEST = Batch(X[:, :20] + 0.1, DATA.Y[:, :20])
RECIPE = Recipe(
    data="points",
    network=describe(serial(dense(5), relu(), dense(1))),
    loss=describe(sigmoid_cross_entropy()),
    optimizer=describe(momentum(learning_rate=0.1)),
    batches=describe(mini_batches(16)),
    iterations=10,
)


def both(recipe, **options):
    """The outcomes of stacked trainings, after comparing every bit with separate trainings."""
    together, alone = (
        run_sweep(sweep(recipe, DATA, test=TEST, together=way, **options)).outcomes
        for way in (True, False)
    )
    for ours, own in zip(together, alone, strict=True):
        assert attrs.evolve(ours, why_not_stacked="") == attrs.evolve(own, why_not_stacked="")
        assert ours.model.parameters.vector.tobytes() == own.model.parameters.vector.tobytes()
        assert own.why_not_stacked == "as requested"
    return together


def test_each_outcome_is_that_of_its_recipe_alone():
    for outcome in both(RECIPE, seeds=4, over={"optimizer.learning_rate": [0.1, 0.02]}):
        pairs = list(run(prepare(outcome.recipe, DATA)))
        assert outcome.why_not_stacked == ""
        assert outcome.costs.tolist() == [info.cost for _, info in pairs]
        own = pairs[-1][0].parameters.vector
        assert outcome.model.parameters.vector.tobytes() == own.tobytes()
        assert outcome.model.iteration == 10
        assert {"train cost", "train accuracy", "test cost", "test accuracy"} < set(outcome.scores)


@pytest.mark.parametrize("rotate", [False, True])
def test_declared_parts_of_users_are_stacked(rotate):
    """With any rates, and also in a rotated basis: bit for bit as one by one."""
    wide = Batch(Key(3).at("X").normal((40, 12)), DATA.Y[:, :12])
    recipe = attrs.evolve(
        RECIPE,
        network=serial(dense(5), squared_relu(), dense(1)),
        optimizer=shrunk() if rotate else signs_of_mean(),
        batches=full_batch(),
        rotate=rotate,
    )
    plan = sweep(recipe, wide, seeds=3, over={"optimizer.learning_rate": [0.1, 0.03]})
    together, alone = (
        run_sweep(attrs.evolve(plan, together=way)).outcomes for way in (True, False)
    )
    for ours, own in zip(together, alone, strict=True):
        assert attrs.evolve(ours, why_not_stacked="") == attrs.evolve(own, why_not_stacked="")
        assert ours.model.parameters.vector.tobytes() == own.model.parameters.vector.tobytes()
        assert ours.why_not_stacked == ""


@pytest.mark.slow
def test_each_shape_has_a_stack_of_its_own():
    found = both(
        attrs.evolve(RECIPE, penalties=[describe(l2_penalty(0.1))]),
        seeds=2,
        over={
            "network.0.units": [3, 8],
            "penalties.strength": [0.0, 0.5],
            "dtype": ["float32", "float64"],
        },
    )
    assert len(found) == 16
    assert not any(outcome.why_not_stacked for outcome in found)
    assert {o.model.parameters.vector.dtype.name for o in found} == {"float32", "float64"}


@pytest.mark.slow
def test_early_stopping_is_that_of_each_training_alone():
    recipe = attrs.evolve(
        RECIPE,
        optimizer=describe(momentum(learning_rate=0.4)),
        validation=0.3,
        standardize=True,
        evaluate_every=2,
        watch="validation cost",
        patience=6,
        iterations=120,
    )
    found = both(recipe, seeds=8)
    lengths = [len(outcome.costs) for outcome in found]
    assert len(set(lengths)) > 3
    assert {"stopped early"} <= {outcome.stopped for outcome in found}
    assert all(o.model.iteration <= len(o.costs) for o in found)
    assert not any(outcome.why_not_stacked for outcome in found)
    state, _ = best(run(prepare(found[0].recipe, DATA)), watch="validation cost")
    assert found[0].model.parameters.vector.tobytes() == state.parameters.vector.tobytes()
    assert found[0].model.iteration == state.iteration
    for outcome in both(attrs.evolve(recipe, watch="cost", patience=1), seeds=5):
        # The cost of a step is that of the state before it.
        assert outcome.model.iteration == outcome.costs.argmin()


@pytest.mark.slow
def test_the_direction_of_a_metric_is_known_in_every_training():
    recipe = attrs.evolve(
        RECIPE, validation=0.3, evaluate_every=2, watch="validation accuracy", patience=20,
        iterations=60,
    )  # fmt: skip
    for outcome in both(recipe, seeds=4):
        infos = [info for _, info in run(prepare(outcome.recipe, DATA)) if info.measured]
        greatest = max(info.measured["validation accuracy"] for info in infos)
        assert outcome.scores["validation accuracy"] == greatest


def test_trainings_that_diverge_end_and_others_go_on():
    optimizer = describe(gradient_descent(learning_rate=1))
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, dtype="float32")
    found = both(recipe, seeds=4, over={"optimizer.learning_rate": [0.1, 1e12, 1e36]})
    sound, lost = found[:4], found[4:]
    assert [len(outcome.costs) for outcome in sound] == [10] * 4
    assert not any(outcome.stopped for outcome in sound)
    assert all("stopped being finite at iteration" in outcome.stopped for outcome in lost[-4:])
    assert all(np.isfinite(outcome.model.parameters.vector).all() for outcome in found)
    assert all(len(o.costs) == o.model.iteration < 10 for o in lost[-4:])
    assert not any(outcome.scores for outcome in lost[-4:])
    watching = attrs.evolve(recipe, watch="cost", patience=5)
    found = both(watching, seeds=3, over={"optimizer.learning_rate": [0.1, 1e36]})
    assert {bool(outcome.scores) for outcome in found} == {True, False}


@pytest.mark.slow
def test_trainings_that_are_not_stacked_say_why():
    normed = describe(serial(dense(5), batch_norm(), relu(), dense(1)))
    found = both(attrs.evolve(RECIPE, network=normed), seeds=4)
    assert {outcome.why_not_stacked for outcome in found} == {"its network gathers statistics"}
    assert all(outcome.model.statistics.vector.size for outcome in found)
    large = attrs.evolve(RECIPE, iterations=1, network=describe(serial(dense(9000), dense(1))))
    assert "so large" in both(large, seeds=4)[0].why_not_stacked
    assert "no other training has its shapes" in both(RECIPE, seeds=1)[0].why_not_stacked


def test_outcomes_come_as_they_end_and_steps_are_reported():
    steps = []
    plan = sweep(RECIPE, DATA, seeds=5, over={"batches.size": [8, 16]})
    stream = outcomes(plan, on_progress=steps.append)
    assert steps == []
    first, _ = next(stream)
    assert 0 <= first < 5
    assert {number for number, _ in stream} == set(range(10)) - {first}
    assert sum(steps) == plan.steps == 100


def test_examples_do_not_change():
    before = X.copy()
    run_sweep(sweep(RECIPE, DATA, seeds=4))
    np.testing.assert_array_equal(X, before)


def test_a_setting_that_does_not_fit_is_refused_before_training():
    with pytest.raises(BadInput, match="batches of 100 are larger than the data"):
        sweep(RECIPE, DATA, seeds=2, over={"batches.size": [8, 100]})
    with pytest.raises(BadInput, match="learning_rate is -1, expected a number above 0"):
        sweep(RECIPE, DATA, over={"optimizer.learning_rate": [0.1, -1]})


@pytest.mark.slow
def test_rotated_trainings_are_stacked_and_lifted():
    wide = Key(3).normal((90, 12))
    batch, test = Batch(wide, [[0, 1] * 6]), Batch(wide[:, :4] + 0.1, [[0, 1] * 2])
    recipe = attrs.evolve(RECIPE, batches=describe(mini_batches(5)), rotate=True)
    rates = {"optimizer.learning_rate": [0.1, 0.02]}
    found = [
        run_sweep(sweep(attrs.evolve(recipe, rotate=rotate), batch, seeds=4, over=rates, test=test))
        for rotate in (True, False)
    ]
    for rotated, plain in zip(*(result.outcomes for result in found), strict=True):
        job = prepare(rotated.recipe, batch)
        state, _ = toolz.last(run(job))
        assert rotated.why_not_stacked == ""
        assert (
            rotated.model.parameters.vector.tobytes()
            == job.inputs.lift(state.parameters).vector.tobytes()
        )
        assert rotated.model.parameters["0/W"].shape == (5, 90)
        np.testing.assert_allclose(
            rotated.model.parameters.vector, plain.model.parameters.vector, atol=1e-12
        )
        assert rotated.scores == pytest.approx(plain.scores, rel=1e-9)


def test_batches_without_weight_and_long_gradients_are_those_of_each_training():
    weights = np.zeros((1, 60))
    weights[0, :3] = 1
    plan = sweep(RECIPE, attrs.evolve(DATA, weights=weights), seeds=4)
    apart = sweep(RECIPE, attrs.evolve(DATA, weights=weights), seeds=4, together=False)
    found, own = run_sweep(plan).outcomes, run_sweep(apart).outcomes
    assert [o.costs.tolist() for o in found] == [o.costs.tolist() for o in own]
    assert not any(o.why_not_stacked for o in found)
    assert {cost == 0 for o in found for cost in o.costs} == {True, False}
    # The squares of such gradients overflow in float32, although the gradients do not.
    far = attrs.evolve(DATA, Y=DATA.Y * 1e25)
    recipe = attrs.evolve(
        RECIPE, loss=describe(mean_squared()), optimizer=describe(adam(learning_rate=0.1)),
        dtype="float32",
    )  # fmt: skip
    for together in (True, False):
        for outcome in run_sweep(sweep(recipe, far, seeds=4, together=together)).outcomes:
            assert "stopped being finite at iteration 0" in outcome.stopped


@pytest.mark.slow
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_stack_is_no_larger_than_memory_allows(monkeypatch, validation):
    plan = sweep(attrs.evolve(RECIPE, validation=validation), DATA, seeds=12)
    stacked = run_sweep(plan)
    assert not any(outcome.why_not_stacked for outcome in stacked.outcomes)
    a_run = running._bytes_of_run(prepare(plan.runs[0].recipe, plan.batch))
    own = 2 * sum(x.nbytes for x in (plan.batch.X, plan.batch.Y)) if validation else 0
    assert a_run > own
    group = list(range(12))
    for fitting, chunks in ((13, [12]), (5, [4, 4, 4]), (2, [1] * 12), (0, [1] * 12)):
        monkeypatch.setattr(running, "free_memory", lambda fitting=fitting: fitting * a_run)
        found = running._chunks(plan, group)
        assert [len(chunk.numbers) for chunk in found] == chunks
    monkeypatch.setattr(running, "free_memory", lambda: 5 * a_run)
    for one, other in zip(run_sweep(plan).outcomes, stacked.outcomes, strict=True):
        assert one.model.parameters == other.model.parameters


def test_a_table_and_a_data_set_are_swept_as_their_examples_are():
    x = [0.1 * number for number in range(20)]
    table = {"x": x, "y": ["a", "b"] * 10}
    recipe = Recipe(
        *("rows", "dense(1)", "sigmoid_cross_entropy()", "adam()", 5), target="y", test=0.25
    )
    data = table_data(table, "y", test=0.25)
    plans = [
        sweep(recipe, table, seeds=2),
        sweep(recipe, data, seeds=2),
        sweep(recipe, data.train, seeds=2, test=data.test),
    ]
    scores = [[outcome.scores for outcome in run_sweep(plan).outcomes] for plan in plans]
    assert scores[0] == scores[1] == scores[2]
    assert "test accuracy" in scores[0][0]


# Cross-validation


@pytest.mark.slow
def test_folds_are_held_back_in_turn_and_stacked_where_they_are_of_one_size():
    found = both(RECIPE, seeds=2, folds=4, over={"optimizer.learning_rate": [0.1, 0.02]})
    assert len(found) == 16
    assert not any(outcome.why_not_stacked for outcome in found)
    judged = []
    for outcome in found[:4]:
        job = prepare(outcome.recipe, DATA)
        pairs = list(run(job))
        assert outcome.costs.tolist() == [info.cost for _, info in pairs]
        assert (
            outcome.scores["validation cost"] == job.evaluation()(pairs[-1][0])["validation cost"]
        )
        judged.append(job.data["validation"].X)
    columns = np.concatenate(judged, axis=1)
    np.testing.assert_array_equal(np.sort(columns, axis=1), np.sort(X, axis=1))
    assert {len(outcome.scores) for outcome in found} == {len(found[0].scores)}
    # Each seed has its own folds, which all settings share.
    held = {(o.recipe.seed, o.recipe.fold): o.recipe for o in found}
    first, other = (prepare(held[seed, (1, 4)], DATA).data["validation"].X for seed in (1, 2))
    assert not np.array_equal(first, other)


def test_folds_of_two_sizes_form_two_groups():
    data = Batch(X[:, :58], DATA.Y[:, :58])
    found = run_sweep(sweep(RECIPE, data, seeds=2, folds=4)).outcomes
    assert [bool(outcome.why_not_stacked) for outcome in found] == [False] * 8
    for outcome in found:
        state, _ = toolz.last(run(prepare(outcome.recipe, data)))
        assert outcome.model.parameters == state.parameters


def test_early_stopping_watches_the_fold():
    recipe = attrs.evolve(
        RECIPE, validation=0.3, evaluate_every=2, watch="validation cost", patience=6,
        optimizer=describe(momentum(learning_rate=0.4)), iterations=120,
    )  # fmt: skip
    found = both(recipe, folds=5)
    assert {outcome.stopped for outcome in found} == {"stopped early"}


def test_folds_of_tables_and_sequences():
    table = {"x": [0.1 * number for number in range(20)], "y": ["a", "b"] * 10}
    recipe = Recipe(
        *("rows", "dense(1)", "sigmoid_cross_entropy()", "adam()", 5), target="y", test=0.25
    )
    result = run_sweep(sweep(recipe, table, folds=5))
    assert {"validation accuracy", "test accuracy"} < set(result.names)
    assert result.spread("validation cost").count == 5
    with pytest.raises(BadInput, match=r"class '.' of 'y' has . examples, expected 9 or more, one"):
        sweep(recipe, table, folds=9)
    ids = np.arange(40).reshape(4, 10) % 3
    sequences = Batch(ids, ids[::-1], lengths=[1, 2, 3, 4, 4, 3, 2, 1, 4, 4])
    letters = Recipe(
        *("ids", "serial(embedding(3, 2), dense(3))", "softmax_cross_entropy()", "adam()", 2)
    )
    held = run_sweep(sweep(letters, sequences, folds=3))
    assert held.spread("validation cost").count == 3


def test_more_folds_than_examples_of_a_class_are_refused_before_training():
    rare = Batch(X, np.concatenate([np.ones((1, 57)), np.zeros((1, 3))], axis=1))
    with pytest.raises(BadInput, match="label 0 has 3 examples, expected 4 or more, one for each"):
        sweep(RECIPE, rare, folds=4)
