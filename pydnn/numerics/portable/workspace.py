"""Work arrays that a function fills and empties again before anybody else can see them."""

from __future__ import annotations

import collections
import functools
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import numpy as np

from pydnn.records import FloatArray, scalar

__all__ = ["BLOCK", "ZERO", "floats", "of_each_thread", "several"]

# Numbers that are worked on at a time. Measured from 2,048 to 65,536: fewer are lost in calls,
# more leave the first two levels of cache.
BLOCK = 8192

ZERO = scalar(0.0, np.float64)  # +0.0: added last, it leaves no zero of the other sign

_MOST_VIEWS = 256  # of each function that makes them

_Given = TypeVarTuple("_Given")
_Views = TypeVar("_Views")


class _Own(threading.local):
    """The work arrays of one thread, so that no two can meet in one, and views of them."""

    def __init__(self) -> None:
        self.arrays: dict[str, FloatArray] = {}
        self.views: dict[object, dict[object, Any]] = collections.defaultdict(dict)


_own = _Own()


def of_each_thread(make: Callable[[*_Given], _Views]) -> Callable[[*_Given], _Views]:
    """`make`, which gives views of work arrays, with what it gave remembered by each thread.

    Where numbers are few, making views of them takes as long as working on them.
    """

    @functools.wraps(make)
    def remembered(*given: *_Given) -> _Views:
        found: _Views | None = _own.views[make].get(given)
        if found is None:
            found = make(*given)
            views = _own.views[make]  # after that call, which may have cleared them all
            if len(views) >= _MOST_VIEWS:
                views.clear()
            views[given] = found
        return found

    return remembered


@of_each_thread
def floats(name: str, *shape: int) -> FloatArray:
    """This thread's float64 work array called `name`, in this shape, unfilled.

    It is the caller's until the next call with the same name.
    """
    arrays, count = _own.arrays, math.prod(shape)
    array = arrays.get(name)
    if array is None or array.size < count:
        _own.views.clear()  # so that no smaller array stays for their sake
        array = arrays[name] = np.empty(max(count, BLOCK))
    return array[:count].reshape(shape)


@of_each_thread
def several(names: str, count: int) -> tuple[FloatArray, ...]:
    """Work arrays of `count` numbers next to each other, one for each letter of `names`."""
    return tuple(floats(names, len(names), count))
