"""Nested values of records, tuples and mappings: their leaves by path, and how to compare them."""

from __future__ import annotations

import functools
import struct
import types
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.parameters import Packed
from pydnn.records import AnyArray, FloatArray, maker_of

__all__ = [
    "LAYOUTS",
    "deviation",
    "difference",
    "in_layout",
    "leaves_of",
    "map_arrays",
    "snapshot",
]

Leaf = tuple[str, object]
_Value = TypeVar("_Value")
_Scalar = TypeVar("_Scalar", bound=np.generic)


def leaves_of(value: object, path: str = "") -> list[Leaf]:
    """Return the leaves of `value`, each with its path, such as "cache.norm.Z_norm".

    The variables that a function has closed over count as its leaves, since a cache may be a
    closure.

    Example:
        >>> from pydnn.testing.nested import leaves_of
        >>> leaves_of({"a": (1, 2.5)}, "x")
        [("x['a'][0]", 1), ("x['a'][1]", 2.5)]
    """
    leaves: list[Leaf] = []
    _collect(value, path, leaves)
    return leaves


def _collect(value: object, path: str, leaves: list[Leaf]) -> None:
    # The laws look at every argument and result several times, so this is most of their own time:
    # one list for all depths, and the most frequent kinds of values first.
    if isinstance(value, np.ndarray) or value is None:
        leaves.append((path, value))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _collect(item, f"{path}[{i}]", leaves)
    elif names := _fields_of(type(value)):  # type: ignore[arg-type] # mypy: a type has a hash
        for name in names:
            _collect(getattr(value, name), f"{path}.{name}", leaves)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _collect(item, f"{path}[{key!r}]", leaves)
    elif isinstance(value, types.FunctionType) and value.__closure__ and not path.count("()"):
        cells = zip(value.__code__.co_freevars, value.__closure__, strict=True)
        for name, cell in cells:
            if not isinstance(cell.cell_contents, types.FunctionType):
                _collect(cell.cell_contents, f"{path}().{name}", leaves)
    elif not attrs.has(type(value)):
        leaves.append((path, value))


@functools.lru_cache(maxsize=1024)
def _fields_of(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a record that is not a mapping; none for others."""
    if not attrs.has(kind) or issubclass(kind, Mapping):
        return ()
    return tuple(field.name for field in attrs.fields(kind))


def snapshot(value: object, path: str = "") -> dict[str, object]:
    """Return copies of all leaves of `value`, by path."""
    return {
        where: leaf.copy() if isinstance(leaf, np.ndarray) else leaf
        for where, leaf in leaves_of(value, path)
    }


def difference(before: Mapping[str, object], after: Mapping[str, object]) -> str | None:
    """Describe the first leaf whose bits differ between two snapshots; None if none does.

    Example:
        >>> from pydnn.testing.nested import difference, snapshot
        >>> difference(snapshot(np.array([1.0, 2.0]), "A"), snapshot(np.array([1.0, 3.0]), "A"))
        'A[1] is 3.0 and was 2.0'
    """
    if before.keys() != after.keys():
        extra = sorted(before.keys() ^ after.keys())[0]
        return f"{extra} is there only {'before' if extra in before else 'after'}"
    for where, old in before.items():
        new = after[where]
        if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            mismatch = _differing_entry(old, new)
            if mismatch:
                return f"{where}{mismatch}"
        elif _bits(old) != _bits(new):
            return f"{where} is {new!r} and was {old!r}"
    return None


def _differing_entry(old: AnyArray, new: AnyArray) -> str | None:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f" is {new.dtype} {new.shape} and was {old.dtype} {old.shape}"
    if old.tobytes() == new.tobytes():
        return None
    same = (old == new) | ((old != old) & (new != new))
    if same.all():  # 0.0 and -0.0, or NaNs with different bits
        return " has other bits in numbers that are equal"
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{list(index)} is {new[index].item()!r} and was {old[index].item()!r}"


def _bits(leaf: object) -> object:
    if isinstance(leaf, float):
        return struct.pack("<d", leaf)
    if isinstance(leaf, bool | int | str | bytes | np.generic) or leaf is None:
        return repr(leaf)
    return type(leaf)  # the only thing known about it that can be compared


def deviation(
    expected: FloatArray, actual: FloatArray, *, tolerance: float, scale: float = 0.0
) -> str | None:
    """Describe the first entry of `actual` that is too far off; None if none is.

    Args:
        expected: The expected numbers.
        actual: The numbers to check, of the same shape.
        tolerance: The largest error, relative to the largest expected magnitude.
        scale: A magnitude that the error is relative to instead, if it is larger.
    """
    largest_error = tolerance * max(float(np.abs(expected).max(initial=0.0)), scale)
    wrong = ~(np.abs(expected - actual) <= largest_error)  # so that a NaN is wrong
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{list(index)} is {actual[index]:.9g} instead of {expected[index]:.9g}"


# The same values in another memory layout


def map_arrays(change: Callable[[AnyArray], AnyArray], value: _Value) -> _Value:
    """Return the same nested value with `change(array)` instead of each array.

    `Packed` parameters are copied unchanged, since their vector is always contiguous.
    """
    return cast("_Value", _map_arrays(change, value))


def _map_arrays(change: Callable[[AnyArray], AnyArray], value: object) -> object:
    if isinstance(value, np.ndarray):
        return change(value)
    if type(value) is list:
        return [map_arrays(change, item) for item in value]
    if type(value) is tuple:
        return tuple(map_arrays(change, item) for item in value)
    if type(value) is dict:
        return {name: map_arrays(change, item) for name, item in value.items()}
    if isinstance(value, Packed):
        return value.layout.packed(_protected_like(value.vector, value.vector.copy()))
    cls = type(value)
    if attrs.has(cls) and any(isinstance(a, np.ndarray) for _, a in leaves_of(value)):
        # Past the class's converters, which would make every array read-only.
        names = [field.name for field in attrs.fields(cls)]
        return maker_of(cls)(*(map_arrays(change, getattr(value, name)) for name in names))
    return value


def _strided(array: AnyArray) -> AnyArray:
    """Return a copy whose neighbors along the last axis have one other number between them."""
    if not array.ndim:
        return array.copy()
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _offset(array: AnyArray) -> AnyArray:
    """Return a copy that starts one number after the beginning of its memory."""
    memory = np.empty(array.size + 1, array.dtype)
    memory[1:] = array.ravel()
    return memory[1:].reshape(array.shape)


LAYOUTS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "C order": lambda array: np.array(array, order="C"),
    "Fortran order": lambda array: np.array(array, order="F"),
    "strides": lambda array: _strided(array) if array.dtype.kind == "f" else array.copy(),
    "offset": _offset,
}


def in_layout(value: _Value, layout: str, *, readonly: bool | None = None) -> _Value:
    """Return a copy of a nested value whose arrays have another memory layout.

    Args:
        value: The nested value.
        layout: A name in `LAYOUTS`.
        readonly: Whether the new arrays refuse writes; by default each does as its original did.
    """

    def change(array: AnyArray) -> AnyArray:
        return _protected_like(array, LAYOUTS[layout](array), readonly=readonly)

    return map_arrays(change, value)


def _protected_like(
    array: NDArray[_Scalar], new: NDArray[_Scalar], *, readonly: bool | None = None
) -> NDArray[_Scalar]:
    """Return `new`, which refuses writes if `readonly` says so, or else if `array` does."""
    new.flags.writeable = array.flags.writeable if readonly is None else not readonly
    return new
