"""The arithmetic that stages use: products, sums and functions such as exp.

Each arithmetic is a `Numerics` record of functions, and a recipe chooses one. Stages get from it
everything that IEEE 754 does not round exactly. They call NumPy directly for elementwise
`+ - * /`, `sqrt`, comparisons and maximum, which NumPy rounds exactly.
"""

import copyreg
from collections.abc import Callable
from typing import Any

import attrs

from pydnn.numerics.fast import fast
from pydnn.numerics.interface import Numerics
from pydnn.numerics.memory import empty, room_for
from pydnn.numerics.portable import portable
from pydnn.numerics.threads import in_blocks

__all__ = ["ARITHMETICS", "Numerics", "empty", "fast", "in_blocks", "portable", "room_for"]

ARITHMETICS = {one.name: one for one in (fast, portable)}  # by name in recipes


def _by_name(name: str) -> Numerics:
    return ARITHMETICS[name]


def _remade(fields: dict[str, Any]) -> Numerics:
    return Numerics(**fields)


def _reduced(numerics: Numerics) -> tuple[Callable[..., Numerics], tuple[object, ...]]:
    if ARITHMETICS.get(numerics.name) is numerics:
        return _by_name, (numerics.name,)
    return _remade, (attrs.asdict(numerics, recurse=False),)


# So copies and pickles of an arithmetic are itself, though its record does not know the names.
copyreg.pickle(Numerics, _reduced)
