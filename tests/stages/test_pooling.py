"""Check pools against numbers by hand and against loops over windows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Context,
    Key,
    average_pool,
    fast,
    flatten,
    global_average_pool,
    global_max_pool,
    max_pool,
    portable,
    relu,
    serial,
)
from pydnn.stages import pooling
from pydnn.stages.windows import Windows
from pydnn.testing import check_gradients
from pydnn.testing.onnx import assert_onnx

EVALUATION = Context()
STAGES = {
    "max": (max_pool(2), (5, 4, 3)),
    "max, overlapping": (max_pool(3, stride=(1, 2), padding=(1, 2)), (4, 5, 1)),
    "max of steps": (max_pool(3, stride=2, padding="same"), (8, 2)),
    "average": (average_pool((2, 3)), (5, 6, 1)),
    "average, gaps": (average_pool(2, stride=3), (7, 5, 1)),
    "average, overlapping": (average_pool(3, stride=2, padding="same"), (4, 5, 2)),
    "average with padding": (
        average_pool(3, stride=2, padding=[(2, 1), 0], count_padding=True),
        (4, 5, 1),
    ),
    "average of steps": (average_pool(2, stride=1, padding=[(0, 1)]), (4, 2)),
    "global average": (global_average_pool(), (3, 4, 2)),
    "global average of steps": (global_average_pool(), (5, 2)),
    "global max": (global_max_pool(), (3, 4, 2)),
    "global max of steps": (global_max_pool(), (5, 2)),
}
every_stage = pytest.mark.parametrize(("stage", "shape"), STAGES.values(), ids=STAGES)


def image(*rows):
    """Return the rows as one image of one channel."""
    return np.array(rows, float)[..., np.newaxis, np.newaxis]


def both(stage, X, dA=None, context=EVALUATION):
    """Return the output and dA_prev of a stage for one image of one channel."""
    A, cache = stage.forward((), X, context)
    gradient = np.ones_like(A) if dA is None else dA
    return A[..., 0, 0], stage.backward((), cache, gradient)[0][..., 0, 0]


@every_stage
def test_gradients_agree_with_finite_differences(stage, shape):
    check_gradients(stage, shape_in=shape, examples=2, entries=16)


@every_stage
def test_onnx_gives_the_same(stage, shape):
    pytest.importorskip("onnx")
    assert_onnx(stage, shape_in=shape, examples=2)


@every_stage
@pytest.mark.parametrize("numerics", [EVALUATION.numerics, portable], ids=["fast", "portable"])
def test_neither_blocks_nor_memory_order_change_a_bit(stage, shape, numerics, monkeypatch):
    context = Context(numerics=numerics)
    X = Key(1).normal((*shape, 4))
    other = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, -1, 0)), 0, -1)  # example by example
    A, cache = stage.forward((), X, context)
    dA = Key(2).normal(A.shape)
    dX, _ = stage.backward((), cache, dA)
    monkeypatch.setattr(pooling, "_BLOCK", 1)
    A_other, cache = stage.forward((), other, context)
    dX_other, _ = stage.backward((), cache, np.asfortranarray(dA))
    np.testing.assert_array_equal(A_other, A)
    np.testing.assert_array_equal(dX_other, dX)
    assert A_other.flags.c_contiguous
    assert dX_other.flags.c_contiguous


def test_max_pool_by_hand():
    X = image([1, 5, 2], [4, 3, 9], [7, 8, 6])
    A, dX = both(max_pool(2, stride=1), X, image([1, 2], [3, 4]))
    np.testing.assert_array_equal(A, [[5, 9], [8, 9]])
    np.testing.assert_array_equal(dX, [[0, 1, 0], [0, 0, 6], [0, 3, 0]])  # 2 and 4 add up
    A, dX = both(max_pool(2), X)  # the last row and column fill no window
    np.testing.assert_array_equal(A, [[5]])
    np.testing.assert_array_equal(dX, [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    A, _ = both(max_pool(2, padding="same"), -X)  # padding is not the largest number
    np.testing.assert_array_equal(A, [[-1, -2], [-7, -6]])


def test_the_gradient_goes_to_the_first_of_equal_maxima():
    A, dX = both(max_pool(2), image([0, 0, 1, 2], [0, 0, 2, 2]), image([5, 7]))
    np.testing.assert_array_equal(A, [[0, 2]])
    np.testing.assert_array_equal(dX, [[5, 0, 0, 7], [0, 0, 0, 0]])
    _, dX = both(max_pool(2), image([0, 3], [3, 0]))  # row by row: above before left
    np.testing.assert_array_equal(dX, [[0, 1], [0, 0]])
    _, dX = both(max_pool(2), image([-0.0, 0.0]).swapaxes(0, 1).repeat(2, axis=1))
    np.testing.assert_array_equal(dX, [[1, 0], [0, 0]])
    X = np.array([[1.0, 3.0, 3.0, 2.0]]).T[..., np.newaxis]
    A, cache = global_max_pool().forward((), X, EVALUATION)
    dX, _ = global_max_pool().backward((), cache, np.array([[4.0]]))
    np.testing.assert_array_equal(dX.ravel(), [0, 4, 0, 0])


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
@pytest.mark.parametrize("stage", [max_pool(2), max_pool(2, stride=1), global_max_pool()], ids=str)
def test_an_infinite_gradient_stays_where_it_belongs(stage, numerics):
    X = np.arange(16.0).reshape(4, 4, 1, 1)
    context = Context(numerics=numerics)
    A, cache = stage.forward((), X, context)
    finite, _ = stage.backward((), cache, np.ones(A.shape))
    dX, _ = stage.backward((), cache, np.full(A.shape, -np.inf))
    np.testing.assert_array_equal(dX, np.where(finite > 0, -np.inf, 0))


def test_the_gradient_checker_looks_beside_ties():
    X = np.round(Key(3).normal((6, 6, 2, 3)))  # most windows have several maxima
    check_gradients(max_pool(2), A_prev=X)
    check_gradients(max_pool(3, stride=2), A_prev=X)
    check_gradients(global_max_pool(), A_prev=X)
    check_gradients(serial(relu(), max_pool(2), flatten()), A_prev=X - 0.3)


def test_average_pool_by_hand():
    X = image([1, 5, 2], [4, 2, 9], [7, 8, 6])
    A, dX = both(average_pool(2, stride=1), X, image([4, 8], [12, 16]))
    np.testing.assert_array_equal(A, [[3, 4.5], [5.25, 6.25]])
    np.testing.assert_array_equal(dX, [[1, 3, 2], [4, 10, 6], [3, 7, 4]])
    A, _ = both(average_pool(2, padding="same"), X)
    np.testing.assert_array_equal(A, [[3, 5.5], [7.5, 6]])
    A, dX = both(average_pool(2, padding="same", count_padding=True), X, image([4, 4], [4, 4]))
    np.testing.assert_array_equal(A, [[3, 2.75], [3.75, 1.5]])
    np.testing.assert_array_equal(dX, np.ones((3, 3)))


def test_a_nan_in_a_window_gives_nan():
    X = image([1, 2, 3, 4], [5, math.nan, 7, 8])
    for stage in (max_pool(2), average_pool(2)):
        A, _ = both(stage, X)
        np.testing.assert_array_equal(np.isnan(A), [[True, False]])
    for stage in (global_max_pool(), global_average_pool()):
        assert np.isnan(stage.forward((), X, EVALUATION)[0]).all()


def test_portable_maxima_have_no_negative_zero():
    X = np.full((4, 4, 1, 1), -0.0)
    for stage in (max_pool(2), global_max_pool()):
        A, _ = stage.forward((), X, Context(numerics=portable))
        assert not np.signbit(A).any()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_pools_agree_with_loops_over_windows(data):
    places = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=2)))
    size = [data.draw(st.integers(1, 3)) for _ in places]
    stride = [data.draw(st.integers(1, 4)) for _ in places]
    padding = [tuple(data.draw(st.integers(0, n - 1)) for _ in "ab") for n in size]
    count_padding = data.draw(st.booleans())
    X = np.round(Key(data.draw(st.integers(0, 99))).normal((*places, 2, 2)))  # with ties
    stages = {
        "max": max_pool(size, stride=stride, padding=padding),
        "mean": average_pool(size, stride=stride, padding=padding, count_padding=count_padding),
    }
    try:
        axes = Windows.of(size, stride=stride, padding=padding).over((*places, 2))
    except BadInput:
        for stage in stages.values():
            with pytest.raises(BadInput, match="a window reaches over"):
                stage.init(Key(0), (*places, 2))
        return
    dA = np.round(4 * Key(5).normal((*(axis.count for axis in axes), 2, 2)))
    for kind, stage in stages.items():
        A, cache = stage.forward((), X, EVALUATION)
        dX, _ = stage.backward((), cache, dA)
        expected_A, expected_dX = np.empty_like(dA), np.zeros_like(X)
        for window in np.ndindex(dA.shape):
            cells = []
            for offsets in itertools.product(*(range(axis.size) for axis in axes)):
                at = [
                    w * axis.stride + offset - axis.before
                    for w, offset, axis in zip(window, offsets, axes, strict=False)
                ]
                if all(0 <= p < n for p, n in zip(at, places, strict=True)):
                    cells.append((*at, *window[-2:]))
            numbers = [X[cell] for cell in cells]
            if kind == "max":
                expected_A[window] = max(numbers)
                expected_dX[cells[int(np.argmax(numbers))]] += dA[window]
            else:
                n = math.prod(size) if count_padding else len(cells)
                expected_A[window] = sum(numbers) / n
                for cell in cells:
                    expected_dX[cell] += dA[window] / n
        np.testing.assert_allclose(A, expected_A, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(dX, expected_dX, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("stage", [global_average_pool(), global_max_pool()], ids=repr)
@pytest.mark.parametrize("numerics", [EVALUATION.numerics, portable], ids=["fast", "portable"])
def test_padding_of_sequences_changes_no_bit(stage, numerics):
    X = Key(4).normal((7, 3, 4))
    lengths = np.array([7, 1, 4, 6])
    context = Context(numerics=numerics, lengths=lengths)
    A, cache = stage.forward((), X, context)
    dA = Key(5).normal(A.shape)
    dX, _ = stage.backward((), cache, dA)
    for i, length in enumerate(lengths):
        alone, cache = stage.forward((), X[:length, :, [i]], Context(numerics=numerics))
        dX_alone, _ = stage.backward((), cache, dA[:, [i]])
        np.testing.assert_array_equal(A[:, [i]], alone)
        np.testing.assert_array_equal(dX[:length, :, [i]], dX_alone)
        assert not dX[length:, :, i].any()
    X_other = X.copy()
    X_other[5:, :, 2] = math.nan  # padding may hold anything
    np.testing.assert_array_equal(stage.forward((), X_other, context)[0], A)


REFUSED = {
    "no size": (lambda: max_pool(0), "size is 0, expected an integer of at least 1"),
    "a truth value": (lambda: average_pool(True), "size is True, expected an integer"),
    "a float": (lambda: max_pool(2, stride=2.0), "stride is 2.0, expected an integer"),
    "negative": (lambda: max_pool(2, padding=-1), "padding is -1"),
    "count_padding": (
        lambda: average_pool(2, count_padding=1),
        "count_padding is 1, expected True or False",
    ),
    "a huge window": (lambda: max_pool(10**12).init(Key(0), (8, 8, 1)), "reaches over 10+ places"),
    "a large window": (lambda: average_pool(9).init(Key(0), (8, 8, 1)), "reaches over 9 places"),
    "padding alone": (
        lambda: max_pool(2, padding=2).init(Key(0), (8, 8, 1)),
        r"padding of 2 \+ 2 along axis 0 is not smaller than the windows of 2",
    ),
    "huge padding": (
        lambda: average_pool(2, padding=[0, 10**9]).init(Key(0), (8, 8, 1)),
        "give less padding",
    ),
    "in forward": (
        lambda: max_pool(3).forward((), np.ones((2, 2, 1, 1)), EVALUATION),
        "reaches over 3 places",
    ),
    "flat": (lambda: max_pool(2).init(Key(0), (784,)), r"e\.g\. reshape\(28, 28, 1\)"),
    "flat, global": (lambda: global_max_pool().init(Key(0), (784,)), r"reshape\(28, 28, 1\)"),
    "lengths of images": (
        lambda: global_max_pool().forward(
            (), np.ones((2, 2, 1, 1)), Context(lengths=np.array([2]))
        ),
        "images got lengths",
    ),
    "lengths": (
        lambda: serial(max_pool(2)).forward(
            ((),), np.ones((4, 1, 2)), Context(lengths=np.array([2, 4]))
        ),
        r"stage 0 \(max_pool\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(BadInput, match=message):
        call()
