import math

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import ENDS, assert_same_bits, laid_out, numbers

from pydnn import Key, portable
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


POWERS = [sign * 2.0**n for n in range(-1074, 1024, 3) for sign in (1, -1)]
TABLE = np.array(
    [
        *ENDS, *TURNS, *POWERS, *(math.nextafter(x, 0.0) for x in POWERS),
        *(math.ldexp(x, n) for x in (math.sqrt(0.5), math.sqrt(2.0)) for n in range(-3, 4)),
        *(3.0 * Key(1).normal((300,))), *(n * math.log(2) / 2 for n in range(-40, 40)),
        *np.linspace(-55, 55, 700), *np.linspace(-760, 720, 700),
    ]
)  # fmt: skip


@pytest.mark.slow  # since compiling each takes half a second
@pytest.mark.parametrize("name", sorted({*FUNCTIONS, "positive_part"}))
def test_functions_of_single_numbers_have_the_same_bits(name):
    function, by_numpy = getattr(elementary, name), getattr(portable, name)
    with np.errstate(all="ignore"):
        expected = by_numpy(TABLE)
        result = np.array([function(x) for x in TABLE])
    if name == "positive_part":  # which keeps the bits of a NaN in NumPy
        result, expected = (np.where(np.isnan(x), np.nan, x) for x in (result, expected))
    different = result.view(np.int64) != expected.view(np.int64)
    assert not different.any(), (TABLE[different], result[different], expected[different])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_are_filled_with_the_numbers_of_the_table(name, dtype):
    with np.errstate(all="ignore"):
        x = TABLE.astype(dtype)
    assert_same_bits(lambda: getattr(portable, name)(x), any_nan=False)
