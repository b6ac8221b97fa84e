"""Check the order of numbers, the edges, and what is refused, of stages that only move numbers."""

import numpy as np
import pytest

from pydnn import BadInput, Context, Key, flatten, serial
from pydnn.stages import crop, pad, reshape
from pydnn.testing import check_gradients
from pydnn.testing.onnx import assert_onnx

EVALUATION = Context()
STAGES = {
    "reshape": (reshape(2, 3, 2), (12,)),
    "reshape, the rest": (reshape(4, -1), (2, 2, 3)),
    "reshape, one number": (reshape(1, -1, 1), (1,)),
    "flatten": (flatten(), (2, 3, 2)),
    "flatten a column": (flatten(), (3,)),
    "crop": (crop(1), (4, 3, 2)),
    "crop nothing": (crop(0), (4, 2)),
    "crop sides": (crop(((1, 0), (0, 2))), (3, 4, 1)),
    "crop steps": (crop([(2, 1)]), (5, 2)),
    "pad": (pad(2), (2, 3, 2)),
    "pad sides": (pad([1, (0, 2)]), (1, 2, 3)),
    "pad steps": (pad([(3, 0)]), (2, 2)),
}


@pytest.mark.parametrize(("stage", "shape"), STAGES.values(), ids=STAGES)
def test_gradients_agree_with_finite_differences(stage, shape):
    check_gradients(stage, shape_in=shape, examples=2, entries=16)


@pytest.mark.parametrize(("stage", "shape"), STAGES.values(), ids=STAGES)
def test_onnx_gives_the_same(stage, shape):
    pytest.importorskip("onnx")
    assert_onnx(serial(stage, flatten()), shape_in=shape, examples=2)


def test_columns_of_photos_become_the_photos_without_a_copy():
    photos = np.arange(5 * 4 * 3 * 2.0).reshape(5, 4, 3, 2)  # five photos of 4 x 3 places
    X = np.ascontiguousarray(photos.reshape(5, -1).T)
    A, cache = reshape(4, 3, 2).forward((), X, EVALUATION)
    assert np.shares_memory(A, X)
    assert A.flags.c_contiguous
    np.testing.assert_array_equal(A, np.moveaxis(photos, 0, -1))
    back, _ = flatten().forward((), A, EVALUATION)
    assert np.shares_memory(back, X)
    np.testing.assert_array_equal(back, X)
    dX, _ = reshape(4, 3, 2).backward((), cache, A)
    np.testing.assert_array_equal(dX, X)


@pytest.mark.parametrize("name", STAGES)
def test_the_memory_order_of_the_input_changes_nothing(name):
    stage, shape = STAGES[name]
    X = Key(1).normal((*shape, 4))
    other = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, -1, 0)), 0, -1)  # example by example
    np.testing.assert_array_equal(*(stage.forward((), each, EVALUATION)[0] for each in (X, other)))


def test_crop_and_pad_move_edges_by_hand():
    X = np.arange(1.0, 7.0).reshape(2, 3, 1, 1)
    A, cache = pad(((0, 1), (1, 0))).forward((), X, EVALUATION)
    np.testing.assert_array_equal(A[..., 0, 0], [[0, 1, 2, 3], [0, 4, 5, 6], [0, 0, 0, 0]])
    dX, _ = pad(((0, 1), (1, 0))).backward((), cache, 2 * A)
    np.testing.assert_array_equal(dX, 2 * X)
    A, cache = crop(((1, 0), (0, 1))).forward((), X, EVALUATION)
    np.testing.assert_array_equal(A[..., 0, 0], [[4, 5]])
    dX, _ = crop(((1, 0), (0, 1))).backward((), cache, A)
    np.testing.assert_array_equal(dX[..., 0, 0], [[0, 0, 0], [4, 5, 0]])


REFUSED = {
    "too many numbers": (
        lambda: reshape(64, 64, 3).init(Key(0), (784,)),
        r"\(784,\), which is 784 numbers, but reshape\(64, 64, 3\) takes 12288",
    ),
    "no whole rest": (
        lambda: reshape(-1, 5).init(Key(0), (784,)),
        r"reshape\(-1, 5\) takes a multiple of 5",
    ),
    "in forward": (lambda: reshape(5).forward((), np.ones((4, 2)), EVALUATION), "takes 5"),
    "two rests": (lambda: reshape(-1, -1), "-1 for 2 sizes, expected at most one"),
    "no sizes": (lambda: reshape(), "reshape got 0 sizes, expected 1 to 8"),
    "many sizes": (lambda: reshape(*[1] * 9), "reshape got 9 sizes"),
    "zero": (lambda: reshape(0, 3), "a size of reshape is 0, expected an integer of at least 1"),
    "a float": (lambda: reshape(2.0), "a size of reshape is 2.0, expected an integer"),
    "a truth value": (lambda: reshape(True), "a size of reshape is True, expected an integer"),
    "a list": (lambda: reshape((2, 3)), r"a size of reshape is \(2, 3\), expected an integer"),
    "huge": (lambda: reshape(10**12, 10**12).init(Key(0), (4,)), "takes 1000000000000000000000000"),
    "crop all": (lambda: crop(2).init(Key(0), (4, 9, 1)), "crop leaves no place along axis 0"),
    "crop a lot": (lambda: crop(10**12).init(Key(0), (4, 9, 1)), "crop leaves no place"),
    "pad a lot": (lambda: pad(10**12).init(Key(0), (4, 9, 1)), "more than any machine holds"),
    "negative": (lambda: pad(-1), "places of pad is -1, expected an integer of at least 0"),
    "a triple": (lambda: pad([(1, 2, 3)]), r"places of pad has \(1, 2, 3\) for one axis"),
    "flat": (lambda: pad(1).init(Key(0), (784,)), r"e\.g\. reshape\(28, 28, 1\)"),
    "axes": (lambda: crop([1]).init(Key(0), (4, 4, 1)), "crop has 1 entries.* expected 2"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(BadInput, match=message):
        call()
