"""The gradient check of one array: entries one by one, and lines through all of them."""

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

_LINES = 4  # lines of random signs through all entries of a large array
_STEP = 1e-3  # the first step of differences, relative to the size of the numbers
_NUDGE = 0.05  # how far to move away from a corner, relative to the same


@attrs.frozen(eq=False)
class ArrayReport:
    """The result of checking one array's gradient.

    Attributes:
        name: The name of the array, e.g. "2/W" or "A_prev".
        shape: The shape of the array.
        worst: Index of the entry with the largest error; None if no entry could be checked.
        analytic: The gradient of that entry that `backward` returned.
        numeric: The gradient of that entry by differences.
        error: The difference of the two, relative to the array's largest gradient.
        right: Whether every entry is right.
        checked: Number of entries that were compared one by one.
        method: "complex step", "differences", or both.
        remark: Which entries were nudged or left out, and why.
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
    bound: float  # on the error of the numeric value
    exact: bool  # whether a complex step gave it
    nudged: bool = False

    @property
    def difference(self) -> float:
        return abs(self.analytic - self.numeric)


class ArrayCheck:
    """The check of one array: call `measure`, and `judge` once all arrays are measured."""

    def __init__(self, problem: Problem, slot: Slot, key: Key, entries: int) -> None:
        """Choose at most `entries` entries of the array at `slot`, with the `key`."""
        self._problem, self._slot, self._key = problem, slot, key
        self._size = slot.stop - slot.start
        self._all_chosen = self._size <= entries
        drawn = np.unique(key.at("entries").integers(max(1, self._size), entries))
        self._chosen: list[int] = (np.arange(self._size) if self._all_chosen else drawn).tolist()
        self._singles: list[_Entry] = []
        self._lines: list[tuple[_Entry, FloatArray, FloatArray]] = []  # and its direction and point
        self._outside: list[_Entry] = []  # wrong at corners: not between the slopes of both sides
        self._left_out = 0

    def measure(self) -> float:
        """Compare all chosen entries and lines, and return the largest numeric gradient."""
        vector = self._problem.vector
        self._move_to(vector)
        corners = [i for i in self._chosen if not self._compare_entry(i)]
        stuck = [direction for direction in self._directions() if not self._compare_line(direction)]
        if corners or stuck:
            # Move away from the corner, and check the same entries there.
            moved = np.arange(self._size) if stuck else np.array(corners)
            self._move_to(self._nudged_from(vector, moved), nudged=True)
            self._left_out = sum(not self._compare_entry(i) for i in corners)
            for direction in stuck:
                self._compare_line(direction)
        return max((abs(e.numeric) for e in self._singles), default=0.0)

    def _move_to(self, vector: FloatArray, *, nudged: bool = False) -> None:
        self._vector, self._nudged = vector, nudged
        self._claimed = self._problem.gradient(vector)[self._slot.start : self._slot.stop]
        self._outputs_here = np.asarray(self._problem.outputs(vector.copy()))
        self._values = vector[self._slot.start : self._slot.stop]

    def _nudged_from(self, vector: FloatArray, moved: NDArray[np.int64]) -> FloatArray:
        far = 0.5 + self._key.at("nudge").uniform(moved.size)
        nudged = vector.copy()
        nudged[self._slot.start + moved] += _NUDGE * self._scale() * far
        return freeze(nudged)

    def _directions(self) -> list[FloatArray]:
        """Return directions of random signs, if not all entries are compared one by one."""
        bits = [
            self._key.at("line", i).bits(self._size)
            for i in range(0 if self._all_chosen else _LINES)
        ]
        return [1.0 - 2.0 * (b >> np.uint64(63)).astype(np.float64) for b in bits]

    def _scale(self) -> float:
        """Return the typical size of the array's numbers."""
        root = math.sqrt(float(np.mean(self._values * self._values))) if self._size else 0.0
        return max(root, 1e-2) if root else 1.0

    def _outputs_along(self, direction: FloatArray | int) -> Line:
        """Return the outputs as a function on the line in this direction, or along this axis."""
        start, stop = self._slot.start, self._slot.stop
        place = slice(start, stop) if isinstance(direction, np.ndarray) else start + direction
        unit = direction if isinstance(direction, np.ndarray) else 1.0

        def line(t: complex) -> FloatArray:
            moved = self._vector.astype(np.result_type(self._vector, t))
            moved[place] += t * unit
            return self._problem.outputs(moved)

        return line

    def _compare_entry(self, index: int) -> bool:
        """Compare one entry; return False if there is a corner at the point."""
        size = max(abs(float(self._values[index])), self._scale())
        claimed = float(self._claimed[index])
        entry, known = self._comparison(index, claimed, size)
        if entry is not None:
            self._singles.append(attrs.evolve(entry, index=index))
        elif not self._nudged:
            self._judge_corner(index, claimed, known)
        return entry is not None

    def _compare_line(self, direction: FloatArray) -> bool:
        """Compare along one line; return False if there is a corner at the point."""
        entry, _ = self._comparison(direction, float(self._claimed @ direction), self._scale())
        if entry is not None:
            self._lines.append((entry, direction, self._vector))
        return entry is not None

    def _comparison(
        self, direction: FloatArray | int, claimed: float, size: float
    ) -> tuple[_Entry | None, Derivative]:
        line, weights = self._outputs_along(direction), self._problem.weights
        known = derivative(line, self._outputs_here, _STEP * size)
        if known.corner:
            return None, known
        exact = by_complex_step(line, known)
        bound = float(np.abs(weights) @ known.error) if exact is None else 0.0
        value = float(weights @ (known.value if exact is None else exact))
        return _Entry(None, claimed, value, bound, exact is not None, self._nudged), known

    def _judge_corner(self, index: int, claimed: float, known: Derivative) -> None:
        """Record an error unless the gradient at a corner is between the slopes of its sides."""
        sides = np.stack([known.left, known.right]) * self._problem.weights
        low, high = float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum())
        slack = 1e-4 * max(abs(low), abs(high), high - low)
        # At a jump the slopes grow without bound as steps shrink, so they cannot be compared.
        steep = np.abs(known.right - known.left).max() > 1e5 * max(
            1.0, np.abs(self._outputs_here).max()
        )
        if not steep and not low - slack <= claimed <= high + slack:
            nearest = low if claimed < low else high
            self._outside.append(_Entry(index, claimed, nearest, slack, False))

    def judge(self, rtol: float, largest: float) -> ArrayReport:
        """Return the report, where `largest` is the largest gradient of all arrays."""
        scale = max((abs(e.numeric) for e in self._singles), default=0.0)
        # A gradient that is 0 except for rounding, like that of a bias before a batch
        # normalization, has no scale of its own. Its rounding errors come from the numbers that
        # cancel, so they scale with the other arrays' gradients.
        floor = 1e-11 * largest + 1e-300

        def is_wrong(entry: _Entry) -> bool:
            own_scale = 0.0 if entry.index is not None else abs(entry.numeric) / self._size
            tolerance = entry.bound + floor + rtol * max(scale, own_scale)
            return not entry.difference <= tolerance  # so that a NaN is wrong

        wrong = [e for e in (*self._singles, *self._outside) if is_wrong(e)]
        if not wrong:
            wrong_line = next((line for line in self._lines if is_wrong(line[0])), None)
            wrong = [self._locate(*wrong_line)] if wrong_line is not None else []
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

    def _locate(self, entry: _Entry, direction: FloatArray, vector: FloatArray) -> _Entry:
        """Return the entry that causes a line's error, found by bisection of the moved entries."""
        self._move_to(vector, nudged=entry.nudged)
        inside = np.arange(self._size)
        while inside.size > 1:
            halves = np.array_split(inside, 2)
            errors = []
            for half in halves:
                part = np.zeros(self._size)
                part[half] = direction[half]
                result, _ = self._comparison(part, float(self._claimed @ part), self._scale())
                errors.append(result.difference if result is not None else 0.0)
            inside = halves[int(errors[1] > errors[0])]
        return self._singles[-1] if self._compare_entry(int(inside[0])) else entry

    def _method(self) -> str:
        exact = {entry.exact for entry in self._singles}
        names = {True: "complex step", False: "differences"}
        return " and ".join(name for is_exact, name in names.items() if is_exact in exact)

    def _remark(self, worst: _Entry | None, is_zero: bool) -> str:
        nudged = sum(entry.nudged for entry in self._singles)
        remarks = {
            f"{nudged} nudged from a corner": nudged,
            f"{self._left_out} left out at a corner": self._left_out,
            "at a corner, not between the slopes of both sides": self._outside,
            "along a line through all entries": worst is not None and worst.index is None,
            "0 except for rounding": is_zero and self._singles,
        }
        return ", ".join(text for text, applies in remarks.items() if applies)
