from fractions import Fraction

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from portable_oracles import dot, over_one_denominator, product, tree

from pydnn import Key
from pydnn.numerics import portable
from pydnn.numerics.portable.products import FEW, _pieces, precise_product
from pydnn.records import freeze

SEEDS = st.integers(0, 2**32)


def drawn(seed, shape, *, spread=0, dtype=np.float64):
    """Normal numbers, each times a power of two of up to 2**spread or down to its inverse."""
    key = Key(seed)
    exponents = key.at("exponents").integers(2 * spread + 1, shape) - spread
    return np.ldexp(key.at("numbers").normal(shape), exponents).astype(dtype)


def same_bits(a, b):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


def test_worked_numbers():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(portable.matmul(a, a), [[7, 10], [15, 22]])
    out = np.empty((2, 2))
    assert portable.matmul(a, a, out=out) is out
    np.testing.assert_array_equal(out, [[7, 10], [15, 22]])


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (3, 2, 4), (2, 17, 3), (1, 1000, 2), (5, 300, 2)]
)
@pytest.mark.parametrize("spread", [0, 30, 300])
def test_the_tree_is_that_of_the_specification(m, k, n, spread):
    a, b = drawn(1, (m, k), spread=spread), drawn(2, (k, n), spread=spread)
    same_bits(portable.matmul(a, b), product(a, b))


@example_count(40)
@given(
    SEEDS, st.sampled_from([(41, 50), (9, 230), (65, 32), (2, 1025), (4, 600), (2049, 1)]),
    st.integers(1, 3), st.sampled_from([0, 5, 30, 300, 500]),
)  # fmt: skip
def test_slices_are_those_of_the_specification(seed, shape, n, spread):
    assert shape[0] * shape[1] > FEW
    a, b = drawn(seed, shape, spread=spread), drawn(seed + 1, (shape[1], n), spread=spread)
    with np.errstate(over="ignore"):
        same_bits(portable.matmul(a, b)[:6], product(a, b, first=6))


def adversarial(rows, k):
    """Lines on which a wrong budget, tie or scale would change the result."""
    i = np.arange(rows * k).reshape(rows, k)
    ones = np.ones((rows, k))
    below = np.nextafter(1.0, 0)
    return {
        "all just below a power of two": ones * below,
        "all powers of two": np.ldexp(ones, i % 7),
        "ties of the first slice": 1 + np.ldexp(ones, -23) * (i % 4) + np.ldexp(ones, -24),
        "cancellation": np.where(i % 2, -below, below) + np.ldexp(1.0, -40) * (i % 3),
        "zeros of both signs": np.where(i % 3, np.copysign(0.0, (i % 2) - 0.5), 1.0 * (i % 5 == 0)),
        "zeros alone": -0.0 * ones,
        "whole range": np.ldexp(below * ones, (i * 977) % 1900 - 1000),
        "subnormal": np.ldexp(ones, -1074) * (1 + i % 9),
        "near overflow": np.ldexp(below * ones, 1020 - (i % 3)),
    }


@pytest.mark.parametrize(
    ("m", "k"), [(35, 60), pytest.param(5, 520, marks=pytest.mark.slow)], ids=["60", "520"]
)
@pytest.mark.parametrize("left", adversarial(1, 1))
@pytest.mark.parametrize("right", adversarial(1, 1))
def test_hard_lines_are_those_of_the_specification(left, right, m, k):
    expect_the_specification(left, right, m, k)


@pytest.mark.parametrize("kind", adversarial(1, 1))
def test_long_hard_lines_are_those_of_the_specification(kind):
    expect_the_specification(kind, kind, 5, 520)


def expect_the_specification(left, right, m, k):
    a, b = adversarial(m, k)[left], adversarial(2, k)[right].T
    a = np.concatenate([a[:2], np.ones((m - 2, k))])
    with np.errstate(over="ignore", invalid="ignore"):
        same_bits(portable.matmul(a, b)[:2], product(a, b, first=2))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("m", "k", "n"), [(7, 20, 30), (20, 209, 31), (64, 700, 9)])
def test_layout_alignment_and_neighbors_change_no_bit(dtype, m, k, n):
    a, b = drawn(3, (m, k), spread=9, dtype=dtype), drawn(4, (k, n), spread=9, dtype=dtype)
    expected = portable.matmul(a, b)

    def layouts(x):
        odd = np.empty(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
        odd[...] = x
        return np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1].copy()[::-1], odd

    for other in layouts(a):
        same_bits(portable.matmul(other, b), expected)
    for other in layouts(b):
        same_bits(portable.matmul(a, other), expected)
    for j in range(n):
        same_bits(portable.matmul(a, b[:, j : j + 1]), expected[:, j : j + 1])


@pytest.mark.parametrize("shape", [(3, 4), (30, 100)])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_not_finite_makes_only_its_row_nan(shape, bad):
    a, b = drawn(5, shape), drawn(6, (shape[1], 5))
    expected = portable.matmul(a, b)
    a[1, 2] = bad
    with np.errstate(invalid="ignore"):
        found = portable.matmul(a, b)
    assert not np.isfinite(found[1]).any()
    same_bits(np.delete(found, 1, axis=0), np.delete(expected, 1, axis=0))
    if a.size > FEW:
        assert np.isnan(found[1]).all()
        b[0, 3] = bad
        assert np.isnan(portable.matmul(a, b)[:, 3]).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0), (3000, 1, 0)]
)
def test_products_of_empty_matrices(dtype, m, k, n):
    same_bits(
        portable.matmul(np.ones((m, k), dtype), np.ones((k, n), dtype)), np.zeros((m, n), dtype)
    )


@given(SEEDS, st.sampled_from([20, 209, 512, 513, 4000]))
@example_count(20)
def test_products_are_near_the_true_ones(seed, k):
    a, b = drawn(seed, (3 if k < 30 else 2500 // k + 3, k)), drawn(seed + 1, (k, 4))
    wide = a.astype(np.longdouble) @ b.astype(np.longdouble)
    scale = np.abs(a).max(axis=1, keepdims=True) * np.abs(b).max(axis=0)
    assert (np.abs(portable.matmul(a, b) - wide) <= scale * k * 2.0**-44).all()


ZEROS = {
    "none": lambda b: b,
    "below the diagonal": np.triu,
    "above it": np.tril,
    "some columns": lambda b: b * (np.arange(b.shape[1]) // 40 % 2),
    "all": lambda b: 0 * b,
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize("shape", [(20, 209, 209), (70, 80, 3), (9, 240, 4097)])
def test_leaving_out_zeros_changes_no_bit(shape, zeros, order):
    m, k, n = shape
    a, b = drawn(1, (m, k)), ZEROS[zeros](drawn(2, (k, n)))
    b[k // 2, n // 2] = np.inf
    expected = portable.matmul(a, b)
    kept = freeze(np.array(b, order=order))
    for _ in range(2):  # the second time, its slices and bands are kept
        same_bits(portable.matmul(a, kept), expected)
    same_bits(portable.matmul(np.asfortranarray(a), kept), expected)


RISING = tuple((0, min(16 * i, 209)) for i in range(1, 15))
APART = ((3, 5), (0, 0), (7, 9), (0, 0))
# The bands, the columns, the rows, the terms, and whether there is one piece.
STRETCHES = {
    "few rows": (None, (0, 209), 40, 209, False),
    "a triangle": (RISING, (0, 209), 40, 209, False),
    "enough rows for two threads": (RISING, (0, 209), 65, 209, True),
    "enough work for two threads": (None, (0, 209), 64, 628, True),
    "some columns": (RISING, (16, 48), 1, 209, True),
    "zeros in between": (APART, (0, 50), 9, 10, True),
    "zeros alone": (APART[1:2], (0, 16), 9, 10, True),
    "long columns": (None, (0, 20), 64, 4000, False),
}


@pytest.mark.parametrize(
    ("bands", "columns", "rows", "k", "whole"), STRETCHES.values(), ids=STRETCHES
)
def test_pieces_have_the_nonzero_terms_and_the_work_of_one_thread(bands, columns, rows, k, whole):
    pieces = _pieces(bands, *columns, rows, k)
    assert (len(pieces) == 1) == whole
    place = columns[0]
    for piece, terms in pieces:
        assert piece.start == place < piece.stop
        place = piece.stop
        # All terms that are not 0, and nothing after the last of them.
        there = [bands[j // 16] if bands else (0, k) for j in range(piece.start, piece.stop)]
        assert all(terms.start <= low for low, high in there if low < high)
        assert terms.stop == max(high for _, high in there)
        work = rows * (terms.stop - terms.start) * (piece.stop - piece.start)
        assert whole or work < 1 << 19 or piece.stop - piece.start <= 16
    assert place == columns[1]


@pytest.mark.parametrize("shape", [(40, 50, 300), (2, 1000, 70), (1, 2048, 40), (7, 20, 900)])
def test_blocks_of_a_tree_change_no_bit(shape):
    m, k, n = shape
    a, b = drawn(1, (m, k)), drawn(2, (k, n))
    rows, columns = [0, m // 2, m - 1], [0, 1, n // 2, n - 1]
    found = portable.matmul(a, b)[np.ix_(rows, columns)]
    same_bits(found, [[tree([*(a[i] * b[:, j])]) for j in columns] for i in rows])


@pytest.mark.parametrize("exponent", [-300, -199, 196, 199, 300])
@pytest.mark.parametrize("m", [30, 90])  # 90 lines are checked by NumPy, 30 by Python
def test_scaled_or_not_the_bits_are_the_same(m, exponent):
    a, b = drawn(1, (m, 80)), drawn(2, (80, 3))
    expected = portable.matmul(a, b)
    a[3], expected[3] = 0.0, 0.0
    same_bits(portable.matmul(np.ldexp(a, exponent), b), np.ldexp(expected, exponent))
    same_bits(portable.matmul(a, np.ldexp(b, exponent)), np.ldexp(expected, exponent))


def test_precise_products_err_by_less_than_float64_itself():
    for shape in ((3, 5), (32, 64), (5, 12288)):
        a, b = drawn(3, shape), drawn(4, (shape[1], 3))
        rows, columns = (list(map(over_one_denominator, x.tolist())) for x in (a, b.T))
        exact = [[dot(row, column) for column in columns] for row in rows]
        scale = np.abs(a).max(axis=1, keepdims=True) * np.abs(b).max(axis=0)
        found = precise_product(a, b)
        errors = [[float(abs(Fraction(x) - y)) for x, y in zip(*rows, strict=True)]
                  for rows in zip(found.tolist(), exact, strict=True)]  # fmt: skip
        # What slices leave out of both operands, and one rounding.
        assert (errors <= scale * shape[1] * 2.0**-56 + np.abs(found) * 2.0**-53).all()
