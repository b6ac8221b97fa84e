"""Engines: who executes the arithmetic of a training, NumPy or loops compiled for this processor.

An arithmetic says which bits a computation gives; an engine only says how they are computed. So an
engine is no part of a recipe, and runs recorded with one can be resumed and replayed with another.

This module is the one place through which the rest of the package knows `pydnn.compiled`. Where a
compiled form can exist, the code asks whether `in_use.forms` is None, which it is while NumPy does
all the work. The engine belongs to the process: all threads use the same one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, TypeVar

import attrs

from pydnn.checks import MissingExtra, expect_known, first_line, import_extra

__all__ = [
    "COMPILE",
    "ENGINES",
    "VARIABLE",
    "CompiledEngine",
    "NotCompiledYet",
    "at_work",
    "chosen_engine",
    "compilable",
    "compiled_engine",
    "compiles_here",
    "engine_for",
    "engine_for_workers",
    "engine_in_use",
    "expression_of",
    "give_up",
    "in_use",
    "is_compilable",
    "kernels_missed",
    "mask_of",
    "multiplies_by",
    "note",
    "note_once",
    "notes_to",
    "parts_in_turn",
    "product_of",
    "runs_in_turn",
    "say_compiling",
    "settle",
    "using_engine",
    "working",
]

ENGINES = ("numpy", "compiled", "auto")
VARIABLE = "PYDNN_ENGINE"
COMPILE = "PYDNN_COMPILE"

# The work from which compiling pays for `auto`: updates times the numbers that each computes alone,
# outside of products. Loading numba takes 0.3 to 0.5 seconds, and with a cold cache another process
# compiles for some seconds, beside a training by NumPy. Compiled, a number takes a nanosecond less
# in dense networks, and from 1.3 to 7 less in convolutional ones.
WORTH_COMPILING = 2e9


class _InUse:
    """The engine that works at this moment.

    Attributes:
        forms: The package `pydnn.compiled` while it does the work; None while NumPy does.
    """

    __slots__ = ("forms",)
    forms: ModuleType | None


in_use = _InUse()
in_use.forms = None


@attrs.frozen(eq=False)
class _Choice:
    """What a block chooses.

    Attributes:
        name: The engine that the user chose; None if the block is that of a job.
        forms: The package `pydnn.compiled`; None for NumPy.
    """

    name: str | None
    forms: ModuleType | None


# Blocks of several threads need not end in the order of their beginnings. The latest one counts.
_choices: list[_Choice] = []
_settled: ModuleType | None = None  # the forms outside of all blocks
_failed = False  # whether the compiled engine failed in this process

_T = TypeVar("_T")
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
    return _mark(_COMPILABLE, means or function, function)


def expression_of(function: Callable[..., object]) -> Callable[..., object] | None:
    """Return the expression to compile for a function; None if it is not `compilable`."""
    return _marked(function, _COMPILABLE)


def multiplies_by(mask: Callable[..., object]) -> Callable[[_Function], _Function]:
    """Declare that a stage multiplies by a random mask in training: its forward and its backward.

    Args:
        mask: `(shape, dtype, key) -> mask`, for inputs of this shape and dtype.
    """
    return functools.partial(_mark, _MASK, mask)


def mask_of(
    forward: Callable[..., object], backward: Callable[..., object]
) -> Callable[..., Any] | None:
    """Return the function that draws the mask of a stage; None if both do not share one."""
    mask: Callable[..., Any] | None = _shared(_MASK, forward, backward)
    return mask


def adds_bias(product: Callable[..., object]) -> Callable[[_Function], _Function]:
    """Declare that the forward of a stage adds a bias (n, 1) to each column of a product.

    Args:
        product: `(params, A_prev, context) -> (P, b, cache)`, for inputs (n_in, m): the product
            (n, m) as a new array, the bias, and the cache of the forward.
    """
    return functools.partial(_mark, _PRODUCT, product)


def product_of(forward: Callable[..., object]) -> Callable[..., Any] | None:
    """Return the product to which the forward of a stage only adds a bias; None if it does more."""
    return _marked(forward, _PRODUCT)


def runs_in_turn(parts: tuple[Any, ...]) -> Callable[[_Function], _Function]:
    """Declare that a stage only runs its parts in turn: its forward and its backward."""
    return functools.partial(_mark, _PARTS, parts)


def parts_in_turn(
    forward: Callable[..., object], backward: Callable[..., object]
) -> tuple[Any, ...] | None:
    """Return the parts that both functions of a stage only run in turn; None if they do more."""
    parts: tuple[Any, ...] | None = _shared(_PARTS, forward, backward)
    return parts


_COMPILABLE, _MASK, _PARTS = "_pydnn_compilable", "_pydnn_mask", "_pydnn_parts"
_PRODUCT = "_pydnn_product"


def _mark(mark: str, value: object, function: _Function) -> _Function:
    # With the function itself, since `functools.wraps` copies marks to functions that may do
    # something else.
    vars(function)[mark] = function, value
    return function


def _shared(mark: str, function: Callable[..., object], other: Callable[..., object]) -> Any:
    value = _marked(function, mark)
    return value if value is _marked(other, mark) else None


def _marked(function: Callable[..., object], mark: str) -> Callable[..., Any] | None:
    owner, value = getattr(function, mark, (None, None))
    return value if owner is function else None


def is_compilable(function: Callable[..., object]) -> bool:
    """Return whether a function is declared to be `compilable`."""
    return _marked(function, _COMPILABLE) is not None


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
        BadInput: If the environment variable PYDNN_ENGINE names no engine, or PYDNN_COMPILE no way.
    """
    compiles_here()  # now, since what is wrong is no error while a kernel is called
    for choice in reversed(_choices):
        if choice.name is not None:
            return choice.name
    chosen = os.environ.get(VARIABLE) or "auto"
    expect_known(f"engine in {VARIABLE}", chosen, ENGINES)
    return chosen


@contextlib.contextmanager
def using_engine(name: str) -> Iterator[None]:
    """Choose an engine for the block: "numpy", "compiled", or "auto".

    "auto" lets each job use the compiled engine if numba is installed, and if the job is long
    enough to pay for compiling. No bit of any result depends on the choice. Where numba is missing
    or broken, NumPy does the work of "compiled", too, and one warning says so.

    Raises:
        BadInput: If there is no such engine, or PYDNN_COMPILE names no way.

    Example:
        >>> with using_engine("numpy"):
        ...     pass  # nn.train(recipe, data)
    """
    expect_known("engine", name, ENGINES)
    compiles_here()  # now, since what is wrong is no error while a kernel is called
    with _working(name, chosen=name):
        yield


def engine_for(work: float) -> str:
    """Return the engine for a job: "numpy" or "compiled".

    Args:
        work: The number of updates times the numbers that each computes alone, see
            `pydnn.jobs.work`.

    Example:
        >>> with using_engine("numpy"):
        ...     engine_for(1e12)
        'numpy'
    """
    chosen = chosen_engine()
    if chosen == "auto":
        # What is in use already has been loaded, and perhaps compiled, for a job around this one.
        worth = in_use.forms is not None or work >= WORTH_COMPILING
        return _usable("compiled", quietly=True) if worth else "numpy"
    return _usable(chosen)


def engine_for_workers() -> str:
    """Return the engine with which other processes should do what this one asks for now.

    That is the engine of the job at work; outside of jobs it is what the user chose.
    """
    if in_use.forms is not None:
        return "compiled"
    if _choices and _choices[-1].name is None:
        return "numpy"
    return _usable(chosen_engine())


@contextlib.contextmanager
def working(work: float) -> Iterator[None]:
    """Let the engine for a job of this much `work` do it inside the block; see `engine_for`."""
    with _working(engine_for(work)):
        yield


def at_work(work: float, stream: Iterable[_T]) -> Iterator[_T]:
    """Return the same stream, computed by the engine for a job of this much `work`.

    Args:
        work: The number of updates times the numbers that each computes, see `engine_for`.
        stream: What computes a value when it is asked for the next one.

    Example:
        >>> with using_engine("numpy"):
        ...     list(at_work(1e12, (engine_in_use() for _ in range(2))))
        ['numpy', 'numpy']
    """
    with working(work):
        yield from stream


def settle() -> None:
    """Begin to use the compiled engine if PYDNN_ENGINE asks for it; called where a step is made."""
    global _settled
    if in_use.forms is None and not _choices and _usable(chosen_engine()) == "compiled":
        _settled = _load()
        _renew()


@contextlib.contextmanager
def _working(name: str, *, chosen: str | None = None) -> Iterator[None]:
    choice = _Choice(chosen, _load() if _usable(name) == "compiled" else None)
    _choices.append(choice)
    _renew()
    try:
        yield
    finally:
        _choices.remove(choice)
        _renew()


def _renew() -> None:
    forms, before = _choices[-1].forms if _choices else _settled, in_use.forms
    in_use.forms = None if _failed else forms
    if before is not None and in_use.forms is None:
        before.team.rest()


def _load() -> ModuleType:
    numba = import_extra("numba", extra="compiled", purpose="the compiled engine")
    try:
        return importlib.import_module("pydnn.compiled")
    except Exception as error:  # this numba lacks something, or is damaged
        raise MissingExtra(
            f"the compiled engine cannot use numba {getattr(numba, '__version__', '?')} "
            f"({type(error).__name__}: {first_line(error)}): install another version, or choose "
            "the engine numpy."
        ) from error


def _usable(engine: str, *, quietly: bool = False) -> str:
    """Return `engine`, or "numpy" where the compiled one cannot be used, which is said once.

    Args:
        engine: The engine.
        quietly: Whether to say nothing if numba is only not installed.
    """
    if engine != "compiled":
        return engine
    if _failed:
        return "numpy"
    try:
        _load()
    except MissingExtra as error:
        cause = error.__cause__
        missing = isinstance(cause, ModuleNotFoundError) and cause.name == "numba"  # no part of it
        if not (quietly and missing):
            note_once(f"NumPy does the work, to the same bits, because {error}")
        return "numpy"
    return "compiled"


@attrs.frozen
class CompiledEngine:
    """What there is of the compiled engine in this process.

    Attributes:
        numba: The version of numba; "" if it cannot be used.
        folder: The folder that keeps what was compiled; "" if there is none.
        kept: The number of bytes in it.
        problem: Why it cannot be used, or what it compiles is not kept; "" if all is well.
    """

    numba: str = ""
    folder: str = ""
    kept: int = 0
    problem: str = ""


def compiled_engine() -> CompiledEngine:
    """Return what there is of the compiled engine here. Where numba is installed, this loads it."""
    try:
        _load()
    except MissingExtra as error:
        return CompiledEngine(problem=str(error).rstrip("."))
    version = importlib.import_module("numba").__version__
    try:
        folder = importlib.import_module("pydnn.compiled.kernels").make_kernel_folder()
        kept = sum(path.lstat().st_size for path in folder.iterdir())
    except OSError as error:
        return CompiledEngine(version, problem=str(error))
    return CompiledEngine(version, str(folder), kept)


class NotCompiledYet(Exception):  # noqa: N818
    """Another process still compiles a kernel, so NumPy does what it was called for."""


kernels_missed = 0  # how often that happened, which `pydnn.compiled.kernels.once_compiled` reads


def compiles_here() -> bool:
    """Return whether a call waits until this process has compiled the kernels that it needs.

    That is what PYDNN_COMPILE=here asks for, e.g. to measure the compiled engine from its first
    step. The default is "aside": another process compiles, and NumPy does the work until then.

    Raises:
        BadInput: If PYDNN_COMPILE is something else.
    """
    chosen = os.environ.get(COMPILE) or "aside"
    expect_known(f"way in {COMPILE}", chosen, ("aside", "here"))
    return chosen == "here"


def give_up(error: BaseException) -> None:
    """Let NumPy do all work of this process, after the compiled engine failed, and say so once.

    If a kernel is only not compiled yet, NumPy does the work of this call alone.
    """
    global _failed, kernels_missed
    if isinstance(error, NotCompiledYet):
        kernels_missed += 1
        return
    if not _failed:
        _failed = True
        _renew()
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


@functools.cache
def note_once(text: str) -> None:
    """Tell the user one line about the engine, once in this process."""
    note(text)


@functools.cache
def say_compiling(*, waits: bool) -> None:
    """Tell a person at a terminal, once, why the first steps take longer.

    Args:
        waits: Whether the first step waits until its kernels are compiled.
    """
    if _people and sys.stderr is not None and sys.stderr.isatty():
        meanwhile = " …" if waits else "; until then NumPy does the work"
        print(f"pydnn: compiling for this processor, once{meanwhile}", file=sys.stderr, flush=True)


_show: Callable[[str], None] | None = None
_people = True


@contextlib.contextmanager
def notes_to(show: Callable[[str], None], *, people: bool = True) -> Iterator[None]:
    """Let `show` receive notes about the engine inside the block, instead of warnings.

    Args:
        show: The function of a line.
        people: Whether a person may read what this process prints, unlike that of a worker.
    """
    global _show, _people
    before = _show, _people
    _show, _people = show, people
    try:
        yield
    finally:
        _show, _people = before
