"""All parameters of a network in one vector; each W and b is a view of a part of it.

An optimizer is then a few operations on whole vectors, a stored state is one data set, and a
fingerprint is one hash. Stages work with a *tree* of parameters: an attrs record of arrays for a
stage that has some, the empty tuple for a stage that has none, a tuple of trees for a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import DTypeLike

from pydnn.checks import BadInput, expect_known, expect_shape
from pydnn.records import FloatArray, arrays, freeze, maker_of, readonly

__all__ = [
    "NO_PARAMS",
    "Classes",
    "Layout",
    "Packed",
    "Slot",
    "Template",
    "Tree",
    "Views",
    "expect_names",
    "kernel_of",
    "layout_of",
    "leaves",
    "matrix_of",
    "pack",
]

Tree: TypeAlias = Any  # an attrs record of arrays, or a tuple of trees
Views: TypeAlias = tuple[Any, ...]  # a tree with a tuple of arrays instead of each record
NO_PARAMS: tuple[()] = ()


@attrs.frozen
class Slot:
    """The place of one array in the vector.

    Attributes:
        name: The path of the array in the tree, e.g. "2/W".
        shape: The shape of the array.
        start: The place of its first entry in the vector.
        weights: Whether it holds weights: its record says so with `pydnn.records.WEIGHTS`.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    weights: bool = False

    @property
    def stop(self) -> int:
        """One past the array's last entry in the vector."""
        return self.start + math.prod(self.shape)


@attrs.frozen
class RecordOf:
    """A record in a template: its class, and a slot for each of its fields."""

    cls: type
    slots: tuple[Slot, ...]


Classes: TypeAlias = "type | tuple[Classes, ...] | None"  # a tree with classes instead of records
Template: TypeAlias = "RecordOf | tuple[Template, ...]"
_Fill: TypeAlias = Callable[[FloatArray], Tree]
_Maker: TypeAlias = Callable[..., Tree] | None  # from arrays to a record; None makes a tuple


@attrs.frozen(repr=False)
class Layout:
    """How a tree of arrays lies in one vector.

    Attributes:
        size: The number of entries of the vector.
        slots: The places of the arrays in the vector, in order.
        template: The structure of the tree: for each record its class and its slots.
        views: `(vector) -> tree`, with a plain tuple of views instead of each record. The views
            can be written to if the vector can, so its maker fills it through them.
    """

    size: int
    slots: tuple[Slot, ...]
    template: Template
    _tree: _Fill = attrs.field(init=False, eq=False)
    views: _Fill = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Every step makes new trees, so the template is turned into functions once, here.
        object.__setattr__(self, "_tree", _filling(self.template, maker_of))
        object.__setattr__(self, "views", _filling(self.template, lambda cls: None))

    def __reduce__(self) -> tuple[object, ...]:
        return Layout, (self.size, self.slots, self.template)

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.slots)
        return f"Layout({self.size}: {names})"

    def slot(self, name: str) -> Slot:
        """Return the slot of the array called `name`, e.g. "2/W"."""
        expect_known("parameter", name, [slot.name for slot in self.slots])
        return next(slot for slot in self.slots if slot.name == name)

    def selected(self, names: Sequence[str]) -> list[slice]:
        """Return slices of the vector that hold the arrays which `names` select.

        A name selects one array, e.g. "2/W", all arrays of one field, e.g. "W", or all arrays of
        one stage, e.g. "2". Neighboring arrays share a slice.

        Raises:
            BadInput: If a name selects nothing.
        """
        matches = [_matches(self.slots, name) for name in expect_names(names)]
        stretches: list[slice] = []
        for slot, *hits in zip(self.slots, *matches, strict=True):
            if not any(hits):
                continue
            if stretches and stretches[-1].stop == slot.start:
                stretches[-1] = slice(stretches[-1].start, slot.stop)
            else:
                stretches.append(slice(slot.start, slot.stop))
        return stretches

    def tree(self, vector: FloatArray) -> Tree:
        """Return the tree whose arrays are read-only views of `vector` (size,)."""
        return self._tree(readonly(vector))

    def packed(self, vector: FloatArray) -> Packed:
        """Return the record that holds `vector` (size,) and makes its tree on demand."""
        if vector.shape != (self.size,):
            expect_shape("vector", vector, (self.size,), hint="give one number per parameter")
        record = object.__new__(Packed)  # the constructor of attrs takes twice as long
        record.__dict__.update(vector=readonly(vector), layout=self)
        return record

    def mirrored(self, classes: Classes) -> Layout:
        """Return the layout of records with the same fields but other classes, e.g. gradients.

        Args:
            classes: The tree of the other classes; None keeps the class of this layout.
        """
        return attrs.evolve(self, template=_mirrored(self.template, classes))


def expect_names(names: Sequence[str]) -> Sequence[str]:
    """Return a list of names, and refuse anything else, such as a single text."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise BadInput(f'names are {names!r}, expected a list of names: give e.g. ["W"].')
    return names


def _matches(slots: Sequence[Slot], name: str) -> list[bool]:
    matches = [
        slot.name == name or slot.name.endswith(f"/{name}") or slot.name.startswith(f"{name}/")
        for slot in slots
    ]
    if not any(matches):
        known = {slot.name for slot in slots} | {slot.name.rpartition("/")[2] for slot in slots}
        expect_known("parameter", name, known)
    return matches


@attrs.frozen(unsafe_hash=False, field_transformer=arrays, repr=False, slots=False)
class Packed:
    """Parameters, or gradients, whose numbers lie in one read-only vector (size,).

    `packed["2/W"]` is the array of that name; `packed.tree` has the records that stages take.
    """

    vector: FloatArray
    layout: Layout

    @property
    def tree(self) -> Tree:
        """The records that stages take; they are made at the first use."""
        # As functools.cached_property, without a lock: two threads would make equal trees.
        attributes = self.__dict__
        if "_tree" not in attributes:
            attributes["_tree"] = self.layout._tree(self.vector)
        return attributes["_tree"]

    def __reduce__(self) -> tuple[object, ...]:
        return Packed, (self.vector, self.layout)

    def __getitem__(self, name: str) -> FloatArray:
        slot = self.layout.slot(name)
        return self.vector[slot.start : slot.stop].reshape(slot.shape)

    def with_vector(self, vector: FloatArray) -> Packed:
        """Return the same records with the numbers of another vector, e.g. clipped gradients."""
        return self.layout.packed(vector)

    def with_tree(self, tree: Tree) -> Packed:
        """Return the same records with the numbers of another tree of the same shapes."""
        vector = np.empty_like(self.vector)
        _fill_from(vector, self.layout.slots, tree)
        return self.layout.packed(freeze(vector))

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.layout.slots)
        return f"Packed({self.vector.size} {self.vector.dtype} numbers: {names})"


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape (n_out, n_in) of the matrix in which weights of any shape are drawn.

    A matrix stays as it is. A kernel (…, C_in, C_out) has one row for each output.
    """
    if len(shape) == 2:
        return shape[0], shape[1]
    return shape[-1], math.prod(shape[:-1])


def kernel_of(matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the weights of this shape whose `matrix_of` was drawn."""
    return matrix if len(shape) == 2 else matrix.T.reshape(shape)


def leaves(tree: Tree) -> Iterator[FloatArray]:
    """Yield the arrays of a tree, depth first and in the order of fields.

    The tree may also be the state of an optimizer, a tuple with numbers beside arrays; the numbers
    are left out.
    """
    for branch in tree if isinstance(tree, tuple) else attrs.astuple(tree, recurse=False):
        if isinstance(branch, np.ndarray):
            yield branch
        elif isinstance(branch, tuple) or attrs.has(type(branch)):
            yield from leaves(branch)


def layout_of(tree: Tree) -> Layout:
    """Return the layout that puts the arrays of `tree` one after the other, each in C order.

    Raises:
        BadInput: If a part of the tree is neither an attrs record nor a tuple.
    """
    slots: list[Slot] = []

    def place(branch: Tree, path: str) -> Template:
        if isinstance(branch, tuple):
            return tuple(place(part, f"{path}{i}/") for i, part in enumerate(branch))
        if not attrs.has(type(branch)):
            raise BadInput(
                f"parameters at {path or 'the top'} are a {type(branch).__name__}, expected an "
                "attrs record of arrays, or a tuple of these: write a frozen attrs class for them."
            )
        first = len(slots)
        for field in attrs.fields(type(branch)):
            start = slots[-1].stop if slots else 0
            shape = getattr(branch, field.name).shape
            weights = bool(field.metadata.get("weights"))
            slots.append(Slot(path + field.name, shape, start, weights))
        return RecordOf(type(branch), tuple(slots[first:]))

    template = place(tree, "")
    return Layout(slots[-1].stop if slots else 0, tuple(slots), template)


def pack(tree: Tree, *, dtype: DTypeLike = np.float64) -> Packed:
    """Copy the arrays of `tree` into one vector of `dtype`.

    Raises:
        BadInput: If the vector does not fit into memory.
    """
    layout = layout_of(tree)
    try:
        vector = np.empty(layout.size, dtype)
    except MemoryError as error:
        raise BadInput(
            f"{layout.size} parameters do not fit into memory: make the network smaller."
        ) from error
    _fill_from(vector, layout.slots, tree)
    return layout.packed(freeze(vector))


def _fill_from(vector: FloatArray, slots: Sequence[Slot], tree: Tree) -> None:
    for slot, leaf in zip(slots, leaves(tree), strict=True):
        vector[slot.start : slot.stop] = leaf.ravel()


def _filling(template: Template, maker: Callable[[type], _Maker]) -> _Fill:
    """Return the function from a vector to a tree; `maker` gives the constructor of each class."""
    if isinstance(template, tuple):
        if not template:
            return lambda vector: NO_PARAMS
        fills = [_filling(part, maker) if part else None for part in template]
        return lambda vector: tuple([fill(vector) if fill else NO_PARAMS for fill in fills])
    make = maker(template.cls)
    # The class itself made and checked a record of these shapes, so views of them need no check.
    places = [(slice(slot.start, slot.stop), slot.shape) for slot in template.slots]
    if len(places) == 2:  # the usual case, fast: every step makes these records
        (first, first_shape), (second, second_shape) = places
        if make is None:
            return lambda vector: (
                vector[first].reshape(first_shape),
                vector[second].reshape(second_shape),
            )
        return lambda vector: make(
            vector[first].reshape(first_shape), vector[second].reshape(second_shape)
        )
    of_views = make or _together
    return lambda vector: of_views(*[vector[place].reshape(shape) for place, shape in places])


def _mirrored(template: Template, classes: Classes) -> Template:
    if isinstance(template, tuple) and isinstance(classes, tuple):
        return tuple(_mirrored(part, cls) for part, cls in zip(template, classes, strict=True))
    if isinstance(template, RecordOf) and isinstance(classes, type):
        return attrs.evolve(template, cls=classes)
    return template


def _together(*views: FloatArray) -> tuple[FloatArray, ...]:
    return views
