"""Work arrays that a function fills and empties again before anybody else can see them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydnn.records import FloatArray, scalar

__all__ = ["BLOCK", "ZERO", "floats"]

# Numbers that are worked on at a time. Measured from 2,048 to 65,536: fewer are lost in calls,
# more leave the first two levels of cache.
BLOCK = 8192

ZERO = scalar(0.0, np.float64)  # +0.0: added last, it leaves no zero of the other sign

_own = threading.local()  # each thread its own, so that no two can meet in one


def floats(name: str, count: int) -> FloatArray:
    """The first `count` numbers of this thread's float64 work array called `name`, unfilled.

    They are the caller's until the next call with the same name.
    """
    known: dict[str, NDArray[Any]] = _own.__dict__
    array = known.get(name)
    if array is None or array.size < count:
        array = known[name] = np.empty(max(count, BLOCK))
    return array[:count]
