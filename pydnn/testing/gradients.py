"""Gradient checks: every array by itself, against differences that are taken with care.

An array's error is judged by the scale of its own gradient, so that a bias cannot hide behind the
weights; where an array is too large to be checked entry by entry, some entries are drawn by a
key, and all of them at once are moved along lines of random signs, in which no entry hides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.packing import Slot, Tree
from pydnn.records import Batch, FloatArray, freeze
from pydnn.stages.base import Context, Stage
from pydnn.testing.derivatives import Derivative, by_complex_step, derivative
from pydnn.testing.draws import draw_loss, draw_stage
from pydnn.testing.laws import table
from pydnn.testing.problems import (
    Problem,
    network_problem,
    problem_of_function,
    problem_of_loss,
    problem_of_stage,
)

__all__ = [
    "ArrayReport",
    "GradientReport",
    "check_function",
    "check_gradients",
    "check_problem",
    "gradient_report",
]

_LINES = 4  # of random signs, through all entries of a large array
_STEP = 1e-3
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
class GradientReport:
    """The table of a gradient check, one row for each array; its text is made for people."""

    subject: str
    arrays: tuple[ArrayReport, ...]

    @property
    def right(self) -> bool:
        """Whether every array's gradient is what was measured."""
        return all(array.right for array in self.arrays)

    @property
    def worst(self) -> float:
        """The largest error of all arrays."""
        return max((array.error for array in self.arrays), default=0.0)

    def __str__(self) -> str:
        wrong = [array.name for array in self.arrays if not array.right]
        verdict = f"wrong for {', '.join(wrong)}" if wrong else "right"
        head = ["array", "shape", "worst at", "analytic", "numeric", "error", "checked", "verdict"]
        rows = [
            [
                a.name,
                str(a.shape),
                "" if a.worst is None else str(list(a.worst)),
                f"{a.analytic:.9g}",
                f"{a.numeric:.9g}",
                f"{a.error:.1e}",
                f"{a.checked} of {math.prod(a.shape)} by {a.method}" if a.method else "none",
                ("right" if a.right else "WRONG") + (f" ({a.remark})" if a.remark else ""),
            ]
            for a in self.arrays
        ]
        return f"gradients of {self.subject}: {verdict}\n{table(head, rows)}"


def check_gradients(subject: Stage | Loss, **options: Any) -> GradientReport:
    """Compare every gradient of a stage, loss or network with what differences give.

    Args:
        subject: The stage, network or loss.
        options: Those of `gradient_report`.

    Raises:
        AssertionError: If one is wrong; its message is the report.
        BadInput: If it is nothing that has gradients, raises, or is given what does not fit.
    """
    report = gradient_report(subject, **options)
    if not report.right:
        raise AssertionError(str(report))
    return report


def check_function(
    function: Callable[..., float],
    gradients: Callable[..., Mapping[str, FloatArray]],
    arrays: Mapping[str, FloatArray],
    *,
    rtol: float = 1e-7,
    entries: int = 48,
    key: Key = Key(0),  # noqa: B008 - frozen
) -> GradientReport:
    """Compare the gradients of any function of arrays with what differences give.

    Args:
        function: `(**arrays) -> number`.
        gradients: `(**arrays) -> {name: gradient}`, for every one of them.
        arrays: The point at which they are compared, by the names of arguments.
        rtol: How large an array's error may be, beside its own largest gradient.
        entries: Up to how many of an array's entries are compared one by one.
        key: Where these are drawn from.

    Raises:
        AssertionError: If one is wrong; its message is the report.
        BadInput: If the function raises, or an array is not float64.
    """
    problem = problem_of_function(function, gradients, arrays)
    report = check_problem(problem, key=key, rtol=rtol, entries=entries)
    if not report.right:
        raise AssertionError(str(report))
    return report


def gradient_report(
    subject: Stage | Loss,
    *,
    shape_in: tuple[int, ...] = (3,),
    examples: int = 5,
    params: Tree | None = None,
    A_prev: FloatArray | None = None,
    dA: FloatArray | None = None,
    context: Context | None = None,
    loss: Loss | None = None,
    batch: Batch | None = None,
    AL: FloatArray | None = None,
    Y: FloatArray | None = None,
    weights: FloatArray | None = None,
    outputs: int | None = None,
    key: Key = Key(0),  # noqa: B008 - frozen
    rtol: float = 1e-7,
    entries: int = 48,
) -> GradientReport:
    """The report of `check_gradients`, right or wrong. What is not given is drawn.

    Args:
        subject: The stage, network or loss.
        shape_in: Of one example, for a stage.
        examples: How many of them.
        params: Of the stage, in float64.
        A_prev: Its input, with examples in columns.
        dA: The gradient of its output.
        context: Of its forward pass; by default that of a training step.
        loss: Check a network's gradients of the cost by this loss,
        batch: for these examples.
        AL: What a loss is given,
        Y: the labels,
        weights: and the examples' weights.
        outputs: Rows of AL, where they are drawn.
        key: Where all is drawn from.
        rtol: How large an array's error may be, beside its own largest gradient.
        entries: Up to how many of an array's entries are compared one by one.
    """
    expect_real("rtol", rtol, positive=True, hint="give e.g. 1e-7")
    expect_count("entries", entries, hint="give the entries of an array that are compared")
    if isinstance(subject, Loss):
        drawn = draw_loss(subject, outputs, examples, key, AL=AL, Y=Y)
        at = Context(training=True) if context is None else context
        problem = problem_of_loss(subject, drawn.AL, drawn.Y, weights, at)
    elif not isinstance(subject, Stage):
        raise BadInput(f"got {subject!r}, expected a stage or a loss: call its builder.")
    elif loss is not None:
        if batch is None:
            raise BadInput("a loss was given without a batch: give batch=Batch(X, Y), too.")
        at_stage = draw_stage(subject, shape_in, examples, key, params=params, A_prev=batch.X)
        at = at_stage.training if context is None else context
        problem = network_problem(
            subject, loss, at_stage.params, batch.X, batch.Y, batch.weights, at
        )
    else:
        at_stage = draw_stage(subject, shape_in, examples, key, params=params, A_prev=A_prev)
        at = at_stage.training if context is None else context
        gradient = at_stage.dA if dA is None else dA
        problem = problem_of_stage(subject, at_stage.params, at_stage.A_prev, gradient, at)
    return check_problem(problem, key=key, rtol=rtol, entries=entries)


def check_problem(
    problem: Problem,
    *,
    key: Key = Key(0),  # noqa: B008 - frozen
    rtol: float = 1e-7,
    entries: int = 48,
) -> GradientReport:
    """The report of any `problem`."""
    checks = [
        _ArrayCheck(problem, slot, key.at("check", slot.name), entries) for slot in problem.slots
    ]
    scales = [check.measure() for check in checks]
    whole = max(scales, default=0.0)
    reports = [check.judge(rtol, whole) for check in checks]
    return GradientReport(problem.subject, tuple(reports))


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


class _ArrayCheck:
    """The work on one array: measure first, so that all scales are known, then judge."""

    def __init__(self, problem: Problem, slot: Slot, key: Key, entries: int) -> None:
        self.problem, self.slot, self.key = problem, slot, key
        self.size = slot.stop - slot.start
        self.few = self.size <= entries
        chosen = (
            np.arange(self.size)
            if self.few
            else np.unique(key.at("entries").integers(self.size, entries))
        )
        self.chosen = [int(i) for i in chosen]
        self.found: list[_Entry] = []
        self.left_out = 0
        self.beyond: list[_Entry] = []  # at corners, where no slope between the sides is right
        self.resolved = True

    def measure(self) -> float:
        """Compare all that is to be compared; gives the largest gradient that was measured."""
        problem = self.problem
        self.use(problem.vector)
        corners = [i for i in self.chosen if not self.compare(i, self.unit(i))]
        lines = [] if self.few else [self.signs(i) for i in range(_LINES)]
        stuck = [signs for signs in lines if not self.compare(None, signs)]
        if corners or stuck:
            # Away from the corner, the same entries can be checked.
            vector = problem.vector.copy()
            mine = vector[self.slot.start : self.slot.stop]
            moved = np.arange(self.size) if stuck else np.array(corners)
            mine[moved] += (
                _NUDGE * self.scale_of(mine) * (0.5 + self.key.at("nudge").uniform(moved.size))
            )
            self.use(freeze(vector), nudged=True)
            self.left_out += sum(not self.compare(i, self.unit(i)) for i in corners)
            for signs in stuck:
                self.compare(None, signs)
        return max((abs(e.numeric) for e in self.found if e.index is not None), default=0.0)

    def use(self, vector: FloatArray, *, nudged: bool = False) -> None:
        self.vector, self.nudged = vector, nudged
        self.claimed = self.problem.gradient(vector)[self.slot.start : self.slot.stop]
        self.at = np.asarray(self.problem.outputs(vector.copy()))

    def unit(self, i: int) -> tuple[int, float]:
        return i, 1.0

    def signs(self, line: int) -> FloatArray:
        bits = self.key.at("line", line).bits(self.size) >> np.uint64(63)
        return 1.0 - 2.0 * bits.astype(np.float64)

    def scale_of(self, mine: FloatArray) -> float:
        root = math.sqrt(float(np.mean(mine * mine))) if mine.size else 0.0
        return max(root, 1e-2) if root else 1.0

    def along(self, way: FloatArray | tuple[int, float]) -> Callable[[Any], Any]:
        start, stop = self.slot.start, self.slot.stop

        def line(t: Any) -> Any:
            moved = self.vector.astype(np.result_type(self.vector, t))
            if isinstance(way, tuple):
                moved[start + way[0]] += t * way[1]
            else:
                moved[start:stop] += t * way
            return self.problem.outputs(moved)

        return line

    def compare(self, index: int | None, way: FloatArray | tuple[int, float]) -> bool:
        """Take one derivative and note it; False where there is a corner at the point."""
        mine = self.vector[self.slot.start : self.slot.stop]
        size = abs(float(mine[index])) if index is not None else 0.0
        line, weights = self.along(way), self.problem.weights
        known = derivative(line, self.at, _STEP * max(size, self.scale_of(mine)))
        claimed = float(self.claimed[index]) if index is not None else float(self.claimed @ way)
        if known.corner:
            if index is not None and not self.nudged:
                self.judge_corner(index, claimed, known)
            return False
        exact = by_complex_step(line, known)
        value = known.value if exact is None else exact
        bound = float(np.abs(weights) @ known.error) if exact is None else 0.0
        entry = _Entry(
            index, claimed, float(weights @ value), bound, exact is not None, self.nudged
        )
        self.found.append(entry)
        return True

    def judge_corner(self, index: int, claimed: float, known: Derivative) -> None:
        """At a corner, any slope between those of the two sides is right."""
        sides = np.stack([known.left, known.right]) * self.problem.weights
        low, high = float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum())
        slack = 1e-4 * max(abs(low), abs(high), high - low)
        # A jump has slopes without end, and says nothing.
        steep = np.abs(known.right - known.left).max() > 1e5 * max(1.0, np.abs(self.at).max())
        if not steep and not low - slack <= claimed <= high + slack:
            nearest = low if claimed < low else high
            self.beyond.append(_Entry(index, claimed, nearest, slack, False))

    def judge(self, rtol: float, whole: float) -> ArrayReport:
        scale = max((abs(e.numeric) for e in self.found if e.index is not None), default=0.0)
        # A gradient that is 0 but for rounding, as of a bias before a batch normalisation, has no
        # scale of its own: rounding comes from the numbers that cancel, which are the others'.
        floor = 1e-11 * whole + 1e-300

        def excess(entry: _Entry) -> float:
            return entry.difference - entry.bound - rtol * scale - floor

        lines = [e for e in self.found if e.index is None and not excess(e) <= 0]
        singles = [e for e in self.found if e.index is not None]
        if lines and not any(not excess(e) <= 0 for e in singles):
            hidden = self.search(lines[0])
            singles = [*singles, hidden] if hidden is not None else [*singles, lines[0]]
        wrong = [e for e in (*singles, *self.beyond) if not excess(e) <= 0]
        worst = max(
            wrong or singles, key=lambda e: (math.isnan(e.difference), e.difference), default=None
        )
        right = not wrong and (bool(singles) or not self.size)
        where = worst.index if worst is not None else None
        return ArrayReport(
            self.slot.name,
            self.slot.shape,
            None
            if where is None
            else tuple(int(i) for i in np.unravel_index(where, self.slot.shape)),
            worst.analytic if worst is not None else math.nan,
            worst.numeric if worst is not None else math.nan,
            worst.difference / max(scale, floor) if worst is not None else 0.0,
            right,
            len(singles),
            _method(self.found),
            self.remark(worst, scale <= floor),
        )

    def search(self, line: _Entry) -> _Entry | None:
        """The entry that is behind a line's error, by halving the entries that are moved."""
        self.use(self.vector, nudged=self.nudged)
        inside = np.arange(self.size)
        way = next(
            s
            for s in map(self.signs, range(_LINES))
            if math.isclose(float(self.claimed @ s), line.analytic, rel_tol=1e-9, abs_tol=1e-300)
        )
        while inside.size > 1:
            halves = np.array_split(inside, 2)
            errors = []
            for half in halves:
                part = np.zeros(self.size)
                part[half] = way[half]
                self.compare(None, part)
                errors.append(self.found.pop().difference)
            inside = halves[int(errors[1] > errors[0])]
        return self.found.pop() if self.compare(int(inside[0]), self.unit(int(inside[0]))) else None

    def remark(self, worst: _Entry | None, nothing: bool) -> str:
        nudged = sum(e.nudged for e in self.found if e.index is not None)
        said = []
        if nudged:
            said.append(f"{nudged} nudged from a corner")
        if self.left_out:
            said.append(f"{self.left_out} left out at a corner")
        if self.beyond:
            said.append("at a corner, beyond the slopes of both sides")
        if worst is not None and worst.index is None:
            said.append("along a line through all entries")
        if nothing and self.found:
            said.append("0 but for rounding")
        return ", ".join(said)


def _method(found: Sequence[_Entry]) -> str:
    exact = {entry.exact for entry in found}
    names = [
        name
        for name, is_exact in (("complex step", True), ("differences", False))
        if is_exact in exact
    ]
    return " and ".join(names)
