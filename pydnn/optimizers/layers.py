"""Transformations that apply to the named layers or arrays only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydnn.checks import expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.optimizers.base import GradientTransformation, number_by_number
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Layout, expect_names
from pydnn.records import AnyArray, FloatArray, freeze

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
    return on_named_arrays(names, _zero_kernel, 0.0, isotropic=True)


@compilable
def _zero_kernel(zero: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    np.copyto(u, zero)


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
    return on_named_arrays(names, _scale_kernel, factor, isotropic=True)


@compilable
def _scale_kernel(factor: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    np.multiply(g, factor, u)


def on_named_arrays(
    names: Sequence[str], kernel: Callable[..., None], number: float, **options: Any
) -> GradientTransformation:
    """Update the selected arrays only.

    Args:
        names: The names, as `Layout.selected` takes them.
        kernel: A compilable `(number, g, p, u)` that fills blocks of the updates u from blocks of
            the gradients g and the parameters p.
        number: Its number.
        **options: Further fields of `GradientTransformation`.
    """
    names = tuple(expect_names(names))

    @functools.lru_cache(maxsize=4)
    def others(layout: Layout) -> AnyArray:
        """Return which numbers are in none of the selected arrays."""
        outside = np.ones(layout.size, np.bool_)
        for stretch in layout.selected(names):
            outside[stretch] = False
        return freeze(outside)

    pending = PendingUpdate(
        _only(kernel), (), lambda: (), numbers=(number,), read=(others,), merges=False
    )
    return number_by_number(lambda params: (), lambda *_: pending, **options)


@functools.cache
def _only(kernel: Callable[..., None]) -> Callable[..., None]:
    """Return the kernel that leaves the numbers at `others` as they are."""

    @compilable
    def only(
        factor: FloatArray,
        number: FloatArray,
        g: FloatArray,
        p: FloatArray,
        others: AnyArray,
        u: FloatArray,
    ) -> None:
        kernel(number, g, p, u)
        np.copyto(u, g, where=others)
        u *= factor

    return only
