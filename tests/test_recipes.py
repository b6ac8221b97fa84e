import json

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch
from pydnn.recipes import Recipe, prepare, tutorial_recipe

BATCH = Batch(np.linspace(0, 1, 12).reshape(4, 3), [[0, 1, 1]])


@given(
    st.lists(st.integers(1, 9), max_size=3), st.floats(1e-6, 10), st.integers(1, 99),
    st.sampled_from(["float64", "float32"]),
)  # fmt: skip
def test_round_trip_through_a_file_is_exact(hidden, rate, iterations, dtype):
    recipe = tutorial_recipe(
        hidden=hidden, learning_rate=rate, iterations=iterations, dtype=dtype, seed=iterations
    )
    plain = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(plain) == recipe


def test_a_recipe_prepares_the_tutorials_training():
    job = prepare(tutorial_recipe(hidden=(2,), seed=4), BATCH)
    stream = np.random.RandomState(4).randn(10)
    np.testing.assert_array_equal(job.state.parameters["0/W"], stream[:8].reshape(2, 4) / 2)
    np.testing.assert_array_equal(
        job.state.parameters["2/W"], stream[8:].reshape(1, 2) / np.sqrt(2)
    )
    assert job.train_step.names[-1] == "watch_finite"
    assert sum(1 for _ in job.batches) == 2500


GOOD = tutorial_recipe(hidden=(2,))
REFUSED = {
    "unknown key": (
        lambda: Recipe.from_dict(GOOD.to_dict() | {"iteration": 3}),
        "there is no key of a recipe 'iteration': did you mean 'iterations'?",
    ),
    "missing key": (lambda: Recipe.from_dict({"data": "x"}), "the recipe lacks network, loss,"),
    "no iterations": (
        lambda: tutorial_recipe(iterations=0),
        "iterations is 0, expected an integer",
    ),
    "dtype": (
        lambda: tutorial_recipe(dtype="float16"),
        "there is no dtype 'float16': did you mean",
    ),
    "rate": (lambda: tutorial_recipe(learning_rate=float("nan")), "learning_rate is nan"),
    "zero units": (lambda: tutorial_recipe(hidden=(3, 0)), "units is 0"),
    "NaN in data": (
        lambda: prepare(GOOD, Batch(np.full((4, 3), np.nan), BATCH.Y)),
        "X holds nan at index (0, 0)",
    ),
    "labels": (lambda: prepare(GOOD, Batch(BATCH.X, [[0, 1, 3]])), "label 3 at index (0, 2)"),
    "labels' shape": (
        lambda: prepare(GOOD, Batch(BATCH.X, [[0, 1]])),
        "Y has shape (1, 2), expected (1, 3)",
    ),
    "no examples": (
        lambda: prepare(GOOD, Batch(np.ones((4, 0)), np.ones((1, 0)))),
        "X has no columns",
    ),
    "no such loss": (
        lambda: prepare(attrs.evolve(GOOD, loss={"hinge": {}}), BATCH),
        "there is no loss 'hinge': choose one of sigmoid_cross_entropy.",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput) as refusal:
        call()
    assert message in str(refusal.value)
