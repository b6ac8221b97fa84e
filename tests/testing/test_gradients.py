import time

import attrs
import numpy as np
import pytest
from testing import originals

from pydnn import (
    BadInput,
    Batch,
    Context,
    Key,
    dense,
    elementwise,
    gelu,
    huber,
    leaky_relu,
    mean_absolute,
    mean_squared,
    relu,
    rnn,
    serial,
    sigmoid,
    sigmoid_cross_entropy,
)
from pydnn.records import freeze
from pydnn.stages import tanh
from pydnn.testing import assert_stage, check_function, check_gradients, gradient_report
from pydnn.testing.derivatives import by_complex_step, derivative


def with_backward(stage, change):
    """Return the stage with `change(dA_prev, grads)` applied to the results of backward."""

    def backward(params, cache, dA):
        return change(*stage.backward(params, cache, dA))

    return attrs.evolve(stage, backward=backward, backward_into=None)


def bent(function, slope):
    return elementwise("bent", lambda Z, n: function(Z), lambda dA, Z, A, n: dA * slope(Z))


# Derivatives


def test_differences_are_right_to_ten_digits_and_complex_steps_to_all():
    at = np.array([0.3, -1.2])
    known = derivative(lambda t: np.sin(at + t), np.sin(at), 1e-3)
    np.testing.assert_allclose(known.value, np.cos(at), rtol=1e-10)
    assert not known.corner
    assert (np.abs(known.value - np.cos(at)) <= known.error).all()
    exact = by_complex_step(lambda t: np.sin(at + t), known)
    np.testing.assert_allclose(exact, np.cos(at), rtol=2e-16)


def test_complex_steps_are_refused_by_functions_that_are_not_analytic():
    at = np.array([0.3])
    for function in (np.abs, np.real, lambda x: np.log1p(np.exp(-np.abs(x)))):
        known = derivative(lambda t, f=function: f(at + t), function(at), 1e-3)
        assert by_complex_step(lambda t, f=function: f(at + t), known) is None


def test_a_corner_within_the_step_is_avoided_and_one_at_the_point_is_reported():
    near = derivative(lambda t: np.abs(np.array([1e-5 + t])), np.array([1e-5]), 1e-3)
    assert not near.corner
    np.testing.assert_allclose(near.value, 1, rtol=1e-9)
    at = derivative(lambda t: np.abs(np.array([t])), np.array([0.0]), 1e-3)
    assert at.corner
    np.testing.assert_allclose([at.left, at.right], [[-1], [1]])


# Reports


def test_a_report_is_a_table_with_the_worst_entry_of_every_array():
    def wrong(dA_prev, grads):
        db = grads.db.copy()
        db[1] *= 1.001
        return dA_prev, attrs.evolve(grads, db=db)

    report = gradient_report(with_backward(dense(4), wrong))
    W, b, A_prev = report.arrays
    assert (W.right, b.right, A_prev.right) == (True, False, True)
    assert b.worst == (1, 0)
    assert b.analytic == pytest.approx(1.001 * b.numeric, rel=1e-12)
    assert W.error < 1e-14
    assert W.method == "complex step"
    lines = str(report).splitlines()
    assert lines[0] == "gradients of stage dense: wrong for b"
    assert lines[1].split() == [
        "array",
        "shape",
        "worst",
        "at",
        "analytic",
        "numeric",
        "error",
        "checked",
        "verdict",
    ]
    assert [line.split()[0] for line in lines[2:]] == ["W", "b", "A_prev"]
    assert lines[3].endswith("WRONG")


def test_the_report_names_the_method():
    assert gradient_report(tanh()).arrays[0].method == "complex step"
    assert gradient_report(gelu()).arrays[0].method == "differences"
    assert gradient_report(sigmoid()).worst < 1e-10


def zeroed_bias(dA_prev, grads):
    return dA_prev, attrs.evolve(grads, db=np.zeros_like(grads.db))


def off_by_a_thousandth(dA_prev, grads):
    return dA_prev, attrs.evolve(grads, db=1.001 * grads.db)


@pytest.mark.parametrize("wrong", [zeroed_bias, off_by_a_thousandth])
@pytest.mark.parametrize("seed", range(5))
def test_a_small_array_does_not_hide_behind_a_large_one(wrong, seed):
    with pytest.raises(AssertionError, match="wrong for b\n"):
        check_gradients(with_backward(dense(20), wrong), shape_in=(200,), key=Key(seed))


def test_a_wrong_entry_of_a_large_array_is_found_even_if_it_was_not_drawn():
    def wrong(dA_prev, grads):
        dW = grads.dW.copy()
        dW[7, 123] += 1e-3
        return dA_prev, attrs.evolve(grads, dW=dW)

    report = gradient_report(with_backward(dense(20), wrong), shape_in=(200,))
    assert not report.right
    assert report.arrays[0].worst == (7, 123)
    assert report.arrays[0].analytic - report.arrays[0].numeric == pytest.approx(1e-3)


AT_ZERO = {
    "relu": relu(),
    "leaky relu": leaky_relu(),
    "absolute": bent(np.abs, np.sign),
    "clip": bent(lambda Z: np.clip(Z, -1, 0), lambda Z: (Z > -1) & (Z <= 0)),
}


@pytest.mark.parametrize("stage", AT_ZERO.values(), ids=AT_ZERO)
def test_right_slopes_at_corners_pass_and_are_remarked(stage):
    report = check_gradients(stage, A_prev=np.zeros((3, 4)))
    assert "12 nudged from a corner" in str(report)


def test_a_slope_at_a_corner_must_lie_between_those_of_both_sides():
    stage = bent(np.abs, lambda Z: np.where(Z == 0, 1.5, np.sign(Z)))
    with pytest.raises(AssertionError, match="not between the slopes of both sides"):
        check_gradients(stage, A_prev=np.zeros((1, 2)))


def test_entries_that_cannot_be_nudged_from_corners_are_not_called_right():
    stage = bent(lambda Z: np.abs(np.sin(1e10 * Z)), lambda Z: 0 * Z)
    report = gradient_report(stage)
    assert not report.right
    assert "left out" in str(report)


@pytest.mark.parametrize("apart", [0.0, 1e-16, 1e-12, 1e-9, 1e-6])
def test_a_maximum_of_numbers_that_are_equal_or_nearly_so_is_no_error(apart):
    """Windows of a pool hold such numbers: places without a slope are left out, others not."""
    stage = originals.largest_in_windows()
    X = Key(1).integers(2, (7, 2, 3)) + apart * Key(2).integers(3, (7, 2, 3))
    assert "nudged from a corner" in str(check_gradients(stage, A_prev=freeze(X)))
    wrong = with_backward(stage, lambda dX, grads: (1.01 * dX, grads))
    assert not gradient_report(wrong, A_prev=freeze(X)).right


def test_gradients_of_losses_at_corners_are_right():
    AL = np.array([[0.0, 1.0, 2.0]])
    assert check_gradients(mean_absolute(), AL=AL, Y=AL).right
    assert check_gradients(huber(delta=1), AL=AL, Y=np.zeros((1, 3))).right


def test_gradients_of_a_network_with_its_loss_are_checked():
    batch = Batch(Key(1).normal((3, 6)), Key(2).integers(2, (1, 6)), np.ones((1, 6)))
    network = serial(dense(4), tanh(), dense(1))
    report = check_gradients(network, loss=sigmoid_cross_entropy(), batch=batch)
    assert [a.name for a in report.arrays] == ["0/W", "0/b", "2/W", "2/b", "X"]


def test_gradients_of_a_users_own_function_are_checked():
    arrays = {"x": np.array([1.0, 2.0]), "y": np.array([3.0])}

    def product(x, y):
        return (x * x * y).sum()

    report = check_function(product, lambda x, y: {"x": 2 * x * y, "y": x @ x[:, None]}, arrays)
    assert report.worst < 1e-15
    with pytest.raises(AssertionError, match="wrong for y\n"):
        check_function(product, lambda x, y: {"x": 2 * x * y, "y": 2 * y}, arrays)


def test_all_laws_of_an_ordinary_stage_take_less_than_a_third_of_a_second():
    times = []
    for _ in range(5):
        begun = time.process_time()  # whatever else the machine is doing
        assert_stage(serial(dense(8), tanh()))
        times.append(time.process_time() - begun)
    assert min(times) < 0.3


SINGLE = np.ones((3, 2), np.float32)


def broken(params, Z, context):
    raise KeyError("no such thing")


REFUSED = {
    "a builder instead of a stage": (
        lambda: check_gradients(relu), "got .*, expected a stage or a loss"
    ),
    "float32": (
        lambda: check_gradients(relu(), A_prev=SINGLE),
        r"A_prev is float32, expected an array of float64",
    ),
    "float32 outputs": (
        lambda: check_gradients(mean_squared(), AL=SINGLE, Y=SINGLE), "AL is float32, expected",
    ),
    "shape": (
        lambda: check_gradients(rnn(2), shape_in=(2,)),
        r"init of stage rnn raised BadInput: examples have shape .*",
    ),
    "shapes that do not fit": (
        lambda: check_gradients(
            dense(2), A_prev=np.ones((3, 2)), params=dense(2).init(Key(1), (4,))[0]
        ),
        r"forward of stage dense raised BadInput: A_prev has shape \(3, 2\)",
    ),
    "what raises": (
        lambda: check_gradients(attrs.evolve(relu(), forward=broken)),
        "forward of stage relu raised KeyError: 'no such thing'",
    ),
    "no batch": (lambda: check_gradients(relu(), loss=huber()), "batch is not, expected both"),
    "rtol": (lambda: check_gradients(relu(), rtol=0), "rtol is 0, expected a number above 0"),
    "no key": (
        lambda: check_gradients(relu(), context=Context(), entries=0), "entries is 0, expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
