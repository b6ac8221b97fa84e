"""Fingerprints of arrays: one SHA-256 that says whether two have the same bits.

An array counts with its name, dtype, shape and little-endian bytes, never with the bytes of a
file that it lay in. Zeros of unlike signs differ. A NaN, whose bits no arithmetic promises, is an
error in a state, and one canonical NaN in a record of what was seen.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput
from pydnn.records import AnyArray, as_array

__all__ = ["canonical", "checksum", "fingerprint", "same_bits", "ulps_apart"]


def fingerprint(arrays: Mapping[str, ArrayLike], *, nan: bool = False) -> str:
    """The SHA-256 of named arrays, 64 hexadecimal digits; the order of the names is heeded.

    Args:
        arrays: Integers, truth values or floats of any shape.
        nan: Whether a NaN may be among them.

    Raises:
        BadInput: For a NaN where none may be, naming its array; for masked entries.
    """
    digest = hashlib.sha256()
    for name, values in arrays.items():
        array = _little_endian(as_array(values))
        if _has_nan(array):
            if not nan:
                raise BadInput(
                    f"{name} holds nan, which has no fingerprint: look for where it began."
                )
            array = canonical(array)
        # Lengths before names and shapes: no two sets of arrays have the same text.
        head = f"{len(name)} {name} {array.dtype.str[1:]} {array.ndim} {array.shape}\n"
        digest.update(head.encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def canonical(array: AnyArray) -> AnyArray:
    """The array in little-endian order, with one bit pattern for every NaN."""
    little = _little_endian(array)
    if not _has_nan(little):
        return little
    return np.where(np.isnan(little), little.dtype.type(np.nan), little)


def _little_endian(array: AnyArray) -> AnyArray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _has_nan(array: AnyArray) -> bool:
    # The minimum is NaN if any entry is: one pass, which allocates no array of truth values.
    if array.dtype.kind != "f" or not array.size:
        return False
    return bool(np.isnan(np.minimum.reduce(array, axis=None)))


def checksum(vector: AnyArray) -> int:
    """The sum of a vector's words modulo 2**64, each times an odd number of its place.

    Each single changed entry changes it, and so do entries that change places, or by amounts that
    cancel. Far cheaper than a fingerprint, and the same on every machine: each step can have one.
    """
    words = np.ascontiguousarray(vector).reshape(-1).view(f"u{vector.dtype.itemsize}")
    rows, rest = divmod(words.size, _WIDTH)
    total = 0
    if rows:
        # Sums along both axes are weighted, which is less work than to weight each entry. An
        # entry counts by the odd weight of its column and twice that of its row: an odd number.
        table = words[: rows * _WIDTH].reshape(rows, _WIDTH)
        of_rows, of_columns = np.empty(rows, np.uint64), np.zeros(_WIDTH, np.uint64)
        for start in range(0, rows, _ROWS):
            block = table[start : start + _ROWS]
            of_columns += np.add.reduce(block, axis=0, dtype=np.uint64)
            np.add.reduce(block, axis=1, dtype=np.uint64, out=of_rows[start : start + _ROWS])
        total += _weighted(of_columns) + 2 * _weighted(of_rows)
    total += _weighted(words[words.size - rest :].astype(np.uint64))
    return total % 2**64


_WIDTH = 2048  # of which both passes take the least time, measured from 256 to 16,384
_ROWS = 32  # in a block that stays in cache, so that memory is read once for both passes


def _weighted(words: NDArray[np.uint64]) -> int:
    weights = _weights(words.size)
    return int(np.add.reduce(words * weights, dtype=np.uint64))


@functools.lru_cache(maxsize=16)
def _weights(count: int) -> NDArray[np.uint64]:
    """Odd numbers without a pattern that changes could follow.

    References:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014, figure 17.
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def same_bits(a: AnyArray, b: AnyArray) -> NDArray[np.bool_]:
    """Where two arrays of one shape and dtype have the same bits; any NaN is like any other."""
    x, y = (_words(canonical(array)) for array in (a, b))
    equal: NDArray[np.bool_] = np.equal(x, y)
    return equal


def _words(array: AnyArray) -> AnyArray:
    """The bits of floats as integers, of the same shape; other arrays as they are."""
    if array.dtype.kind != "f":
        return array
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def ulps_apart(a: ArrayLike, b: ArrayLike) -> int | None:
    """How many floats lie at most from an entry of `a` to its like in `b`, of one float dtype.

    Zeros of unlike signs are one apart, so that unlike bits are never 0 apart. None where every
    two that differ have a NaN among them.
    """
    x, y = np.asarray(a), np.asarray(b)
    known = ~(np.isnan(x) | np.isnan(y))
    if not known.any():
        return None
    x, y = _places(x[known]), _places(y[known])
    return int(np.max(np.maximum(x, y) - np.minimum(x, y)))


def _places(x: AnyArray) -> AnyArray:
    """The number of each entry in the order of all floats of its dtype."""
    words = np.dtype(f"u{x.dtype.itemsize}")
    bits = x.view(words)
    sign = words.type(1 << (8 * x.dtype.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)
