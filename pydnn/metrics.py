"""Metrics: pure functions of predictions and labels, for people to read.

Examples are columns. Predictions are class numbers (1, m); for several labels, 0 or 1 (n_y, m);
for regression, numbers (n_y, m). Probabilities come from a loss's `predict`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_finite, expect_known, expect_shape
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import FloatArray, as_array, freeze, readonly
from pydnn.sequences import columns_with_labels

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
    "tally",
]


def classes_of(probabilities: ArrayLike) -> FloatArray:
    """Convert probabilities of the positive class to classes: 1 if above 0.5, else 0.

    Raises:
        BadInput: If an entry is not a finite number.

    Example:
        >>> classes_of([[0.2, 0.5, 0.9]])
        array([[0., 0., 1.]])
    """
    return freeze((_numbers("probabilities", probabilities) > 0.5).astype(np.float64))


def most_likely(probabilities: ArrayLike) -> FloatArray:
    """Convert probabilities (K, m) to the number of each column's most probable class, (1, m).

    Raises:
        BadInput: If an entry is not a finite number.

    Example:
        >>> most_likely([[0.1, 0.7], [0.6, 0.2], [0.3, 0.1]])
        array([[1., 0.]])
    """
    P = _numbers("probabilities", probabilities)
    return freeze(P.argmax(axis=0)[np.newaxis].astype(np.float64))


def accuracy(predictions: ArrayLike, Y: ArrayLike) -> float:
    """The share of examples whose prediction equals the label; with several labels, all of them.

    Args:
        predictions: Class numbers (1, m), or for several labels 0 or 1 (n_y, m).
        Y: The labels, of the same shape.

    Raises:
        BadInput: If the shapes differ, or an entry is not a class number.

    Example:
        >>> accuracy([[0, 1, 1, 0]], [[0, 1, 0, 0]])
        0.75
    """
    P, Y = _pair(predictions, Y)
    for name, array in _named(P, Y):
        _expect_classes(name, array, 2 if len(Y) > 1 else None)
    return float(np.count_nonzero((P == Y).all(axis=0)) / Y.shape[1])


def confusion_matrix(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2
) -> NDArray[np.int64]:
    """Count the examples of class i (row) that were predicted as class j (column).

    Args:
        predictions: Class numbers, shape (1, m).
        Y: The labels, class numbers, shape (1, m).
        classes: The number of classes.

    Returns:
        The counts, int64, shape (classes, classes).

    Raises:
        BadInput: If the shapes differ, or an entry is not a class number below `classes`.

    Example:
        >>> confusion_matrix([[0, 1, 1, 0]], [[0, 1, 0, 0]])
        array([[2, 1],
               [0, 1]])
    """
    expect_count("classes", classes, least=2, hint="give the number of classes")
    P, Y = _pair(predictions, Y)
    taken, true = (
        _class_numbers(name, array, classes, option=True) for name, array in _named(P, Y)
    )
    # Numbers each pair of classes, so that one pass counts all pairs.
    counts = np.bincount(true * classes + taken, minlength=classes * classes)
    return freeze(counts.reshape(classes, classes))


def precision(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """The share of correct predictions among the positive ones; 0 if there are none.

    For two classes, class 1 is positive. For more classes or several labels, the result is the
    macro average: the mean over classes or labels, each taken as positive in turn. Classes that
    occur neither in Y nor in the predictions are left out of the mean.

    Args:
        predictions: Class numbers (1, m), or for several labels 0 or 1 (n_y, m).
        Y: The labels, of the same shape.
        classes: The number of classes.
        numerics: The arithmetic of the mean.

    Raises:
        BadInput: If the shapes differ, or an entry is not a class number below `classes`.

    Example:
        >>> precision([[0, 1, 1, 0]], [[0, 1, 0, 0]])
        0.5
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(hits, taken, taken + positive, numerics)


def recall(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """The share of the positive examples that are predicted as positive; 0 if there are none.

    The positive class and the mean over classes or labels are those of `precision`.

    Args:
        predictions: Class numbers (1, m), or for several labels 0 or 1 (n_y, m).
        Y: The labels, of the same shape.
        classes: The number of classes.
        numerics: The arithmetic of the mean.

    Raises:
        BadInput: If the shapes differ, or an entry is not a class number below `classes`.

    Example:
        >>> recall([[0, 1, 1, 0]], [[0, 1, 0, 0]])
        1.0
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(hits, positive, taken + positive, numerics)


def f1_score(
    predictions: ArrayLike, Y: ArrayLike, *, classes: int = 2, numerics: Numerics = fast
) -> float:
    """The harmonic mean of precision and recall; 0 if both are 0.

    The positive class and the mean over classes or labels are those of `precision`.

    Args:
        predictions: Class numbers (1, m), or for several labels 0 or 1 (n_y, m).
        Y: The labels, of the same shape.
        classes: The number of classes.
        numerics: The arithmetic of the mean.

    Raises:
        BadInput: If the shapes differ, or an entry is not a class number below `classes`.

    Example:
        >>> round(f1_score([[0, 1, 1, 0]], [[0, 1, 0, 0]]), 4)
        0.6667
    """
    hits, taken, positive = _counts(predictions, Y, classes)
    return _macro(2 * hits, taken + positive, taken + positive, numerics)


@ignoring_underflow
def roc_auc(probabilities: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast) -> float:
    """The area under the ROC curve, of true against false positives.

    It is the probability that a positive example gets a higher number than a negative one, where
    a tie counts half. For several labels, it is the mean over labels. For more than two classes,
    it is the mean over classes, each compared with all others. Labels and classes without both
    positive and negative examples are left out of the mean.

    Args:
        probabilities: Probabilities or other scores, shape (n_y, m), or (K, m) for K classes.
        Y: The labels, 0 or 1 (n_y, m), or class numbers (1, m).
        numerics: The arithmetic of the mean.

    Raises:
        BadInput: If the shapes do not fit, an entry of Y is not a label, or no label or class
            has both positive and negative examples.

    References:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.

    Example:
        >>> roc_auc([[0.1, 0.6, 0.4, 0.9]], [[0, 0, 1, 1]])
        0.75
    """
    P, Y = _probabilities_and_labels(probabilities, Y)
    ones = np.count_nonzero(Y, axis=1)
    rows = np.flatnonzero((ones > 0) & (ones < Y.shape[1]))
    if not rows.size:
        raise _Undefined(
            f"row 0 has only label {0 if not ones[0] else 1}, expected both 0 and 1: "
            "the area under the curve compares the two."
        )
    return _mean(numerics, np.array([_auc(P[row], Y[row] == 1) for row in rows]))


def _auc(numbers: FloatArray, positive: NDArray[np.bool_]) -> float:
    p, n = np.count_nonzero(positive), np.count_nonzero(~positive)
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal numbers all get their mean rank
    # Doubled ranks are whole numbers, so their sum is exact in any order.
    twice = int((2 * ranks).astype(np.int64)[which][positive].sum())
    # The ranks of positives, less their lowest possible sum, count the negatives below them.
    return (twice / 2 - p * (p + 1) / 2) / (p * n)


@ignoring_underflow
def log_loss(probabilities: ArrayLike, Y: ArrayLike, *, numerics: Numerics = fast) -> float:
    """The mean of minus the logarithm of the probability of each label, in nats.

    A probability of 0 would make it infinite. So with labels 0 and 1, the probability of a label
    counts as at least the gap between 1 and the next smaller number of its dtype (2**-53 in
    float64, a loss of 36.7): if the probability of label 1 is rounded to 1, that of label 0 is
    not known more precisely. With class numbers, 0 counts as the smallest positive normal number.

    Args:
        probabilities: The probabilities of label 1, shape (n_y, m), or of K classes, (K, m).
        Y: The labels, 0 or 1 (n_y, m), or class numbers (1, m).
        numerics: The arithmetic.

    Raises:
        BadInput: If the shapes do not fit, a probability is not between 0 and 1, or an entry of
            Y is not a label.

    Example:
        >>> round(log_loss([[0.5, 0.5]], [[0, 1]]), 4)
        0.6931
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
    """1 - (sum of squared errors) / (sum of squared deviations of Y from its mean), averaged.

    It is 1 for exact predictions and 0 for always predicting the mean. With several rows, it is
    the mean over rows.

    Args:
        predictions: Numbers, shape (n_y, m).
        Y: The labels, shape (n_y, m).
        numerics: The arithmetic.

    Raises:
        BadInput: If the shapes differ, an entry is not finite, or all labels of a row are equal.

    Example:
        >>> r_squared([[1.0, 2.0, 4.0]], [[1.0, 2.0, 3.0]])
        0.5
    """
    P, labels = _pair(predictions, Y)
    # By comparison, because the sum of squared deviations of equal labels may round to above 0.
    constant = (labels[:, :1] == labels).all(axis=1)
    if constant.any():
        raise _Undefined(
            f"Y is constant in row {int(np.argmax(constant))}, expected labels that differ: "
            "R squared divides by their deviation."
        )
    # Scaling by powers of 2 changes no bit of the ratio, and squares of huge or tiny labels stay in
    # range.
    powers = -np.frexp(np.abs(labels).max(axis=1, keepdims=True))[1]
    with np.errstate(over="ignore"):  # a huge error has an R squared of -inf
        P, labels = np.ldexp(P, powers), np.ldexp(labels, powers)
        # Transposed, because a sum along the last axis may go through BLAS, whose order of addition
        # depends on the machine.
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
    """The mean of |prediction - Y| over outputs and examples, in the unit of Y.

    Args:
        predictions: Numbers, shape (n_y, m).
        Y: The labels, shape (n_y, m).
        numerics: The arithmetic.

    Raises:
        BadInput: If the shapes differ or an entry is not finite.

    Example:
        >>> mean_absolute_error([[1.0, 2.0]], [[1.0, 5.0]])
        1.5
    """
    P, Y = _pair(predictions, Y)
    return _mean(numerics, np.abs(P - Y))


# Metrics by task


Metric = Callable[[FloatArray, FloatArray], float]  # of a loss's predictions, and labels
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
        higher_is_better: Whether a higher value is better.
        over_classes: Whether it is a mean over classes or labels if there are several.
    """

    higher_is_better: bool
    over_classes: bool = False


# People also watch the numbers of the training itself.
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
    """Whether a higher value is better, for "cost", "gradient_norm" or a metric of pydnn.

    The name may start with a part of the data, as in "validation accuracy".

    Raises:
        BadInput: If it is not known for this name.

    Example:
        >>> higher_is_better("validation accuracy"), higher_is_better("cost")
        (True, False)
    """
    metric = name.rpartition(" ")[2]
    if metric not in _MEANINGS:
        raise BadInput(
            f"{name!r} may be better when it is higher or when it is lower, expected "
            "higher_is_better: set it to True or False."
        )
    return _MEANINGS[metric].higher_is_better


@ignoring_underflow
def score(
    task: str,
    predictions: ArrayLike,
    Y: ArrayLike,
    *,
    lengths: NDArray[np.int64] | None = None,
    numerics: Numerics = fast,
) -> dict[str, float]:
    """All metrics of a task by name.

    Metrics that are not defined for labels that are all equal, such as R squared, are left out
    for such labels.

    Args:
        task: One of `losses.TASKS`.
        predictions: Probabilities or numbers, from the loss's `predict`, (n_out, m); or
            (T, n_out, m), whose metrics are over all valid steps of all examples.
        Y: The labels, as the loss takes them.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.
        numerics: The arithmetic.

    Raises:
        BadInput: If a prediction or label is not a finite number, or does not fit the task.

    Example:
        >>> score("regression", [[1.0, 2.0, 4.0]], [[1.0, 2.0, 3.0]])["r_squared"]
        0.5
    """
    expect_known("task", task, METRICS)
    P, Y = columns_with_labels(as_array(predictions), as_array(Y), lengths)
    P, Y = _numbers("predictions", P), _labels(task, Y)
    scores = {}
    for name, metric in METRICS[task].items():
        with contextlib.suppress(_Undefined):
            scores[name] = metric(P, Y, numerics)
    return scores


@ignoring_underflow
def score_by_class(
    task: str,
    predictions: ArrayLike,
    Y: ArrayLike,
    *,
    lengths: NDArray[np.int64] | None = None,
) -> list[dict[str, float | int]]:
    """Precision, recall, f1 and the number of examples of each class, or of each of several labels.

    Args:
        task: One of `losses.TASKS`, except "regression".
        predictions: Probabilities, from the loss's `predict`, (n_out, m), or (T, n_out, m) for
            labels of each step.
        Y: The labels, as the loss takes them.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

    Returns:
        For each class {"precision": …, "recall": …, "f1": …, "count": …}. The first three are
        NaN for a class that occurs neither in Y nor in the predictions.

    Raises:
        BadInput: If the task is regression, or a prediction or label is not a finite number or
            does not fit the task.

    Example:
        >>> score_by_class("two classes", [[0.9, 0.2, 0.8]], [[1, 0, 0]])[1]["precision"]
        0.5
    """
    expect_known("task", task, METRICS)
    if task == "regression":
        raise BadInput("regression has no classes: use score instead.")
    P, Y = columns_with_labels(as_array(predictions), as_array(Y), lengths)
    P, Y = _numbers("predictions", P), _labels(task, Y)
    if task == "several labels":
        return _rows_of_classes(*_counts(classes_of(P), Y, 2))
    chosen = classes_of(P) if task == "two classes" else most_likely(P)
    return _rows_of_classes(*_by_class(chosen, Y, max(2, len(P))))


def _rows_of_classes(
    hits: NDArray[np.int64], taken: NDArray[np.int64], positive: NDArray[np.int64]
) -> list[dict[str, float | int]]:
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


# Metrics of more examples than fit into memory


class Tally(Protocol):
    """What the metrics of a task need of some examples, as few numbers however many they are.

    Metrics are those of `score`, with two differences where there is more than one part: sums are
    added part by part, and probabilities that agree in their first 8 bits, from the nearer one of 0
    and 1 on, count as equal for `roc_auc`.
    """

    @property
    def count(self) -> int:
        """The number of examples, or of valid steps if each step has a label."""

    def plus(self, P: FloatArray, Y: FloatArray) -> Tally:
        """The tally with further predictions (n_out, m) and their labels, as `score` takes them."""

    def scores(self) -> dict[str, float]:
        """All metrics of the task by name, as from `score`."""

    def by_class(self) -> list[dict[str, float | int]]:
        """The metrics of each class or label, as from `score_by_class`."""

    def confusion(self) -> list[list[int]]:
        """The `confusion_matrix`; empty for several labels and for regression."""


def tally(task: str, *, numerics: Numerics = fast) -> Tally:
    """An empty tally for the metrics of a task.

    Args:
        task: One of `losses.TASKS`.
        numerics: The arithmetic.

    Example:
        >>> both = tally("two classes").plus(np.array([[0.9]]), np.array([[1.0]]))
        >>> both.plus(np.array([[0.2, 0.7]]), np.array([[0.0, 0.0]])).scores()["precision"]
        0.5
    """
    expect_known("task", task, METRICS)
    if task == "regression":
        return _NumberTally(numerics)
    return _LabelTally(task, numerics)


_EXPONENTS, _BITS = 32, 8  # of a probability, and of its distance to the nearer one of 0 and 1
_BINS = _EXPONENTS << _BITS


@attrs.frozen(eq=False)
class _LabelTally:
    task: str
    numerics: Numerics
    count: int = 0
    right: int = 0
    matrix: NDArray[np.int64] | None = None  # the confusion matrix, or the counts of labels
    loss: float = 0.0  # the sum of -log(probability) over examples
    bins: NDArray[np.int64] | None = None  # by row and label, the probabilities in each bin

    @ignoring_underflow
    def plus(self, P: FloatArray, Y: FloatArray) -> _LabelTally:
        P, Y = _numbers("predictions", P), _labels(self.task, Y)
        chosen = most_likely(P) if self.task == "many classes" else classes_of(P)
        if self.task == "several labels":
            matrix = np.stack(_counts(chosen, Y, 2))
        else:
            matrix = confusion_matrix(chosen, Y, classes=max(2, len(P)))
        m = Y.shape[1]
        bins = _binned(*_probabilities_and_labels(P, Y))
        return _LabelTally(
            self.task,
            self.numerics,
            self.count + m,
            self.right + round(accuracy(chosen, Y) * m),
            matrix if self.matrix is None else self.matrix + matrix,
            self.loss + log_loss(P, Y, numerics=self.numerics) * m,
            bins if self.bins is None else self.bins + bins,
        )

    def _counted(self) -> _Counts:
        assert self.matrix is not None
        if self.task == "several labels":
            hits, taken, positive = self.matrix
            return hits, taken, positive
        return self.matrix.diagonal(), self.matrix.sum(axis=0), self.matrix.sum(axis=1)

    def scores(self) -> dict[str, float]:
        hits, taken, positive = self._counted()
        if self.task == "two classes":
            hits, taken, positive = (counts[1:] for counts in (hits, taken, positive))
        occurs, numerics = taken + positive, self.numerics
        scores = {
            "accuracy": self.right / self.count,
            "precision": _macro(hits, taken, occurs, numerics),
            "recall": _macro(hits, positive, occurs, numerics),
            "f1": _macro(2 * hits, occurs, occurs, numerics),
        }
        assert self.bins is not None
        areas = [_area(*row) for row in self.bins if row.any(axis=1).all()]
        if areas:
            scores["roc_auc"] = _mean(numerics, np.array(areas))
        return scores | {"log_loss": self.loss / self.count}

    def by_class(self) -> list[dict[str, float | int]]:
        return _rows_of_classes(*self._counted())

    def confusion(self) -> list[list[int]]:
        if self.task == "several labels" or self.matrix is None:
            return []
        counts: list[list[int]] = self.matrix.tolist()
        return counts


def _binned(P: FloatArray, labels: FloatArray) -> NDArray[np.int64]:
    """The number of probabilities in each bin, by row and label, (n, 2, bins)."""
    P = P.astype(np.float64)
    low = np.minimum(P, 1 - P)  # exact: only near 1, where P has few bits, is 1 - P taken
    # The first bits of a float of 64 bits are its exponent, which is at most that of 0.5, and the
    # next ones the first bits of the number. So bins are in the order of the numbers.
    least = np.float64(2.0 ** (-1 - _EXPONENTS)).view(np.int64)
    bins = np.maximum(low.view(np.int64) - least, 0) >> (52 - _BITS)
    bins = np.minimum(bins, _BINS - 1)
    bins = np.where(P <= 0.5, bins, 2 * _BINS - 1 - bins)
    bins += 2 * _BINS * (labels == 1)
    counts = [np.bincount(row, minlength=4 * _BINS) for row in bins]
    return np.array(counts).reshape(len(P), 2, 2 * _BINS)


def _area(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> float:
    """The area under the ROC curve of numbers in bins, exactly rounded."""
    below = np.cumsum(negative) - negative
    # As Python's integers, since the number of pairs may need more than 64 bits.
    rows: list[list[int]] = np.stack([positive, below, negative]).T.tolist()
    twice = sum(p * (2 * b + n) for p, b, n in rows)
    pairs = int(negative.sum()) * int(positive.sum())
    return twice / (2 * pairs)


@attrs.frozen(eq=False)
class _NumberTally:
    numerics: Numerics
    count: int = 0
    power: NDArray[np.int64] | None = None  # of 2, by which numbers of a row are scaled, (n, 1)
    ends: tuple[FloatArray, FloatArray] | None = None  # the least and largest label, (n, 1)
    mean: FloatArray | float = 0.0  # of the scaled labels, (n, 1)
    squares: FloatArray | float = 0.0  # sums of squared deviations of scaled labels, (n, 1)
    residual: FloatArray | float = 0.0  # sums of squared scaled errors, (n, 1)
    error: float = 0.0  # the sum over examples of the mean |error|

    @ignoring_underflow
    def plus(self, P: FloatArray, Y: FloatArray) -> _NumberTally:
        P, Y = _pair(P, Y)
        error = mean_absolute_error(P, Y, numerics=self.numerics) * Y.shape[1]
        P, Y = P.astype(np.float64), Y.astype(np.float64)
        least, most = Y.min(axis=1, keepdims=True), Y.max(axis=1, keepdims=True)
        power = self.power
        if power is None:  # as for `r_squared`, by the first labels
            power = -np.frexp(np.maximum(-least, most))[1].astype(np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            P, scaled = np.ldexp(P, power), np.ldexp(Y, power)
            m, count = Y.shape[1], self.count + Y.shape[1]
            mean = self._sums(scaled) / m
            shift = mean - self.mean
            # Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm, 1979.
            squares = self._squares(scaled - mean) + shift * shift * (self.count * m / count)
            residual = self._squares(scaled - P)
            ends = least, most
            if self.ends is not None:
                ends = np.minimum(self.ends[0], least), np.maximum(self.ends[1], most)
            return _NumberTally(
                self.numerics,
                count,
                power,
                ends,
                self.mean + shift * (m / count),
                self.squares + squares,
                self.residual + residual,
                self.error + error,
            )

    def _squares(self, differences: FloatArray) -> FloatArray:
        return self._sums(differences * differences)

    def _sums(self, numbers: FloatArray) -> FloatArray:
        return self.numerics.sum(numbers.T, axis=0).T

    def scores(self) -> dict[str, float]:
        scores = {}
        if self.ends is not None and (self.ends[0] != self.ends[1]).all():
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                ratio = np.asarray(self.residual) / np.asarray(self.squares)
            scores["r_squared"] = _mean(self.numerics, 1 - ratio)
        return scores | {"mean_absolute_error": self.error / self.count}

    def by_class(self) -> list[dict[str, float | int]]:
        raise BadInput("regression has no classes: use scores instead.")

    def confusion(self) -> list[list[int]]:
        return []


def title(task: str, name: str) -> str:
    """The name of a metric for people, with "macro" if it is a mean over classes or labels."""
    macro = task in ("many classes", "several labels") and _MEANINGS[name].over_classes
    return f"macro {name}" if macro else name


# Checks and counts that metrics share


class _Undefined(BadInput):
    """The labels are valid, but the metric is undefined for labels that are all equal."""


def _numbers(name: str, x: ArrayLike) -> FloatArray:
    """The array (n, m) as floats; another shape or an infinite or NaN entry is refused."""
    array = readonly(x)
    hint = "put examples in columns, e.g. pass y[np.newaxis] for a vector y"
    expect_shape(name, array, ("n_y", "m"), hint=hint)
    expect_finite(name, array)
    return array


def _pair(predictions: ArrayLike, Y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Predictions and labels of the same shape, with at least one example."""
    P, Y = _numbers("predictions", predictions), _numbers("Y", Y)
    hint = "give one prediction per label"
    if len(Y) == 1 < len(P) and P.shape[1:] == Y.shape[1:]:
        hint = "apply most_likely to the probabilities of several classes"
    expect_shape("predictions", P, Y.shape, hint=hint)
    if Y.size == 0:
        raise BadInput("there are no labels, expected one or more: metrics are means over them.")
    return P, Y


def _probabilities_and_labels(
    probabilities: ArrayLike, Y: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Probabilities (n, m), and for each of them 1 if it belongs to the label, else 0."""
    P, Y = _numbers("probabilities", probabilities), _numbers("Y", Y)
    if len(Y) == 1 < len(P):
        expect_shape("Y", Y, (1, P.shape[1]), hint="give one class per example")
        Y = (np.arange(len(P))[:, np.newaxis] == _class_numbers("Y", Y, len(P))).astype(P.dtype)
    P, Y = _pair(P, Y)
    _expect_classes("Y", Y, 2)
    return P, Y


def _labels(task: str, Y: ArrayLike) -> FloatArray:
    """Labels for the metrics of a task: one-hot columns become class numbers."""
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


def _expect_classes(name: str, array: FloatArray, classes: int | None, *, advice: str = "") -> None:
    """Refuse entries other than whole numbers from 0 to `classes` - 1; None is no upper limit."""
    right = (array >= 0) & (array < (np.inf if classes is None else classes))
    right &= array == np.floor(array)
    if right.all():
        return
    row, column = (int(i) for i in np.argwhere(~right)[0])
    where = f"row {row}, column {column}" if len(array) > 1 else f"column {column}"
    bound = "0 on" if classes is None else f"0 to {classes - 1}"
    if not advice:
        labels = "recode the labels, or give the right number of classes"
        predictions = "apply classes_of or most_likely to probabilities"
        advice = predictions if name == "predictions" else labels
    raise BadInput(
        f"{name} hold {array[row, column]:g} in {where}, expected a whole number from {bound}: "
        f"{advice}."
    )


def _class_numbers(
    name: str, array: FloatArray, classes: int, *, option: bool = False
) -> NDArray[np.int64]:
    """The class numbers (m,); `option` says whether callers can give another number of classes."""
    expect_shape(name, array, (1, "m"), hint="give the numbers of classes")
    advice = ""
    if array.size and (array == np.floor(array)).all() and array.min() >= 0:
        # Numbers from 1 on are one too large; others are of more classes than the caller said.
        shifted = array.min() >= 1 and array.max() == classes
        from_0 = "number the classes from 0, so subtract 1"
        more = f"give classes={array.max() + 1:.0f}" if option else ""
        advice = from_0 if shifted else more
    _expect_classes("labels" if name == "Y" else name, array, classes, advice=advice)
    numbers: NDArray[np.int64] = array[0].astype(np.int64)
    return numbers


_Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _counts(predictions: ArrayLike, Y: ArrayLike, classes: int) -> _Counts:
    """For each positive class or label: how many are correct, predicted, and labeled so."""
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
    """The mean, rounded to the dtype of the numbers."""
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
    """The mean of part / whole over the classes that occur; 0 if none does."""
    occurs = occurrences > 0
    return _mean(numerics, _ratios(part[occurs], whole[occurs])) if occurs.any() else 0.0
