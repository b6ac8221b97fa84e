"""Work arrays, which a function fills and reads before any other code can see them."""

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

# Numbers processed at a time. Measured from 2,048 to 65,536: with fewer, calls take most of the
# time; more do not fit into the first two levels of cache.
BLOCK = 8192

ZERO = scalar(0.0, np.float64)  # adding +0.0 turns -0.0 into +0.0 and changes nothing else

_MOST_VIEWS = 256  # remembered for each function

_Arguments = TypeVarTuple("_Arguments")
_Views = TypeVar("_Views")


class _Own(threading.local):
    """The work arrays of one thread, which no other thread uses, and views of them."""

    def __init__(self) -> None:
        self.arrays: dict[str, FloatArray] = {}
        self.views: dict[object, dict[object, Any]] = collections.defaultdict(dict)


_own = _Own()


def of_each_thread(make: Callable[[*_Arguments], _Views]) -> Callable[[*_Arguments], _Views]:
    """Cache the results of `make`, which returns views of work arrays, in each thread.

    For small arrays, making views takes as long as computing with them.
    """

    @functools.wraps(make)
    def remembered(*arguments: *_Arguments) -> _Views:
        views: _Views | None = _own.views[make].get(arguments)
        if views is None:
            views = make(*arguments)
            known = _own.views[make]  # looked up again, since `make` may have cleared all views
            if len(known) >= _MOST_VIEWS:
                known.clear()
            known[arguments] = views
        return views

    return remembered


@of_each_thread
def floats(name: str, *shape: int) -> FloatArray:
    """Return this thread's float64 work array called `name`, in this shape; it is not filled.

    The caller may use it until the next call with the same name.
    """
    arrays, count = _own.arrays, math.prod(shape)
    array = arrays.get(name)
    if array is None or array.size < count:
        _own.views.clear()  # views of the smaller array would keep it alive
        array = arrays[name] = np.empty(max(count, BLOCK))
    return array[:count].reshape(shape)


@of_each_thread
def several(names: str, count: int) -> tuple[FloatArray, ...]:
    """Return neighboring work arrays of `count` numbers, one for each letter of `names`."""
    return tuple(floats(names, len(names), count))
