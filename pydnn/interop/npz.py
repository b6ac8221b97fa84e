"""Arrays in npz files: ZIP archives of one npy file for each, read as data from strangers."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pydnn.checks import BadInput, first_line
from pydnn.interop.stored import Stored
from pydnn.records import AnyArray
from pydnn.storage.files import MOST_COMPRESSION, open_regular
from pydnn.storage.npy import NPY_DAMAGE, Member, dtype_of_numbers, npy_array, npy_header

__all__ = ["npz_bytes", "open_npz", "opened_member", "opened_zip"]

# What zipfile raises for a damaged file depends on which of its structures is hit.
_DAMAGE = (zipfile.BadZipFile, zlib.error, *NPY_DAMAGE)
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP archive can have
_MOST_MEMBERS = 100_000


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
        except _DAMAGE as error:
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
    except _DAMAGE as error:
        raise BadInput(
            f"{name} in {path} is damaged ({first_line(error)}): download or save it again."
        ) from error


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
        shape, _, _ = npy_header(member, dtype_of_numbers)

    def read() -> AnyArray:
        with opened_member(path, file, name) as member:
            return npy_array(member, dtype_of_numbers)

    return Stored(name.removesuffix(".npy"), shape, read)
