import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import numbers

from pydnn import Key, portable
from pydnn.compiled import arithmetics as at
from pydnn.compiled.portable import dense

pytestmark = pytest.mark.slow  # compiling takes seconds

SIZES = st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 8, 9, 13])] * 3)
GAP = 3  # numbers between the arrays, which nobody may read or write
few_bits = st.builds(np.ldexp, st.integers(-9, 9), st.sampled_from([-25, -24, -1, 0, 1]))


def some(shape, name, dtype, *, order=1.0):
    """Numbers of which a third is 0."""
    normal = Key(3).at(name).normal(shape)
    return (np.where(abs(normal) < 0.4, 0.0, normal) * order).astype(dtype)


@np.errstate(all="ignore")  # where Python executes the kernels
def by_kernels(W, b, A, dZ, needed=True):
    """Return whether both passes are certain, with Z, dW, db and dA; an array not filled is NaN."""
    (n_out, n_in), m, dtype = W.shape, A.shape[1], W.dtype
    width = max(n_in, dense.COLUMNS_OF_A_BLOCK)
    stage = np.zeros(dense.DZ_WIDE + 1, np.int64)
    stage[[at.N_IN, at.N_OUT, at.NEEDED]] = n_in, n_out, needed

    def room(dtype, sizes):
        start = GAP
        for place, size in sizes.items():
            stage[place], start = start, start + size + GAP
        return np.full(start, np.nan, dtype)

    def view(memory, place, *shape):
        return memory[stage[place] :][: np.prod(shape)].reshape(shape)

    narrow = room(dtype, {at.Z: dZ.size, at.DA: A.size, at.DZ: dZ.size})
    wide = room(
        np.float64,
        {
            at.TERMS: max(n_out * m, (m + n_out) * width, n_in * m),
            dense.W_WIDE: W.size + n_in + n_out,
            dense.A_WIDE: A.size + n_in + m,
            dense.DZ_WIDE: dZ.size + n_out + m,
        },
    )
    p = room(dtype, {at.W: W.size, at.B: b.size})
    grads, sums = np.full_like(p, np.nan), np.full(dZ.size, np.nan, dtype)
    view(p, at.W, *W.shape)[:], view(p, at.B, *b.shape)[:] = W, b
    x, calls = A.reshape(-1).copy(), np.zeros(1, np.int64)
    x.flags.writeable = False
    kind = "" if dtype == np.float32 else "_by_tree"
    forward, backward = (getattr(dense, name + kind) for name in ("forward", "backward"))
    first = forward(p, stage, m, x, wide, narrow, calls)
    view(narrow, at.DZ, *dZ.shape)[:] = dZ
    second = backward(p, stage, m, x, wide, narrow, sums, grads, calls)
    for memory, sizes in (
        (narrow, {at.Z: dZ.size, at.DA: A.size, at.DZ: dZ.size}),
        (grads, {at.W: W.size, at.B: b.size}),
    ):
        between = np.ones(memory.size, bool)
        for place, size in sizes.items():
            between[stage[place] :][:size] = False
        assert np.isnan(memory[between]).all()
    return (
        (first, second),
        view(narrow, at.Z, *dZ.shape),
        view(grads, at.W, *W.shape),
        view(grads, at.B, *b.shape),
        view(narrow, at.DA, *A.shape),
    )


@np.errstate(all="ignore")
def by_numpy(W, b, A, dZ):
    Z = portable.matmul(W, A) + b
    dW, db = portable.matmul(dZ, A.T), portable.sum(dZ, axis=1)
    return Z, dW, db, portable.matmul(W.T, dZ)


def expect_same(made, expected):
    for one, other in zip(made, expected, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@example_count(200, quick=25)
@given(sizes=SIZES, needed=st.booleans(), exponents=st.tuples(*[st.integers(-30, 30)] * 2))
def test_passes_have_the_bits_of_numpy(dtype, sizes, needed, exponents):
    n_in, n_out, m = sizes
    W, b, A, dZ = (
        some(shape, name, dtype, order=2.0**exponent)
        for name, shape, exponent in (
            ("W", (n_out, n_in), 0), ("b", (n_out, 1), 0),
            ("A", (n_in, m), exponents[0]), ("dZ", (n_out, m), exponents[1]),
        )
    )  # fmt: skip
    sure, Z, dW, db, dA = by_kernels(W, b, A, dZ, needed)
    assert sure == (True, True)
    *expected, dA_expected = by_numpy(W, b, A, dZ)
    expect_same((Z, dW, db), expected)
    if needed:
        expect_same((dA,), (dA_expected,))
    else:
        assert np.isnan(dA).all()


# Sums of products of these numbers are often so near to the middle of two float32 numbers that a
# float64 sum is the middle itself.
NEAR = np.array(
    [0, 1, -1, 1 + 2.0**-12, 2.0**-24, -(2.0**-24), 3 * 2.0**-24, 2.0**-40, -(2.0**-40)]
)


@pytest.mark.parametrize("sizes", [(2, 3, 4), (3, 2, 5), (5, 4, 9), (13, 5, 3)])
def test_sums_that_are_nearly_halfway_between_two_numbers_are_settled(sizes):
    n_in, n_out, m = sizes
    for seed in range(40):
        W, A, dZ = (
            np.take(NEAR, Key(seed).at(name).permuted(10**9, np.arange(size)) % NEAR.size)
            .reshape(shape)
            .astype(np.float32)
            for name, shape, size in (
                ("W", (n_out, n_in), n_out * n_in), ("A", (n_in, m), n_in * m),
                ("dZ", (n_out, m), n_out * m),
            )
        )  # fmt: skip
        # Numbers beside the lengths of rows and columns are zeros, so none can stand for a length.
        W[-1, -1:], A[-1], dZ[-1, 1:] = 0, 0, 0
        b = np.zeros((n_out, 1), np.float32)
        sure, *made = by_kernels(W, b, A, dZ)
        assert sure == (True, True)
        expect_same(made, by_numpy(W, b, A, dZ))


def test_two_terms_may_be_nearly_halfway():
    pair = np.array([[1 + 2.0**-12, 2.0**-40]], np.float32)
    one = np.ones((1, 1), np.float32)
    for W, A, dZ in ((pair, pair.T, one), (one, pair, pair), (pair.T, one, pair.T)):
        bias = np.zeros((len(W), 1), np.float32)
        expect_same(by_kernels(W, bias, A, dZ)[1:], by_numpy(W, bias, A, dZ))


def test_a_sum_that_needs_more_than_twice_the_precision_is_not_certain():
    terms = np.array([1.0, 2.0**-24, 2.0**-80, 2.0**-140, -(2.0**-80)], np.float32)
    ones, b, zeros = np.ones((1, 5), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1))
    assert by_kernels(ones, b, terms[:, np.newaxis], zeros.astype(np.float32))[0] == (False, True)
    A = terms[np.newaxis]
    assert by_kernels(b, b, A, ones)[0] == (True, False)


@pytest.mark.parametrize("k", [1, 3])
def test_results_too_small_for_float32_are_positive_zeros(k):
    W, dZ = (np.full(shape, -(2.0**-80), np.float32) for shape in ((2, k), (2, k)))
    A, b = np.full((k, k), 2.0**-80, np.float32), np.full((2, 1), -0.0, np.float32)
    _, Z, dW, _, dA = by_kernels(W, b, A, dZ)
    expected_Z, expected_dW, _, expected_dA = by_numpy(W, b, A, dZ)
    expect_same((Z, dW, dA), (expected_Z, expected_dW, expected_dA))
    assert not np.signbit(dW).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_negative_zeros_are_positive(dtype):
    W, b, A, dZ = (np.full(shape, -0.0, dtype) for shape in ((2, 3), (2, 1), (3, 4), (2, 4)))
    _, *made = by_kernels(W, b, A, dZ)
    expect_same(made, by_numpy(W, b, A, dZ))
    assert not np.signbit(made[2]).any()


@example_count(400, quick=40)
@given(data=st.data(), sizes=SIZES)
def test_what_is_certain_is_right_and_what_is_not_finite_is_never_certain(data, sizes):
    n_in, n_out, m = sizes
    elements = data.draw(st.sampled_from([few_bits, numbers(np.float32)]))
    W, b, A, dZ = (
        data.draw(arrays(np.float32, shape, elements=elements))
        for shape in ((n_out, n_in), (n_out, 1), (n_in, m), (n_out, m))
    )
    b = np.nan_to_num(b)
    (first, second), Z, dW, _, dA = by_kernels(W, b, A, dZ)
    expected_Z, expected_dW, _, expected_dA = by_numpy(W, b, A, dZ)
    finite = [np.isfinite(array).all() for array in (W, A, dZ)]
    if first:
        assert all(finite[:2])
        expect_same((Z,), (expected_Z,))
    if first and second:
        assert all(finite)
        expect_same((dW, dA), (expected_dW, expected_dA))


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_zeros_times_infinities_are_left_to_the_numpy_path(number):
    W, b, dZ = (np.zeros(shape, np.float32) for shape in ((2, 3), (2, 1), (2, 4)))
    A = np.full((3, 4), number, np.float32)
    assert by_kernels(W, b, A, dZ)[0] == (False, False)
    assert by_kernels(W, b, A[:, :1], dZ[:, :1])[0] == (False, False)
    assert by_kernels(W[:, :1], b, A[:1], dZ)[0] == (False, False)
