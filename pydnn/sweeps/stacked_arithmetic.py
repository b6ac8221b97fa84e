"""Products, sums and means of many runs at once, each with the bits that it has by itself.

A stack of matrices is an array (runs, rows, columns). NumPy multiplies such a stack in one call,
with the same product of BLAS for each; but an arithmetic has ways of its own, chosen by size.
So it is asked: for shapes that are new, both are computed of some numbers, and the stack's way
is only taken where every bit is the same. Elsewhere the arithmetic's own is called run by run.
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

# Multiplications of one product from which on a call for each run costs little beside them.
_LARGE = 1 << 17
# Numbers of which all bits are compared. Two ways to add up often give the same number by chance,
# but not so many in a row.
_COMPARED = 64


def by_run(stack: FloatArray) -> FloatArray:
    """(features, runs, m) as (runs, features, m), or the other way round: a view."""
    return stack.transpose(1, 0, 2)


def gathered(matrices: Sequence[FloatArray]) -> FloatArray:
    """Matrices as one stack, in which each has the order in memory that it had."""
    if matrices[0].flags.c_contiguous:
        return np.stack(matrices)
    return np.stack([matrix.T for matrix in matrices]).transpose(0, 2, 1)


def products(
    numerics: Numerics, a: FloatArray, b: FloatArray, *, out: FloatArray | None = None
) -> FloatArray:
    """The product of each matrix of `a` (runs, p, q) with that of `b` (runs, q, s)."""
    (_, p, q), s = a.shape, b.shape[2]
    if p * q * s < _LARGE and _alike_products(numerics, p, q, s, _turned(a), _turned(b), a.dtype):
        product: FloatArray = np.matmul(a, b, out=out)
        return product
    if out is None:
        return gathered([numerics.matmul(left, right) for left, right in zip(a, b, strict=True)])
    for left, right, into in zip(a, b, out, strict=True):
        numerics.matmul(left, right, out=into)
    return out


def sums(numerics: Numerics, a: FloatArray, *, out: FloatArray) -> FloatArray:
    """The sum of each row of `a` (runs, rows, m), into `out` (runs, rows, 1)."""
    way = _way_to_sum(numerics, a.shape[1:], _turned(a), a.dtype)
    if way is not None:
        return way(a, out)
    for matrix, into in zip(a, out, strict=True):
        numerics.sum(matrix, axis=1, out=into)
    return out


def means(numerics: Numerics, a: FloatArray) -> FloatArray:
    """The mean (runs,) of all entries of each matrix of `a` (runs, rows, columns), in float64."""
    if _alike_means(numerics, a.shape[1:], a.dtype):
        return _means(a)
    return np.array([numerics.mean(matrix) for matrix in a])


@ignoring_underflow
def norms(numerics: Numerics, rows: FloatArray) -> FloatArray:
    """The Euclidean length (runs,) of each row of `rows` (runs, size), in float64."""
    if _alike_norms(numerics, rows.shape[1], rows.dtype):
        squares = _squares(rows)
        # Far from both ends of the range, where an arithmetic may take care in ways of its own.
        if ((squares > 1e-20) & (squares < 1e20)).all():
            return np.sqrt(squares)
    return np.array([numerics.norm(row) for row in rows])


# Whether two ways have the same bits depends on shapes, orders in memory and dtype alone.


@functools.lru_cache(maxsize=1024)
def _alike_products(
    numerics: Numerics, p: int, q: int, s: int, a_turned: bool, b_turned: bool, dtype: AnyDType
) -> bool:
    a, b = _sample("a", p * s, p, q, a_turned, dtype), _sample("b", p * s, q, s, b_turned, dtype)
    own = [numerics.matmul(left, right) for left, right in zip(a, b, strict=True)]
    into = [numerics.matmul(x, y, out=np.empty_like(z)) for x, y, z in zip(a, b, own, strict=True)]
    # What follows is computed in another order where a product lies in another one.
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
def _alike_means(numerics: Numerics, shape: tuple[int, int], dtype: AnyDType) -> bool:
    a = _sample("mean", 1, *shape, False, dtype)
    return _same_bits(_means(a), [np.float64(numerics.mean(matrix)) for matrix in a])


def _squares(rows: FloatArray) -> FloatArray:
    products: FloatArray = np.matmul(rows[:, np.newaxis], rows[:, :, np.newaxis])
    return products.ravel().astype(np.float64)


@functools.lru_cache(maxsize=64)
def _alike_norms(numerics: Numerics, size: int, dtype: AnyDType) -> bool:
    rows = _sample("norm", 1, 1, size, False, dtype)[:, 0]
    own = [np.float64(numerics.norm(row)) for row in rows]
    return _same_bits(np.sqrt(_squares(rows)), own)


def _sample(
    name: str, results: int, rows: int, columns: int, turned: bool, dtype: DTypeLike
) -> FloatArray:
    """Matrices of numbers between -1 and 1, so many that enough results are compared.

    Args:
        name: Where the numbers are addressed.
        results: Numbers that come of one matrix.
        rows: Of a matrix,
        columns: and its columns,
        turned: which lie together in memory where this is so.
        dtype: Of the numbers.
    """
    count = 2 + _COMPARED // max(results, 1)
    shape = (count, columns, rows) if turned else (count, rows, columns)
    drawn = Key(0).at("sweeps", name).uniform(shape, low=-1.0, high=1.0).astype(dtype)
    return drawn.transpose(0, 2, 1) if turned else drawn


def _turned(stack: FloatArray) -> bool:
    return stack.strides[1] < stack.strides[2]


def _same_bits(stack: FloatArray, own: Sequence[ArrayLike]) -> bool:
    return all(x.tobytes() == np.asarray(y).tobytes() for x, y in zip(stack, own, strict=True))
