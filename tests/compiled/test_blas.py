import numpy as np
import pytest
from helpers import same_bits, with_extremes
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn import Key
from pydnn.compiled import blas
from pydnn.compiled.kernels import kernel
from pydnn.compiled.ufuncs import loop_of
from pydnn.numerics import fast

DTYPES = [np.dtype("f4"), np.dtype("f8")]

NAME = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
has_products = pytest.mark.skipif(
    NAME != "scipy-openblas" and not blas.products_of(np.dtype("f8")),
    reason="kernels cannot call this BLAS",
)
sizes = st.one_of(st.integers(1, 6), st.integers(1, 70))


def operands(m, n, k, dtype, turned_a, turned_b, *, extremes=False):
    """Return matrices (m, k) and (k, n), with the vectors that hold them after one other number."""
    shapes = [(k, m) if turned_a else (m, k), (n, k) if turned_b else (k, n)]
    for i, (shape, turned) in enumerate(zip(shapes, (turned_a, turned_b), strict=True)):
        numbers = Key(3).at(i).normal((1 + m * k if i == 0 else 1 + k * n,))
        if extremes:
            vector = with_extremes(numbers, dtype, Key(3).at("x", i))
        else:
            vector = numbers.astype(dtype)
        matrix = vector[1:].reshape(shape)
        yield vector, matrix.T if turned else matrix


@kernel
def filled(loop, a, row_a, column_a, b, row_b, column_b, out, row_out, m, n, k):
    blas.matmul(loop, a, 1, row_a, column_a, b, 1, row_b, column_b, out, 2, row_out, m, n, k)


@has_products
@pytest.mark.parametrize("extremes", [False, True])
@given(
    m=sizes, n=sizes, k=sizes, dtype=st.sampled_from(DTYPES), turned_a=st.booleans(),
    turned_b=st.booleans(),
)  # fmt: skip
@np.errstate(all="ignore")
def test_products_have_the_bits_of_numpy(m, n, k, dtype, turned_a, turned_b, extremes):
    (a, left), (b, right) = operands(m, n, k, dtype, turned_a, turned_b, extremes=extremes)
    products, size = blas.products_of(dtype), m * n
    out = np.full(size + 4, np.nan, dtype)
    blas.dot(products, a, 1, turned_a, b, 1, turned_b, out, 3, m, n, k)
    assert same_bits(out[3:-1].reshape(m, n), left.dot(right))
    out[:] = np.nan
    blas.product(products, a, 1, turned_a, b, 1, turned_b, out, 3, m, n, k)
    assert same_bits(out[3:-1].reshape(m, n), fast.matmul(left, right))
    assert np.isnan(out[[0, 1, 2, -1]]).all()
    row_a, column_a = (1, m) if turned_a else (k, 1)
    row_b, column_b = (1, k) if turned_b else (n, 1)
    out = np.full((m, n + 3), np.nan, dtype)  # a part with other numbers between rows
    filled(products[:2], a, row_a, column_a, b, row_b, column_b, out, n + 3, m, n, k)
    expected = np.full((m, n + 3), np.nan, dtype)
    np.matmul(left, right, expected[:, 2:-1])
    assert same_bits(out, expected)


@has_products
@pytest.mark.parametrize(("m", "n", "k"), [(2, 3, 0), (1, 4, 0), (1, 1, 0), (0, 3, 2), (3, 0, 1)])
def test_products_of_nothing_are_zeros(m, n, k):
    a, b, out = np.ones(m * k + 1), np.ones(k * n + 1), np.full(m * n + 1, np.nan)
    for fill in (blas.dot, blas.product):
        fill(blas.products_of(a.dtype), a, 0, False, b, 0, False, out, 0, m, n, k)
        assert (out[:-1] == 0).all()
        assert np.isnan(out[-1])


LARGE = {
    "in pieces": (20, 209, 229),
    "few rows, in pieces of a column": (64, 5, 8000),
    "one row": (1, 300, 700),
    "one column": (300, 1, 700),
    "one term": (120, 130, 1),
    "many rows": (200, 90, 120),
    "too large for pieces": (64, 400, 400),
}


@has_products
@pytest.mark.parametrize(("m", "n", "k"), LARGE.values(), ids=LARGE)
def test_large_products_have_the_bits_of_fast_arithmetic(m, n, k):
    assert blas.is_a_product(m, n, k)
    for dtype in DTYPES:
        for turned_a in (False, True):
            for turned_b in (False, True):
                (a, left), (b, right) = operands(m, n, k, dtype, turned_a, turned_b)
                out = np.full(m * n, np.nan, dtype)
                products = blas.products_of(dtype)
                blas.product(products, a, 1, turned_a, b, 1, turned_b, out, 0, m, n, k)
                assert out.tobytes() == fast.matmul(left, right).tobytes()


@has_products
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_negative_zero_keeps_its_sign_as_in_fast_arithmetic(dtype):
    a, b, out = np.full((1, 1), -0.0, dtype), np.ones((1, 1), dtype), np.empty(1, dtype)
    blas.product(blas.products_of(dtype), a[0], 0, False, b[0], 0, False, out, 0, 1, 1, 1)
    assert out.tobytes() == fast.matmul(a, b).tobytes()
    assert np.signbit(out[0])


def test_few_rows_by_a_very_large_matrix_are_no_product_of_kernels():
    assert not blas.is_a_product(20, 1000, 1000)
    assert blas.is_a_product(65, 1000, 1000)


@has_products
@given(
    m=st.integers(1, 90),
    n=st.integers(1, 200),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 9),
)
def test_sums_of_rows_have_the_bits_of_fast_arithmetic(m, n, dtype, seed):
    a = Key(seed).normal((m, n)).astype(dtype)
    ones, out = np.ones(blas.FEW_COLUMNS, dtype), np.empty(m, dtype)
    add, products = loop_of(np.add, dtype), blas.products_of(dtype)
    blas.sum_of_rows(products, add, a.reshape(-1), 0, ones, out, 0, m, n)
    assert out.tobytes() == fast.sum(a, axis=1).tobytes()


@has_products
@given(n=st.integers(1, 40_000), dtype=st.sampled_from(DTYPES))
def test_the_product_of_a_vector_with_itself_has_the_bits_of_numpy(n, dtype):
    x, out = Key(n).normal((n,)).astype(dtype), np.empty(1, dtype)
    blas.product(blas.products_of(dtype), x, 0, False, x, 0, False, out, 0, 1, 1, n)
    assert out.tobytes() == x.dot(x).tobytes()


@has_products
def test_a_worked_product():
    a, b, out = np.array([1.0, 2, 3, 4]), np.array([5.0, 6, 7, 8]), np.empty(4)
    blas.product(blas.products_of(a.dtype), a, 0, False, b, 0, True, out, 0, 2, 2, 2)
    assert out.tolist() == [17, 23, 39, 53]  # [[1, 2], [3, 4]] by [[5, 7], [6, 8]]


@pytest.mark.parametrize("dtype", ["i8", "f2", "c16"])
def test_other_dtypes_stay_with_numpy(dtype):
    assert blas.matmul_loop(np.dtype(dtype)) is None
    assert blas.products_of(np.dtype(dtype)) is None


@has_products
def test_another_function_than_that_of_numpy_is_not_called(monkeypatch):
    dtype = np.dtype("f8")
    assert blas._is_equal(np.matmul, np.matmul, dtype)

    def in_other_blocks(a, b, out):  # as another library may compute it
        np.add(np.matmul(a[:, :9], b[:9]), np.matmul(a[:, 9:], b[9:]), out)

    assert not blas._is_equal(in_other_blocks, np.matmul, dtype)
    monkeypatch.setattr(blas, "_is_equal", lambda ours, theirs, dtype: theirs is np.matmul)
    blas.products_of.cache_clear()
    assert blas.products_of(dtype) is None
    blas.products_of.cache_clear()


def test_a_blas_of_unknown_names_is_not_called(monkeypatch):
    monkeypatch.setattr(blas, "_NAMES", ("other_{}",))
    blas.products_of.cache_clear()
    assert blas.products_of(np.dtype("f8")) is None
    blas.products_of.cache_clear()
