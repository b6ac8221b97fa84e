"""Hashes of large files, remembered beside them as long as the files stay as they are.

The hashes of `big.h5` are in `big.h5.pydnn-hashes.json` or, if its folder cannot be written, in
pydnn's cache. The key of each covers the sizes, times and identities of all files that it was
computed from. So hashes of an older state of the file, or of another file, are never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from pydnn.checks import BadInput, Json, first_line
from pydnn.storage.cache import cache_folder
from pydnn.storage.files import read_small_text, write_atomically

__all__ = ["FileState", "key_of", "recall", "remember", "state_of"]

_FORMAT = 1
_ENDING = ".pydnn-hashes.json"
_MOST = 100  # entries of a file, the newest ones
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTLED = 2_000_000_000  # nanoseconds: the coarsest clock of a file system that is still in use


@attrs.frozen
class FileState:
    """What changes when somebody writes to a file or replaces it.

    Attributes:
        size: The number of its bytes.
        mtime_ns: The time of its last change, in nanoseconds.
        inode: The number that the file system gave it.
    """

    size: int
    mtime_ns: int
    inode: int


def state_of(path: Path) -> FileState:
    """The present state of a file.

    Raises:
        BadInput: If it is missing.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror or first_line(error)}): restore it."
        ) from error
    return FileState(status.st_size, status.st_mtime_ns, status.st_ino)


def key_of(states: Sequence[FileState], what: Json) -> str:
    """The key of a hash, as 64 hexadecimal digits.

    Args:
        states: The states of all files behind the hash.
        what: Everything else that decides it, as JSON.
    """
    text = json.dumps([_FORMAT, [attrs.astuple(state) for state in states], what])
    return hashlib.sha256(text.encode()).hexdigest()


def recall(path: Path, key: str) -> dict[str, str] | None:
    """The named hashes of a file that `remember` wrote down under this key; None without them.

    Args:
        path: The file.
        key: The key, from `key_of`.
    """
    for place in _places(path):
        if (hashes := _read(place).get(key)) is not None:
            return hashes
    return None


def remember(
    path: Path, key: str, hashes: Mapping[str, str], *, states: Iterable[FileState] = ()
) -> None:
    """Write down the named hashes of a file if possible; if not, they are computed again later.

    Args:
        path: The file.
        key: The key, from `key_of`.
        hashes: The hashes by name, each of 64 hexadecimal digits.
        states: The states of all files behind the hashes. If one was written to in the last two
            seconds, nothing is written down, because another change could have the same time.
    """
    now = time.time_ns()
    if any(now - state.mtime_ns < _SETTLED for state in states):
        return
    for place in _places(path):
        entries = {**_read(place), key: dict(hashes)}
        newest = dict(list(entries.items())[-_MOST:])
        content = json.dumps({"format": _FORMAT, "hashes": newest}, indent=1).encode()

        def write(temporary: Path, content: bytes = content) -> None:
            temporary.write_bytes(content)

        with contextlib.suppress(BadInput, OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, write, replace=True)
            return


def _places(path: Path) -> tuple[Path, Path]:
    """The file beside a file of data, and the one in the cache."""
    resolved = path.resolve()
    name = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:32]
    beside = resolved.with_name(resolved.name + _ENDING)
    return beside, cache_folder() / "hashes" / f"{name}.json"


def _read(place: Path) -> dict[str, dict[str, str]]:
    """The entries of a file, which may be a stranger's; none unless `remember` could write it."""
    try:
        plain = json.loads(read_small_text(place, links=False))
    except (BadInput, ValueError, RecursionError):
        return {}
    match plain:
        case {"format": int(number), "hashes": dict(entries)} if number == _FORMAT:
            return {key: value for key, value in entries.items() if _is_entry(key, value)}
    return {}


def _is_entry(key: object, value: object) -> bool:
    return (
        _is_sha256(key)
        and isinstance(value, dict)
        and all(isinstance(name, str) and _is_sha256(one) for name, one in value.items())
    )


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None
