"""What could still break the promise of portable arithmetic in this process."""

from __future__ import annotations

import functools
import struct

import numpy as np

from pydnn.checks import BadInput
from pydnn.numerics.portable.products import blas
from pydnn.numerics.portable.slices import budget

__all__ = ["adds_exactly", "expect_sound", "flushes_to_zero", "pointer_bits", "rounds_to_nearest"]


def expect_sound() -> None:
    """Refuse a process in which portable arithmetic would have other bits than elsewhere.

    It takes about 50 microseconds after the first call: a library that is loaded later can
    spoil a process, too, so a run is checked again whenever it records a state.

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
    """Whether numbers below the smallest normal one become zero, as -ffast-math has it."""
    # From arrays, since Python would work out a product of constants before it runs.
    smallest_normal = np.array([2.0**-1022 if dtype is np.float64 else 2.0**-126], dtype)
    with np.errstate(under="ignore"):
        return not (smallest_normal * np.array([0.25], dtype)).all()


def rounds_to_nearest(dtype: type[np.float64] | type[np.float32]) -> bool:
    """Whether sums are rounded to the nearest number, ties to even, as IEEE 754 has it by default.

    Each of the other three modes, upward, downward and to zero, changes one of three sums.
    """
    ulp = 2.0**-52 if dtype is np.float64 else 2.0**-23  # of 1
    # Below, at and above the middle between two numbers. From arrays, as above.
    ends = np.array([1.0, -1.0, 1.0], dtype) + np.array([ulp / 2, -ulp / 2, ulp * 0.75], dtype)
    return bool((ends == np.array([1.0, -1.0, 1.0 + ulp], dtype)).all())


def pointer_bits() -> int:
    """The bits of a pointer in this process."""
    return 8 * struct.calcsize("P")


@functools.cache
def adds_exactly() -> bool:
    """Whether BLAS has the exact products of slices at the edge of their budget.

    One that forms sums of the given numbers first, or works in fewer bits, has not.
    """
    for k in (64, 209, 1024, 12288):
        # Odd numbers, all as large as can be and of one sign: no partial sum has zeros at its end.
        row = 2 ** budget(k, left=True) - 1 - np.arange(k, dtype=np.int64) % 2 * 2
        column = 2 ** budget(k, left=False) - 1 - np.arange(k, dtype=np.int64) % 3 * 2
        exact = sum(map(int.__mul__, row.tolist(), column.tolist()))
        a, b = np.tile(row, (20, 1)), np.tile(column, (9, 1)).T
        if not (blas(a.astype(np.float64), b.astype(np.float64)) == exact).all():
            return False
    return True
