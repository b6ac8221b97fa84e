"""Transformations that apply to the named layers or arrays only."""

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
    """Set the updates of the selected arrays to 0; put it last in a chain.

    Args:
        *names: The arrays, as `Layout.selected` takes them: "0" is the first stage, "b" all biases.

    Raises:
        BadInput: If a name is not a text. `update` raises it for a name that no parameter has.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.serial(nn.dense(1), nn.dense(1)).init(nn.Key(0), (1,))[0])
        >>> updates, _ = nn.freeze_layers("0").update(np.ones(4), (), params)
        >>> updates
        array([0., 0., 1., 1.])
    """
    return on_named_arrays(names, lambda grads, params: 0, isotropic=True)


@described("optimizer")
def scale_layers(*names: str, factor: float) -> GradientTransformation:
    """Multiply the updates of the selected arrays by `factor`, for learning rates by layer.

    Args:
        *names: The arrays, as `Layout.selected` takes them: "0" is the first stage, "b" all biases.
        factor: The factor, 0 or more; the updates of all other arrays stay as they are.

    Raises:
        BadInput: If `factor` is negative, or a name is not a text. `update` raises it for a name
            that no parameter has.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.serial(nn.dense(1), nn.dense(1)).init(nn.Key(0), (1,))[0])
        >>> updates, _ = nn.optimizers.scale_layers("0", factor=0.1).update(np.ones(4), (), params)
        >>> updates
        array([0.1, 0.1, 1. , 1. ])
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
    """Apply the elementwise `function(grads, params) -> updates` to the selected arrays only."""
    names = tuple(expect_names(names))

    def apply(grads: FloatArray, params: Packed, context: Context) -> FloatArray:
        updates = grads.copy()
        for stretch in params.layout.selected(names):
            updates[stretch] = function(grads[stretch], params.vector[stretch])
        return updates

    return stateless(apply, elementwise=True, **options)
