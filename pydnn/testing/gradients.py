"""Gradient checks: compare each array's gradient with careful finite differences.

The error of an array is relative to the largest gradient of that array, so that a wrong gradient of
a bias cannot hide behind large gradients of weights. If an array is too large to compare every
entry, some entries are drawn; in addition, all entries move at once along lines of random signs,
where a single wrong entry shows.
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
    """The result of a gradient check, one row per array; printing it gives a table.

    Attributes:
        subject: What was checked, e.g. "stage dense".
        arrays: The report of each array.
    """

    subject: str
    arrays: tuple[ArrayReport, ...]

    @property
    def right(self) -> bool:
        """Whether the gradients of all arrays are right."""
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
    """Compare every gradient of a stage, loss or network with finite differences.

    Args:
        subject: The stage, network or loss.
        **options: The options of `gradient_report`.

    Returns:
        The report, in which all gradients are right.

    Raises:
        AssertionError: If a gradient is wrong; the message is the report.
        BadInput: If `subject` has no gradients or raises, or the options do not fit it.

    Example:
        >>> from pydnn.testing import check_gradients
        >>> report = check_gradients(nn.serial(nn.dense(4), nn.gelu()), shape_in=(3,))
        >>> [array.name for array in report.arrays], report.worst < 1e-7
        (['0/W', '0/b', 'A_prev'], True)
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
    """Compare the gradients of any function of arrays with finite differences.

    Args:
        function: `(**arrays) -> number`.
        gradients: `(**arrays) -> {name: gradient}`, with a gradient for every array.
        arrays: The point at which to compare, by the names of the function's arguments.
        rtol: The largest error of an array, relative to its largest gradient.
        entries: The largest number of entries of an array that are compared one by one.
        key: The key to draw those entries from.

    Returns:
        The report, in which all gradients are right.

    Raises:
        AssertionError: If a gradient is wrong; the message is the report.
        BadInput: If the function raises, or an array is not float64.

    Example:
        >>> from pydnn.testing import check_function
        >>> report = check_function(
        ...     lambda x: float((x**2).sum()), lambda x: {"x": 2 * x}, {"x": np.array([1.0, 2.0])}
        ... )
        >>> report.right
        True
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
    """Return the report of `check_gradients`, right or wrong. Arguments left out are drawn.

    Args:
        subject: The stage, network or loss.
        shape_in: Shape of one example, for a stage.
        examples: Number of examples.
        params: Parameters of the stage, in float64.
        A_prev: Input of the stage, with examples in columns.
        dA: Gradient with respect to the output of the stage.
        context: Context of the forward pass; by default that of a training step.
        loss: The loss of a network: check the gradients of its cost for `batch`.
        batch: The examples and labels for `loss`.
        AL: Outputs of the network, to check a loss with.
        Y: Labels, to check a loss with.
        weights: Weights of examples, to check a loss with; by default none.
        outputs: Number of rows of AL if it is drawn.
        key: The key to draw from.
        rtol: The largest error of an array, relative to its largest gradient.
        entries: The largest number of entries of an array that are compared one by one.

    Example:
        >>> from pydnn.testing import gradient_report
        >>> wrong = nn.elementwise("cube", lambda Z, _: Z**3, lambda dA, Z, A, _: dA * 2 * Z**2)
        >>> print(str(gradient_report(wrong)).splitlines()[0])
        gradients of stage cube: wrong for A_prev
    """
    expect_real("rtol", rtol, positive=True, hint="give e.g. 1e-7")
    expect_count("entries", entries, hint="give the number of entries to compare per array")
    if isinstance(subject, Loss):
        drawn = draw_loss(subject, outputs, examples, key, AL=AL, Y=Y)
        at = Context(training=True) if context is None else context
        problem = problem_of_loss(subject, drawn.AL, drawn.Y, weights, at)
    elif not isinstance(subject, Stage):
        raise BadInput(f"got {subject!r}, expected a stage or a loss: call its builder.")
    elif loss is not None:
        if batch is None:
            raise BadInput("loss is set and batch is not, expected both: give batch=Batch(X, Y).")
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
    """Return the report of any `problem`; the other arguments are those of `check_function`."""
    checks = [
        ArrayCheck(problem, slot, key.at("check", slot.name), entries) for slot in problem.slots
    ]
    # Measure all arrays first: an array whose gradient is 0 needs the scale of the others.
    largest = max([check.measure() for check in checks], default=0.0)
    reports = [check.judge(rtol, largest) for check in checks]
    return GradientReport(problem.subject, tuple(reports))
