import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn.compiled.arithmetics import COLUMNS, DA, DZ, N_IN, N_OUT, NEEDED, TURNED, B, Z
from pydnn.compiled.fast.dense import ONES, backward, forward
from pydnn.compiled.fast.step import in_fast
from pydnn.numerics.fast import FEW_COLUMNS
from pydnn.stages.dense import DenseParams, dense_backward_into, dense_forward

DTYPES = [pytest.param(np.float32, marks=pytest.mark.slow), np.float64]
SIZES = st.integers(1, 20) | st.sampled_from([64, 65, 127, 128, 129, 130])
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -2.5, 1e-30, 2.0**-149]) | st.floats(-9, 9, width=32)


def by_kernels(W_, b, X, dZ_):
    """Z, dW, db and dA, each with the shape that it has in NumPy."""
    (n_out, n_in), m, dtype = W_.shape, X.shape[1], X.dtype
    x, turned = in_fast.as_vector(X)
    sizes = {Z: n_out * m, DZ: n_out * m, DA: n_in * m, ONES: FEW_COLUMNS}
    narrow = np.ones(sum(sizes.values()), dtype)
    stage = np.zeros(COLUMNS, np.int64)
    stage[[N_IN, N_OUT, NEEDED, TURNED, B]] = n_in, n_out, 1, turned, n_out * n_in
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    for place, start in starts.items():
        stage[place] = start
    p, grads = np.concatenate([W_.ravel(), b.ravel()]), np.empty(W_.size + b.size, dtype)
    for array in (p, x):
        array.flags.writeable = False
    narrow[starts[DZ] : starts[DZ] + n_out * m] = dZ_.ravel()
    rest = narrow[:0].view(np.float64), narrow
    assert forward(p, stage, m, x, *rest, in_fast.calls(dtype))
    assert backward(p, stage, m, x, *rest, narrow, grads, in_fast.calls(dtype))
    made = [narrow[starts[place] : starts[place] + sizes[place]] for place in (Z, DA)]
    return [made[0], grads[: W_.size], grads[W_.size :], made[1]]


@pytest.mark.parametrize("dtype", DTYPES)
@example_count(500, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_the_stage(dtype, data):
    n_in, n_out, m = data.draw(SIZES), data.draw(SIZES), data.draw(SIZES)
    some = data.draw(arrays(dtype, 37, elements=NUMBERS))
    W_, b, X, dZ_ = (
        np.resize(some[::step], shape)
        for step, shape in ((1, (n_out, n_in)), (-1, (n_out, 1)), (3, (n_in, m)), (5, (n_out, m)))
    )
    X = np.asarray(X, order=data.draw(st.sampled_from("CF")))
    params = DenseParams(W_, b)
    expected, cache = dense_forward(params, X, nn.Context(numerics=nn.fast))
    dW, db = np.empty_like(W_), np.empty_like(b)
    dA = dense_backward_into(params, cache, dZ_, (dW, db), True)
    made = by_kernels(W_, b, X, dZ_)
    assert [a.tobytes() for a in made] == [a.tobytes() for a in (expected, dW, db, dA)]


def test_a_worked_example():
    Z_, dW, db, dA = by_kernels(
        np.array([[1.0, 2.0]]), np.array([[0.5]]), np.array([[3.0], [4.0]]), np.array([[2.0]])
    )
    assert [*Z_, *dW, *db, *dA] == [11.5, 6.0, 8.0, 2.0, 2.0, 4.0]


def test_examples_in_neither_order_and_very_large_operands_are_refused():
    X = np.ones((6, 6))
    assert in_fast.as_vector(X[::2]) is None
    assert in_fast.as_vector(X[:, :3]) is None
    assert in_fast.suits([(20, 30)], 50, np.dtype("f8"))
    assert not in_fast.suits([(20, 30)], 1 << 20, np.dtype("f8"))
