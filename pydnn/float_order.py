"""The order of all floats of a dtype: each float has a place in it, which is an integer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydnn.records import AnyArray, FloatArray

__all__ = ["floats_at", "places_of"]

_SIGN = np.uint64(1 << 63)


def places_of(x: AnyArray) -> NDArray[np.unsignedinteger[Any]]:
    """The place of each entry in the order of all floats of its dtype, as unsigned integers.

    -0.0 has the place before 0.0. The places of NaN mean nothing.

    Example:
        >>> int(places_of(np.array(1.0)) - places_of(np.array(1 - 2**-53)))
        1
    """
    size = x.dtype.itemsize
    sign = np.dtype(f"u{size}").type(1 << (8 * size - 1))
    negative = (x.view(f"i{size}") >> (8 * size - 1)).view(f"u{size}")  # all bits, or none
    places: NDArray[np.unsignedinteger[Any]] = x.view(f"u{size}") ^ (negative | sign)
    return places


def floats_at(places: NDArray[np.uint64]) -> FloatArray:
    """The float64 at each of some places.

    Example:
        >>> floats_at(places_of(np.array([-2.5, 0.0])))
        array([-2.5,  0. ])
    """
    return np.where(places & _SIGN, places ^ _SIGN, ~places).view(np.float64)
