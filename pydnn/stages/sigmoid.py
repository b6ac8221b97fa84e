"""Logistic function A = 1 / (1 + exp(-Z))."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.builders import described
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import EVALUATION, Context, Stage, elementwise

__all__ = ["SigmoidCache", "logistic", "sigmoid", "sigmoid_backward", "sigmoid_forward"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class SigmoidCache:
    """What the backward pass needs: A, of which the derivative A (1 - A) is made."""

    A: FloatArray


def logistic(Z: FloatArray, numerics: Numerics) -> FloatArray:
    """1 / (1 + exp(-Z)) for Z of any shape, with no exp that overflows."""
    e = numerics.exp(-np.abs(Z))
    return np.where(Z >= 0, 1, e) / (1 + e)


def sigmoid_forward(
    Z: FloatArray, context: Context = EVALUATION
) -> tuple[FloatArray, SigmoidCache]:
    """Map Z, of any shape, to numbers between 0 and 1."""
    A = freeze(logistic(Z, context.numerics))
    return A, SigmoidCache(A)


def sigmoid_backward(cache: SigmoidCache, dA: FloatArray) -> FloatArray:
    """Pull dA back to dZ = dA A (1 - A)."""
    return freeze(dA * cache.A * (1 - cache.A))


@described("stage")
def sigmoid() -> Stage:
    """Logistic units. At a network's end, prefer a loss on logits: it is stable and cheaper."""
    return elementwise("sigmoid", sigmoid_forward, sigmoid_backward)
