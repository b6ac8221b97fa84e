"""Examples that stay in files, and come into memory batch by batch.

A table of a file is mapped into memory: the operating system reads a part when it is used and drops
it again when memory is short, so a process can train on more data than it has memory. A batch holds
the same bits in the same memory order as one of the same data in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import DTypeLike

from pydnn.checks import BadInput, BadRow, expect_same_size
from pydnn.data.conversions import plain_conversion
from pydnn.records import (
    AnyArray,
    AnyDType,
    Batch,
    FloatArray,
    RowNumbers,
    are_numbers,
    as_dtype,
    as_tuple,
    block_size,
    examples_last,
    freeze,
    numbers_of_rows,
)
from pydnn.storage.chunked import ChunkedArray
from pydnn.storage.mapped import StoredArray

__all__ = ["RowNumbers", "Stored", "StoredArray", "StoredColumns", "as_floats"]


def as_floats(rows: AnyArray, dtype: DTypeLike) -> FloatArray:
    """Rows of numbers of any dtype as floats, in a new array.

    Integers of 64 bits become float64 first, as they do in memory.

    Example:
        >>> as_floats(np.array([[1, 2]], ">i2"), np.float32)
        array([[1., 2.]], dtype=float32)
    """
    if rows.dtype.kind != "f" and rows.dtype.itemsize > 4:
        rows = rows.astype(np.float64)
    with np.errstate(over="ignore"):  # `jobs` refuses what is not finite, by its place
        floats: FloatArray = rows.astype(dtype, order="C")
    return freeze(floats)


@attrs.frozen
class StoredColumns:
    """Some columns of a stored array of two axes, in any order.

    Attributes:
        array: The array (m, n).
        places: The numbers of the columns.

    Example:
        >>> np.save("X.npy", np.arange(6).reshape(2, 3))
        >>> from pydnn.storage.mapped import open_stored
        >>> StoredColumns(open_stored("X.npy")["X"], [2, 0]).take(slice(0, 2))
        array([[2, 0],
               [5, 3]])
    """

    array: StoredArray
    places: tuple[int, ...] = attrs.field(converter=as_tuple)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the columns."""
        return (len(self), len(self.places))

    @property
    def dtype(self) -> AnyDType:
        """The dtype of the numbers in the file."""
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        """The number of bytes of the columns."""
        return len(self) * len(self.places) * self.dtype.itemsize

    @property
    def path(self) -> Path:
        """The file."""
        return self.array.path

    def take(self, which: slice | RowNumbers) -> AnyArray:
        """Some rows of the columns, by a slice or by their numbers."""
        return self.array.take(which)[:, self.places]

    def select(self, numbers: Iterable[int]) -> StoredColumns:
        """Those of the columns that have these numbers, in this order."""
        return StoredColumns(self.array, [self.places[number] for number in numbers])


InFile = StoredArray | StoredColumns | ChunkedArray  # a table that stays in its file


def _equal(ours: object, theirs: object) -> bool:
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return np.array_equal(ours, theirs)
    return type(ours) is type(theirs) and ours == theirs


_by_value = attrs.cmp_using(eq=_equal)


@attrs.frozen(unsafe_hash=False)
class Stored:
    """Examples whose arrays are in files, or in memory where they are small.

    Like `Batch`, it fulfills `records.Examples`, but its X and Y are not arrays in memory.

    Attributes:
        X: The examples, with one along each row.
        Y: The labels, with one along each row: (m, n_y), or (m,) for one number each.
        weights: The weights of the examples (m,); None where all count the same.
        lengths: The numbers of valid steps of sequences (m,); None where all steps are valid.
        dtype: The dtype in which examples come into memory, float64 or float32.
        only_rows: The numbers of the rows that are used, in order; None for all rows.
        through: Pure functions from batch to batch, applied to each batch in turn. They treat each
            example alone.

    Raises:
        BadInput: If X has fewer than two axes, or there is not one label, weight and length for
            each row of X.

    Example:
        >>> np.arange(6, dtype=np.uint8).tofile("six.bin")
        >>> stored = Stored(StoredArray("six.bin", 0, (3, 2), np.uint8), np.array([0, 1, 1]))
        >>> stored.take(np.array([2, 0])).X
        array([[4., 0.],
               [5., 1.]])
        >>> stored.count, stored.shape
        (3, (2,))
    """

    X: InFile | AnyArray = attrs.field(eq=_by_value)
    Y: InFile | AnyArray = attrs.field(eq=_by_value)
    weights: InFile | AnyArray | None = attrs.field(default=None, eq=_by_value)
    lengths: InFile | AnyArray | None = attrs.field(default=None, eq=_by_value)
    dtype: AnyDType = attrs.field(default=np.dtype(np.float64), converter=as_dtype)
    only_rows: RowNumbers | None = attrs.field(default=None, repr=False, eq=_by_value)
    through: tuple[Callable[[Batch], Batch], ...] = attrs.field(default=(), repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self.X.shape) < 2:
            raise BadInput(
                f"X has shape {self.X.shape}, expected (m, n_x): give one row per example."
            )
        m = self.X.shape[0]
        for name in ("Y", "weights", "lengths"):
            array = getattr(self, name)
            if array is not None and array.shape[:1] != (m,):
                raise BadInput(
                    f"{name} has shape {array.shape}, but X has {m} rows: give one row per example."
                )

    @property
    def count(self) -> int:
        """The number of examples, m."""
        return self.X.shape[0] if self.only_rows is None else len(self.only_rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example of X, without m."""
        return self.take(slice(0, 1)).shape if self.through else self.X.shape[1:]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label in Y, without m."""
        return self.take(slice(0, 1)).label_shape if self.through else self.Y.shape[1:] or (1,)

    @property
    def has_weights(self) -> bool:
        """Whether the examples have weights."""
        return self.take(slice(0, 1)).has_weights if self.through else self.weights is not None

    @property
    def has_lengths(self) -> bool:
        """Whether the examples are sequences with lengths."""
        return self.lengths is not None

    def file_of(self, name: str) -> str:
        """Words for the file that an array is in, " in FILE"; "" if it is in memory."""
        array = getattr(self, name)
        array = array.array if isinstance(array, StoredColumns) else array
        return f" in {array.path}" if isinstance(array, StoredArray | ChunkedArray) else ""

    def take(self, which: slice | RowNumbers) -> Batch:
        """Some examples as a batch in memory, by a slice or by their numbers.

        Raises:
            BadInput: If there are no such examples, or the file has changed so that it no longer
                holds them.
        """
        if not isinstance(which, slice) and not are_numbers(which):
            which = numbers_of_rows(which, self.count)
        try:
            batch = self._gathered(which if self.only_rows is None else self.only_rows[which])
        except IndexError:  # so that batches, whose numbers are right, are not searched for it
            numbers_of_rows(which, self.count)
            raise
        for function in self.through:
            batch = function(batch)
        return batch

    def _gathered(self, rows: slice | RowNumbers) -> Batch:
        """Some rows of the arrays as a batch, before any function is applied."""
        X, Y = (self._columns(_taken(array, rows)) for array in (self.X, self.Y))
        weights = None if self.weights is None else self._columns(_taken(self.weights, rows))
        lengths = None if self.lengths is None else _taken(self.lengths, rows).astype(np.int64)
        return Batch(X, Y, weights, lengths)

    def _columns(self, rows: AnyArray) -> FloatArray:
        floats = as_floats(rows, self.dtype)
        return examples_last(floats.reshape(-1, 1) if rows.ndim == 1 else floats)

    def blocks(self) -> Iterator[Batch]:
        """All examples in order, in batches of `block_size(shape)`; the last may be smaller."""
        size = block_size(self.shape)
        for start in range(0, self.count, size):
            try:
                block = self.take(slice(start, start + size))
            except BadRow as error:
                raise error.after(start) from error
            yield block

    def label_blocks(self) -> Iterator[FloatArray]:
        """The labels of all examples in order, in blocks, before any function is applied."""
        return (block.Y for block in self.without_X().blocks())

    def without_X(self) -> Stored:  # noqa: N802 - X is what the array is called
        """The same labels and weights with examples of no features, which take no memory.

        No function is applied to them.
        """
        X = np.empty((self.X.shape[0], 0))
        return Stored(X, self.Y, self.weights, None, self.dtype, self.only_rows)

    def labels_alone(self) -> Self:
        """The same examples with an X of no numbers, whose labels and weights pass all functions.

        Raises:
            BadInput: If one of them is not a `Conversion`, which may need X.
        """
        through = []
        for function in self.through:
            if plain_conversion(function) is None:
                raise BadInput("a function may need X for labels, expected a Conversion.")
            through.append(function.of_labels)  # type: ignore[attr-defined]
        return attrs.evolve(self, **self._no_features(), through=tuple(through))

    def _no_features(self) -> dict[str, Any]:
        # Lengths are at most as many as X has steps.
        return {"X": np.empty((self.X.shape[0], *self.X.shape[1:2], 0))}

    def only(self, which: RowNumbers) -> Self:
        """The examples of these numbers, in this order.

        Raises:
            BadInput: If there are no such examples.

        Example:
            >>> np.arange(6, dtype=np.uint8).tofile("six.bin")
            >>> stored = Stored(StoredArray("six.bin", 0, (3, 2), np.uint8), np.array([0, 1, 1]))
            >>> stored.only(np.array([2])).in_memory()
            Batch(X=float64 (2, 1), Y=float64 (1, 1), weights=None, lengths=None)
        """
        which = numbers_of_rows(which, self.count)
        rows = which if self.only_rows is None else self.only_rows[which]
        return attrs.evolve(self, only_rows=_compact(rows, self.X.shape[0]))

    def then(self, function: Callable[[Batch], Batch]) -> Self:
        """The same examples with one more function applied to each batch; see `through`."""
        return attrs.evolve(self, through=(*self.through, function))

    def reshaped(self, *shape: int) -> Self:
        """The same examples with X of another shape, such as images (H, W, C).

        Raises:
            BadInput: If rows of that shape have another count of numbers.
        """
        X = self.X
        if isinstance(X, StoredColumns):
            raise BadInput(
                f"examples are columns of a table, expected an array to reshape to {shape}: leave "
                "the reshape out."
            )
        if isinstance(X, StoredArray | ChunkedArray):
            return attrs.evolve(self, X=X.reshaped(*shape))
        expect_same_size(shape, X.shape[1:])
        return attrs.evolve(self, X=X.reshape(len(X), *shape))

    def in_memory(self) -> Batch:
        """All examples as a batch in memory."""
        return self.take(slice(None))


def _taken(array: InFile | AnyArray, which: slice | RowNumbers) -> AnyArray:
    if isinstance(array, InFile):
        return array.take(which)
    return array[which] if isinstance(which, slice) else array.take(which, axis=0)


def _compact(rows: RowNumbers, m: int) -> RowNumbers:
    """Numbers of rows, of m in all, in 32 bits if they fit, which halves the memory."""
    if m > 1 << 32 or rows.dtype == np.uint32:
        return rows
    return freeze(rows.astype(np.uint32))
