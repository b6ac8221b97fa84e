"""Frozen records of arrays, which cannot be written to, compare by value and print their shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pydnn.checks import BadInput, BadRow, expect_shape, shown
from pydnn.sequences import expect_lengths

__all__ = [
    "WEIGHTS",
    "AnyArray",
    "AnyDType",
    "Batch",
    "Examples",
    "Fields",
    "FloatArray",
    "IntArray",
    "RowNumbers",
    "Unchanging",
    "are_numbers",
    "arrays",
    "as_array",
    "as_dtype",
    "as_tuple",
    "block_size",
    "contiguous",
    "each_block",
    "examples_first",
    "examples_last",
    "freeze",
    "keep_readonly",
    "maker_of",
    "numbers_of_rows",
    "readonly",
    "scalar",
]

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
AnyArray: TypeAlias = NDArray[np.generic]  # entries of any kind
AnyDType: TypeAlias = np.dtype[np.generic]
RowNumbers: TypeAlias = NDArray[np.uint32] | NDArray[np.int64]
Fields: TypeAlias = "list[attrs.Attribute[Any]]"  # the fields of an attrs class
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Result = TypeVar("_Result")
_Record = TypeVar("_Record", bound=attrs.AttrsInstance)


def as_dtype(dtype: DTypeLike) -> AnyDType:
    """A dtype from anything that NumPy takes as one, for the fields of records."""
    return np.dtype(dtype)


def as_tuple(numbers: Iterable[int]) -> tuple[int, ...]:
    """Integers as a tuple, e.g. those of a shape, for the fields of records."""
    return tuple(numbers)


def readonly(x: ArrayLike) -> FloatArray:
    """Return a read-only view of `x`; integers become float64, floats keep their dtype.

    Complex arrays pass if they are read-only already: `pydnn.testing` measures some derivatives
    with complex numbers.

    Raises:
        BadInput: If `x` is not an array of numbers, see `as_array`.

    Example:
        >>> a = readonly([1, 2])
        >>> a.dtype, a.flags.writeable
        (dtype('float64'), False)
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
    """Return `x` as a plain array of NumPy, whatever subclass or nested list it is.

    Raises:
        BadInput: If entries are masked, since they would count as numbers without the mask; if
            rows have unequal lengths.
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
            "an array has rows of unequal length, expected a rectangle of numbers: "
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
    """Make an array read-only and return it; only for an array that the caller has just made."""
    # Passing the flag by position takes half the time; NumPy's types do not know that it works.
    array.setflags(False)  # type: ignore[call-arg]
    return array


def contiguous(array: FloatArray) -> FloatArray:
    """Return a read-only array of the same numbers in C order, without a copy if it is in it."""
    copy = np.ascontiguousarray(array)
    return readonly(array) if copy is array else freeze(copy)


@functools.lru_cache(maxsize=256)
def scalar(value: float, dtype: DTypeLike) -> FloatArray:
    """Return the number `value` as an array without axes, which is made once.

    An operation on a small array and this takes half the time of one with a Python number.
    """
    return freeze(np.array(value, dtype))


class Unchanging:
    """Base of classes whose objects never change: a copy of such an object is the object itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def maker_of(cls: type[_Record]) -> Callable[..., _Record]:
    """Return a fast constructor of a frozen attrs class, for values that are known to be right.

    It takes every field in order, and skips converters and checks, which take three times as long.
    Training steps use it. So does code whose arrays have more axes than the class expects.
    """
    fields = attrs.fields(cls)
    slots = [f.name for f in fields if f.init and hasattr(cls.__dict__.get(f.name), "__set__")]
    if len(slots) < len(fields):
        return cls  # it has no slots, or fills in some of its fields itself
    setters: list[Callable[[_Record, object], None]] = [cls.__dict__[n].__set__ for n in slots]
    new = object.__new__
    # Most records of a step have two to four fields. Without the loop these take half the time.
    if len(setters) == 4:
        set_1, set_2, set_3, set_4 = setters

        def make_four(first: object, second: object, third: object, fourth: object) -> _Record:
            record = new(cls)
            set_1(record, first)
            set_2(record, second)
            set_3(record, third)
            set_4(record, fourth)
            return record

        return make_four
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
    """Make every field annotated `FloatArray` read-only, comparable and short to print.

    Use it as `@attrs.frozen(unsafe_hash=False, field_transformer=arrays)`. Arrays are compared by
    value, since `==` alone gives an array instead of a truth value, and printed as dtype and shape.
    With `unsafe_hash=False`, `hash(record)` says that a record of arrays has no hash. A field
    annotated `FloatArray | None` may also hold None. Copies and unpickled records are read-only,
    too.
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
"""Metadata of a field that holds weights, which a weight stream draws: of W, but not of b."""


# With `from __future__ import annotations`, as in all of pydnn, annotations are texts.
_CONVERTERS: dict[str, Callable[..., FloatArray | None]] = {
    "FloatArray": readonly,
    str(FloatArray): readonly,
    "FloatArray | None": attrs.converters.optional(readonly),
    str(FloatArray | None): attrs.converters.optional(readonly),
}


def keep_readonly(cls: type[_Record]) -> type[_Record]:
    """Make the arrays of copied and unpickled records of a frozen attrs class read-only, too.

    NumPy copies and unpickles arrays as writeable, and attrs then sets fields without converters.
    `arrays` does this already; use it above `@attrs.frozen` for a class without `arrays`. A class
    with its own `__reduce__` keeps it.
    """
    if "__reduce__" not in cls.__dict__:
        cls.__reduce__ = _reduce  # type: ignore[assignment]
    return cls


def _reduce(record: attrs.AttrsInstance) -> tuple[object, ...]:
    # A record without slots, such as Step, may have fields that no part has filled in yet.
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
    """Make every array in a nested value read-only: each is a new copy, or read-only already."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, Mapping):
        _freeze_all(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            _freeze_all(item)


_by_value = attrs.cmp_using(eq=np.array_equal)


def _summary(array: AnyArray | None) -> str:
    return "None" if array is None else f"{array.dtype} {array.shape}"


def examples_first(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The array with its last axis, the examples, as the first one.

    Example:
        >>> examples_first(np.zeros((8, 6, 3, 50))).shape
        (50, 8, 6, 3)
    """
    # Of a matrix the transpose, which takes a third of the time. Neither copies anything.
    return array.T if array.ndim <= 2 else array.transpose(-1, *range(array.ndim - 1))


def examples_last(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The array with its first axis, the examples, as the last one.

    Example:
        >>> examples_last(np.zeros((50, 8, 6, 3))).shape
        (8, 6, 3, 50)
    """
    return array.T if array.ndim <= 2 else array.transpose(*range(1, array.ndim), 0)


_NUMBERS_IN_A_BLOCK = 1 << 20  # of X


def block_size(shape: tuple[int, ...]) -> int:
    """The number of examples in a block: the largest power of two with at most 2**20 numbers of X.

    Args:
        shape: The shape of one example of X.

    Example:
        >>> block_size((784,)), block_size((2000, 2000))
        (1024, 1)
    """
    most = max(1, _NUMBERS_IN_A_BLOCK // max(1, math.prod(shape)))
    return 1 << (most.bit_length() - 1)


def each_block(function: Callable[[Batch], _Result], blocks: Iterable[Batch]) -> Iterator[_Result]:
    """What a function makes of each of consecutive blocks of examples.

    Raises:
        BadRow: As the function does, with the number of the row among those of all blocks.

    Example:
        >>> blocks = [nn.Batch([[1.0, 2.0]], [[0, 1]]), nn.Batch([[3.0]], [[1]])]
        >>> list(each_block(lambda block: float(block.X.sum()), blocks))
        [3.0, 3.0]
    """
    rows = 0
    for block in blocks:
        try:
            result = function(block)
        except BadRow as error:
            raise error.after(rows) from error
        yield result
        rows += block.count


class Examples(Protocol):
    """Examples in memory (`Batch`) or in files (`data.Stored`), of which batches are made.

    Example:
        >>> def mean(examples):
        ...     return sum(block.X.sum() for block in examples.blocks()) / examples.count
        >>> float(mean(nn.Batch([[1.0, 2.0, 6.0]], [[0, 1, 1]])))
        3.0
    """

    @property
    def count(self) -> int:
        """The number of examples, m."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example of X, without m."""

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label in Y, without m."""

    @property
    def has_weights(self) -> bool:
        """Whether the examples have weights."""

    @property
    def has_lengths(self) -> bool:
        """Whether the examples are sequences with lengths."""

    def take(self, which: slice | IntArray) -> Batch:
        """Some examples as a batch in memory, by a slice or by their numbers.

        Each example is contiguous in the arrays of the batch, if it is in these examples.
        """

    def only(self, which: IntArray) -> Examples:
        """The examples of these numbers, which stay where they are."""

    def then(self, function: Callable[[Batch], Batch]) -> Examples:
        """What a function makes of the examples; of those in files, batch by batch."""

    def blocks(self) -> Iterator[Batch]:
        """All examples in order, in batches of `block_size(shape)`; the last may be smaller."""

    def label_blocks(self) -> Iterator[FloatArray]:
        """The labels of all examples in order, in blocks, without reading X."""

    def in_memory(self) -> Batch:
        """All examples as one batch."""

    def reshaped(self, *shape: int) -> Examples:
        """The same examples with X of another shape, such as images (H, W, C)."""


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Batch:
    """Examples in columns: inputs X (n_x, m), labels Y (n_y, m), and optional weights (1, m).

    The last axis is the examples, whatever axes come before it: X is (H, W, C, m) for images,
    (T, n, m) for sequences and (T, m) for sequences of ids. Y is (T, m) or (T, n_y, m) if each step
    has labels. Sequences of unequal length are padded to T steps, and `lengths` (m,) holds their
    numbers of valid steps.

    Raises:
        BadInput: If X or Y has fewer than two axes; if X, Y, weights and lengths do not have the
            same number of examples m, the size of their last axis; or if a length is not from 1 to
            the size of X's first axis.

    Example:
        >>> table, labels = np.ones((200, 3)), np.zeros(200)  # one example in each row
        >>> nn.Batch(table.T, labels[np.newaxis])
        Batch(X=float64 (3, 200), Y=float64 (1, 200), weights=None, lengths=None)
        >>> steps = np.zeros((5, 2, 3))  # three sequences of up to 5 steps of 2 numbers
        >>> nn.Batch(steps, [[0, 1, 1]], lengths=[5, 2, 4]).lengths
        array([5, 2, 4])
    """

    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None = None  # None where all examples count the same
    lengths: IntArray | None = attrs.field(  # None where all steps are valid
        default=None, eq=attrs.cmp_using(eq=np.array_equal), repr=_summary
    )

    def __attrs_post_init__(self) -> None:
        m = self.X.shape[-1:]
        if self.X.ndim < 2 or self.Y.ndim < 2 or self.Y.shape[-1:] != m:
            self._expect_examples_in_columns()
            _expect_columns("X", self.X, "n_x", None)
            _expect_columns("Y", self.Y, "n_y", m[0])
        if self.weights is not None and self.weights.shape != (1, *m):
            expect_shape("weights", self.weights, (1, *m), hint="give one weight per example")
        if self.lengths is not None:
            lengths = expect_lengths(self.lengths, len(self.X), m[0])
            object.__setattr__(self, "lengths", lengths)

    @property
    def count(self) -> int:
        """The number of examples, m."""
        return int(self.X.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example of X, without m."""
        return self.X.shape[:-1]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label in Y, without m."""
        return self.Y.shape[:-1]

    @property
    def has_weights(self) -> bool:
        """Whether the examples have weights."""
        return self.weights is not None

    @property
    def has_lengths(self) -> bool:
        """Whether the examples are sequences with lengths."""
        return self.lengths is not None

    def take(self, which: slice | IntArray) -> Batch:
        """Some examples, by a slice or by their numbers.

        Raises:
            BadInput: If there are no such examples.

        Example:
            >>> nn.Batch([[5.0, 6.0, 7.0]], [[0, 1, 1]]).take(np.array([2, 0])).X
            array([[7., 5.]])
        """
        rows: slice | RowNumbers = which
        if not isinstance(which, slice) and not are_numbers(which):
            rows = numbers_of_rows(which, self.count)
        arrays = (self.X, self.Y, self.weights, self.lengths)
        try:
            X, Y, weights, lengths = (None if a is None else _taken(a, rows) for a in arrays)
        except IndexError:  # so that batches, whose numbers are right, are not searched for it
            numbers_of_rows(rows, self.count)
            raise
        batch: Batch = _batch(X, Y, weights, lengths)
        return batch

    def blocks(self) -> Iterator[Batch]:
        """All examples in order, in batches of `block_size(shape)`; the last may be smaller."""
        m, size = self.count, block_size(self.shape)
        if m <= size:
            yield self
            return
        for start in range(0, m, size):
            yield self.take(slice(start, start + size))

    def only(self, which: IntArray) -> Self:
        """The examples of these numbers."""
        some = self.take(which)
        assert isinstance(some, type(self))
        return some

    def in_memory(self) -> Batch:
        """These examples, which are in memory."""
        return self

    def reshaped(self, *shape: int) -> Self:
        """The same examples with X of another shape, such as images (H, W, C); a view."""
        return attrs.evolve(self, X=self.X.reshape(*shape, self.count))

    def then(self, function: Callable[[Batch], Batch]) -> Batch:
        """What a function makes of these examples."""
        return function(self)

    def label_blocks(self) -> Iterator[FloatArray]:
        """The labels of all examples: Y, in one block."""
        yield self.Y

    def _expect_examples_in_columns(self) -> None:
        rows = self.X.shape[:1]
        in_rows = self.Y.shape[:1] == rows  # Y has one example in each row, as a table does
        if self.X.ndim < 2 or not (in_rows or self.Y.shape[-1:] == rows):
            return
        labels = _turned("Y", self.Y) if in_rows else ""
        expected = "one column per example" if self.X.ndim == 2 else "the examples on the last axis"
        raise BadInput(
            f"X has shape {self.X.shape} and Y {self.Y.shape}, expected {expected} in both: pass "
            f"{_turned('X', self.X)}{labels and ' and '}{labels}."
        )


_batch = maker_of(Batch)  # without checks, because examples of a batch form a batch


def numbers_of_rows(which: object, count: int) -> RowNumbers:
    """The numbers of some of `count` rows.

    Raises:
        BadInput: If they are not whole numbers from 0 to `count` - 1, in one axis.

    Example:
        >>> numbers_of_rows([2, 0], 3)
        array([2, 0])
    """
    try:
        numbers = np.asarray(which)
    except ValueError:  # lists of several lengths
        numbers = np.empty(())
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        what = f"{numbers.dtype} {numbers.shape}" if numbers.ndim else shown(which)[:60]
        raise BadInput(
            f"rows are {what}, expected a slice or a list of whole numbers: give the "
            "numbers of the rows, from 0 on."
        )
    if not (inside := (numbers >= 0) & (numbers < count)).all():
        raise BadInput(
            f"rows hold {numbers[np.argmin(inside)]}, expected numbers from 0 to {count - 1}: "
            "leave it out."
        )
    # Those of 32 bits stay so, because there may be as many as rows.
    return numbers if numbers.dtype == np.uint32 else numbers.astype(np.int64, copy=False)


def are_numbers(which: object) -> bool:
    """Whether `which` is an array of whole numbers of one axis, of which no copy is needed."""
    return isinstance(which, np.ndarray) and which.dtype.kind in "iu" and which.ndim == 1


def _taken(array: NDArray[_Scalar], which: slice | RowNumbers) -> NDArray[_Scalar]:
    if isinstance(which, slice):
        return array[..., which]
    # Each example is contiguous in this memory order, so rows of examples copy faster.
    rows = examples_first(array)
    if rows.flags.c_contiguous:
        # Half of the time of rows[which].
        return examples_last(freeze(rows.take(which, axis=0)))
    return freeze(array[..., which])


def _turned(name: str, array: FloatArray) -> str:
    """The code that moves the examples of an array from the first axis to the last one."""
    if array.ndim == 1:
        return f"{name}[np.newaxis]"
    return f"{name}.T" if array.ndim == 2 else f"np.moveaxis({name}, 0, -1)"


def _expect_columns(name: str, array: FloatArray, rows: str, m: int | None) -> None:
    if array.ndim < 2:
        hint = f"put examples in columns, e.g. pass {name}[np.newaxis] for one row"
        expect_shape(name, array, (rows, "m" if m is None else m), hint=hint)
    if m is not None and array.shape[-1] != m:
        hint = "give one column of labels per column of X"
        expect_shape(name, array, (rows, *array.shape[1:-1], m), hint=hint)
