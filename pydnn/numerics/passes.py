"""Elementwise functions of several arrays, in as few passes over memory as the engine can.

NumPy goes over its arrays for each operation. The compiled engine makes one loop of all operations
of a function that is declared to be `compilable`, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydnn.engines import in_use
from pydnn.records import FloatArray, freeze

__all__ = ["WORTH_A_LOOP", "fill_in_one_pass", "in_one_pass"]

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


def fill_in_one_pass(
    function: Callable[..., None],
    operands: Sequence[FloatArray],
    results: Sequence[FloatArray],
    *,
    changed: Sequence[FloatArray] = (),
) -> None:
    """Let an elementwise function fill arrays.

    Args:
        function: `(*operands, *changed, *results)`, a function that is `compilable`.
        operands: Arrays that it reads.
        results: Arrays that it fills; they share no memory with the others.
        changed: Arrays that it reads and fills.
    """
    forms = in_use.forms  # another thread may change it
    made = False
    if forms is not None and results[-1].nbytes >= WORTH_A_LOOP:
        made = forms.layers.filled(function, operands, changed, results)
    if not made:
        function(*operands, *changed, *results)
