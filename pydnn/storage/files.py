"""Files and folders: written completely or not at all, and opened as data from strangers.

A new file gets a temporary name first. Only after all of it is flushed to the disk does it get its
own name, so a power cut at any moment leaves no broken file of that name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from pydnn.checks import BadInput, NameTaken, first_line

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "RESTORE",
    "EarlyFlush",
    "exclusive",
    "is_free",
    "make_folder",
    "open_regular",
    "read_small_text",
    "spool_beside",
    "unchanged",
    "write_atomically",
    "write_text",
    "writing",
]

MOST_COMPRESSION = 1100  # deflate shrinks data by at most about 1030 times
LONGEST_TEXT = 1 << 20  # bytes
_FLUSHED = 1 << 24  # bytes that are flushed together while a file is written
# Seconds after which another attempt to replace a file is made; no other system needs any.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if os.name == "nt" else ()
RESTORE = "restore the file from a backup"  # what messages advise about a damaged file


def write_atomically(path: Path, write: Callable[[Path], object], *, replace: bool = False) -> None:
    """Let `write` fill a temporary file, and rename the file to `path` once it is on the disk.

    Args:
        path: The name of the file; its folder must exist.
        write: A function that takes the path of the temporary file and fills it.
        replace: Whether the new file may replace an existing one.

    Raises:
        BadInput: If the file exists and `replace` is False, the folder is missing or not writable,
            or the disk is full. Then no part of the new file is left, and an old file stays.
    """
    temporary = _temporary_beside(path)
    with writing(path):
        try:
            write(temporary)
            _flush_to_disk(temporary)
            if replace:
                _replace(temporary, path)
            else:
                _give_new_name(temporary, path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Give the file `temporary` the name of the file `path`, which it replaces.

    Windows refuses this while somebody reads the old file, e.g. a board that shows a run.
    """
    for pause in _PAUSES:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    temporary.replace(path)


@contextlib.contextmanager
def spool_beside(path: Path) -> Iterator[BinaryIO]:
    """A temporary file without a name on the disk of the file `path`, for what becomes that file.

    Raises:
        BadInput: If the folder is missing or not writable.
    """
    with writing(path):
        spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed below
    try:
        yield spool
    finally:
        with contextlib.suppress(OSError):  # a full disk, of which another error says so
            spool.close()


# Without the times of the file, which its last flush writes.
_flush_now: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class EarlyFlush:
    """Brings a file to the disk while it is written, so that little is left to wait for at its end.

    Example:
        >>> with open("numbers.bin", "wb") as file, EarlyFlush(file) as flush:
        ...     for _ in range(3):
        ...         flush.wrote(file.write(bytes(10)))
    """

    def __init__(self, file: BinaryIO) -> None:
        """Watch an open file."""
        self._file, self._bytes = file, 0
        self._latest: Future[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def wrote(self, count: int) -> None:
        """Count some more bytes, and let a thread flush them once there are many.

        Raises:
            OSError: If those before did not reach the disk.
        """
        from concurrent.futures import ThreadPoolExecutor  # here, since only large files need it

        self._bytes += count
        if self._bytes < _FLUSHED or not (self._latest is None or self._latest.done()):
            return
        self._wait()
        self._file.flush()
        self._bytes = 0
        self._pool = self._pool or ThreadPoolExecutor(1, "pydnn-flush")
        self._latest = self._pool.submit(_flush_now, self._file.fileno())

    def _wait(self) -> None:
        # Also for its error: the system reports a failure once, to whoever flushes first.
        if self._latest is not None:
            self._latest.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        if ended[0] is None:
            self._wait()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which what the system says of writing the file `path` becomes one line.

    Raises:
        BadInput: If something has that name already, or the file cannot be written.
    """
    try:
        yield
    except FileExistsError as error:
        raise BadInput(f"{path} exists already, expected a new name: choose another.") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise BadInput(
            f"{path} cannot be written ({reason}): choose a writable place with enough space."
        ) from error


def _give_new_name(temporary: Path, path: Path) -> None:
    """Give the file `temporary` the name `path`, unless something has that name."""
    try:
        path.hardlink_to(temporary)  # checks the name and takes it in one operation
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # FAT, exFAT and many network disks have no hard links, and report various errors
    # If the cause was another one, the next lines fail, too. An empty file takes the name first,
    # which fails if the name is taken; then the complete file replaces it in one operation. A
    # process that is killed in between leaves the empty file, which every reader refuses and
    # which resume sets aside.
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
    """Open a stranger's file for reading bytes; all readers of pydnn use this function.

    It refuses a pipe or a device before opening it, because opening one can wait forever or have
    side effects. It checks the open file once more, in case somebody has swapped it in between.

    Args:
        path: The name of the file.
        what: What the file should be, for messages, with an article, e.g. "a picture's file".
        most: The largest size in bytes; None for no limit.
        links: Whether `path` may be a symbolic link to the file.

    Raises:
        BadInput: If the file is missing, not regular, too large, almost all hole, or unreadable.
    """
    try:
        _expect_regular(path, path.stat() if links else path.lstat(), what)
        # These flags matter if a pipe or a link has taken the name since the check: do not wait
        # for the pipe, do not follow the link. A system that lacks a flag does not need it.
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
            raise BadInput(f"{path} has become a link, expected {what}: {RESTORE}.")
        _expect_plausible(path, status, what, most)
        yield file


@contextlib.contextmanager
def unchanged(file: BufferedReader, path: Path) -> Iterator[Callable[[], None]]:
    """Refuse an open file that another program writes to while it is read.

    The context gives a function that checks this earlier, before the end of the context.

    Args:
        file: From `open_regular`.
        path: The file's name, for messages.

    Raises:
        BadInput: At the end, if its size or its time of change is not what it was. What its
            reader says before that may come of the change, so it is not said then.
    """
    before = _state_of(file)

    def expect_unchanged(cause: BaseException | None = None) -> None:
        if _state_of(file) != before:
            raise BadInput(
                f"{path} has changed while it was read, expected a finished file: read it again "
                "once it is written."
            ) from cause

    try:
        yield expect_unchanged
    except BadInput as error:
        expect_unchanged(error)
        raise
    expect_unchanged()


def _state_of(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


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
    # A sparse file of a few kilobytes can claim terabytes of zeros, which take hours to read.
    # Some file systems report 0 blocks for every file; compressing ones stay far below the limit.
    stored = getattr(status, "st_blocks", 0) * 512
    if 0 < stored * MOST_COMPRESSION < status.st_size:
        raise BadInput(
            f"{path} claims {status.st_size} bytes, but {stored} are on the disk: {RESTORE}."
        )


def read_small_text(
    path: Path, *, what: str = "a short text", links: bool = True, exact: bool = False
) -> str:
    """The text of a UTF-8 file of at most one mebibyte, which a person may have written.

    Args:
        path: The name of the file.
        what: What the file should be, for messages, with an article.
        links: Whether `path` may be a symbolic link to the file.
        exact: Whether to keep a byte order mark at the beginning, which editors on Windows add.

    Raises:
        BadInput: If the file is missing, too large, not regular, or not UTF-8 text.
    """
    with open_regular(path, what=what, most=LONGEST_TEXT, links=links) as file:
        content = file.read(LONGEST_TEXT + 1)  # not all of it: it may have grown since the check
    try:
        return content.decode("utf-8" if exact else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a UTF-8 text ({error}): check the path.") from error


def make_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a new folder with the files that `fill` writes, completely or not at all.

    Args:
        path: The name of the folder. An empty folder of that name is replaced; missing folders
            above it are made.
        fill: A function that takes the path of the temporary folder and writes files there.

    Raises:
        BadInput: If something has that name, the folder cannot be written, or `fill` raises it.
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
            with contextlib.suppress(OSError):  # an empty folder that a killed process left
                path.rmdir()
            temporary.rename(path)  # fails if a folder with files in it has the name
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _flush_folder(path.parent)
    except BadInput as error:  # about a file in it: name its final place
        raise BadInput(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        if path.exists():
            raise NameTaken(
                f"{path} exists already, expected a new name: choose another."
            ) from error
        raise BadInput(
            f"{path} cannot be made ({error.strerror}): choose a writable place with enough space."
        ) from error


def is_free(path: Path, *, besides: Collection[str] = ()) -> bool:
    """Whether there is nothing at `path`, or only an empty folder that a killed process left.

    Args:
        path: The name for something new.
        besides: Names of files to ignore, because a killed process leaves them in the folder.
    """
    if not os.path.lexists(path):
        return True
    is_folder = path.is_dir() and not path.is_symlink()
    return is_folder and all(entry.name in besides for entry in path.iterdir())


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """Lock the file `path`, so that no other process can lock it; make the file if it is missing.

    The lock ends with the context, or with the process, however it ends. The file stays.

    Returns:
        The open file. It stays locked even if its folder is renamed.

    Raises:
        BadInput: If another process holds the lock, or `path` is not a regular file or cannot be
            written.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            _expect_regular(path, path.lstat(), "the file of a lock")
        # See `open_regular`: something else may have taken the name since the check.
        flags = ("O_BINARY", "O_NONBLOCK", "O_NOFOLLOW")
        flag = os.O_RDWR | os.O_CREAT | sum(getattr(os, flag, 0) for flag in flags)
        file = open(os.open(path, flag, 0o666), "r+b", buffering=0)  # noqa: SIM115 - closed below
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error.strerror}): choose a writable place."
        ) from error
    with file:
        _expect_regular(path, os.fstat(file.fileno()), "the file of a lock")
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise BadInput(
                f"{path.parent} is being written by another process: wait until it ends."
            ) from error
        except OSError as error:  # the file system has no locks
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
    """A name that no writer in another process or thread uses, not even after it was killed."""
    if not path.name:  # a folder such as "" or "/"
        raise BadInput(f"{path} is a folder, expected the name of a file in it: add one.")
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def _flush_folder(path: Path) -> None:
    if os.name == "posix":  # other systems cannot open a folder
        _flush_to_disk(path)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
