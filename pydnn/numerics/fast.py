"""`fast`: BLAS and NumPy's own functions.

It repeats its bits on one machine with the same versions of libraries and number of BLAS threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from pydnn.numerics.fast_convolution import convolution
from pydnn.numerics.groups import sum_groups
from pydnn.numerics.interface import Numerics
from pydnn.numerics.memory import empty, room_for
from pydnn.numerics.polynomials import ratio
from pydnn.numerics.small_products import (
    LITTLE_WORK,
    MOST_ROWS,
    ONE_THREADS_WORK,
    matmul_in_pieces,
)
from pydnn.numerics.stacked_products import in_one_product
from pydnn.records import AnyDType, FloatArray, freeze, scalar

__all__ = [
    "ERFC_MIDDLE",
    "ERF_IS_ONE",
    "ERF_SMALL",
    "FEW_COLUMNS",
    "MANY",
    "SMALL",
    "TINY",
    "error_function",
    "fast",
]

# Numbers of an operand. Below the first, the overhead of a call matters; from the second on, the
# time to read the operand from memory does.
SMALL, MANY = 10_000, 1_000_000
_SHORT_SUM = 64  # terms of a product in a stack below which the stack is copied into one product
_PANEL, _ROWS_OF_A_BLOCK = 32, 256  # LAPACK decomposes blocks of this size in one thread
_UNROLLED = 128  # contiguous numbers that NumPy adds without halving them
_NUMBERS_OF_ROWS = 1 << 20  # numbers of a matrix that are in memory while its rows are added
TINY, FEW_COLUMNS = 4096, 128  # numbers and columns up to which a product with ones sums faster


def _matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    if a.ndim > 2 or b.ndim > 2:
        stacked: FloatArray = np.matmul(a, b, out)
        return stacked
    if b.size < SMALL and a.size < SMALL:
        return a.dot(b, out)  # the same product as np.matmul, with half of its overhead
    few = len(a) <= MOST_ROWS
    if few and b.size >= MANY:
        return _by_reading_b(a, b, out)
    if out is None:
        out = empty((len(a), b.shape[1]), a.dtype)
    return matmul_in_pieces(a, b, out) if few else np.matmul(a, b, out)


def _summed_matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    if a.shape[2] < _SHORT_SUM:  # each product is too small for BLAS to be fast
        a, b = (x[np.newaxis] for x in in_one_product(a, b))
    out = np.empty((a.shape[1], b.shape[2]), a.dtype) if out is None else out
    room = np.empty_like(out)
    target = out
    for left, right in zip(a, b, strict=True):
        for part in _terms(left, right):
            np.matmul(left[:, part], right[part], target)
            if target is room:
                out += room
            target = room
    return out


def _terms(left: FloatArray, right: FloatArray) -> Iterator[slice]:
    """Yield slices of the terms of a product, so few that BLAS uses one thread for each slice.

    A product with many terms and few results has few columns to share out among pieces of one
    thread. With a piece of 3 columns, 64 x 2048 by 2048 x 64 took six times as long.
    """
    terms, of_a_term = len(right), len(left) * right.shape[1]
    few = ONE_THREADS_WORK < terms * of_a_term <= LITTLE_WORK
    step = max(_SHORT_SUM, ONE_THREADS_WORK // max(1, of_a_term)) if few else max(1, terms)
    for start in range(0, max(1, terms), step):
        yield slice(start, start + step)


def _by_reading_b(a: FloatArray, b: FloatArray, out: FloatArray | None) -> FloatArray:
    # A product with few rows takes as long as reading b, the examples, from memory. Measured on two
    # cores for the tutorial's first layer, with one example after the other in memory. W X, (20,
    # 12288) by (12288, 209): 1.77 ms as written, 1.54 ms transposed, which reads X in its order.
    # dZ X^T, (20, 209) by (209, 12288): 1.40 ms as written, 1.30 ms with dZ in Fortran order.
    if out is None and b.flags.f_contiguous:
        out = empty((b.shape[1], len(a)), a.dtype).T
        np.matmul(b.T, a.T, out.T)
        return out
    a = np.asfortranarray(a) if 100 * len(a) < b.shape[1] else a
    return np.matmul(a, b, empty((len(a), b.shape[1]), a.dtype) if out is None else out)


@functools.lru_cache(maxsize=64)
def _ones(m: int, dtype: AnyDType) -> FloatArray:
    return freeze(np.ones((m, 1), dtype))


def _sum(
    a: FloatArray, /, *, axis: int | tuple[int, ...], out: FloatArray | None = None
) -> FloatArray:
    if a.size < TINY and axis == 1 and a.ndim == 2 and a.shape[1] <= FEW_COLUMNS:
        # A product with ones takes half the time of np.add.reduce. With more columns it would be
        # less precise, since NumPy adds long rows pairwise.
        return a.dot(_ones(a.shape[1], a.dtype), out)
    total: FloatArray = np.add.reduce(a, axis=axis, keepdims=True, out=out)
    return total


def _sum_rows(count: int, rows: Callable[[int, int], FloatArray], /) -> FloatArray:
    some = rows(0, min(2, count))
    columns, flags = some.shape[1], some.flags
    if columns == 1 or not flags.c_contiguous:
        return _sum_contiguous(0, count, rows, max(_UNROLLED, _NUMBERS_OF_ROWS // columns))
    # NumPy adds one row after the other to the sum, so the sum of some rows is continued as a row.
    size = max(1, _NUMBERS_OF_ROWS // columns)
    total = np.add.reduce(rows(0, min(size, count)), axis=0, keepdims=True)
    for start in range(size, count, size):
        more = np.concatenate([total, rows(start, min(start + size, count))])
        total = np.add.reduce(more, axis=0, keepdims=True)
    return total


def _sum_contiguous(
    start: int, count: int, rows: Callable[[int, int], FloatArray], most: int
) -> FloatArray:
    """The sum of rows whose columns are contiguous, of which `most` are in memory at a time.

    NumPy adds contiguous numbers in pairs of halves, whose lengths it rounds to multiples of 8,
    down to 128 numbers. A half is such a sum itself, so it can be summed alone.
    """
    if count <= most:
        return _sum(rows(start, start + count), axis=0)
    half = count // 2 - count // 2 % 8
    first = _sum_contiguous(start, half, rows, most)
    return first + _sum_contiguous(start + half, count - half, rows, most)


def _mean(a: FloatArray) -> float:
    return float(np.add.reduce(a, axis=None)) / a.size


def _norm(vector: FloatArray) -> float:
    try:
        square = float(vector.dot(vector))
    except FloatingPointError:  # the caller turned overflow or underflow into errors
        square = 0.0
    if 1e-30 < square < math.inf:
        return math.sqrt(square)
    # The squares reached the ends of the range of floats, although the entries may lie well inside.
    scale = float(np.max(np.abs(vector), initial=0.0))
    if not 0.0 < scale < math.inf:
        return scale
    with np.errstate(under="ignore"):
        shrunk = vector / vector.dtype.type(scale)
        return scale * math.sqrt(float(np.dot(shrunk, shrunk)))


def _positive_part(Z: FloatArray) -> FloatArray:
    room = room_for(Z)
    A: FloatArray
    if room is None:
        A = np.maximum(Z, scalar(0, Z.dtype))
    else:
        # A row of zeros, since NumPy takes up to twice as long with a single number.
        A = np.maximum(Z, _zeros(Z.shape[1:], Z.dtype), out=room)
    return A


@functools.lru_cache(maxsize=64)
def _zeros(shape: tuple[int, ...], dtype: AnyDType) -> FloatArray:
    return freeze(np.zeros(shape, dtype))


def _logistic(Z: FloatArray) -> FloatArray:
    e = np.exp(-np.abs(Z))
    A: FloatArray = np.where(Z >= 0, 1, e) / (1 + e)
    return A


_GATED = 1 << 14  # numbers of a block of rows, few enough to stay in cache


def _gates(Z: FloatArray, sigmoids: int, /, *, out: FloatArray | None = None) -> FloatArray:
    # tanh(x) = 2 / (1 + exp(-2 x)) - 1. NumPy's tanh in float64 takes nearly three times as long as
    # exp on processors without AVX-512. Where exp overflows, 1 / exp is 0 beside 1.
    if out is None:
        out = np.empty_like(Z)
    one = scalar(1, Z.dtype)
    rows = max(1, _GATED // max(1, Z.shape[1]))
    with np.errstate(over="ignore", under="ignore"):
        for first, last, size in ((0, sigmoids, 1.0), (sigmoids, len(Z), 2.0)):
            for start in range(first, last, rows):
                stop = min(start + rows, last)
                y = out[start:stop]
                np.multiply(Z[start:stop], scalar(-size, Z.dtype), y)
                np.exp(y, y)
                np.add(y, one, y)
                np.divide(scalar(size, Z.dtype), y, y)
                if size == 2.0:
                    np.subtract(y, one, y)
    return out


# Cody's rational approximations of erf near 0 and of erfc further out; constant terms come first.
ERF_SMALL = (
    (3.20937758913846947e03, 3.77485237685302021e02, 1.13864154151050156e02,
     3.16112374387056560e00, 1.85777706184603153e-1),
    (2.84423683343917062e03, 1.28261652607737228e03, 2.44024637934444173e02,
     2.36012909523441209e01, 1.0),
)  # fmt: skip
ERFC_MIDDLE = (
    (1.23033935479799725e03, 2.05107837782607147e03, 1.71204761263407058e03,
     8.81952221241769090e02, 2.98635138197400131e02, 6.61191906371416295e01,
     8.88314979438837594e00, 5.64188496988670089e-1, 2.15311535474403846e-8),
    (1.23033935480374942e03, 3.43936767414372164e03, 4.36261909014324716e03,
     3.29079923573345963e03, 1.62138957456669019e03, 5.37181101862009858e02,
     1.17693950891312499e02, 1.57449261107098347e01, 1.0),
)  # fmt: skip
ERF_IS_ONE = 6.0  # from 5.93 on, in float64


def error_function(x: FloatArray, exp: Callable[[FloatArray], FloatArray] = np.exp) -> FloatArray:
    """Return erf of each number, with an error of about 2e-16.

    Args:
        x: Numbers, in an array of any shape.
        exp: The exponential function to use.

    References:
        Cody, Rational Chebyshev approximations for the error function, 1969.
    """
    a = np.minimum(np.abs(x), ERF_IS_ONE)
    small = a <= 0.46875
    near = np.where(small, a, 0)
    far = np.where(small, 1, a)
    inner = near * ratio(ERF_SMALL, near * near)
    outer = 1 - exp(-far * far) * ratio(ERFC_MIDDLE, far)
    y: FloatArray = np.copysign(np.where(small, inner, outer), x)
    return y


def _orthonormal_basis(columns: FloatArray) -> FloatArray:
    """Return Q of a QR decomposition, computed panel by panel from left to right.

    The components along earlier columns are subtracted from each panel. This is done twice,
    because rounding leaves a part of them the first time. Nearly all of the work is in a few
    large products, while LAPACK's own decomposition gives two threads a thousand small ones.
    For the photos, 12,288 x 229, this takes 0.16 s and LAPACK 0.19 s on two idle cores. If other
    processes keep one and a half of the cores busy, it takes 1.3 s and LAPACK 2.9 s.

    References:
        Barlow and Smoktunowicz, Reorthogonalized block classical Gram-Schmidt, 2013.
    """
    n, k = columns.shape
    Q = np.empty((n, k), order="F")
    for start in range(0, k, _PANEL):
        before, left = Q[:, :start], columns[:, start : start + _PANEL]
        for _ in range(2):
            left = left - before @ (before.T @ left)
        Q[:, start : start + _PANEL] = _decomposed(left)
    # A column that depends on others leaves only rounding errors, which may not be orthogonal.
    if np.abs(Q.T @ Q - np.eye(k)).max(initial=0.0) > 1e-13:
        return np.linalg.qr(columns)[0]
    return Q


def _decomposed(panel: FloatArray) -> FloatArray:
    """Return Q of a panel (n, k): decompose blocks of rows, then the stack of their factors R.

    References:
        Demmel, Grigori, Hoemmen and Langou, Communication-optimal parallel and sequential QR and
        LU factorizations, 2012, section 3.
    """
    n, k = panel.shape
    if n <= 2 * _ROWS_OF_A_BLOCK:
        return np.linalg.qr(panel)[0]
    count = -(-n // _ROWS_OF_A_BLOCK)
    rows = -(-n // count)
    blocks = np.zeros((count * rows, k))
    blocks[:n] = panel
    Q, R = np.linalg.qr(blocks.reshape(count, rows, k))
    turns = _decomposed(R.reshape(count * k, k)).reshape(count, k, k)
    product: FloatArray = np.matmul(Q, turns).reshape(count * rows, k)[:n]
    return product


fast = Numerics(
    name="fast",
    matmul=_matmul,
    summed_matmul=_summed_matmul,
    sum=_sum,
    sum_rows=_sum_rows,
    sum_groups=sum_groups,
    convolution=convolution,
    mean=_mean,
    norm=_norm,
    exp=np.exp,
    expm1=np.expm1,
    log=np.log,
    log1p=np.log1p,
    tanh=np.tanh,
    logistic=_logistic,
    gates=_gates,
    erf=error_function,
    positive_part=_positive_part,
    power=math.pow,
    cosine=math.cos,
    orthonormal_basis=_orthonormal_basis,
)
