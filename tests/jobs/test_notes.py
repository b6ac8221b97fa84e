"""Notes about a job before its training."""

import math

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn import Batch, Recipe
from pydnn.jobs import prepare
from pydnn.stages import activations
from pydnn.stages.base import EVALUATION

X = np.random.default_rng(0).normal(size=(3, 6))
TWO, MANY = Batch(X, [[0, 1, 0, 1, 1, 0]]), Batch(X, [[0, 1, 2, 0, 1, 2]])


def notes_of(network, loss, data):
    recipe = Recipe("points", network, loss, "adam()", iterations=2)
    return [note for note in prepare(recipe, data).notes if "leave that stage out" in note]


SIGMOID, SOFTMAX = "sigmoid_cross_entropy()", "softmax_cross_entropy()"


@pytest.mark.parametrize(
    ("network", "loss", "data", "words"),
    [
        ("dense(1), sigmoid()", SIGMOID, TWO, "sigmoid(), which gives numbers from 0 to 1, but"),
        ("dense(3), sigmoid()", SOFTMAX, MANY, "sigmoid(), which gives numbers from 0 to 1, but"),
        ("dense(3), tanh()", SOFTMAX, MANY, "numbers from -1 to 1, but softmax_cross_entropy"),
        ("dense(1), relu()", SIGMOID, TWO, "relu(), which gives numbers from 0 on"),
        ("dense(1), serial(softplus())", SIGMOID, TWO, "softplus(), which"),
    ],
)
def test_a_last_stage_that_bounds_logits_is_noted(network, loss, data, words):
    [note] = notes_of(f"serial({network})", loss, data)
    assert words in note


@pytest.mark.parametrize(
    ("network", "loss", "data"),
    [
        ("dense(1)", SIGMOID, TWO),
        ("sigmoid(), dense(1)", SIGMOID, TWO),
        ("dense(1), leaky_relu()", SIGMOID, TWO),
        ("dense(1), sigmoid()", "mean_squared()", TWO),
        ("residual(dense(3), sigmoid())", SOFTMAX, MANY),
    ],
)
def test_other_networks_have_no_such_note(network, loss, data):
    assert notes_of(f"serial({network})", loss, data) == []


def test_a_softmax_of_a_users_own_says_what_its_output_is():
    softmax = attrs.evolve(nn.stages.identity(), output_range=(0, 1))  # it stands for one
    network = nn.serial(nn.dense(3), softmax)
    recipe = Recipe("points", "serial(dense(3))", SOFTMAX, "adam()", iterations=2)
    job = prepare(recipe, MANY, through=lambda _: network)
    assert any("softmax_cross_entropy takes any numbers" in note for note in job.notes)


ACTIVATIONS = [getattr(nn.stages, name) for name in activations.__all__]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=activations.__all__)
def test_outputs_lie_in_the_range_that_a_stage_states(activation):
    stage = activation()
    A, _ = stage.forward((), np.linspace(-50, 50, 1001)[np.newaxis], EVALUATION)
    low, high = stage.output_range or (-math.inf, math.inf)
    assert low <= A.min()
    assert A.max() <= high
    if stage.output_range is None:
        assert A.min() < 0
