"""Products, sums and means of a stack of trainings, each with the bits that it has alone.

A stack of matrices is an array (R, rows, columns), for R trainings. NumPy multiplies such a stack
in one call, which is fast, but the arithmetic may compute a single product in another way. So for
new shapes both are tried on a sample of numbers. The stack is computed in one call only if every
bit is the same; otherwise the arithmetic is called for each training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import AnyDType, FloatArray, freeze

__all__ = ["by_run", "gathered", "means", "norms", "products", "sums"]

# Multiplications. In larger products, the overhead of a call for each training does not matter.
_LARGE = 1 << 17
# Results that are compared bit for bit. Two orders of addition often give one equal result by
# chance, but not 64.
_COMPARED = 64


def by_run(stack: FloatArray) -> FloatArray:
    """Return a view with the first two axes swapped: (features, R, m) becomes (R, features, m)."""
    return stack.transpose(1, 0, 2)


def gathered(matrices: Sequence[FloatArray]) -> FloatArray:
    """Return matrices as one stack, which keeps their order in memory."""
    if matrices[0].flags.c_contiguous:
        return np.stack(matrices)
    return np.stack([matrix.T for matrix in matrices]).transpose(0, 2, 1)


def products(
    numerics: Numerics, a: FloatArray, b: FloatArray, *, out: FloatArray | None = None
) -> FloatArray:
    """Return the product of each matrix of `a` (R, p, q) with that of `b` (R, q, s)."""
    (_, p, q), s = a.shape, b.shape[2]
    if p * q * s < _LARGE and _same_products(numerics, p, q, s, _turned(a), _turned(b), a.dtype):
        product: FloatArray = np.matmul(a, b, out=out)
        return product
    if out is None:
        return gathered([numerics.matmul(left, right) for left, right in zip(a, b, strict=True)])
    for left, right, into in zip(a, b, out, strict=True):
        numerics.matmul(left, right, out=into)
    return out


def sums(numerics: Numerics, a: FloatArray, *, out: FloatArray) -> FloatArray:
    """Fill `out` (R, rows, 1) with the sum of each row of `a` (R, rows, m), and return it."""
    way = _way_to_sum(numerics, a.shape[1:], _turned(a), a.dtype)
    if way is not None:
        return way(a, out)
    for matrix, into in zip(a, out, strict=True):
        numerics.sum(matrix, axis=1, out=into)
    return out


def means(numerics: Numerics, a: FloatArray) -> FloatArray:
    """Return the mean (R,), in float64, of each matrix of `a` (R, rows, columns)."""
    if _same_means(numerics, a.shape[1:], a.dtype):
        return _means(a)
    return np.array([numerics.mean(matrix) for matrix in a])


@ignoring_underflow
def norms(numerics: Numerics, rows: FloatArray) -> FloatArray:
    """Return the Euclidean length (R,), in float64, of each row of `rows` (R, size)."""
    if _same_norms(numerics, rows.shape[1], rows.dtype):
        squares = _squares(rows)
        # Only far from the ends of the range, where an arithmetic may scale the numbers first.
        if ((squares > 1e-20) & (squares < 1e20)).all():
            return np.sqrt(squares)
    return np.array([numerics.norm(row) for row in rows])


# Whether both ways give the same bits depends only on shapes, order in memory and dtype, so each
# answer is remembered.


@functools.lru_cache(maxsize=1024)
def _same_products(
    numerics: Numerics, p: int, q: int, s: int, a_turned: bool, b_turned: bool, dtype: AnyDType
) -> bool:
    a, b = _sample("a", p * s, p, q, a_turned, dtype), _sample("b", p * s, q, s, b_turned, dtype)
    own = [numerics.matmul(left, right) for left, right in zip(a, b, strict=True)]
    into = [numerics.matmul(x, y, out=np.empty_like(z)) for x, y, z in zip(a, b, own, strict=True)]
    # A product in Fortran order would change the order in which later stages compute.
    plain = all(product.flags.c_contiguous for product in own)
    return plain and _same_bits(np.matmul(a, b), own) and _same_bits(np.stack(into), own)


def _by_ones(a: FloatArray, out: FloatArray) -> FloatArray:
    product: FloatArray = np.matmul(a, _ones(a.shape[2], a.dtype), out=out)
    return product


def _by_reduction(a: FloatArray, out: FloatArray) -> FloatArray:
    total: FloatArray = np.add.reduce(a, axis=2, keepdims=True, out=out)
    return total


@functools.lru_cache(maxsize=64)
def _ones(m: int, dtype: AnyDType) -> FloatArray:
    return freeze(np.ones((m, 1), dtype))


@functools.lru_cache(maxsize=1024)
def _way_to_sum(
    numerics: Numerics, shape: tuple[int, int], turned: bool, dtype: AnyDType
) -> Callable[[FloatArray, FloatArray], FloatArray] | None:
    a = _sample("sum", shape[0], *shape, turned, dtype)
    own = [numerics.sum(m, axis=1, out=np.empty((shape[0], 1), dtype)) for m in a]
    for way in (_by_ones, _by_reduction):
        if _same_bits(way(a, np.empty((len(a), shape[0], 1), dtype)), own):
            return way
    return None


def _means(a: FloatArray) -> FloatArray:
    rows = a.reshape(len(a), -1)
    total: FloatArray = np.add.reduce(rows, axis=1).astype(np.float64)
    return total / rows.shape[1]


@functools.lru_cache(maxsize=1024)
def _same_means(numerics: Numerics, shape: tuple[int, int], dtype: AnyDType) -> bool:
    a = _sample("mean", 1, *shape, False, dtype)
    return _same_bits(_means(a), [np.float64(numerics.mean(matrix)) for matrix in a])


def _squares(rows: FloatArray) -> FloatArray:
    products: FloatArray = np.matmul(rows[:, np.newaxis], rows[:, :, np.newaxis])
    return products.ravel().astype(np.float64)


@functools.lru_cache(maxsize=64)
def _same_norms(numerics: Numerics, size: int, dtype: AnyDType) -> bool:
    rows = _sample("norm", 1, 1, size, False, dtype)[:, 0]
    own = [np.float64(numerics.norm(row)) for row in rows]
    return _same_bits(np.sqrt(_squares(rows)), own)


def _sample(
    name: str, results: int, rows: int, columns: int, turned: bool, dtype: DTypeLike
) -> FloatArray:
    """Return random matrices between -1 and 1, enough of them to compare `_COMPARED` results.

    Args:
        name: The name in the key of the random numbers.
        results: The number of results that one matrix gives.
        rows: The number of rows of a matrix.
        columns: The number of columns of a matrix.
        turned: Whether the matrices are in Fortran order.
        dtype: The dtype of the numbers.
    """
    count = 2 + _COMPARED // max(results, 1)
    shape = (count, columns, rows) if turned else (count, rows, columns)
    drawn = Key(0).at("sweeps", name).uniform(shape, low=-1.0, high=1.0).astype(dtype)
    return drawn.transpose(0, 2, 1) if turned else drawn


def _turned(stack: FloatArray) -> bool:
    return stack.strides[1] < stack.strides[2]


def _same_bits(stack: FloatArray, own: Sequence[ArrayLike]) -> bool:
    return all(x.tobytes() == np.asarray(y).tobytes() for x, y in zip(stack, own, strict=True))
