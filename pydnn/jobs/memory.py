"""Estimates the memory that a job needs from its shapes, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.free_memory import free_memory, readable
from pydnn.keys import Key
from pydnn.parameters import Layout, Template, Tree, layout_of, leaves
from pydnn.recipes.layouts import Layer, without_weights
from pydnn.records import AnyArray, FloatArray
from pydnn.stages.base import Context, Shape, Stage, map_stages

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe

__all__ = ["bytes_of", "expect_room"]


def bytes_of(
    recipe: Recipe, layers: list[Layer], layout: Layout, *, shape: Shape, examples: int
) -> dict[str, int]:
    """The least bytes that a training step holds at the same time, by purpose.

    Shards are computed one after the other, so only one has activations at a time.

    For columns of features, the activations are the outputs of the layers. A stage for images or
    sequences may keep more than its output for the backward pass, and make arrays as large as
    those in it, so a network with such stages is tried on two examples of zeros.

    Args:
        recipe: The recipe.
        layers: The layers of its network, from `layers_of`.
        layout: The layout of its parameters, from `layers_of`.
        shape: The shape of an example.
        examples: The number of training examples.
    """
    item = np.dtype(recipe.dtype).itemsize
    per_epoch: int = build(recipe.batches, family="batches").per_epoch(examples)
    m = -(-examples // per_epoch // recipe.shards)  # rounded up: the largest batch or shard
    what = "batch" if recipe.shards == 1 else "shard"
    # A tree adds the gradients of shards, with one sum at each of its levels.
    gradients = 1 if recipe.shards == 1 else recipe.shards.bit_length() + 1
    numbers = math.ceil(_activations(recipe, layers, layout, shape))
    return {
        "parameters": layout.size * item,
        "gradients": gradients * layout.size * item,
        "state of the optimizer": _state_bytes(recipe, layout),
        f"activations, {what} of {m}": numbers * m * item,
    }


_MOST_TRIED = 1 << 24  # parameters, or numbers of an example, of a network that is tried


def _activations(recipe: Recipe, layers: list[Layer], layout: Layout, shape: Shape) -> float:
    """The numbers per example that a step keeps for its backward pass, and makes in it."""
    outputs = sum(layer.outputs for layer in layers)
    flat = max([len(shape), *(len(layer.shape) for layer in layers)]) == 1
    if flat or layout.size > _MOST_TRIED or math.prod(shape) + outputs > _MOST_TRIED:
        return outputs
    network: Stage = build(without_weights(recipe.network), family="stage")
    params, _ = network.init(Key(0), shape)
    statistics = network.statistics
    # A carried state is for a fixed number of examples, except outside of training.
    training = statistics is None or not statistics.read_in_training
    counted = {id(array): array for array in _owners(params)}
    known, most = 0, 0.0

    def tried(path: str, stage: Stage) -> Stage:
        def forward(
            params: Tree, A_prev: FloatArray, context: Context
        ) -> tuple[FloatArray, object]:
            nonlocal known, most
            A, cache = stage.forward(params, A_prev, context)
            new = {id(array): array for array in _owners((A, cache)) if id(array) not in counted}
            counted.update(new)  # which also keeps them alive, so that no other gets their id
            size = sum(array.nbytes for array in new.values())
            # What the backward pass of the stage makes: the gradients of its input and its output,
            # and about half as much as it kept besides. The first stage gives none of its input.
            made = (size + A.nbytes) / 2 + (0 if A_prev is X else A_prev.nbytes)
            known, most = known + size, max(most, made)
            return A, cache

        return attrs.evolve(stage, forward=forward)

    X = np.zeros((*shape, _TRIED))
    counted[id(X)] = X
    context = Context(training, Key(0), recipe.arithmetic)
    try:
        with np.errstate(all="ignore"):
            map_stages(tried, network).forward(params, X, context)
    except (ValueError, ArithmeticError, MemoryError):  # a user's stage may refuse zeros
        return outputs
    # The gradient of each output is made, too, about half of them in memory that is free again.
    return outputs / 2 + (X.nbytes + known + most) / (_TRIED * X.itemsize)


_TRIED = 2  # examples, because a stage that mixes them may need more than one


def _owners(value: object) -> Iterator[AnyArray]:
    """The arrays in a cache that are no views, or that the views in it refer to."""
    if isinstance(value, np.ndarray):
        # An array from the pool is no view either: its base, of another class, has more bytes.
        while value.base is not None and type(value.base) is type(value):
            value = value.base
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _owners(part)
    elif attrs.has(cls := type(value)):
        for field in attrs.fields(cls):
            yield from _owners(getattr(value, field.name))


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
