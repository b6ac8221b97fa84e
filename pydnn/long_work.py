"""The progress of long work, such as hashing or decoding, inside functions that return at its end.

Most callers want only the result. So the progress is not an argument of each function on the way,
but goes to the function that the caller's context names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeAlias

__all__ = ["OnProgress", "report_work", "work_shown"]

OnProgress: TypeAlias = Callable[[str, int, int], object]

_shown: ContextVar[OnProgress | None] = ContextVar("shown", default=None)


@contextlib.contextmanager
def work_shown(on_progress: OnProgress) -> Iterator[None]:
    """A context in which long work calls `on_progress(what, done, total)`.

    Args:
        on_progress: Called with what is done, "hashing", "decoding" or "reading", how much of it,
            and how much in all.

    Example:
        >>> with work_shown(print):
        ...     report_work("hashing", 1, 2)
        hashing 1 2
    """
    token = _shown.set(on_progress)
    try:
        yield
    finally:
        _shown.reset(token)


def report_work(what: str, done: int, total: int) -> None:
    """Tell the function of the context, if there is one, how much of some work is done."""
    shown = _shown.get()
    if shown is not None:
        shown(what, done, total)
