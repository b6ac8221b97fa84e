"""A fingerprint of a machine's arithmetic, from a fixed battery of operations."""

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


# The shapes of the battery are chosen so that the bits show which kernel and how many threads BLAS
# uses. This was measured with OpenBLAS 0.3.31 on two cores, with the kernels SkylakeX, Haswell and
# Sandybridge, and with 1, 2, 3, 4, 6, 8, 12 and 16 threads, each in a fresh process. The bits of
# small products depend on the kernel alone. Those of (97, 450, 211) and (33, 1000, 65) also depend
# on the threads. So do the product of a matrix with its own transpose, of which NumPy lets BLAS
# compute one half, and the norms of vectors with just over 10,000 entries.
_PRODUCTS = ((1, 20, 209), (20, 7, 300), (64, 500, 1), (33, 1000, 65), (97, 450, 211))
_FEW_BY_MANY = (4, 1000, 1000)  # the case in which `fast` treats wide examples differently
_OWN_TRANSPOSE = (300, 100)
_SPANNING = ((400, 70), (8200, 8))
_LENGTH, _LENGTHS = 10_001, 16
_POOL = 450 * 211
_POINTS = 3001  # an odd number, so that wide instructions leave a remainder, which counts as well


def arithmetic_fingerprint(numerics: Numerics) -> dict[str, str]:
    """For each operation of `numerics`, the SHA-256 of its results on a fixed battery of numbers.

    Processes with different fingerprints compute different bits. Processes with the same
    fingerprints may still differ, because BLAS treats other shapes in other ways.
    """
    pool = Key(0).at("arithmetic").uniform(_POOL) - 0.5
    pools = (pool, pool.astype(np.float32))
    return {
        operation: fingerprint(
            {
                f"{numbers.dtype} {place}": result
                for numbers in pools
                for place, result in enumerate(_results(numerics, operation, numbers))
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
    """The names of the functions of an arithmetic, without the fields that describe it."""
    functions = [field.name for field in attrs.fields(Numerics) if not field.kw_only]
    return [name for name in functions if name != "name"]


def _products(matmul: Product, pool: FloatArray) -> Iterator[ArrayLike]:
    for m, k, n in _PRODUCTS:
        a, b = _matrix(pool, m, k), _matrix(pool[::-1], k, n)
        yield matmul(a, b)
        yield matmul(_matrix(pool, k, m).T, b, out=np.empty((m, n), pool.dtype))  # like W.T dZ
        yield matmul(a, _matrix(pool, n, k).T)  # like dZ A_prev.T
    m, k, n = _FEW_BY_MANY
    if pool.dtype == np.float32:  # in float64 it would double the time of the whole battery
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
    if pool.dtype == np.float64:  # the operation refuses float32
        yield from (orthonormal_basis(_matrix(pool, n, k)) for n, k in _SPANNING)


def _of_reals(function: _OfArrays, pool: FloatArray) -> Iterator[ArrayLike]:
    near = pool[:_POINTS]  # within 1/2 of 0; scaling by powers of two is exact
    for x in (near, near * 16, near / 64, near[::3]):
        yield function(x)


def _of_positives(function: _OfArrays, pool: FloatArray) -> Iterator[ArrayLike]:
    return _of_reals(lambda x: function(np.abs(x) + x.dtype.type(2.0**-20)), pool)


def _powers(power: Callable[[float, float], float], pool: FloatArray) -> Iterator[ArrayLike]:
    yield [power(1 - 0.1**i, n) for i in (1, 2, 3) for n in (*range(1, 20), 0.5, 1000)]


def _cosines(cosine: Callable[[float], float], pool: FloatArray) -> Iterator[ArrayLike]:
    yield [cosine(math.pi * i / 50) for i in range(51)]


def _matrix(pool: FloatArray, rows: int, columns: int) -> FloatArray:
    """A new contiguous matrix of the pool's numbers, which repeat if the pool has too few."""
    return np.resize(pool[: rows * columns], (rows, columns))
