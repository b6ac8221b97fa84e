import math

import numpy as np
import pytest
from helpers import python_calls

from pydnn import BadInput, Context, Key, batch_norm, layer_norm
from pydnn.stages import EVALUATION
from pydnn.stages.batch_norm import BatchNormStatistics
from pydnn.stages.layer_norm import NormParams, expect_features

TRAINING = Context(training=True)
Z = np.array([[1.0, 3.0], [10.0, 10.0]])
PARAMS = NormParams([[2.0], [3.0]], [[0.5], [-1.0]])


def test_batch_norm_matches_worked_example():
    # First row: mean 2, variance 1, so -1 and 1 over sqrt(2); second row: all 0.
    A, cache = batch_norm(epsilon=1.0).forward(PARAMS, Z, TRAINING)
    root = math.sqrt(0.5)
    np.testing.assert_allclose(A, [[0.5 - 2 * root, 0.5 + 2 * root], [-1, -1]], rtol=1e-15)
    np.testing.assert_allclose(cache.mean, [[2], [10]])
    np.testing.assert_allclose(cache.variance, [[2], [0]])  # divisor m - 1


def test_layer_norm_matches_worked_example():
    # First column: mean 5.5, variance 4.5**2; second: mean 6.5, variance 3.5**2.
    A, _ = layer_norm(epsilon=1e-300).forward(PARAMS, Z, EVALUATION)
    np.testing.assert_allclose(A, [[0.5 - 2, 0.5 - 2], [-1 + 3, -1 + 3]], rtol=1e-15)


def test_layer_norm_normalizes_each_place_of_an_image_over_its_channels():
    # Two places of one row: channels 1 and 10, then 3 and 10; one example.
    image = np.array([[[[1.0], [10.0]], [[3.0], [10.0]]]])
    A, _ = layer_norm(epsilon=1e-300).forward(PARAMS, image, EVALUATION)
    np.testing.assert_allclose(A[0, :, :, 0], [[0.5 - 2, -1 + 3]] * 2, rtol=1e-15)


def test_batch_norm_normalizes_each_channel_over_all_places_and_examples():
    # The numbers 1 and 3 of the first channel now lie at two places of one example.
    image = np.array([[[[1.0], [10.0]], [[3.0], [10.0]]]])
    A, cache = batch_norm(epsilon=1.0).forward(PARAMS, image, TRAINING)
    root = math.sqrt(0.5)
    np.testing.assert_allclose(A[0, 0, :, 0], [0.5 - 2 * root, -1], rtol=1e-15)
    np.testing.assert_allclose(A[0, 1, :, 0], [0.5 + 2 * root, -1], rtol=1e-15)
    np.testing.assert_allclose(cache.mean, [[2], [10]])
    np.testing.assert_allclose(cache.variance, [[2], [0]])


def test_batch_norm_counts_valid_steps_only():
    steps = np.array([[[1.0, 3.0], [10.0, 10.0]], [[np.nan, 3.0], [7.0, 10.0]]])
    context = Context(training=True, lengths=np.array([1, 2]))
    A, cache = batch_norm(epsilon=1.0).forward(PARAMS, steps, context)
    columns = np.array([[1.0, 3.0, 3.0], [10.0, 10.0, 10.0]])  # without the padded step
    expected, alone = batch_norm(epsilon=1.0).forward(PARAMS, columns, TRAINING)
    np.testing.assert_array_equal(A, [expected[:, :2], [[0, expected[0, 2]], [0, expected[1, 2]]]])
    np.testing.assert_array_equal(cache.mean, alone.mean)
    np.testing.assert_array_equal(cache.variance, alone.variance)


def test_epsilon_is_added_to_the_variance():
    # The columns have variances 4.5**2 and 3.5**2; the running statistics have their own.
    A, _ = layer_norm(epsilon=1.0).forward(PARAMS, Z, EVALUATION)
    roots = np.sqrt([4.5**2 + 1, 3.5**2 + 1])
    np.testing.assert_allclose(A[0], 0.5 - 2 * np.array([4.5, 3.5]) / roots, rtol=1e-15)
    running = BatchNormStatistics([[1.0], [10.0]], [[3.0], [8.0]])
    A, _ = batch_norm(epsilon=1.0).forward(PARAMS, Z, Context(statistics=running))
    np.testing.assert_allclose(A, [[0.5, 2.5], [-1, -1]], rtol=1e-15)


def test_running_variance_is_unbiased_and_decays():
    stage = batch_norm(decay=0.75)
    _, cache = stage.forward(PARAMS, np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]), TRAINING)
    np.testing.assert_allclose(cache.variance, [[7], [3]])
    running = BatchNormStatistics([[4.0], [8.0]], [[12.0], [20.0]])
    after = stage.statistics.absorb(running, cache)
    np.testing.assert_allclose(after.mean, [[3.75], [6.25]])
    np.testing.assert_allclose(after.variance, [[10.75], [15.75]])


def test_a_batch_that_fits_costs_at_most_two_calls():
    assert python_calls(expect_features, "layer_norm", PARAMS, Z, EVALUATION) <= 2


def test_initial_parameters_change_nothing():
    for stage in (batch_norm(), layer_norm()):
        params, shape = stage.init(Key(1), (2,))
        assert shape == (2,)
        np.testing.assert_array_equal(params.gamma, [[1], [1]])
        np.testing.assert_array_equal(params.beta, [[0], [0]])


def test_running_statistics_decay_and_are_used_outside_of_training():
    stage = batch_norm(decay=0.75, epsilon=1e-12)
    running = stage.statistics.init(PARAMS)
    assert running == BatchNormStatistics(np.zeros((2, 1)), np.ones((2, 1)))
    _, cache = stage.forward(PARAMS, Z, TRAINING)
    running = stage.statistics.absorb(running, cache)
    np.testing.assert_allclose(running.mean, [[0.5], [2.5]])
    np.testing.assert_allclose(running.variance, [[1.25], [0.75]])
    A, _ = stage.forward(PARAMS, Z, Context(statistics=running))
    np.testing.assert_allclose(A[0], 2 * (Z[0] - 0.5) / math.sqrt(1.25) + 0.5, rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_outputs_have_mean_0_and_variance_1(scale):
    X = scale * (5 + Key(1).normal((3, 500)))
    plain = NormParams(np.ones((3, 1)), np.zeros((3, 1)))
    A, _ = batch_norm(epsilon=1e-20).forward(plain, X, TRAINING)
    np.testing.assert_allclose(A.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(A.var(axis=1), 1, rtol=1e-9)
    A, _ = layer_norm(epsilon=1e-20).forward(plain, X, TRAINING)
    np.testing.assert_allclose(A.mean(axis=0), 0, atol=1e-9)


RUNNING = BatchNormStatistics([[0.0], [0.0]], [[1.0], [1.0]])


def evaluation_cache(stage):
    return stage.forward(PARAMS, Z, Context(statistics=RUNNING))[1]


REFUSED = {
    "one example": (
        lambda: batch_norm().forward(PARAMS, Z[:, :1], TRAINING),
        "batch_norm got 1 example in training, expected 2 or more",
    ),
    "no statistics": (
        lambda: batch_norm().forward(PARAMS, Z, EVALUATION),
        "batch_norm got no running statistics, expected them outside of training",
    ),
    "the cache of an evaluation": (
        lambda: batch_norm().statistics.absorb(RUNNING, evaluation_cache(batch_norm())),
        "batch_norm got the cache of an evaluation, expected that of a training step",
    ),
    "rows": (
        lambda: layer_norm().forward(PARAMS, np.ones((3, 2)), EVALUATION),
        r"Z has shape \(3, 2\), expected \(2, m\): layer_norm",
    ),
    "channels of sequences": (
        lambda: layer_norm().forward(PARAMS, np.ones((2, 3, 2)), EVALUATION),
        r"Z has shape \(2, 3, 2\), expected \(T, 2, m\)",
    ),
    "channels of images": (
        lambda: batch_norm().forward(PARAMS, np.ones((4, 2, 3, 2)), TRAINING),
        r"Z has shape \(4, 2, 3, 2\), expected \(H, W, 2, m\)",
    ),
    "steps without features": (
        lambda: batch_norm().forward(PARAMS, Z, Context(training=True, lengths=np.array([1, 2]))),
        r"batch_norm got sequences of unequal length of shape \(2, 2\), expected \(T, n, m\)",
    ),
    "mixed precision": (
        lambda: layer_norm().forward(PARAMS, Z.astype(np.float32), EVALUATION),
        "Z is float32, but the parameters are float64",
    ),
    "single numbers": (lambda: layer_norm().init(Key(1), ()), "expected features"),
    "decay": (lambda: batch_norm(decay=1), "decay is 1, expected a number below 1"),
    "epsilon": (lambda: layer_norm(epsilon=0), "epsilon is 0, expected a number above 0"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
