"""Values that are nested in records, tuples and mappings: every leaf, by the path to it."""

from __future__ import annotations

import struct
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.parameters import Packed
from pydnn.records import AnyArray, FloatArray, maker_of

__all__ = ["LAYOUTS", "difference", "leaves_of", "rebuilt", "relaid", "snapshot", "unlike"]

Leaf = tuple[str, object]
_Value = TypeVar("_Value")
_Scalar = TypeVar("_Scalar", bound=np.generic)


def leaves_of(value: object, path: str = "") -> Iterator[Leaf]:
    """The leaves of `value`, each with its path, e.g. "cache.norm.Z_norm" or "state[0].count".

    What a function has closed over is part of it, since a cache may be a closure.
    """
    if isinstance(value, np.ndarray) or value is None:
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves_of(item, f"{path}[{name!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from leaves_of(item, f"{path}[{i}]")
    elif attrs.has(kind := type(value)):
        for field in attrs.fields(kind):
            yield from leaves_of(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, types.FunctionType) and value.__closure__ and not path.count("()"):
        names = zip(value.__code__.co_freevars, value.__closure__, strict=True)
        for name, cell in names:
            if not isinstance(cell.cell_contents, types.FunctionType):
                yield from leaves_of(cell.cell_contents, f"{path}().{name}")
    else:
        yield path, value


def snapshot(value: object, path: str = "") -> dict[str, object]:
    """All leaves of `value` as they are now, by their paths."""
    return {
        where: leaf.copy() if isinstance(leaf, np.ndarray) else leaf
        for where, leaf in leaves_of(value, path)
    }


def difference(before: Mapping[str, object], after: Mapping[str, object]) -> str | None:
    """The first leaf whose bits are not the same in both snapshots, in words; None for none."""
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())[0]
        return f"{odd} is there only {'before' if odd in before else 'after'}"
    for where, old in before.items():
        new = after[where]
        if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            told = _differing_entry(old, new)
            if told:
                return f"{where}{told}"
        elif _bits(old) != _bits(new):
            return f"{where} is {new!r} and was {old!r}"
    return None


def _differing_entry(old: AnyArray, new: AnyArray) -> str | None:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f" is {new.dtype} {new.shape} and was {old.dtype} {old.shape}"
    if old.tobytes() == new.tobytes():
        return None
    same = (old == new) | ((old != old) & (new != new))
    if same.all():  # zeros of two signs, or NaN with other bits
        return " has other bits in numbers that are equal"
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{list(index)} is {new[index].item()!r} and was {old[index].item()!r}"


def _bits(leaf: object) -> object:
    if isinstance(leaf, float):
        return struct.pack("<d", leaf)
    if isinstance(leaf, bool | int | str | bytes | np.generic) or leaf is None:
        return repr(leaf)
    return type(leaf)  # nothing more is known about it


def unlike(
    expected: FloatArray, found: FloatArray, *, tolerance: float, scale: float = 0.0
) -> str | None:
    """The first entry of `found` that is further off than `tolerance` allows, in words.

    Args:
        expected: What the numbers are to be.
        found: What they are.
        tolerance: How far off they may be, beside the largest magnitude that is expected,
        scale: or beside this one, if it is larger.
    """
    most = tolerance * max(float(np.abs(expected).max(initial=0.0)), scale)
    wrong = ~(np.abs(expected - found) <= most)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{list(index)} is {found[index]:.9g} instead of {expected[index]:.9g}"


# The same values, elsewhere in memory


def rebuilt(value: _Value, change: Callable[[AnyArray], AnyArray]) -> _Value:
    """The same nested value with `change(array)` for every array in it.

    Arrays that lie in one vector stay there, since that place is promised to be contiguous.
    """
    return cast("_Value", _rebuilt(value, change))


def _rebuilt(value: object, change: Callable[[AnyArray], AnyArray]) -> object:
    if isinstance(value, np.ndarray):
        return change(value)
    if type(value) is list:
        return [rebuilt(item, change) for item in value]
    if type(value) is tuple:
        return tuple(rebuilt(item, change) for item in value)
    if type(value) is dict:
        return {name: rebuilt(item, change) for name, item in value.items()}
    if isinstance(value, Packed):
        return value.layout.packed(_as_it_was(value.vector, value.vector.copy()))
    cls = type(value)
    if attrs.has(cls) and any(isinstance(a, np.ndarray) for _, a in leaves_of(value)):
        names = [field.name for field in attrs.fields(cls)]
        return maker_of(cls)(*(rebuilt(getattr(value, name), change) for name in names))
    return value


def _strided(array: AnyArray) -> AnyArray:
    """A copy of which every second number along the last axis is another's."""
    if not array.ndim:
        return array.copy()
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _offset(array: AnyArray) -> AnyArray:
    """A copy that starts one number later than memory is given out."""
    room = np.empty(array.size + 1, array.dtype)
    room[1:] = array.ravel()
    return room[1:].reshape(array.shape)


LAYOUTS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "C order": lambda array: np.array(array, order="C"),
    "Fortran order": lambda array: np.array(array, order="F"),
    "strides": lambda array: _strided(array) if array.dtype.kind == "f" else array.copy(),
    "offset": _offset,
}


def relaid(value: _Value, layout: str, *, readonly: bool | None = None) -> _Value:
    """The same nested value with its arrays in another `layout`, one of `LAYOUTS`.

    Args:
        value: What holds arrays.
        layout: Where they are to lie.
        readonly: Whether they refuse writes; None for as they did.
    """

    def change(array: AnyArray) -> AnyArray:
        new = LAYOUTS[layout](array)
        return _as_it_was(array, new, readonly=readonly)

    return rebuilt(value, change)


def _as_it_was(
    array: NDArray[_Scalar], new: NDArray[_Scalar], *, readonly: bool | None = None
) -> NDArray[_Scalar]:
    new.flags.writeable = array.flags.writeable if readonly is None else not readonly
    return new
