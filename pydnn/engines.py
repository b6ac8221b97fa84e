"""Engines: who executes the arithmetic of a training, NumPy or loops compiled for this processor.

An arithmetic says which bits a computation gives; an engine only says how they are computed. So an
engine is no part of a recipe, and runs recorded with one can be resumed and replayed with another.

This module is the one place through which the rest of the package knows `pydnn.compiled`. Where a
compiled form can exist, the code asks whether `in_use.forms` is None, which it is while NumPy does
all the work. The engine belongs to the process: all threads use the same one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from pydnn.checks import MissingExtra, expect_known, first_line, import_extra

__all__ = [
    "ENGINES",
    "VARIABLE",
    "chosen_engine",
    "compilable",
    "engine_for",
    "engine_in_use",
    "expression_of",
    "give_up",
    "in_use",
    "is_compilable",
    "mask_of",
    "multiplies_by",
    "note",
    "notes_to",
    "settle",
    "using_engine",
    "working",
]

ENGINES = ("numpy", "compiled", "auto")
VARIABLE = "PYDNN_ENGINE"

# Numbers of parameters times updates from which compiling pays for `auto`. With a cold cache it
# takes up to 3 seconds. A compiled update of a number takes about a nanosecond less.
WORTH_COMPILING = 4e9


class _InUse:
    """The engine that works at this moment.

    Attributes:
        forms: The package `pydnn.compiled` while it does the work; None while NumPy does.
    """

    __slots__ = ("forms",)
    forms: ModuleType | None


in_use = _InUse()
in_use.forms = None
_chosen: str | None = None  # None: what the environment variable says

_Function = TypeVar("_Function", bound=Callable[..., object])


def compilable(function: _Function, *, means: Callable[..., object] | None = None) -> _Function:
    """Declare that a function of arrays may be compiled into one loop over their numbers.

    It must be an expression of NumPy's functions that IEEE 754 rounds exactly (`+ - * /`, `sqrt`,
    `abs`, `sign`, `maximum`, `where`, comparisons), number by number, and must depend on nothing
    but its arguments and on numbers that never change. NumPy executes the function itself. The
    compiled engine calls it once with symbols instead of arrays, and writes a loop with the same
    operations in the same order, so every bit is equal. A function that does anything else, such as
    asking for the size of an array, stays with NumPy.

    Args:
        function: The function.
        means: The expression that `function` computes for arrays of 64 KiB and more, where it takes
            other ways to be fast with NumPy; by default `function` is the expression itself.

    Example:
        >>> @compilable
        ... def slope(dA, A):
        ...     return dA * (1 - A * A)
    """
    vars(function)[_COMPILABLE] = means or function
    return function


def expression_of(function: Callable[..., object]) -> Callable[..., object] | None:
    """Return the expression to compile for a function; None if it is not `compilable`."""
    return getattr(function, _COMPILABLE, None)


def multiplies_by(mask: Callable[..., object]) -> Callable[[_Function], _Function]:
    """Declare that a stage multiplies by a random mask in training: its forward and its backward.

    Args:
        mask: `(shape, dtype, key) -> mask`, for inputs of this shape and dtype.
    """

    def declare(function: _Function) -> _Function:
        vars(function)[_MASK] = mask
        return function

    return declare


def mask_of(
    forward: Callable[..., object], backward: Callable[..., object]
) -> Callable[..., Any] | None:
    """Return the function that draws the mask of a stage; None if both do not share one."""
    mask = getattr(forward, _MASK, None)
    return mask if mask is getattr(backward, _MASK, None) else None


_MASK = "_pydnn_mask"


def is_compilable(function: Callable[..., object]) -> bool:
    """Return whether a function is declared to be `compilable`."""
    return hasattr(function, _COMPILABLE)


_COMPILABLE = "_pydnn_compilable"


def engine_in_use() -> str:
    """Return the engine that works at this moment: "numpy" or "compiled".

    Example:
        >>> with using_engine("numpy"):
        ...     engine_in_use()
        'numpy'
    """
    return "numpy" if in_use.forms is None else "compiled"


def chosen_engine() -> str:
    """Return the engine that the user chose: by `using_engine`, by PYDNN_ENGINE, or "auto".

    Raises:
        BadInput: If the environment variable PYDNN_ENGINE names no engine.
    """
    chosen = _chosen or os.environ.get(VARIABLE) or "auto"
    expect_known(f"engine in {VARIABLE}" if _chosen is None else "engine", chosen, ENGINES)
    return chosen


@contextlib.contextmanager
def using_engine(name: str) -> Iterator[None]:
    """Choose an engine for the block: "numpy", "compiled", or "auto".

    "auto" lets each job use the compiled engine if numba is installed, and if the job is long
    enough to pay for compiling. No bit of any result depends on the choice.

    Raises:
        BadInput: If there is no such engine.
        MissingExtra: If `name` is "compiled", and numba is not installed or cannot be imported.

    Example:
        >>> with using_engine("numpy"):
        ...     pass  # nn.train(recipe, data)
    """
    global _chosen
    expect_known("engine", name, ENGINES)
    before, _chosen = _chosen, name
    try:
        with _working(name if name != "auto" else "numpy"):
            yield
    finally:
        _chosen = before


def engine_for(work: float) -> str:
    """Return the engine for a job: "numpy" or "compiled".

    Args:
        work: The number of parameters times the number of updates.

    Raises:
        MissingExtra: If the user chose "compiled", and numba is not installed or cannot be
            imported.

    Example:
        >>> with using_engine("numpy"):
        ...     engine_for(1e12)
        'numpy'
    """
    chosen = chosen_engine()
    if chosen == "compiled":
        _load()
    elif chosen == "auto":
        return "compiled" if work >= WORTH_COMPILING and _can_load() else "numpy"
    return chosen


@contextlib.contextmanager
def working(work: float) -> Iterator[None]:
    """Let the engine for a job of this much `work` do it inside the block; see `engine_for`."""
    with _working(engine_for(work)):
        yield


def settle() -> None:
    """Begin to use the compiled engine if PYDNN_ENGINE asks for it; called where a step is made.

    Raises:
        MissingExtra: If numba is not installed or cannot be imported.
    """
    if in_use.forms is None and _chosen is None and chosen_engine() == "compiled":
        in_use.forms = _load()


@contextlib.contextmanager
def _working(name: str) -> Iterator[None]:
    before = in_use.forms
    in_use.forms = _load() if name == "compiled" else None
    try:
        yield
    finally:
        in_use.forms = before


def _load() -> ModuleType:
    import_extra("numba", extra="compiled", purpose="the compiled engine")
    return importlib.import_module("pydnn.compiled")


def _can_load() -> bool:
    try:
        _load()
    except MissingExtra:
        return False
    return True


def give_up(error: BaseException) -> None:
    """Let NumPy do the work from now on, after the compiled engine failed, and say so once."""
    if in_use.forms is not None:
        in_use.forms = None
        note(
            f"the compiled engine failed ({type(error).__name__}: {first_line(error)}), so NumPy "
            "does the work, to the same bits"
        )


def note(text: str) -> None:
    """Tell the user one line about the engine: as a warning, or where `notes_to` says."""
    if _show is None:
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    else:
        _show(text)


_show: Callable[[str], None] | None = None


@contextlib.contextmanager
def notes_to(show: Callable[[str], None]) -> Iterator[None]:
    """Let `show` receive notes about the engine inside the block, instead of warnings."""
    global _show
    before, _show = _show, show
    try:
        yield
    finally:
        _show = before
