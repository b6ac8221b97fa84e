"""Products of float32 matrices: each entry is the float32 nearest to the true dot product.

Specification: that of `pydnn.numerics.portable.nearest`. Terms are exact in float64. A rounded sum
of k terms and a bound of its error decide nearly all entries; `nearest_sum` settles the others,
with a sum of twice the precision and a bound of what that leaves out. Which entries need it depends
on the order of additions, but no result does. The few that need a sum without any error are left to
the NumPy form.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import in_rows, or_numpy
from pydnn.compiled.portable.tiles import (
    LINES,
    WIDE,
    fill_lengths,
    multiply_block,
    pack_in_blocks,
    set_nearest,
    terms_of_a_block,
)
from pydnn.numerics.blas_threads import blas_threads
from pydnn.numerics.portable.cache import kept
from pydnn.numerics.portable.workspace import floats
from pydnn.numerics.threads import share_out, worker_threads
from pydnn.records import FloatArray

__all__ = [
    "has_terms",
    "large_product",
    "narrowed",
    "nearest_of_parts",
    "nearest_product",
    "nearest_rows",
    "nearest_sum",
    "pack_columns",
    "product_in_order",
    "round_tile",
    "settle",
    "small_product",
    "threads_for",
    "two_sum",
]

_ULP = 2.0**-53
_FEW = 256  # uncertain entries, which hardly any product has
_SMALL = 1 << 15  # multiplications; BLAS is faster for more
_PACKED = 1 << 15  # numbers of packed rows, which stay in the second cache
_WORTH_A_THREAD = 1 << 23  # multiplications; another thread needs about 0.1 ms to begin


@kernel
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum and its exact rounding error. Knuth, 1969, 4.2.2, theorem B."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@kernel
def narrowed(high: float, low: float) -> np.float32:
    """Return the float32 nearest to high + low, where low is less than an ulp of high."""
    # To odd first: if low is not 0, the last bit of high becomes 1, so high is never a tie.
    bits = np.float64(high).view(np.int64)
    if low != 0.0 and bits & 1 == 0:
        bits += 1 if (low > 0.0) == (high > 0.0) else -1
    return np.float32(np.int64(bits).view(np.float64))


@kernel
def has_terms(
    left: FloatArray, left_turned: bool, i: int, right: FloatArray, right_turned: bool, j: int
) -> bool:
    """Return whether a dot product has a term other than 0; see `nearest_sum`.

    In data with many zeros many have none. This is much faster than to add them up.
    """
    found = False
    if left_turned or right_turned:
        for term in range(left.shape[0] if left_turned else left.shape[1]):
            number = left[term, i] if left_turned else left[i, term]
            other = right[term, j] if right_turned else right[j, term]
            found |= (number != 0.0) & (other != 0.0)
    else:
        line, column = left[i], right[j]
        for term in range(line.size):
            found |= (line[term] != 0.0) & (column[term] != 0.0)
    return found


@kernel
def nearest_of_parts(high: float, low: float, left_out: float) -> tuple[np.float32, bool]:
    """Return the float32 nearest to high + low, and whether `left_out` more may not change it."""
    high, low = two_sum(high, low)
    left_out *= 1.0625  # a sixteenth more, since the bound is a rounded sum itself
    result = narrowed(high, low - left_out)
    sure = result == narrowed(high, low + left_out)
    sure = sure and left_out <= abs(high) * 2.0**-55
    return result + np.float32(0.0), sure


@kernel
def nearest_sum(
    left: FloatArray, left_turned: bool, i: int, right: FloatArray, right_turned: bool, j: int
) -> tuple[np.float32, bool]:
    """Return the float32 nearest to a true dot product, and whether that is certain.

    Args:
        left: The rows (m, k) of the left operand in float64; (k, m) if `left_turned`.
        left_turned: Whether `left` holds one term of every row in each of its rows.
        i: The row.
        right: The columns (n, k) of the right operand in float64; (k, n) if `right_turned`.
        right_turned: Whether `right` holds one term of every column in each of its rows.
        j: The column.
    """
    if not has_terms(left, left_turned, i, right, right_turned, j):
        return np.float32(0.0), True
    high = low = left_out = 0.0
    for term in range(left.shape[0] if left_turned else left.shape[1]):
        number = np.float64(left[term, i] if left_turned else left[i, term])
        other = np.float64(right[term, j] if right_turned else right[j, term])
        high, error = two_sum(high, number * other)
        low, missed = two_sum(low, error)
        left_out += abs(missed)
    return nearest_of_parts(high, low, left_out)


@kernel
def settle(
    product: FloatArray,
    additions: int,
    left: FloatArray,
    left_turned: bool,
    left_lengths: FloatArray,
    right: FloatArray,
    right_turned: bool,
    right_lengths: FloatArray,
    out: FloatArray,
) -> bool:
    """Fill `out` (m, n) with the nearest float32 numbers, and return whether all are certain.

    Args:
        product: Rounded dot products (m, n), float64.
        additions: The largest number of additions that a term of `product` went through.
        left: The rows (m, k) of the left operand in float64; (k, m) if `left_turned`.
        left_turned: Whether `left` holds one term of every row in each of its rows.
        left_lengths: The Euclidean length of each row (m,).
        right: The columns (n, k) of the right operand in float64; (k, n) if `right_turned`.
        right_turned: Whether `right` holds one term of every column in each of its rows.
        right_lengths: The Euclidean length of each column (n,).
        out: The result, float32.
    """
    m, n = product.shape
    lower = np.empty(n, np.float32)
    for i in range(m):
        # Eight more ulps than the proof needs, since the bound is rounded itself.
        row = left_lengths[i] * ((additions + 8) * _ULP)
        for j in range(n):
            lower[j] = np.float32(product[i, j] - row * right_lengths[j])
        for j in range(n):
            out[i, j] = np.float32(product[i, j] + row * right_lengths[j])
        doubts = 0
        for j in range(n):
            doubts += lower[j] != out[i, j]
        for j in range(n):
            out[i, j] += np.float32(0.0)
        if doubts:
            for j in range(n):
                if lower[j] != out[i, j]:
                    nearest, sure = nearest_sum(left, left_turned, i, right, right_turned, j)
                    if not sure:
                        return False
                    out[i, j] = nearest
    return True


@kernel
def pack_columns(
    columns: FloatArray,
    turned: bool,
    start: int,
    stop: int,
    packed: FloatArray,
    lengths: FloatArray,
) -> bool:
    """Pack columns for tiles, and return whether all their numbers are finite.

    Args:
        columns: The columns (n, k); (k, n) if `turned`.
        turned: Whether `columns` is transposed.
        start: The first group of `WIDE` columns.
        stop: The group after the last one.
        packed: All packed columns, group after group.
        lengths: The Euclidean lengths of all of them.
    """
    n, k = (columns.shape[1], columns.shape[0]) if turned else columns.shape
    total = 0.0
    for group in range(start, stop):
        first, last = group * WIDE, (group + 1) * WIDE
        some = packed[first * k : last * k]
        pack_in_blocks(columns, turned, first, min(last, n), some)
        fill_lengths(some, k, lengths[first:last])
        for j in range(first, last):
            total += lengths[j]
    return total < math.inf


@kernel
def nearest_rows(
    rows: FloatArray,
    rows_turned: bool,
    start: int,
    stop: int,
    columns: FloatArray,
    columns_turned: bool,
    packed: FloatArray,
    column_lengths: FloatArray,
    places: NDArray[np.int64],
    out: FloatArray,
) -> int:
    """Fill rows of `out` (m, n), those from `start` to before `stop`, tile by tile.

    Args:
        rows: The rows (m, k) of the left operand; (k, m) if `rows_turned`.
        rows_turned: Whether `rows` is transposed.
        start: The first row.
        stop: The row after the last one.
        columns: The columns (n, k) of the right operand; (k, n) if `columns_turned`.
        columns_turned: Whether `columns` is transposed.
        packed: The packed columns.
        column_lengths: Their lengths.
        places: Room for places in `out`; it begins with those of the uncertain entries.
        out: The result, float32.

    Returns:
        The number of uncertain entries; -1 if a number in the rows is not finite.
    """
    n, k = out.shape[1], packed.size // column_lengths.size
    at_once = max(LINES, min(max(_PACKED // k, 4 * LINES), 32 * LINES) // LINES * LINES)
    left, bounds, product = np.empty(at_once * k), np.empty(at_once), np.zeros(at_once * WIDE)
    edge, size = np.empty(LINES * WIDE, np.float32), terms_of_a_block(k)
    # A term goes through the additions of its block, and then through one for each block. Eight
    # more ulps than the proof needs, since the bound is rounded itself.
    unit = (size + (k + size - 1) // size + 8) * _ULP
    uncertain = 0
    for top in range(start, stop, at_once):
        bottom = min(top + at_once, stop)
        pack_in_blocks(rows, rows_turned, top, bottom, left)
        fill_lengths(left, k, bounds)
        total = 0.0
        for i in range(at_once):
            total += bounds[i]
            bounds[i] *= unit
        if not total < math.inf:
            return -1
        for column in range(0, n, WIDE):
            multiply_block(
                left,
                0,
                at_once,
                bottom - top,
                packed,
                column * k,
                n - column,
                k,
                0,
                k,
                product,
                0,
            )
            for row in range(top, bottom, LINES):
                if not round_tile(
                    product, bounds, top, row, bottom, column_lengths, column, edge, out
                ):
                    continue
                for i in range(row, min(row + LINES, bottom)):
                    for j in range(column, min(column + WIDE, n)):
                        total = product[(i - top) * WIDE + j - column]
                        bound = bounds[i - top] * column_lengths[j]
                        if np.float32(total - bound) == np.float32(total + bound):
                            continue
                        nearest, sure = nearest_sum(
                            rows, rows_turned, i, columns, columns_turned, j
                        )
                        out[i, j] = nearest
                        if not sure:
                            if uncertain < places.size:
                                places[uncertain] = i * n + j
                            uncertain += 1
    return uncertain


@kernel
def round_tile(
    product: FloatArray,
    bounds: FloatArray,
    top: int,
    row: int,
    bottom: int,
    lengths: FloatArray,
    column: int,
    edge: FloatArray,
    out: FloatArray,
) -> bool:
    """Round a tile into `out`, and return whether an entry is in doubt.

    Args:
        product: Rounded dot products, `WIDE` for each row of `out` from `top` to before `bottom`.
        bounds: The factors of these rows in the bounds of errors.
        top: The first row of `product`.
        row: The first row of the tile.
        bottom: The row before which `product` ends.
        lengths: The lengths of all columns.
        column: The first column of the tile.
        edge: Room for a tile, float32.
        out: The result (m, n), float32.
    """
    n, here = out.shape[1], row - top
    height, width = min(LINES, bottom - row), min(WIDE, n - column)
    if height == LINES and width == WIDE:
        start = row * n + column
        whole: bool = set_nearest(product, bounds, here, lengths, column, out, start, n)
        return whole
    doubt: bool = set_nearest(product, bounds, here, lengths, column, edge, 0, WIDE)
    for i in range(height):
        for j in range(width):
            out[row + i, column + j] = edge[i * WIDE + j]
    return doubt


@kernel
def product_in_order(left: FloatArray, right: FloatArray, product: FloatArray) -> None:
    """Fill `product` (m, n) with the rounded product of `left` (m, k) and `right` (k, n).

    It is for products so small that a call of BLAS takes longer than the multiplications.
    """
    (m, k), n = left.shape, right.shape[1]
    fours = k - k % 4
    for i in range(m):
        for j in range(n):
            product[i, j] = 0.0
        for term in range(0, fours, 4):  # four at a time, since a sum is read and written each time
            w, x = left[i, term], left[i, term + 1]
            y, z = left[i, term + 2], left[i, term + 3]
            for j in range(n):
                total = product[i, j] + w * right[term, j] + x * right[term + 1, j]
                product[i, j] = total + y * right[term + 2, j] + z * right[term + 3, j]
        for term in range(fours, k):
            w = left[i, term]
            for j in range(n):
                product[i, j] = product[i, j] + w * right[term, j]


@kernel
def nearest_product(
    a: FloatArray,
    a_turned: bool,
    b: FloatArray,
    b_turned: bool,
    out: FloatArray,
) -> bool:
    """Fill `out` (m, n) with the product of small matrices, and return whether all is certain.

    Args:
        a: The left operand; (k, m) if `a_turned`.
        a_turned: Whether `a` is transposed.
        b: The right operand; (n, k) if `b_turned`.
        b_turned: Whether `b` is transposed.
        out: The product, float32.
    """
    (m, n), k = out.shape, (a.shape[0] if a_turned else a.shape[1])
    left, left_lengths = np.empty((m, k)), np.zeros(m)
    right, right_lengths = np.empty((k, n)), np.zeros(n)
    for i in range(m):
        total = 0.0
        for term in range(k):
            number = np.float64(a[term, i] if a_turned else a[i, term])
            left[i, term] = number
            total += number * number
        left_lengths[i] = math.sqrt(total)
    for term in range(k):
        if b_turned:
            for j in range(n):
                right[term, j] = np.float64(b[j, term])
        else:
            for j in range(n):
                right[term, j] = np.float64(b[term, j])
        for j in range(n):
            right_lengths[j] = right_lengths[j] + right[term, j] * right[term, j]
    total = 0.0
    for i in range(m):
        total += left_lengths[i]
    for j in range(n):
        right_lengths[j] = math.sqrt(right_lengths[j])
        total += right_lengths[j]
    if not total < math.inf:
        return False
    product = np.empty((m, n))
    product_in_order(left, right, product)
    return settle(product, k, left, False, left_lengths, right, True, right_lengths, out)


@or_numpy
def small_product(a: FloatArray, b: FloatArray, out: FloatArray) -> bool:
    """Fill `out` (m, n) with the product of float32 matrices a (m, k) and b (k, n), if small."""
    if a.size * b.shape[1] > _SMALL:
        return False
    left, right = in_rows(a), in_rows(b)
    if left is None or right is None or not out.flags.c_contiguous:
        return False
    return nearest_product(*left, *right, out)


@or_numpy
def large_product(
    a: FloatArray, b: FloatArray, uncertain: list[tuple[int, int]], out: FloatArray
) -> bool:
    """Fill `out` (m, n) with the product of float32 matrices a (m, k) and b (k, n).

    Args:
        a: The left operand.
        b: The right operand.
        uncertain: A list to which the places of entries are added that need an exact sum.
        out: The product.
    """
    rows, columns = in_rows(a), in_rows(b.T)
    (m, k), n = a.shape, b.shape[1]
    if rows is None or columns is None or not (k and out.flags.c_contiguous):
        return False
    threads = threads_for(m * k * n)
    right = kept("packed", b, lambda into: _packed(*columns, threads, into))
    if right is None:
        return False
    places = np.empty((threads, _FEW), np.int64)
    counts = [0] * threads

    def fill(part: int) -> None:
        some = part * m // threads, (part + 1) * m // threads
        counts[part] = nearest_rows(*rows, *some, *columns, *right, places[part], out)

    share_out(fill, threads, threads)
    if not all([0 <= count <= _FEW for count in counts]):
        return False
    for count, some in zip(counts, places, strict=True):
        if count:
            uncertain += [divmod(place, n) for place in some[:count].tolist()]
    return True


def _packed(
    columns: FloatArray, turned: bool, threads: int, into: str | None
) -> tuple[FloatArray, FloatArray] | None:
    """Return packed columns and their lengths; None if a number is not finite."""
    n, k = columns.shape[::-1] if turned else columns.shape
    groups = -(-n // WIDE)
    size, count = groups * WIDE * k, groups * WIDE
    if into is None:
        packed, lengths = np.empty(size), np.empty(count)
    else:
        packed, lengths = floats("packed", size), floats("packed lengths", count)
    finite = [False] * threads

    def fill(part: int) -> None:
        some = part * groups // threads, (part + 1) * groups // threads
        finite[part] = pack_columns(columns, turned, *some, packed, lengths)

    share_out(fill, threads, threads)
    return (packed, lengths) if all(finite) else None


def threads_for(multiplications: int) -> int:
    """Return how many threads share a product: as many as BLAS would use."""
    if multiplications < _WORTH_A_THREAD:
        return 1
    return min(worker_threads(), blas_threads() or worker_threads())
