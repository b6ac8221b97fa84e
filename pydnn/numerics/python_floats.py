"""Sums of Python floats that have the same bits in every version of Python."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

__all__ = ["sum_in_order"]


def sum_in_order(numbers: Iterable[float]) -> float:
    """The sum of numbers, rounded after each addition.

    The built-in `sum` does this up to Python 3.11. From 3.12 on it corrects for rounding, so its
    last bits depend on the version of Python.

    Example:
        >>> sum_in_order([1e16, 1.0, 1.0])
        1e+16
    """
    return functools.reduce(operator.add, numbers, 0.0)
