"""Estimates the memory that a job needs from its shapes, before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.free_memory import free_memory, readable
from pydnn.parameters import Layout, Template, Tree, layout_of, leaves
from pydnn.recipes.layouts import Layer
from pydnn.stages.base import Shape

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe

__all__ = ["bytes_of", "expect_room"]


def bytes_of(
    recipe: Recipe, layers: list[Layer], layout: Layout, *, shape: Shape, examples: int
) -> dict[str, int]:
    """The least bytes that a training step holds at the same time, by purpose.

    Args:
        recipe: The recipe.
        layers: The layers of its network, from `layers_of`.
        layout: The layout of its parameters, from `layers_of`.
        shape: The shape of an example.
        examples: The number of training examples.
    """
    item = np.dtype(recipe.dtype).itemsize
    per_epoch: int = build(recipe.batches, family="batches").per_epoch(examples)
    m = -(-examples // per_epoch)  # rounded up: the largest batch
    outputs = sum(layer.outputs for layer in layers)
    return {
        "parameters": layout.size * item,
        "gradients": layout.size * item,
        "state of the optimizer": _state_bytes(recipe, layout),
        f"activations, batch of {m}": outputs * m * item,
    }


def _state_bytes(recipe: Recipe, layout: Layout) -> int:
    """Bytes of an optimizer's state, without allocating it.

    The state is made for a network whose arrays have one number each. A state array with one
    entry per parameter there has one entry per parameter in the full network too.
    """
    small = layout_of(_shrunk(layout.template))
    one_each = small.packed(np.zeros(small.size, recipe.dtype))
    state = build(recipe.optimizer, family="optimizer").init(one_each)
    return sum(
        layout.size * array.itemsize if array.size == small.size else array.nbytes
        for array in leaves((state,))
    )


def _shrunk(template: Template) -> Tree:
    """The tree of a template with an array of one number instead of each array."""
    if isinstance(template, tuple):
        return tuple(map(_shrunk, template))
    return template.cls(*[np.zeros((1,) * len(slot.shape)) for slot in template.slots])


def expect_room(needed: Mapping[str, int]) -> None:
    """Refuse a training step that needs more memory than is free, before allocating any.

    Args:
        needed: Bytes by purpose, from `bytes_of`.

    Raises:
        BadInput: If more is needed than is free, with both sizes. If the system does not report
            its free memory, nothing is refused.
    """
    total, free = sum(needed.values()), free_memory()
    if free is not None and total > free:
        most = sorted(needed.items(), key=lambda item: -item[1])[:3]
        parts = ", ".join(f"{what} {readable(size)}" for what, size in most)
        raise BadInput(
            f"a training step takes at least {readable(total)} ({parts}), but this machine has "
            f"{readable(free)} free: make the network or its batches smaller, or set dtype to "
            "float32."
        )
