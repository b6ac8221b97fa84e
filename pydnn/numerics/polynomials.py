"""Polynomials and their quotients, as approximations of functions are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydnn.records import FloatArray

__all__ = ["polynomial", "ratio"]


def polynomial(coefficients: Sequence[float], x: FloatArray) -> FloatArray:
    """Horner's rule, coefficients from the constant up."""
    y: FloatArray = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * x + coefficient  # two ufuncs, so two roundings: no compiler can fuse them
    return y


def ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: FloatArray) -> FloatArray:
    """The quotient of two polynomials, numerator first."""
    numerator, denominator = polynomials
    return polynomial(numerator, x) / polynomial(denominator, x)
