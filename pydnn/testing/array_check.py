"""The gradient check of one array: its entries one by one, or some, and lines through all."""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.keys import Key
from pydnn.parameters import Slot
from pydnn.records import FloatArray, freeze
from pydnn.testing.derivatives import Derivative, Line, by_complex_step, derivative
from pydnn.testing.problems import Problem

__all__ = ["ArrayCheck", "ArrayReport"]

_LINES = 4  # of random signs, through all entries of a large array
_STEP = 1e-3  # beside the size of numbers, to begin with
_NUDGE = 0.05


@attrs.frozen(eq=False)
class ArrayReport:
    """What was found about one array's gradient.

    Attributes:
        name: The array's, e.g. "2/W" or "A_prev".
        shape: The array's.
        worst: Index of the entry whose error is largest; None where none could be checked.
        analytic: The gradient there as it was given,
        numeric: and as it was measured.
        error: The difference, over the array's largest gradient.
        right: Whether all is well.
        checked: How many entries were compared, one by one.
        method: "complex step", "differences", or both.
        remark: What was nudged or left out, and why.
    """

    name: str
    shape: tuple[int, ...]
    worst: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float
    right: bool
    checked: int
    method: str
    remark: str


@attrs.frozen(eq=False)
class _Entry:
    """One comparison: of an entry, or along a line through all entries (index None)."""

    index: int | None
    analytic: float
    numeric: float
    bound: float  # what the numeric value may be off by
    exact: bool  # by a complex step
    nudged: bool = False

    @property
    def difference(self) -> float:
        return abs(self.analytic - self.numeric)


class ArrayCheck:
    """The work on one array: measure first, so that all scales are known, then judge."""

    def __init__(self, problem: Problem, slot: Slot, key: Key, entries: int) -> None:
        """Choose up to so many `entries` of the array at `slot` by the `key`."""
        self._problem, self._slot, self._key = problem, slot, key
        self._size = slot.stop - slot.start
        self._few = self._size <= entries
        drawn = np.unique(key.at("entries").integers(max(1, self._size), entries))
        self._chosen: list[int] = (np.arange(self._size) if self._few else drawn).tolist()
        self._singles: list[_Entry] = []
        self._lines: list[tuple[_Entry, FloatArray, FloatArray]] = []  # each with its way and place
        self._beyond: list[_Entry] = []  # at corners, where no slope between the sides is right
        self._left_out = 0

    def measure(self) -> float:
        """Compare all that is to be compared; gives the largest gradient that was measured."""
        vector = self._problem.vector
        self._use(vector)
        corners = [i for i in self._chosen if not self._single(i)]
        stuck = [way for way in self._ways() if not self._line(way)]
        if corners or stuck:
            # Away from the corner, the same entries can be checked.
            moved = np.arange(self._size) if stuck else np.array(corners)
            self._use(self._nudged_from(vector, moved), nudged=True)
            self._left_out = sum(not self._single(i) for i in corners)
            for way in stuck:
                self._line(way)
        return max((abs(e.numeric) for e in self._singles), default=0.0)

    def _use(self, vector: FloatArray, *, nudged: bool = False) -> None:
        self._vector, self._nudged = vector, nudged
        self._claimed = self._problem.gradient(vector)[self._slot.start : self._slot.stop]
        self._at = np.asarray(self._problem.outputs(vector.copy()))
        self._mine = vector[self._slot.start : self._slot.stop]

    def _nudged_from(self, vector: FloatArray, moved: NDArray[np.int64]) -> FloatArray:
        far = 0.5 + self._key.at("nudge").uniform(moved.size)
        nudged = vector.copy()
        nudged[self._slot.start + moved] += _NUDGE * self._scale() * far
        return freeze(nudged)

    def _ways(self) -> list[FloatArray]:
        """Lines of random signs, through all entries of an array that has too many."""
        bits = [self._key.at("line", i).bits(self._size) for i in range(0 if self._few else _LINES)]
        return [1.0 - 2.0 * (b >> np.uint64(63)).astype(np.float64) for b in bits]

    def _scale(self) -> float:
        """How large the array's numbers are."""
        root = math.sqrt(float(np.mean(self._mine * self._mine))) if self._size else 0.0
        return max(root, 1e-2) if root else 1.0

    def _along(self, way: FloatArray | int) -> Line:
        """The outputs on the line through the point, along an axis or any other way."""
        start, stop = self._slot.start, self._slot.stop
        place = slice(start, stop) if isinstance(way, np.ndarray) else start + way
        unit = way if isinstance(way, np.ndarray) else 1.0

        def line(t: complex) -> FloatArray:
            moved = self._vector.astype(np.result_type(self._vector, t))
            moved[place] += t * unit
            return self._problem.outputs(moved)

        return line

    def _single(self, index: int) -> bool:
        """Compare one entry, and note it; False where there is a corner at the point."""
        size = max(abs(float(self._mine[index])), self._scale())
        claimed = float(self._claimed[index])
        entry, known = self._compared(index, claimed, size)
        if entry is not None:
            self._singles.append(attrs.evolve(entry, index=index))
        elif not self._nudged:
            self._judge_corner(index, claimed, known)
        return entry is not None

    def _line(self, way: FloatArray) -> bool:
        """Compare along a line, and note it; False where there is a corner at the point."""
        entry, _ = self._compared(way, float(self._claimed @ way), self._scale())
        if entry is not None:
            self._lines.append((entry, way, self._vector))
        return entry is not None

    def _compared(
        self, way: FloatArray | int, claimed: float, size: float
    ) -> tuple[_Entry | None, Derivative]:
        line, weights = self._along(way), self._problem.weights
        known = derivative(line, self._at, _STEP * size)
        if known.corner:
            return None, known
        exact = by_complex_step(line, known)
        bound = float(np.abs(weights) @ known.error) if exact is None else 0.0
        value = float(weights @ (known.value if exact is None else exact))
        return _Entry(None, claimed, value, bound, exact is not None, self._nudged), known

    def _judge_corner(self, index: int, claimed: float, known: Derivative) -> None:
        """At a corner, any slope between those of the two sides is right."""
        sides = np.stack([known.left, known.right]) * self._problem.weights
        low, high = float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum())
        slack = 1e-4 * max(abs(low), abs(high), high - low)
        # A jump has slopes without end, and says nothing.
        steep = np.abs(known.right - known.left).max() > 1e5 * max(1.0, np.abs(self._at).max())
        if not steep and not low - slack <= claimed <= high + slack:
            nearest = low if claimed < low else high
            self._beyond.append(_Entry(index, claimed, nearest, slack, False))

    def judge(self, rtol: float, whole: float) -> ArrayReport:
        """The report, where `whole` is the largest gradient of all arrays."""
        scale = max((abs(e.numeric) for e in self._singles), default=0.0)
        # A gradient that is 0 but for rounding, as of a bias before a batch normalisation, has no
        # scale of its own: rounding comes from the numbers that cancel, which are the others'.
        floor = 1e-11 * whole + 1e-300

        def is_wrong(entry: _Entry) -> bool:
            most = (
                entry.bound
                + floor
                + rtol
                * max(scale, 0.0 if entry.index is not None else abs(entry.numeric) / self._size)
            )
            return not entry.difference <= most  # which a NaN is not, either

        wrong = [e for e in (*self._singles, *self._beyond) if is_wrong(e)]
        if not wrong:
            bent = next((line for line in self._lines if is_wrong(line[0])), None)
            wrong = [self._behind(*bent)] if bent is not None else []
        among = wrong or self._singles
        worst = max(among, key=lambda e: (math.isnan(e.difference), e.difference), default=None)
        index = worst.index if worst is not None else None
        place = None if index is None else np.unravel_index(index, self._slot.shape)
        return ArrayReport(
            self._slot.name,
            self._slot.shape,
            None if place is None else tuple(map(int, place)),
            worst.analytic if worst is not None else math.nan,
            worst.numeric if worst is not None else math.nan,
            worst.difference / max(scale, floor) if worst is not None else 0.0,
            not wrong and (bool(self._singles) or not self._size),
            len(self._singles),
            self._method(),
            self._remark(worst, scale <= floor),
        )

    def _behind(self, entry: _Entry, way: FloatArray, vector: FloatArray) -> _Entry:
        """The entry that is behind a line's error, by halving the entries that are moved."""
        self._use(vector, nudged=entry.nudged)
        inside = np.arange(self._size)
        while inside.size > 1:
            halves = np.array_split(inside, 2)
            errors = []
            for half in halves:
                part = np.zeros(self._size)
                part[half] = way[half]
                found, _ = self._compared(part, float(self._claimed @ part), self._scale())
                errors.append(found.difference if found is not None else 0.0)
            inside = halves[int(errors[1] > errors[0])]
        return self._singles[-1] if self._single(int(inside[0])) else entry

    def _method(self) -> str:
        exact = {entry.exact for entry in self._singles}
        names = {True: "complex step", False: "differences"}
        return " and ".join(name for is_exact, name in names.items() if is_exact in exact)

    def _remark(self, worst: _Entry | None, nothing: bool) -> str:
        nudged = sum(entry.nudged for entry in self._singles)
        said = {
            f"{nudged} nudged from a corner": nudged,
            f"{self._left_out} left out at a corner": self._left_out,
            "at a corner, beyond the slopes of both sides": self._beyond,
            "along a line through all entries": worst is not None and worst.index is None,
            "0 but for rounding": nothing and self._singles,
        }
        return ", ".join(text for text, is_so in said.items() if is_so)
