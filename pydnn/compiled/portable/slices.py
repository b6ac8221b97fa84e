"""Numbers cut into slices, as `pydnn.numerics.portable.slices` specifies, and sums of products."""

from __future__ import annotations

import numpy as np

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import in_rows, is_plain, or_numpy, unwritten
from pydnn.records import FloatArray

__all__ = [
    "add_levels",
    "add_slices",
    "cut_block",
    "cut_columns",
    "cut_rows",
    "find_largest",
    "largest_of_columns",
    "largest_of_rows",
]

_MAGNITUDE = 2**63 - 1  # of the bits of a float, all but its sign


@kernel
def _bits_of_magnitude(x: float) -> np.int64:
    """Return the bits of |x|, which as whole numbers are in the order of magnitudes, then NaN."""
    return np.float64(x).view(np.int64) & _MAGNITUDE


@kernel
def largest_of_rows(lines: FloatArray, largest: FloatArray) -> None:
    """Fill `largest` (p,) with the largest magnitude of each row of `lines` (p, q), or NaN."""
    for i in range(lines.shape[0]):
        most = np.int64(0)
        for j in range(lines.shape[1]):
            most = max(most, _bits_of_magnitude(lines[i, j]))
        largest[i] = np.int64(most).view(np.float64)


@kernel
def largest_of_columns(lines: FloatArray, largest: FloatArray) -> None:
    """Fill `largest` (q,) with the largest magnitude of each column of `lines` (p, q), or NaN."""
    most = np.zeros(largest.size, np.int64)
    for i in range(lines.shape[0]):
        for j in range(lines.shape[1]):
            most[j] = max(most[j], _bits_of_magnitude(lines[i, j]))
    for j in range(largest.size):
        largest[j] = np.int64(most[j]).view(np.float64)


@kernel
def cut_rows(lines: FloatArray, shifts: FloatArray, finer: float, parts: FloatArray) -> None:
    """Fill `parts` (s, p, q) with the slices of `lines` (p, q), where each row has its shift.

    Args:
        lines: The numbers.
        shifts: The number (p,) whose addition rounds a row to the multiples of its first slice.
        finer: The factor from the shift of a slice to that of the next one.
        parts: The slices.
    """
    (p, q), s = lines.shape, len(parts)
    rest = np.empty(q)
    for i in range(p):
        shift = shifts[i]
        for j in range(q):
            rest[j] = lines[i, j]
        for part in range(s):
            for j in range(q):
                rounded = (rest[j] + shift) - shift
                parts[part, i, j] = rounded
                rest[j] = rest[j] - rounded
            shift *= finer


@kernel
def cut_columns(lines: FloatArray, shifts: FloatArray, finer: float, parts: FloatArray) -> None:
    """Do the same where each column of `lines` (p, q) has its shift (q,)."""
    (p, q), s = lines.shape, len(parts)
    rest, finest = np.empty(q), np.empty((s, q))
    for j in range(q):
        shift = shifts[j]
        for part in range(s):
            finest[part, j] = shift
            shift *= finer
    for i in range(p):
        for j in range(q):
            rest[j] = lines[i, j]
        for part in range(s):
            for j in range(q):
                rounded = (rest[j] + finest[part, j]) - finest[part, j]
                parts[part, i, j] = rounded
                rest[j] = rest[j] - rounded


@kernel
def add_levels(parts: FloatArray, s: int, m: int, out: FloatArray) -> None:
    """Fill `out` (m, n) with C = T[2] + (T[3] + (... + T[s + 1])), plus +0.0.

    Args:
        parts: The products of slices (s (s + 1) / 2 * m, n): those with the first slice of the
            right operand, one below the other, then those with its second slice, and so on.
        s: The number of slices.
        m: The number of rows of a product.
        out: The result.
    """
    n = out.shape[1]
    total = np.empty(n)
    level = np.empty(n)
    for i in range(m):
        for last in range(s - 1, -1, -1):  # T[last + 2]
            row = last * m + i
            for j in range(n):
                level[j] = parts[row, j]
            first = s * m
            for slice_of_right in range(1, last + 1):
                row = first + (last - slice_of_right) * m + i
                for j in range(n):
                    level[j] = level[j] + parts[row, j]
                first += (s - slice_of_right) * m
            if last == s - 1:
                for j in range(n):
                    total[j] = level[j]
            else:
                for j in range(n):
                    total[j] = level[j] + total[j]
        for j in range(n):
            out[i, j] = total[j] + 0.0


@or_numpy
def find_largest(lines: FloatArray, largest: FloatArray) -> bool:
    """Fill `largest` (lines,) with the largest magnitude of each line (lines, k), or NaN."""
    rows = in_rows(lines)
    if rows is None:
        return False
    numbers, turned = rows
    (largest_of_columns if turned else largest_of_rows)(numbers, largest)
    return True


@or_numpy
def cut_block(numbers: FloatArray, parts: FloatArray, shifts: FloatArray, finer: float) -> bool:
    """Fill `parts` (s, p, q) with the slices of `numbers` (p, q), by `shifts` (q,) or (p, 1)."""
    if not (numbers.flags.c_contiguous and is_plain(numbers) and parts.flags.c_contiguous):
        return False
    cut = cut_columns if shifts.ndim == 1 else cut_rows
    cut(unwritten(numbers), unwritten(shifts.reshape(-1)), finer, parts)
    return True


@or_numpy
def add_slices(parts: FloatArray, s: int, out: FloatArray) -> bool:
    """Fill `out` (m, n) with the sum of products of slices (s (s + 1) / 2, m, n)."""
    if not out.flags.c_contiguous:
        return False
    add_levels(unwritten(parts.reshape(-1, parts.shape[2])), s, parts.shape[1], out)
    return True
