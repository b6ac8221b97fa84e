import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key, fast
from pydnn.sweeps.stacked_arithmetic import by_run, gathered, means, norms, products, sums

SIZES = st.sampled_from([1, 2, 3, 7, 8, 16, 17, 31, 64, 130])
DTYPES = st.sampled_from([np.float64, np.float32])


def stack(name, runs, rows, columns, dtype, turned=False):
    shape = (runs, columns, rows) if turned else (runs, rows, columns)
    drawn = Key(5).at(name).normal(shape).astype(dtype)
    return drawn.transpose(0, 2, 1) if turned else drawn


@given(SIZES, SIZES, SIZES, st.booleans(), st.booleans(), st.booleans(), DTYPES)
def test_products_of_a_stack_have_the_bits_of_each(p, q, s, a_turned, b_turned, given_out, dtype):
    a, b = stack("a", 4, p, q, dtype, a_turned), stack("b", 4, q, s, dtype, b_turned)
    out = np.empty((4, p, s), dtype) if given_out else None
    found = products(fast, a, b, out=out)
    own = [
        fast.matmul(x, y, out=np.empty((p, s), dtype) if given_out else None)
        for x, y in zip(a, b, strict=True)
    ]
    assert [matrix.tobytes() for matrix in found] == [matrix.tobytes() for matrix in own]
    assert out is None or found is out


@given(SIZES, SIZES, DTYPES)
def test_sums_means_and_norms_of_a_stack_have_the_bits_of_each(rows, columns, dtype):
    a = stack("a", 4, rows, columns, dtype)
    found = sums(fast, a, out=np.empty((4, rows, 1), dtype))
    assert found.tobytes() == np.stack([fast.sum(m, axis=1) for m in a]).tobytes()
    assert means(fast, a).tolist() == [fast.mean(matrix) for matrix in a]
    vectors = a.reshape(4, -1)
    assert norms(fast, vectors).tolist() == [fast.norm(vector) for vector in vectors]


def test_an_axis_of_stride_0_is_multiplied_without_a_copy():
    X = stack("X", 1, 3, 20, np.float64, turned=True)
    shared = np.broadcast_to(X, (4, 3, 20))
    W = stack("W", 4, 5, 3, np.float64)
    found = products(fast, W, shared)
    assert found.tobytes() == np.stack([fast.matmul(w, X[0]) for w in W]).tobytes()


@pytest.mark.parametrize("factor", [0.0, 1e-200, 1e200])
def test_lengths_at_the_ends_of_the_range_are_those_of_each(factor):
    rows = stack("rows", 3, 1, 5, np.float64)[:, 0] * np.array([[factor], [1.0], [factor]])
    with np.errstate(over="ignore"):
        assert norms(fast, rows).tolist() == [fast.norm(row) for row in rows]


def test_an_arithmetic_with_other_bits_is_called_for_each_training():
    # Its numbers differ from those of NumPy, so computing the stack in one call would show.
    other = attrs.evolve(
        fast,
        matmul=lambda a, b, *, out=None: np.multiply(fast.matmul(a, b), 3, out=out),
        sum=lambda a, *, axis, out=None: np.multiply(fast.sum(a, axis=axis), 3, out=out),
        mean=lambda a: 3 * fast.mean(a),
        norm=lambda vector: 3 * fast.norm(vector),
    )
    a, b = stack("a", 4, 5, 6, np.float64), stack("b", 4, 6, 7, np.float64)
    np.testing.assert_array_equal(products(other, a, b), 3 * products(fast, a, b))
    into = products(other, a, b, out=np.empty((4, 5, 7)))
    np.testing.assert_array_equal(into, 3 * products(fast, a, b))
    tripled = sums(other, a, out=np.empty((4, 5, 1)))
    np.testing.assert_array_equal(tripled, 3 * sums(fast, a, out=np.empty((4, 5, 1))))
    assert means(other, a).tolist() == (3 * means(fast, a)).tolist()
    assert norms(other, a[:, 0]).tolist() == (3 * norms(fast, a[:, 0])).tolist()


def test_gathered_matrices_keep_their_order_in_memory():
    plain = [np.arange(6.0).reshape(2, 3), np.ones((2, 3))]
    turned = [np.asfortranarray(matrix) for matrix in plain]
    for matrices, flag in ((plain, "C_CONTIGUOUS"), (turned, "F_CONTIGUOUS")):
        found = gathered(matrices)
        np.testing.assert_array_equal(found, plain)
        assert found[1].flags[flag]
    assert by_run(found).shape == (2, 2, 3)
