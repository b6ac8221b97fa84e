import math

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import portable
from pydnn.compiled.portable import elementary

# Where a function changes its formula, and the neighbors of these numbers.
TURNS = [746.0, 745.1, 710.0, 709.782712893384, 708.0, 700.0, 50.0, 40.0, 22.0, 6.0, 0.46875, 2.0]
TURNS = [sign * x for x in TURNS for sign in (1, -1)]
TURNS += [math.nextafter(x, to) for x in TURNS for to in (math.inf, -math.inf)]
FUNCTIONS = ("erf", "exp", "expm1", "log", "log1p", "tanh", "logistic")
QUICK = [(np.float64, "exp"), (np.float32, "log1p")]  # since compiling each takes half a second


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        pytest.param(*each, marks=[] if each in QUICK else pytest.mark.slow)
        for each in [(dtype, name) for dtype in (np.float64, np.float32) for name in FUNCTIONS]
    ],
)
@example_count(1000, quick=40)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(dtype, name, data):
    turns = [x for x in TURNS if dtype == np.float64 or float(np.float32(x)) == x]
    shape = data.draw(
        st.sampled_from([(), (0,), (1,), (7,), (8,), (33,), (3, 0), (3, 5), (2, 3, 4)])
    )
    x = data.draw(laid_out(dtype, shape, numbers(dtype, *turns)))
    assert_same_bits(lambda: getattr(portable, name)(x), any_nan=False)


def test_neither_layout_nor_length_changes_a_bit():
    x = np.linspace(-800, 800, 9 * 1111).reshape(9, 1111)
    for view in (x, x.T, x[::2, ::3], x[:, :1], x[0, 0]):
        assert_same_bits(lambda view=view: portable.exp(view), any_nan=False)


@pytest.mark.parametrize("count", [10, 101])
def test_threads_share_many_numbers(count, monkeypatch):
    monkeypatch.setattr(elementary, "_WORTH_A_THREAD", 10)
    monkeypatch.setattr(elementary, "worker_threads", lambda: 3)
    assert_same_bits(lambda: portable.exp(np.linspace(-3, 3, count)), any_nan=False)
