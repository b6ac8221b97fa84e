"""A fingerprint of a machine's arithmetic, from a battery of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.interface import Product, Sum
from pydnn.records import FloatArray

__all__ = ["arithmetic_fingerprint", "operations"]

_OfArrays: TypeAlias = Callable[[FloatArray], FloatArray]


# The battery. What its shapes tell apart was measured with OpenBLAS 0.3.31 on two cores, in
# processes of their own: kernels (SkylakeX, Haswell, Sandybridge), and 1, 2, 3, 4, 6, 8, 12 and
# 16 threads. Small products differ by kernel alone. Those of (97, 450, 211) and (33, 1000, 65)
# differ by the threads, too, as do the product of a matrix with its own transpose, for which
# NumPy has BLAS work out one half, and lengths of vectors just above 10,000 entries.
_PRODUCTS = ((1, 20, 209), (20, 7, 300), (64, 500, 1), (33, 1000, 65), (97, 450, 211))
_FEW_BY_MANY = (4, 1000, 1000)  # the way of `fast` with examples of many features
_OWN_TRANSPOSE = (300, 100)
_SPANNING = ((400, 70), (8200, 8))
_LENGTH, _LENGTHS = 10_001, 16
_POOL = 450 * 211
_POINTS = 3001  # an odd number: what is left over by wide instructions counts as well


def arithmetic_fingerprint(numerics: Numerics) -> dict[str, str]:
    """The SHA-256, by operation of `numerics`, of what it gives on a fixed battery of numbers.

    Two processes with the same fingerprints need not agree on every product, for BLAS has other
    ways for other shapes; those with unlike ones will not agree.
    """
    pool = Key(0).at("arithmetic").uniform(_POOL) - 0.5
    pools = (pool, pool.astype(np.float32))
    return {
        operation: fingerprint(
            {
                f"{given.dtype} {number}": result
                for given in pools
                for number, result in enumerate(_results(numerics, operation, given))
            }
        )
        for operation in operations()
    }


def _results(numerics: Numerics, operation: str, pool: FloatArray) -> Iterator[ArrayLike]:
    match operation:
        case "matmul":
            return _products(numerics.matmul, pool)
        case "sum":
            return _sums(numerics.sum, pool)
        case "mean":
            return _means(numerics.mean, pool)
        case "norm":
            return _norms(numerics.norm, pool)
        case "orthonormal_basis":
            return _bases(numerics.orthonormal_basis, pool)
        case "power":
            return _powers(numerics.power, pool)
        case "cosine":
            return _cosines(numerics.cosine, pool)
        case "log" | "log1p":
            return _of_positives(getattr(numerics, operation), pool)
        case _:
            return _of_reals(getattr(numerics, operation), pool)


def operations() -> list[str]:
    """The names of an arithmetic's functions, without what it says of itself."""
    functions = [field.name for field in attrs.fields(Numerics) if not field.kw_only]
    return [name for name in functions if name != "name"]


def _products(matmul: Product, pool: FloatArray) -> Iterator[ArrayLike]:
    for m, k, n in _PRODUCTS:
        a, b = _matrix(pool, m, k), _matrix(pool[::-1], k, n)
        yield matmul(a, b)
        yield matmul(_matrix(pool, k, m).T, b, out=np.empty((m, n), pool.dtype))  # as W.T dZ is
        yield matmul(a, _matrix(pool, n, k).T)  # as dZ A_prev.T is
    m, k, n = _FEW_BY_MANY
    if pool.dtype == np.float32:  # in float64 it would take as long as all the rest
        yield matmul(_matrix(pool, m, k), _matrix(pool, n, k).T)
    X = _matrix(pool, *_OWN_TRANSPOSE)
    yield matmul(X.T, X)


def _sums(add: Sum, pool: FloatArray) -> Iterator[ArrayLike]:
    for rows, columns in ((20, 100), (33, 1000)):
        for a in (_matrix(pool, rows, columns), _matrix(pool, columns, rows).T):
            yield add(a, axis=1)
            yield add(a, axis=0, out=np.empty((1, columns), pool.dtype))


def _means(mean: Callable[[FloatArray], float], pool: FloatArray) -> Iterator[ArrayLike]:
    a = _matrix(pool, 211, 450)
    yield from (mean(a[:3]), mean(a), mean(a.T))
    yield mean(a[:, :400].T)  # NumPy's buffer size changes it


def _norms(norm: Callable[[FloatArray], float], pool: FloatArray) -> Iterator[ArrayLike]:
    yield norm(pool[:100])
    yield from (norm(pool[start : start + _LENGTH]) for start in range(_LENGTHS))


def _bases(orthonormal_basis: _OfArrays, pool: FloatArray) -> Iterator[ArrayLike]:
    if pool.dtype == np.float64:  # it takes no others
        yield from (orthonormal_basis(_matrix(pool, n, k)) for n, k in _SPANNING)


def _of_reals(function: _OfArrays, pool: FloatArray) -> Iterator[ArrayLike]:
    near = pool[:_POINTS]  # within 1/2 of 0; by powers of two the others are exact, too
    for x in (near, near * 16, near / 64, near[::3]):
        yield function(x)


def _of_positives(function: _OfArrays, pool: FloatArray) -> Iterator[ArrayLike]:
    return _of_reals(lambda x: function(np.abs(x) + x.dtype.type(2.0**-20)), pool)


def _powers(power: Callable[[float, float], float], pool: FloatArray) -> Iterator[ArrayLike]:
    yield [power(1 - 0.1**i, n) for i in (1, 2, 3) for n in (*range(1, 20), 0.5, 1000)]


def _cosines(cosine: Callable[[float], float], pool: FloatArray) -> Iterator[ArrayLike]:
    yield [cosine(math.pi * i / 50) for i in range(51)]


def _matrix(pool: FloatArray, rows: int, columns: int) -> FloatArray:
    """A new contiguous matrix of the pool's numbers, over and over where it has too few."""
    return np.resize(pool[: rows * columns], (rows, columns))
