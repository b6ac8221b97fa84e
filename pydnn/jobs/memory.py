"""The memory that a job needs, worked out from its shapes before any of it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.free_memory import free_memory, readable
from pydnn.parameters import Layout, Template, Tree, layout_of, leaves
from pydnn.recipes.layouts import Layer

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe

__all__ = ["bytes_of", "expect_room"]


def bytes_of(
    recipe: Recipe, layers: list[Layer], layout: Layout, *, examples: int
) -> dict[str, int]:
    """Bytes of what a training step holds at least, by what they are for.

    Args:
        recipe: The job.
        layers: Those of its network, and
        layout: how its parameters lie, see `layers_of`.
        examples: How many the training part has.
    """
    item = np.dtype(recipe.dtype).itemsize
    per_epoch: int = build(recipe.batches, family="batches").per_epoch(examples)
    m = -(-examples // per_epoch)
    outputs = sum(layer.outputs for layer in layers)
    return {
        "parameters": layout.size * item,
        "gradients": layout.size * item,
        "state of the optimiser": _state_bytes(recipe, layout),
        f"activations, batch of {m}": outputs * m * item,
    }


def _state_bytes(recipe: Recipe, layout: Layout) -> int:
    """Bytes of an optimizer's state, as those for arrays of one number each tell it.

    What remembers a number for each parameter has as many entries as there are parameters.
    """
    small = layout_of(_shrunk(layout.template))
    one_each = small.packed(np.zeros(small.size, recipe.dtype))
    state = build(recipe.optimizer, family="optimizer").init(one_each)
    return sum(
        layout.size * array.itemsize if array.size == small.size else array.nbytes
        for array in leaves((state,))
    )


def _shrunk(template: Template) -> Tree:
    """The tree of a layout's template with one number in the place of each array."""
    if isinstance(template, tuple):
        return tuple(map(_shrunk, template))
    return template.cls(*[np.zeros((1,) * len(slot.shape)) for slot in template.slots])


def expect_room(needed: Mapping[str, int]) -> None:
    """Refuse what takes more memory than is free, before any of it is made.

    Args:
        needed: Bytes, by what they are for.

    Raises:
        BadInput: With both sizes. Where the system does not say what is free, nothing is refused.
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
