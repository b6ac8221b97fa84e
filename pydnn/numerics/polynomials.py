"""Polynomials and their quotients, which approximate functions such as log and erf."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydnn.records import FloatArray

__all__ = ["polynomial", "ratio"]


def polynomial(coefficients: Sequence[float], x: FloatArray) -> FloatArray:
    """Return the value of a polynomial by Horner's rule; the constant coefficient comes first.

    Example:
        >>> polynomial([1.0, 2.0, 3.0], np.array([10.0]))  # 1 + 2 x + 3 x²
        array([321.])
    """
    y: FloatArray = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * x + coefficient  # two ufuncs, so two roundings: no compiler can fuse them
    return y


def ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: FloatArray) -> FloatArray:
    """Return the quotient of two polynomials, numerator first."""
    numerator, denominator = polynomials
    return polynomial(numerator, x) / polynomial(denominator, x)
