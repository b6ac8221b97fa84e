"""Pictures of a training, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydnn.checks import BadInput, expect_known, import_extra
from pydnn.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["expect_plottable", "plot_costs", "save_plot"]


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
    figure_of = import_extra("matplotlib.figure", extra="plot", purpose="a plot").Figure
    figure: Figure = figure_of(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(range(len(costs)), costs, linewidth=1.2)
    axes.set_xlabel("iterations")
    axes.set_ylabel("cost (nats per example)")
    axes.set_title(title)
    if min(costs) >= 0:
        axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def expect_plottable(path: Path) -> None:
    """Refuse, before anything is computed, a file to which no plot could be saved.

    Raises:
        BadInput: If the folder is missing or matplotlib does not know the file's ending.
        MissingExtra: If matplotlib is not installed.
    """
    backend = import_extra("matplotlib.backend_bases", extra="plot", purpose="a plot")
    known = backend.FigureCanvasBase.get_supported_filetypes()
    if not path.suffix:
        raise BadInput(f"{path} has no ending that tells its format: call it {path}.png.")
    expect_known("picture format", path.suffix.removeprefix(".").lower(), known)
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no directory, so no plot can go there: create it.")


def save_plot(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, in the format of its ending, replacing what was there."""
    kind = path.suffix.removeprefix(".").lower()
    write_atomically(path, lambda file: figure.savefig(file, format=kind), replace=True)
