"""Plots of trainings, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_known,
    import_extra,
    path_of,
    printable,
)
from pydnn.records import FloatArray
from pydnn.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["expect_plottable", "plot_costs", "plot_sweep", "save_plot"]

_FEW_SETTINGS = 4  # as many fit into a legend inside the axes
_ENTRY_HEIGHT = 0.19  # inches
_LONG_NAME = 40  # letters


@contextlib.contextmanager
def _without_tex() -> Iterator[None]:
    """A context in which matplotlib does not use TeX, whatever its settings say.

    A settings file in the current folder may come from a stranger, and TeX is a program that
    executes the text that it typesets.
    """
    with _matplotlib("matplotlib").rc_context({"text.usetex": False}):
        yield


@_without_tex()
def plot_costs(costs: Sequence[float] | FloatArray, *, title: str) -> Figure:
    """Plot the cost against the iteration.

    Args:
        costs: The cost at each iteration, from iteration 0, e.g. `nn.train(…).costs`.
        title: The title of the plot, e.g. "Learning rate = 0.0075".

    Returns:
        A matplotlib figure.

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
    """An empty plot of cost against iteration."""
    figure_of = _matplotlib("matplotlib.figure").Figure
    figure: Figure = figure_of(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("iterations")
    axes.set_ylabel(_shown(ylabel))
    axes.set_title(_shown(title))
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _matplotlib(module: str) -> ModuleType:
    """Import a module of matplotlib, ignoring MPLBACKEND, since no plot here needs a backend.

    In a notebook, MPLBACKEND names a backend that may be missing in the environment of the
    command `pydnn`, and then matplotlib refuses to be imported.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        imported = import_extra(module, extra="plot", purpose="a plot")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:  # for other plots of this process, as matplotlib would set it
        with contextlib.suppress(Exception):
            sys.modules["matplotlib"].rcParams["backend"] = backend
    return imported


@_without_tex()
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
        color = f"C{number % 10}"
        axes.plot(rows.T, color=color, linewidth=0.5, alpha=max(0.15, 0.6 / len(rows) ** 0.5))
        known = np.isfinite(rows)  # the mean is over runs that have not ended yet
        some = known.any(axis=0)
        mean = np.where(known, rows, 0)[:, some].sum(axis=0) / known[:, some].sum(axis=0)
        label = f"mean of {len(rows)}" + (f", {_shown(name)}" if name else "")
        axes.plot(np.flatnonzero(some), mean, color=color, linewidth=2.2, label=label, zorder=3)
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


def _shown(text: str, most: int = 90) -> str:
    """Text that is safe to draw, fits into the figure, and is not read as a formula."""
    return printable(text, most=most).replace("$", r"\$")


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


def expect_plottable(path: AnyPath) -> None:
    """Refuse a file name that no plot could be saved to; for use before a long computation.

    Raises:
        BadInput: If the folder does not exist, or matplotlib does not know the file's extension.
        MissingExtra: If matplotlib is not installed.
    """
    path = path_of(path)
    backend = _matplotlib("matplotlib.backend_bases")
    known = backend.FigureCanvasBase.get_supported_filetypes()
    if not path.suffix:
        raise BadInput(f"{path} has no extension, so its format is unknown: call it {path}.png.")
    expect_known("picture format", path.suffix.removeprefix(".").lower(), known)
    if not path.parent.is_dir():
        raise BadInput(
            f"{path.parent} is not a directory, so no plot can be saved there: create it."
        )


@_without_tex()
def save_plot(figure: Figure, path: AnyPath) -> None:
    """Write a figure in the format of the file's extension, replacing an existing file.

    Args:
        figure: A figure of matplotlib.
        path: The file, e.g. costs.png, costs.svg or costs.pdf.

    Raises:
        BadInput: If the file cannot be written.
    """
    path = path_of(path)
    kind = path.suffix.removeprefix(".").lower()
    write_atomically(path, lambda file: figure.savefig(file, format=kind), replace=True)
