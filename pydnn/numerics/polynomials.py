"""Polynomials and their quotients, as approximations of functions are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["polynomial", "ratio"]

_Floats = TypeVar("_Floats", bound=NDArray[np.floating[Any]])


def polynomial(coefficients: Sequence[float], x: _Floats) -> _Floats:
    """Horner's rule, coefficients from the constant up."""
    y = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * x + coefficient  # two ufuncs, so two roundings: no compiler can fuse them
    return y  # type: ignore[no-any-return]


def ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: _Floats) -> _Floats:
    """The quotient of two polynomials, numerator first."""
    numerator, denominator = polynomials
    return polynomial(numerator, x) / polynomial(denominator, x)  # type: ignore[return-value]
