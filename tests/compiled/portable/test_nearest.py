import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers
from portable_oracles import nearest_product, rounded

from pydnn import Key, engines, portable
from pydnn.compiled.portable import nearest
from pydnn.compiled.portable.tiles import LINES, WIDE
from pydnn.numerics.portable.cache import unchangeable

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


UNIT = 2.0**-52


@pytest.mark.parametrize("scale", [1.0, -1.0, 0.25, -(2.0**-100), 2.0**100])
def test_two_numbers_are_narrowed_as_their_exact_sum(scale):
    for middle in (1 + 2.0**-24, 1 + 3 * 2.0**-24, 2 - 2.0**-24, 1.5):
        for ulps in range(-3, 4):
            for low in (0.0, 2.0**-60, -(2.0**-60), 2.0**-53, -(2.0**-53)):
                high, low = scale * (middle + ulps * UNIT), scale * low
                expected = rounded(Fraction(high) + Fraction(low), np.float32)
                assert nearest.narrowed(high, low) == expected


def turned(array, is_turned):
    return np.ascontiguousarray(array.T if is_turned else array)


# Sums of products of these numbers are often so near to the middle of two float32 numbers that a
# float64 sum is the middle itself.
TINY, LITTLE = 2.0**-40, 2.0**-24
NEAR = np.array([0, 0, 1, -1, 1 + 2.0**-12, LITTLE, -LITTLE, 3 * LITTLE, TINY, -TINY])


def nearly_halfway(seed, shape):
    places = Key(seed).permuted(10**9, np.arange(math.prod(shape))) % NEAR.size
    return NEAR[places].reshape(shape).astype(np.float32)


@pytest.mark.parametrize("left_turned", [False, True])
@pytest.mark.parametrize("right_turned", [False, True])
def test_sums_of_twice_the_precision_are_the_nearest(left_turned, right_turned):
    for k, n in ((1, 3), (3, 5), (5, 2)):
        a, b = nearly_halfway(k, (4, k)), nearly_halfway(n, (k, n))
        left, right = turned(a, left_turned), turned(b.T, right_turned)
        expected = nearest_product(a, b)
        for i, j in np.ndindex(4, n):
            where = left, left_turned, i, right, right_turned, j
            result, sure = nearest.nearest_sum(*where)
            assert sure
            assert np.float32(result).tobytes() == expected[i, j].tobytes()
            assert nearest.has_terms(*where) == bool((a[i] * b[:, j] != 0).any())


@pytest.mark.parametrize("left_turned", [False, True])
@pytest.mark.parametrize("right_turned", [False, True])
def test_a_term_counts_if_neither_factor_is_zero(left_turned, right_turned):
    for row, column, has in (
        ([1, 0, 0], [5, 0, 0], True), ([0, 0, 5], [0, 0, 1], True), ([0, 1, 0], [1, 0, 1], False),
        ([1, 1, 1], [0, 0, 0], False), ([0, 0, 0], [5, 5, 5], False),
    ):  # fmt: skip
        left, right = (np.array([[0, 0, 0], line], np.float32) for line in (row, column))
        left, right = turned(left, left_turned), turned(right, right_turned)
        assert nearest.has_terms(left, left_turned, 1, right, right_turned, 1) == has


def test_what_is_left_out_makes_a_sum_uncertain():
    def is_sure(a, b):
        rows, columns = (np.array(x, np.float32)[np.newaxis] for x in (a, b))
        return nearest.nearest_sum(rows, False, 0, columns, False, 0)[1]

    assert is_sure([0.0, 1.0], [1.0, 0.0])
    assert is_sure([1.0, 1.0], [1.0, -1.0])
    # A term is left out that is far below the result, but not as far as it must be.
    a, b = [2.0**60, 2.0**20, 2.0**-15, 1, -(2.0**20), -(2.0**60)], [2.0**40, 2.0**20, 2.0**-15, 1]
    assert not is_sure(a, [*b, 2.0**20, 2.0**40])
    assert not is_sure([1, 2.0**-24, 2.0**-80, 2.0**-140, -(2.0**-80)], [1, 1, 1, 1, 1])


@pytest.mark.parametrize("small", [0, 1 << 15])
@pytest.mark.parametrize(
    "shape", [(1, 2, 1), (3, 5, 4), (LINES + 1, 3, WIDE + 1), (LINES, 9, WIDE)]
)
@pytest.mark.parametrize("orders", ["CC", "FF", "CF"])
def test_sums_nearly_halfway_between_two_numbers_are_settled(small, shape, orders, monkeypatch):
    monkeypatch.setattr(nearest, "_SMALL", small)
    m, k, n = shape
    for seed in range(3):
        a, b = nearly_halfway(seed, (m, k)), nearly_halfway(seed + 9, (k, n))
        a[-1], b[:, -1] = 0, 0  # lengths of 0 stand beside the others
        a, b = np.asarray(a, order=orders[0]), np.asarray(b, order=orders[1])
        assert_same_bits(lambda a=a, b=b: portable.matmul(a, b))


@pytest.mark.parametrize("small", [0, 1 << 15])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_zeros_times_infinities_are_left_to_numpy(small, number, monkeypatch):
    monkeypatch.setattr(nearest, "_SMALL", small)
    zeros, others = np.zeros((3, 2), np.float32), np.ones((2, 4), np.float32)
    others[1, 2] = number
    for a, b in ((zeros, others), (others.T, zeros.T)):
        assert_same_bits(lambda a=a, b=b: portable.matmul(a, b))
        out = np.empty((len(a), b.shape[1]), np.float32)
        assert not nearest.small_product(a, b, out)
        assert not nearest.large_product(a, b, [], out)


def test_results_too_small_for_float32_are_positive_zeros(monkeypatch):
    a, b = np.full((2, 3), -(2.0**-80), np.float32), np.full((3, 2), 2.0**-80, np.float32)
    for small in (0, 1 << 15):
        monkeypatch.setattr(nearest, "_SMALL", small)
        assert_same_bits(lambda: portable.matmul(a, b))


def test_packed_columns_that_are_kept_are_not_overwritten(monkeypatch):
    monkeypatch.setattr(nearest, "_SMALL", 0)
    a, kept, other = (
        np.asarray(Key(1).at(name).normal((5, 5)), np.float32) for name in ("a", "kept", "other")
    )
    kept = unchangeable(kept)
    for b in (kept, other) * 4:
        assert_same_bits(lambda b=b: portable.matmul(a, b))


def test_threads_share_large_products_as_blas_does(monkeypatch):
    monkeypatch.setattr(nearest, "worker_threads", lambda: 5)
    for of_blas, expected in ((3, 3), (7, 5), (None, 5)):
        monkeypatch.setattr(nearest, "blas_threads", lambda count=of_blas: count)
        assert nearest.threads_for(nearest._WORTH_A_THREAD) == expected
        assert nearest.threads_for(nearest._WORTH_A_THREAD - 1) == 1


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
