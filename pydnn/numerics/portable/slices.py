"""Numbers cut into slices, whose products are sums of integers and thus exact in any order.

Specification. A line is a row of the left operand or a column of the right one, of k numbers. Let e
be the least integer such that every magnitude is below 2**e, and at least `LEAST_EXPONENT`. The
first slice of a number x is x rounded to a multiple of 2**(e - p), ties to even multiples. Each
further slice is the rest, rounded to multiples that are 2**(p + 1) times finer. Here

    p = (54 - L) // 2 for the left operand, (53 - L) // 2 for the right one, L = ceil(log2 k).

A slice is at most 2**p in its units. So a product of two slices sums k integers of at most
2**(53 - L), and all partial sums are at most 2**53. float64 holds these exactly, whatever the order
of additions, the blocks, the threads and fused operations. Slices i and j, counted from 1, are
multiplied if i + j is at most s + 1; `slices_of` gives the number s of slices.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy import add, multiply, subtract
from numpy.typing import NDArray

from pydnn.numerics.portable.workspace import floats
from pydnn.records import FloatArray

__all__ = [
    "BAND",
    "LEAST_EXPONENT",
    "LEAST_PLAIN",
    "MOST_PLAIN",
    "USUAL_BITS",
    "Bands",
    "Slices",
    "budget",
    "cut",
    "plan",
    "slices_of",
]

BAND = 16  # lines that share one record of where they are zeros

LEAST_EXPONENT = -960  # smaller lines keep the grid of this exponent, so no slice is subnormal
USUAL_BITS = 44
# If the largest magnitude of every line is between these, nothing needs scaling: products stay
# below about 2**400, and units of slices above 2**-300, so that products of units are normal.
LEAST_PLAIN, MOST_PLAIN = 2.0**-200, 2.0**200
_EXPONENT_BITS = np.array(0x7FF << 52, np.int64)
_NUMBERS = 1 << 15  # numbers cut at a time, few enough to stay in cache
_SHORT = 1024  # lines of fewer numbers are short
_FEW = 64  # lines; Python checks fewer faster than NumPy does

Bands = tuple[tuple[int, int], ...]


class Slices(NamedTuple):
    """The slices of one operand.

    Attributes:
        parts: The slices (s, lines, k), the largest first.
        exponents: The powers of two by which the products of each line must be scaled; None if
            no line was scaled.
        bad: Which lines hold an infinity or a NaN, and are zeros in `parts`; None if none does.
        bands: For each `BAND` lines the range (start, stop) outside which all are zeros; None if
            unknown.
    """

    parts: FloatArray
    exponents: NDArray[np.intc] | None
    bad: NDArray[np.bool_] | None
    bands: Bands | None = None


def budget(k: int, *, left: bool) -> int:
    """Return the bits p of the slices of a line of k numbers."""
    spent = (k - 1).bit_length()
    return (54 - spent) // 2 if left else (53 - spent) // 2


def slices_of(k: int, bits: int = USUAL_BITS) -> int:
    """Return the number of slices: the least s with s (p + 1) - 1 >= `bits` for both operands."""
    return next(s for s in range(1, 12) if s * (budget(k, left=False) + 1) > bits)


def cut(
    lines: FloatArray, *, left: bool, into: str | None = None, bits: int = USUAL_BITS
) -> Slices:
    """Cut the rows of `lines` (lines, k), which may be a transposed view.

    Args:
        lines: The float64 numbers, (lines, k).
        left: Whether the lines are rows of the left operand; if not, columns of the right one.
        into: The name of the work array for the slices. None makes a new array, which will be used
            many times, so their bands are found, too.
        bits: The number of bits to keep of the largest number of a line.
    """
    k = lines.shape[1]
    s, to_shift, finer = plan(k, left, bits)
    # Keep the order in memory, so that blocks are contiguous. The left operand must be line after
    # line, since its slices are stacked; the right one may be transposed.
    if left:
        lines = np.ascontiguousarray(lines)
    turned = not lines.flags.c_contiguous and lines.T.flags.c_contiguous
    bands = _bands(lines) if into is None else None
    largest = _largest(lines)
    exponents = bad = None
    if not _plain(largest):
        lines, largest, exponents, bad = _scaled(lines, largest)
    raised = largest.view(np.int64) & _EXPONENT_BITS
    shift = add(raised, to_shift, raised).view(np.float64)
    numbers, shifts = (lines.T, shift) if turned else (lines, shift[:, np.newaxis])
    shape = (s, *numbers.shape)
    raw = np.empty(shape) if into is None else floats(into, *shape)
    step = max(1, _NUMBERS // max(1, numbers.shape[1]))
    for start in range(0, len(numbers), step):
        block = slice(start, start + step)
        _cut_block(numbers[block], raw[:, block], shifts if turned else shifts[block], finer)
    return Slices(raw.transpose(0, 2, 1) if turned else raw, exponents, bad, bands)


@functools.lru_cache(maxsize=256)
def plan(k: int, left: bool, bits: int) -> tuple[int, int, float]:
    """Return how a line of k numbers is cut.

    Returns:
        The number of slices; what turns the bits of the exponent of a line's largest magnitude into
        those of 1.5 * 2**(52 + e - p), whose last bit is 2**(e - p), so that adding it rounds to a
        multiple of that; and the factor from this number of a slice to that of the next one.
    """
    p = budget(k, left=left)
    return slices_of(k, bits), ((53 - p) << 52) + (1 << 51), 2.0 ** -(p + 1)


def _bands(lines: FloatArray) -> Bands:
    bands = []
    for start in range(0, len(lines), BAND):
        nonzero = np.flatnonzero((lines[start : start + BAND] != 0).any(axis=0))
        bands.append((int(nonzero[0]), int(nonzero[-1]) + 1) if nonzero.size else (0, 0))
    return tuple(bands)


def _cut_block(lines: FloatArray, parts: FloatArray, shifts: FloatArray, finer: float) -> None:
    # Short lines get a shift for each number, so that NumPy loops over many numbers at once.
    shape = lines.shape if lines.shape[1] < _SHORT else shifts.shape
    shift = floats("scratch", *shape)
    np.copyto(shift, shifts)
    rest, last = lines, len(parts) - 1
    for i, part in enumerate(parts):
        # The rest lies where this slice goes. It is still needed unless this is the last slice.
        rounded = add(rest, shift, part if i in (0, last) else None)
        subtract(rounded, shift, rounded)
        if i < last:
            rest = subtract(rest, rounded, parts[i + 1])
            multiply(shift, finer, shift)
        if rounded is not part:
            part[...] = rounded


def _largest(lines: FloatArray) -> FloatArray:
    """Return the largest magnitude of each line, in a new array."""
    flat = lines if lines.flags.c_contiguous else lines.T
    magnitudes = np.abs(flat, out=floats("scratch", *flat.shape))
    largest: FloatArray = np.maximum.reduce(magnitudes, axis=1 if flat is lines else 0)
    return largest


def _plain(largest: FloatArray) -> bool:
    """Return whether no line needs scaling: each is zero or in the range where products are."""
    if len(largest) > _FEW:
        within = (largest >= LEAST_PLAIN) & (largest < MOST_PLAIN)
        return bool((within | (largest == 0.0)).all())
    numbers = [x or 1.0 for x in largest.tolist()]
    # The sum is below the bound only if every magnitude is, and a NaN is not below it.
    return bool(min(numbers, default=1.0) >= LEAST_PLAIN and sum(numbers) < MOST_PLAIN)


def _scaled(
    lines: FloatArray, largest: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.intc], NDArray[np.bool_] | None]:
    bad = ~np.isfinite(largest)
    if bad.any():
        lines, largest = np.where(bad[:, np.newaxis], 0.0, lines), np.where(bad, 0.0, largest)
    exponents = np.maximum(np.frexp(largest)[1], LEAST_EXPONENT)
    scaled = np.ldexp(lines, -exponents[:, np.newaxis])
    grid = np.full_like(largest, 0.5)  # e is 0 for every scaled line
    return scaled, grid, exponents, bad if bad.any() else None
