import math

import numpy as np
import pytest
from helpers import calls
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pydnn.numerics import fast, memory


def test_worked_numbers():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(fast.matmul(a, a), [[7, 10], [15, 22]])
    np.testing.assert_array_equal(fast.sum(a, axis=1), [[3], [7]])
    np.testing.assert_array_equal(fast.sum(a, axis=0), [[4, 6]])
    assert fast.mean(a) == 2.5
    assert fast.norm(np.array([3.0, 4.0])) == 5


# A shape for each way to compute a product
SHAPES = [
    (3, 5, 4), (20, 229, 209), (20, 209, 229), (64, 400, 70), (65, 400, 70), (1, 300_000, 2),
    (7, 2100, 500), (20, 1200, 900), (30, 40_000, 26), (3, 600_000, 3),
]  # fmt: skip


@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_way_gives_the_product_of_numpy(shape, order):
    m, k, n = shape
    a, b = np.linspace(-1, 2, m * k).reshape(m, k), np.linspace(-2, 1, k * n).reshape(k, n)
    a, b = np.asarray(a, order=order[0]), np.asarray(b, order=order[1])
    expected = a @ b
    out = np.full((m, n), np.nan)
    np.testing.assert_allclose(fast.matmul(a, b), expected, rtol=1e-10, atol=1e-9)
    assert fast.matmul(a, b, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("name", ["matmul", "sum"])
def test_results_are_written_into_out(name):
    a, out = np.ones((2, 2)), np.zeros((2, 2) if name == "matmul" else (2, 1))
    given = fast.matmul(a, a, out=out) if name == "matmul" else fast.sum(a, axis=1, out=out)
    assert given is out
    assert (out == 2).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_products_of_few_rows_are_written_into_out(order):
    a, b = np.arange(2000.0).reshape(2, 1000), np.eye(1000, order=order)
    out = np.zeros((2, 1000))
    assert fast.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, a)
    np.testing.assert_array_equal(fast.matmul(a, b), a)


def way_of(m, k, n, order="C", out=None):
    """How a product (m, k) by (k, n) is computed; if in pieces, the columns of each."""
    a, b = np.zeros((m, k)), np.zeros((k, n), order=order)
    names, left, right = zip(*calls(fast.matmul, a, b, out=out), strict=True)
    if len(names) > 1:
        return [part.shape[1] for part in right]
    if names == ("dot",):
        return "dot"
    if left[0].shape == (n, k):
        return "b read in its own order"
    return "a turned" if left[0].flags.f_contiguous else "as it stands"


# Sizes at both ends of the range where each way was measured to be the fastest.
WAYS = {
    "fewer than 10,000 numbers in each": ((1, 9999, 1), "dot"),
    "10,000 numbers in a": ((2, 5000, 1), "as it stands"),
    "10,000 numbers in b": ((2, 2500, 4), "as it stands"),
    "64 rows": ((64, 256, 65), [31, 31, 3]),
    "65 rows": ((65, 256, 64), "as it stands"),
    "the work of one thread": ((16, 256, 127), "as it stands"),
    "a column more": ((16, 256, 128), [127, 1]),
    "a column is more than one thread's work": ((64, 8193, 2), [1, 1]),
    "the most work for slices": ((32, 512, 512), [31] * 16 + [16]),
    "a column more than for slices": ((32, 512, 513), "as it stands"),
    "a number short of a million in b": ((2, 999, 1001), [262, 262, 262, 215]),
    "a million in b": ((2, 1000, 1000), "a turned"),
    "a million in b, and 65 rows": ((65, 1000, 1000), "as it stands"),
    "a million in b, column by column": ((2, 1000, 1000, "F"), "b read in its own order"),
    "a million in b, and room": ((2, 1000, 1000, "F", np.empty((2, 1000))), "a turned"),
    "a hundredth of b in a": ((2, 5000, 200), "as it stands"),
    "less than a hundredth of b in a": ((2, 5000, 201), "a turned"),
}


@pytest.mark.parametrize(("shape", "way"), WAYS.values(), ids=WAYS)
def test_each_product_is_computed_in_the_fastest_way_for_its_size(shape, way):
    assert way_of(*shape) == way


@pytest.mark.parametrize(
    ("shape", "axis", "way"),
    [((31, 128), 1, "dot"), ((1, 129), 1, "add"), ((32, 128), 1, "add"), ((31, 128), 0, "add")],
)
def test_sums_of_few_numbers_are_products_with_ones(shape, axis, way):
    assert [name for name, *_ in calls(fast.sum, np.zeros(shape), axis=axis)] == [way]


@pytest.mark.parametrize(("rows", "compared_with"), [(3, ()), (3000, (3,))])
def test_a_large_positive_part_compares_with_a_row_of_zeros(rows, compared_with):
    [(name, _, zero)] = calls(fast.positive_part, np.zeros((rows, 3)))
    assert (name, zero.shape) == ("maximum", compared_with)


def test_cached_arrays_refuse_writes():
    [(_, _, ones)] = calls(fast.sum, np.zeros((3, 3)), axis=1)
    [(_, _, zeros)] = calls(fast.positive_part, np.zeros((3000, 3)))
    for remembered in (ones, zeros):
        assert not remembered.flags.writeable


@pytest.mark.parametrize("shape", [(65, 400, 200), (40, 400, 300), (40, 2500, 400)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_products_reuse_memory(shape, order):
    m, k, n = shape
    memory._free.clear()
    fast.matmul(np.zeros((m, k)), np.zeros((k, n), order=order))
    assert memory.kept_bytes() == m * n * 8


def test_large_positive_parts_reuse_memory():
    memory._free.clear()
    fast.positive_part(np.zeros((3000, 3)))
    assert memory.kept_bytes() == 3000 * 3 * 8


@pytest.mark.parametrize("vector", [[0.1, 0.2, 0.4], [1e-14, 3e-15], [3e150, 1e150]], ids=str)
def test_lengths_of_ordinary_vectors_are_the_roots_of_their_squares_to_the_last_bit(vector):
    vector = np.array(vector)
    assert fast.norm(vector) == math.sqrt(vector.dot(vector))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1.0, 1e25, 1e-30, 1e-40])
def test_lengths_are_right_where_squares_leave_the_range(dtype, scale):
    vector = np.array([3.0, 4.0], dtype) * dtype(scale)
    expected = math.hypot(*map(float, vector))
    with np.errstate(over="ignore"):
        # The smallest numbers of float32 have few digits.
        assert fast.norm(vector) == pytest.approx(expected, rel=1e-5, abs=0)


def test_lengths_of_empty_zero_and_not_finite_vectors():
    assert fast.norm(np.zeros(3)) == 0
    assert fast.norm(np.empty(0)) == 0
    with np.errstate(invalid="ignore"):
        assert fast.norm(np.array([1.0, np.inf])) == np.inf
        assert math.isnan(fast.norm(np.array([np.nan, np.inf])))


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3)))
def test_functions_agree_with_the_standard_library(x):
    for ours, theirs in ((fast.tanh, math.tanh), (fast.exp, lambda v: math.exp(min(v, 700)))):
        x = np.minimum(x, 700)
        np.testing.assert_allclose(ours(x), [theirs(v) for v in x], rtol=1e-14, atol=1e-300)
    positive = np.abs(x)
    np.testing.assert_allclose(fast.log1p(positive), [math.log1p(v) for v in positive], rtol=1e-14)
    np.testing.assert_allclose(
        fast.log(positive + 1), [math.log(v) for v in positive + 1], rtol=1e-13, atol=1e-15
    )


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-30, 30)))
def test_functions_of_activations_agree_with_the_standard_library(x):
    np.testing.assert_allclose(fast.erf(x), [math.erf(v) for v in x], rtol=1e-15, atol=1e-300)
    np.testing.assert_allclose(fast.expm1(x), [math.expm1(v) for v in x], rtol=1e-14, atol=1e-300)
    logistic = [1 / (1 + math.exp(-v)) for v in x]
    np.testing.assert_allclose(fast.logistic(x), logistic, rtol=1e-14)


def test_functions_of_activations_stay_finite_far_out_and_keep_the_dtype():
    far = np.array([-np.inf, -1e300, -800.0, -0.0, 0.0, 800.0, 1e300, np.inf])
    np.testing.assert_array_equal(fast.erf(far), [-1, -1, -1, -0.0, 0, 1, 1, 1])
    np.testing.assert_array_equal(fast.logistic(far), [0, 0, 0, 0.5, 0.5, 1, 1, 1])
    for function in (fast.erf, fast.expm1, fast.logistic):
        assert function(np.float32([-0.5, 2.0])).dtype == np.float32
        assert np.isnan(function(np.array([np.nan]))).all()


@given(st.integers(1, 6), st.integers(1, 300))
def test_sums_of_few_and_of_many_columns_agree(rows, columns):
    a = np.arange(rows * columns, dtype=float).reshape(rows, columns)
    expected = [[sum(row)] for row in a.tolist()]  # exact, since these are whole numbers
    np.testing.assert_array_equal(fast.sum(a, axis=1), expected)
    np.testing.assert_array_equal(fast.sum(np.asfortranarray(a), axis=1), expected)


SPANNED = [(1, 1), (7, 7), (300, 20), (512, 33), (513, 32), (700, 100), (8192, 5), (20_001, 12)]


@pytest.mark.parametrize("shape", SPANNED)
@pytest.mark.parametrize("rank", [0, 1, 3, 40, None])
def test_a_basis_is_orthonormal_and_spans_its_columns_whatever_their_rank(shape, rank):
    n, k = shape
    columns = np.cos(np.arange(n * k) ** 1.5).reshape(shape)
    columns[:, k if rank is None else rank :] = 0 if rank == 0 else columns[:, :1]
    basis = fast.orthonormal_basis(columns)
    assert basis.shape == shape
    np.testing.assert_allclose(basis.T @ basis, np.eye(k), atol=1e-14)
    in_basis = basis.T @ columns
    np.testing.assert_allclose(basis @ in_basis, columns, atol=1e-13)
    # Each column adds at most one direction.
    np.testing.assert_allclose(in_basis, np.triu(in_basis), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "decomposed"),
    [
        ((512, 5), [(512, 5)]),
        ((513, 5), [(3, 171, 5), (15, 5)]),
        ((512, 33), [(512, 32), (512, 1)]),
        # The factors R of 54 blocks fill two blocks again.
        ((13_600, 10), [(54, 252, 10), (3, 180, 10), (30, 10)]),
    ],
)
def test_a_basis_is_computed_by_panels_and_these_by_blocks_of_rows(shape, decomposed, monkeypatch):
    shapes, qr = [], np.linalg.qr
    monkeypatch.setattr(np.linalg, "qr", lambda A: shapes.append(A.shape) or qr(A))
    fast.orthonormal_basis(np.cos(np.arange(shape[0] * shape[1]) ** 1.5).reshape(shape))
    assert shapes == decomposed


def test_a_basis_of_dependent_columns_is_that_of_lapack(monkeypatch):
    shapes, qr = [], np.linalg.qr
    monkeypatch.setattr(np.linalg, "qr", lambda A: shapes.append(A.shape) or qr(A))
    basis = fast.orthonormal_basis(np.zeros((100, 70)))
    np.testing.assert_array_equal(basis.T @ basis, np.eye(70))
    assert shapes[-1] == (100, 70)
