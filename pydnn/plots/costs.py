"""Plots of costs and of other numbers over the steps of trainings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput
from pydnn.plots.figures import axes_of, shown, style_of, without_tex
from pydnn.records import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_costs", "plot_curves", "plot_sweep"]

_FEW_POINTS = 30  # are marked, so that a single one shows
_FEW_SETTINGS = 4  # as many fit into a legend inside the axes
_ENTRY_HEIGHT = 0.19  # inches
_LONG_NAME = 40  # letters


@without_tex()
def plot_costs(
    costs: Sequence[float] | FloatArray,
    *,
    title: str,
    measured: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Figure:
    """Plot the cost against the iteration, and costs that were measured now and then.

    Args:
        costs: The cost at each iteration, from iteration 0, e.g. `nn.train(…).costs`.
        title: The title of the plot, e.g. "Learning rate = 0.0075".
        measured: By name, the iterations (n,) at which a cost of whole parts of the data was
            measured, and these costs (n,).

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If there are no costs.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> measured = {"validation": ([3], [0.6])}
        >>> figure = plot_costs([0.7, 0.5, 0.4], title="cats", measured=measured)
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['each batch', 'validation']
    """
    if not len(costs):
        raise BadInput("there are no costs, expected one per iteration: train first.")
    figure, axes = _of_costs(title)
    axes.plot(range(len(costs)), costs, linewidth=1.2, label="each batch", **style_of(0))
    for number, (name, (at, values)) in enumerate((measured or {}).items(), start=1):
        few = "o" if np.size(at) < _FEW_POINTS else None
        style = style_of(number)
        axes.plot(
            at, values, linewidth=1.4, marker=few, markersize=3, label=shown(name, 40), **style
        )
    if measured:
        axes.legend(frameon=False, fontsize="small")
    if min(costs) >= 0:
        axes.set_ylim(bottom=0)
    return figure


def _of_costs(title: str, ylabel: str = "cost (nats per example)") -> tuple[Figure, Axes]:
    """An empty plot of cost against iteration."""
    return axes_of(title, x_label="iterations", y_label=ylabel)


@without_tex()
def plot_sweep(
    costs: Mapping[str, FloatArray], *, best: tuple[str, int] | None, title: str, ylabel: str
) -> Figure:
    """Plot the costs of many runs as thin lines, and the mean of each setting as a bold line.

    Args:
        costs: For each setting, by its name in the legend, the costs of its R runs, shape
            (R, iterations), with NaN after the end of a run.
        best: The setting and row of the best run, which is marked; None to mark no run.
        title: The title of the plot, e.g. "32 seeds".
        ylabel: The label of the vertical axis, e.g. "cost (nats per example)".

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If there are no costs.
        MissingExtra: If matplotlib is not installed.
    """
    if not any(rows.size for rows in costs.values()):
        raise BadInput("there are no costs, expected one row per run: train first.")
    figure, axes = _of_costs(title, ylabel)
    names = _what_differs(list(costs))
    for number, (name, rows) in enumerate(zip(names, costs.values(), strict=True)):
        style = style_of(number)
        axes.plot(
            rows.T, color=style["color"], linewidth=0.5, alpha=max(0.15, 0.6 / len(rows) ** 0.5)
        )
        known = np.isfinite(rows)  # the mean is over runs that have not ended yet
        some = known.any(axis=0)
        mean = np.where(known, rows, 0)[:, some].sum(axis=0) / known[:, some].sum(axis=0)
        label = f"mean of {len(rows)}" + (f", {shown(name)}" if name else "")
        axes.plot(np.flatnonzero(some), mean, linewidth=2.2, label=label, zorder=3, **style)
    if best is not None:
        row = costs[best[0]][best[1]]
        last = int(np.flatnonzero(np.isfinite(row))[-1])
        axes.plot(row, color="black", linewidth=0.7)
        (star,) = axes.plot(last, row[last], "k*", markersize=11, label="best", clip_on=False)
        star.set_zorder(4)
    top = _top(costs)
    if top is not None:
        axes.set_ylim(bottom=0, top=top)
    if len(costs) > _FEW_SETTINGS:  # a legend below the axes does not shrink them
        figure.set_figheight(figure.get_figheight() + _ENTRY_HEIGHT * (len(costs) + 1))
        figure.legend(loc="outside lower left", frameon=False, fontsize="small")
    else:
        axes.legend(frameon=False, fontsize="small")
    return figure


def _what_differs(names: Sequence[str]) -> list[str]:
    """The names; long ones without the words that all of them begin or end with."""
    if len(names) < 2 or max(map(len, names)) <= _LONG_NAME:
        return list(names)
    words = [name.split(" ") for name in names]
    room = min(map(len, words)) - 1  # keeps at least one word of each
    start = _common(words, room)
    end = _common([line[::-1] for line in words], room - start)
    shown = [" ".join(line[start : len(line) - end]).rstrip(",") for line in words]
    return [("… " if start else "") + text + (" …" if end else "") for text in shown]


def _common(lines: Sequence[Sequence[str]], most: int) -> int:
    """The number of first words that all lines share, up to `most`."""
    alike = (len(set(column)) == 1 for column in zip(*lines, strict=False))
    return sum(1 for _ in itertools.islice(itertools.takewhile(bool, alike), most))


def _top(costs: Mapping[str, FloatArray]) -> float | None:
    """The upper limit of the plot, which cuts off runs that diverge.

    None if some costs are not above 0; then all costs are shown.
    """
    # A run that rises above twice the highest first cost diverges, and would flatten the others.
    known = np.concatenate([rows[np.isfinite(rows)] for rows in costs.values()])
    first = np.concatenate([rows[:, 0] for rows in costs.values()])
    highest = min(float(known.max()), 2 * float(first[np.isfinite(first)].max(initial=0.0)))
    return 1.05 * highest if highest > 0 <= known.min() else None


@without_tex()
def plot_curves(
    curves: Mapping[str, FloatArray | Sequence[float]],
    *,
    title: str,
    x: Sequence[float] | FloatArray | None = None,
    x_label: str = "iterations",
    y_label: str = "",
    log: bool = False,
) -> Figure:
    """Plot several curves over each other, each with a band if it is the mean of several runs.

    Args:
        curves: By name, the numbers of one run (n,), or of R runs (R, n), of which the mean is
            drawn and a band from the lowest to the highest. NaN leaves a gap.
        title: The title of the plot.
        x: The places of the numbers (n,); by default 0, 1, and so on.
        x_label: The label of the horizontal axis.
        y_label: The label of the vertical axis, with its unit.
        log: Whether the vertical axis is logarithmic.

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If there are no numbers, or the curves differ in length from `x`.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> costs = {"adam": [[0.7, 0.4], [0.6, 0.3]], "plain": [0.7, 0.6]}
        >>> figure = plot_curves(costs, title="Two optimizers", y_label="cost")
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['adam, mean of 2', 'plain']
    """
    figure, axes = axes_of(title, x_label=x_label, y_label=y_label)
    drawn = False
    for number, (name, values) in enumerate(curves.items()):
        rows = np.atleast_2d(np.asarray(values, np.float64))
        places = np.arange(rows.shape[1]) if x is None else np.asarray(x, np.float64)
        if places.shape != rows.shape[1:]:
            raise BadInput(
                f"curve {name!r} has {rows.shape[1]} numbers, but x has {places.size}: give one "
                "place per number."
            )
        known = np.isfinite(rows)
        some = known.any(axis=0)
        drawn |= bool(some.any())
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(some, np.where(known, rows, 0).sum(axis=0) / count, np.nan)
        label = shown(name) + (f", mean of {len(rows)}" if len(rows) > 1 else "")
        style = style_of(number)
        axes.plot(places, mean, linewidth=1.4, label=label, **style)
        if len(rows) > 1:
            low = np.where(known, rows, np.inf).min(axis=0)
            high = np.where(known, rows, -np.inf).max(axis=0)
            axes.fill_between(
                places, low, high, where=some, color=style["color"], alpha=0.2, linewidth=0
            )
    if not drawn:
        raise BadInput("the curves have no finite numbers, expected some: train first.")
    if log:
        axes.set_yscale("log")
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize="small")
    return figure
