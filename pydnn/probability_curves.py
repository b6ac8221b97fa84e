"""Curves that judge probabilities: ROC curves, and how often predictions are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_count
from pydnn.records import FloatArray, freeze

__all__ = ["calibration_curve", "roc_curve"]


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the shares of false and of true positives at every threshold, from 0 to 1.

    Args:
        scores: The probabilities or other scores of being positive (m,).
        positive: Whether each example is positive (m,).

    Raises:
        BadInput: If the shapes differ, a score is not finite, or all examples are of one kind.

    Example:
        >>> false, true = roc_curve([0.1, 0.6, 0.4, 0.9], [False, False, True, True])
        >>> false, true
        (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]))
    """
    s, is_positive = _pair("scores", scores, "positive", positive)
    p, n = int(is_positive.sum()), int((~is_positive).sum())
    if not p or not n:
        raise BadInput(
            f"{p} of {p + n} examples are positive, expected some of each kind: an ROC curve "
            "compares the two."
        )
    order = np.argsort(-s, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)  # of equal scores
    true = np.append(0, np.cumsum(is_positive[order])[ends]) / p
    false = np.append(0, np.cumsum(~is_positive[order])[ends]) / n
    return freeze(false), freeze(true)


def calibration_curve(
    probabilities: ArrayLike, right: ArrayLike, *, bins: int = 10
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return how often predictions are right, by the probability that they gave.

    Args:
        probabilities: The probability of each prediction (m,), from 0 to 1.
        right: Whether each prediction is right (m,).
        bins: The number of equal intervals of probabilities.

    Returns:
        For each interval with predictions: their mean probability, the share of them that is
        right, and their number. For calibrated predictions the first two agree.

    Raises:
        BadInput: If the shapes differ, or a probability is not from 0 to 1.

    Example:
        >>> calibration_curve([0.2, 0.9, 0.95], [False, True, False], bins=2)
        (array([0.2  , 0.925]), array([0. , 0.5]), array([1, 2]))
    """
    bins = expect_count("bins", bins, hint="give the number of intervals")
    p, is_right = _pair("probabilities", probabilities, "right", right)
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise BadInput(
            f"probabilities go from {p.min():g} to {p.max():g}, expected numbers from 0 to 1: "
            "apply the loss's predict to the logits."
        )
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    counts = np.bincount(which, minlength=bins)
    used = np.flatnonzero(counts)
    means, shares = (
        np.bincount(which, weights=values, minlength=bins)[used] / counts[used]
        for values in (p, is_right)
    )
    return freeze(means), freeze(shares), freeze(counts[used])


def _pair(
    first: str, numbers: ArrayLike, second: str, truths: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_]]:
    values, flags = np.asarray(numbers, np.float64), np.asarray(truths)
    if values.ndim != 1 or values.shape != flags.shape or flags.dtype != np.bool_:
        raise BadInput(
            f"{first} have shape {values.shape} and {second} {flags.shape} {flags.dtype}, expected "
            "(m,) and (m,) bool: give one truth value per number."
        )
    if not np.isfinite(values).all():
        raise BadInput(f"{first} hold infinite numbers or NaN, expected finite ones.")
    return values, flags
