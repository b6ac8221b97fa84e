"""Whether a function is pure: the same bits for the same arguments, and nothing else touched."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np

from pydnn.checks import BadInput
from pydnn.records import AnyArray
from pydnn.testing.global_state import kept_world
from pydnn.testing.nested import LAYOUTS, difference, leaves_of, relaid, snapshot
from pydnn.testing.reports import BrokenLaw, called, one_line

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
    """Call `function` several times on copies of `args`, and find out whether it is pure.

    Called twice it gives the same bits. It changes no argument, however deep; hands out nothing
    writable, and nothing that shares memory with an argument; leaves alone the global random
    states, NumPy's error state and buffer size, and the environment; and gives the same numbers
    wherever its arguments lie in memory.

    Args:
        function: The function.
        args: The arguments that it is called with: arrays, records, tuples of these.
        shares: Paths of results that may share memory with arguments, such as "result[1]", a
            stage's cache, which includes all below it.
        layouts: Whether to try arguments in Fortran order, with strides, and with an offset.
        layout_tolerance: By how much numbers may differ there, beside the largest one; products
            of matrices by BLAS do not promise the same bits. 0 is for the same bits.
        names: Of the arguments, in messages; by default those that the function gives them.

    Returns:
        What the function gave.

    Raises:
        AssertionError: If it is not pure: what it did, and to which argument.
        BadInput: If it raises.
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
    """What `function` gives, and a line for each way in which it is not pure.

    The first is None where the function changes its arguments.
    """
    given = dict(zip(names or _names_of(function, len(args)), args, strict=True))
    with kept_world() as touched:
        faults = list(_changes(function, given))
        if faults:  # it would fail with what refuses writes
            return None, [*faults, *touched()]
        # What it is asked with from here on refuses writes, as all arrays of this library do.
        mine = relaid(given, "C order", readonly=True)
        result = _call(function, mine)
        first = snapshot(result, "result")
        faults += touched()
        faults += _writable(result)
        faults += _shared(result, mine, shares)
        told = difference(first, snapshot(_call(function, mine), "result"))
        if told:
            faults.append(f"called twice with the same arguments, {told} before")
        elif layouts:
            faults += _layouts(function, mine, first, layout_tolerance)
    return result, faults


def expect_runs(
    what: str, function: Callable[..., object], given: Mapping[str, object], *, hint: str
) -> None:
    """Refuse what raises with these arguments; but what raises since they refuse writes is impure.

    Args:
        what: What messages call the function.
        function: It takes
        given: these arguments, by their names, in their order.
        hint: What to do about it.
    """
    try:
        with kept_world():
            function(*given.values())
    except Exception as error:  # whatever a function of the user's own may do
        faults: list[str] = []
        with contextlib.suppress(Exception):
            faults = list(_changes(function, given))
        if not faults and isinstance(error, ValueError) and "read-only" in str(error):
            faults = [f"writes to an argument that refuses it: {error}"]
        if faults:
            raise BrokenLaw(what, {"purity": faults}) from error
        if isinstance(error, BadInput):
            raise BadInput(f"{what} does not take what it is tried with: {error}") from error
        said = one_line(error).rstrip(".")
        raise BadInput(f"{what} raised {said}: {hint}.") from error


def _call(function: Callable[..., _Result], given: Mapping[str, object]) -> _Result:
    return called("the function", function, *given.values(), hint="give arguments that it takes")


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


def _changes(function: Callable[..., object], given: Mapping[str, object]) -> Iterator[str]:
    """What is changed in arguments that can be written to."""
    writable = relaid(dict(given), "C order", readonly=False)
    before = {name: snapshot(value, name) for name, value in writable.items()}
    flags = {where: a.flags.writeable for where, a in _arrays_in(writable)}
    _call(function, writable)
    for name, value in writable.items():
        told = difference(before[name], snapshot(value, name))
        if told:
            yield f"changes its argument {name}: {told} before"
    for where, array in _arrays_in(writable):
        if array.flags.writeable != flags.get(where, array.flags.writeable):
            yield f"changes its argument {where}: the caller cannot write to it any more"


def _arrays_in(arguments: Mapping[str, object]) -> Iterator[tuple[str, AnyArray]]:
    for name, value in arguments.items():
        for where, leaf in leaves_of(value, name):
            if isinstance(leaf, np.ndarray):
                yield where, leaf


def _writable(result: object) -> Iterator[str]:
    for where, leaf in leaves_of(result, "result"):
        if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            yield f"hands out {where}, which can be written to: freeze it"


def _shared(result: object, given: Mapping[str, object], shares: Collection[str]) -> Iterator[str]:
    inputs = list(_arrays_in(given))
    for where, leaf in leaves_of(result, "result"):
        if not isinstance(leaf, np.ndarray) or where.startswith(tuple(shares)):
            continue
        source = next((name for name, array in inputs if _overlap(leaf, array)), None)
        if source is not None:
            yield f"hands out {where}, which shares memory with its argument {source}: copy it"


def _overlap(a: AnyArray, b: AnyArray) -> bool:
    return bool(a.size and b.size and np.may_share_memory(a, b) and np.shares_memory(a, b))


def _layouts(
    function: Callable[..., object],
    given: Mapping[str, object],
    first: Mapping[str, object],
    tolerance: float,
) -> Iterator[str]:
    for layout in LAYOUTS:
        moved = relaid(given, layout)
        try:
            result = function(*moved.values())
        except Exception as error:  # whatever a function of the user's own may do
            yield f"raises {type(error).__name__} for arguments in {layout}: {error}"
            continue
        told = _unlike(first, snapshot(result, "result"), tolerance)
        if told:
            culprits = [
                name
                for name in given
                if _unlike(
                    first,
                    snapshot(
                        function(*{**given, name: relaid(given[name], layout)}.values()), "result"
                    ),
                    tolerance,
                )
            ]
            whose = " and ".join(culprits) or "all arguments together"
            yield f"depends on the memory of {whose}: in {layout}, {told}"


def _unlike(
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
    whole = max((float(leaf.max(initial=0.0)) for leaf in finite.values()), default=0.0)
    for where, leaf in floats.items():
        new = np.asarray(other.get(where))
        if new.shape != leaf.shape or new.dtype != leaf.dtype:
            return f"{where} has another shape"
        close = np.isclose(new, leaf, rtol=0, atol=tolerance * whole, equal_nan=True)
        if not close.all():
            index = tuple(int(i) for i in np.argwhere(~close)[0])
            place = list(index) if index else ""
            return f"{where}{place} is {new[index]:.9g} instead of {leaf[index]:.9g}"
    return None
