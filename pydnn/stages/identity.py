"""Identity A = Z, for the place of a stage that does nothing."""

from __future__ import annotations

from pydnn.builders import described
from pydnn.records import FloatArray, readonly
from pydnn.stages.base import EVALUATION, Context, Stage, elementwise

__all__ = ["identity", "identity_backward", "identity_forward"]


def identity_forward(Z: FloatArray, context: Context = EVALUATION) -> tuple[FloatArray, None]:
    """Hand Z on: the result shares its memory, and refuses writes."""
    return readonly(Z), None


def identity_backward(cache: None, dA: FloatArray) -> FloatArray:
    """Hand dA back."""
    return readonly(dA)


@described("stage")
def identity() -> Stage:
    """Linear units."""
    return elementwise("identity", identity_forward, identity_backward)
