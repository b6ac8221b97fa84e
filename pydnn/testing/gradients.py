"""Gradient checks: every array by itself, against differences that are taken with care.

An array's error is judged by the scale of its own gradient, so that a bias cannot hide behind the
weights; where an array is too large to be checked entry by entry, some entries are drawn by a
key, and all of them at once are moved along lines of random signs, in which no entry hides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.parameters import Tree
from pydnn.records import Batch, FloatArray
from pydnn.stages.base import Context, Stage
from pydnn.tables import html_table, text_table
from pydnn.testing.array_check import ArrayCheck, ArrayReport
from pydnn.testing.examples import draw_loss, draw_stage
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
        return f"{self._caption}\n{text_table(*self._table)}"

    def _repr_html_(self) -> str:
        return html_table(self._caption, *self._table)

    @property
    def _caption(self) -> str:
        wrong = [array.name for array in self.arrays if not array.right]
        verdict = f"wrong for {', '.join(wrong)}" if wrong else "right"
        return f"gradients of {self.subject}: {verdict}"

    @property
    def _table(self) -> tuple[list[str], list[list[str]]]:
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
        return head, rows


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
        ArrayCheck(problem, slot, key.at("check", slot.name), entries) for slot in problem.slots
    ]
    scales = [check.measure() for check in checks]
    whole = max(scales, default=0.0)
    reports = [check.judge(rtol, whole) for check in checks]
    return GradientReport(problem.subject, tuple(reports))
