"""Metrics: pure functions of predictions and labels that people read.

Examples are columns. Predictions are numbers of classes (1, m); for several labels, 0 or 1
(n_y, m); for regression, numbers (n_y, m). Probabilities are what a loss's `predict` gives.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_finite, expect_known, expect_shape
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import FloatArray, freeze, readonly

__all__ = [
    "METRICS",
    "accuracy",
    "classes_of",
    "confusion_matrix",
    "f1_score",
    "higher_is_better",
    "log_loss",
    "mean_absolute_error",
    "most_likely",
    "precision",
    "r_squared",
    "recall",
    "roc_auc",
    "score",
    "score_by_class",
]


def classes_of(probabilities: ArrayLike) -> FloatArray:
    """0 or 1 for each probability of the positive class: 1 where it is above one half.

    Raises:
        BadInput: If an entry is not a finite number.
    """
    return freeze((_numbers("probabilities", probabilities) > 0.5).astype(np.float64))


def most_likely(probabilities: ArrayLike) -> FloatArray:
    """The number of the most probable class of each column of `probabilities` (K, m), (1, m).

    Raises:
        BadInput: If an entry is not a finite number.
    """
    P = _numbers("probabilities", probabilities)
    return freeze(P.argmax(axis=0)[np.newaxis].astype(np.float64))


def accuracy(predictions: ArrayLike, Y: ArrayLike) -> float:
    """Share of examples whose prediction equals the label Y; all of it, where it has several."""
    P, Y = _pair(predictions, Y)
    for name, array in _named(P, Y):
        _expect_classes(name, array, 2 if len(Y) > 1 else None)
    return float(np.count_nonzero((P == Y).all(axis=0)) / Y.shape[1])


def confusion_matrix(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2
) -> NDArray[np.int64]:
    """How many examples of class i (row) were taken for class j (column), for numbers (1, m)."""
    expect_count("classes", classes, least=2, hint="give the number of classes")
    P, Y = _pair(predictions, Y)
    taken, true = (_class_numbers(name, array, classes) for name, array in _named(P, Y))
    counts = np.bincount(true * classes + taken, minlength=classes * classes)
    return freeze(counts.reshape(classes, classes))


def precision(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Share of right ones among the examples taken for positive; 0 where none was.

    For two classes, class 1 is positive. For more, and for several labels (n_y, m), it is the
    mean over classes or labels, each in turn the positive one (the macro average). A class that
    occurs neither in Y nor in the predictions does not count in that mean.
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(hits, taken, taken + positive, numerics)


def recall(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Share of the positive examples that were taken for positive; 0 where there is none.

    Which class is positive, and the mean over several of them, are as in `precision`.
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(hits, positive, taken + positive, numerics)


def f1_score(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Harmonic mean of precision and recall; 0 where both are.

    Which class is positive, and the mean over several of them, are as in `precision`.
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(2 * hits, taken + positive, taken + positive, numerics)


@ignoring_underflow
def roc_auc(probabilities: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast) -> float:
    """Area under the curve of true against false positives, ties counting half.

    That is the probability that a positive example gets a greater number than a negative one.
    Several rows (n_y, m) give the mean over labels; for many classes, `probabilities` (K, m) and
    Y (1, m), each class stands against the rest. A label or class of which Y holds only 0 or
    only 1 has no such area and does not count in the mean.

    Raises:
        BadInput: If no label or class has both, among others.

    References:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    P, Y = _probabilities_and_labels(probabilities, Y)
    ones = np.count_nonzero(Y, axis=1)
    rows = np.flatnonzero((ones > 0) & (ones < Y.shape[1]))
    if not rows.size:
        raise _Undefined(
            f"label {0 if not ones[0] else 1} is all there is in row 0, expected both 0 and 1: "
            "the area under the curve compares the two."
        )
    return _mean(numerics, np.array([_auc(P[row], Y[row] == 1) for row in rows]))


def _auc(numbers: FloatArray, positive: NDArray[np.bool_]) -> float:
    p, n = np.count_nonzero(positive), np.count_nonzero(~positive)
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal numbers share their mean rank
    # Twice the ranks are whole numbers, whose sum is exact in any order.
    twice = int((2 * ranks).astype(np.int64)[which][positive].sum())
    return (twice / 2 - p * (p + 1) / 2) / (p * n)


@ignoring_underflow
def log_loss(probabilities: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast) -> float:
    """Mean of minus the logarithm, in nats, of the probability of each label.

    For two classes and several labels Y (n_y, m), probabilities are those of label 1. The
    probability of a label counts as at least the distance from 1 to the next smaller number of
    its dtype (2**-53 for float64, a loss of 36.7), whether the label is 0 or 1: a probability
    that rounds to 1 says no more than that about the other label. For many classes,
    probabilities are (K, m) and Y has the numbers of classes, (1, m); there the smallest
    positive normal number stands for 0.
    """
    P, labels = _probabilities_and_labels(probabilities, Y)
    if not ((P >= 0) & (P <= 1)).all():
        raise BadInput("probabilities lie outside 0 to 1: apply the loss's predict to the logits.")
    if len(labels) == np.shape(Y)[0]:
        p, least = np.where(labels == 1, P, 1 - P), np.finfo(P.dtype).epsneg
    else:
        p, least = P.T[labels.T == 1], np.finfo(P.dtype).tiny  # by example
    return -_mean(numerics, numerics.log(np.maximum(p, least)))


@ignoring_underflow
def r_squared(predictions: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast) -> float:
    """1 less the squared error over the squared deviation of Y from its mean; mean over rows.

    It is 1 for exact predictions, and 0 for those that always give the mean.

    Raises:
        BadInput: If all labels of a row are equal, among others.
    """
    P, labels = _pair(predictions, Y)
    # Compared with each other: the sum of their squared deviations may round to more than 0.
    constant = (labels[:, :1] == labels).all(axis=1)
    if constant.any():
        raise _Undefined(
            f"Y is constant in row {int(np.argmax(constant))}, expected labels that differ: "
            "R squared compares with them."
        )
    # Powers of 2 change no bit of the ratio, and keep squares of huge and tiny labels in range.
    powers = -np.frexp(np.abs(labels).max(axis=1, keepdims=True))[1]
    with np.errstate(over="ignore"):  # an error without bound has an R squared of -inf
        P, labels = np.ldexp(P, powers), np.ldexp(labels, powers)
        # Turned, since sums along the other axis may take BLAS.
        mean = numerics.sum(labels.T, axis=0) / labels.shape[1]
        residual, total = (
            numerics.sum((difference * difference).T, axis=0)[0]
            for difference in (labels - P, labels - mean.T)
        )
        return _mean(numerics, 1 - residual / total)


@ignoring_underflow
def mean_absolute_error(
    predictions: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast
) -> float:
    """Mean of |prediction - Y| over outputs and examples."""
    P, Y = _pair(predictions, Y)
    return _mean(numerics, np.abs(P - Y))


# By task


Metric = Callable[[FloatArray, FloatArray], float]  # of what a loss predicts, and labels
_Metric = Callable[[FloatArray, FloatArray, Numerics], float]

_OF_LABELS: Mapping[str, _Metric] = {  # one label 0 or 1, or several
    "accuracy": lambda P, Y, n: accuracy(classes_of(P), Y),
    "precision": lambda P, Y, n: precision(classes_of(P), Y, numerics=n),
    "recall": lambda P, Y, n: recall(classes_of(P), Y, numerics=n),
    "f1": lambda P, Y, n: f1_score(classes_of(P), Y, numerics=n),
    "roc_auc": lambda P, Y, n: roc_auc(P, Y, numerics=n),
    "log_loss": lambda P, Y, n: log_loss(P, Y, numerics=n),
}
_OF_CLASSES: Mapping[str, _Metric] = {
    "accuracy": lambda P, Y, n: accuracy(most_likely(P), Y),
    "precision": lambda P, Y, n: precision(most_likely(P), Y, classes=len(P), numerics=n),
    "recall": lambda P, Y, n: recall(most_likely(P), Y, classes=len(P), numerics=n),
    "f1": lambda P, Y, n: f1_score(most_likely(P), Y, classes=len(P), numerics=n),
    "roc_auc": lambda P, Y, n: roc_auc(P, Y, numerics=n),
    "log_loss": lambda P, Y, n: log_loss(P, Y, numerics=n),
}

METRICS: Mapping[str, Mapping[str, _Metric]] = {
    "two classes": _OF_LABELS,
    "many classes": _OF_CLASSES,
    "several labels": _OF_LABELS,
    "regression": {
        "r_squared": lambda P, Y, n: r_squared(P, Y, numerics=n),
        "mean_absolute_error": lambda P, Y, n: mean_absolute_error(P, Y, numerics=n),
    },
}


@attrs.frozen
class _Meaning:
    """How people read a value.

    Attributes:
        higher_is_better: Whether a greater value is better.
        over_classes: Whether it is a mean over classes or labels where there are several.
    """

    higher_is_better: bool
    over_classes: bool = False


# Besides metrics, people watch a training's own numbers.
_MEANINGS: Mapping[str, _Meaning] = {
    "cost": _Meaning(higher_is_better=False),
    "gradient_norm": _Meaning(higher_is_better=False),
    "accuracy": _Meaning(higher_is_better=True),
    "precision": _Meaning(higher_is_better=True, over_classes=True),
    "recall": _Meaning(higher_is_better=True, over_classes=True),
    "f1": _Meaning(higher_is_better=True, over_classes=True),
    "roc_auc": _Meaning(higher_is_better=True, over_classes=True),
    "log_loss": _Meaning(higher_is_better=False),
    "r_squared": _Meaning(higher_is_better=True),
    "mean_absolute_error": _Meaning(higher_is_better=False),
}


def higher_is_better(name: str) -> bool:
    """Whether a greater value is better for "cost", "gradient_norm" or a metric of pydnn.

    The name of a part of the data may come before it, as in "validation accuracy".

    Raises:
        BadInput: If the name is another one, since nothing says which way that value points.
    """
    metric = name.rpartition(" ")[2]
    if metric not in _MEANINGS:
        raise BadInput(
            f"{name!r} may be better when it is higher or when it is lower, expected a word on "
            "that: say higher_is_better, True or False."
        )
    return _MEANINGS[metric].higher_is_better


@ignoring_underflow
def score(
    task: str, predictions: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast
) -> dict[str, float]:
    """Every metric of a `task` that these labels allow, by name.

    Metrics that compare labels which differ are left out where all are equal.

    Args:
        task: One of `losses.TASKS`.
        predictions: What the loss's `predict` gives: probabilities, or numbers.
        Y: Labels, as the loss takes them.
        numerics: The arithmetic.

    Raises:
        BadInput: If a prediction or label is not a finite number, or not one of the task's.
    """
    expect_known("task", task, METRICS)
    P, Y = _numbers("predictions", predictions), _labels(task, Y)
    scores = {}
    for name, metric in METRICS[task].items():
        with contextlib.suppress(_Undefined):
            scores[name] = metric(P, Y, numerics)
    return scores


@ignoring_underflow
def score_by_class(task: str, predictions: ArrayLike, Y: ArrayLike) -> list[dict[str, float | int]]:
    """Precision, recall and f1 of each class, or of each of several labels, and its examples.

    Args:
        task: One of `losses.TASKS` that has classes or labels.
        predictions: What the loss's `predict` gives: probabilities.
        Y: Labels, as the loss takes them.

    Returns:
        For each class in turn {"precision": …, "recall": …, "f1": …, "count": examples}. The
        three are nan for a class that occurs neither in Y nor in the predictions.

    Raises:
        BadInput: If the task has no classes, or as `score` does.

    Example:
        >>> score_by_class("two classes", [[0.9, 0.2, 0.8]], [[1, 0, 0]])[1]["precision"]
        0.5
    """
    expect_known("task", task, METRICS)
    if task == "regression":
        raise BadInput("regression has no classes: ask for its score.")
    P, Y = _numbers("predictions", predictions), _labels(task, Y)
    if task == "several labels":
        hits, taken, positive = _counts(classes_of(P), Y, 2)
    else:
        chosen = classes_of(P) if task == "two classes" else most_likely(P)
        hits, taken, positive = _by_class(chosen, Y, max(2, len(P)))
    columns = {
        "precision": _ratios(hits, taken),
        "recall": _ratios(hits, positive),
        "f1": _ratios(2 * hits, taken + positive),
    }
    occurs = taken + positive > 0
    return [
        {name: float(column[i]) if occurs[i] else math.nan for name, column in columns.items()}
        | {"count": int(positive[i])}
        for i in range(len(hits))
    ]


def title(task: str, name: str) -> str:
    """What the metric `name` of a `task` is called where a person reads it.

    It says "macro" where the number is a mean over classes or labels.
    """
    macro = task in ("many classes", "several labels") and _MEANINGS[name].over_classes
    return f"macro {name}" if macro else name


# What every metric asks of its arrays


class _Undefined(BadInput):
    """The labels are sound, but the metric has no value for labels that are all equal."""


def _numbers(name: str, x: ArrayLike) -> FloatArray:
    """The array (n, m) in floats; refused if it has another shape or an entry is not finite."""
    array = readonly(x)
    hint = "put examples in columns, e.g. pass y[np.newaxis] for a vector y"
    expect_shape(name, array, ("n_y", "m"), hint=hint)
    expect_finite(name, array)
    return array


def _pair(predictions: ArrayLike, Y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Predictions and labels of one shape, with an example or more."""
    P, Y = _numbers("predictions", predictions), _numbers("Y", Y)
    expect_shape("predictions", P, Y.shape, hint="give one prediction per label")
    if Y.size == 0:
        raise BadInput("there are no labels, expected one or more: metrics are means over them.")
    return P, Y


def _probabilities_and_labels(
    probabilities: ArrayLike, Y: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Probabilities (n, m), and for each of them whether it is that of the label: 1 or 0."""
    P, Y = _numbers("probabilities", probabilities), _numbers("Y", Y)
    if len(Y) == 1 < len(P):
        expect_shape("Y", Y, (1, P.shape[1]), hint="give one class per example")
        Y = (np.arange(len(P))[:, np.newaxis] == _class_numbers("Y", Y, len(P))).astype(P.dtype)
    P, Y = _pair(P, Y)
    _expect_classes("Y", Y, 2)
    return P, Y


def _labels(task: str, Y: ArrayLike) -> FloatArray:
    """Labels as the metrics of a task take them: numbers of classes also of one-hot columns."""
    labels = _numbers("Y", Y)
    if task != "many classes" or len(labels) == 1:
        return labels
    _expect_classes("Y", labels, 2)
    ones = np.count_nonzero(labels, axis=0)
    if (ones != 1).any():
        column = int(np.argmax(ones != 1))
        raise BadInput(
            f"column {column} of Y has {ones[column]} ones, expected one: "
            "give one-hot columns, or the numbers of classes."
        )
    return most_likely(labels)


def _named(predictions: FloatArray, Y: FloatArray) -> list[tuple[str, FloatArray]]:
    return [("predictions", predictions), ("labels", Y)]


def _expect_classes(name: str, array: FloatArray, classes: int | None) -> None:
    """Refuse what is not a whole number from 0 to `classes` - 1; None for any number of them."""
    right = (array >= 0) & (array < (np.inf if classes is None else classes))
    right &= array == np.floor(array)
    if right.all():
        return
    row, column = (int(i) for i in np.argwhere(~right)[0])
    where = f"row {row}, column {column}" if len(array) > 1 else f"column {column}"
    bound = "0 on" if classes is None else f"0 to {classes - 1}"
    advice = "apply classes_of or most_likely to probabilities"
    if name != "predictions":
        advice = "recode the labels, or give the right number of classes"
    raise BadInput(
        f"{name} hold {array[row, column]:g} in {where}, expected a whole number from {bound}: "
        f"{advice}."
    )


def _class_numbers(name: str, array: FloatArray, classes: int) -> NDArray[np.int64]:
    expect_shape(name, array, (1, "m"), hint="give the numbers of classes")
    _expect_classes("labels" if name == "Y" else name, array, classes)
    numbers: NDArray[np.int64] = array[0].astype(np.int64)
    return numbers


_Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _counts(predictions: ArrayLike, Y: ArrayLike, classes: int) -> _Counts:
    """For each positive class or label: right ones, those taken for it, and those that are it."""
    P, Y = _pair(predictions, Y)
    if len(Y) > 1:
        for name, array in _named(P, Y):
            _expect_classes(name, array, 2)
        taken, positive = P == 1, Y == 1
        return (taken & positive).sum(axis=1), taken.sum(axis=1), positive.sum(axis=1)
    hits, taken, positive = _by_class(P, Y, classes)
    only = slice(1, None) if classes == 2 else slice(None)
    return hits[only], taken[only], positive[only]


def _by_class(predictions: FloatArray, Y: FloatArray, classes: int) -> _Counts:
    matrix = confusion_matrix(predictions, Y, classes=classes)
    return matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)


def _mean(numerics: Numerics, numbers: FloatArray) -> float:
    """The mean, in the precision of the numbers."""
    return float(numbers.dtype.type(numerics.mean(numbers)))


def _ratios(part: NDArray[np.int64], whole: NDArray[np.int64]) -> FloatArray:
    ratios: FloatArray = np.where(whole > 0, part / np.maximum(whole, 1), 0.0)
    return ratios


def _macro(
    part: NDArray[np.int64],
    whole: NDArray[np.int64],
    occurrences: NDArray[np.int64],
    numerics: Numerics,
) -> float:
    """The mean of part / whole over the classes that occur at all; 0 if none does."""
    occurs = occurrences > 0
    return _mean(numerics, _ratios(part[occurs], whole[occurs])) if occurs.any() else 0.0
