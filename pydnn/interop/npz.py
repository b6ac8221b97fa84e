"""Arrays in npz files: ZIP archives of one npy file for each, read as data from strangers."""

from __future__ import annotations

import ast
import contextlib
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from pydnn.checks import BadInput, first_line, is_shape, shown
from pydnn.interop.stored import Stored
from pydnn.records import AnyArray, AnyDType
from pydnn.storage.files import MOST_COMPRESSION, open_regular

__all__ = [
    "ZIP_DAMAGE",
    "Member",
    "npy_array",
    "npz_bytes",
    "open_npz",
    "opened_member",
    "opened_zip",
]

# What zipfile and NumPy raise for a damaged file depends on which of its structures is hit.
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError,
    OverflowError, LookupError, TypeError, SyntaxError, MemoryError, AttributeError,
)  # fmt: skip
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP archive can have
_MOST_MEMBERS = 100_000
_MOST_NPY_HEADER = 10_000  # bytes
_NUMBERS = re.compile(r"[<>|=][fiub](1|2|4|8)")


def npz_bytes(arrays: Mapping[str, AnyArray], *, texts: Mapping[str, str]) -> bytes:
    """The bytes of an archive of named arrays and texts; equal contents give equal bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            file.writestr(_member(f"{name}.npy"), member.getvalue())
        for name, text in texts.items():
            file.writestr(_member(name), text.encode())
    return archive.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _DATE)
    member.create_system = 3  # whatever system this is
    return member


@contextlib.contextmanager
def opened_zip(path: Path, *, what: str) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive, and refuse members that claim more bytes than they can hold.

    Raises:
        BadInput: If it is missing or damaged, or its members claim more than their bytes can hold.
    """
    with open_regular(path, what=what) as raw:
        size = raw.seek(0, 2)
        try:
            file = zipfile.ZipFile(raw)
            members = file.infolist()
        except ZIP_DAMAGE as error:
            raise BadInput(
                f"{path} is not {what} that can be read ({first_line(error)}): download or "
                "save it again."
            ) from error
        with file:
            stored = sum(member.compress_size for member in members)
            claimed = sum(member.file_size for member in members)
            names = {member.filename for member in members}
            if stored > size or claimed > size * MOST_COMPRESSION or len(names) > _MOST_MEMBERS:
                raise BadInput(
                    f"{path} claims {claimed} bytes in {len(members)} files, but has {size}: "
                    "download or save it again."
                )
            if len(names) < len(members):
                raise BadInput(
                    f"{path} has two files of the same name, expected one of each: download or "
                    "save it again."
                )
            yield file


@contextlib.contextmanager
def opened_member(path: Path, file: zipfile.ZipFile, name: str) -> Iterator[Member]:
    """One file of an archive; never more of it is read than the size that it claims.

    Raises:
        BadInput: If it is damaged, encrypted, or compressed in another way than by deflate.
    """
    info = file.getinfo(name)
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed by another way than deflate")
        with file.open(info) as member:
            yield Member(member, info.file_size)
    except BadInput:
        raise
    except ZIP_DAMAGE as error:
        raise BadInput(
            f"{name} in {path} is damaged ({first_line(error)}): download or save it again."
        ) from error


class Member:
    """A reader of one file, perhaps in an archive, which counts the bytes that are left.

    Args:
        file: The open file.
        left: How many bytes it says it has, beyond which nothing is read.
    """

    def __init__(self, file: IO[bytes], left: int) -> None:
        """Nothing is read yet."""
        self._file, self.left = file, left

    def read(self, count: int = -1) -> bytes:
        """Read some of the bytes that are left, or all."""
        count = self.left if count < 0 else min(count, self.left)
        raw = self._file.read(count)
        self.left -= len(raw)
        return raw


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[list[Stored]]:
    """The arrays of an npz file, in their order; other files in the archive are left out.

    Raises:
        BadInput: If it is damaged, or an array holds anything but numbers, such as Python objects,
            or claims another size than it has.
    """
    with opened_zip(path, what="an npz file") as file:
        names = [name for name in file.namelist() if name.endswith(".npy")]
        yield [_stored(path, file, name) for name in names]


def _stored(path: Path, file: zipfile.ZipFile, name: str) -> Stored:
    with opened_member(path, file, name) as member:
        shape, _, _ = _npy_header(member, _dtype_of_numbers)

    def read() -> AnyArray:
        with opened_member(path, file, name) as member:
            return npy_array(member, _dtype_of_numbers)

    return Stored(name.removesuffix(".npy"), shape, read)


def _dtype_of_numbers(descr: object) -> AnyDType | None:
    return np.dtype(descr) if isinstance(descr, str) and _NUMBERS.fullmatch(descr) else None


def npy_array(member: Member, dtype_of: Callable[[object], AnyDType | None]) -> AnyArray:
    """The array of an npy file, whose size is checked before memory is taken.

    Args:
        member: The bytes of the file, from its beginning to its end.
        dtype_of: A function that makes a dtype from what the file's header says it is, and gives
            None for what it does not accept.

    Raises:
        ValueError: Or another of `ZIP_DAMAGE`, if the file is damaged or has another dtype.
    """
    shape, fortran, dtype = _npy_header(member, dtype_of)
    raw = member.read()
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError("it ends too early")
    array: AnyArray = np.frombuffer(raw, dtype)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _npy_header(
    member: Member, dtype_of: Callable[[object], AnyDType | None]
) -> tuple[tuple[int, ...], bool, AnyDType]:
    """The shape, the memory order and the dtype of an npy file, which must have just these bytes.

    NumPy's own reader tries more than one parser on a header that it does not understand.
    """
    magic, version = member.read(6), tuple(member.read(2))
    if magic != b"\x93NUMPY" or version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError("it is not an npy file")
    length = int.from_bytes(member.read(2 if version == (1, 0) else 4), "little")
    if length > _MOST_NPY_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    text = member.read(length).decode("utf-8" if version == (3, 0) else "latin1")
    match header := ast.literal_eval(text):
        case {"descr": descr, "fortran_order": bool(fortran), "shape": tuple(shape)} if (
            dtype := dtype_of(descr)
        ) and is_shape(shape):
            pass
        case _:
            raise ValueError(f"its header is {shown(header)}, which is not that of such an array")
    if math.prod(shape) * dtype.itemsize != member.left:
        raise ValueError(f"it claims the shape {shape}, but {member.left} bytes are there")
    return tuple(shape), fortran, dtype
