"""Makes the next batch on a thread while the current step is taken."""

from __future__ import annotations

import contextvars
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from pydnn.records import Batch

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["prefetched"]


def prefetched(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """The same batches, where a thread makes the next one while the current one is used.

    The batches are made one after the other, so their bits do not depend on the thread. An
    exception of a batch is raised when that batch is asked for. Closing the generator, or letting
    go of it, ends the thread.

    Args:
        batches: The batches, in order.

    Example:
        >>> data = nn.Batch([[1.0, 2.0]], [[0, 1]])
        >>> [batch.X.tolist() for batch in prefetched(iter([data, data.take(slice(1))]))]
        [[[1.0, 2.0]], [[1.0]]]
    """
    from concurrent.futures import ThreadPoolExecutor  # here, since only files need it

    with ThreadPoolExecutor(1, "pydnn-next-batch") as pool:

        def made() -> Batch | None:
            return next(batches, None)

        def following() -> Future[Batch | None]:
            # With the context of the step, which says how NumPy treats overflow.
            return pool.submit(contextvars.copy_context().run, made)

        upcoming = following()
        while (batch := upcoming.result()) is not None:
            upcoming = following()
            yield batch
