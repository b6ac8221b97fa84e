"""Elementwise work of stages, in one pass over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydnn.compiled.loops import Loop, loop_of, run
from pydnn.compiled.tracing import Symbol, Untraceable
from pydnn.engines import expression_of
from pydnn.numerics import Numerics
from pydnn.records import AnyDType, FloatArray, freeze

__all__ = ["activated"]

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
