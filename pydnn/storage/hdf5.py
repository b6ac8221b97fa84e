"""HDF5 files: written completely or not at all, and read as data from strangers.

A file may be damaged, link to other files, or claim sizes that it does not have. So the readers
here check everything before they allocate memory for it.
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
from pydnn.records import AnyArray, AnyDType, as_array
from pydnn.storage.checksums import expect_sealed, room_for_seal, seal
from pydnn.storage.files import (
    LONGEST_TEXT,
    MOST_COMPRESSION,
    RESTORE,
    open_regular,
    write_atomically,
)
from pydnn.storage.raw_hdf5 import read_chunks, varying_attribute, varying_texts

__all__ = [
    "dataset_in",
    "encoded_texts",
    "form_of",
    "hdf5_bytes",
    "hdf5_in",
    "holds",
    "links_in",
    "name_blocks",
    "naming_damage",
    "open_hdf5",
    "read_array",
    "read_blocks",
    "read_names",
    "read_text",
    "shapes_in",
    "texts_of",
    "write_hdf5",
]

# Which of these h5py raises depends on which of HDF5's structures is damaged.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)

_Scalar = TypeVar("_Scalar", bound=np.generic)
_LONGEST_NAME = 1 << 10
_NAMES = 1 << 16  # that are read at a time
_MOST_GROUPS = 10_000
_LONGEST_FIXED = 60_000  # bytes: HDF5 has less than 64 KiB for an attribute with its header


def write_hdf5(
    path: Path,
    *,
    arrays: Mapping[str, ArrayLike],
    attributes: Mapping[str, str] | None = None,
    most: int = LONGEST_TEXT,
    sealed: bool = False,
    replace: bool = False,
) -> None:
    """Write a new HDF5 file of contiguous little-endian arrays and texts.

    Args:
        path: The name of the file; its folder must exist.
        arrays: The arrays by name; see `hdf5_bytes`.
        attributes: The texts by name.
        most: The number of bytes that a text may have.
        sealed: Whether to seal the file.
        replace: Whether the new file may replace an existing one.

    Raises:
        BadInput: As `write_atomically` does, or if a text is too long.
    """
    pieces = hdf5_bytes(arrays=arrays, attributes=attributes, most=most, sealed=sealed)

    def write(temporary: Path) -> None:
        # Plain Python writes the bytes to the disk, because HDF5 crashes when the disk is full.
        with temporary.open("wb") as plain:
            plain.writelines(pieces)

    write_atomically(path, write, replace=replace)


def hdf5_bytes(
    *,
    arrays: Mapping[str, ArrayLike],
    attributes: Mapping[str, str] | None = None,
    most: int = LONGEST_TEXT,
    sealed: bool = False,
) -> list[bytes | memoryview]:
    """An HDF5 file of contiguous little-endian arrays and texts, in pieces.

    Args:
        arrays: The arrays by name. Slashes in a name make groups.
        attributes: The texts by name, for `read_text`. No text has the name of an array.
        most: The number of bytes that a text may have.
        sealed: Whether to seal the file, so that `open_hdf5` notices any change; see `checksums`.

    Raises:
        BadInput: If a text is too long.
    """
    short, long = encoded_texts(attributes or {}, most)
    arrays = {**arrays, **long}
    room = room_for_seal(arrays) if sealed else 0
    # A BytesIO takes an eighth of the time of HDF5's own files in memory, which are copied once
    # more. It is not closed, because closing fails while an exception still holds a view of it.
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=room) as file:
        for name, encoded in short.items():
            file.attrs[name] = np.bytes_(encoded)
        places = {}
        for name, values in arrays.items():
            array = as_array(values)
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            dataset = file.create_dataset(name, data=little, track_times=False)
            if little.nbytes:
                places[name] = dataset.id.get_offset(), little.nbytes
    content = memory.getbuffer()[room:]
    return [seal(content, places, room=room), content] if sealed else [content]


def encoded_texts(
    texts: Mapping[str, str], most: int
) -> tuple[dict[str, bytes], dict[str, NDArray[np.uint8]]]:
    """Texts for a file: the short ones for attributes, and the long ones as arrays of bytes.

    A long text does not fit into an attribute of fixed size, and HDF5 does not read attributes of
    varying size safely (see `raw_hdf5`).

    Raises:
        BadInput: If a text has more than `most` bytes.
    """
    encoded = {name: _encoded(name, text, most) for name, text in texts.items()}
    long = {name: text for name, text in encoded.items() if len(text) > _LONGEST_FIXED}
    short = {name: text for name, text in encoded.items() if name not in long}
    return short, {name: np.frombuffer(text, np.uint8) for name, text in long.items()}


def _encoded(name: str, text: str, most: int) -> bytes:
    encoded = text.encode()
    if len(encoded) > most:
        raise BadInput(f"{name} has {len(encoded)} bytes, expected at most {most}: shorten it.")
    return encoded


@contextlib.contextmanager
def open_hdf5(path: Path, *, sealed: bool = False, links: bool = True) -> Iterator[h5py.File]:
    """Open a file for reading with `read_array` and `read_text`.

    Args:
        path: The name of the file.
        sealed: Whether the file must have a seal, and be refused if any byte has changed.
        links: Whether `path` may be a symbolic link to the file.

    Raises:
        BadInput: If the file is missing, or not a complete HDF5 file.
    """
    with (
        open_regular(path, what="an HDF5 file", links=links) as raw,
        hdf5_in(raw, path, sealed=sealed) as file,
    ):
        yield file


@contextlib.contextmanager
def hdf5_in(
    raw: io.BufferedReader | io.BytesIO, path: Path, *, sealed: bool = False
) -> Iterator[h5py.File]:
    """The HDF5 file in bytes that are open already; messages call it `path`."""
    try:
        if sealed:
            expect_sealed(raw, str(path))
        file = _NamedFile(_Exact(raw), path)
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(
            f"{path} is not a readable HDF5 file ({first_line(error)}): {RESTORE}."
        ) from error
    with file:
        yield file


class _Exact:
    """An open file for h5py that reports an early end as an error.

    Otherwise HDF5 would take leftover memory of the process for the missing bytes.
    """

    def __init__(self, file: io.BufferedReader | io.BytesIO) -> None:
        # h5py accepts any object with `read` and `seek` as a file, and then calls `readinto`.
        self.read, self.seek, self.tell, self.file = file.read, file.seek, file.tell, file

    def readinto(self, view: memoryview) -> int:
        if self.file.readinto(view) != len(view):
            raise OSError("the file ends too early")
        return len(view)


class _NamedFile(h5py.File):  # type: ignore[misc]
    """An HDF5 file read through an already open file, which nobody can swap after the checks."""

    def __init__(self, file: _Exact, path: Path) -> None:
        super().__init__(file, "r")
        self.raw, self._path = file.file, path

    @property
    def filename(self) -> str:
        """The name of the file, for messages."""
        return str(self._path)


def holds(file: h5py.File, name: str) -> bool:
    """Whether the file has an entry called `name`; unlike `name in file`, this follows no links.

    Args:
        file: A file from `open_hdf5`.
        name: A name without slashes.
    """
    with naming_damage(f"the list of names in {file.filename}"):
        return name in list(file)


def links_in(file: h5py.File) -> tuple[str, ...]:
    """The names at the top of the file that are links to other places, which may not exist.

    Args:
        file: A file from `open_hdf5`.
    """
    with naming_damage(f"the list of names in {file.filename}"):
        linked = (file.get(name, getlink=True) for name in file)
        names = zip(file, linked, strict=True)
        return tuple(name for name, link in names if not isinstance(link, h5py.HardLink))


def shapes_in(file: h5py.File, group: str = "") -> dict[str, tuple[int, ...]]:
    """The names of all arrays in a group and in the groups below it, with their shapes.

    Args:
        file: A file from `open_hdf5`.
        group: The name of the group, which begins each returned name; "" is the whole file.

    Raises:
        BadInput: If the group is missing or the file is damaged, e.g. a group is inside itself.
    """
    where = f"{group or 'the list of arrays'} in {file.filename}"
    shapes: dict[str, tuple[int, ...]] = {}
    visited: set[int] = set()

    def walk(entry: h5py.HLObject, name: str) -> None:
        if isinstance(entry, h5py.Dataset) and entry.shape is not None:
            shapes[name] = entry.shape
        if not isinstance(entry, h5py.Group):
            return
        place = h5py.h5o.get_info(entry.id).addr
        if place in visited or len(visited) > _MOST_GROUPS:
            raise BadInput(f"{where} has groups inside themselves, or too many: {RESTORE}.")
        visited.add(place)
        for part in entry:
            if isinstance(entry.get(part, getlink=True), h5py.HardLink):
                walk(entry[part], f"{name}/{part}" if name else part)

    with naming_damage(where):
        walk(_inside(file, group, where) if group else file, group)
    return shapes


def texts_of(file: h5py.File, group: str, name: str) -> list[str] | None:
    """The list of short texts in an attribute of a group; None if there is no such attribute.

    Args:
        file: A file from `open_hdf5`.
        group: The name of the group; "" is the whole file.
        name: The name of the attribute.

    Raises:
        BadInput: If the attribute is not a list of short texts, or the file is damaged.
    """
    where = f"attribute {name} of {group or 'the top'} in {file.filename}"
    with naming_damage(where):
        owner = _inside(file, group, where) if group else file
        if name not in list(owner.attrs):
            return None
        stored = owner.attrs.get_id(name)
        if stored.shape == (0,):
            return []
        if len(stored.shape) != 1 or not h5py.check_string_dtype(stored.dtype):
            raise BadInput(f"{where} is not a list of texts: write the file again.")
        if stored.get_storage_size() > LONGEST_TEXT:
            raise BadInput(f"{where} is longer than a mebibyte: write the file again.")
        if stored.dtype.kind == "S":
            return [bytes(text).decode() for text in owner.attrs[name]]
        texts = varying_attribute(
            file.raw,
            name,
            most=_LONGEST_NAME,
            count=stored.shape[0],
            header=h5py.h5o.get_info(owner.id).addr,
        )
        return [text.decode() for text in texts]


def stored_bytes(file: h5py.File) -> dict[str, int]:
    """The number of bytes that each top-level array takes in the file, by name; links do not count.

    Args:
        file: A file from `open_hdf5`.

    Raises:
        BadInput: If the file is damaged.
    """
    with naming_damage(f"the list of arrays in {file.filename}"):
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
    """Read one array, after checking everything about it before taking memory for it.

    Args:
        file: A file from `open_hdf5`.
        name: The name of the array; slashes lead through groups.
        dtype: The expected dtype, in either byte order; `np.number` for any numbers, `np.integer`
            for any integers, `np.bytes_` for texts of fixed size.
        shape: The expected shape; a text stands for an axis of any size, None for any shape.
        compressed: Whether the array may be in chunks, plain or compressed once with gzip. Such
            an array can be a thousand times as large as its bytes in the file.

    Raises:
        BadInput: If the array is missing, a link, of another dtype or shape, stored in another
            file, compressed in another way, smaller than it claims, or damaged.
    """
    where = f"{name} in {file.filename}"
    with naming_damage(where):
        dataset = dataset_in(file, name, where)
        _expect_dtype(where, dataset.dtype, dtype)
        if shape is not None:
            expect_shape(where, dataset, shape, hint=RESTORE)
        if dataset.chunks and not compressed:
            raise BadInput(f"{where} is in chunks, expected one block: {RESTORE}.")
        _expect_stored(where, dataset)
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size and dataset.chunks:
            read_chunks(where, dataset, array, raw=file.raw)
        elif array.size:
            dataset.read_direct(array)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def form_of(file: h5py.File, name: str) -> tuple[tuple[int, ...], AnyDType, int]:
    """The shape and the dtype of an array of numbers, and the rows of one of its chunks, or 1.

    Args:
        file: A file from `open_hdf5`.
        name: The name of the array; slashes lead through groups.

    Raises:
        BadInput: As `read_array` does.
    """
    where = f"{name} in {file.filename}"
    with naming_damage(where):
        dataset = dataset_in(file, name, where)
        dtype = np.dtype(dataset.dtype.str)
        if dtype.kind not in "biuf" or not dataset.ndim:
            raise BadInput(f"{where} holds {dtype}, expected rows of numbers: convert it.")
        _expect_stored(where, dataset)
        return dataset.shape, dtype, dataset.chunks[0] if dataset.chunks else 1


def read_blocks(file: h5py.File, name: str, *, rows: int, readers: int = 1) -> Iterator[AnyArray]:
    """The rows of an array of numbers in blocks.

    Args:
        file: A file from `open_hdf5`.
        name: The name of the array; slashes lead through groups.
        rows: The number of rows of a block. A chunk of which two blocks have a part is read twice.
        readers: The number of threads that inflate chunks at the same time.

    Raises:
        BadInput: As `read_array` does.
    """
    form_of(file, name)  # refuses what is not numbers
    return _blocks(file, name, rows, readers)


def _blocks(file: h5py.File, name: str, rows: int, readers: int = 1) -> Iterator[AnyArray]:
    where = f"{name} in {file.filename}"
    dataset = dataset_in(file, name, where)
    shape = dataset.shape
    for first in range(0, shape[0], rows):
        with naming_damage(where):
            block = np.empty((min(rows, shape[0] - first), *shape[1:]), dataset.dtype)
            if block.size and dataset.chunks:
                read_chunks(where, dataset, block, raw=file.raw, first=first, readers=readers)
            elif block.size:
                dataset.read_direct(block, np.s_[first : first + len(block)])
        yield block


def read_names(file: h5py.File, name: str, *, count: int | str = "count") -> list[str]:
    """Read a list of short names, of fixed size or, as h5py writes them by default, varying size.

    Args:
        file: A file from `open_hdf5`.
        name: The name of the list; slashes lead through groups.
        count: The expected number of names; a text stands for any number.

    Raises:
        BadInput: As `read_array` does, or if a name is longer than a kibibyte or not UTF-8.
    """
    _expect_names(file, name, count)
    return [text for block in name_blocks(file, name, rows=_NAMES) for text in block]


def _expect_names(file: h5py.File, name: str, count: int | str = "count") -> None:
    """Refuse what is not a list of names, of which `count` are expected; see `read_names`."""
    where = f"{name} in {file.filename}"
    with naming_damage(where):
        dataset = dataset_in(file, name, where)
        if not h5py.check_string_dtype(dataset.dtype):
            raise BadInput(f"{where} holds {dataset.dtype}, expected names: write them as texts.")
        expect_shape(where, dataset, (count,), hint="give one name per class")
        _expect_stored(where, dataset)


def name_blocks(file: h5py.File, name: str, *, rows: int) -> Iterator[list[str]]:
    """A list of names in blocks of `rows`; see `read_names`.

    Raises:
        BadInput: As `read_names` does.
    """
    _expect_names(file, name)
    where = f"{name} in {file.filename}"
    dataset = dataset_in(file, name, where)
    blocks: Iterator[list[bytes]]
    if dataset.dtype.kind == "S":
        blocks = (block.tolist() for block in _blocks(file, name, rows))
    else:
        blocks = varying_texts(file.raw, dataset, most=_LONGEST_NAME, rows=rows)
    with naming_damage(where):
        for block in blocks:
            try:
                names = [text.rstrip(b"\0").decode() for text in block]
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{where} hold {error.object!r}, expected UTF-8: write them again."
                ) from error
            yield names


def dataset_in(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    """The HDF5 data set called `name`, which must be in the file itself and have a shape.

    Args:
        file: A file from `open_hdf5`.
        name: The name; slashes lead through groups.
        where: The name of the data set and of its file, for messages.

    Raises:
        BadInput: If there is no such data set, a link leads to it, or it has no shape.
    """
    dataset = _inside(file, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise BadInput(f"{where} is not an array, expected one: {RESTORE}.")
    if dataset.shape is None:
        raise BadInput(f"{where} is empty, expected an array: {RESTORE}.")
    return dataset


def _inside(file: h5py.File, name: str, where: str) -> h5py.HLObject:
    """The object that `name` leads to, through hard links of this file alone."""
    current: h5py.HLObject = file
    for part in name.split("/"):
        if not isinstance(current, h5py.Group):
            raise BadInput(f"{where} is not in a group, expected one: {RESTORE}.")
        # "" and "." lead back to the group itself, and are the name of nothing in it.
        link = current.get(part, getlink=True) if part.strip(".") else None
        if link is None:
            expect_known("array", part, current.keys(), place=file.filename)
        if not isinstance(link, h5py.HardLink):
            raise BadInput(f"{where} is a link, expected the data itself: links are not followed.")
        current = current[part]
    return current


def read_text(file: h5py.File, name: str, *, fixed: bool = True, most: int = LONGEST_TEXT) -> str:
    """Read one text, which `write_hdf5` wrote as an attribute or, if it is long, as bytes.

    Args:
        file: A file from `open_hdf5`.
        name: The name of the text.
        fixed: Whether the text must have a fixed size, as pydnn writes it since 0.2.0.
        most: The number of bytes that the text may have.

    Raises:
        BadInput: If the text is missing, not a text, too long, or damaged.
    """
    where = f"attribute {name} in {file.filename}"
    with naming_damage(where):
        attributes = file.attrs  # once, since h5py opens the group anew each time
        listed = name in attributes
        if not listed and holds(file, name):
            text = read_array(file, name, dtype=np.uint8, shape=("bytes",), compressed=False)
            if text.size > most:
                raise BadInput(f"{where} is not a single short text: {RESTORE}.")
            return text.tobytes().decode()
        if not listed:
            expect_known("attribute", name, list(attributes), place=file.filename)
        stored = attributes.get_id(name)
        if stored.shape != () or stored.get_storage_size() > most:
            raise BadInput(f"{where} is not a single short text: {RESTORE}.")
        if stored.dtype.kind == "S":
            content = np.empty((), stored.dtype)
            stored.read(content)
            return bytes(content[()]).decode()
        if fixed or not h5py.check_string_dtype(stored.dtype):
            raise BadInput(f"{where} is not a text of fixed size: {RESTORE}.")
        return varying_attribute(file.raw, name, most=most)[0].decode()


@contextlib.contextmanager
def naming_damage(where: str) -> Iterator[None]:
    """Turn whatever h5py raises for a damaged file into one line that says `where`."""
    try:
        yield
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(f"{where} is damaged ({first_line(error)}): {RESTORE}.") from error


def _expect_dtype(where: str, dtype: AnyDType, expected: type[np.generic] | AnyDType) -> None:
    if expected is np.bytes_:
        fits, words = dtype.kind == "S", "bytes"
    elif expected is np.integer:
        fits, words = dtype.kind in "iu", "integers"
    elif expected is np.number:
        fits, words = dtype.kind in "iuf", "numbers"
    else:
        fits, words = dtype.newbyteorder("=") == np.dtype(expected), np.dtype(expected).name
    if not fits or dtype.hasobject:
        raise BadInput(f"{where} holds {dtype}, expected {words}: convert it.")


def _expect_stored(where: str, dataset: h5py.Dataset) -> None:
    """Refuse an array that claims more bytes than this file holds of it."""
    if dataset.is_virtual or dataset.external:
        raise BadInput(f"{where} is kept in other files, expected its data: copy it into one file.")
    stored = min(dataset.id.get_storage_size(), dataset.file.id.get_filesize())
    compact_or_whole = dataset.chunks is None
    most = stored if compact_or_whole else stored * MOST_COMPRESSION
    # HDF5 reads a chunk as a whole, and the chunk of a growing array may be larger than the array.
    count = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()) if dataset.size else 0)
    if (claimed := count * dataset.dtype.itemsize) > most:
        raise BadInput(f"{where} claims {claimed} bytes, but the file holds {stored}: {RESTORE}.")
