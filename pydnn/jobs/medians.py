"""Exact medians of numbers that need not be in memory at the same time.

Each pass over the numbers counts how many lie in each of some ranges, and the next pass looks only
into the range that holds the median. Once few numbers are left in these ranges, they are sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pydnn.float_order import floats_at, places_of
from pydnn.records import FloatArray, IntArray

__all__ = ["medians"]

_MOST_SORTED = 1 << 22  # numbers of all columns that are sorted at the end
_MOST_RANGES = 1 << 20  # of all columns
_RANGES = 1 << 12  # of one column
_MINUS_ZERO = int(places_of(np.array(-0.0)))


def medians(
    blocks: Callable[[], Iterator[FloatArray]],
    counts: IntArray,
    sample: Callable[[], FloatArray],
) -> FloatArray:
    """The median of each column of numbers, of which some may be missing.

    Args:
        blocks: A function that starts over with all numbers, in blocks (columns, rows of a block);
            missing ones are NaN. It is called a few times, if there are many numbers.
        counts: How many numbers are not missing in each column (columns,), 1 or more.
        sample: A function that returns a few of the numbers (columns, rows), which save time if
            they are typical.

    Returns:
        The medians (columns,). The median of an even number of numbers is the mean of the two in
        the middle. A median of zero has no sign.

    Example:
        >>> numbers = np.array([[3.0, np.nan, 1.0, 2.0], [1.0, 4.0, 2.0, 8.0]])
        >>> blocks = [numbers[:, :2], numbers[:, 2:]]
        >>> medians(lambda: iter(blocks), np.array([3, 4]), lambda: numbers[:, :1])
        array([2., 3.])
    """
    search = _Search((counts - 1) // 2, counts)
    if search.left > _MOST_SORTED:
        search.start_near(sample())
        search.narrow(blocks())
    while search.left > _MOST_SORTED:
        search.narrow(blocks())
    first, second = search.found(blocks(), counts // 2)
    # Half of each, because the sum of two huge numbers would be infinite.
    return np.where(first == second, first, first / 2 + second / 2) + 0.0


class _Search:
    """Where the number of a certain rank in each column lies: from `lo` to `hi`.

    `below` numbers of the column are below `lo`, and `inside` numbers from `lo` to `hi`.
    """

    def __init__(self, ranks: IntArray, counts: IntArray) -> None:
        columns = len(counts)
        self.lo, self.hi = np.full((columns, 1), -np.inf), np.full((columns, 1), np.inf)
        self.below, self.inside = np.zeros(columns, np.int64), np.array(counts, np.int64)
        self._ranks, self._counts = ranks, counts

    @property
    def left(self) -> int:
        """How many numbers have to be sorted."""
        return int(self.inside[self._open].sum())

    @property
    def _open(self) -> NDArray[np.bool_]:
        return (self.lo < self.hi)[:, 0]

    def start_near(self, sample: FloatArray) -> None:
        """Guess `lo` and `hi` from a sample; the first pass corrects a wrong guess."""
        for column, numbers in enumerate(sample):
            present = np.sort(numbers[~np.isnan(numbers)]) + 0.0  # without the sign of zero
            # The middle of n numbers is that of all within 2 sqrt(n), 4 deviations, of the rank.
            middle, width = len(present) // 2, math.isqrt(4 * len(present)) + 1
            if len(present) > 2 * width:
                self.lo[column] = present[middle - width]
                self.hi[column] = present[middle + width]

    def narrow(self, blocks: Iterator[FloatArray]) -> None:
        """Cut what lies from `lo` to `hi` into ranges, and keep the one with the number."""
        columns = len(self.lo)
        ranges = min(_RANGES, 1 << max(2, _MOST_RANGES // columns).bit_length() - 1)
        lo, hi = places_of(self.lo), places_of(self.hi)
        shift = np.array(
            [int(width // ranges).bit_length() for width in (hi - lo)[:, 0]], np.uint64
        )
        counts, below = np.zeros(columns * ranges, np.int64), np.zeros(columns, np.int64)
        for block in blocks:
            below += (block < self.lo).sum(axis=1)
            place, row = np.nonzero((block >= self.lo) & (block <= self.hi))
            # Without the sign of zero, whose two places are apart.
            distance = places_of(block[place, row] + 0.0) - lo[place, 0]
            which = (distance >> shift[place]).astype(np.int64) + place * ranges
            counts += np.bincount(which, minlength=counts.size)
        for column, of_column in enumerate(counts.reshape(columns, ranges)):
            up_to, rank = np.cumsum(of_column), self._ranks[column] - below[column]
            if 0 <= rank < up_to[-1]:
                i = int(np.searchsorted(up_to, rank, "right"))
                start, size = int(lo[column, 0]), 1 << int(shift[column])
                end = min(int(hi[column, 0]), start + (i + 1) * size - 1)
                end -= end == _MINUS_ZERO  # -0.0 equals 0.0, so it must not end the range below it
                ends = [start + i * size, end]
                self.lo[column], self.hi[column] = floats_at(np.array(ends, np.uint64))
                self.below[column] = below[column] + up_to[i] - of_column[i]
                self.inside[column] = of_column[i]
            elif rank < 0:  # the guess was wrong
                self.lo[column], self.hi[column] = -np.inf, np.nextafter(self.lo[column], -np.inf)
                self.below[column], self.inside[column] = 0, below[column]
            else:
                self.lo[column], self.hi[column] = np.nextafter(self.hi[column], np.inf), np.inf
                self.below[column] = below[column] + up_to[-1]
                self.inside[column] = self._counts[column] - self.below[column]

    def found(
        self, blocks: Iterator[FloatArray], higher: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """The numbers of the ranks searched for, and of others that are equal or one higher."""
        columns = len(self.lo)
        open_ = np.flatnonzero(self._open)
        beyond = np.flatnonzero(higher - self.below >= self.inside)
        numbers: list[list[FloatArray]] = [[] for _ in range(columns)]
        above = np.full(columns, np.inf)
        for block in blocks:
            for column in open_:
                row = block[column]
                inside = (row >= self.lo[column]) & (row <= self.hi[column])
                numbers[column].append(row[inside])
            larger = np.where(block[beyond] > self.hi[beyond], block[beyond], np.inf)
            above[beyond] = np.minimum(above[beyond], larger.min(axis=1, initial=np.inf))
        first, second = self.lo[:, 0].copy(), self.lo[:, 0].copy()
        for column in open_:
            ordered = np.sort(np.concatenate(numbers[column]))
            a, b = (int(ranks[column] - self.below[column]) for ranks in (self._ranks, higher))
            first[column], second[column] = ordered[a], ordered[min(b, len(ordered) - 1)]
        second[beyond] = above[beyond]
        return first, second
