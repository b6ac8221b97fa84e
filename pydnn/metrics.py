"""Metrics: pure functions of predictions and labels that people read.

Examples are columns. Predictions are numbers of classes (1, m); for several labels, 0 or 1
(n_y, m); for regression, numbers (n_y, m). Probabilities are what a loss's `predict` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count, expect_known, expect_shape
from pydnn.numerics import Numerics, fast
from pydnn.records import FloatArray, freeze

__all__ = [
    "METRICS",
    "accuracy",
    "classes_of",
    "confusion_matrix",
    "f1_score",
    "log_loss",
    "mean_absolute_error",
    "most_likely",
    "precision",
    "r_squared",
    "recall",
    "roc_auc",
    "score",
]


def classes_of(probabilities: FloatArray) -> FloatArray:
    """0 or 1 for each probability of the positive class: 1 where it is above one half."""
    return freeze((probabilities > 0.5).astype(np.float64))


def most_likely(probabilities: FloatArray) -> FloatArray:
    """The number of the most probable class of each column of `probabilities` (K, m), (1, m)."""
    return freeze(probabilities.argmax(axis=0)[np.newaxis].astype(np.float64))


def accuracy(predictions: FloatArray, Y: FloatArray) -> float:
    """Share of examples whose prediction equals the label Y; all of it, where it has several."""
    _expect_pair(predictions, Y)
    return float(np.count_nonzero((predictions == Y).all(axis=0)) / Y.shape[1])


def confusion_matrix(
    predictions: FloatArray, Y: FloatArray, *, classes: int = 2
) -> NDArray[np.int64]:
    """How many examples of class i (row) were taken for class j (column), for numbers (1, m)."""
    expect_count("classes", classes, least=2, hint="give the number of classes")
    pair = [_class_numbers(name, a, classes) for name, a in _named(predictions, Y)]
    _expect_pair(predictions, Y)
    counts = np.bincount(pair[1] * classes + pair[0], minlength=classes * classes)
    return freeze(counts.reshape(classes, classes))


def precision(
    predictions: FloatArray, Y: FloatArray, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Share of right ones among the examples taken for positive; 0 where none was.

    For two classes, class 1 is positive. For more, and for several labels (n_y, m), it is the
    mean over classes or labels, each in turn the positive one.
    """
    hits, taken, _ = _counts(predictions, Y, classes)
    return _mean_ratio(hits, taken, numerics)


def recall(
    predictions: FloatArray, Y: FloatArray, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Share of the positive examples that were taken for positive; 0 where there is none.

    What is positive, and the mean where there is more of it, are those of `precision`.
    """
    hits, _, positive = _counts(predictions, Y, classes)
    return _mean_ratio(hits, positive, numerics)


def f1_score(
    predictions: FloatArray, Y: FloatArray, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """Harmonic mean of precision and recall; 0 where both are.

    What is positive, and the mean where there is more of it, are those of `precision`.
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _mean_ratio(2 * hits, taken + positive, numerics)


def roc_auc(probabilities: FloatArray, Y: FloatArray, *, numerics: Numerics = fast) -> float:
    """Area under the curve of true against false positives, ties counting half.

    That is the probability that a positive example gets a greater number than a negative one.
    Several rows (n_y, m) give the mean over labels; for many classes, `probabilities` (K, m) and
    Y (1, m), each class stands against the rest.

    References:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    if len(Y) == 1 < len(probabilities):
        expect_shape("Y", Y, (1, probabilities.shape[1]), hint="give one class per example")
        Y = (np.arange(len(probabilities))[:, np.newaxis] == Y).astype(np.float64)
    _expect_pair(probabilities, Y)
    return _mean(numerics, np.array([_auc(i, probabilities[i], Y[i]) for i in range(len(Y))]))


def _auc(row: int, numbers: FloatArray, labels: FloatArray) -> float:
    positive = labels == 1
    p, n = np.count_nonzero(positive), np.count_nonzero(~positive)
    if not p or not n:
        raise BadInput(
            f"label {0 if n else 1} is all there is in row {row}, expected both 0 and 1: "
            "the area under the curve compares the two."
        )
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal numbers share their mean rank
    # Twice the ranks are whole numbers, whose sum is exact in any order.
    twice = int((2 * ranks).astype(np.int64)[which][positive].sum())
    return (twice / 2 - p * (p + 1) / 2) / (p * n)


def log_loss(probabilities: FloatArray, Y: FloatArray, *, numerics: Numerics = fast) -> float:
    """Mean of minus the logarithm, in nats, of the probability that each label was given.

    For two classes and several labels Y (n_y, m), probabilities are those of 1; for many classes
    they are (K, m), and Y the numbers of classes, (1, m). The least positive number stands for 0.
    """
    if len(Y) == 1 < len(probabilities):
        expect_shape("Y", Y, (1, probabilities.shape[1]), hint="give one class per example")
        numbers = _class_numbers("labels", Y, len(probabilities))
        given = probabilities[numbers, np.arange(len(numbers))]
    else:
        _expect_pair(probabilities, Y)
        given = np.where(Y == 1, probabilities, 1 - probabilities)
    if not ((given >= 0) & (given <= 1)).all():
        raise BadInput("probabilities lie outside 0 to 1: apply the loss's predict to the logits.")
    return -_mean(numerics, numerics.log(np.maximum(given, np.finfo(given.dtype).tiny)))


def r_squared(predictions: FloatArray, Y: FloatArray, *, numerics: Numerics = fast) -> float:
    """1 less the squared error over the squared deviation of Y from its mean; mean over rows.

    It is 1 for exact predictions, and 0 for those that always give the mean.
    """
    _expect_pair(predictions, Y)
    # Turned, since sums along the other axis may take BLAS.
    mean = numerics.sum(Y.T, axis=0) / Y.shape[1]
    residual, total = (
        numerics.sum((difference * difference).T, axis=0)[0]
        for difference in (Y - predictions, Y - mean.T)
    )
    if not total.all():
        raise BadInput("Y is constant, expected labels that differ: R squared compares with them.")
    return _mean(numerics, 1 - residual / total)


def mean_absolute_error(
    predictions: FloatArray, Y: FloatArray, *, numerics: Numerics = fast
) -> float:
    """Mean of |prediction - Y| over outputs and examples."""
    _expect_pair(predictions, Y)
    return _mean(numerics, np.abs(predictions - Y))


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


def score(
    task: str, predictions: FloatArray, Y: FloatArray, *, numerics: Numerics = fast
) -> dict[str, float]:
    """Every metric of a `task` that these labels allow, by name.

    Left out are those that compare classes of which the labels hold but one.

    Args:
        task: One of `losses.TASKS`.
        predictions: What the loss's `predict` gives: probabilities, or numbers.
        Y: Labels, as the loss takes them.
        numerics: The arithmetic.
    """
    expect_known("task", task, METRICS)
    if task == "many classes":
        Y = _numbers(Y)
    scores = {}
    for name, metric in METRICS[task].items():
        try:
            scores[name] = metric(predictions, Y, numerics)
        except BadInput:
            if name not in ("roc_auc", "r_squared"):
                raise
    return scores


def _numbers(Y: FloatArray) -> FloatArray:
    """Numbers of classes (1, m), of one-hot columns too."""
    return Y if len(Y) == 1 else most_likely(Y)


def _named(predictions: FloatArray, Y: FloatArray) -> list[tuple[str, FloatArray]]:
    return [("predictions", predictions), ("labels", Y)]


def _expect_pair(predictions: FloatArray, Y: FloatArray) -> None:
    expect_shape("predictions", predictions, Y.shape, hint="give one prediction per label")
    if Y.size == 0:
        raise BadInput("there are no labels, expected one or more: metrics are means over them.")


def _class_numbers(name: str, array: FloatArray, classes: int) -> NDArray[np.int64]:
    expect_shape(name, array, (1, "m"), hint="give the numbers of classes")
    wrong = ~((array >= 0) & (array < classes) & (array == np.floor(array)))
    if wrong.any():
        column = int(np.argmax(wrong[0]))
        raise BadInput(
            f"{name} hold {array[0, column]:g} in column {column}, expected a whole number from "
            f"0 to {classes - 1}: give the number of classes, or other {name}."
        )
    numbers: NDArray[np.int64] = array[0].astype(np.int64)
    return numbers


def _counts(
    predictions: FloatArray, Y: FloatArray, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each positive class or label: right ones, those taken for it, and those that are it."""
    _expect_pair(predictions, Y)
    if len(Y) > 1:
        taken, positive = predictions == 1, Y == 1
        return (taken & positive).sum(axis=1), taken.sum(axis=1), positive.sum(axis=1)
    matrix = confusion_matrix(predictions, Y, classes=classes)
    counts = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    only = slice(1, None) if classes == 2 else slice(None)
    return counts[0][only], counts[1][only], counts[2][only]


def _mean(numerics: Numerics, numbers: FloatArray) -> float:
    """The mean, in the precision of the numbers."""
    return float(numbers.dtype.type(numerics.mean(numbers)))


def _mean_ratio(part: NDArray[np.int64], whole: NDArray[np.int64], numerics: Numerics) -> float:
    return _mean(numerics, np.where(whole > 0, part / np.maximum(whole, 1), 0.0))
