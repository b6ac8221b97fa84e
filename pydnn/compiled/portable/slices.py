"""Numbers cut into slices, as `pydnn.numerics.portable.slices` specifies, and sums of products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import in_rows, or_numpy
from pydnn.compiled.portable.nearest import threads_for
from pydnn.compiled.portable.tiles import (
    LINES,
    WIDE,
    multiply_block,
    pack_in_blocks,
    terms_of_a_block,
)
from pydnn.numerics.portable.cache import kept
from pydnn.numerics.threads import share_out
from pydnn.records import FloatArray

__all__ = ["by_slices", "product_of_slices"]

_MAGNITUDE = 2**63 - 1  # of the bits of a float, all but its sign
_EXPONENT = 0x7FF << 52
_PACKED = 1 << 15  # numbers of packed rows, which stay in the second cache


# How lines are cut: the number of slices; what turns the bits of the exponent of a line's largest
# magnitude into those of the number whose addition rounds the line to the multiples of its first
# slice; the factor from this number of a slice to that of the next one; the least magnitude that
# the largest one of a line may have, unless it is 0; and the magnitude below which it must be.
Plan = tuple[int, int, float, float, float]


@kernel
def _bits_of_magnitude(x: float) -> np.int64:
    """Return the bits of |x|, which as whole numbers are in the order of magnitudes, then NaN."""
    return np.float64(x).view(np.int64) & _MAGNITUDE


@kernel
def _cut(parts: FloatArray, k: int, plan: Plan) -> bool:
    """Cut packed lines into slices, and return whether none of them needs scaling.

    Args:
        parts: The slices, one after the other, of which the first holds the lines, packed in
            blocks.
        k: The number of terms of a line.
        plan: How lines are cut.
    """
    s, to_shift, finer, least, most = plan
    size, whole = terms_of_a_block(k), parts.size // s
    lines = whole // k
    largest, shifts = np.zeros(lines, np.int64), np.empty(lines)
    for first in range(0, k, size):
        terms = min(size, k - first)
        for line in range(0, lines, LINES):
            start = first * lines + line * terms
            for place in range(start, start + terms * LINES, LINES):
                for i in range(LINES):
                    largest[line + i] = max(largest[line + i], _bits_of_magnitude(parts[place + i]))
    for line in range(lines):
        magnitude = np.int64(largest[line]).view(np.float64)
        if not (magnitude == 0.0 or least <= magnitude < most):
            return False
        bits = (largest[line] & _EXPONENT) + to_shift
        shifts[line] = np.int64(bits).view(np.float64)
    for first in range(0, k, size):
        terms = min(size, k - first)
        for line in range(0, lines, LINES):
            start = first * lines + line * terms
            for place in range(start, start + terms * LINES, LINES):
                for i in range(LINES):
                    rest, shift = parts[place + i], shifts[line + i]
                    for part in range(s):
                        rounded = (rest + shift) - shift
                        parts[part * whole + place + i] = rounded
                        rest = rest - rounded
                        shift *= finer
    return True


@kernel
def _cut_columns(
    columns: FloatArray,
    turned: bool,
    start: int,
    stop: int,
    plan: Plan,
    packed: FloatArray,
    bands: NDArray[np.int64],
) -> bool:
    """Pack the slices of columns, and return whether none of them needs scaling.

    Args:
        columns: The columns (n, k); (k, n) if `turned`.
        turned: Whether `columns` is transposed.
        start: The first group of `WIDE` columns.
        stop: The group after the last one.
        plan: How lines are cut.
        packed: The slices of each group, group after group.
        bands: For each group (groups, 2) the range of terms outside which all are zeros.
    """
    s, (n, k) = plan[0], columns.shape[::-1] if turned else columns.shape
    for group in range(start, stop):
        first, last = group * WIDE, min((group + 1) * WIDE, n)
        parts = packed[group * s * WIDE * k : (group + 1) * s * WIDE * k]
        pack_in_blocks(columns, turned, first, last, parts[: WIDE * k])
        if not _cut(parts, k, plan):
            return False
        low, high = k, 0
        for term in range(k):
            for j in range(first, last):
                if (columns[term, j] if turned else columns[j, term]) != 0.0:
                    low, high = min(low, term), term + 1
        bands[group, 0], bands[group, 1] = low, high
    return True


@kernel
def product_of_slices(
    rows: FloatArray,
    turned: bool,
    start: int,
    stop: int,
    plan: Plan,
    packed: FloatArray,
    bands: NDArray[np.int64],
    out: FloatArray,
) -> bool:
    """Fill rows of `out`, those from `start` to before `stop`, unless one needs scaling.

    Args:
        rows: The rows (m, k) of the left operand; (k, m) if `turned`.
        turned: Whether `rows` is transposed.
        start: The first row.
        stop: The row after the last one.
        plan: How lines are cut.
        packed: The slices of the columns.
        bands: Where the terms of the columns are not zeros.
        out: The product (m, n).
    """
    s, n, k = plan[0], out.shape[1], rows.shape[0] if turned else rows.shape[1]
    at_once = min(max(_PACKED // (s * k), 4 * LINES), 16 * LINES, stop - start + LINES - 1)
    at_once = max(at_once // LINES, 1) * LINES
    left, room = np.empty(s * at_once * k), at_once * WIDE
    products = np.empty(s * (s + 1) // 2 * room)
    for top in range(start, stop, at_once):
        bottom = min(top + at_once, stop)
        pack_in_blocks(rows, turned, top, bottom, left[: at_once * k])
        if not _cut(left, k, plan):
            return False
        for column in range(0, n, WIDE):
            low, high = bands[column // WIDE]
            place = 0
            for level in range(s):  # T[level + 2]
                for j in range(level + 1):
                    multiply_block(
                        left,
                        (level - j) * at_once * k,
                        at_once,
                        (bottom - top + LINES - 1) // LINES * LINES,
                        packed,
                        (column * s + j * WIDE) * k,
                        n - column,
                        k,
                        low,
                        high,
                        products,
                        place,
                    )
                    if j:
                        for i in range(room):
                            products[place - j * room + i] += products[place + i]
                    place += room
            # The sum of level `level` lies at the place of its first product.
            for level in range(s - 2, -1, -1):
                first, second = level * (level + 1) // 2, (level + 1) * (level + 2) // 2
                for i in range(room):
                    products[first * room + i] += products[second * room + i]
            for i in range(bottom - top):
                for j in range(min(WIDE, n - column)):
                    out[top + i, column + j] = products[i * WIDE + j] + 0.0
    return True


@or_numpy
def by_slices(
    a: FloatArray,
    b: FloatArray,
    plans: tuple[Any, Any],
    plain: tuple[float, float],
    out: FloatArray,
) -> bool:
    """Fill `out` (m, n) with the product of float64 matrices a (m, k) and b (k, n).

    Args:
        a: The left operand.
        b: The right operand.
        plans: The first three numbers of the plan for the rows of `a`, and of that for the columns
            of `b`.
        plain: The other two, which are the same for both.
        out: The product.
    """
    rows, columns = in_rows(a), in_rows(b.T)
    if rows is None or columns is None or not out.flags.c_contiguous:
        return False
    (m, k), n = a.shape, b.shape[1]
    of_rows, of_columns = plans
    threads = threads_for(of_rows[0] * (of_rows[0] + 1) // 2 * m * k * n)

    def packed(_: str | None) -> tuple[FloatArray, NDArray[np.int64]] | None:
        groups = -(-n // WIDE)
        parts = np.empty(groups * WIDE * k * of_columns[0])
        bands = np.empty((groups, 2), np.int64)
        done = [False] * threads

        def cut(part: int) -> None:
            start, stop = part * groups // threads, (part + 1) * groups // threads
            done[part] = _cut_columns(
                *columns,
                start,
                stop,
                (*of_columns, *plain),
                parts,
                bands,
            )

        share_out(cut, threads, threads)
        return (parts, bands) if all(done) else None

    right = kept("packed slices", b, packed)
    if right is None:
        return False
    filled = [False] * threads

    def fill(part: int) -> None:
        start, stop = part * m // threads, (part + 1) * m // threads
        filled[part] = product_of_slices(
            *rows,
            start,
            stop,
            (*of_rows, *plain),
            *right,
            out,
        )

    share_out(fill, threads, threads)
    return all(filled)
