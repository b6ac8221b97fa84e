"""Large arrays written to HDF5 files block by block, each array in one piece that can be mapped.

The rows of an array never have to be in memory at the same time, and a reader can map the array
into memory, because it is neither compressed nor cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import attrs
import h5py
import numpy as np

from pydnn.records import AnyArray, AnyDType, as_dtype
from pydnn.storage.files import EarlyFlush, write_atomically
from pydnn.storage.hdf5 import encoded_texts

__all__ = ["Blocks", "write_contiguous"]

_ALIGNED = 64  # bytes: rows of mapped arrays begin on a cache line


@attrs.frozen(eq=False)
class Blocks:
    """An array that is written in blocks of rows.

    Attributes:
        shape: The shape of the whole array, rows first.
        dtype: The dtype of the array in the file.
        blocks: The rows in order, in blocks of any size; integers and floats are converted to
            `dtype`, which must hold each of them exactly.
    """

    shape: tuple[int, ...]
    dtype: AnyDType = attrs.field(converter=as_dtype)
    blocks: Iterable[AnyArray]


def write_contiguous(
    path: Path,
    arrays: Mapping[str, Blocks],
    *,
    texts: Mapping[str, str] | None = None,
    most: int,
    replace: bool = False,
) -> None:
    """Write a new HDF5 file of arrays, each contiguous, with the rows in order.

    Args:
        path: The name of the file; its folder must exist.
        arrays: The arrays by name.
        texts: Texts by name, for `read_text`. No text has the name of an array.
        most: The number of bytes that a text may have.
        replace: Whether the new file may replace an existing one.

    Raises:
        BadInput: As `write_atomically` does, or if a text is too long.

    Example:
        >>> from pathlib import Path
        >>> import h5py
        >>> rows = Blocks((3, 2), "uint8", [np.zeros((2, 2)), np.ones((1, 2))])
        >>> write_contiguous(Path("rows.h5"), {"X": rows}, most=100)
        >>> with h5py.File("rows.h5") as file:
        ...     file["X"][:]
        array([[0, 0],
               [0, 0],
               [1, 1]], dtype=uint8)
    """
    attributes, long = encoded_texts(texts or {}, most)

    def write(temporary: Path) -> None:
        with temporary.open("w+b") as plain:
            places = {}
            # HDF5 writes only the headers. They go through a file of Python's, because HDF5's own
            # files crash when the disk is full.
            with h5py.File(
                plain, "w", alignment_threshold=_ALIGNED, alignment_interval=_ALIGNED
            ) as file:
                for name, text in attributes.items():
                    file.attrs[name] = np.bytes_(text)
                for name, bytes_of_text in long.items():
                    file.create_dataset(name, data=bytes_of_text, track_times=False)
                for name, array in arrays.items():
                    places[name] = _reserve(file, name, array)
            with EarlyFlush(plain) as flush:
                for name, array in arrays.items():
                    plain.seek(places[name])
                    _write_rows(plain, name, array, flush)

    write_atomically(path, write, replace=replace)


def _reserve(file: h5py.File, name: str, array: Blocks) -> int:
    """Make room for an array, without writing it, and return its place."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    dtype = h5py.h5t.py_create(array.dtype.newbyteorder("<"))
    space = h5py.h5s.create_simple(array.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), dtype, space, layout)
    return dataset.get_offset() or 0  # an empty array has no offset


def _write_rows(plain: BinaryIO, name: str, array: Blocks, flush: EarlyFlush) -> None:
    rows = 0
    for block in array.blocks:
        little = np.ascontiguousarray(block, array.dtype.newbyteorder("<"))
        flush.wrote(plain.write(little.reshape(-1).view(np.uint8).data))
        rows += len(little)
    if rows != array.shape[0]:  # or the header would claim rows that are not in the file
        raise ValueError(f"{name} has {rows} rows, expected {array.shape[0]}")
