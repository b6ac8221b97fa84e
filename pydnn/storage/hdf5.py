"""HDF5 files: written whole or not at all, and read as data from strangers.

What is read is checked before anything is allocated: an HDF5 file may hold links to other files,
claim sizes that it does not have, or be damaged.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_known, expect_shape, first_line
from pydnn.records import AnyDType, as_array
from pydnn.storage.checksums import expect_sealed, room_for_seal, seal
from pydnn.storage.files import LONGEST_TEXT, MOST_COMPRESSION, open_regular, write_atomically
from pydnn.storage.raw_hdf5 import read_chunks, varying_attribute, varying_texts

__all__ = ["holds", "open_hdf5", "read_array", "read_names", "read_text", "write_hdf5"]

# What h5py raises for a damaged file depends on which of HDF5's structures is hit.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


# Deflate cannot shrink data by more than about 1030 times; a larger claim is not to be believed.


_Scalar = TypeVar("_Scalar", bound=np.generic)
_LONGEST_NAME = 1 << 10
_LONGEST_FIXED = 60_000  # bytes: HDF5 has less than 64 KiB for all of an attribute


def write_hdf5(
    path: Path,
    *,
    arrays: Mapping[str, ArrayLike],
    attributes: Mapping[str, str] | None = None,
    sealed: bool = False,
    replace: bool = False,
) -> None:
    """Write a new HDF5 file of contiguous little-endian arrays and texts.

    Args:
        path: The file's name; its folder must exist.
        arrays: By name; a name with slashes lies in groups.
        attributes: Texts, by name, see `read_text`; none has the name of an array.
        sealed: Whether any change of the file shall be found when it is opened, see `seals`.
        replace: Whether a file of that name may be replaced.

    Raises:
        BadInput: As `write_atomically` does, or if a text is longer than a mebibyte.
    """
    texts = {name: _encoded(name, text) for name, text in (attributes or {}).items()}
    # HDF5 has no room for all texts as attributes; and it reads those of fixed size alone safely.
    long = {name: text for name, text in texts.items() if len(text) > _LONGEST_FIXED}
    arrays = {**arrays, **{name: np.frombuffer(text, np.uint8) for name, text in long.items()}}

    def write(temporary: Path) -> None:
        room = room_for_seal(arrays) if sealed else 0
        # Made in memory and written as bytes: HDF5 itself does not survive a disk that is full.
        # Python's own memory takes an eighth of the time of HDF5's, which is copied once more.
        # It is not closed: an error that still holds a view of it would not let it.
        memory = io.BytesIO()
        with h5py.File(memory, "w", userblock_size=room) as file:
            for name, encoded in texts.items():
                if name not in long:
                    file.attrs[name] = np.bytes_(encoded)
            places = {}
            for name, values in arrays.items():
                array = as_array(values)
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                made = file.create_dataset(name, data=little, track_times=False)
                if little.nbytes:
                    places[name] = made.id.get_offset(), little.nbytes
        content = memory.getbuffer()[room:]
        with temporary.open("wb") as plain:
            if sealed:
                plain.write(seal(content, places, room=room))
            plain.write(content)

    write_atomically(path, write, replace=replace)


def _encoded(name: str, text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > LONGEST_TEXT:
        raise BadInput(
            f"{name} has {len(encoded)} bytes, expected at most {LONGEST_TEXT}: shorten it."
        )
    return encoded


@contextlib.contextmanager
def open_hdf5(path: Path, *, sealed: bool = False, links: bool = True) -> Iterator[h5py.File]:
    """Open a file for reading with `read_array` and `read_text`.

    Args:
        path: The file's name.
        sealed: Whether it was written so, and must be refused if any byte has changed.
        links: Whether `path` may be a symbolic link to the file.

    Raises:
        BadInput: If there is no such file, or it is not a whole HDF5 file.
    """
    with open_regular(path, what="an HDF5 file", links=links) as raw:
        try:
            if sealed:
                expect_sealed(raw, str(path))
            file = _NamedFile(_Exact(raw), path)
        except BadInput:
            raise
        except _DAMAGE as error:
            raise BadInput(
                f"{path} is no HDF5 file that can be read ({first_line(error)}): get it again."
            ) from error
        with file:
            yield file


class _Exact:
    """An open file as HDF5 reads it: what it lacks is an error, and never leftover memory."""

    def __init__(self, file: io.BufferedReader) -> None:
        # h5py takes for a file whatever has `read` and `seek`; it uses `readinto`.
        self.read, self.seek, self.tell, self.file = file.read, file.seek, file.tell, file

    def readinto(self, view: memoryview) -> int:
        if self.file.readinto(view) != len(view):
            raise OSError("the file ends too early")
        return len(view)


class _NamedFile(h5py.File):  # type: ignore[misc]
    """HDF5 in a file that is open already, so that nobody can swap it after it was checked."""

    def __init__(self, file: _Exact, path: Path) -> None:
        super().__init__(file, "r")
        self.raw, self._path = file.file, path

    @property
    def filename(self) -> str:
        """The file's name, for messages."""
        return str(self._path)


def holds(file: h5py.File, name: str) -> bool:
    """Whether the file has something called `name`; unlike `name in file`, without following links.

    Args:
        file: From `open_hdf5`.
        name: A name without slashes.
    """
    with _damage_told(f"the list of names in {file.filename}"):
        return name in list(file)


def stored_bytes(file: h5py.File) -> dict[str, int]:
    """The bytes that each array at the top of the file takes in it, by name; links are left out.

    Args:
        file: From `open_hdf5`.

    Raises:
        BadInput: If the file is damaged.
    """
    with _damage_told(f"the list of arrays in {file.filename}"):
        most = file.id.get_filesize()
        inside = [n for n in list(file) if isinstance(file.get(n, getlink=True), h5py.HardLink)]
        arrays = [(name, file[name]) for name in inside]
        return {
            name: min(array.id.get_storage_size(), most)  # a forged header may claim any size
            for name, array in arrays
            if isinstance(array, h5py.Dataset)
        }


def read_array(
    file: h5py.File,
    name: str,
    *,
    dtype: type[_Scalar] | np.dtype[_Scalar],
    shape: Sequence[int | str] | None,
    compressed: bool = True,
) -> NDArray[_Scalar]:
    """Read one array, with everything about it checked before memory is taken for it.

    Args:
        file: From `open_hdf5`.
        name: The data set's name; one with slashes lies in groups.
        dtype: What its numbers must be, in either byte order; `np.number` for any of them,
            `np.integer` for any integers, `np.bytes_` for texts of fixed size.
        shape: What its shape must be; a text stands for an axis of any size, and None for any
            shape at all.
        compressed: Whether it may be in chunks, which can grow a thousandfold when they are read.
            They may be compressed by gzip, once.

    Raises:
        BadInput: If it is missing, a link, not an array, of another dtype or shape, kept in other
            files, compressed in another way, not as large as it claims, or damaged.
    """
    where = f"{name} in {file.filename}"
    with _damage_told(where):
        dataset = _dataset(file, name, where)
        _expect_dtype(where, dataset.dtype, dtype)
        if shape is not None:
            expect_shape(where, dataset, shape, hint="get the file again")
        if dataset.chunks and not compressed:
            raise BadInput(f"{where} is in chunks, expected one stretch: get the file again.")
        _expect_stored(where, dataset)
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size and dataset.chunks:
            read_chunks(where, dataset, array)
        elif array.size:
            dataset.read_direct(array)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_names(file: h5py.File, name: str, *, count: int | str = "count") -> list[str]:
    """Read a list of short names, of fixed size or of varying size as h5py writes them by default.

    Args:
        file: From `open_hdf5`.
        name: The data set's name; one with slashes lies in groups.
        count: How many names there must be; a text stands for any number.

    Raises:
        BadInput: As `read_array` does, or if one is longer than a kibibyte or not UTF-8.
    """
    where = f"{name} in {file.filename}"
    with _damage_told(where):
        dataset = _dataset(file, name, where)
        if not h5py.check_string_dtype(dataset.dtype):
            raise BadInput(f"{where} holds {dataset.dtype}, expected names: write them as texts.")
        expect_shape(where, dataset, (count,), hint="give one name per class")
        if dataset.dtype.kind == "S":
            names = read_array(file, name, dtype=np.bytes_, shape=(count,)).tolist()
        else:
            _expect_stored(where, dataset)
            names = varying_texts(file.raw, dataset, most=_LONGEST_NAME)
    try:
        return [text.rstrip(b"\0").decode() for text in names]
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{where} hold {error.object!r}, expected UTF-8: write them again."
        ) from error


def _dataset(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    """The data set called `name`, which is in the file itself and has a shape."""
    dataset = _inside(file, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise BadInput(f"{where} is not an array, expected one: get the file again.")
    if dataset.shape is None:
        raise BadInput(f"{where} is empty, expected an array: get the file again.")
    return dataset


def _inside(file: h5py.File, name: str, where: str) -> h5py.HLObject:
    """What `name` leads to in the file itself, through no link but its own."""
    found: h5py.HLObject = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise BadInput(f"{where} is in no group, expected one: get the file again.")
        expect_known(f"data set in {file.filename}", part, found.keys())
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise BadInput(f"{where} is a link, expected the data itself: links are not followed.")
        found = found[part]
    return found


def read_text(file: h5py.File, name: str, *, fixed: bool = True) -> str:
    """Read one text of the file, which `write_hdf5` wrote as an attribute or, if long, as bytes.

    Args:
        file: From `open_hdf5`.
        name: The text's name.
        fixed: Whether it must be of fixed size, as pydnn writes texts since 0.2.0.

    Raises:
        BadInput: If it is missing, not a text, longer than a mebibyte, or damaged.
    """
    where = f"attribute {name} in {file.filename}"
    with _damage_told(where):
        attributes = list(file.attrs)
        if name not in attributes and holds(file, name):
            text = read_array(file, name, dtype=np.uint8, shape=("bytes",), compressed=False)
            if text.size > LONGEST_TEXT:
                raise BadInput(f"{where} is no single short text: get the file again.")
            return text.tobytes().decode()
        expect_known(f"attribute in {file.filename}", name, attributes)
        stored = file.attrs.get_id(name)
        if stored.shape != () or stored.get_storage_size() > LONGEST_TEXT:
            raise BadInput(f"{where} is no single short text: get the file again.")
        if stored.dtype.kind == "S":
            return bytes(file.attrs[name]).decode()
        if fixed or not h5py.check_string_dtype(stored.dtype):
            raise BadInput(f"{where} is no text of fixed size: get the file again.")
        return varying_attribute(file.raw, name, most=LONGEST_TEXT).decode()


@contextlib.contextmanager
def _damage_told(where: str) -> Iterator[None]:
    """Turn whatever h5py raises over a damaged file into one line."""
    try:
        yield
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(f"{where} is damaged ({first_line(error)}): get the file again.") from error


def _expect_dtype(where: str, found: AnyDType, expected: type[np.generic] | AnyDType) -> None:
    if expected is np.bytes_:
        fits, wanted = found.kind == "S", "bytes"
    elif expected is np.integer:
        fits, wanted = found.kind in "iu", "integers"
    elif expected is np.number:
        fits, wanted = found.kind in "iuf", "numbers"
    else:
        fits, wanted = found.newbyteorder("=") == np.dtype(expected), np.dtype(expected).name
    if not fits or found.hasobject:
        raise BadInput(f"{where} holds {found}, expected {wanted}: convert it.")


def _expect_stored(where: str, dataset: h5py.Dataset) -> None:
    """Refuse an array whose bytes are not all in this file, whatever its header claims."""
    if dataset.is_virtual or dataset.external:
        raise BadInput(f"{where} is kept in other files, expected its data: copy it into one file.")
    stored = min(dataset.id.get_storage_size(), dataset.file.id.get_filesize())
    compact_or_whole = dataset.chunks is None
    most = stored if compact_or_whole else stored * MOST_COMPRESSION
    # One chunk is read as a whole, and one that can grow may be larger than the array.
    count = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()) if dataset.size else 0)
    if (claimed := count * dataset.dtype.itemsize) > most:
        raise BadInput(
            f"{where} claims {claimed} bytes, but the file holds {stored}: get it again."
        )
