"""Powers and cosines of single numbers, for schedules and for the corrections in Adam.

Specification. The result is the float64 nearest to the true value, ties to even. It is computed
with 40 decimal digits. It could be wrong only if the true value were within about 1e-23 of the
middle between two floats, which does not happen by chance.

Every operation is exact or rounds in the context below. The operators of Decimal would round in
the context of the calling thread.
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
    """Return x to the power y, for x of 0 or more.

    Example:
        >>> power(0.9, 10.0)
        0.3486784401000001
    """
    if y == 0 or x == 1:
        return 1.0
    return float(_DIGITS.power(Decimal.from_float(x), Decimal.from_float(y)))


def cosine(x: float) -> float:
    """Return the cosine of x radians, for |x| up to a few turns."""
    exact = Decimal.from_float(x)
    minus_square = _DIGITS.multiply(exact, exact).copy_negate()
    total, term, n = Decimal(1), Decimal(1), 0
    while term.copy_abs() > _LEAST_TERM:
        n += 2
        term = _DIGITS.divide(_DIGITS.multiply(term, minus_square), Decimal((n - 1) * n))
        total = _DIGITS.add(total, term)
    return float(total)
