"""The layout of a stack: the parameters of R trainings in one vector, all "0/W", then all "0/b"."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.parameters import Layout, Slot, Template
from pydnn.records import FloatArray

__all__ = ["rows_of", "stacked_layout", "vector_of"]


def stacked_layout(layout: Layout, runs: int) -> Layout:
    """Return the layout of a stack from that of one training; arrays get a first axis of `runs`."""

    def widened(slot: Slot) -> Slot:
        return attrs.evolve(slot, shape=(runs, *slot.shape), start=slot.start * runs)

    def stacked(template: Template) -> Template:
        if isinstance(template, tuple):
            return tuple(map(stacked, template))
        return attrs.evolve(template, slots=tuple(map(widened, template.slots)))

    return Layout(layout.size * runs, tuple(map(widened, layout.slots)), stacked(layout.template))


def rows_of(layout: Layout, vector: FloatArray) -> FloatArray:
    """Return each training's vector in `layout`, (R, size), from that of the stack, (R * size,)."""
    runs = vector.size // max(layout.size, 1)
    pieces = [vector[s.start * runs : s.stop * runs].reshape(runs, -1) for s in layout.slots]
    return np.concatenate(pieces, axis=1) if pieces else np.empty((runs, 0), vector.dtype)


def vector_of(layout: Layout, rows: FloatArray) -> FloatArray:
    """Return the vector of the stack, (R * size,), from each training's in `layout`, (R, size)."""
    if not layout.slots:
        return np.empty(0, rows.dtype)
    return np.concatenate([rows[:, s.start : s.stop].ravel() for s in layout.slots])
