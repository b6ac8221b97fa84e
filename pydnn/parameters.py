"""All of a network's parameters in one vector, of which each W and b is a view.

An optimiser is then a few whole-vector operations, a checkpoint is one data set and a
fingerprint one hash. A *tree* is what stages work with: an attrs record of arrays for a stage
that has parameters, the empty tuple for one that has none, a tuple of trees for a network.
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
    "layout_of",
    "leaves",
    "pack",
]

Tree: TypeAlias = Any  # an attrs record of arrays, or a tuple of trees
Views: TypeAlias = tuple[Any, ...]  # a tuple of arrays for each record of a tree, nested as it is
NO_PARAMS: tuple[()] = ()


@attrs.frozen
class Slot:
    """The place of one array in the vector: its name, e.g. "2/W", its shape and its range.

    Attributes:
        name: Its path in the tree.
        shape: Its shape.
        start: Its first entry in the vector.
        weights: Whether it holds weights, which its record says with `pydnn.records.WEIGHTS`.
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
    """A record's place in a template: its class, and a slot for each of its fields."""

    cls: type
    slots: tuple[Slot, ...]


Classes: TypeAlias = "type | tuple[Classes, ...] | None"  # of the records of a tree
Template: TypeAlias = "RecordOf | tuple[Template, ...]"
_Fill: TypeAlias = Callable[[FloatArray], Tree]
_Maker: TypeAlias = Callable[..., Tree] | None  # of a record from its arrays; None for a tuple


@attrs.frozen(repr=False)
class Layout:
    """How a tree of arrays lies in one vector.

    Attributes:
        size: Of the vector.
        slots: The arrays' places in it, in their order.
        template: The tree's shape: for each record its class and its slots.
        views: `(vector) -> tree` like that of `tree`, with a plain tuple of views in the place of
            each record, to be filled by whoever has made the vector.
    """

    size: int
    slots: tuple[Slot, ...]
    template: Template
    _tree: _Fill = attrs.field(init=False, eq=False)
    views: _Fill = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Every step makes a tree anew, so the way through the template is gone once, here.
        object.__setattr__(self, "_tree", _filling(self.template, maker_of))
        object.__setattr__(self, "views", _filling(self.template, lambda cls: None))

    def __reduce__(self) -> tuple[object, ...]:
        return Layout, (self.size, self.slots, self.template)

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.slots)
        return f"Layout({self.size}: {names})"

    def slot(self, name: str) -> Slot:
        """The slot of the array called `name`, e.g. "2/W"."""
        expect_known("parameter", name, [slot.name for slot in self.slots])
        return next(slot for slot in self.slots if slot.name == name)

    def selected(self, names: Sequence[str]) -> list[slice]:
        """The stretches of the vector that hold the arrays which `names` select.

        A name selects the array of that name, "2/W"; all arrays of that field, "W"; or all those
        of a stage, "2". Arrays that lie next to each other make one stretch.
        """
        wanted = [_matches(self.slots, name) for name in expect_names(names)]
        stretches: list[slice] = []
        for slot, *hits in zip(self.slots, *wanted, strict=True):
            if not any(hits):
                continue
            if stretches and stretches[-1].stop == slot.start:
                stretches[-1] = slice(stretches[-1].start, slot.stop)
            else:
                stretches.append(slice(slot.start, slot.stop))
        return stretches

    def tree(self, vector: FloatArray) -> Tree:
        """The tree whose arrays are read-only views of `vector` (size,)."""
        return self._tree(readonly(vector))

    def packed(self, vector: FloatArray) -> Packed:
        """The record of `vector` (size,) and its tree."""
        if vector.shape != (self.size,):
            expect_shape("vector", vector, (self.size,), hint="give one number per parameter")
        record = object.__new__(Packed)  # without the class's own way, which takes twice as long
        record.__dict__.update(vector=readonly(vector), layout=self)
        return record

    def mirrored(self, classes: Classes) -> Layout:
        """The layout of records that mirror those laid out here field by field, as gradients do.

        Args:
            classes: A tree of their classes; None stands for the class that is here.
        """
        return attrs.evolve(self, template=_mirrored(self.template, classes))


def expect_names(names: Sequence[str]) -> Sequence[str]:
    """Refuse what is no list of names of arrays, such as a single text."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise BadInput(f'names are {names!r}, expected a list of them: give e.g. ["W"].')
    return names


def _matches(slots: Sequence[Slot], name: str) -> list[bool]:
    found = [
        slot.name == name or slot.name.endswith(f"/{name}") or slot.name.startswith(f"{name}/")
        for slot in slots
    ]
    if not any(found):
        known = {slot.name for slot in slots} | {slot.name.rpartition("/")[2] for slot in slots}
        expect_known("parameter", name, known)
    return found


@attrs.frozen(unsafe_hash=False, field_transformer=arrays, repr=False, slots=False)
class Packed:
    """Arrays whose numbers lie in one read-only vector (size,): parameters, or gradients.

    `packed["2/W"]` is the array of that name; `packed.tree` has the records that stages take.
    """

    vector: FloatArray
    layout: Layout

    @property
    def tree(self) -> Tree:
        """The records that stages take, made when they are first asked for."""
        # As functools.cached_property has it, without its lock: two would make the same.
        known = self.__dict__
        if "_tree" not in known:
            known["_tree"] = self.layout._tree(self.vector)
        return known["_tree"]

    def __reduce__(self) -> tuple[object, ...]:
        return Packed, (self.vector, self.layout)

    def __getitem__(self, name: str) -> FloatArray:
        slot = self.layout.slot(name)
        return self.vector[slot.start : slot.stop].reshape(slot.shape)

    def with_vector(self, vector: FloatArray) -> Packed:
        """The same records with other numbers, e.g. gradients that were clipped."""
        return self.layout.packed(vector)

    def with_tree(self, tree: Tree) -> Packed:
        """The same records with the numbers of another tree of the same shapes."""
        vector = np.empty_like(self.vector)
        _fill_from(vector, self.layout.slots, tree)
        return self.layout.packed(freeze(vector))

    def __repr__(self) -> str:
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self.layout.slots)
        return f"Packed({self.vector.size} {self.vector.dtype} numbers: {names})"


def leaves(tree: Tree) -> Iterator[FloatArray]:
    """The arrays of a tree, depth first and in the order of fields.

    A tree may also be the tuple of what optimizers remember, where numbers stand beside arrays.
    """
    for branch in tree if isinstance(tree, tuple) else attrs.astuple(tree, recurse=False):
        if isinstance(branch, np.ndarray):
            yield branch
        elif isinstance(branch, tuple) or attrs.has(type(branch)):
            yield from leaves(branch)


def layout_of(tree: Tree) -> Layout:
    """Lay the arrays of `tree` one after the other, each in C order."""
    slots: list[Slot] = []

    def place(branch: Tree, path: str) -> Template:
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
            shape = getattr(branch, field.name).shape
            weights = bool(field.metadata.get("weights"))
            slots.append(Slot(path + field.name, shape, start, weights))
        return RecordOf(type(branch), tuple(slots[first:]))

    template = place(tree, "")
    return Layout(slots[-1].stop if slots else 0, tuple(slots), template)


def pack(tree: Tree, *, dtype: DTypeLike = np.float64) -> Packed:
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
    _fill_from(vector, layout.slots, tree)
    return layout.packed(freeze(vector))


def _fill_from(vector: FloatArray, slots: Sequence[Slot], tree: Tree) -> None:
    for slot, leaf in zip(slots, leaves(tree), strict=True):
        vector[slot.start : slot.stop] = leaf.ravel()


def _filling(template: Template, maker: Callable[[type], _Maker]) -> _Fill:
    """The function from a vector to the tree of this template, each record by its class's maker."""
    if isinstance(template, tuple):
        if not template:
            return lambda vector: NO_PARAMS
        fills = [_filling(part, maker) if part else None for part in template]
        return lambda vector: tuple([fill(vector) if fill else NO_PARAMS for fill in fills])
    make = maker(template.cls)
    # Views have the shapes of a record that the class itself made, so it need not check them.
    places = [(slice(slot.start, slot.stop), slot.shape) for slot in template.slots]
    if len(places) == 2:  # most stages have two arrays, and every step makes their records
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
