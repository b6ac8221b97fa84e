"""Metrics: pure functions of predictions and labels that people read."""

from __future__ import annotations

import numpy as np

from pydnn.checks import BadInput, expect_shape
from pydnn.records import FloatArray

__all__ = ["accuracy", "classes_of"]


def classes_of(probabilities: FloatArray) -> FloatArray:
    """0 or 1 for each probability of the positive class: 1 where it is above one half."""
    return (probabilities > 0.5).astype(np.float64)


def accuracy(predictions: FloatArray, Y: FloatArray) -> float:
    """Share of `predictions` (1, m), each 0 or 1, that equal the labels Y (1, m)."""
    expect_shape("predictions", predictions, Y.shape, hint="give one prediction per label")
    if Y.size == 0:
        raise BadInput("there are no labels, expected one or more: accuracy is a mean over them.")
    return float(np.count_nonzero(predictions == Y)) / Y.size
