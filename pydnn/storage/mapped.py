"""Arrays that stay in their file and are mapped into memory, once their place is checked.

A map shows the bytes of a file as they are. So an array can be mapped only if its numbers lie in
one block, uncompressed, in a format that NumPy has. The file is data from a stranger: its header
may claim any place and any size, and both are checked against the file before anything is mapped.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_known,
    expect_same_size,
    first_line,
    is_shape,
    path_of,
)
from pydnn.free_memory import free_memory
from pydnn.records import AnyArray, AnyDType, as_dtype, as_tuple, freeze, keep_readonly
from pydnn.storage.files import RESTORE, open_regular
from pydnn.storage.hdf5 import dataset_in, form_of, hdf5_in, naming_damage, shapes_in
from pydnn.storage.npy import NPY_DAMAGE, NPY_MAGIC, Member, dtype_of_values, npy_header
from pydnn.storage.raw_hdf5 import expect_numpy_numbers
from pydnn.storage.remembered import FileState, state_of

__all__ = ["NotMappable", "StoredArray", "open_stored", "stays_in_file"]

_KINDS = "iuf"  # integers and floats, as for arrays of examples in memory
# If the rows to take lie within this many times their number, most of what the system reads ahead
# is used.
_NEAR = 8
_LARGEST = 8  # bytes of a number; the format of a longer float depends on the machine


class NotMappable(BadInput):
    """Raised for an undamaged array that is stored in a form that cannot be mapped."""


@keep_readonly
@attrs.frozen(slots=False)
class StoredArray:
    """A table of numbers in a file: one example per row, without gaps between the rows.

    It is mapped into memory when it is first used. Pickled, it is only the place and the form of
    the table, so another process maps the file for itself.

    Attributes:
        path: The file.
        offset: The number of bytes in the file before the table.
        shape: The shape of the table, with the examples along the first axis.
        dtype: The dtype of the numbers in the file, of either byte order.
        opened: The state of the file when it was opened, if that is known.

    Raises:
        BadInput: When it is first used, if the file is missing, or shorter than it was.

    Example:
        >>> np.arange(6, dtype=np.uint8).tofile("six.bin")
        >>> table = StoredArray("six.bin", 0, (3, 2), np.uint8)
        >>> table.take(np.array([2, 0]))
        array([[4, 5],
               [0, 1]], dtype=uint8)
    """

    path: Path = attrs.field(converter=path_of)
    offset: int
    shape: tuple[int, ...] = attrs.field(converter=as_tuple)
    dtype: AnyDType = attrs.field(converter=as_dtype)
    opened: FileState | None = attrs.field(default=None, eq=False, repr=False)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """The number of bytes of the table."""
        return math.prod(self.shape) * self.dtype.itemsize

    @functools.cached_property
    def rows(self) -> AnyArray:
        """The table as a read-only array, whose rows are read from the file when they are used."""
        return self._mapped()

    @functools.cached_property
    def _scattered(self) -> AnyArray:
        """The table in another map, for rows far from each other.

        The system then reads only the pages of these rows. Otherwise it reads 128 KiB for each of
        them, since most programs go on to what follows.
        """
        return self._mapped(getattr(mmap, "MADV_RANDOM", None))  # Windows has no such advice

    def _mapped(self, advice: int | None = None) -> AnyArray:
        if not self.nbytes:  # no system can map zero bytes
            return freeze(np.empty(self.shape, self.dtype))
        with open_regular(self.path, what="a file of arrays") as file:
            size, needed = file.seek(0, 2), self.offset + self.nbytes
            if size < needed:
                raise BadInput(
                    f"{self.path} has {size} bytes, expected {needed} or more: restore it, since "
                    "it has changed after it was opened."
                )
            # A map begins at a multiple of a number that depends on the system.
            skipped = self.offset % mmap.ALLOCATIONGRANULARITY
            length, start = skipped + self.nbytes, self.offset - skipped
            view = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
            if advice is not None:
                view.madvise(advice)
        return np.ndarray(self.shape, self.dtype, view, skipped)

    def take(self, which: slice | NDArray[np.integer[Any]]) -> AnyArray:
        """Some rows, by a slice or by their numbers."""
        if isinstance(which, slice):
            return self.rows[which]
        far = len(which) and int(which.max()) - int(which.min()) > _NEAR * len(which)
        return (self._scattered if far else self.rows).take(which, axis=0)

    def reshaped(self, *shape: int) -> StoredArray:
        """The same table with rows of another shape, such as images (H, W, C) instead of columns.

        Example:
            >>> StoredArray("images.bin", 0, (5, 12), np.uint8).reshaped(2, 2, 3).shape
            (5, 2, 2, 3)
        """
        expect_same_size(shape, self.shape[1:])
        return attrs.evolve(self, shape=(len(self), *shape))


def open_stored(path: AnyPath, names: Iterable[str] | None = None) -> dict[str, StoredArray]:
    """The places of arrays in a file, checked so that they can be mapped; no number is read.

    Args:
        path: An HDF5 file, or an npy file, whose one array is called "X".
        names: The names of the arrays; None for all arrays of integers and floats that have an
            axis. Slashes lead through groups.

    Returns:
        The arrays by name. Numbers may be in the byte order of another machine.

    Raises:
        NotMappable: If an array is undamaged, but in chunks, compressed, in other files, in Fortran
            order, or not of integers or floats of at most 8 bytes.
        BadInput: If the file is missing or damaged, lacks one of the names, or an array is a link
            or claims another place or size than it has.

    Example:
        >>> data = nn.data.DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]]))
        >>> nn.data.save_table("a.h5", data)
        >>> stored = open_stored("a.h5", ["train_X"])["train_X"]
        >>> stored.shape, stored.dtype
        ((2, 1), dtype('float64'))
    """
    path = path_of(path)
    with open_regular(path, what="an HDF5 or npy file") as raw:
        opened = state_of(path)
        head = raw.read(len(NPY_MAGIC))
        raw.seek(0)
        if head == NPY_MAGIC:
            array = _in_npy(path, raw, opened)
            for name in names or ():
                expect_known("array", name, ["X"], place=path)
            return {"X": array}
        with hdf5_in(raw, path) as file:
            size = raw.seek(0, 2)
            if names is None:
                names = [name for name in shapes_in(file) if _has_numbers(file, name)]
            return {name: _in_hdf5(path, file, name, size, opened) for name in names}


_SHARE = 4  # data stays in its file if it would take more than 1 / _SHARE of the free memory


def stays_in_file(nbytes: int, mapped: bool | None = None) -> bool:
    """Whether data stays in its file and is mapped, instead of coming into memory.

    Args:
        nbytes: The bytes that the data would take in memory, as floats.
        mapped: Whether the caller wants it mapped; None to map data that would take more than a
            quarter of the free memory.

    Example:
        >>> stays_in_file(1000), stays_in_file(1000, mapped=True), stays_in_file(1 << 60)
        (False, True, True)
    """
    free = free_memory()
    return (free is not None and nbytes * _SHARE > free) if mapped is None else mapped


def _in_npy(path: Path, raw: BufferedReader, opened: FileState) -> StoredArray:
    size = raw.seek(0, 2)
    raw.seek(0)
    try:
        shape, fortran, dtype = npy_header(Member(raw, size), dtype_of_values)
    except NPY_DAMAGE as error:
        raise BadInput(
            f"{path} is not a readable array of numbers ({first_line(error)}): save it again with "
            "numpy.save."
        ) from error
    _expect_numbers(path, str(path), dtype, len(shape))
    if fortran and sum(n > 1 for n in shape) > 1:
        raise NotMappable(
            f"{path} is in Fortran order, expected one example after the other: {_advice(path)}."
        )
    return StoredArray(path, raw.tell(), shape, dtype, opened)


def _advice(path: Path) -> str:
    return f"copy it once with pydnn data import {path} NEW.h5"


def _has_numbers(file: h5py.File, name: str) -> bool:
    with naming_damage(where := f"{name} in {file.filename}"):
        dataset = dataset_in(file, name, where)
        return dataset.ndim > 0 and dataset.dtype.kind in _KINDS


_ELSEWHERE = "is kept in other files"


def _in_hdf5(path: Path, file: h5py.File, name: str, size: int, opened: FileState) -> StoredArray:
    with naming_damage(where := f"{name} in {path}"):
        dataset = dataset_in(file, name, where)
        shape, dtype = dataset.shape, np.dtype(dataset.dtype.str)  # without h5py's metadata
        _expect_numbers(path, where, dtype, len(shape))
        plan = dataset.id.get_create_plist()
        form = None
        if dataset.is_virtual or dataset.external:
            form = _ELSEWHERE
        elif plan.get_nfilters():
            form = "is compressed or checked in chunks"
        elif plan.get_layout() == h5py.h5d.CHUNKED:
            form = "is stored in chunks"
        elif plan.get_layout() != h5py.h5d.CONTIGUOUS:
            form = "is stored in the file's header"
        if form is not None:
            advice = "copy all of it into one file, e.g. with h5py"
            if form != _ELSEWHERE:
                form_of(file, name)  # refuses what an import would refuse, such as a false size
                advice = _advice(path)
            raise NotMappable(f"{where} {form}, expected one block: {advice}.")
        expect_numpy_numbers(where, dataset)
        array = StoredArray(path, dataset.id.get_offset() or 0, shape, dtype, opened)
        stored = dataset.id.get_storage_size() if array.offset else 0
    if not is_shape(shape) or array.nbytes != stored or array.offset + array.nbytes > size:
        raise BadInput(
            f"{where} claims the shape {shape}, which is {array.nbytes} bytes at {array.offset}, "
            f"but the file has {stored} bytes of it and {size} in all: {RESTORE}."
        )
    return array


def _expect_numbers(path: Path, where: str, dtype: AnyDType, axes: int) -> None:
    if dtype.kind not in _KINDS or dtype.itemsize > _LARGEST or not axes:
        what, expected, advice = str(dtype), "numbers", "convert it"
        if not axes:
            what, expected, advice = f"a single {dtype}", "one example per row", "save rows"
        elif dtype.kind == "b":
            expected, advice = "integers or floats", _advice(path)
        elif dtype.kind == "f":
            expected = f"floats of at most {_LARGEST} bytes"
        raise NotMappable(f"{where} holds {what}, expected {expected}: {advice}.")
