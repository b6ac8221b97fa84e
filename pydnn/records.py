"""Frozen records of arrays: values that refuse writes, compare by value and print their shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pydnn.checks import BadInput, expect_shape

__all__ = [
    "WEIGHTS",
    "AnyArray",
    "AnyDType",
    "Batch",
    "Fields",
    "FloatArray",
    "Unchanging",
    "arrays",
    "as_array",
    "freeze",
    "keep_readonly",
    "maker_of",
    "readonly",
    "scalar",
]

FloatArray: TypeAlias = NDArray[np.floating[Any]]
AnyArray: TypeAlias = NDArray[np.generic]  # of any kind of entries
AnyDType: TypeAlias = np.dtype[np.generic]
Fields: TypeAlias = "list[attrs.Attribute[Any]]"  # of a class of records
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Record = TypeVar("_Record", bound=attrs.AttrsInstance)


def readonly(x: ArrayLike) -> FloatArray:
    """View of `x` that refuses writes; integers become float64, floats keep their dtype.

    Complex numbers, by which derivatives may be taken, pass where they are read-only already.
    """
    array = x if type(x) is np.ndarray else as_array(x)
    if array.dtype.kind != "f":
        array = _as_floats(array)
    elif not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False  # on the view: the caller's own array stays writeable
    return view


def as_array(x: ArrayLike) -> NDArray[Any]:
    """The array that `x` is or describes, without what a subclass adds.

    Raises:
        BadInput: If entries are masked: without the mask, they would count as numbers. If rows
            are of unequal length.
    """
    if _is_masked(x):
        raise BadInput(
            "got an array with masked entries, expected numbers everywhere: fill them, e.g. with "
            ".filled(0), or leave out their examples."
        )
    try:
        return np.asarray(x)
    except ValueError as error:  # NumPy's message is about its own inhomogeneous shapes
        raise BadInput(
            "an array was given rows of unequal length, expected a rectangle of numbers: "
            "give every row the same length."
        ) from error


def _is_masked(x: object) -> bool:
    if isinstance(x, list | tuple):
        return any(map(_is_masked, x))
    return isinstance(x, np.ma.MaskedArray) and bool(np.ma.is_masked(x))


def _as_floats(array: NDArray[Any]) -> FloatArray:
    if array.dtype.kind == "c" and not array.flags.writeable:
        return array
    if array.dtype.kind not in "iub":
        raise BadInput(
            f"got an array of {array.dtype}, expected numbers: "
            "convert it, e.g. with .astype(float)."
        )
    return array.astype(np.float64)


def freeze(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Mark an array that its maker has just filled, and nobody else has seen, as read-only."""
    # By its place, which NumPy takes though its types do not say so: half the time of by name.
    array.setflags(False)  # type: ignore[call-arg]
    return array


@functools.lru_cache(maxsize=256)
def scalar(value: float, dtype: DTypeLike) -> FloatArray:
    """The number `value` as an array of no axes, remembered.

    Small arrays are combined with it in half the time that a number of Python's takes.
    """
    return freeze(np.array(value, dtype))


class Unchanging:
    """What nothing can change is its own copy, as a tuple of numbers is."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def maker_of(cls: type[_Record]) -> Callable[..., _Record]:
    """A function that makes records of a frozen attrs class from values that are known to be right.

    It takes every field, in their order, and skips converters and checks, which take three times
    as long: for code that every training step runs, and for arrays with axes that the class itself
    does not expect.
    """
    fields = attrs.fields(cls)
    slots = [f.name for f in fields if f.init and hasattr(cls.__dict__.get(f.name), "__set__")]
    if len(slots) < len(fields):
        return cls  # a class without slots, or with fields that it fills in itself
    setters: list[Callable[[_Record, object], None]] = [cls.__dict__[n].__set__ for n in slots]
    new = object.__new__
    # Two fields, as most parameters have, and three without the loop, in half of its time.
    if len(setters) == 3:
        set_first, set_second, set_third = setters

        def make_three(first: object, second: object, third: object) -> _Record:
            record = new(cls)
            set_first(record, first)
            set_second(record, second)
            set_third(record, third)
            return record

        return make_three
    if len(setters) == 2:
        set_first, set_second = setters

        def make_two(first: object, second: object) -> _Record:
            record = new(cls)
            set_first(record, first)
            set_second(record, second)
            return record

        return make_two

    def make(*values: object) -> _Record:
        record = new(cls)
        for set_field, value in zip(setters, values, strict=True):
            set_field(record, value)
        return record

    return make


def arrays(cls: type, fields: Fields) -> Fields:
    """Give every field annotated `FloatArray` what an array needs in a frozen record.

    For `@attrs.frozen(unsafe_hash=False, field_transformer=arrays)`: the array is made
    read-only, compared by value (`==` on arrays gives an array, not a truth value) and printed
    as its dtype and shape. With `unsafe_hash=False`, `hash(record)` says that it has no hash.
    A field annotated `FloatArray | None` may also hold None. Copies and unpickled records are as
    read-only as the record.
    """
    keep_readonly(cls)
    converters = ((field, _CONVERTERS.get(str(field.type))) for field in fields)
    return [
        field.evolve(converter=converter, eq=True, eq_key=_by_value, repr=_summary)
        if converter
        else field
        for field, converter in converters
    ]


WEIGHTS: Mapping[str, object] = {"weights": True}
"""Metadata of a field that holds weights, which a weight stream draws: W, and not the bias b."""


# Annotations are texts in modules that postpone them, as pydnn's do.
_CONVERTERS: dict[str, Callable[..., FloatArray | None]] = {
    "FloatArray": readonly,
    str(FloatArray): readonly,
    "FloatArray | None": attrs.converters.optional(readonly),
    str(FloatArray | None): attrs.converters.optional(readonly),
}


def keep_readonly(cls: type[_Record]) -> type[_Record]:
    """Let copies and pickles of records of this frozen attrs class have read-only arrays, too.

    NumPy copies and unpickles arrays writeable, and attrs then sets fields without converters.
    `arrays` calls it; for classes without that, it is a decorator above `@attrs.frozen`. A class
    with its own `__reduce__` keeps that.
    """
    if "__reduce__" not in cls.__dict__:
        cls.__reduce__ = _reduce  # type: ignore[assignment]
    return cls


def _reduce(record: attrs.AttrsInstance) -> tuple[object, ...]:
    # A record without slots, such as Step, may have fields that nothing has filled in yet.
    filled = getattr(record, "__dict__", None)
    values = {
        field.alias: getattr(record, field.name)
        for field in attrs.fields(type(record))
        if field.init and (filled is None or field.name in filled or field.alias in filled)
    }
    return _remade, (type(record), values)


def _remade(cls: Callable[..., _Record], values: dict[str, object]) -> _Record:
    for value in values.values():
        _freeze_all(value)
    return cls(**values)


def _freeze_all(value: object) -> None:
    """Freeze arrays that were just copied or unpickled, or are read-only already."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, Mapping):
        _freeze_all(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            _freeze_all(item)


_by_value = attrs.cmp_using(eq=np.array_equal)


def _summary(array: FloatArray | None) -> str:
    return "None" if array is None else f"{array.dtype} {array.shape}"


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Batch:
    """Examples in columns: inputs X (n_x, m), labels Y (n_y, m), and weights (1, m), if any.

    Raises:
        BadInput: If X or Y is not at least two-dimensional, or they and the weights do not have
            the same number of examples, which the last axis counts.
    """

    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None = None  # None where all examples count the same

    def __attrs_post_init__(self) -> None:
        m = self.X.shape[-1:]
        if self.X.ndim < 2 or self.Y.ndim < 2 or self.Y.shape[-1:] != m:
            self._expect_examples_in_columns()
            _expect_columns("X", self.X, "n_x", None)
            _expect_columns("Y", self.Y, "n_y", m[0])
        if self.weights is not None and self.weights.shape != (1, *self.Y.shape[1:]):
            hint = "give one weight per example"
            expect_shape("weights", self.weights, (1, *self.Y.shape[1:]), hint=hint)

    def _expect_examples_in_columns(self) -> None:
        rows = self.X.shape[:1]
        in_rows = self.Y.shape[:1] == rows  # as in a table
        if self.X.ndim != 2 or not (in_rows or self.Y.shape[-1:] == rows):
            return
        labels = " and Y[np.newaxis]" if self.Y.ndim == 1 else " and Y.T" if in_rows else ""
        raise BadInput(
            f"X has shape {self.X.shape} and Y {self.Y.shape}, expected one column per example in "
            f"both: pass X.T{labels}."
        )


def _expect_columns(name: str, array: FloatArray, rows: str, m: int | None) -> None:
    if array.ndim < 2:
        hint = f"put examples in columns, e.g. pass {name}[np.newaxis] for one row"
        expect_shape(name, array, (rows, "m" if m is None else m), hint=hint)
    if m is not None and array.shape[-1] != m:
        hint = "give one column of labels per column of X"
        expect_shape(name, array, (rows, *array.shape[1:-1], m), hint=hint)
