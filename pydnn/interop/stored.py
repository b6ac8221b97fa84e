"""Arrays in a file of another library: known by name, shape and dtype before any is read."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pydnn.records import AnyArray

__all__ = ["Stored"]


@attrs.frozen(eq=False)
class Stored:
    """An array that has not been read yet.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        read: Reads its numbers; nothing larger than that shape is ever made.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], AnyArray]
