"""Pictures of a training, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import AnyPath, BadInput, expect_known, import_extra, path_of
from pydnn.records import FloatArray
from pydnn.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["expect_plottable", "plot_costs", "plot_sweep", "save_plot"]


def plot_costs(costs: Sequence[float], *, title: str) -> Figure:
    """Draw the cost of every iteration against its number.

    Args:
        costs: Cost at each iteration, from iteration 0, e.g. `dnn_model(…).costs`.
        title: E.g. "Learning rate = 0.0075".

    Raises:
        BadInput: If there are no costs.
        MissingExtra: If matplotlib is not installed.
    """
    if not len(costs):
        raise BadInput("there are no costs, expected one per iteration: train first.")
    figure, axes = _of_costs(title)
    axes.plot(range(len(costs)), costs, linewidth=1.2)
    if min(costs) >= 0:
        axes.set_ylim(bottom=0)
    return figure


def _of_costs(title: str, ylabel: str = "cost (nats per example)") -> tuple[Figure, Axes]:
    """An empty figure of costs against iterations."""
    figure_of = import_extra("matplotlib.figure", extra="plot", purpose="a plot").Figure
    figure: Figure = figure_of(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("iterations")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_sweep(
    costs: Mapping[str, FloatArray], *, best: tuple[str, int] | None, title: str, ylabel: str
) -> Figure:
    """Draw the cost of every iteration of many runs, thin, and the mean of each setting, bold.

    Args:
        costs: For each setting, by what the legend calls it, the costs (R, iterations) of its
            runs; NaN after the end of a run.
        best: The setting and the row of the run to be marked, if there is a best one.
        title: E.g. "32 seeds".
        ylabel: The cost and its unit.

    Raises:
        BadInput: If there are no costs.
        MissingExtra: If matplotlib is not installed.
    """
    if not any(rows.size for rows in costs.values()):
        raise BadInput("there are no costs, expected one row per run: train first.")
    figure, axes = _of_costs(title, ylabel)
    for number, (name, rows) in enumerate(costs.items()):
        colour = f"C{number % 10}"
        axes.plot(rows.T, color=colour, linewidth=0.5, alpha=max(0.15, 0.6 / len(rows) ** 0.5))
        here = np.isfinite(rows)  # the mean is that of the runs that have not ended yet
        some = here.any(axis=0)
        mean = np.where(here, rows, 0)[:, some].sum(axis=0) / here[:, some].sum(axis=0)
        label = f"mean of {len(rows)}" + (f", {name}" if name else "")
        axes.plot(np.flatnonzero(some), mean, color=colour, linewidth=2.2, label=label, zorder=3)
    if best is not None:
        row = costs[best[0]][best[1]]
        last = int(np.flatnonzero(np.isfinite(row))[-1])
        axes.plot(row, color="black", linewidth=0.7)
        (star,) = axes.plot(last, row[last], "k*", markersize=11, label="best", clip_on=False)
        star.set_zorder(4)
    top = _top(costs)
    if top is not None:
        axes.set_ylim(bottom=0, top=top)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _top(costs: Mapping[str, FloatArray]) -> float | None:
    """The greatest cost to be shown above 0, where runs that grow without bound leave room.

    None where costs are not all above 0, and all are shown.
    """
    known = np.concatenate([rows[np.isfinite(rows)] for rows in costs.values()])
    first = np.concatenate([rows[:, 0] for rows in costs.values()])
    highest = min(float(known.max()), 2 * float(first[np.isfinite(first)].max(initial=0.0)))
    return 1.05 * highest if highest > 0 <= known.min() else None


def expect_plottable(path: AnyPath) -> None:
    """Refuse, before anything is computed, a file to which no plot could be saved.

    Raises:
        BadInput: If the folder is missing or matplotlib does not know the file's ending.
        MissingExtra: If matplotlib is not installed.
    """
    path = path_of(path)
    backend = import_extra("matplotlib.backend_bases", extra="plot", purpose="a plot")
    known = backend.FigureCanvasBase.get_supported_filetypes()
    if not path.suffix:
        raise BadInput(f"{path} has no ending that tells its format: call it {path}.png.")
    expect_known("picture format", path.suffix.removeprefix(".").lower(), known)
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no directory, so no plot can go there: create it.")


def save_plot(figure: Figure, path: AnyPath) -> None:
    """Write `figure` to `path`, in the format of its ending, replacing what was there."""
    path = path_of(path)
    kind = path.suffix.removeprefix(".").lower()
    write_atomically(path, lambda file: figure.savefig(file, format=kind), replace=True)
