import math

import numpy as np
import pytest

from pydnn import BadInput, Key
from pydnn.initializers import he_normal, normal, tutorial, xavier_normal, zeros

# Standard deviation for W (300, 200).
TABLE = {
    "zeros": (zeros(), 0.0),
    "scaled": (normal(), 0.01),
    "scaled by 3": (normal(scale=3), 3.0),
    "He": (he_normal(), math.sqrt(2 / 200)),
    "Xavier": (xavier_normal(), math.sqrt(2 / 500)),
}


@pytest.mark.parametrize(("initializer", "deviation"), TABLE.values(), ids=TABLE)
def test_moments(initializer, deviation):
    W = initializer.draw(Key(1), (300, 200))
    assert W.shape == (300, 200)
    assert W.dtype == np.float64
    assert abs(W.mean()) <= 0.01 * deviation
    assert W.std() == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize("initializer", [row[0] for row in TABLE.values()], ids=TABLE)
def test_the_same_key_gives_the_same_weights_and_another_gives_others(initializer):
    W = initializer.draw(Key(1), (3, 4))
    np.testing.assert_array_equal(W, initializer.draw(Key(1), (3, 4)))
    assert (initializer.draw(Key(2), (3, 4)) == W).all() == (W == 0).all()


def test_the_tutorials_weights_are_one_stream_of_a_generator_of_its_own():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = tutorial(seed=3).draw([(2, 4), (1, 2)])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    stream = np.random.RandomState(3).randn(10)
    np.testing.assert_array_equal(first, stream[:8].reshape(2, 4) / 2)
    np.testing.assert_array_equal(second, stream[8:].reshape(1, 2) / np.sqrt(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: normal(scale=0), "scale is 0, expected a number above 0"),
        (lambda: tutorial(seed=-1), "seed is -1, expected an integer of at least 0"),
        (lambda: tutorial(seed=2**32), "expected less than 2"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()
