"""Quantiles of the standard normal distribution, from operations that IEEE 754 rounds exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydnn.numerics.polynomials import polynomial, ratio

__all__ = ["FAR_TAIL", "LN2", "MIDDLE", "ROOT_HALF", "TAIL", "normal_quantile"]

_Floats = NDArray[np.float64]

# Wichura's rational approximations: the middle (|p - 1/2| <= 0.425), the tails, the far tails.
MIDDLE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3),
)  # fmt: skip
TAIL = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
FAR_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip


def normal_quantile(p: _Floats) -> _Floats:
    """Return quantiles of the standard normal distribution, with a relative error near 1e-15.

    References:
        Wichura, Algorithm AS 241: the percentage points of the normal distribution, 1988.
    """
    q = p - 0.5
    middle = q * ratio(MIDDLE, 0.180625 - q * q)
    # r = sqrt(-log p) is 1.6 where the tail begins, and 5 where the far tail does, at p = 1.4e-11.
    r = np.sqrt(-_log(np.minimum(p, 1.0 - p)))
    tail = np.where(r <= 5.0, ratio(TAIL, r - 1.6), ratio(FAR_TAIL, r - 5.0))
    return np.where(np.abs(q) <= 0.425, middle, np.copysign(tail, q))


LN2, ROOT_HALF = 0.6931471805599453, 0.7071067811865476


def _log(x: _Floats) -> _Floats:
    """Return the natural logarithm of positive normal numbers, by exactly rounded operations."""
    m, e = np.frexp(x)
    low = m < ROOT_HALF
    m, e = np.where(low, m + m, m), e - low
    s = (m - 1.0) / (m + 1.0)  # log m = 2 atanh s, with |s| <= 0.172
    series = polynomial([2.0 / (2 * k + 1) for k in range(12)], s * s)
    return e * LN2 + s * series
