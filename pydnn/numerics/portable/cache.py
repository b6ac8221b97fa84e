"""What was worked out of an operand that does not change, such as the data, kept for later calls.

It is the cache of a pure function: what is kept is what would be worked out again, since it is
looked up only for arrays that nobody can ever write to. A frozen array is not one of them: whoever
has it can thaw it, change it and freeze it again. The array that `unchangeable` makes lies in
memory that Python itself lets nobody write to. What is worked out is kept from the second time on
that the same array comes, for as long as that array or a view of it lives, for a few arrays at
most.
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

_Found = TypeVar("_Found")
_MOST = 8


@attrs.define(eq=False)
class _Entry:
    """What is kept of one array; None until it is seen again, and when its owner is gone."""

    owner: weakref.ref[FloatArray]
    found: Any = None  # of the type that the name in its key stands for


# The name, the id of the owner, the offset in it, shape, strides and dtype.
_Key: TypeAlias = tuple[str, int, int, tuple[int, ...], tuple[int, ...], str]
_entries: dict[_Key, _Entry] = {}
_lock = threading.Lock()


def unchangeable(array: FloatArray) -> FloatArray:
    """A copy of the array, in Fortran order, that nobody can thaw, not even its owner."""
    return np.ndarray(array.shape, array.dtype, array.tobytes("F"), order="F")


def kept(name: str, array: FloatArray, make: Callable[[str | None], _Found]) -> _Found:
    """What `make` gives of the array: once more, or what it gave before.

    Args:
        name: Of the function, which tells its results from those of others.
        array: The operand.
        make: `(into) -> result`; with "right" it may use work arrays of that name, which the next
            call overwrites, and with None the result is of arrays of its own.
    """
    owner = _unchangeable_owner(array)
    if owner is None:
        return make("right")
    key = (name, id(owner), _offset(array, owner), array.shape, array.strides, array.dtype.char)
    entry = _entries.get(key)
    if entry is None or entry.owner() is not owner:
        _keep(key, _entry_of(owner))
        return make("right")
    found: _Found = entry.found
    if found is None:
        found = entry.found = make(None)
        _keep(key, entry)
    return found


def _entry_of(owner: FloatArray) -> _Entry:
    def forget(_: object) -> None:
        # Of the dictionary nothing changes, for this may be called while anybody looks into it.
        entry.found = None

    entry = _Entry(weakref.ref(owner, forget))
    return entry


def _keep(key: _Key, entry: _Entry) -> None:
    with _lock:
        _entries.pop(key, None)  # so that it comes last
        while len(_entries) >= _MOST:
            # Those that were seen once go first, since every step brings new ones.
            once = next((k for k, e in _entries.items() if e.found is None), None)
            _entries.pop(next(iter(_entries)) if once is None else once, None)
        _entries[key] = entry


def _offset(array: FloatArray, owner: FloatArray) -> int:
    """Of the array's first number in its owner's memory, in bytes."""
    whole = array.nbytes == owner.nbytes and array.flags.forc
    return 0 if whole else _address(array) - _address(owner)


def _address(array: FloatArray) -> int:
    address: int = array.__array_interface__["data"][0]  # which takes longer than all the rest
    return address


def _unchangeable_owner(array: FloatArray) -> FloatArray | None:
    """The array that `unchangeable` made and `array` is a view of; None if there is none."""
    owner = array
    while type(owner.base) is type(owner):
        owner = owner.base
    base: object = owner.base  # which may be of any class, whatever the types of NumPy say
    return owner if type(base) is bytes else None
