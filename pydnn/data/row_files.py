"""Arrays in HDF5, npz and npy files, read in blocks of rows, with one example per row."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path

import attrs
import h5py
import numpy as np

from pydnn.checks import BadInput, expect_known, first_line
from pydnn.data.stored_tables import is_stored_table
from pydnn.data.table_files import HDF5, ZIP
from pydnn.free_memory import free_memory, readable
from pydnn.records import AnyArray, AnyDType
from pydnn.storage.checksums import may_be_sealed
from pydnn.storage.files import open_regular, unchanged
from pydnn.storage.hdf5 import (
    dataset_in,
    form_of,
    hdf5_in,
    links_in,
    name_blocks,
    naming_damage,
    read_blocks,
    shapes_in,
)
from pydnn.storage.npy import (
    NPY_DAMAGE,
    NPY_MAGIC,
    Member,
    dtype_of_values,
    npy_array,
    npy_header,
)

__all__ = ["RowFile", "Rows", "open_rows"]

_KINDS = "biuf"  # of numbers and truth values
_READERS = 2  # threads that inflate chunks at the same time


@attrs.frozen(eq=False)
class Rows:
    """An array in a file, of which some rows are in memory at a time.

    Attributes:
        shape: The shape of the whole array.
        dtype: The dtype of its numbers; blocks of texts and dates may have another dtype.
        blocks: `(rows) -> blocks`, all rows in order, in blocks of this many; the last may be
            smaller.
        multiple: The rows of a chunk; blocks of a multiple of it are read fastest.
    """

    shape: tuple[int, ...]
    dtype: AnyDType
    blocks: Callable[[int], Iterator[AnyArray]]
    multiple: int = 1

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)


@attrs.frozen(eq=False)
class RowFile:
    """The arrays of an open file.

    Attributes:
        path: The file.
        arrays: Its arrays of one axis or more, by name; the one of an npy file is called "X".
        expect_unchanged: Refuses the file if another program has written to it since it was opened.
        links: The names of its entries that are links, which are not followed.
        is_npy: Whether it is an npy file.
        is_stored: Whether it is a table that `store_table` wrote.
    """

    path: Path
    arrays: Mapping[str, Rows]
    expect_unchanged: Callable[[], None]
    links: tuple[str, ...] = ()
    is_npy: bool = False
    is_stored: bool = False

    def array(self, name: str) -> Rows:
        """The array of this name.

        Raises:
            BadInput: If there is none, with the nearest name.
        """
        expect_known("array", name, self.arrays, place=self.path)
        return self.arrays[name]


@contextlib.contextmanager
def open_rows(path: Path) -> Iterator[RowFile | None]:
    """Open the arrays of a file for reading in blocks of rows; None if it is of another kind.

    Raises:
        BadInput: If it is missing or damaged; or at the end, if it has changed meanwhile.
    """
    with open_regular(path, what="a file of data") as file, unchanged(file, path) as check:
        head = file.read(1 << 16)
        size = file.seek(0, 2)
        file.seek(0)
        if head.startswith(NPY_MAGIC):
            rows = _npy(str(path), lambda: contextlib.nullcontext(_from_start(file, size)))
            yield RowFile(path, {"X": rows}, check, is_npy=True)
        elif head.startswith(ZIP):
            with _in_npz(path) as arrays:
                yield RowFile(path, arrays, check)
        elif head.startswith(HDF5) or may_be_sealed(head) or path.suffix in (".h5", ".hdf5"):
            with hdf5_in(file, path) as hdf5:
                links = links_in(hdf5)
                yield RowFile(path, _in_hdf5(hdf5), check, links, is_stored=is_stored_table(hdf5))
        else:
            yield None


def _from_start(file: BufferedReader, size: int) -> Member:
    file.seek(0)
    return Member(file, size)


# HDF5


def _in_hdf5(file: h5py.File) -> dict[str, Rows]:
    arrays = {}
    for name, shape in shapes_in(file).items():
        with naming_damage(where := f"{name} in {file.filename}"):
            dtype = dataset_in(file, name, where).dtype
        if shape and h5py.check_string_dtype(dtype):
            arrays[name] = Rows(shape, np.dtype(object), _names(file, name))
        elif shape:
            arrays[name] = _numbers(file, name, shape, dtype)
    return arrays


def _numbers(file: h5py.File, name: str, shape: tuple[int, ...], dtype: AnyDType) -> Rows:
    def blocks(rows: int) -> Iterator[AnyArray]:
        return read_blocks(file, name, rows=rows, readers=_READERS)

    chunk = 1
    if dtype.kind in _KINDS:  # others are refused when they are read
        shape, dtype, chunk = form_of(file, name)
    return Rows(shape, dtype, blocks, chunk)


def _names(file: h5py.File, name: str) -> Callable[[int], Iterator[AnyArray]]:
    def blocks(rows: int) -> Iterator[AnyArray]:
        yield from (np.array(names, object) for names in name_blocks(file, name, rows=rows))

    return blocks


# npz and npy


@contextlib.contextmanager
def _in_npz(path: Path) -> Iterator[dict[str, Rows]]:
    from pydnn.interop.npz import opened_member, opened_zip  # here, since few users need it

    with opened_zip(path, what="an npz file") as archive:
        names = archive.namelist()
        if not names or not all(name.endswith(".npy") for name in names):
            raise BadInput(
                f"{path} is a ZIP archive without arrays, expected an npz file: save a spreadsheet "
                "as CSV, and arrays with numpy.savez."
            )

        def rows_of(name: str) -> Rows:
            return _npy(f"{name} in {path}", lambda: opened_member(path, archive, name))

        yield {name.removesuffix(".npy"): rows_of(name) for name in names}


def _npy(where: str, opened: Callable[[], contextlib.AbstractContextManager[Member]]) -> Rows:
    """The array of an npy file, which `opened` opens at its beginning."""
    with _readable(where), opened() as member:
        shape, fortran, dtype = npy_header(member, dtype_of_values)

    def blocks(rows: int) -> Iterator[AnyArray]:
        with _readable(where), opened() as member:
            if fortran and len(shape) > 1:
                yield from _turned(where, member, rows)
                return
            npy_header(member, dtype_of_values)
            size = math.prod(shape[1:]) * dtype.itemsize
            for first in range(0, shape[0], rows):
                count = min(rows, shape[0] - first)
                block: AnyArray = np.frombuffer(member.read(count * size), dtype)
                yield block.reshape(count, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)

    return Rows(shape, dtype, blocks)


def _turned(where: str, member: Member, rows: int) -> Iterator[AnyArray]:
    """The rows of an array that lies in the file column by column, so all of it is read first."""
    if (free := free_memory()) is not None and member.left > free:
        raise BadInput(
            f"{where} is in Fortran order and takes {readable(member.left)}, but {readable(free)} "
            "are free: save it in C order, e.g. by numpy.save of numpy.ascontiguousarray(X)."
        )
    array = npy_array(member, dtype_of_values)
    yield from (array[first : first + rows] for first in range(0, len(array), rows))


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except BadInput:
        raise
    except NPY_DAMAGE as error:
        raise BadInput(
            f"{where} is not a readable array ({first_line(error)}): save it again with numpy.save."
        ) from error
