import math

import numpy as np
import pytest

from pydnn import BadInput, Key, fast, portable
from pydnn.descriptions.builders import _BUILDERS
from pydnn.stages.initializers import (
    WeightStream,
    constant,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    orthogonal,
    truncated_normal,
    tutorial,
    uniform,
    xavier_normal,
    xavier_uniform,
    zeros,
)

# Mean, standard deviation, and kurtosis (3 for a normal, 1.8 for a uniform distribution) of
# W (300, 200). A normal truncated at 2 has deviation 0.87963 and kurtosis 2.3677 (Johnson and
# Kotz). Entries of an orthogonal matrix are nearly normal with variance 1 / 300, the longer side.
TABLE = {
    "zeros": (zeros(), 0.0, 0.0, None),
    "constant": (constant(0.3), 0.3, 0.0, None),
    "normal": (normal(), 0.0, 0.01, 3.0),
    "normal, scaled by 3": (normal(scale=3), 0.0, 3.0, 3.0),
    "truncated_normal": (truncated_normal(scale=2), 0.0, 2 * 0.879626, 2.3677),
    "uniform": (uniform(limit=0.3), 0.0, 0.3 / math.sqrt(3), 1.8),
    "he_normal": (he_normal(), 0.0, math.sqrt(2 / 200), 3.0),
    "he_uniform": (he_uniform(), 0.0, math.sqrt(2 / 200), 1.8),
    "xavier_normal": (xavier_normal(), 0.0, math.sqrt(2 / 500), 3.0),
    "xavier_uniform": (xavier_uniform(), 0.0, math.sqrt(2 / 500), 1.8),
    "lecun_normal": (lecun_normal(), 0.0, math.sqrt(1 / 200), 3.0),
    "lecun_uniform": (lecun_uniform(), 0.0, math.sqrt(1 / 200), 1.8),
    "orthogonal": (orthogonal(gain=2), 0.0, 2 / math.sqrt(300), 3.0),
}
every = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def test_every_initializer_is_in_the_table():
    builders = {name for family, name in _BUILDERS if family == "initializer" and ":" not in name}
    assert {name.partition(",")[0] for name in TABLE} == builders


@every
def test_moments(row):
    initializer, mean, deviation, kurtosis = row
    W = initializer.draw(Key(1), (300, 200))
    assert W.shape == (300, 200)
    assert W.dtype == np.float64
    assert abs(W.mean() - mean) <= 0.01 * deviation
    assert W.std() == pytest.approx(deviation, rel=0.01, abs=1e-15)
    if kurtosis:
        standard = (W - W.mean()) / W.std()
        assert (standard**4).mean() == pytest.approx(kurtosis, rel=0.03)


@every
def test_the_same_key_gives_the_same_weights_and_another_gives_others(row):
    initializer, _, deviation, _ = row
    W = initializer.draw(Key(1), (3, 4))
    np.testing.assert_array_equal(W, initializer.draw(Key(1), (3, 4)))
    assert (initializer.draw(Key(2), (3, 4)) == W).all() == (deviation == 0)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (1, 5)])
def test_orthogonal_weights_have_orthogonal_rows_or_columns(shape):
    W = orthogonal(gain=3).draw(Key(5), shape)
    product = W @ W.T if shape[0] <= shape[1] else W.T @ W
    np.testing.assert_allclose(product, 9 * np.eye(min(shape)), atol=1e-13)


def test_orthogonal_draws_matrices_of_both_orientations():
    signs = {np.sign(np.linalg.det(orthogonal().draw(Key(i), (3, 3)))) for i in range(20)}
    assert signs == {-1, 1}


def test_truncated_normal_draws_nothing_beyond_two_deviations():
    assert np.abs(truncated_normal(scale=1).draw(Key(3), (200, 500))).max() <= 2


def test_the_tutorials_weights_are_one_stream_of_a_local_generator():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = tutorial(seed=3).draw([(2, 4), (1, 2)])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    stream = np.random.RandomState(3).randn(10)
    np.testing.assert_array_equal(first, stream[:8].reshape(2, 4) / 2)
    np.testing.assert_array_equal(second, stream[8:].reshape(1, 2) / np.sqrt(2))


def test_the_tutorials_weights_use_the_trainings_seed_unless_seed_is_set():
    shapes = [(2, 4), (1, 2)]
    for numerics in (fast, portable):
        drawn = tutorial().draw(shapes, numerics, key=Key(7))
        own = tutorial(seed=3).draw(shapes, numerics, key=Key(7))
        for W, expected in zip(drawn + own, _drawn(7, shapes) + _drawn(3, shapes), strict=True):
            np.testing.assert_allclose(W, expected, rtol=1e-15)
    [small] = tutorial(scale=0.01).draw([(2, 4)])
    np.testing.assert_array_equal(small, np.random.RandomState(1).randn(2, 4) * 0.01)
    with pytest.raises(BadInput, match=r"seed is 4294967296, expected less than 2\*\*32 for the"):
        tutorial().draw(shapes, key=Key(2**32))


def _drawn(seed, shapes):
    generator = np.random.RandomState(seed)
    return [generator.randn(*shape) / np.sqrt(shape[1]) for shape in shapes]


def test_a_weight_stream_without_a_key_argument_is_refused():
    with pytest.raises(BadInput, match="let it take the training's key, so that --seed changes"):
        WeightStream(lambda shapes, numerics: [np.zeros(shape) for shape in shapes])


def test_portable_tutorial_weights_differ_in_the_last_bits_at_most():
    shapes = [(20, 300), (7, 21), (1, 1)]
    ours, theirs = tutorial(seed=3).draw(shapes, portable), tutorial(seed=3).draw(shapes)
    assert [W.shape for W in ours] == shapes
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: normal(scale=0), "scale is 0, expected a number above 0"),
        (lambda: truncated_normal(scale=-1), "scale is -1, expected a number above 0"),
        (lambda: uniform(limit=0), "limit is 0, expected a number above 0"),
        (lambda: orthogonal(gain=0), "gain is 0, expected a number above 0"),
        (lambda: constant(math.nan), "value is nan, expected a finite number"),
        (lambda: tutorial(seed=-1), "seed is -1, expected an integer of at least 0"),
        (lambda: tutorial(seed=2**32), "expected less than 2"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize("numerics", [fast, portable])
def test_the_tutorials_weights_of_no_layers_are_an_empty_list(numerics):
    assert tutorial(seed=3).draw([], numerics) == []
