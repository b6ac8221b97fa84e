"""Lines of numbers cut into slices, whose products are sums of integers: exact in any order.

The specification. A line is a row of the left operand or a column of the right one; it has k
numbers. e is the least integer with every magnitude below 2**e, and at least `LEAST_EXPONENT`.
The first slice of a number x is x rounded to a multiple of 2**(e - p), ties to an even one; each
next slice is what is left, rounded to a multiple 2**(p + 1) times finer. With

    p = (54 - L) // 2 for the left operand, (53 - L) // 2 for the right one, L = ceil(log2 k),

each slice is at most 2**p of its units, so that a slice of the one times a slice of the other
sums k integers of at most 2**(53 - L): all partial sums are at most 2**53, hence exact in
float64, whatever the order, the blocks, the threads and the fusing. Slices i and j, counted from
1, are multiplied where i + j is at most s + 1; see `slices_of` for the number s of slices.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy import add, multiply, subtract
from numpy.typing import NDArray

from pydnn.numerics.portable.workspace import floats
from pydnn.records import FloatArray, freeze, scalar

__all__ = ["BAND", "LEAST_EXPONENT", "USUAL_BITS", "Bands", "Slices", "budget", "cut", "slices_of"]

BAND = 16  # lines, of which it is known together where they are zeros

LEAST_EXPONENT = -960  # below it a line keeps the grid of this one, so no slice is subnormal
USUAL_BITS = 44
# Between these no product of slices leaves the range, so lines need not be scaled.
_LEAST_PLAIN, _MOST_PLAIN = 2.0**-200, 2.0**200
_EXPONENT_BITS = np.array(0x7FF << 52, np.int64)
_NUMBERS = 1 << 15  # that are cut at a time, so as to stay in cache
_SHORT = 1024  # numbers of a line
_FEW = 64  # lines, of which Python knows sooner than NumPy

Bands = tuple[tuple[int, int], ...]


class Slices(NamedTuple):
    """The slices of one operand.

    Attributes:
        parts: (s, lines, k), the largest slice first.
        exponents: By which each line is to be scaled afterwards; None where by nothing.
        bad: Which lines hold an infinity or a NaN, and are zeros here; None where none does.
        bands: Of each `BAND` lines, outside of which stretch (start, stop) they are zeros; None
            where nobody has looked.
    """

    parts: FloatArray
    exponents: NDArray[np.intc] | None
    bad: NDArray[np.bool_] | None
    bands: Bands | None = None


def budget(k: int, *, left: bool) -> int:
    """The bits p of a line of k numbers."""
    spent = (k - 1).bit_length()
    return (54 - spent) // 2 if left else (53 - spent) // 2


def slices_of(k: int, bits: int = USUAL_BITS) -> int:
    """The number of slices: the least s of which either operand keeps s (p + 1) - 1 >= `bits`."""
    return next(s for s in range(1, 12) if s * (budget(k, left=False) + 1) > bits)


def cut(
    lines: FloatArray, *, left: bool, into: str | None = None, bits: int = USUAL_BITS
) -> Slices:
    """Cut the rows of `lines` (lines, k), which may be a transposed view.

    Args:
        lines: float64 numbers.
        left: Whether they are rows of the left operand, else columns of the right one.
        into: Name of the work array that takes the slices; None for an array of their own, to be
            used again and again, so that it is worth to find their bands.
        bits: That are kept of the largest number of a line.
    """
    k = lines.shape[1]
    s, raise_to_shift, finer = _plan(k, left, bits)
    # As the numbers lie in memory, so that blocks of them are whole: line after line, which those
    # of the left operand have to, or turned.
    if left:
        lines = np.ascontiguousarray(lines)
    turned = not lines.flags.c_contiguous and lines.T.flags.c_contiguous
    bands = _bands(lines) if into is None else None
    largest = _largest(lines)
    exponents = bad = None
    if not _plain(largest):
        lines, largest, exponents, bad = _scaled(lines, largest)
    # 1.5 * 2**(52 + e - p), of whose last bits the unit is 2**(e - p).
    raised = largest.view(np.int64) & _EXPONENT_BITS
    shift = add(raised, raise_to_shift, raised).view(np.float64)
    given, shifts = (lines.T, shift) if turned else (lines, shift[:, np.newaxis])
    shape = (s, *given.shape)
    raw = np.empty(shape) if into is None else floats(into, *shape)
    step = max(1, _NUMBERS // max(1, given.shape[1]))
    for start in range(0, len(given), step):
        block = slice(start, start + step)
        _cut_block(given[block], raw[:, block], shifts if turned else shifts[block], finer)
    return Slices(raw.transpose(0, 2, 1) if turned else raw, exponents, bad, bands)


@functools.lru_cache(maxsize=256)
def _plan(k: int, left: bool, bits: int) -> tuple[int, NDArray[np.int64], FloatArray]:
    """How many slices; what makes of an exponent's bits those of a shift; and of that the next."""
    p = budget(k, left=left)
    raise_to_shift = freeze(np.array(((53 - p) << 52) + (1 << 51), np.int64))
    return slices_of(k, bits), raise_to_shift, scalar(2.0 ** -(p + 1), np.float64)


def _bands(lines: FloatArray) -> Bands:
    found = []
    for start in range(0, len(lines), BAND):
        there = np.flatnonzero((lines[start : start + BAND] != 0).any(axis=0))
        found.append((int(there[0]), int(there[-1]) + 1) if there.size else (0, 0))
    return tuple(found)


def _cut_block(lines: FloatArray, parts: FloatArray, shifts: FloatArray, finer: FloatArray) -> None:
    # For each number its own where lines are short: one call of many numbers, not many of few.
    shape = lines.shape if lines.shape[1] < _SHORT else shifts.shape
    shift = floats("scratch", *shape)
    np.copyto(shift, shifts)
    rest, last = lines, len(parts) - 1
    for i, part in enumerate(parts):
        # The rest lies where this slice goes, and is needed once more where another one follows.
        rounded = add(rest, shift, part if i in (0, last) else None)
        subtract(rounded, shift, rounded)
        if i < last:
            rest = subtract(rest, rounded, parts[i + 1])
            multiply(shift, finer, shift)
        if rounded is not part:
            part[...] = rounded


def _largest(lines: FloatArray) -> FloatArray:
    """The largest magnitude of each line, in an array of their own."""
    flat = lines if lines.flags.c_contiguous else lines.T
    magnitudes = np.abs(flat, out=floats("scratch", *flat.shape))
    largest: FloatArray = np.maximum.reduce(magnitudes, axis=1 if flat is lines else 0)
    return largest


def _plain(largest: FloatArray) -> bool:
    """Whether all lines are zeros or within the range in which nothing needs scaling."""
    if len(largest) > _FEW:
        within = (largest >= _LEAST_PLAIN) & (largest < _MOST_PLAIN)
        return bool((within | (largest == 0.0)).all())
    numbers = [x or 1.0 for x in largest.tolist()]
    # A sum of magnitudes is within where all of them are, and not a number where one is none.
    return bool(min(numbers, default=1.0) >= _LEAST_PLAIN and sum(numbers) < _MOST_PLAIN)


def _scaled(
    lines: FloatArray, largest: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.intc], NDArray[np.bool_] | None]:
    bad = ~np.isfinite(largest)
    if bad.any():
        lines, largest = np.where(bad[:, np.newaxis], 0.0, lines), np.where(bad, 0.0, largest)
    exponents = np.maximum(np.frexp(largest)[1], LEAST_EXPONENT)
    scaled = np.ldexp(lines, -exponents[:, np.newaxis])
    grid = np.full_like(largest, 0.5)  # whose exponent is 0, as that of every scaled line
    return scaled, grid, exponents, bad if bad.any() else None
