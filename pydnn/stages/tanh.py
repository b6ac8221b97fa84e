"""Hyperbolic tangent A = tanh Z."""

from __future__ import annotations

import attrs

from pydnn.builders import described
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import EVALUATION, Context, Stage, elementwise

__all__ = ["TanhCache", "tanh", "tanh_backward", "tanh_forward"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class TanhCache:
    """What the backward pass needs: A, of which the derivative 1 - A**2 is made."""

    A: FloatArray


def tanh_forward(Z: FloatArray, context: Context = EVALUATION) -> tuple[FloatArray, TanhCache]:
    """Map Z, of any shape, to numbers between -1 and 1."""
    A = freeze(context.numerics.tanh(Z))
    return A, TanhCache(A)


def tanh_backward(cache: TanhCache, dA: FloatArray) -> FloatArray:
    """Pull dA back to dZ = dA (1 - A**2)."""
    return freeze(dA * (1 - cache.A * cache.A))


@described("stage")
def tanh() -> Stage:
    """Hyperbolic tangent units."""
    return elementwise("tanh", tanh_forward, tanh_backward)
