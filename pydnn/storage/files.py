"""Files and folders: written whole or not at all, and opened as data from strangers.

A file is written under a temporary name, flushed to the disk, and only then given its own name,
so that there is no moment at which a power cut leaves a broken one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pydnn.checks import BadInput, NameTaken, first_line

__all__ = [
    "exclusive",
    "is_free",
    "make_folder",
    "open_regular",
    "read_small_text",
    "write_atomically",
    "write_text",
]

MOST_COMPRESSION = 1100
LONGEST_TEXT = 1 << 20


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
                _give_new_name(temporary, path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise BadInput(f"{path} exists already, expected a new name: choose another.") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise BadInput(
            f"{path} cannot be written ({reason}): choose a place with room that can be written."
        ) from error


def _give_new_name(temporary: Path, path: Path) -> None:
    """Give the file `temporary` the name `path`, unless something has it."""
    try:
        path.hardlink_to(temporary)  # fails where the name is taken: no moment between
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # FAT, exFAT and many network disks have no second names, and say so in many ways
    # Whatever else was wrong is wrong here, too. The name is taken by an empty file first, which
    # fails where there is one, and then the whole file replaces it, in one moment. A process that
    # is killed in between leaves the empty file: no reader takes that for a whole one, and resume
    # sets it aside.
    claimed = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    os.close(claimed)
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a new file of UTF-8 text.

    Raises:
        BadInput: As `write_atomically` does.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()))


@contextlib.contextmanager
def open_regular(
    path: Path, *, what: str, most: int | None = None, links: bool = True
) -> Iterator[BufferedReader]:
    """Open a file that a stranger may have made, for reading its bytes; every reader uses this.

    A pipe or device is refused before it is opened, because opening it can wait forever or do
    something. The open file is checked again, so that nobody can swap it in between.

    Args:
        path: The file's name.
        what: What the file should be, with its article, for messages: "a picture's file".
        most: The most bytes that it may have; None for any number.
        links: Whether `path` may be a symbolic link to the file.

    Raises:
        BadInput: If there is no such file, it is not a regular file, it is too large, nearly all
            of it is a hole, or it cannot be read.
    """
    try:
        _expect_regular(path, path.stat() if links else path.lstat(), what)
        # Not to wait for a pipe, nor follow a link, that has taken the name since; the flags that
        # a system lacks are not needed there.
        flags = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_BINARY", "O_NONBLOCK"))
        handle = os.open(path, flags if links else flags | getattr(os, "O_NOFOLLOW", 0))
        file = open(handle, "rb")  # noqa: SIM115 - closed below, whatever happens
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist, expected {what}: check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL in it
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadInput(f"{path} cannot be read ({reason}): check the path.") from error
    with file:
        status = os.fstat(file.fileno())
        _expect_regular(path, status, what)
        if not links and not os.path.samestat(status, path.lstat()):
            raise BadInput(f"{path} has become a link, expected {what}: get the file again.")
        _expect_plausible(path, status, what, most)
        yield file


def _expect_regular(path: Path, status: os.stat_result, what: str) -> None:
    kinds = {stat.S_IFDIR: "is a directory", stat.S_IFLNK: "is a symbolic link"}
    if not stat.S_ISREG(status.st_mode):
        kind = kinds.get(stat.S_IFMT(status.st_mode), "is not a regular file")
        raise BadInput(f"{path} {kind}, expected {what}: check the path.")


def _expect_plausible(path: Path, status: os.stat_result, what: str, most: int | None) -> None:
    if most is not None and status.st_size > most:
        raise BadInput(
            f"{path} has {status.st_size} bytes, expected {what} of at most {most}: check the path."
        )
    # A few kilobytes on the disk can claim to be terabytes of zeros, which take hours to read.
    # Some file systems report 0 blocks for every file; those that compress stay far below this.
    stored = getattr(status, "st_blocks", 0) * 512
    if 0 < stored * MOST_COMPRESSION < status.st_size:
        raise BadInput(
            f"{path} claims {status.st_size} bytes, but {stored} are on the disk: "
            "get the file again."
        )


def read_small_text(path: Path, *, links: bool = True, exact: bool = False) -> str:
    """The UTF-8 text of a file that a person may have written, of at most a mebibyte.

    Args:
        path: The file's name.
        links: Whether `path` may be a symbolic link to the file.
        exact: Whether every byte counts. Otherwise a byte order mark in front is left out, which
            editors on Windows put there and which is not a letter of the text.

    Raises:
        BadInput: If it is missing, larger, not a regular file, or not UTF-8 text.
    """
    with open_regular(path, what="a short text", most=LONGEST_TEXT, links=links) as file:
        read = file.read(LONGEST_TEXT + 1)  # it may have grown since
    try:
        return read.decode("utf-8" if exact else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text ({error}): check the path.") from error


def make_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a new folder with everything in it that `fill` puts there, whole or not at all.

    Args:
        path: The folder's name; an empty folder of that name is replaced, and those above it
            are made, too.
        fill: Called with the temporary folder's path.

    Raises:
        BadInput: If there is something of that name, or it cannot be written; also what `fill`
            raises.
    """
    if not is_free(path):
        raise NameTaken(f"{path} exists already, expected a new name: choose another.")
    temporary = _temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            fill(temporary)
            for folder in (*(p for p in temporary.rglob("*") if p.is_dir()), temporary):
                _flush_folder(folder)
            with contextlib.suppress(OSError):  # one that a killed process left empty
                path.rmdir()
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


def is_free(path: Path, *, besides: Collection[str] = ()) -> bool:
    """Whether there is nothing at `path`, or a folder that a killed process left empty.

    Args:
        path: The name that something new is to get.
        besides: Names of files that do not count, because such a process leaves them behind.
    """
    if not os.path.lexists(path):
        return True
    is_folder = path.is_dir() and not path.is_symlink()
    return is_folder and all(entry.name in besides for entry in path.iterdir())


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """Hold the file `path`, made where it is missing, so that no other process can hold it.

    However a process ends, it holds nothing afterwards; the file stays.

    Returns:
        The open file, which remains the one that is held if the folder gets another name.

    Raises:
        BadInput: If another process holds it, it is a link, pipe or anything else than a regular
            file, or it cannot be written.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            _expect_regular(path, path.lstat(), "the file of a lock")
        # As in `open_regular`, against what may have taken the name since.
        flags = ("O_BINARY", "O_NONBLOCK", "O_NOFOLLOW")
        flag = os.O_RDWR | os.O_CREAT | sum(getattr(os, flag, 0) for flag in flags)
        file = open(os.open(path, flag, 0o666), "r+b", buffering=0)  # noqa: SIM115 - closed below
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error.strerror}): choose a place that can be written."
        ) from error
    with file:
        _expect_regular(path, os.fstat(file.fileno()), "the file of a lock")
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
        yield file


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _temporary_beside(path: Path) -> Path:
    """A name that writers in other processes and threads do not use; one that died left its own."""
    if not path.name:  # a folder, such as "" or "/"
        raise BadInput(f"{path} is a folder, expected the name of a file in it: add one.")
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
