"""exp, expm1, log, log1p, tanh, the logistic function, erf and max(x, 0), of single numbers.

Specification: that of `pydnn.numerics.portable.elementary`, and for erf that of
`pydnn.numerics.fast.error_function` with this exp. The functions take and return one float64.
They have no branches, only choices between numbers that are both computed, so the compiler turns a
loop of them into vector instructions. A result that is not a number is the NaN of NumPy, whatever
the argument's bits are, except that `positive_part` keeps the argument.

The loops over arrays take float64 or float32, and round a float32 result once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pydnn.compiled.kernels import inlined_kernel, kernel
from pydnn.compiled.portable.forms import is_plain, or_numpy, unwritten
from pydnn.numerics.fast import ERF_IS_ONE, ERF_SMALL, ERFC_MIDDLE
from pydnn.numerics.portable.elementary import LN2_HI, LN2_LO, LOG2_E, ROOT_HALF, L, P
from pydnn.numerics.threads import share_out, worker_threads
from pydnn.records import FloatArray

__all__ = [
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "of_each",
    "polynomial",
    "positive_part",
    "tanh",
    "with_sign_of",
]

_WORTH_A_THREAD = 1 << 18  # numbers, for which one thread takes 0.3 ms
_NAN, _INF = math.nan, math.inf
_LOG2_E, _LN2_HI, _LN2_LO = (float(x) for x in (LOG2_E, LN2_HI, LN2_LO))
_P, _L = (tuple(float(x) for x in coefficients) for coefficients in (P, L))
_TO_INTEGER = 1.5 * 2.0**52  # adding it to a number rounds that to an integer
_BITS_OF_TO_INTEGER = int(np.float64(_TO_INTEGER).view(np.int64))
_NORMAL, _BITS_OF_ROOT_HALF = 2.0**-1022, int(ROOT_HALF)
_SIGN = -(2**63)
(_SMALL, _UNDER_SMALL), (_MIDDLE, _UNDER_MIDDLE) = ERF_SMALL, ERFC_MIDDLE
_ERF_IS_ONE = ERF_IS_ONE


@kernel
def polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """Return the value of a polynomial by Horner's rule; the constant coefficient comes first."""
    y = coefficients[-1]
    for i in range(len(coefficients) - 2, -1, -1):
        y = y * x + coefficients[i]
    return y


@kernel
def with_sign_of(y: float, x: float) -> float:
    """Return y with the sign of x."""
    bits = (np.float64(y).view(np.int64) & ~_SIGN) | (np.float64(x).view(np.int64) & _SIGN)
    return np.int64(bits).view(np.float64)


@kernel
def _reduced(x: float) -> tuple[np.int64, float, float, float, float]:
    """Return n, hi, lo, r and c of the specification."""
    shifted = x * _LOG2_E + _TO_INTEGER
    whole = shifted - _TO_INTEGER
    hi = x - whole * _LN2_HI
    lo = whole * _LN2_LO
    r = hi - lo
    t = r * r
    c = r - t * polynomial(_P, t)
    n = np.float64(shifted).view(np.int64) - _BITS_OF_TO_INTEGER
    return n, hi, lo, r, c


@kernel
def _power_of_two(n: np.int64) -> float:
    """Return 2**n, for n such that it is a normal number."""
    return np.int64((n + 1023) << 52).view(np.float64)


@kernel
def _times_power(y: float, n: np.int64) -> float:
    half = n >> 1
    return y * _power_of_two(half) * _power_of_two(n - half)


@kernel
def exp(x: float) -> float:
    """Return e to the power x."""
    limited = x if x > -746.0 else -746.0
    limited = limited if limited < 710.0 else 710.0
    n, hi, lo, r, c = _reduced(limited)
    y = _times_power(1.0 - ((lo - (r * c) / (2.0 - c)) - hi), n)
    return y if x == x else _NAN


@kernel
def expm1(x: float) -> float:
    """Return exp(x) - 1."""
    limited = x if x > -50.0 else -50.0
    limited = limited if limited < 710.0 else 710.0
    n, hi, lo, r, c = _reduced(limited)
    rest = lo - (r * c) / (2.0 - c)
    power = _power_of_two(n)
    middle = (hi - rest) * power + (power - 1.0)
    y = with_sign_of(_times_power(1.0 - (rest - hi), n) if x > 40.0 else middle, x)
    return y if x == x else with_sign_of(_NAN, x)


@kernel
def tanh(x: float) -> float:
    """Return the hyperbolic tangent of x."""
    double = abs(x) * 2.0
    n, hi, lo, r, c = _reduced(double if double < 44.0 else 44.0)
    power = _power_of_two(n)
    m = (hi - (lo - (r * c) / (2.0 - c))) * power + (power - 1.0)
    y = with_sign_of(m / (m + 2.0), x)
    return y if x == x else _NAN


@kernel
def logistic(x: float) -> float:
    """Return 1 / (1 + exp(-x))."""
    below = -abs(x)
    n, _, _, r, c = _reduced(below if below > -746.0 else -746.0)
    v = 2.0 - c
    u = _times_power(v + (r + r), n)
    y = (u if x < 0.0 else v) / (v + u)
    return y if x == x else _NAN


@kernel
def _log_of_normal(x: float, less: float) -> float:
    """Return the logarithm of x / 2**less, for a positive normal number x."""
    bits = np.float64(x).view(np.int64)
    n = (bits - _BITS_OF_ROOT_HALF) >> 52
    f = np.int64(bits - (n << 52)).view(np.float64) - 1.0
    k = np.float64(n) - less
    s = f / (f + 2.0)
    z = s * s
    q = z * polynomial(_L, z)
    h = f * 0.5 * f
    return k * _LN2_HI - ((h - (s * (h + q) + k * _LN2_LO)) - f)


@kernel
def log(x: float) -> float:
    """Return the natural logarithm of x."""
    usual = x > 0.0 and x < _INF
    tiny = x < _NORMAL
    number = x if usual else 1.0
    number = number * 2.0**54 if tiny and usual else number
    y = _log_of_normal(number, 54.0 if tiny else 0.0)
    end = -_INF if x == 0.0 else (_INF if x == _INF else _NAN)
    return y if usual else end


@kernel
def log1p(x: float) -> float:
    """Return log(1 + x)."""
    usual = x > -1.0 and x < _INF
    number = x if usual else 1.0
    u = number + 1.0
    less = u - 1.0
    e = (1.0 - (u - less)) + (number - less)
    y = with_sign_of(_log_of_normal(u, 0.0) + e / u, number)
    end = -_INF if x == -1.0 else (_INF if x == _INF else _NAN)
    return y if usual else end


@kernel
def positive_part(x: float) -> float:
    """Return max(x, 0), where -0.0 becomes 0.0 and NaN stays."""
    return 0.0 if x <= 0.0 else x


@inlined_kernel
def erf(x: float) -> float:
    """Return the error function of x."""
    a = abs(x)
    a = a if a < _ERF_IS_ONE else _ERF_IS_ONE
    small = a <= 0.46875
    near = a if small else 0.0
    far = 1.0 if small else a
    z = near * near
    inner = near * (polynomial(_SMALL, z) / polynomial(_UNDER_SMALL, z))
    outer = 1.0 - exp(-far * far) * (polynomial(_MIDDLE, far) / polynomial(_UNDER_MIDDLE, far))
    y = with_sign_of(inner if small else outer, x)
    return y if x == x else with_sign_of(_NAN, x)


@kernel
def _exp_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = exp(np.float64(x[i]))


@kernel
def _expm1_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = expm1(np.float64(x[i]))


@kernel
def _log_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = log(np.float64(x[i]))


@kernel
def _log1p_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = log1p(np.float64(x[i]))


@kernel
def _tanh_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = tanh(np.float64(x[i]))


@kernel
def _logistic_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = logistic(np.float64(x[i]))


@kernel
def _erf_of_each(x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        y[i] = erf(np.float64(x[i]))


# Functions (x, y) that fill the vector y with a function of each number of the vector x.
_FUNCTIONS: dict[str, Callable[[FloatArray, FloatArray], None]] = {
    "exp": _exp_of_each,
    "expm1": _expm1_of_each,
    "log": _log_of_each,
    "log1p": _log1p_of_each,
    "tanh": _tanh_of_each,
    "logistic": _logistic_of_each,
    "erf": _erf_of_each,
}


@or_numpy
def of_each(name: str, x: FloatArray, y: FloatArray) -> bool:
    """Fill the contiguous vector `y` with the function called `name` of each number of `x`."""
    if not is_plain(x):
        return False
    function, x = _FUNCTIONS[name], unwritten(x)
    threads = worker_threads() if x.size >= _WORTH_A_THREAD else 1

    def fill(part: int) -> None:
        some = slice(x.size * part // threads, x.size * (part + 1) // threads)
        function(x[some], y[some])

    share_out(fill, threads, threads)
    return True
