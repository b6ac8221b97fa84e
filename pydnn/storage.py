"""Files on disk: written whole or not at all, and read as data from strangers.

A file is written under a temporary name, flushed to the disk, and only then given its own name,
so that there is no moment at which a power cut leaves a broken one. What is read is checked
before anything is allocated: an HDF5 file may hold links to other files, claim sizes that it
does not have, or be damaged.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, NameTaken, expect_known, expect_shape
from pydnn.seals import expect_sealed, room_for_seal, seal

__all__ = [
    "exclusive",
    "make_folder",
    "open_hdf5",
    "read_array",
    "read_small_text",
    "read_text",
    "write_atomically",
    "write_hdf5",
    "write_text",
]

# What h5py raises for a damaged file depends on which of HDF5's structures is hit.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)
# Deflate cannot shrink data by more than about 1030 times; a larger claim is not to be believed.
_MOST_COMPRESSION = 1100
_LONGEST_TEXT = 1 << 20
_LONGEST_FIXED = 60_000  # bytes: HDF5 has less than 64 KiB for all of an attribute


def write_atomically(path: Path, write: Callable[[Path], object], *, replace: bool = False) -> None:
    """Have `write` fill a temporary file, and give it the name `path` once it is on the disk.

    Args:
        path: The file's name; its folder must exist.
        write: Called with the temporary file's path.
        replace: Whether a file of that name may be replaced.

    Raises:
        BadInput: If the file exists and may not be replaced, the folder is missing or cannot be
            written, or the disk is full. No part of a new file is left, and an old one stays.
    """
    temporary = _temporary_beside(path)
    try:
        try:
            write(temporary)
            _flush_to_disk(temporary)
            if replace:
                temporary.replace(path)
            else:
                path.hardlink_to(temporary)  # fails where the name is taken: no moment between
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise BadInput(f"{path} exists already, expected a new name: choose another.") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else _brief(error)
        raise BadInput(
            f"{path} cannot be written ({reason}): choose a place with room that can be written."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a new file of UTF-8 text.

    Raises:
        BadInput: As `write_atomically` does.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()))


def read_small_text(path: Path) -> str:
    """The UTF-8 text of a file that a person may have written, of at most a mebibyte.

    Raises:
        BadInput: If it is missing, larger, or no text.
    """
    no_file = path.exists() and not (path.is_file() or path.is_dir())
    if no_file:  # a pipe would keep its reader waiting for ever
        raise BadInput(f"{path} is no file, expected a short text: check the path.")
    try:
        with path.open("rb") as file:
            read = file.read(_LONGEST_TEXT + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): check the path.") from error
    if len(read) > _LONGEST_TEXT:
        raise BadInput(f"{path} is larger than a mebibyte, expected a short text: check the path.")
    try:
        return read.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text ({error}): check the path.") from error


def make_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a new folder with everything in it that `fill` puts there, whole or not at all.

    Args:
        path: The folder's name; those above it are made, too.
        fill: Called with the temporary folder's path.

    Raises:
        BadInput: If there is something of that name, or it cannot be written; also what `fill`
            raises.
    """
    if path.exists() or path.is_symlink():
        raise NameTaken(f"{path} exists already, expected a new name: choose another.")
    temporary = _temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            fill(temporary)
            for folder in (*(p for p in temporary.rglob("*") if p.is_dir()), temporary):
                _flush_folder(folder)
            temporary.rename(path)  # which no folder with something in it gives way to
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _flush_folder(path.parent)
    except BadInput as error:  # about a file that was to be in it
        raise BadInput(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        if path.exists():
            raise NameTaken(
                f"{path} exists already, expected a new name: choose another."
            ) from error
        raise BadInput(
            f"{path} cannot be made ({error.strerror}): choose a place with room that can be "
            "written."
        ) from error


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the file `path`, made where it is missing, so that no other process can hold it.

    However a process ends, it holds nothing afterwards; the file stays.

    Raises:
        BadInput: If another one holds it, or it cannot be written.
    """
    try:
        file = path.open("ab")
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error.strerror}): choose a place that can be written."
        ) from error
    with file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise BadInput(
                f"{path.parent} is being written by another process: wait until that has ended."
            ) from error
        except OSError as error:  # of a file system that has no locks
            raise BadInput(
                f"{path} cannot be locked ({error.strerror}): choose a folder on another disk."
            ) from error
        yield


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
        attributes: Texts, by name; in a sealed file of fixed size, see `read_text`.
        sealed: Whether any change of the file shall be found when it is opened, see `seals`.
        replace: Whether a file of that name may be replaced.

    Raises:
        BadInput: As `write_atomically` does, or if a text is too long for a sealed file.
    """
    texts = {
        name: _of_fixed_size(name, text) if sealed else text
        for name, text in (attributes or {}).items()
    }

    def write(temporary: Path) -> None:
        room = room_for_seal(arrays) if sealed else 0
        # Made in memory and written as bytes: HDF5 itself does not survive a disk that is full.
        with h5py.File(
            temporary, "w", driver="core", backing_store=False, userblock_size=room
        ) as file:
            for name, text in texts.items():
                file.attrs[name] = text
            for name, values in arrays.items():
                array = np.asarray(values)
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                file.create_dataset(name, data=little, track_times=False)
            places = {
                name: (file[name].id.get_offset(), file[name].nbytes)
                for name in arrays
                if file[name].nbytes
            }
            file.flush()
            image = file.id.get_file_image()  # which has no room in front of it
        with temporary.open("wb") as plain:
            if sealed:
                plain.write(seal(image, places, room=room))
            plain.write(image)

    write_atomically(path, write, replace=replace)


def _of_fixed_size(name: str, text: str) -> np.bytes_:
    encoded = text.encode()
    if len(encoded) > _LONGEST_FIXED:
        raise BadInput(
            f"{name} has {len(encoded)} bytes, expected at most {_LONGEST_FIXED}: shorten it."
        )
    return np.bytes_(encoded)


@contextlib.contextmanager
def open_hdf5(path: Path, *, sealed: bool = False) -> Iterator[h5py.File]:
    """Open a file for reading with `read_array` and `read_text`.

    Args:
        path: The file's name.
        sealed: Whether it was written so, and is to be refused where any byte has changed.

    Raises:
        BadInput: If there is no such file, or it is no whole HDF5 file.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise BadInput(f"{path} {what}, expected an HDF5 file: check the path.")
    try:
        if sealed:
            expect_sealed(path)
        file = h5py.File(path, "r")
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(
            f"{path} is no HDF5 file that can be read ({_brief(error)}): get it again."
        ) from error
    with file:
        yield file


def read_array(
    file: h5py.File,
    name: str,
    *,
    dtype: Any,
    shape: Sequence[int | str],
    compressed: bool = True,
) -> NDArray[Any]:
    """Read one array, with everything about it checked before memory is taken for it.

    Args:
        file: From `open_hdf5`.
        name: The data set's name; one with slashes lies in groups.
        dtype: What its numbers are to be, in either byte order; `np.number` for any of them,
            `bytes` for texts of fixed size.
        shape: What its shape is to be; a text stands for an axis of any size.
        compressed: Whether it may be in chunks, which can grow a thousandfold when they are read.

    Raises:
        BadInput: If it is missing, a link, no array, of another dtype or shape, kept in other
            files, not as large as it claims, or damaged.
    """
    where = f"{name} in {file.filename}"
    with _damage_told(where):
        dataset = _inside(file, name, where)
        if not isinstance(dataset, h5py.Dataset):
            raise BadInput(f"{where} is no array, expected one: get the file again.")
        _expect_dtype(where, dataset.dtype, dtype)
        if dataset.shape is None:
            raise BadInput(f"{where} is empty, expected an array: get the file again.")
        expect_shape(where, dataset, shape, hint="get the file again")
        if dataset.chunks and not compressed:
            raise BadInput(f"{where} is in chunks, expected one stretch: get the file again.")
        _expect_stored(where, dataset)
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size:
            dataset.read_direct(array)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _inside(file: h5py.File, name: str, where: str) -> Any:
    """What `name` leads to in the file itself, through no link but its own."""
    found: Any = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise BadInput(f"{where} is in no group, expected one: get the file again.")
        expect_known(f"data set in {file.filename}", part, found.keys())
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise BadInput(f"{where} is a link, expected the data itself: links are not followed.")
        found = found[part]
    return found


def read_text(file: h5py.File, name: str, *, fixed: bool = False) -> str:
    """Read one text attribute of the file.

    Args:
        file: From `open_hdf5`.
        name: The attribute's name.
        fixed: Whether it must be of fixed size, as sealed files have it. For a text of varying
            size HDF5 takes whatever memory the file claims, up to 4 GiB, before it looks.

    Raises:
        BadInput: If it is missing, no text, longer than a mebibyte, or damaged.
    """
    where = f"attribute {name} in {file.filename}"
    with _damage_told(where):
        expect_known(f"attribute in {file.filename}", name, file.attrs.keys())
        stored = file.attrs.get_id(name)
        if stored.shape != () or stored.get_storage_size() > _LONGEST_TEXT:
            raise BadInput(f"{where} is no single short text: get the file again.")
        if fixed and stored.dtype.kind != "S":
            raise BadInput(f"{where} is no text of fixed size: get the file again.")
        text = file.attrs[name]
        if isinstance(text, bytes):
            text = text.decode()
        if not isinstance(text, str):
            raise BadInput(
                f"{where} is {type(text).__name__}, expected a text: get the file again."
            )
        return text


@contextlib.contextmanager
def _damage_told(where: str) -> Iterator[None]:
    """Turn whatever h5py raises over a damaged file into one line."""
    try:
        yield
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(f"{where} is damaged ({_brief(error)}): get the file again.") from error


def _expect_dtype(where: str, found: np.dtype[Any], expected: Any) -> None:
    if expected is bytes:
        fits, wanted = found.kind == "S", "bytes"
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
    most = stored if compact_or_whole else stored * _MOST_COMPRESSION
    # One chunk is read as a whole, and one that can grow may be larger than the array.
    count = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()) if dataset.size else 0)
    if (claimed := count * dataset.dtype.itemsize) > most:
        raise BadInput(
            f"{where} claims {claimed} bytes, but the file holds {stored}: get it again."
        )


def _temporary_beside(path: Path) -> Path:
    """A name that writers in other processes and threads do not use; one that died left its own."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def _flush_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush_to_disk(path)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _brief(error: BaseException) -> str:
    """The first line of a message, without the punctuation that would not go on."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".: ")
