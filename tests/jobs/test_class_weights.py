import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch, Key, Recipe, train
from pydnn.data import DataSet
from pydnn.jobs import prepare
from pydnn.jobs.class_weights import by_class_number, weigh_classes, weights_of_classes
from pydnn.recipes import read_recipe, write_recipe
from pydnn.runs import Run, create_run, record, verify
from pydnn.sweeps import sweep

RECIPE = Recipe(
    data="three classes",
    network="serial(dense(3))",
    loss="softmax_cross_entropy()",
    optimizer="adam(learning_rate=0.05)",
    iterations=12,
    batches="mini_batches(5)",
)
X = Key(1).normal((2, 20))
Y = np.array([[0] * 12 + [1] * 6 + [2] * 2], float)
BATCH = Batch(X, Y)
BALANCED = 20 / (3 * np.array([12, 6, 2]))


def weighing(class_weights, recipe=RECIPE):
    return attrs.evolve(recipe, class_weights=class_weights)


WORKED = {
    "balanced": ("balanced", BALANCED),
    "one number per class": ([1, 2, 0.5], [1, 2, 0.5]),
    "by number, the others 1": ({2: 4}, [1, 1, 4]),
    "by the number as a text": ({"0": 3, "2": 4.5}, [3, 1, 4.5]),
}


@pytest.mark.parametrize(("given", "expected"), WORKED.values(), ids=WORKED)
def test_weights_of_classes_worked_by_hand(given, expected):
    np.testing.assert_allclose(
        weights_of_classes(weighing(given).class_weights, BATCH, 3), expected
    )


def test_a_class_that_does_not_occur_leaves_the_balance_of_the_others():
    weights = weights_of_classes("balanced", Batch(X[:, :18], Y[:, :18]), 3)
    np.testing.assert_allclose(weights, [18 / 24, 18 / 12, 1])


@given(st.lists(st.integers(0, 9), min_size=20, max_size=20))
def test_balanced_classes_have_the_same_total_and_the_mean_weight_stays(own):
    own = 1.0 + np.array([own], float)
    weighted = weigh_classes(
        attrs.evolve(BATCH, weights=own),
        weights_of_classes("balanced", attrs.evolve(BATCH, weights=own), 3),
    ).weights
    totals = np.bincount(Y[0].astype(int), weighted[0])
    np.testing.assert_allclose(totals, own.sum() / 3)


@pytest.mark.parametrize("labels", ["numbers", "one-hot columns"])
@pytest.mark.parametrize("given", [value for value, _ in WORKED.values()])
def test_a_job_trains_as_with_these_weights_of_its_examples(given, labels):
    expected = weights_of_classes(weighing(given).class_weights, BATCH, 3)[Y[0].astype(int)][
        np.newaxis
    ]
    batch = BATCH if labels == "numbers" else Batch(X, np.eye(3)[:, Y[0].astype(int)])
    ours = train(weighing(given), batch)
    theirs = train(RECIPE, attrs.evolve(batch, weights=expected))
    np.testing.assert_array_equal(ours.state.parameters.vector, theirs.state.parameters.vector)


def test_the_training_part_decides_and_both_parts_are_weighted():
    recipe = weighing("balanced", attrs.evolve(RECIPE, validation=0.5))
    job = prepare(recipe, BATCH)
    np.testing.assert_allclose(job.data["train"].weights.sum(), 10)
    for part in job.data.values():
        np.testing.assert_allclose(part.weights[0], BALANCED[part.Y[0].astype(int)])


def test_two_classes_and_float32():
    recipe = attrs.evolve(
        weighing([1, 3]), network="dense(1)", loss="sigmoid_cross_entropy", dtype="float32"
    )
    weights = prepare(recipe, Batch(X, Y > 0)).data["train"].weights
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, 1 + 2 * (Y > 0))


def test_names_of_classes_become_numbers_where_they_are_known():
    data = DataSet(BATCH, Batch(X[:, :0], Y[:, :0]), classes=("cat", "dog", "owl"))
    recipe = weighing({"dog": 2, "owl": 0.5})
    job = prepare(recipe, data)
    assert job.recipe.class_weights == (1, 2, 0.5)
    assert by_class_number(job.recipe, data.classes) is job.recipe
    runs = sweep(recipe, BATCH, seeds=2, classes=data.classes).runs
    assert {run.recipe.class_weights for run in runs} == {(1, 2, 0.5)}


def test_a_recorded_run_with_names_is_repeated_from_its_examples(tmp_path):
    data = DataSet(BATCH, Batch(X[:, :0], Y[:, :0]), classes=("cat", "dog", "owl"))
    job = prepare(weighing({"dog": 2}), data)
    with create_run(tmp_path / "run", job, data) as recording:
        train(job, data, through=lambda stream: record(recording, stream))
    assert all(one.mismatch is None for one in verify(Run.open(tmp_path / "run", data=data)))


@pytest.mark.parametrize("given", ["balanced", (1.0, 2.5), {"cat": 2.0, 'a "b"\n': 1.0}])
def test_a_file_holds_them(given):
    recipe = weighing(given)
    assert read_recipe(write_recipe(recipe)) == recipe
    assert "class_weights" not in write_recipe(RECIPE)


REFUSED = {
    "too few": ([1, 2], "class_weights has 2 numbers, expected 3"),
    "an unknown number": ({3: 1}, "there is no class '3'"),
    "a name without names": ({"cat": 1}, "there is no class 'cat'"),
    "all zero": ([0, 0, 0], "weights sum to 0 over all examples"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_weights_that_do_not_fit_the_classes_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        prepare(weighing(given), BATCH)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "class_weights is 'even', expected weights"),
        ((), r"class_weights is \(\), expected"),
        ({}, "class_weights is {}, expected"),
        ([1, -1], "the class weight of 1 is -1, expected a number of at least 0"),
        ({"cat": "2"}, "the class weight of cat is '2', expected a finite number"),
        (3, "class_weights is 3, expected"),
    ],
)
def test_what_is_not_a_weight_is_refused_by_the_recipe(given, message):
    with pytest.raises(BadInput, match=message):
        weighing(given)


def test_numbers_have_no_classes():
    recipe = attrs.evolve(weighing("balanced"), network="dense(1)", loss="mean_squared")
    with pytest.raises(BadInput, match="class_weights is 'balanced', but the loss is for regress"):
        prepare(recipe, BATCH)


def test_an_unknown_name_is_refused_with_the_nearest():
    data = DataSet(BATCH, Batch(X[:, :0], Y[:, :0]), classes=("cat", "dog", "owl"))
    with pytest.raises(BadInput, match="there is no class 'dogs': did you mean 'dog'"):
        prepare(weighing({"dogs": 2}), data)


def test_labels_of_elsewhere_let_a_part_lack_a_class():
    part = Batch(X[:, :12], Y[:, :12])
    with pytest.raises(BadInput, match="class 1 of 3 never occurs"):
        prepare(RECIPE, part)
    job = prepare(RECIPE, part, other_labels=np.arange(3.0)[np.newaxis])
    assert job.data["train"] == part
