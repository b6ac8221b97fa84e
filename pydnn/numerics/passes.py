"""Elementwise functions of several arrays, in as few passes over memory as the engine can.

NumPy goes over its arrays for each operation. The compiled engine makes one loop of all operations
of a function that is declared to be `compilable`, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from pydnn.engines import in_use
from pydnn.numerics.interface import Numerics
from pydnn.records import FloatArray, freeze

__all__ = ["WORTH_A_LOOP", "in_one_pass", "summed_in_one_pass"]

WORTH_A_LOOP = 1 << 16  # bytes; NumPy is as fast for less, since a call is most of the time


def in_one_pass(
    function: Callable[..., tuple[FloatArray, ...]], *operands: FloatArray
) -> tuple[FloatArray, ...]:
    """Return the arrays that an elementwise function computes, read-only.

    Args:
        function: `(*operands) -> results`, a function that is `compilable`.
        operands: Arrays of one dtype. The first one has the shape (..., n, m) of the results. The
            others have it, too, or are broadcast to it from (n, 1) or (..., 1, m).

    Example:
        >>> from pydnn.engines import compilable
        >>> both = compilable(lambda Z, b: (Z + b, Z * b))
        >>> in_one_pass(both, np.array([[1.0, 2.0]]), np.array([[3.0]]))
        (array([[4., 5.]]), array([[3., 6.]]))
    """
    forms = in_use.forms  # another thread may change it
    made = None
    if forms is not None and operands[0].nbytes >= WORTH_A_LOOP:
        made = forms.layers.computed(function, operands)
    return tuple([freeze(result) for result in function(*operands)]) if made is None else made


def summed_in_one_pass(
    function: Callable[..., tuple[FloatArray, ...]],
    *operands: FloatArray,
    kept: int,
    axis: int | tuple[int, ...],
    numerics: Numerics,
) -> tuple[FloatArray, ...]:
    """Return the first results of an elementwise function, and the sums of the other ones.

    Args:
        function: The function, as for `in_one_pass`.
        operands: Its operands.
        kept: How many results are returned as they are, read-only.
        axis: The axes of the sums, which stay as axes of size 1.
        numerics: The arithmetic of the sums.
    """
    forms = in_use.forms  # another thread may change it
    made: tuple[FloatArray, ...] | None = None
    if forms is not None and operands[0].nbytes >= WORTH_A_LOOP:
        made = forms.layers.summed(function, operands, kept, axis, numerics)
    if made is not None:
        return made
    results = in_one_pass(function, *operands)
    return *results[:kept], *[numerics.sum(result, axis=axis) for result in results[kept:]]
