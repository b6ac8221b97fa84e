"""A bounded memory of values that are slow to compute, for several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Memory"]

_Value = TypeVar("_Value")


class Memory(Generic[_Value]):
    """The values that were used last.

    Example:
        >>> memory = Memory(most=2)
        >>> memory.get("a", lambda: 1), memory.get("a", lambda: 2)
        (1, 1)
    """

    def __init__(self, *, most: int, size: Callable[[_Value], int] = lambda value: 1) -> None:
        """Begin with no value.

        Args:
            most: The size that all values may have together.
            size: A function that returns the size of one value.
        """
        self._most, self._size, self._held = most, size, 0
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key, computed if it is not held; what `compute` raises is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = compute()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._held += self._size(value)
            while self._held > self._most and len(self._values) > 1:
                self._held -= self._size(self._values.popitem(last=False)[1])
        return value
