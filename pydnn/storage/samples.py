"""Whether two processes see the same table in a file, without reading all of it.

Workers on other machines map files themselves. A shared file system shows all of them one file, but
a path may also lead to an older copy. So each compares the size of the file, the second of its last
change, and the SHA-256 of blocks at 64 places of the table, 4 MiB in all. That takes milliseconds,
where hashing all of a large file takes minutes on each worker. A copy counts as the same file if it
keeps the time of the original, as `cp -p` and `rsync -t` do, or if it is small enough to be read
whole.
"""

from __future__ import annotations

import hashlib

import attrs
import numpy as np

from pydnn.checks import BadInput, Json
from pydnn.storage.mapped import StoredArray
from pydnn.storage.remembered import state_of

__all__ = ["Sample", "expect_same", "sample_of"]

_BLOCKS = 64
_BLOCK = 1 << 16  # bytes
_SECOND = 1_000_000_000  # nanoseconds; some network file systems keep no shorter times


@attrs.frozen
class Sample:
    """What is compared of a table in a file.

    Attributes:
        sha256: The SHA-256 of blocks of the table, as this process has mapped it.
        size: The number of bytes of the file; 0 if the blocks are the whole table.
        second: The time of its last change, in whole seconds; 0 if the blocks are the whole table.
    """

    sha256: str
    size: int = 0
    second: int = 0

    @property
    def plain(self) -> Json:
        """The same as JSON."""
        return list(attrs.astuple(self))


def sample_of(array: StoredArray) -> Sample:
    """Take the sample of a table; one of at most 4 MiB is read whole.

    Raises:
        BadInput: If the file is missing, or shorter than it was.

    Example:
        >>> from pydnn.storage.mapped import StoredArray
        >>> np.arange(6, dtype=np.uint8).tofile("six.bin")
        >>> sample_of(StoredArray("six.bin", 0, (3, 2), np.uint8)).sha256[:8]
        '17e88db1'
    """
    state = state_of(array.path)
    content = array.rows.reshape(-1).view(np.uint8)
    if content.size <= _BLOCKS * _BLOCK:
        return Sample(hashlib.sha256(content.data).hexdigest())
    digest = hashlib.sha256()
    for number in range(_BLOCKS):
        start = (content.size - _BLOCK) * number // (_BLOCKS - 1)
        digest.update(content[start : start + _BLOCK].data)
    return Sample(digest.hexdigest(), state.size, state.mtime_ns // _SECOND)


def expect_same(array: StoredArray, theirs: Sample) -> None:
    """Refuse a table that is not the one of which another process took a sample.

    Raises:
        BadInput: Naming the file and what is different.

    Example:
        >>> from pydnn.storage.mapped import StoredArray
        >>> np.arange(6, dtype=np.uint8).tofile("six.bin")
        >>> array = StoredArray("six.bin", 0, (3, 2), np.uint8)
        >>> expect_same(array, sample_of(array))
    """
    if not array.path.is_file():
        raise BadInput(
            f"{array.path} does not exist here, expected the same file: put it where all workers "
            "have it under the same path."
        )
    ours = sample_of(array)
    for field, what in (("size", "size"), ("sha256", "content"), ("second", "time of change")):
        if getattr(ours, field) != getattr(theirs, field):
            raise BadInput(
                f"{array.path} has another {what} here, expected the same file: share it, or copy "
                "it with its time (cp -p)."
            )
