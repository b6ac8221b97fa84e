"""Arrays of another library: known by name and shape before any number is read."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pydnn.records import AnyArray

__all__ = ["Source", "Stored"]


@attrs.frozen(eq=False)
class Stored:
    """An array that has not been read yet.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        read: Reads its numbers; nothing larger than that shape is ever made.
        layer: The layer that it belongs to; "" if its name says that.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], AnyArray]
    layer: str = ""


@attrs.frozen(eq=False)
class Source:
    """The arrays that weights are taken from.

    Attributes:
        arrays: The arrays.
        ordered: Whether they lie in the order of the layers; some files sort them by name.
        kind: How they are laid out, "pytorch" or "keras"; None where only their names can say it.
        features: The names of the features that they are for; empty if the source has no names.
    """

    arrays: list[Stored]
    ordered: bool
    kind: str | None = None
    features: tuple[str, ...] = ()
