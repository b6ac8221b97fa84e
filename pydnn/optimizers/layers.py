"""Updates of the layers or arrays that are named, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydnn.checks import expect_real
from pydnn.descriptions.builders import described
from pydnn.optimizers.base import GradientTransformation, stateless
from pydnn.parameters import Packed, expect_names
from pydnn.records import FloatArray
from pydnn.stages.base import Context

__all__ = ["freeze_layers", "scale_layers"]


@described("optimizer")
def freeze_layers(*names: str) -> GradientTransformation:
    """Update nothing of the arrays that `names` select; put it last in a chain.

    Args:
        names: As `Layout.selected` takes them: "0" is the first stage, "b" all biases.
    """
    return on_named_arrays(names, lambda grads, params: 0, isotropic=True)


@described("optimizer")
def scale_layers(*names: str, factor: float) -> GradientTransformation:
    """Multiply by `factor` for the arrays that `names` select: a learning rate for each layer.

    Args:
        names: As `Layout.selected` takes them: "0" is the first stage, "b" all biases.
        factor: What their updates are multiplied by; the others stay.
    """
    factor = expect_real("factor", factor, least=0, hint="give a number, e.g. 0.1")
    return on_named_arrays(
        names, lambda grads, params: grads * grads.dtype.type(factor), isotropic=True
    )


def on_named_arrays(
    names: Sequence[str],
    function: Callable[[FloatArray, FloatArray], FloatArray | int],
    **options: Any,
) -> GradientTransformation:
    """The elementwise `function(grads, params) -> updates` of the selected arrays alone."""
    names = tuple(expect_names(names))

    def apply(grads: FloatArray, params: Packed, context: Context) -> FloatArray:
        updates = grads.copy()
        for stretch in params.layout.selected(names):
            updates[stretch] = function(grads[stretch], params.vector[stretch])
        return updates

    return stateless(apply, elementwise=True, **options)
