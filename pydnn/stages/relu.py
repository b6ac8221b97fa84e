"""Rectified linear unit A = max(Z, 0)."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.builders import described
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import EVALUATION, Context, Stage, elementwise

__all__ = ["ReluCache", "relu", "relu_backward", "relu_forward"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ReluCache:
    """What the backward pass needs: A, which is above 0 exactly where Z is."""

    A: FloatArray


def relu_forward(Z: FloatArray, context: Context = EVALUATION) -> tuple[FloatArray, ReluCache]:
    """Keep the positive entries of Z, of any shape, and make the others 0."""
    A = freeze(np.maximum(Z, 0))
    return A, ReluCache(A)


def relu_backward(cache: ReluCache, dA: FloatArray) -> FloatArray:
    """Let dA through where Z was above 0; the subgradient at 0 is taken as 0."""
    return freeze(np.where(cache.A > 0, dA, 0))


@described("stage")
def relu() -> Stage:
    """Rectified linear units. Nair and Hinton, 2010."""
    return elementwise("relu", relu_forward, relu_backward)
