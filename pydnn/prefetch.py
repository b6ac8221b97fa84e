"""Makes the next item of a stream on a thread while the current one is used."""

from __future__ import annotations

import contextvars
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["prefetched"]

_Item = TypeVar("_Item")
_END = object()


def prefetched(items: Iterator[_Item]) -> Generator[_Item, None, None]:
    """The same items, e.g. batches, where a thread makes the next one while one is used.

    The items are made one after the other, so their bits do not depend on the thread. An exception
    of an item is raised when that item is asked for. Closing the generator, or letting go of it,
    ends the thread.

    Args:
        items: The items, in order.

    Example:
        >>> data = nn.Batch([[1.0, 2.0]], [[0, 1]])
        >>> [batch.X.tolist() for batch in prefetched(iter([data, data.take(slice(1))]))]
        [[[1.0, 2.0]], [[1.0]]]
    """
    from concurrent.futures import ThreadPoolExecutor  # here, since only files need it

    with ThreadPoolExecutor(1, "pydnn-next") as pool:

        def made() -> object:
            return next(items, _END)

        def following() -> Future[object]:
            # With the context of the user, which says how NumPy treats overflow.
            return pool.submit(contextvars.copy_context().run, made)

        upcoming = following()
        while (item := upcoming.result()) is not _END:
            upcoming = following()
            yield item  # type: ignore[misc]
