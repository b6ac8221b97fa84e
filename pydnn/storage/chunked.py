"""Arrays that stay in their file in chunks, plain or compressed, and are read in blocks of rows.

A row cannot be read without the rest of its chunk. So the latest blocks are kept in memory. Reading
is fast if rows come from few places, as in batches with a window, and slow if they come from
anywhere in the file.
"""

from __future__ import annotations

import collections
import functools
import math
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import AnyPath, BadInput, expect_same_size, path_of
from pydnn.records import AnyArray, AnyDType, as_dtype, as_tuple, freeze, keep_readonly
from pydnn.storage.files import RESTORE
from pydnn.storage.hdf5 import dataset_in, form_of, naming_damage, open_hdf5
from pydnn.storage.raw_hdf5 import read_chunks
from pydnn.storage.remembered import FileState, state_of

__all__ = ["ChunkedArray", "open_chunked"]

_BYTES_OF_A_BLOCK = 1 << 21
_BYTES_KEPT = 1 << 28
_READERS = 2  # threads that inflate chunks


@keep_readonly
@attrs.frozen(slots=False)
class ChunkedArray:
    """A table of numbers in an HDF5 file in chunks, with one example per row.

    Pickled, it is only the place and the form of the table.

    Attributes:
        path: The file.
        name: The name of the array in the file.
        shape: The shape of the table, with the examples along the first axis.
        dtype: The dtype of the numbers in the file.
        height: The number of rows of a chunk.
        opened: The state of the file when it was opened, if that is known.

    Example:
        >>> import h5py
        >>> with h5py.File("chunks.h5", "w") as file:
        ...     _ = file.create_dataset("X", data=np.arange(6).reshape(3, 2), compression="gzip")
        >>> open_chunked("chunks.h5", ["X"])["X"].take(np.array([2, 0]))
        array([[4, 5],
               [0, 1]])
    """

    path: Path = attrs.field(converter=path_of)
    name: str
    shape: tuple[int, ...] = attrs.field(converter=as_tuple)
    dtype: AnyDType = attrs.field(converter=as_dtype)
    height: int
    opened: FileState | None = attrs.field(default=None, eq=False, repr=False)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """The number of bytes of the table in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, which: slice | NDArray[np.integer[Any]]) -> AnyArray:
        """Some rows, by a slice or by their numbers.

        Raises:
            BadInput: If the file is missing or damaged, or has changed.
        """
        numbers = np.arange(*which.indices(len(self))) if isinstance(which, slice) else which
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"numbers of rows are outside of the {len(self)} rows")
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        blocks, places = np.divmod(numbers, self._rows_of_a_block)
        for block in np.unique(blocks):
            inside = blocks == block
            rows[inside] = self._block(int(block))[places[inside]]
        return freeze(rows)

    def reshaped(self, *shape: int) -> ChunkedArray:
        """The same table with rows of another shape, such as images (H, W, C) instead of columns.

        Raises:
            BadInput: If rows of that shape have another count of numbers.
        """
        expect_same_size(shape, self.shape[1:])
        return attrs.evolve(self, shape=(len(self), *shape))

    @property
    def _rows_of_a_block(self) -> int:
        """As many whole chunks as fit, and at least one."""
        of_a_chunk = self.height * max(1, math.prod(self.shape[1:])) * self.dtype.itemsize
        return self.height * max(1, _BYTES_OF_A_BLOCK // of_a_chunk)

    @functools.cached_property
    def _kept(self) -> tuple[threading.Lock, collections.OrderedDict[int, AnyArray]]:
        return threading.Lock(), collections.OrderedDict()  # a thread may read the next batch

    def _block(self, number: int) -> AnyArray:
        lock, kept = self._kept
        with lock:
            if number in kept:
                kept.move_to_end(number)
            else:
                block = kept[number] = self._read(number)
                while len(kept) > 1 and sum(b.nbytes for b in kept.values()) > _BYTES_KEPT:
                    kept.popitem(last=False)
                return block
            return kept[number]

    def _read(self, number: int) -> AnyArray:
        first = number * self._rows_of_a_block
        count = min(self._rows_of_a_block, len(self) - first)
        with open_hdf5(self.path) as file:
            where = f"{self.name} in {self.path}"
            shape, dtype, height = form_of(file, self.name)
            same = (len(self), math.prod(self.shape), self.dtype, self.height)
            if same != (shape[0], math.prod(shape), dtype, height):
                raise BadInput(f"{where} has changed since it was opened: {RESTORE}.")
            dataset = dataset_in(file, self.name, where)
            block = np.empty((count, *shape[1:]), dtype)
            with naming_damage(where):
                if dataset.chunks:
                    read_chunks(where, dataset, block, raw=file.raw, first=first, readers=_READERS)
                else:
                    dataset.read_direct(block, np.s_[first : first + count])
        return freeze(block.reshape(count, *self.shape[1:]))


def open_chunked(path: AnyPath, names: Iterable[str]) -> dict[str, ChunkedArray]:
    """The places of arrays in an HDF5 file, checked; no number is read.

    Args:
        path: The file.
        names: The names of the arrays; slashes lead through groups.

    Raises:
        BadInput: If the file is missing or damaged, or an array is a link, not of numbers, or
            compressed in another way than once with gzip.
    """
    path = path_of(path)
    opened = state_of(path)
    with open_hdf5(path) as file:
        return {name: ChunkedArray(path, name, *form_of(file, name), opened) for name in names}
