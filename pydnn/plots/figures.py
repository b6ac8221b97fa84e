"""What all plots share: how matplotlib is loaded, one style, and how a figure is saved.

The style has colors that color-blind people can tell apart, and a dash and a marker of its own for
each curve, so that it also works on gray paper.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_known,
    import_extra,
    path_of,
    printable,
)
from pydnn.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MAP",
    "PLAIN",
    "SHARES",
    "axes_of",
    "expect_plottable",
    "matplotlib_module",
    "save_plot",
    "shown",
    "style_of",
    "without_tex",
]

# The colors of Okabe and Ito that are dark enough for lines on white.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (8, 3)))
PLAIN = _COLORS[0]
MAP = "cividis"  # a map of numbers to colors whose lightness only grows, with gray in its middle
SHARES = "Blues"  # the same for shares, with white for 0


@contextlib.contextmanager
def without_tex() -> Iterator[None]:
    """A context in which matplotlib does not use TeX, whatever its settings say.

    A settings file in the current folder may come from a stranger, and TeX is a program that
    executes the text that it typesets.
    """
    with matplotlib_module("matplotlib").rc_context({"text.usetex": False}):
        yield


def matplotlib_module(module: str) -> ModuleType:
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


def shown(text: str, most: int = 90) -> str:
    """Text that is safe to draw, fits into the figure, and is not read as a formula."""
    return printable(text, most=most).replace("$", r"\$")


def axes_of(
    title: str, *, x_label: str = "", y_label: str = "", size: tuple[float, float] = (6.4, 4.0)
) -> tuple[Figure, Axes]:
    """Return an empty figure in the style of all plots, and its axes."""
    figure_of = matplotlib_module("matplotlib.figure").Figure
    figure: Figure = figure_of(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(shown(x_label))
    axes.set_ylabel(shown(y_label))
    axes.set_title(shown(title))
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def style_of(number: int) -> dict[str, Any]:
    """Return the color and the dash of the curve of this number, as options of matplotlib."""
    return {
        "color": _COLORS[number % len(_COLORS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def expect_plottable(path: AnyPath) -> None:
    """Refuse a file name that no plot could be saved to; for use before a long computation.

    Raises:
        BadInput: If the folder does not exist, or matplotlib does not know the file's extension.
        MissingExtra: If matplotlib is not installed.
    """
    path = path_of(path)
    backend = matplotlib_module("matplotlib.backend_bases")
    known = backend.FigureCanvasBase.get_supported_filetypes()
    if not path.suffix:
        raise BadInput(f"{path} has no extension, so its format is unknown: call it {path}.png.")
    expect_known("picture format", path.suffix.removeprefix(".").lower(), known)
    if not path.parent.is_dir():
        raise BadInput(
            f"{path.parent} is not a directory, so no plot can be saved there: create it."
        )


@without_tex()
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
