"""Elementwise work of stages, in one pass over memory."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydnn.compiled.arithmetics import Arithmetic
from pydnn.compiled.fast.step import in_fast
from pydnn.compiled.kernels import TEXT_NAMES
from pydnn.compiled.loops import Loop, loop_of, to_read
from pydnn.compiled.portable.step import in_portable
from pydnn.compiled.tracing import Program, Symbol
from pydnn.engines import expression_of, give_up
from pydnn.numerics import Numerics, threads
from pydnn.numerics.fast import FEW_COLUMNS, TINY
from pydnn.numerics.memory import empty
from pydnn.records import AnyDType, FloatArray, freeze

__all__ = ["activated", "biased", "computed", "summed"]


def activated(
    function: Callable[..., object], operands: Sequence[FloatArray], numerics: Numerics
) -> FloatArray | None:
    """Return the result of an elementwise function `(*operands, numerics)`, as a read-only array.

    Returns:
        The result; None if there is no compiled form of it, or the arrays differ in shape, dtype or
        order.
    """
    if any(operand.shape != operands[0].shape for operand in operands):
        return None
    made = computed(function, operands, numerics)
    return None if made is None else made[0]


def computed(
    function: Callable[..., object],
    operands: Sequence[FloatArray],
    numerics: Numerics | None = None,
) -> tuple[FloatArray, ...] | None:
    """Do the same as `pydnn.numerics.passes.in_one_pass`; None if there is no compiled form.

    Args:
        function: The function `(*operands)`, or `(*operands, numerics)`.
        operands: The arrays, the first of which has the shape of the results.
        numerics: The arithmetic that the function takes, if it does.
    """
    expression = expression_of(function)
    in_order = operands[0].flags.c_contiguous
    if not in_order:
        operands = [operand.T for operand in operands]
    first = operands[0]
    placed = None if expression is None else _placed(operands, first.shape, first.dtype)
    if expression is None or placed is None:
        return None
    axes, arrays, whole = placed
    loop, count = _loop_of_values(expression, axes, first.dtype, numerics)
    if loop is None:
        return None
    made = [empty(first.shape, first.dtype) for _ in range(count)]
    if not _run(loop, axes, arrays, [result.reshape(whole) for result in made]):
        return None
    return tuple([freeze(result if in_order else result.T) for result in made])


def summed(
    function: Callable[..., object],
    operands: Sequence[FloatArray],
    kept: int,
    axis: int | tuple[int, ...],
    numerics: Numerics,
) -> tuple[FloatArray, ...] | None:
    """Do the same as `pydnn.numerics.passes.summed_in_one_pass`; None if there is no compiled form.

    It is for sums over features or over everything else, in arithmetic that adds rows in loops.
    """
    expression, first, arithmetic = expression_of(function), operands[0], _arithmetic(numerics)
    sums = _SUMS.get((axis, first.ndim))
    if arithmetic is None or not arithmetic.adds_rows:
        return None
    calls = arithmetic.calls(first.dtype)
    placed = None if expression is None else _placed(operands, first.shape, first.dtype, False)
    if expression is None or sums is None or calls is None or placed is None:
        return None
    *outer, n, m = first.shape
    by_product = first.size < TINY and first.ndim == 2 and m <= FEW_COLUMNS
    if min(n, m) < 2 or by_product or not _adds_in_order(first.dtype):
        return None
    axes, arrays, _ = placed
    loop, count = _loop_of_values(expression, axes, first.dtype, None, arithmetic, sums, kept)
    if loop is None:
        return None
    shape = (*[1] * len(outer), n, 1) if sums == "i" else (*outer, 1, m)
    made = [empty(first.shape, first.dtype) for _ in range(kept)]
    totals = [np.zeros(shape, first.dtype) for _ in range(count - kept)]
    whole = [result.reshape(arrays[0].shape) for result in made]
    parts = [total.reshape(n if sums == "i" else (-1, m)) for total in totals]
    try:
        loop.compiled(*loop.constants, calls, *arrays, *whole, *parts)
    except Exception as error:  # numba may raise anything, before the loop begins
        give_up(error)
        return None
    return *map(freeze, made), *totals


# The axes that are left of the sums along an axis or several, for an array of so many axes
_SUMS: dict[Any, str] = {
    (0, 2): "pj", (1, 3): "pj", (2, 4): "pj",
    (1, 2): "i", ((0, 2), 3): "i", ((0, 1, 3), 4): "i",
}  # fmt: skip


@functools.cache
def _adds_in_order(dtype: AnyDType) -> bool:
    """Return whether NumPy adds rows one after the other to sums over everything but features."""
    numbers: FloatArray = np.random.default_rng(0).normal(size=(5, 3, 4, 301)).astype(dtype)
    total = np.zeros_like(numbers[0, 0, :, 0])
    for place in numbers.reshape(-1, 4, 301):
        total = total + np.add.reduce(place, axis=1)
    return bool(total.tobytes() == np.add.reduce(numbers, axis=(0, 1, 3)).tobytes())


def _placed(
    operands: Sequence[FloatArray], shape: tuple[int, ...], dtype: AnyDType, flat: bool = True
) -> tuple[tuple[str, ...], list[FloatArray], tuple[int, ...]] | None:
    """Return the axes of the operands, the operands with these axes, and the shape of the results.

    Returns:
        None if an array has another dtype, has a shape that is not broadcast to `shape`, or is not
        in C order.
    """
    axes, shapes, whole = _axes(tuple([operand.shape for operand in operands]), shape, flat)
    if not axes:
        return None
    arrays = []
    for operand, its in zip(operands, shapes, strict=True):
        if operand.dtype != dtype or not operand.flags.c_contiguous:
            return None
        # Read-only, since numba would compile the loop once more for arrays that can be written to.
        arrays.append(freeze(operand.reshape(its)))
    return axes, arrays, whole


@functools.lru_cache(maxsize=256)
def _axes(
    shapes: tuple[tuple[int, ...], ...], shape: tuple[int, ...], flat: bool
) -> tuple[tuple[str, ...], list[tuple[int, ...]], tuple[int, ...]]:
    """Return which of the axes "pij" each array has, the shape with these axes, and that of all.

    The last two axes of `shape` are i and j, and p are all others. If arrays may be `flat`, and
    all have the whole shape, "" stands for it, and they become vectors. No axes mean that a shape
    does not fit.
    """
    *outer, n, m = (1, 1, *shape)[-max(2, len(shape)) :]
    sizes = {"p": math.prod(outer), "i": n, "j": m}
    kinds = {(n, 1): "i", (*outer, 1, m)[-len(shape) :]: "pj", shape: "pij"}
    axes = [kinds.get(each) for each in shapes]
    if None in axes:
        return (), [], ()
    if flat and set(axes) == {"pij"}:
        size = math.prod(shape)
        return ("",) * len(axes), [(size,)] * len(axes), (size,)
    known = tuple([each or "" for each in axes])
    fitting = [tuple([sizes[axis] for axis in each]) for each in known]
    return known, fitting, tuple(sizes.values())


def _run(
    loop: Loop, axes: Sequence[str], operands: Sequence[FloatArray], results: Sequence[FloatArray]
) -> bool:
    arrays, last = (*operands, *results), results[-1]
    try:
        if last.nbytes < threads.WORTH_A_THREAD:
            loop.compiled(*loop.constants, *arrays)
        else:
            _share(loop, (*axes, *[""] * len(results)), arrays)
    except Exception as error:  # numba may raise anything, before the loop begins
        give_up(error)
        return False
    return True


def _share(loop: Loop, axes: Sequence[str], arrays: Sequence[FloatArray]) -> None:
    """Run a loop on several threads, each of which gets a part of the first axis that is long."""
    last = arrays[-1]
    every = "i" if last.ndim == 1 else "pij"
    cut = "i" if len(last) == 1 else every[0]
    places = [(each or every).find(cut) for each in axes]

    def part(start: int, stop: int) -> None:
        piece = slice(start, stop)
        pieces = [
            array if place < 0 else array[piece] if place == 0 else array[:, piece]
            for array, place in zip(arrays, places, strict=True)
        ]
        loop.compiled(*loop.constants, *pieces)

    threads.shared_out(part, last if cut == every[0] else last[0])


@functools.lru_cache(maxsize=256)
def _loop_of_values(
    expression: Callable[..., Any],
    axes: tuple[str, ...],
    dtype: AnyDType,
    numerics: Numerics | None,
    summing: Arithmetic | None = None,
    sums: str = "",
    kept: int = 0,
) -> tuple[Loop | None, int]:
    """Return the loop of a function that returns arrays, and their number.

    Args:
        expression: The function.
        axes: Those of its operands, see `_axes`.
        dtype: The dtype of all arrays.
        numerics: The arithmetic that the function takes, if it does.
        summing: The arithmetic of sums, if there are some.
        sums: The axes that are left of the sums.
        kept: How many results are not summed.
    """
    arithmetic = _arithmetic(numerics)
    more = () if numerics is None else (arithmetic and arithmetic.traced,)

    def values(*symbols: Any) -> tuple[Any, ...]:
        made = expression(*symbols, *more)
        return made if isinstance(made, tuple) else (made,)

    def fills(*symbols: Any) -> None:
        for place, value in zip(symbols[len(axes) :], values(*symbols[: len(axes)]), strict=True):
            place.fill(value)

    names, program = (
        _names(expression, len(axes)),
        Program(dtype, None if arithmetic is None else arithmetic.called),
    )
    try:
        count = len(values(*[Symbol(program, name, writable=False) for name in names]))
    except Exception:  # `Untraceable`, or what the function itself raises for symbols
        return None, 0
    if len(program.lines) == len(program.calls) > 0:
        return None, 0  # NumPy's loop alone is as fast as in a kernel
    results = [f"y{i}" for i in range(count)]
    return (
        loop_of(
            fills,
            dtype,
            numbers=(),
            operands=names,
            results=results,
            axes=_broadcast(axes),
            sums=sums,
            kept=kept,
            arithmetic=summing or arithmetic,
        ),
        count,
    )


def _broadcast(axes: Sequence[str]) -> Sequence[str]:
    """Return the axes for `loop_of`, which needs none for vectors."""
    return axes if any(axes) else ()


def _names(function: Callable[..., object], count: int) -> list[str]:
    """Return the names of the first arguments of a function, or others if a loop has those."""
    names = [*inspect.signature(function).parameters][:count]
    taken = any(name in _TAKEN or re.fullmatch(r"[cty]\d+|_+", name) for name in names)
    return [f"x{i}" for i in range(count)] if taken or len(names) < count else names


_TAKEN = {*TEXT_NAMES, *"pij", "loop", "range"}


def biased(
    expression: Callable[..., object], Z: FloatArray, b: FloatArray, numerics: Numerics
) -> FloatArray | None:
    """Add a bias to Z in place, and return an elementwise function of the sums, read-only.

    Args:
        expression: The function `(Z, numerics) -> A`.
        Z: The product (n, m), a new array that nobody else has.
        b: The bias (n, 1).
        numerics: The arithmetic.

    Returns:
        A (n, m); None, with Z as it was, if there is no compiled form, or Z is not in C order.
    """
    if not Z.flags.c_contiguous or b.dtype != Z.dtype:
        return None
    loop = _biased_loop(expression, Z.dtype, numerics)
    if loop is None:
        return None
    A, bias = empty(Z.shape, Z.dtype), to_read(b)
    try:
        if Z.nbytes < threads.WORTH_A_THREAD:
            loop.compiled(*loop.constants, bias, Z, A)
        else:

            def part(start: int, stop: int) -> None:
                rows = slice(start, stop)
                loop.compiled(*loop.constants, bias[rows], Z[rows], A[rows])

            threads.shared_out(part, Z)
    except Exception as error:  # numba may raise anything, before the loop begins
        give_up(error)
        return None
    return freeze(A)


@functools.lru_cache(maxsize=64)
def _biased_loop(
    expression: Callable[..., Any], dtype: AnyDType, numerics: Numerics
) -> Loop | None:
    program, arithmetic = Program(dtype), _arithmetic(numerics)
    traced = arithmetic and arithmetic.traced
    try:
        value, is_truth = program.text_of(expression(Symbol(program, "Z", writable=False), traced))
    except Exception:  # `Untraceable`, or what the function itself raises for symbols
        return None
    if is_truth:
        return None
    constants = [f"c{i}" for i in range(len(program.constants))]
    lines = [
        f"def loop({', '.join([*constants, 'b_', 'Z_', 'A_'])}):",
        *(f"    {name} = {program.type}({name})" for name in constants),
        "    for i in range(Z_.shape[0]):",
        "        b = b_[i, 0]",
        "        for j in range(Z_.shape[1]):",
        "            Z = Z_[i, j] + b",
        *(f"            {line}" for line in program.lines),
        "            Z_[i, j] = Z",
        f"            A_[i, j] = {value}",
    ]
    names = None if arithmetic is None else arithmetic.names(dtype)
    return Loop("\n".join(lines) + "\n", tuple(program.constants), names)


def _arithmetic(numerics: Numerics | None) -> Arithmetic | None:
    """Return what stands for an arithmetic; None for one that has no compiled functions."""
    return next((each for each in (in_fast, in_portable) if each.numerics is numerics), None)
