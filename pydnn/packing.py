"""All of a network's parameters in one vector, of which each W and b is a view.

An optimiser is then a few whole-vector operations, a checkpoint is one data set and a
fingerprint one hash. A *tree* is what stages work with: an attrs record of arrays for a stage
that has parameters, the empty tuple for one that has none, a tuple of trees for a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known, expect_shape
from pydnn.records import FloatArray, arrays, freeze, readonly

__all__ = ["NO_PARAMS", "Layout", "Packed", "Slot", "Tree", "layout_of", "leaves", "pack"]

Tree: TypeAlias = Any  # an attrs record of arrays, or a tuple of trees
NO_PARAMS: tuple[()] = ()


@attrs.frozen
class Slot:
    """The place of one array in the vector: its name, e.g. "2/W", its shape and its range."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """One past the array's last entry in the vector."""
        return self.start + math.prod(self.shape)


@attrs.frozen
class _Record:
    """A record's place in a template: its class, and a slot for each of its fields."""

    cls: type
    slots: tuple[Slot, ...]


_Template: TypeAlias = Any  # a _Record, or a tuple of templates


@attrs.frozen(repr=False)
class Layout:
    """How a tree of arrays lies in one vector."""

    size: int
    slots: tuple[Slot, ...]
    template: _Template

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.slots)
        return f"Layout({self.size}: {names})"

    def slot(self, name: str) -> Slot:
        """The slot of the array called `name`, e.g. "2/W"."""
        expect_known("parameter", name, [slot.name for slot in self.slots])
        return next(slot for slot in self.slots if slot.name == name)

    def tree(self, vector: FloatArray) -> Tree:
        """The tree whose arrays are views of `vector` (size,)."""
        return _fill(self.template, vector, _as_record)

    def views(self, vector: FloatArray) -> Tree:
        """The same with a plain tuple of views for each record, to be filled by its maker."""
        return _fill(self.template, vector, lambda _, views: views)

    def packed(self, vector: FloatArray) -> Packed:
        """The record of `vector` (size,) and its tree."""
        expect_shape("vector", vector, (self.size,), hint="give one number per parameter")
        vector = readonly(vector)
        return Packed(vector, self, self.tree(vector))


@attrs.frozen(unsafe_hash=False, field_transformer=arrays, repr=False)
class Packed:
    """Arrays whose numbers lie in one read-only vector (size,): parameters, or gradients.

    `packed["2/W"]` is the array of that name; `packed.tree` has the records that stages take.
    """

    vector: FloatArray
    layout: Layout
    tree: Tree = attrs.field(eq=False)

    def __getitem__(self, name: str) -> FloatArray:
        slot = self.layout.slot(name)
        return self.vector[slot.start : slot.stop].reshape(slot.shape)

    def with_vector(self, vector: FloatArray) -> Packed:
        """The same records with other numbers, e.g. gradients that were clipped."""
        packed = layout_of(self.tree).packed(vector)
        return attrs.evolve(packed, layout=self.layout)

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.layout.slots)
        return f"Packed({self.vector.size} {self.vector.dtype} numbers: {names})"


def leaves(tree: Tree) -> Iterator[FloatArray]:
    """The arrays of a tree, depth first and in the order of fields."""
    for branch in tree if isinstance(tree, tuple) else attrs.astuple(tree, recurse=False):
        if isinstance(branch, np.ndarray):
            yield branch
        else:
            yield from leaves(branch)


def layout_of(tree: Tree) -> Layout:
    """Lay the arrays of `tree` one after the other, each in C order."""
    slots: list[Slot] = []

    def place(branch: Tree, path: str) -> _Template:
        if isinstance(branch, tuple):
            return tuple(place(part, f"{path}{i}/") for i, part in enumerate(branch))
        if not attrs.has(type(branch)):
            raise BadInput(
                f"parameters at {path or 'the top'} are a {type(branch).__name__}, expected an "
                "attrs record of arrays, or a tuple of such: write a frozen attrs class for them."
            )
        first = len(slots)
        for field in attrs.fields(type(branch)):
            start = slots[-1].stop if slots else 0
            slots.append(Slot(path + field.name, getattr(branch, field.name).shape, start))
        return _Record(type(branch), tuple(slots[first:]))

    template = place(tree, "")
    return Layout(slots[-1].stop if slots else 0, tuple(slots), template)


def pack(tree: Tree, *, dtype: Any = np.float64) -> Packed:
    """Copy the arrays of `tree` into one vector of `dtype`.

    Raises:
        BadInput: If there is not the memory for it.
    """
    layout = layout_of(tree)
    try:
        vector = np.empty(layout.size, dtype)
    except MemoryError as error:
        raise BadInput(
            f"{layout.size} parameters do not fit into memory: make the network smaller."
        ) from error
    for slot, leaf in zip(layout.slots, leaves(tree), strict=True):
        vector[slot.start : slot.stop] = leaf.ravel()
    return layout.packed(freeze(vector))


def _as_record(cls: type, views: tuple[FloatArray, ...]) -> Any:
    return cls(*views)


def _fill(
    template: _Template,
    vector: FloatArray,
    make: Callable[[type, tuple[FloatArray, ...]], Any],
) -> Tree:
    if isinstance(template, tuple):
        return tuple(_fill(part, vector, make) for part in template)
    views = (vector[slot.start : slot.stop].reshape(slot.shape) for slot in template.slots)
    return make(template.cls, tuple(views))
