import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn.compiled import ufuncs
from pydnn.compiled.kernels import kernel
from pydnn.compiled.ufuncs import (
    apply,
    apply_to_pairs,
    loop_of,
    reduce,
    sum_of,
    sum_of_columns,
)

DTYPES = [np.dtype("f4"), np.dtype("f8")]
UNARY = [np.exp, np.expm1, np.log, np.log1p, np.tanh]

dtypes = st.sampled_from(DTYPES)


@st.composite
def vectors(draw, *, least=1, most=300, finite=False):
    dtype = draw(dtypes)
    options = {"allow_nan": not finite, "allow_infinity": not finite, "width": 8 * dtype.itemsize}
    return draw(arrays(dtype, st.integers(least, most), elements=st.floats(**options)))


@kernel
def applied(loop, x, at_x, y, at_y, count):
    apply(loop, x, at_x, y, at_y, count)


@kernel
def combined(loop, x, y, step, out):
    apply_to_pairs(loop, x, 0, y, 0, step, out, 0, out.size)


@kernel
def reduced(loop, x, total):
    total[0] = x[0]
    reduce(loop, x, 1, x.size - 1, total, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ufunc", [*UNARY, np.add, np.maximum], ids=lambda ufunc: ufunc.__name__)
def test_all_loops_of_training_are_found(ufunc, dtype):
    # Should a later NumPy change what is read here, it does all the work, and this test says so.
    assert loop_of(ufunc, dtype) is not None


@pytest.mark.parametrize("ufunc", UNARY, ids=lambda ufunc: ufunc.__name__)
@given(x=vectors(), data=st.data())
@np.errstate(all="ignore")
def test_functions_of_parts_have_the_bits_of_numpy(ufunc, x, data):
    at = data.draw(st.integers(0, x.size - 1))
    count = data.draw(st.integers(0, x.size - at))
    y, loop = np.full(x.size, 7, x.dtype), loop_of(ufunc, x.dtype)
    applied(loop, x, at, y, 0, count)
    expected = ufunc(x[at : at + count])
    assert y[:count].tobytes() == expected.tobytes()
    assert (y[count:] == 7).all()
    applied(loop, x, at, x, at, count)  # in place
    assert x[at : at + count].tobytes() == expected.tobytes()


@given(x=vectors(), seed=st.integers(0, 99), step=st.integers(0, 1))
@np.errstate(all="ignore")
def test_functions_of_pairs_have_the_bits_of_numpy(x, seed, step):
    y, out = np.random.default_rng(seed).permutation(x), np.empty_like(x)
    for ufunc in (np.maximum, np.add):
        combined(loop_of(ufunc, x.dtype), x, y, step, out)
        assert out.tobytes() == ufunc(x, y if step else y[0]).tobytes()


@given(x=vectors(most=1100), data=st.data())
@np.errstate(all="ignore")
def test_sums_and_maxima_have_the_bits_of_numpy(x, data):
    total, add = np.empty(1, x.dtype), loop_of(np.add, x.dtype)
    reduced(loop_of(np.maximum, x.dtype), x, total)
    assert total.tobytes() == np.maximum.reduce(x).tobytes()
    sum_of(add, x, 0, x.size, total, 0)
    assert total.tobytes() == np.add.reduce(x).tobytes()
    n = data.draw(st.integers(1, x.size))
    matrix = x[: x.size // n * n].reshape(-1, n)
    sums = np.empty(n, x.dtype)
    sum_of_columns(add, x, 0, sums, 0, len(matrix), n)
    assert sums.tobytes() == np.add.reduce(matrix).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_column_is_summed_in_pairs(dtype):
    x, total = np.random.default_rng(0).normal(size=3000).astype(dtype), np.empty(1, dtype)
    sum_of_columns(loop_of(np.add, dtype), x, 0, total, 0, x.size, 1)
    assert total.tobytes() == np.add.reduce(x[:, np.newaxis]).tobytes()
    assert total[0] != np.cumsum(x)[-1]  # one after the other


def test_a_sum_of_negative_zeros_and_one_of_long_rows():
    add, x = loop_of(np.add, np.dtype("f4")), np.full(2, -0.0, "f4")
    total = np.empty(1, "f4")
    sum_of(add, x, 0, 2, total, 0)
    assert total[0] == 0
    assert not np.signbit(total[0])
    x = np.random.default_rng(0).normal(size=100_003).astype("f4")
    sum_of(add, x, 3, 100_000, total, 0)
    assert total[0] == np.add.reduce(x[3:])


@pytest.mark.parametrize("ufunc", [np.exp, np.add], ids=lambda ufunc: ufunc.__name__)
def test_another_loop_than_that_of_the_ufunc_is_not_called(ufunc, monkeypatch):
    wrong = {np.exp: np.expm1, np.add: np.subtract}[ufunc]
    other = ufuncs.uncompared_loop(wrong, np.dtype("f8"))
    monkeypatch.setattr(ufuncs, "uncompared_loop", lambda ufunc, dtype: other)
    assert loop_of.__wrapped__(ufunc, np.dtype("f8")) is None


@pytest.mark.parametrize("dtype", ["i8", "f2", "c16", np.dtype("f8").newbyteorder()])
def test_other_dtypes_stay_with_numpy(dtype):
    assert loop_of(np.exp, np.dtype(dtype)) is None


def test_a_numpy_with_other_fields_does_the_work(monkeypatch):
    class Longer(ctypes.Structure):
        _fields_ = [("more", ctypes.c_int * 2), *ufuncs._Head._fields_]

    monkeypatch.setattr(ufuncs, "_Head", Longer)
    assert ufuncs.uncompared_loop(np.exp, np.dtype("f8")) is None


def test_flags_that_a_kernel_leaves_raise_nothing_in_later_calls_of_numpy():
    loop = loop_of(np.exp, np.dtype("f8"))
    x, y = np.array([1e4, np.inf, -1e4, np.nan]), np.empty(4)
    ones, matrix = np.ones(3), np.ones((3, 3))
    calls = [
        lambda: ones + ones, lambda: ones * 2.0, lambda: ones.sum(), lambda: ones.dot(ones),
        lambda: matrix.dot(matrix), lambda: np.matmul(matrix, matrix), lambda: np.exp(ones),
        lambda: np.maximum(ones, 0), lambda: ones[0] * ones[1], lambda: np.sqrt(ones),
        lambda: ones.astype("f4"), lambda: np.isfinite(ones).all(), lambda: ones > 0.5,
        lambda: np.linalg.qr(matrix), lambda: np.float32(1) + np.float32(2), lambda: ones.mean(),
        lambda: float(ones[0]) * 2, lambda: np.add.reduce(matrix, axis=0),
    ]  # fmt: skip
    with np.errstate(all="raise"):
        for call in calls:
            applied(loop, x, 0, y, 0, 4)  # overflow and underflow
            call()
