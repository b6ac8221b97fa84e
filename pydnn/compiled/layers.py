"""Elementwise work of stages, in one pass over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydnn.compiled.loops import Loop, loop_of, run, to_read
from pydnn.compiled.tracing import Program, Symbol, Untraceable
from pydnn.engines import expression_of, give_up
from pydnn.numerics import Numerics, threads
from pydnn.numerics.memory import empty
from pydnn.records import AnyDType, FloatArray, freeze

__all__ = ["activated", "biased"]

_LEAST = 1 << 16  # bytes; NumPy is as fast for smaller arrays, since a call is most of the time


def activated(
    function: Callable[..., object], operands: Sequence[FloatArray], numerics: Numerics
) -> FloatArray | None:
    """Return the result of an elementwise function `(*operands, numerics)`, as a read-only array.

    Returns:
        The result; None if there is no compiled form of it, or the arrays are small or differ in
        shape, dtype or order.
    """
    first = operands[0]
    if first.nbytes < _LEAST:
        return None
    expression = expression_of(function)
    if expression is None:
        return None
    loop = _loop(expression, len(operands), first.dtype, numerics)
    vectors = _flat(operands) if loop is not None else None
    made = None if loop is None or vectors is None else run(loop, (), vectors, 1)
    if made is None:
        return None
    shape = first.shape
    in_order = first.flags.c_contiguous
    return freeze(made[0].reshape(shape) if in_order else made[0].reshape(shape[::-1]).T)


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
    program = Program(dtype)
    try:
        value, is_truth = program.text_of(
            expression(Symbol(program, "Z", writable=False), _Traced(numerics))
        )
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
    return Loop("\n".join(lines) + "\n", tuple(program.constants))


def _flat(operands: Sequence[FloatArray]) -> list[FloatArray] | None:
    """Return the arrays as vectors over the same memory; None if they do not fit each other."""
    first = operands[0]
    if any(a.shape != first.shape or a.dtype != first.dtype for a in operands):
        return None
    if all(a.flags.c_contiguous for a in operands):
        return [a.reshape(-1) for a in operands]
    if all(a.flags.f_contiguous for a in operands):
        return [a.T.reshape(-1) for a in operands]
    return None


@functools.lru_cache(maxsize=256)
def _loop(
    expression: Callable[..., Any], count: int, dtype: AnyDType, numerics: Numerics
) -> Loop | None:
    names = ["dA", "Z", "A"] if count == 3 else ["Z"]

    def function(*symbols: Any) -> None:
        symbols[-1].fill(expression(*symbols[:-1], _Traced(numerics)))

    return loop_of(function, dtype, numbers=(), operands=names, results=["made"])


class _Traced:
    """Stands for an arithmetic while a function is traced."""

    def __init__(self, numerics: Numerics) -> None:
        self._numerics = numerics

    def positive_part(self, Z: Symbol) -> Any:
        """Do as the arithmetic does, without asking for the size of Z."""
        A = np.maximum(Z, 0)
        return A + 0.0 if self._numerics.exact else A

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f"{name} of the arithmetic")
