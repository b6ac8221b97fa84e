import math

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers
from portable_oracles import nearest_product

from pydnn import Key, engines, portable
from pydnn.compiled.portable import nearest

pytestmark = pytest.mark.slow  # compiling takes seconds

# Numbers with few bits give ties and cancel.
few_bits = st.builds(
    lambda i, e: math.ldexp(i, e), st.integers(-9, 9), st.sampled_from([-25, -24, -23, -1, 0, 1])
)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def operands(draw, elements):
    m, k, n = draw(st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(1, 6)))
    return draw(laid_out(np.float32, (m, k), elements)), draw(
        laid_out(np.float32, (k, n), elements)
    )


@pytest.mark.parametrize("small", [0, 1 << 15])
@example_count(1500, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(small, data):
    elements = data.draw(st.sampled_from([few_bits, finite, numbers(np.float32)]))
    a, b = data.draw(operands(elements))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_SMALL", small)
        assert_same_bits(lambda: portable.matmul(a, b))


@pytest.mark.parametrize("threads", [1, 3])
@example_count(300, quick=20)
@given(st.tuples(*[st.integers(1, 70)] * 3), st.sampled_from(["C", "F"]), st.integers(0, 2))
def test_products_of_every_shape_have_the_same_bits_in_tiles(threads, shape, order, exponent):
    m, k, n = shape
    a, b = (Key(k).at(name).normal(s) for name, s in (("a", (m, k)), ("b", (k, n))))
    a, b = np.ldexp(np.rint(np.ldexp(a, exponent)), -exponent * 40), np.maximum(b, 0)
    a, b = np.asarray(a, np.float32, order), np.asarray(b, np.float32, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_SMALL", 0)
        patch.setattr(nearest, "threads_for", lambda _: min(threads, m))
        assert_same_bits(lambda: portable.matmul(a, b))


def test_entries_that_need_an_exact_sum_are_found_in_tiles(monkeypatch):
    # Halfway between two float32 numbers, but for a term that twice the precision leaves out.
    columns = [1.0, 2.0**-24, 2.0**-80, 2.0**-140, -(2.0**-80)]
    b = np.array([np.abs(columns), columns], np.float32).T
    a = np.ones((2, 5), np.float32)
    monkeypatch.setattr(nearest, "_SMALL", 0)
    uncertain = []
    assert nearest.large_product(a, b, uncertain, np.empty((2, 2), np.float32))
    assert uncertain == [(0, 1), (1, 1)]
    assert_same_bits(lambda: portable.matmul(a, b))


@example_count(500, quick=60)
@given(operands(few_bits | finite))
def test_every_entry_is_the_nearest_float32(pair):
    with engines.using_engine("compiled"), np.errstate(over="ignore"):
        np.testing.assert_array_equal(portable.matmul(*pair), nearest_product(*pair))


@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("kind", ["normal", "relu", "cancelling", "ties"])
@pytest.mark.parametrize("shape", [(16, 16, 32), (64, 784, 33), (3, 1025, 65)])
def test_products_with_many_doubtful_entries_have_the_same_bits(shape, kind, order):
    m, k, n = shape
    a, b = (Key(k).at(name).normal(s) for name, s in (("a", (m, k)), ("b", (k, n))))
    if kind == "relu":
        a, b = np.maximum(a, 0) * (np.arange(k) % 3 == 0), np.maximum(b, 0)
        b[:, ::2] = 0
    if kind == "cancelling":
        half = k // 2
        a[:, half : 2 * half], b[half : 2 * half] = a[:, :half], -b[:half]
    if kind == "ties":
        a, b = np.rint(a * 4), np.ldexp(np.rint(b * 4), np.arange(k)[:, np.newaxis] % 2 * -24)
    a, b = np.asarray(a, np.float32, order[0]), np.asarray(b, np.float32, order[1])
    assert_same_bits(lambda: portable.matmul(a, b))
    assert_same_bits(lambda: portable.matmul(a, b, out=np.empty((m, 2 * n), np.float32)[:, :n]))
