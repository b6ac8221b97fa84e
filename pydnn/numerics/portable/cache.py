"""A cache for what is computed from an operand that never changes, such as the data of a training.

It changes no result, since it keeps results only for arrays that nobody can ever write to. A
read-only array is not safe: its holder can make it writeable, change it and make it read-only
again. `unchangeable` makes an array whose memory is a `bytes` object, which Python never lets
anybody change. A result is kept from the second use of an array on, as long as the array or a view
of it lives, and for a few arrays at most.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import attrs
import numpy as np

from pydnn.records import FloatArray

__all__ = ["kept", "unchangeable"]

_Result = TypeVar("_Result")
_MOST = 8  # arrays in the cache


@attrs.define(eq=False)
class _Entry:
    """The result kept for one array; None before its second use, and after its owner is gone."""

    owner: weakref.ref[FloatArray]
    result: Any = None


# The name, the id of the owner, the offset in its memory, the shape, the strides and the dtype.
_Key: TypeAlias = tuple[str, int, int, tuple[int, ...], tuple[int, ...], str]
_entries: dict[_Key, _Entry] = {}
_lock = threading.Lock()


def unchangeable(array: FloatArray) -> FloatArray:
    """Return a copy of the array, in Fortran order, that nobody can ever write to.

    Example:
        >>> unchangeable(np.ones(2)).setflags(write=True)
        Traceback (most recent call last):
        ValueError: cannot set WRITEABLE flag to True of this array
    """
    return np.ndarray(array.shape, array.dtype, array.tobytes("F"), order="F")


def kept(name: str, array: FloatArray, make: Callable[[str | None], _Result]) -> _Result:
    """Return the result of `make` for an array, from the cache if it is there.

    Args:
        name: The name of the function, since several functions share the cache.
        array: The operand.
        make: A function `(into) -> result`. With "right" it may use work arrays of that name, which
            the next call overwrites. With None it must make arrays of its own, since the result is
            kept.
    """
    owner = _unchangeable_owner(array)
    if owner is None:
        return make("right")
    key = (name, id(owner), _offset(array, owner), array.shape, array.strides, array.dtype.char)
    entry = _entries.get(key)
    if entry is None or entry.owner() is not owner:
        _keep(key, _entry_of(owner))
        return make("right")
    result: _Result = entry.result
    if result is None:
        result = entry.result = make(None)
        _keep(key, entry)
    return result


def _entry_of(owner: FloatArray) -> _Entry:
    def forget(_: object) -> None:
        # The entry stays: this may be called while another call iterates over the dictionary.
        entry.result = None

    entry = _Entry(weakref.ref(owner, forget))
    return entry


def _keep(key: _Key, entry: _Entry) -> None:
    with _lock:
        _entries.pop(key, None)  # moves it to the end
        while len(_entries) >= _MOST:
            # Arrays used once go first, since every step brings new ones.
            once = next((k for k, e in _entries.items() if e.result is None), None)
            _entries.pop(next(iter(_entries)) if once is None else once, None)
        _entries[key] = entry


def _offset(array: FloatArray, owner: FloatArray) -> int:
    """Return where the array begins in its owner's memory, in bytes."""
    whole = array.nbytes == owner.nbytes and array.flags.forc
    return 0 if whole else _address(array) - _address(owner)


def _address(array: FloatArray) -> int:
    address: int = array.__array_interface__["data"][0]  # slower than everything else in a lookup
    return address


def _unchangeable_owner(array: FloatArray) -> FloatArray | None:
    """Return the array made by `unchangeable` that is `array` or its base; None if neither is."""
    owner = array
    while type(owner.base) is type(owner):
        owner = owner.base
    base: object = owner.base  # of any class, although NumPy's types say it is an array
    return owner if type(base) is bytes else None
