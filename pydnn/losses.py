"""Losses: the cost of a network's output and its gradient, in one function.

Classification losses take logits, because that is the stable form. A loss takes the mean over
examples, so no stage divides by m. With weights, it is the weighted mean: an example of weight 2
counts as two of weight 1. A batch whose weights are all 0 has cost 0 and gradient 0; a batch
without examples is refused.

Where each step of a sequence has labels, outputs have shape (T, n_y, m), and the mean is that over
all valid steps of all examples. Padded steps have gradient 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import (
    BadInput,
    expect_examples,
    expect_finite,
    expect_known,
    expect_real,
    expect_shape,
)
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.engines import compilable
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import bare, belongs, ignoring_in
from pydnn.records import Batch, FloatArray, IntArray, freeze, scalar
from pydnn.sequences import columns_of_steps, labels_of_steps, steps_of_columns
from pydnn.stages.base import EVALUATION, Context, Shape

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "TASKS",
    "Loss",
    "class_count",
    "expect_weights",
    "huber",
    "mean_absolute",
    "mean_squared",
    "poisson",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "weight_of_examples",
]

# The core of a loss: `(AL, Y, numerics) -> (losses, slopes)`, where `losses` has shape (k, m) and
# `slopes` is the gradient of their sum. The cost is the mean of all k m losses.
Entries = Callable[[FloatArray, FloatArray, Numerics], tuple[FloatArray, FloatArray]]

Weight = Callable[[Shape, FloatArray, FloatArray | None, Context], float]

TASKS = ("two classes", "many classes", "several labels", "regression")


def class_count(task: str, n_out: int) -> int | None:
    """The number of classes or labels of a network with `n_out` outputs; None for regression.

    Example:
        >>> class_count("two classes", 1), class_count("many classes", 10)
        (2, 10)
    """
    return {"two classes": 2, "regression": None}.get(task, n_out)


class Predict(Protocol):
    """The type of functions from a network's output AL (n_y, m) to predictions."""

    def __call__(self, AL: FloatArray, context: Context = EVALUATION, /) -> FloatArray:
        """Convert logits to probabilities, or outputs to numbers like the labels."""


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("function", "predict", "onnx"))
class Loss(DescribedPart):
    """A cost to minimize: `loss(AL, Y)` returns the cost and its gradient dAL.

    Attributes:
        name: The name of the loss in messages.
        function: `(AL, Y, weights, context) -> (cost, dAL)`, where the cost is a mean over
            examples; `weights` is None if all examples count the same. `MeanOf` makes such a
            function from the losses of single examples.
        predict: `(AL, context) -> predictions`: probabilities from logits, or numbers like the
            labels.
        expect_labels: `(Y, n_out)`, which refuses the labels of a training set if the loss is
            not defined for them and a network with `n_out` outputs.
        task: `(n_out) -> task`, the task that predictions are scored for, one of `TASKS`.
        onnx: `(AL) -> predictions`, the same as `predict` in operators of ONNX, for a
            `pydnn.stages.graph.Value` with the examples along the first axis. None if the loss
            cannot be exported, or `attrs.evolve` replaced only its `predict`.
        mixes_examples: Whether the cost is anything else than a weighted mean over examples, e.g.
            because it compares examples with each other. Batches cannot be cut into shards then.
        weight: `(shape, Y, weights, context) -> weight`: the weight of a batch, by which the mean
            over its examples divides, for outputs of `shape`. None for `weight_of_examples`, or for
            the method `weight` of `function` if that has one, as `MeanOf` does.
        takes_logits: Whether the outputs are any numbers that `predict` turns into probabilities,
            so that a network should not end with a stage that bounds them.
        takes_scaled: Whether labels may be shifted and scaled for training, and predictions
            scaled back, because this changes nothing but the unit of the cost.

    Example:
        >>> loss = nn.sigmoid_cross_entropy()
        >>> cost, dAL = loss(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]))
        >>> loss.predict(np.array([[0.0]])), loss.task(1)
        (array([[0.5]]), 'two classes')
    """

    name: str
    function: Callable[
        [FloatArray, FloatArray, FloatArray | None, Context], tuple[float, FloatArray]
    ]
    predict: Predict
    expect_labels: Callable[[FloatArray, int], None]
    task: Callable[[int], str]
    mixes_examples: bool = attrs.field(default=False, kw_only=True)
    weight: Weight | None = attrs.field(default=None, kw_only=True)
    takes_logits: bool = attrs.field(default=False, kw_only=True)
    takes_scaled: bool = attrs.field(default=False, kw_only=True)
    onnx: Callable[[Value], Value] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.onnx is not None and not belongs(self.onnx, self.predict):
            object.__setattr__(self, "onnx", None)

    def __call__(
        self,
        AL: FloatArray,
        Y: FloatArray,
        weights: FloatArray | None = None,
        context: Context = EVALUATION,
    ) -> tuple[float, FloatArray]:
        """The cost of AL (n_y, m) for labels Y and weights (1, m), and dAL (n_y, m)."""
        return self.function(AL, Y, weights, context)

    def weight_of(self, shape: Shape, batch: Batch, numerics: Numerics) -> float:
        """The weight of a batch: a part of a batch counts by its share of the batch's weight.

        Args:
            shape: The shape of the network's output for the batch.
            batch: The batch.
            numerics: The arithmetic.

        Example:
            >>> loss = nn.softmax_cross_entropy(class_weights=[1.0, 5.0])
            >>> loss.weight_of((2, 3), nn.Batch(np.ones((4, 3)), [[0, 1, 1]]), nn.fast)
            11.0
        """
        context = Context(training=True, numerics=numerics, lengths=batch.lengths)
        own: Weight = getattr(bare(self.function), "weight", weight_of_examples)
        weight = own if self.weight is None else self.weight
        return float(weight(shape, batch.Y, batch.weights, context))


def weight_of_examples(
    shape: Shape, Y: FloatArray, weights: FloatArray | None, context: Context
) -> float:
    """The weight of a batch whose examples, or valid steps of examples, count by their weights.

    Args:
        shape: The shape of the network's output.
        Y: The labels, on which this weight does not depend.
        weights: The weights of the examples (1, m); None if all count the same.
        context: The context, with the lengths of sequences.

    Example:
        >>> weight_of_examples((1, 3), np.zeros((1, 3)), np.array([[1.0, 1.0, 2.0]]), nn.Context())
        4.0
    """
    each = np.ones((1, shape[-1])) if weights is None else weights
    return _sum(_of_steps(each, shape, context.lengths), context.numerics)


def _of_steps(weights: FloatArray, shape: Shape, lengths: IntArray | None) -> FloatArray:
    """The weights of examples (1, m) as those of all valid steps of an output of this shape."""
    if len(shape) < 3:
        return weights
    return columns_of_steps(np.broadcast_to(weights, (*shape[:-2], 1, shape[-1])), lengths)


def _sum(weights: FloatArray, numerics: Numerics) -> float:
    with np.errstate(over="ignore"):
        return float(numerics.mean(weights) * weights.size)


@attrs.frozen
class MeanOf:
    """The `function` of a loss whose cost is the mean of the losses of single examples.

    Attributes:
        entries: `(AL, Y, numerics) -> (losses, slopes)`: the losses of each example (k, m), and
            the gradient of their sum as a new array, which is then scaled in place.
        weigh: `(Y) -> weights` (1, m), further weights of the examples; None for none.
        steps: "mean" or "sum": for outputs (T, n_y, m), whether the cost is the mean over all valid
            steps of all examples, or the mean over examples of the sums over their steps.
    """

    entries: Entries
    weigh: Callable[[FloatArray], FloatArray] | None = None
    steps: str = "mean"

    def __call__(
        self, AL: FloatArray, Y: FloatArray, weights: FloatArray | None, context: Context
    ) -> tuple[float, FloatArray]:
        """The cost and dAL, of the shape of AL: (n_y, m), or (T, n_y, m) with labels per step."""
        numerics = context.numerics
        if not AL.size:
            expect_examples(AL.shape[-1])
        if AL.ndim > 2:
            return self._over_steps(AL, Y, weights, context)
        losses, slopes = self.entries(AL, Y, numerics)
        if self.weigh is not None:
            by_class = self.weigh(Y).astype(AL.dtype)
            weights = by_class if weights is None else weights * by_class
        if weights is None:
            slopes /= scalar(losses.size, slopes.dtype)
            return numerics.mean(losses), freeze(slopes)
        expect_weights(weights, AL.shape[1])
        with np.errstate(over="ignore"):
            total = numerics.mean(weights) * losses.size
        limits = np.finfo(weights.dtype)
        if not limits.tiny / limits.eps < total < math.inf:
            if not weights.any():  # there is nothing to learn from this batch
                return 0.0, freeze(np.zeros_like(slopes))
            # The sum overflows or is too small to be exact. Only ratios matter, so rescale.
            weights = weights / weights.max()
            total = numerics.mean(weights) * losses.size
        shares = weights / total
        slopes *= shares
        return numerics.mean(losses * shares) * losses.size, freeze(slopes)

    def weight(
        self, shape: Shape, Y: FloatArray, weights: FloatArray | None, context: Context
    ) -> float:
        """The weight of a batch whose output has this shape; see `Loss`."""
        if self.steps == "sum":
            return weight_of_examples(shape[-2:], Y, weights, context)
        if self.weigh is None:
            return weight_of_examples(shape, Y, weights, context)
        lengths = context.lengths
        by_class = self.weigh(Y if len(shape) < 3 else labels_of_steps(Y, shape, lengths))
        if weights is not None:
            by_class = by_class * _of_steps(weights, shape, lengths)
        return _sum(by_class, context.numerics)

    def _over_steps(
        self, AL: FloatArray, Y: FloatArray, weights: FloatArray | None, context: Context
    ) -> tuple[float, FloatArray]:
        lengths, shape = context.lengths, AL.shape
        each = labels_of_steps(Y, shape, lengths)
        columns = columns_of_steps(AL, lengths)
        steps = each.shape[1] / shape[-1]  # of an example, on average
        if weights is not None:
            expect_weights(weights, shape[-1])
            of_examples = weights
            weights = _of_steps(weights, shape, lengths)
            if self.steps == "sum" and of_examples.any():
                mean = context.numerics.mean
                steps *= mean(weights) / mean(of_examples)
        cost, slopes = self(columns, each, weights, attrs.evolve(context, lengths=None))
        if self.steps == "sum":
            cost, slopes = cost * steps, slopes * slopes.dtype.type(steps)
        return cost, freeze(steps_of_columns(slopes, shape, lengths))


def expect_weights(weights: FloatArray, m: int, *, of: str = "") -> None:
    """Refuse weights of m examples that are negative or not finite.

    Args:
        weights: A weight for each example, shape (1, m).
        m: The number of examples.
        of: Words for the data set, if these are all weights of one. A data set must have a weight
            above 0, a batch need not.

    Raises:
        BadInput: If a weight is negative or not finite, or all weights of a data set are 0.

    Example:
        >>> expect_weights(np.array([[1.0, -1.0]]), 2)
        Traceback (most recent call last):
        pydnn.checks.BadInput: the weight of example 1 is -1, expected 0 or more: ...
    """
    expect_shape("weights", weights, (1, m), hint="give one weight per example")
    # A single comparison, which NaN fails too.
    if not weights.min(initial=0.0) >= 0:
        index = int(np.argmin(weights >= 0))
        raise BadInput(
            f"the weight of example {index} is {weights[0, index]:g}, expected 0 or more: "
            "leave an example out instead of giving it a negative weight."
        )
    if not np.isfinite(weights).all():
        raise BadInput(
            f"weights sum to {weights.max(initial=0.0):g}, expected a finite number: "
            "give each example a finite weight."
        )
    if of and not weights.any():
        raise BadInput(
            f"weights sum to 0 over {of}, expected a number above 0: give some a weight."
        )


@described("loss")
def sigmoid_cross_entropy(
    *, positive_weight: float | Sequence[float] = 1.0, label_smoothing: float = 0.0
) -> Loss:
    """Binary cross-entropy of logits, in nats, for one or several labels of 0 or 1.

    With several labels Y (n_y, m), the cost is the mean over labels and examples.

    Args:
        positive_weight: The weight of label 1, where label 0 has weight 1; one number for all
            labels, or one for each.
        label_smoothing: The smoothing s: targets become s / 2 and 1 - s / 2 instead of 0 and 1.

    Raises:
        BadInput: If `positive_weight` is not above 0, or `label_smoothing` not from 0 to below 1.

    References:
        Goodfellow, Bengio and Courville, Deep Learning, 2016, section 6.2.2.2.

    Example:
        >>> cost, dZ = sigmoid_cross_entropy()(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]))
        >>> round(cost, 4), dZ
        (0.6931, array([[ 0.25, -0.25]]))
    """
    smoothing = _expect_smoothing(label_smoothing)
    several = isinstance(positive_weight, list | tuple)
    hint = "give the weight of label 1, where label 0 has weight 1"
    numbers = positive_weight if isinstance(positive_weight, list | tuple) else [positive_weight]
    positive = np.array(
        [[expect_real("positive_weight", p, positive=True, hint=hint)] for p in numbers]
    )

    is_weighted = bool((positive != 1).any())

    @compilable
    def entries(Z: FloatArray, Y: FloatArray, numerics: Numerics) -> tuple[FloatArray, FloatArray]:
        if Y.shape != Z.shape:
            expect_shape("Y", Y, Z.shape, hint="give one label per output and example")
        if smoothing:
            Y = Y * (1 - smoothing) + smoothing / 2
        # From Z = 37 on, 1 - sigmoid(Z) is 0 in float64 and its log -inf; this form stays finite.
        zero, one = scalar(0, Z.dtype), scalar(1, Z.dtype)
        negative = np.minimum(Z, zero)
        positive_part = Z - negative  # exactly max(Z, 0), in less time
        e = numerics.exp(negative - positive_part)  # of -|Z|
        A = np.where(negative < zero, e, one) / (e + one)
        if not is_weighted:
            return positive_part - Z * Y + numerics.log1p(e), A - Y
        if several and len(positive) != len(Z):
            raise BadInput(
                f"positive_weight has {len(positive)} numbers, expected {len(Z)}: "
                "give one for each label."
            )
        # (1 - Y) Z + W softplus(-Z) with W = 1 + (p - 1) Y: the weight p multiplies only label 1.
        W = 1 + (positive.astype(Z.dtype) - 1) * Y
        softplus = np.maximum(-Z, 0) + numerics.log1p(e)  # of -Z
        return (1 - Y) * Z + W * softplus, (1 - Y) + W * (A - 1)

    return Loss(
        "sigmoid_cross_entropy",
        MeanOf(entries),
        lambda Z, context=EVALUATION: freeze(context.numerics.logistic(Z)),
        _expect_binary,
        lambda n_out: "two classes" if n_out == 1 else "several labels",
        onnx=lambda Z: Z.op("Sigmoid"),
        takes_logits=True,
    )


@described("loss")
def softmax_cross_entropy(
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    steps: str = "mean",
) -> Loss:
    """Cross-entropy of logits Z (K, m), in nats, for one of K classes.

    Labels Y are class numbers from 0 to K - 1, shape (1, m), or one-hot columns, shape (K, m). For
    sequences with a label at each step, Z is (T, K, m) and Y is (T, m) or (T, K, m).

    Args:
        label_smoothing: The share of each label that is spread evenly over all K classes.
        class_weights: A weight for each class, which multiplies the weights of its examples.
        steps: For sequences, "mean" for the mean over all valid steps of all examples, or "sum" for
            the mean over examples of the sums over their valid steps.

    Raises:
        BadInput: If `label_smoothing` is not from 0 to below 1, a weight is negative, `steps` is
            neither of these, or there are class weights and `steps` is "sum".

    Example:
        >>> cost, dZ = softmax_cross_entropy()(np.zeros((2, 1)), np.array([[1.0]]))
        >>> round(cost, 4), dZ
        (0.6931, array([[ 0.5],
               [-0.5]]))

    References:
        Goodfellow, Bengio and Courville, Deep Learning, 2016, section 6.2.2.3; for smoothing,
        Szegedy et al., Rethinking the Inception architecture, 2016, section 7.
    """
    smoothing = _expect_smoothing(label_smoothing)
    expect_known("steps", steps, ("mean", "sum"))
    by_class: FloatArray | None = None
    if class_weights is not None:
        if steps == "sum":
            raise BadInput(
                "class_weights are given with steps 'sum', expected 'mean': a weighted mean over "
                "steps divides by the sum of their weights."
            )
        by_class = np.array(
            [expect_real("class_weights", w, hint="give one per class") for w in class_weights]
        )[np.newaxis]
        expect_weights(by_class, by_class.size, of="all classes")

    def entries(Z: FloatArray, Y: FloatArray, numerics: Numerics) -> tuple[FloatArray, FloatArray]:
        K = len(Z)
        if by_class is not None and by_class.size != K:
            raise BadInput(
                f"class_weights has {by_class.size} numbers, expected {K}: give one per class."
            )
        numbers = _class_numbers(Y, Z)
        # A shift of all logits changes no probability, and with it exp cannot overflow.
        shifted = Z - np.maximum.reduce(Z, axis=0)
        E = numerics.exp(shifted)
        total = numerics.sum(E, axis=0)
        logarithm = numerics.log(total)
        # Picking the labels' entries gives the same bits as one-hot columns, in less time, unless
        # a logit is -inf, which leads to NaN with columns.
        if numbers is not None and not smoothing and np.minimum.reduce(shifted, None) > -math.inf:
            labels = numbers, _counted(len(numbers))
            slopes = np.ascontiguousarray(E)
            slopes /= total
            slopes[labels] -= scalar(1, E.dtype)
            return -(shifted[labels] - logarithm), slopes
        T = Y if numbers is None else (np.arange(K)[:, np.newaxis] == numbers).astype(Z.dtype)
        if smoothing:
            T = T * (1 - smoothing) + smoothing / K
        return -numerics.sum(T * (shifted - logarithm), axis=0), E / total - T

    if not smoothing and by_class is None:  # the form that has a kernel of its own
        compilable(entries, means=lambda Z, Y, numerics: numerics.cross_entropy_of_classes(Z, Y))

    def weigh(Y: FloatArray) -> FloatArray:
        assert by_class is not None
        return by_class[:, (Y if len(Y) == 1 else Y.argmax(axis=0)[np.newaxis])[0].astype(int)]

    return Loss(
        "softmax_cross_entropy",
        MeanOf(entries, weigh if by_class is not None else None, steps),
        _softmax,
        _expect_classes,
        lambda n_out: "many classes",
        onnx=lambda Z: Z.op("Softmax", axis=-1),
        takes_logits=True,
    )


def _softmax(Z: FloatArray, context: Context = EVALUATION) -> FloatArray:
    classes = Z.ndim - 2  # the axis
    E = context.numerics.exp(Z - Z.max(axis=classes, keepdims=True))
    E /= context.numerics.sum(E, axis=classes)
    return freeze(E)


def _class_numbers(Y: FloatArray, Z: FloatArray) -> NDArray[np.intp] | None:
    """The class of each example (m,) from labels for logits Z (K, m); None for one-hot columns."""
    if len(Z) < 2:
        raise BadInput(
            "one output means one class, expected two or more: use sigmoid_cross_entropy."
        )
    if Y.shape == Z.shape:
        return None
    if Y.shape != (1, Z.shape[1]):
        hint = "give the number of each example's class, or its one-hot column"
        expect_shape("Y", Y, (1, Z.shape[1]), hint=hint)
    if not (np.minimum.reduce(Y, None) >= 0 and np.maximum.reduce(Y, None) < len(Z)):  # NaN too
        _expect_class_numbers(Y, len(Z))
    numbers: NDArray[np.intp] = Y[0].astype(np.intp)
    if not np.logical_and.reduce(numbers == Y[0]):
        _expect_class_numbers(Y, len(Z))
    return numbers


@functools.lru_cache(maxsize=64)
def _counted(m: int) -> NDArray[np.intp]:
    return freeze(np.arange(m))


@described("loss")
def mean_squared() -> Loss:
    """The mean of (AL - Y)**2 over outputs and examples, in squared units of Y.

    AL and Y have shape (n_y, m). The loss raises BadInput if their shapes differ.

    Example:
        >>> mean_squared()(np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]))
        (4.5, array([[ 0., -3.]]))
    """

    @compilable
    def entries(AL: FloatArray, Y: FloatArray, _: Numerics) -> tuple[FloatArray, FloatArray]:
        D = _difference(AL, Y)
        return D * D, 2 * D

    return _regression("mean_squared", entries)


@described("loss")
def mean_absolute() -> Loss:
    """The mean of |AL - Y| over outputs and examples, in units of Y; its slope at 0 is taken as 0.

    AL and Y have shape (n_y, m). The loss raises BadInput if their shapes differ.

    Example:
        >>> mean_absolute()(np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]))
        (1.5, array([[ 0. , -0.5]]))
    """

    @compilable
    def entries(AL: FloatArray, Y: FloatArray, _: Numerics) -> tuple[FloatArray, FloatArray]:
        D = _difference(AL, Y)
        return np.abs(D), np.sign(D)

    return _regression("mean_absolute", entries)


@described("loss")
def huber(*, delta: float = 1.0) -> Loss:
    """The mean of (AL - Y)**2 / 2 over outputs and examples, but linear where |AL - Y| is large.

    AL and Y have shape (n_y, m).

    Args:
        delta: The absolute difference beyond which the loss is linear, above 0.

    Raises:
        BadInput: If `delta` is not above 0. The loss raises it if the shapes of AL and Y differ.

    References:
        Huber, Robust estimation of a location parameter, 1964.

    Example:
        >>> huber()(np.array([[1.0, 2.0]]), np.array([[1.5, 5.0]]))
        (1.3125, array([[-0.25, -0.5 ]]))
    """
    hint = "give the difference beyond which the loss is linear"
    delta = expect_real("delta", delta, positive=True, hint=hint)

    @compilable
    def entries(AL: FloatArray, Y: FloatArray, _: Numerics) -> tuple[FloatArray, FloatArray]:
        D = _difference(AL, Y)
        # D**2 / 2 inside and delta (|D| - delta / 2) outside, without a branch.
        clipped = np.clip(D, -delta, delta)
        return clipped * (D - 0.5 * clipped), clipped

    return _regression("huber", entries)


@described("loss")
def poisson() -> Loss:
    """The mean of exp(Z) - Y Z, for counts Y, where Z is the logarithm of their expected rate.

    That is minus the log likelihood, in nats, without the term log(Y!), which does not depend on
    Z. So the cost may be negative. Predictions are rates, exp(Z).

    Z and Y have shape (n_y, m). The loss raises BadInput if their shapes differ.

    Example:
        >>> poisson()(np.array([[0.0]]), np.array([[3.0]]))
        (1.0, array([[-2.]]))
    """

    @compilable
    def entries(Z: FloatArray, Y: FloatArray, numerics: Numerics) -> tuple[FloatArray, FloatArray]:
        rate = numerics.exp(Z)
        if Y.shape != Z.shape:
            _difference(Z, Y)  # raises the error of a wrong shape
        return rate - Y * Z, rate - Y

    def expect_counts(Y: FloatArray, n_out: int) -> None:
        _expect_numbers(Y, n_out)
        _expect_all(Y >= 0, Y, "0 or more: give counts")

    return attrs.evolve(
        _regression("poisson", entries),
        predict=lambda Z, context=EVALUATION: freeze(context.numerics.exp(Z)),
        expect_labels=expect_counts,
        onnx=lambda Z: Z.op("Exp"),
        takes_scaled=False,
    )


def _regression(name: str, entries: Entries) -> Loss:
    return Loss(
        name,
        MeanOf(entries),
        lambda AL, context=EVALUATION: AL,
        _expect_numbers,
        lambda n_out: "regression",
        onnx=lambda AL: AL,
        takes_scaled=True,
    )


def _difference(AL: FloatArray, Y: FloatArray) -> FloatArray:
    if Y.shape != AL.shape:
        expect_shape("Y", Y, AL.shape, hint="give one number per output and example")
    return AL - Y


# Checks of the labels of a training set


def _expect_numbers(Y: FloatArray, n_out: int) -> None:
    expect_shape("Y", Y, (n_out, "m"), hint="give one row of Y per output of the network")
    expect_finite("Y", Y)


def _expect_binary(Y: FloatArray, n_out: int) -> None:
    classes, from_0 = _classes_in(Y)
    several = f"for {classes} classes use softmax_cross_entropy and dense({classes}){from_0}"
    rows = "give one row of Y per output of the network"
    if n_out > 1:
        rows += ", or use softmax_cross_entropy for one row of class numbers"
    expect_shape("Y", Y, (n_out, "m"), hint=several if classes > 2 else rows)
    recode = "recode them, or use mean_squared for numbers"
    hint = several if classes > 2 else from_0.removeprefix("; ") or recode
    _expect_all((Y == 0) | (Y == 1), Y, f"0 or 1, as sigmoid_cross_entropy has it: {hint}")
    for row, ones in enumerate(np.count_nonzero(Y, axis=1)):
        if ones in (0, Y.shape[1]):
            where = f" in row {row}" if n_out > 1 else ""
            raise BadInput(
                f"label {0 if ones else 1} never occurs{where}, expected examples of both: "
                "give more data."
            )


def _expect_classes(Y: FloatArray, n_out: int) -> None:
    if Y.shape[0] == n_out != 1:
        _expect_all((Y == 0) | (Y == 1), Y, "0 or 1, in one-hot columns: recode them")
        sums = np.count_nonzero(Y, axis=0)
        if (sums != 1).any():
            column = int(np.argmax(sums != 1))
            raise BadInput(
                f"column {column} of Y has {sums[column]:g} ones, expected one: "
                "use sigmoid_cross_entropy for several labels at once."
            )
        counts = np.count_nonzero(Y, axis=1)
    else:
        hint = f"give the number of each example's class, or {n_out} one-hot rows"
        expect_shape("Y", Y, (1, "m"), hint=hint)
        _expect_class_numbers(Y, n_out)
        counts = np.bincount(Y[0].astype(int), minlength=n_out)
    if not counts.all():
        classes, from_0 = _classes_in(Y)
        hint = "give more data, or the network fewer outputs"
        if from_0:
            hint = f"for {classes} classes end the network with dense({classes}){from_0}"
        raise BadInput(
            f"class {int(np.argmin(counts))} of {n_out} never occurs, expected examples of each: "
            f"{hint}."
        )


def _expect_class_numbers(Y: FloatArray, n_out: int) -> None:
    whole = (Y >= 0) & (n_out > Y) & (np.floor(Y) == Y)
    classes, from_0 = _classes_in(Y)
    hint = from_0.removeprefix("; ") or "number the classes from 0, or use mean_squared for numbers"
    if classes > n_out:
        one_each = f"for {classes} classes end the network with dense({classes})"
        hint = (one_each if classes > 2 else "for two classes use sigmoid_cross_entropy") + from_0
    outputs = f"the network has {n_out} output{'s' if n_out > 1 else ''}"
    _expect_all(whole, Y, f"a whole number from 0 to {n_out - 1}, since {outputs}: {hint}")


_MOST_CLASSES = 10_000  # labels beyond this are taken for numbers, not classes, in advice


def _classes_in(Y: FloatArray) -> tuple[int, str]:
    """The number of classes if labels Y (1, m) look like class numbers, else 0.

    Returns:
        The number, and what to add to advice where the numbers begin at 1: "" where they do not.
    """
    if len(Y) != 1 or not Y.size or not ((Y >= 0) & (Y < _MOST_CLASSES)).all():
        return 0, ""
    if (np.floor(Y) != Y).any():
        return 0, ""
    last = int(Y.max())
    if last > 1 and np.array_equal(np.unique(Y), np.arange(1, last + 1)):
        return last, "; number the classes from 0, so give Y - 1"
    return last + 1, ""


def _expect_all(right: NDArray[np.bool_], Y: FloatArray, expected: str) -> None:
    if not right.all():
        index = tuple(int(i) for i in np.argwhere(~right)[0])
        raise BadInput(f"label {Y[index]:g} at index {index}, expected {expected}.")


def _expect_smoothing(value: float) -> float:
    hint = "give the share to spread, e.g. 0.1"
    return expect_real("label_smoothing", value, least=0, below=1, hint=hint)
