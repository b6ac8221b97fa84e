import math

import numpy as np
import pytest
from helpers import frozen, python_calls

from pydnn import (
    BadInput,
    Key,
    huber,
    losses,
    mean_absolute,
    mean_squared,
    poisson,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.numerics import fast, portable
from pydnn.numerics.underflow import bare
from pydnn.stages.base import Context

LOG3 = math.log(3)
WORKED = {
    "sigmoid, no idea": (sigmoid_cross_entropy(), [[0.0]], [[1.0]], math.log(2), [[-0.5]]),
    # sigmoid(log 3) = 3/4; costs -log(3/4) and -log(1/4), gradients (A - Y) / 2.
    "sigmoid, one right, one wrong": (
        sigmoid_cross_entropy(), [[LOG3, LOG3]], [[1.0, 0.0]],
        (math.log(4 / 3) + math.log(4)) / 2, [[-0.125, 0.375]],
    ),
    "sigmoid, sure and right": (
        sigmoid_cross_entropy(), [[1000.0, -1000.0]], [[1.0, 0.0]], 0.0, [[0.0, 0.0]],
    ),
    "sigmoid, sure and wrong": (
        sigmoid_cross_entropy(), [[1000.0, -1000.0]], [[0.0, 1.0]], 1000.0, [[0.5, -0.5]],
    ),
    "sigmoid, two labels are two means": (
        sigmoid_cross_entropy(), [[LOG3], [0.0]], [[1.0], [0.0]],
        (math.log(4 / 3) + math.log(2)) / 2, [[-0.125], [0.25]],
    ),
    "sigmoid, label 1 three times as dear": (
        sigmoid_cross_entropy(positive_weight=3), [[LOG3, LOG3]], [[1.0, 0.0]],
        (3 * math.log(4 / 3) + math.log(4)) / 2, [[-0.375, 0.375]],
    ),
    "sigmoid, label 1 twice as dear": (
        sigmoid_cross_entropy(positive_weight=2), [[LOG3]], [[1.0]], 2 * math.log(4 / 3), [[-0.5]],
    ),
    "sigmoid, smoothed to 0.25 and 0.75": (
        sigmoid_cross_entropy(label_smoothing=0.5), [[LOG3]], [[1.0]],
        0.75 * math.log(4 / 3) + 0.25 * math.log(4), [[0.0]],
    ),
    # Probabilities 3/5, 1/5, 1/5.
    "softmax, numbers": (
        softmax_cross_entropy(), [[LOG3], [0.0], [0.0]], [[0.0]], math.log(5 / 3),
        [[-0.4], [0.2], [0.2]],
    ),
    "softmax, one-hot": (
        softmax_cross_entropy(), [[LOG3], [0.0], [0.0]], [[0.0], [0.0], [1.0]], math.log(5),
        [[0.6], [0.2], [-0.8]],
    ),
    "softmax, sure": (
        softmax_cross_entropy(), [[1000.0, 0.0], [0.0, 1000.0]], [[0.0, 0.0]], 500.0,
        [[0.0, -0.5], [0.0, 0.5]],
    ),
    "softmax, smoothed": (
        softmax_cross_entropy(label_smoothing=0.3), [[LOG3], [0.0], [0.0]], [[0.0]],
        0.8 * math.log(5 / 3) + 0.2 * math.log(5), [[-0.2], [0.1], [0.1]],
    ),
    # Weights 1 and 3 of four: shares 1/4 and 3/4.
    "softmax, classes weighted": (
        softmax_cross_entropy(class_weights=[1, 3]), [[0.0, LOG3], [0.0, 0.0]], [[0.0, 1.0]],
        0.25 * math.log(2) + 0.75 * math.log(4), [[-0.125, 0.5625], [0.125, -0.5625]],
    ),
    "squared": (mean_squared(), [[1.0, 5.0]], [[0.0, 2.0]], 5.0, [[1.0, 3.0]]),
    "absolute": (mean_absolute(), [[1.0, 2.0]], [[0.0, 5.0]], 2.0, [[0.5, -0.5]]),
    "huber": (huber(delta=2), [[1.0, 5.0]], [[0.0, 0.0]], (0.5 + 8) / 2, [[0.5, 1.0]]),
    "poisson": (poisson(), [[LOG3]], [[2.0]], 3 - 2 * LOG3, [[1.0]]),
}  # fmt: skip
every_loss = pytest.mark.parametrize("row", WORKED.values(), ids=WORKED)


def test_every_loss_has_worked_numbers():
    builders = {name for name in losses.__all__ if hasattr(getattr(losses, name), "family")}
    assert {row[0].name for row in WORKED.values()} == builders


@every_loss
def test_worked_numbers(row):
    loss, AL, Y, cost, dAL = row
    found, gradient = loss(frozen(AL), frozen(Y))
    assert found == pytest.approx(cost, rel=1e-14, abs=1e-15)
    np.testing.assert_allclose(gradient, dAL, rtol=1e-14, atol=1e-15)
    assert not gradient.flags.writeable


def test_predictions_are_probabilities_or_numbers_like_the_labels():
    Z = np.array([[0.0, LOG3]])
    np.testing.assert_allclose(sigmoid_cross_entropy().predict(Z), [[0.5, 0.75]])
    np.testing.assert_allclose(softmax_cross_entropy().predict(Z.T), [[0.25], [0.75]])
    np.testing.assert_allclose(poisson().predict(Z), [[1, 3]])
    np.testing.assert_array_equal(huber().predict(Z), Z)


def test_a_loss_knows_its_task():
    assert sigmoid_cross_entropy().task(1) == "two classes"
    assert sigmoid_cross_entropy().task(3) == "several labels"
    assert softmax_cross_entropy().task(3) == "many classes"
    assert mean_squared().task(3) == "regression"


TWO = np.zeros((1, 2))
three_classes = softmax_cross_entropy().expect_labels
binary = sigmoid_cross_entropy().expect_labels
REFUSED = {
    "labels' shape": (
        lambda: sigmoid_cross_entropy()(TWO, np.zeros((1, 3))),
        r"Y has shape \(1, 3\), expected \(1, 2\)",
    ),
    "numbers' shape": (lambda: huber()(TWO, np.zeros((1, 3))), r"expected \(1, 2\)"),
    "counts' shape": (lambda: poisson()(TWO, np.zeros((1, 3))), r"expected \(1, 2\)"),
    "label 2 of 0 and 1": (
        lambda: binary(np.array([[0.0, 2.0]]), 1), r"label 2 at index \(0, 1\), expected 0 or 1",
    ),
    "label nan": (lambda: binary(np.array([[np.nan]]), 1), "label nan"),
    "rows of labels": (
        lambda: binary(TWO, 2), r"Y has shape \(1, 2\), expected \(2, m\): give one row of Y",
    ),
    "no positive example": (lambda: binary(TWO, 1), "label 1 never occurs, expected examples"),
    "no negative example": (lambda: binary(TWO + 1, 1), "label 0 never occurs"),
    "no positive example of the second": (
        lambda: binary(np.array([[0.0, 1], [0, 0]]), 2), "label 1 never occurs in row 1",
    ),
    "class outside": (
        lambda: three_classes(np.array([[0.0, 3]]), 3),
        r"label 3 at index \(0, 1\), expected a whole number from 0 to 2",
    ),
    "class outside, at a step": (
        lambda: softmax_cross_entropy()(np.zeros((3, 1)), np.array([[3.0]])), "label 3 at index",
    ),
    "half a class": (lambda: three_classes(np.array([[0.5]]), 3), "label 0.5"),
    "class that never occurs": (
        lambda: three_classes(np.array([[0.0, 2]]), 3), "class 1 of 3 never occurs",
    ),
    "one-hot class that never occurs": (
        lambda: three_classes(np.eye(3)[:, :2], 3), "class 2 of 3 never occurs",
    ),
    "two ones": (
        lambda: three_classes(np.ones((3, 1)), 3), "column 0 of Y has 3 ones, expected one",
    ),
    "two ones in one column": (
        lambda: three_classes(np.array([[1.0, 1], [0, 1], [0, 0]]), 3),
        "column 1 of Y has 2 ones, expected one",
    ),
    "negative weight after others": (
        lambda: huber()(np.zeros((1, 3)), np.zeros((1, 3)), np.array([[0.5, 0, -2]])),
        "weight of example 2 is -2",
    ),
    "one output": (
        lambda: softmax_cross_entropy()(TWO, TWO), "one output .* one class.*use sigmoid_cross",
    ),
    "negative count": (lambda: poisson().expect_labels(TWO - 1, 1), "label -1 .* 0 or more"),
    "number nan": (
        lambda: mean_squared().expect_labels(TWO * np.nan, 1), "Y holds nan in row 0, column 0",
    ),
    "negative weight": (
        lambda: huber()(TWO, TWO, np.array([[1.0, -2]])), "weight of example 1 is -2, expected 0",
    ),
    "weight nan": (lambda: huber()(TWO, TWO, TWO * np.nan), "weight of example 0 is nan"),
    "no examples": (lambda: huber()(np.ones((2, 0)), np.ones((2, 0))), "the batch has no examples"),
    "weights of no end": (
        lambda: huber()(TWO, TWO, np.array([[1.0, np.inf]])), "weights sum to inf, expected a",
    ),
    "too few weights": (
        lambda: huber()(TWO, TWO, np.ones((1, 1))), r"weights has shape \(1, 1\), expected \(1, 2",
    ),
    "delta": (lambda: huber(delta=0), "delta is 0"),
    "positive weight": (
        lambda: sigmoid_cross_entropy(positive_weight=0), "positive_weight is 0, expected a num",
    ),
    "smoothing": (lambda: softmax_cross_entropy(label_smoothing=1), "label_smoothing is 1"),
    "class weights of sum 0": (
        lambda: softmax_cross_entropy(class_weights=[0, 0]), "weights sum to 0",
    ),
    "number of class weights": (
        lambda: softmax_cross_entropy(class_weights=[1, 2])(np.zeros((3, 1)), np.zeros((1, 1))),
        "class_weights has 2 numbers, expected 3",
    ),
    "number of positive weights": (
        lambda: sigmoid_cross_entropy(positive_weight=[1, 2])(TWO, TWO),
        "positive_weight has 2 numbers, expected 1",
    ),
}  # fmt: skip


# The most functions that a loss of valid labels may call. A full check would be one more.
OVERHEAD = {
    "sigmoid": (sigmoid_cross_entropy(), [[1.0, 0.0]], 8),
    "softmax": (softmax_cross_entropy(), [[1.0, 0.0]], 17),
    "regression": (mean_squared(), [[1.0, 2.0]], 8),
    "poisson": (poisson(), [[1.0, 2.0]], 7),
}


@pytest.mark.parametrize(("loss", "Y", "most"), OVERHEAD.values(), ids=OVERHEAD)
def test_valid_labels_get_only_a_quick_check(loss, Y, most):
    rows = 2 if loss.name == "softmax_cross_entropy" else 1
    assert python_calls(loss, np.zeros((rows, 2)), np.array(Y)) <= most


def test_an_extreme_correct_logit_keeps_the_digits_of_its_small_gradient():
    cost, dZ = sigmoid_cross_entropy()(np.array([[-50.0]]), np.array([[0.0]]))
    assert cost == pytest.approx(math.exp(-50), rel=1e-14, abs=0)
    assert dZ[0, 0] == pytest.approx(math.exp(-50), rel=1e-14, abs=0)


def test_probabilities_of_extreme_logits():
    far = np.array([[1000.0, -1000.0], [0.0, 0.0]])
    np.testing.assert_array_equal(softmax_cross_entropy().predict(far), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(sigmoid_cross_entropy().predict(far), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("numerics", [fast, portable], ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_class_numbers_and_one_hot_columns_give_the_same_bits(numerics, dtype, order):
    loss, context = softmax_cross_entropy(), Context(training=True, numerics=numerics)
    Z = np.array(Key(1).normal((5, 40)) * Key(2).integers(900, (1, 40)), dtype, order=order)
    numbers = Key(3).integers(5, (1, 40)).astype(dtype)
    cost, dZ = loss(Z, numbers, None, context)
    columns = (np.arange(5)[:, np.newaxis] == numbers).astype(dtype)
    other_cost, other_dZ = loss(Z, columns, None, context)
    assert cost == other_cost
    assert dZ.tobytes() == other_dZ.tobytes()
    assert dZ.strides == other_dZ.strides  # the order in memory decides the bits of later products


@np.errstate(all="ignore")
def test_a_logit_of_minus_infinity_is_not_hidden():
    cost, _ = softmax_cross_entropy()(np.array([[0.0], [-np.inf]]), np.array([[0.0]]))
    assert math.isnan(cost)


def test_class_weights_are_the_same_for_one_hot_columns():
    loss, Z = softmax_cross_entropy(class_weights=[1, 3, 7]), Key(1).normal((3, 4))
    numbers = np.array([[2.0, 0, 1, 2]])
    cost, dZ = loss(Z, numbers)
    one_hot, gradient = loss(Z, np.eye(3)[:, [2, 0, 1, 2]])
    assert one_hot == cost
    np.testing.assert_array_equal(gradient, dZ)


def test_a_loss_with_class_weights_is_not_a_plain_mean_of_entries():
    assert bare(softmax_cross_entropy(class_weights=[1, 2]).function).weigh is not None
    plain = bare(softmax_cross_entropy().function)
    assert plain.weigh is None
    losses_of, slopes = plain.entries(np.zeros((2, 1)), np.array([[1.0]]), fast)
    np.testing.assert_allclose(losses_of, [[math.log(2)]])
    np.testing.assert_allclose(slopes, [[0.5], [-0.5]])


def test_valid_labels_are_accepted():
    for expect, Y, n_out in (
        (binary, [[0.0, 1.0]], 1),
        (binary, [[0.0, 1.0], [1.0, 0.0]], 2),
        (three_classes, [[0.0, 2.0, 1.0, 0.0]], 3),
        (three_classes, np.eye(3), 3),
        (softmax_cross_entropy().expect_labels, np.eye(2), 2),
        (poisson().expect_labels, [[0.0, 7.0]], 1),
        (huber().expect_labels, [[-1.5, 0.0], [1.0, 2.0]], 2),
    ):
        expect(np.array(Y), n_out)


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()


UNFIT = {
    "three classes for one output": (
        sigmoid_cross_entropy(), [[0, 1, 2]], 1,
        "label 2 at index (0, 2), expected 0 or 1, as sigmoid_cross_entropy has it: "
        "for 3 classes use softmax_cross_entropy and dense(3).",
    ),
    "three classes for three outputs of two classes each": (
        sigmoid_cross_entropy(), [[0, 1, 2]], 3, "for 3 classes use softmax_cross_entropy and den",
    ),
    "labels of -1 and 1": (sigmoid_cross_entropy(), [[-1, 1]], 1, "recode them, or use mean_squa"),
    "numbers for two classes": (sigmoid_cross_entropy(), [[0.5, 3.2]], 1, "or use mean_squared"),
    "one output for three classes": (
        softmax_cross_entropy(), [[0, 1, 2]], 1,
        "label 1 at index (0, 1), expected a whole number from 0 to 0, since the network has "
        "1 output: for 3 classes end the network with dense(3).",
    ),
    "two outputs for five classes": (
        softmax_cross_entropy(), [[0, 1, 4]], 2, "has 2 outputs: for 5 classes end the network wi",
    ),
    "one output for two classes": (
        softmax_cross_entropy(), [[0, 1, 1]], 1, "1 output: for two classes use sigmoid_cross_ent",
    ),
    "numbers for classes": (softmax_cross_entropy(), [[0, 1.5]], 2, "number the classes from 0, "),
    "two classes from 1 on": (sigmoid_cross_entropy(), [[1, 2]], 1, "has it: number the classes"),
    "three classes from 1 on": (
        softmax_cross_entropy(), [[1, 2, 3]], 3,
        "has 3 outputs: number the classes from 0, so give Y - 1.",
    ),
    "three classes from 1 on, for four outputs": (
        softmax_cross_entropy(), [[1, 2, 3]], 4,
        "class 0 of 4 never occurs, expected examples of each: for 3 classes end the network with "
        "dense(3); number the classes from 0, so give Y - 1.",
    ),
    "huge numbers for classes": (softmax_cross_entropy(), [[0, 9e9]], 2, "number the classes from"),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "Y", "n_out", "message"), UNFIT.values(), ids=UNFIT)
def test_labels_that_do_not_fit_name_the_loss_and_the_outputs_to_use(loss, Y, n_out, message):
    with pytest.raises(BadInput) as refusal:
        loss.expect_labels(np.array(Y, float), n_out)
    assert message in str(refusal.value)


@pytest.mark.parametrize("n_out", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("loss", [sigmoid_cross_entropy(), softmax_cross_entropy()])
def test_whoever_follows_the_advice_on_classes_from_1_on_arrives(loss, n_out):
    Y = np.array([[1.0, 2, 3, 2, 1]])
    with pytest.raises(BadInput) as refusal:
        loss.expect_labels(Y, n_out)
    assert "give Y - 1" in str(refusal.value)
    assert "dense(3)" in str(refusal.value) or n_out == 3
    softmax_cross_entropy().expect_labels(Y - 1, 3)


# Batches without weight

EVERY = {
    "sigmoid": (sigmoid_cross_entropy(positive_weight=3, label_smoothing=0.1), [[0.0, 1.0]]),
    "several labels": (sigmoid_cross_entropy(), [[0.0, 1.0], [1.0, 1.0]]),
    "softmax": (softmax_cross_entropy(class_weights=[1, 2]), [[0.0, 1.0]]),
    "squares": (mean_squared(), [[0.5, 1.0]]),
    "absolute": (mean_absolute(), [[0.5, 1.0]]),
    "huber": (huber(), [[0.5, 1.0]]),
    "counts": (poisson(), [[3.0, 0.0]]),
}


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
@pytest.mark.parametrize(("loss", "Y"), EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_without_weight_has_cost_and_gradient_0(loss, Y, numerics, dtype):
    Y = np.array(Y, dtype)
    rows = 2 if loss.task(2) == "many classes" else len(Y)
    AL = np.full((rows, 2), 1.5, dtype)
    cost, dAL = loss(AL, Y, np.zeros((1, 2), dtype), Context(numerics=numerics))
    assert cost == 0
    assert (dAL.dtype, dAL.shape, dAL.any()) == (dtype, AL.shape, False)
    assert not dAL.flags.writeable
    with pytest.raises(BadInput, match="the batch has no examples, expected one or more"):
        loss(AL[:, :0], Y[:, :0], None, Context(numerics=numerics))


def test_a_batch_of_a_class_without_weight_has_cost_0():
    loss = softmax_cross_entropy(class_weights=[0, 1, 1])
    cost, dAL = loss(np.ones((3, 2)), np.zeros((1, 2)))
    assert cost == 0
    assert not dAL.any()
    one_hot = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert loss(np.ones((3, 2)), one_hot)[0] == 0
    # With one example of another class, only that example counts.
    mixed, alone = (loss(np.eye(3)[:, :n], np.array([[1.0, 0.0]])[:, :n]) for n in (2, 1))
    assert mixed[0] == pytest.approx(alone[0])


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e300, 1.7e308])
def test_only_the_ratios_of_weights_matter(scale):
    AL, Y = np.array([[1.0, 3.0, 5.0]]), np.zeros((1, 3))
    cost, dAL = mean_squared()(AL, Y, np.array([[1.0, 1.0, 0.0]]))
    scaled, slopes = mean_squared()(AL, Y, np.array([[scale, scale, 0.0]]))
    assert scaled == pytest.approx(cost, rel=1e-12)
    np.testing.assert_allclose(slopes, dAL, rtol=1e-12)
