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
from pydnn.compiled.portable.forms import in_rows, is_plain, or_numpy, unwritten
from pydnn.records import FloatArray

__all__ = [
    "narrowed",
    "nearest_sum",
    "product_in_order",
    "settle",
    "settled",
    "small_product",
    "two_sum",
    "widen_columns",
    "widen_rows",
    "widened",
]

_ULP = 2.0**-53
_FEW = 256  # uncertain entries, which hardly any product has
_NO_PLACES = np.empty(0, np.int64)
_SMALL = 1 << 15  # multiplications; BLAS is faster for more
_AT_ONCE = 32  # sums that a loop adds to in turn, so that no addition waits for the one before it


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
    high = low = left_out = 0.0
    for term in range(left.shape[0] if left_turned else left.shape[1]):
        number = left[term, i] if left_turned else left[i, term]
        other = right[term, j] if right_turned else right[j, term]
        high, error = two_sum(high, number * other)
        low, missed = two_sum(low, error)
        left_out += abs(missed)
    high, low = two_sum(high, low)
    left_out *= 1.0625  # a sixteenth more, since the bound is a rounded sum itself
    result = narrowed(high, low - left_out)
    sure = result == narrowed(high, low + left_out)
    sure = sure and (left_out == 0.0 or left_out <= abs(high) * 2.0**-55)
    return result + np.float32(0.0), sure


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
    places: NDArray[np.int64],
    out: FloatArray,
) -> int:
    """Fill `out` (m, n) with the nearest float32 numbers, and return how many are uncertain.

    Args:
        product: Rounded dot products (m, n), float64.
        additions: The largest number of additions that a term of `product` went through.
        left: The rows (m, k) of the left operand in float64; (k, m) if `left_turned`.
        left_turned: Whether `left` holds one term of every row in each of its rows.
        left_lengths: The Euclidean length of each row (m,).
        right: The columns (n, k) of the right operand in float64; (k, n) if `right_turned`.
        right_turned: Whether `right` holds one term of every column in each of its rows.
        right_lengths: The Euclidean length of each column (n,).
        places: Room for places in `out`; it begins with those of the uncertain entries.
        out: The result, float32.
    """
    m, n = product.shape
    lower, uncertain = np.empty(n, np.float32), 0
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
                    out[i, j] = nearest
                    if not sure:
                        if uncertain < places.size:
                            places[uncertain] = i * n + j
                        uncertain += 1
    return uncertain


@kernel
def widen_rows(numbers: FloatArray, wide: FloatArray, lengths: FloatArray) -> None:
    """Fill `wide` (p, q) with float32 `numbers` in float64, and `lengths` (p,) with those of rows.

    The bits of a length do not matter, so its squares are added in an order that is fast.
    """
    p, q = numbers.shape
    sums, whole = np.empty(_AT_ONCE), q - q % _AT_ONCE
    for i in range(p):
        for j in range(q):
            wide[i, j] = np.float64(numbers[i, j])
        sums[:] = 0.0
        for start in range(0, whole, _AT_ONCE):
            some = wide[i, start : start + _AT_ONCE]
            for j in range(_AT_ONCE):
                sums[j] = sums[j] + some[j] * some[j]
        total = 0.0
        for j in range(whole, q):
            total += wide[i, j] * wide[i, j]
        if whole:
            for j in range(_AT_ONCE):
                total += sums[j]
        lengths[i] = math.sqrt(total)


@kernel
def widen_columns(numbers: FloatArray, wide: FloatArray, lengths: FloatArray) -> None:
    """Fill `wide` (p, q) with float32 `numbers` in float64, and `lengths` (q,) of columns."""
    lengths[:] = 0.0
    for i in range(len(numbers)):
        for j in range(numbers.shape[1]):
            wide[i, j] = np.float64(numbers[i, j])
        for j in range(numbers.shape[1]):
            lengths[j] = lengths[j] + wide[i, j] * wide[i, j]
    for j in range(lengths.size):
        lengths[j] = math.sqrt(lengths[j])


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
    places: NDArray[np.int64],
    out: FloatArray,
) -> int:
    """Fill `out` (m, n) with the product of small matrices a (m, k) and b (k, n).

    Args:
        a: The left operand; (k, m) if `a_turned`.
        a_turned: Whether `a` is transposed.
        b: The right operand; (n, k) if `b_turned`.
        b_turned: Whether `b` is transposed.
        places: Room for places in `out`; it begins with those of the uncertain entries.
        out: The product, float32.

    Returns:
        The number of uncertain entries; -1 if a number is not finite, and `out` is not filled.
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
        return -1
    product = np.empty((m, n))
    product_in_order(left, right, product)
    return settle(product, k, left, False, left_lengths, right, True, right_lengths, places, out)


@or_numpy
def small_product(a: FloatArray, b: FloatArray, out: FloatArray) -> bool:
    """Fill `out` (m, n) with the product of float32 matrices a (m, k) and b (k, n), if small."""
    if a.size * b.shape[1] > _SMALL:
        return False
    left, right = in_rows(a), in_rows(b)
    if left is None or right is None or not (out.flags.c_contiguous and is_plain(a)):
        return False
    return nearest_product(*left, *right, _NO_PLACES, out) == 0


@or_numpy
def widened(lines: FloatArray, wide: FloatArray, lengths: FloatArray) -> bool:
    """Fill `wide`, in the memory order of float32 `lines` (n, k), and `lengths` (n,)."""
    rows = in_rows(lines)
    if rows is None or lines.dtype.char != "f" or not lines.dtype.isnative:
        return False
    numbers, turned = rows
    if turned:
        widen_columns(numbers, wide.T, lengths)
    else:
        widen_rows(numbers, wide, lengths)
    return True


@or_numpy
def settled(
    product: FloatArray,
    additions: int,
    left: tuple[FloatArray, FloatArray],
    right: tuple[FloatArray, FloatArray],
    doubtful: list[NDArray[np.int64]],
    out: FloatArray,
) -> bool:
    """Fill `out` (m, n) with the nearest float32 numbers, but for places added to `doubtful`.

    Args:
        product: Rounded dot products (m, n), float64.
        additions: The largest number of additions that a term of `product` went through.
        left: The rows (m, k) of the left operand in float64, and their lengths.
        right: The columns (n, k) of the right operand in float64, and their lengths.
        doubtful: A list to which the uncertain places are added.
        out: The result, float32.
    """
    rows, columns = in_rows(left[0]), in_rows(right[0])
    if rows is None or columns is None or not out.flags.c_contiguous:
        return False
    places = np.empty(_FEW, np.int64)
    while True:
        operands = (*rows, unwritten(left[1]), *columns, unwritten(right[1]))
        count = settle(unwritten(product), additions, *operands, places, out)
        if count <= places.size:
            break
        places = np.empty(count, np.int64)
    if count:
        doubtful.append(places[:count])
    return True
