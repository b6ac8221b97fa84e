import os
import random

import attrs
import numpy as np
import pytest
from helpers import frozen
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch, Key, gradient_descent, mean_squared, relu
from pydnn.parameters import pack
from pydnn.records import freeze
from pydnn.stages.dense import DenseParams
from pydnn.testing import (
    BrokenLaw,
    assert_gradient_transformation,
    assert_loss,
    assert_pure,
    assert_schedule,
    assert_stage,
    assert_train_step,
)
from pydnn.testing.nested import LAYOUTS, difference, in_layout, snapshot

X = np.arange(6.0).reshape(2, 3)
COUNTED = []


def double(x):
    return freeze(2 * x)


def test_assert_pure_returns_the_functions_result():
    np.testing.assert_array_equal(assert_pure(double, X), 2 * X)
    assert X.flags.writeable
    assert_pure(double, frozen(X[:0]))


def counting(x):
    COUNTED.append(1)
    return freeze(x * len(COUNTED))


def deep(x, nested):
    nested[0]["y"].W[...] = 0
    return double(x)


def to_list(x, items):
    items.append(1)
    return double(x)


def thawing(x):
    x.flags.writeable = True
    return double(x)


@attrs.frozen
class Pair:
    first: object
    second: object


PARAMS = DenseParams([[1.0, 2.0]], [[3.0]])
IMPURE = {
    "another result": (counting, (X,), r"called twice with the same arguments, result\[0, 1\] is"),
    "an argument, deep": (
        deep, (X, ({"y": PARAMS},)), r"argument nested: nested\[0\]\['y'\]\.W\[0, 0\]",
    ),
    "a list": (to_list, (X, []), r"changes its argument items: items\[0\] is there only after"),
    "flags": (freeze, (X,), "changes its argument array: its caller cannot write"),
    "writable": (lambda x: 2 * x, (X,), "returns result, which can be written to: freeze it"),
    "writable, deep": (
        lambda x: Pair(1, (2 * x,)), (X,), r"returns result\.second\[0\], which can",
    ),
    "writable, in a closure": (
        lambda x: (lambda y=2 * x: lambda: y)(), (X,), r"returns result\(\)\.y, which can be",
    ),
    "shared": (lambda x: freeze(x[1:]), (X,), "result, which shares memory with its argument x"),
    "NumPy's random state": (
        lambda x: np.random.rand(), (X,), "NumPy's global random state",  # noqa: NPY002
    ),
    "Python's random state": (lambda x: random.random(), (X,), "Python's global random state"),
    "error state": (lambda x: np.seterr(over="ignore"), (X,), r"error state \(np\.seterr\)"),
    "buffer": (lambda x: np.setbufsize(16384), (X,), r"buffer size \(np\.setbufsize\)"),
    "printing": (lambda x: np.set_printoptions(precision=3), (X,), "NumPy's print options"),
    "environment": (lambda x: os.environ.update(PYDNN_X="1"), (X,), r"the environment \(os"),
    "directory": (lambda x: os.chdir("/"), (X,), "the working directory"),
    "order": (
        lambda x: freeze(x.ravel(order="K").copy()), (X,), "memory layout of x: in Fortran order",
    ),
    "strides": (lambda x: float(x.strides[0]), (X,), "layout of x: .* result is 8"),
}  # fmt: skip


@pytest.mark.parametrize(("function", "args", "message"), IMPURE.values(), ids=IMPURE)
def test_an_impure_function_is_refused_and_global_state_is_restored(function, args, message):
    before = (np.geterr(), np.getbufsize(), dict(os.environ), os.getcwd(), random.getstate())
    with pytest.raises(BrokenLaw, match=message):
        assert_pure(function, *args)
    after = (np.geterr(), np.getbufsize(), dict(os.environ), os.getcwd(), random.getstate())
    assert after == before  # changes of global state were undone
    assert X.flags.writeable
    np.testing.assert_array_equal(X, np.arange(6.0).reshape(2, 3))


def test_shares_allows_shared_memory():
    assert_pure(lambda x: (freeze(x.view()), double(x)), frozen(X), shares=["result[0]"])


def test_layout_tolerance_0_requires_the_same_bits():
    assert_pure(double, X, layout_tolerance=0)
    uneven = Key(1).normal((701, 41))
    with pytest.raises(BrokenLaw, match="in Fortran order"):
        assert_pure(lambda x: freeze(x.sum(axis=1)), uneven, layout_tolerance=1e-30)


@given(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(sorted(LAYOUTS)))
def test_values_are_the_same_in_every_memory_layout(shape, layout):
    value = {"x": (np.arange(float(np.prod(shape))).reshape(shape), PARAMS, pack(PARAMS), 3)}
    moved = in_layout(value, layout)
    assert difference(snapshot(value, "v"), snapshot(moved, "v")) is None
    assert not np.shares_memory(moved["x"][0], value["x"][0])


def test_zero_and_minus_zero_have_different_bits():
    mismatch = difference(snapshot(np.array([0.0])), snapshot(np.array([-0.0])))
    assert mismatch == " has other bits in numbers that are equal"


def raising(x):
    raise KeyError("no\nsuch thing")


REFUSED = {
    "what raises": (lambda: assert_pure(raising, X), r"the function raised KeyError: 'no\\nsuch"),
    "a builder instead of a stage": (lambda: assert_stage(relu), "expected a stage"),
    "float32 for a stage": (
        lambda: assert_stage(relu(), A_prev=X.astype(np.float32)), "A_prev is float32, expected",
    ),
    "a stage instead of a loss": (lambda: assert_loss(relu()), "expected a loss"),
    "labels that do not fit": (
        lambda: assert_loss(mean_squared(), AL=X, Y=X[:1]),
        r"loss mean_squared does not take what it is tried with: Y has shape \(1, 3\)",
    ),
    "a stage instead of a transformation": (
        lambda: assert_gradient_transformation(relu()), "expected a gradient transformation",
    ),
    "float32 parameters": (
        lambda: assert_gradient_transformation(
            gradient_descent(learning_rate=1.0), params=pack(PARAMS, dtype=np.float32)
        ),
        "params are float32, expected float64",
    ),
    "a stage instead of a step": (
        lambda: assert_train_step(relu(), None, Batch(X, X)), "expected a training step",
    ),
    "a number instead of a schedule": (lambda: assert_schedule(0.1), "expected a schedule"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
