"""Frozen records of arrays: values that refuse writes, compare by value and print their shapes."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Batch", "FloatArray", "arrays", "freeze", "readonly"]

FloatArray: TypeAlias = NDArray[np.floating[Any]]
_Scalar = TypeVar("_Scalar", bound=np.generic)


def readonly(x: ArrayLike) -> FloatArray:
    """View of `x` that refuses writes; integers become float64, floats keep their dtype."""
    array = np.asarray(x)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    elif not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False  # on the view: the caller's own array stays writeable
    return view


def freeze(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Mark an array that its maker has just filled, and nobody else has seen, as read-only."""
    array.flags.writeable = False
    return array


def arrays(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Give every field annotated `FloatArray` what an array needs in a frozen record.

    For `@attrs.frozen(unsafe_hash=False, field_transformer=arrays)`: the array is made
    read-only, compared by value (`==` on arrays gives an array, not a truth value) and printed
    as its dtype and shape. With `unsafe_hash=False`, `hash(record)` says that it has no hash.
    A field whose default is None may also hold that.
    """
    # Annotations are texts in modules that postpone them, as ours do.
    return [
        field.evolve(
            converter=attrs.converters.optional(readonly) if field.default is None else readonly,
            eq=True,
            eq_key=_by_value,
            repr=_summary,
        )
        if str(field.type) in ("FloatArray", str(FloatArray))
        else field
        for field in fields
    ]


_by_value = attrs.cmp_using(eq=np.array_equal)


def _summary(array: FloatArray | None) -> str:
    return "None" if array is None else f"{array.dtype} {array.shape}"


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Batch:
    """Examples in columns: inputs X (n_x, m) and labels Y (n_y, m)."""

    X: FloatArray
    Y: FloatArray
