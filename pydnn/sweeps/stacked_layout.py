"""How the parameters of many runs lie in one vector: all arrays "0/W", then all "0/b"."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.parameters import Layout, Slot, Template
from pydnn.records import FloatArray

__all__ = ["rows_of", "stacked_layout", "vector_of"]


def stacked_layout(layout: Layout, runs: int) -> Layout:
    """The layout of a tree whose arrays have a first axis for the runs, from that of one run."""

    def widened(slot: Slot) -> Slot:
        return attrs.evolve(slot, shape=(runs, *slot.shape), start=slot.start * runs)

    def stacked(template: Template) -> Template:
        if isinstance(template, tuple):
            return tuple(map(stacked, template))
        return attrs.evolve(template, slots=tuple(map(widened, template.slots)))

    return Layout(layout.size * runs, tuple(map(widened, layout.slots)), stacked(layout.template))


def rows_of(layout: Layout, vector: FloatArray) -> FloatArray:
    """Each run's own vector in `layout`, (runs, size), from that of all runs, (runs * size,)."""
    runs = vector.size // max(layout.size, 1)
    pieces = [vector[s.start * runs : s.stop * runs].reshape(runs, -1) for s in layout.slots]
    return np.concatenate(pieces, axis=1) if pieces else np.empty((runs, 0), vector.dtype)


def vector_of(layout: Layout, rows: FloatArray) -> FloatArray:
    """The vector of all runs, (runs * size,), from each run's own in `layout`, (runs, size)."""
    if not layout.slots:
        return np.empty(0, rows.dtype)
    return np.concatenate([rows[:, s.start : s.stop].ravel() for s in layout.slots])
