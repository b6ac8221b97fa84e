"""Fingerprints of arrays: one SHA-256 says whether two sets of arrays have the same bits.

It covers the name, dtype, shape and little-endian bytes of each array, and not the bytes of the
file that holds it. Zeros of different sign differ. No arithmetic promises the bits of a NaN: a NaN
in a state is an error, and in a history every NaN counts as the same one.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput
from pydnn.float_order import places_of
from pydnn.records import AnyArray, AnyDType, as_array

__all__ = ["Fingerprint", "canonical", "checksum", "fingerprint", "same_bits", "ulps_apart"]


def fingerprint(arrays: Mapping[str, ArrayLike], *, nan: bool = False) -> str:
    """Return the SHA-256 of named arrays, as 64 hexadecimal digits; their order matters.

    Args:
        arrays: Integers, truth values or floats of any shape, by name.
        nan: Whether NaN is allowed.

    Raises:
        BadInput: If an array holds a NaN although none is allowed, or has masked entries.

    Example:
        >>> fingerprint({"x": np.zeros(2)})[:8], fingerprint({"x": -np.zeros(2)})[:8]
        ('8aeea727', 'db2de5ae')
    """
    whole = Fingerprint(nan=nan)
    for name, values in arrays.items():
        array = as_array(values)
        whole.begin(name, array.dtype, array.shape)
        whole.add(array)
    return whole.sha256


class Fingerprint:
    """The fingerprint of arrays that come in parts, such as the rows of one that stays in a file.

    Args:
        nan: Whether NaN is allowed.

    Example:
        >>> x = np.arange(6.0).reshape(3, 2)
        >>> of_parts = Fingerprint()
        >>> of_parts.begin("x", x.dtype, x.shape)
        >>> for rows in (x[:1], x[1:]):
        ...     of_parts.add(rows)
        >>> of_parts.sha256 == fingerprint({"x": x})
        True
    """

    def __init__(self, *, nan: bool = False) -> None:
        """Nothing has been added yet."""
        self._nan, self._digest, self._name = nan, hashlib.sha256(), ""

    def begin(self, name: str, dtype: AnyDType, shape: Sequence[int]) -> None:
        """Begin the next array, of which all entries follow in C order, in parts of any size."""
        # With the length of each name, no two sets of arrays have the same text.
        code = dtype.newbyteorder("<").str[1:]
        head = f"{len(name)} {name} {code} {len(shape)} {tuple(shape)}\n"
        self._digest.update(head.encode())
        self._name = name

    def add(self, part: AnyArray) -> None:
        """Add the next entries of the array that was begun last.

        Raises:
            BadInput: If they hold a NaN although none is allowed.
        """
        array = _little_endian(part)
        if _has_nan(array):
            if not self._nan:
                raise BadInput(
                    f"{self._name} holds nan, which has no fingerprint: look for where it began."
                )
            array = canonical(array)
        self._digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    @property
    def sha256(self) -> str:
        """The fingerprint of what has been added, as 64 hexadecimal digits."""
        return self._digest.hexdigest()


def canonical(array: AnyArray) -> AnyArray:
    """Return the array in little-endian order, with the same bits for every NaN."""
    little = _little_endian(array)
    if not _has_nan(little):
        return little
    return np.where(np.isnan(little), little.dtype.type(np.nan), little)


def _little_endian(array: AnyArray) -> AnyArray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _has_nan(array: AnyArray) -> bool:
    # The minimum is NaN if any entry is. It takes one pass and no array of truth values.
    if array.dtype.kind != "f" or not array.size:
        return False
    return bool(np.isnan(np.minimum.reduce(array, axis=None)))


def checksum(vector: AnyArray) -> int:
    """Return a checksum of a vector: its words, each times an odd number, summed modulo 2**64.

    A change of any single entry changes it. So do, almost surely, entries that swap places and
    changes that would cancel in a plain sum. It is the same on every machine, and so much cheaper
    than a fingerprint that every step can have one.
    """
    words = np.ascontiguousarray(vector).reshape(-1).view(f"u{vector.dtype.itemsize}")
    rows, rest = divmod(words.size, _WIDTH)
    total = 0
    if rows:
        # Weighting the sums of rows and columns is less work than weighting each entry. The weight
        # of an entry is that of its column, which is odd, plus twice that of its row: still odd.
        table = words[: rows * _WIDTH].reshape(rows, _WIDTH)
        of_rows, of_columns = np.empty(rows, np.uint64), np.zeros(_WIDTH, np.uint64)
        for start in range(0, rows, _ROWS):
            block = table[start : start + _ROWS]
            of_columns += np.add.reduce(block, axis=0, dtype=np.uint64)
            np.add.reduce(block, axis=1, dtype=np.uint64, out=of_rows[start : start + _ROWS])
        total += _weighted(of_columns) + 2 * _weighted(of_rows)
    total += _weighted(words[words.size - rest :].astype(np.uint64))
    return total % 2**64


_WIDTH = 2048  # the fastest width for both sums, measured from 256 to 16,384
_ROWS = 32  # rows of a block that stays in cache, so both sums read memory once


def _weighted(words: NDArray[np.uint64]) -> int:
    weights = _weights(words.size)
    return int(np.add.reduce(words * weights, dtype=np.uint64))


@functools.lru_cache(maxsize=16)
def _weights(count: int) -> NDArray[np.uint64]:
    """Return `count` odd weights without a pattern, so that changes do not cancel by chance.

    References:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014, figure 17.
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def same_bits(a: AnyArray, b: AnyArray) -> NDArray[np.bool_]:
    """Return where two arrays of one shape and dtype have the same bits; all NaNs are equal."""
    x, y = (_words(canonical(array)) for array in (a, b))
    equal: NDArray[np.bool_] = np.equal(x, y)
    return equal


def _words(array: AnyArray) -> AnyArray:
    """Return the bits of floats as integers of the same shape; other arrays unchanged."""
    if array.dtype.kind != "f":
        return array
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def ulps_apart(a: ArrayLike, b: ArrayLike) -> int | None:
    """Return how many floats apart the entries of `a` and `b` are at most.

    Both arrays have the same float dtype. Zeros of different sign are 1 apart, so different bits
    are never 0 apart. Pairs with a NaN are left out; None if there are no others.

    Example:
        >>> ulps_apart(np.array([1.0]), np.array([1.0 + 2**-51]))
        2
    """
    x, y = np.asarray(a), np.asarray(b)
    known = ~(np.isnan(x) | np.isnan(y))
    if not known.any():
        return None
    x, y = places_of(x[known]), places_of(y[known])
    return int(np.max(np.maximum(x, y) - np.minimum(x, y)))
