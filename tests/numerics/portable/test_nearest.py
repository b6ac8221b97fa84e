import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from portable_oracles import nearest_product, rounded

from pydnn import Key
from pydnn.numerics import portable
from pydnn.numerics.portable.nearest import nearest_sums


def same_bits(a, b):
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


# Numbers with few bits give ties and cancel; others span the whole range of exponents.
few_bits = st.builds(
    lambda i, e: math.ldexp(i, e), st.integers(-9, 9), st.sampled_from([-25, -24, -23, -1, 0, 1])
)
anything = st.floats(width=32, allow_nan=False, allow_infinity=False)
near_one = st.floats(0.5, 2, width=32) | st.floats(-2, -0.5, width=32)


@st.composite
def operands(draw):
    m, k, n = draw(st.integers(1, 8)), draw(st.integers(1, 9)), draw(st.integers(1, 8))
    elements = draw(st.sampled_from([few_bits, anything, near_one]))
    return draw(arrays(np.float32, (m, k), elements=elements)), draw(
        arrays(np.float32, (k, n), elements=elements)
    )


@example_count(1500, quick=60)
@given(operands())
def test_every_entry_is_the_nearest_float32(pair):
    a, b = pair
    with np.errstate(over="ignore"):
        same_bits(portable.matmul(a, b), nearest_product(a, b))


@pytest.mark.parametrize(
    "k", [1, 2, 3, 64, 784, 2048, *(pytest.param(k, marks=pytest.mark.slow) for k in (4096, 16384))]
)
@pytest.mark.parametrize("kind", ["normal", "spread", "cancelling", "one sign", "ties"])
def test_long_lines_give_the_nearest_float32(k, kind):
    key = Key(k).at(kind)
    a, b = (key.at(name).normal(shape) for name, shape in (("a", (3, k)), ("b", (k, 4))))
    if kind == "spread":
        a = np.ldexp(a, key.at("e").integers(200, a.shape) - 120)
    if kind == "one sign":
        a, b = np.abs(a), np.abs(b)
    if kind == "ties":
        a, b = np.rint(a * 4), np.ldexp(np.rint(b * 4), np.arange(k)[:, np.newaxis] % 2 * -24)
    a, b = a.astype(np.float32), b.astype(np.float32)
    if kind == "cancelling":
        half = k // 2
        a[:, half : 2 * half], b[half : 2 * half] = -a[:, :half], b[:half]
        b[half : 2 * half : 5] *= np.float32(1 + 2.0**-20)
    same_bits(portable.matmul(a, b), nearest_product(a, b))


def test_many_zeros_are_right_and_have_one_sign():
    a, b = np.zeros((40, 30), np.float32), np.zeros((30, 50), np.float32)
    a[:, :15], b[15:] = -1.5, 2.5  # every term is 0 although no line is
    a[0, 16] = 2.0**-100
    b[2, 1] = -(2.0**-149)
    b[3, 1] = 2.0**-149
    same_bits(portable.matmul(a, b), nearest_product(a, b))


WORKED = {
    "a tie, to even": ([1.0, 2.0**-24], 1.0),
    "just above the tie": ([1.0, 2.0**-24, 2.0**-120], np.nextafter(np.float32(1), np.float32(2))),
    "just below it": ([1.0, 2.0**-24, -(2.0**-120)], 1.0),
    "cancelled": ([1e30, 1.0, -1e30], 1.0),
    "to nothing": ([3.0, -3.0], 0.0),
    "subnormal, a tie": ([2.0**-149, 2.0**-150], 2.0**-148),
    "too small": ([-(2.0**-150)], 0.0),
}


@pytest.mark.parametrize(("terms", "expected"), WORKED.values(), ids=WORKED)
def test_worked_sums(terms, expected):
    found = nearest_sums(np.array([terms]))
    same_bits(found, np.array([expected], np.float32))


def test_results_beyond_the_largest_float_are_infinite():
    largest = float(np.finfo(np.float32).max)
    terms = np.array(
        [[largest, 2.0**103 * (1 - 2.0**-20)], [largest, 2.0**103], [-largest, -largest]]
    )
    with np.errstate(over="ignore"):
        found = nearest_sums(terms)
    same_bits(found, np.array([largest, np.inf, -np.inf], np.float32))


@example_count(500)
@given(st.lists(st.floats(-1e60, 1e60), min_size=1, max_size=9), st.sampled_from([1, 2, 4]))
def test_sums_of_float64_terms_are_the_nearest_float32(terms, copies):
    terms = [*(terms * copies), *(-x for x in terms[1:] * copies)]
    expected = rounded(sum(map(Fraction, terms)), np.float32)
    with np.errstate(over="ignore"):
        same_bits(nearest_sums(np.array([terms])), np.array([expected], np.float32))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_not_finite_makes_its_row_and_column_nan(bad):
    a, b = (Key(i).normal((6, 6)).astype(np.float32) for i in (1, 2))
    expected = portable.matmul(a, b)
    a[1, 2], b[3, 4] = bad, bad
    found = portable.matmul(a, b)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 4]).all()
    rest = np.ix_([0, 2, 3, 4, 5], [0, 1, 2, 3, 5])
    same_bits(found[rest], expected[rest])
