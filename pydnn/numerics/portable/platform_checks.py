"""Checks that this process keeps the promise of portable arithmetic."""

from __future__ import annotations

import functools
import struct

import numpy as np

from pydnn.checks import BadInput
from pydnn.numerics.portable.products import blas
from pydnn.numerics.portable.slices import budget

__all__ = ["adds_exactly", "expect_sound", "flushes_to_zero", "pointer_bits", "rounds_to_nearest"]


def expect_sound() -> None:
    """Refuse a process in which portable arithmetic would give other bits than elsewhere.

    It takes about 50 microseconds after the first call. A library that is loaded later can change
    the process, so a recorded run repeats the check at every state that it stores.

    Raises:
        BadInput: If tiny numbers are flushed to zero, numbers are not rounded to the nearest,
            pointers have fewer than 64 bits, or BLAS does not add whole numbers exactly.
    """
    if flushes_to_zero(np.float64) or flushes_to_zero(np.float32):
        raise BadInput(
            "this process flushes tiny numbers to zero, so portable arithmetic has other bits: "
            "leave out the import that switched it on, a library compiled with -ffast-math."
        )
    if not (rounds_to_nearest(np.float64) and rounds_to_nearest(np.float32)):
        raise BadInput(
            "this process does not round to the nearest number, so portable arithmetic has other "
            "bits: leave out what called fesetround, e.g. a library for interval arithmetic."
        )
    if pointer_bits() < 64:
        raise BadInput(
            f"this Python has {pointer_bits()} bits, whose arithmetic may round twice: "
            "use one of 64 bits."
        )
    if not adds_exactly():
        raise BadInput(
            "this BLAS does not multiply and add whole numbers exactly: use NumPy's own wheel."
        )


def flushes_to_zero(dtype: type[np.float64] | type[np.float32]) -> bool:
    """Return whether numbers below the smallest normal one become zero, as with -ffast-math."""
    # Arrays, since Python computes a product of constants when it compiles the code.
    smallest_normal = np.array([2.0**-1022 if dtype is np.float64 else 2.0**-126], dtype)
    with np.errstate(under="ignore"):
        return not (smallest_normal * np.array([0.25], dtype)).all()


def rounds_to_nearest(dtype: type[np.float64] | type[np.float32]) -> bool:
    """Return whether sums round to the nearest number, ties to even, the default of IEEE 754.

    Each of the other three modes, upward, downward and to zero, changes one of three sums.
    """
    ulp = 2.0**-52 if dtype is np.float64 else 2.0**-23  # the ulp of 1
    # Two ties, of either sign, and a sum above the middle. Arrays, as above.
    ends = np.array([1.0, -1.0, 1.0], dtype) + np.array([ulp / 2, -ulp / 2, ulp * 0.75], dtype)
    return bool((ends == np.array([1.0, -1.0, 1.0 + ulp], dtype)).all())


def pointer_bits() -> int:
    """Return the number of bits of a pointer in this process."""
    return 8 * struct.calcsize("P")


@functools.cache
def adds_exactly() -> bool:
    """Return whether BLAS gives exact products of slices whose numbers are as large as possible.

    A BLAS that adds matrix entries before it multiplies, or works with fewer bits, does not.
    """
    for k in (64, 209, 1024, 12288):
        # Odd numbers of one sign and as large as possible, so partial sums need all 53 bits.
        row = 2 ** budget(k, left=True) - 1 - np.arange(k, dtype=np.int64) % 2 * 2
        column = 2 ** budget(k, left=False) - 1 - np.arange(k, dtype=np.int64) % 3 * 2
        exact = sum(map(int.__mul__, row.tolist(), column.tolist()))
        a, b = np.tile(row, (20, 1)), np.tile(column, (9, 1)).T
        if not (blas(a.astype(np.float64), b.astype(np.float64)) == exact).all():
            return False
    return True
