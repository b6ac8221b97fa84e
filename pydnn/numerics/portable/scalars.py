"""Powers and cosines of single numbers, such as schedules and Adam's corrections need.

The specification: the float64 nearest to the true value, ties to even. The values are worked out
in decimal to 40 digits; only a true value within 1e-23 or so of the middle between two floats
could be taken for the wrong one, which is never met by chance.

Everything here is exact or rounded by a context of its own: the operators of Decimal would round
to that of the calling thread.
"""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal

__all__ = ["cosine", "power"]

_DIGITS = decimal.Context(
    prec=40,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[],
)
_LEAST_TERM = Decimal("1e-42")


@functools.lru_cache(maxsize=64)  # a step asks for the same power more than once
def power(x: float, y: float) -> float:
    """X to the power y, for x of 0 or more."""
    if y == 0 or x == 1:
        return 1.0
    return float(_DIGITS.power(Decimal.from_float(x), Decimal.from_float(y)))


def cosine(x: float) -> float:
    """The cosine of x, for |x| up to a few turns."""
    exact = Decimal.from_float(x)
    minus_square = _DIGITS.multiply(exact, exact).copy_negate()
    total, term, n = Decimal(1), Decimal(1), 0
    while term.copy_abs() > _LEAST_TERM:
        n += 2
        term = _DIGITS.divide(_DIGITS.multiply(term, minus_square), Decimal((n - 1) * n))
        total = _DIGITS.add(total, term)
    return float(total)
