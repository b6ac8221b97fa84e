import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import Key, portable
from pydnn.compiled.portable import sums

DTYPES = [pytest.param(np.float32, marks=pytest.mark.slow), np.float64]


@pytest.fixture(autouse=True)
def even_the_smallest_sums_are_compiled(monkeypatch):
    monkeypatch.setattr(sums, "_WORTH_A_CALL", 1)


@pytest.mark.parametrize("dtype", DTYPES)
@example_count(1000, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(dtype, data):
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    a = data.draw(laid_out(dtype, shape, numbers(dtype)))
    for axis in (0, 1, (0, 1)):
        assert_same_bits(lambda axis=axis: portable.sum(a, axis=axis))
    more = a.reshape(*[1, shape[0]] if data.draw(st.booleans()) else [shape[0], 1], shape[1])
    for axis in (0, 1, 2, (0, 1), (0, 2), (1, 2)):
        assert_same_bits(lambda axis=axis: portable.sum(more, axis=axis))
    assert_same_bits(lambda: portable.mean(a))
    assert_same_bits(lambda: portable.norm(a.ravel("K")))


@pytest.mark.parametrize("n", [8192, 8193, 20_001])
def test_long_lines_have_the_same_bits(n):
    line = np.cos(np.arange(n)) * np.exp(np.arange(n) % 37)
    assert_same_bits(lambda: portable.norm(line))
    assert_same_bits(lambda: portable.sum(line[np.newaxis], axis=1))
    assert_same_bits(lambda: portable.sum(np.ones((3, 4), np.float16), axis=1))  # left to NumPy


@pytest.mark.parametrize("n", [64, 65, 66, 67, 100, 254, 255])
def test_vectors_of_every_length_have_the_same_bits(n):
    for seed in range(5):
        line = Key(seed).normal((n,))
        assert_same_bits(lambda line=line: portable.norm(line))
        assert_same_bits(lambda line=line: portable.mean(line[np.newaxis]))


def test_a_result_goes_where_the_caller_wants_it():
    a, out = np.arange(200.0).reshape(8, 25), np.zeros((8, 1))
    assert_same_bits(lambda: portable.sum(a, axis=1, out=out) + out)
    assert_same_bits(lambda: portable.sum(a, axis=1, out=np.zeros((8, 2))[:, :1]))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, (0, 1), (1, 2), (2, 3), (0, 3), (0, 1, 3), (0, 2, 3)])
def test_sums_over_axes_between_others_are_the_same(axis):
    a = np.cos(np.arange(5 * 3 * 4 * 6.0)).reshape(5, 3, 4, 6)
    for view in (a, a.T, a[:, :, ::2], a[:, :0]):
        assert_same_bits(lambda view=view: portable.sum(view, axis=axis))
        out = np.empty_like(portable.sum(view, axis=axis))
        assert_same_bits(lambda view=view, out=out: portable.sum(view, axis=axis, out=out))
