"""Check that a function is pure: same arguments, same bits, and nothing else changes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np

from pydnn.checks import BadInput
from pydnn.records import AnyArray
from pydnn.testing.global_state import restored_global_state
from pydnn.testing.nested import LAYOUTS, difference, in_layout, leaves_of, snapshot
from pydnn.testing.reports import BrokenLaw, checked_call, one_line

__all__ = ["assert_pure", "expect_runs", "purity_faults"]

_Result = TypeVar("_Result")


def assert_pure(
    function: Callable[..., _Result],
    *args: object,
    shares: Collection[str] = (),
    layouts: bool = True,
    layout_tolerance: float = 1e-10,
    names: Sequence[str] | None = None,
) -> _Result:
    """Call `function` several times on copies of `args`, and check that it is pure.

    A pure function

    - gives the same bits when called twice;
    - changes no argument, at any depth;
    - returns no writable array, and no array that shares memory with an argument;
    - leaves the global random states, NumPy's error state and buffer size, the environment and the
      working directory as they are;
    - gives the same numbers in whatever memory layout its arguments are.

    Args:
        function: The function.
        *args: Its arguments: arrays, records, tuples of these.
        shares: Paths in the result that may share memory with arguments, e.g. "result[1]" for a
            stage's cache and everything in it.
        layouts: Whether to try arguments in Fortran order, with strides, and with an offset.
        layout_tolerance: The largest difference between layouts, relative to the largest number,
            since BLAS does not promise the same bits. 0 requires the same bits.
        names: Names of the arguments in messages; by default those in the function's signature.

    Returns:
        The result of the function.

    Raises:
        BrokenLaw: If the function is not pure; it says what the function did to which argument.
        BadInput: If the function raises.

    Example:
        >>> from pydnn.testing import assert_pure
        >>> def normalize(X):
        ...     X -= X.mean()
        ...     return X
        >>> assert_pure(normalize, np.array([1.0, 3.0]))
        Traceback (most recent call last):
        pydnn.testing.reports.BrokenLaw: normalize breaks 'purity':
        - purity: changes its argument X: X[0] is -1.0 and was 1.0 before
    """
    result, faults = purity_faults(
        function,
        *args,
        shares=shares,
        layouts=layouts,
        layout_tolerance=layout_tolerance,
        names=names,
    )
    if faults:
        name = getattr(function, "__name__", type(function).__name__)
        raise BrokenLaw(name, {"purity": faults})
    return cast("_Result", result)


def purity_faults(
    function: Callable[..., _Result],
    *args: object,
    shares: Collection[str] = (),
    layouts: bool = True,
    layout_tolerance: float = 1e-10,
    names: Sequence[str] | None = None,
) -> tuple[_Result | None, list[str]]:
    """Return the result of `function`, and one line for each way in which it is not pure.

    The arguments are those of `assert_pure`. The result is None if the function changes its
    arguments.
    """
    arguments = dict(zip(names or _names_of(function, len(args)), args, strict=True))
    with restored_global_state() as changes:
        faults = list(_changes(function, arguments))
        if faults:  # the calls below would raise, since their arguments refuse writes
            return None, [*faults, *changes()]
        # From here on the arguments refuse writes, as all arrays of this library do.
        protected = in_layout(arguments, "C order", readonly=True)
        result = _call(function, protected)
        first = snapshot(result, "result")
        faults += changes()
        faults += _writable(result)
        faults += _shared(result, protected, shares)
        mismatch = difference(first, snapshot(_call(function, protected), "result"))
        if mismatch:
            faults.append(f"called twice with the same arguments, {mismatch} before")
        elif layouts:
            faults += _layouts(function, protected, first, layout_tolerance)
    return result, faults


def expect_runs(
    what: str, function: Callable[..., object], arguments: Mapping[str, object], *, hint: str
) -> None:
    """Raise unless `function` can be called with these read-only arguments.

    Args:
        what: The name of the function in messages.
        function: The function.
        arguments: Its arguments by name, in the order of its signature.
        hint: What to do about an error.

    Raises:
        BrokenLaw: If the function writes to its arguments, and so is not pure.
        BadInput: If the function raises for any other reason.
    """
    try:
        with restored_global_state():
            function(*arguments.values())
    except Exception as error:  # a user's function may raise anything
        faults: list[str] = []
        with contextlib.suppress(Exception):
            faults = list(_changes(function, arguments))
        if not faults and isinstance(error, ValueError) and "read-only" in str(error):
            faults = [f"writes to an argument that refuses it: {error}"]
        if faults:
            raise BrokenLaw(what, {"purity": faults}) from error
        if isinstance(error, BadInput):
            raise BadInput(f"{what} does not take what it is tried with: {error}") from error
        raise BadInput(f"{what} raised {one_line(error).rstrip('.')}: {hint}.") from error


def _call(function: Callable[..., _Result], arguments: Mapping[str, object]) -> _Result:
    hint = "give arguments that it takes"
    return checked_call("the function", function, *arguments.values(), hint=hint)


def _names_of(function: Callable[..., object], count: int) -> list[str]:
    try:
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # a function without a signature
        names = []
    return [names[i] if i < len(names) else f"argument {i}" for i in range(count)]


def _changes(function: Callable[..., object], arguments: Mapping[str, object]) -> Iterator[str]:
    """Call `function` with writable copies of its arguments, and yield each change to them."""
    writable = in_layout(dict(arguments), "C order", readonly=False)
    before = {name: snapshot(value, name) for name, value in writable.items()}
    flags = {where: a.flags.writeable for where, a in _arrays_in(writable)}
    _call(function, writable)
    for name, value in writable.items():
        mismatch = difference(before[name], snapshot(value, name))
        if mismatch:
            yield f"changes its argument {name}: {mismatch} before"
    for where, array in _arrays_in(writable):
        if array.flags.writeable != flags.get(where, array.flags.writeable):
            yield f"changes its argument {where}: its caller cannot write to it any more"


def _arrays_in(arguments: Mapping[str, object]) -> Iterator[tuple[str, AnyArray]]:
    for name, value in arguments.items():
        for where, leaf in leaves_of(value, name):
            if isinstance(leaf, np.ndarray):
                yield where, leaf


def _writable(result: object) -> Iterator[str]:
    for where, leaf in leaves_of(result, "result"):
        if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            yield f"returns {where}, which can be written to: freeze it"


def _shared(
    result: object, arguments: Mapping[str, object], shares: Collection[str]
) -> Iterator[str]:
    inputs = list(_arrays_in(arguments))
    for where, leaf in leaves_of(result, "result"):
        if not isinstance(leaf, np.ndarray) or where.startswith(tuple(shares)):
            continue
        source = next((name for name, array in inputs if _overlap(leaf, array)), None)
        if source is not None:
            yield f"returns {where}, which shares memory with its argument {source}: copy it"


def _overlap(a: AnyArray, b: AnyArray) -> bool:
    # The first check is fast and rules out most pairs; the second is exact, and can be slow.
    return bool(a.size and b.size and np.may_share_memory(a, b) and np.shares_memory(a, b))


def _layouts(
    function: Callable[..., object],
    arguments: Mapping[str, object],
    first: Mapping[str, object],
    tolerance: float,
) -> Iterator[str]:
    for layout in LAYOUTS:
        moved = in_layout(arguments, layout)
        try:
            result = function(*moved.values())
        except Exception as error:  # a user's function may raise anything
            yield f"raises {type(error).__name__} for arguments in {layout}: {error}"
            continue
        mismatch = _mismatch(first, snapshot(result, "result"), tolerance)
        if mismatch:
            culprits = [
                name
                for name, value in arguments.items()
                if _mismatch(
                    first,
                    snapshot(
                        function(*{**arguments, name: in_layout(value, layout)}.values()), "result"
                    ),
                    tolerance,
                )
            ]
            whose = " and ".join(culprits) or "all arguments together"
            yield f"depends on the memory layout of {whose}: in {layout}, {mismatch}"


def _mismatch(
    first: Mapping[str, object], other: Mapping[str, object], tolerance: float
) -> str | None:
    if not tolerance:
        return difference(first, other)
    floats = {
        where: np.asarray(leaf)
        for where, leaf in first.items()
        if isinstance(leaf, float) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f")
    }
    finite = {where: np.abs(leaf[np.isfinite(leaf)]) for where, leaf in floats.items()}
    largest = max((float(leaf.max(initial=0.0)) for leaf in finite.values()), default=0.0)
    for where, leaf in floats.items():
        new = np.asarray(other.get(where))
        if new.shape != leaf.shape or new.dtype != leaf.dtype:
            return f"{where} has another shape"
        close = np.isclose(new, leaf, rtol=0, atol=tolerance * largest, equal_nan=True)
        if not close.all():
            index = tuple(int(i) for i in np.argwhere(~close)[0])
            place = list(index) if index else ""
            return f"{where}{place} is {new[index]:.9g} instead of {leaf[index]:.9g}"
    return None
