"""exp, expm1, log, log1p, tanh, the logistic function and erf, from exactly rounded operations.

Specification. Every operation `+ - * /` is in float64 and rounds separately, to the nearest, ties
to even. The coefficients are below; polynomials use Horner's rule. A float32 argument is converted
to float64, and the result rounded once. With n the integer nearest to the double x * LOG2_E (ties
to even):

    hi = x - n * LN2_HI,  lo = n * LN2_LO,  r = hi - lo,  t = r * r
    c = r - t * P(t),  v = 2 - c
    exp(x)      = 2**n * (1 - ((lo - (r * c) / v) - hi))
    expm1(x)    = 2**n * p + (2**n - 1),  p = hi - (lo - (r * c) / v);  exp(x) beyond 40, and
                  -1 below -50; it has the sign of x
    logistic(x) = a / (v + u) of -|x|, where u = (v + 2 * r) * 2**n, and a = v where x >= 0, else u
    tanh(x)     = m / (m + 2), m = expm1(min(2 |x|, 44)), with the sign of x

For log, x = 2**k * m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f / (2 + f), z = s * s:

    h = 0.5 * f * f,  log(x) = k * LN2_HI - ((h - (s * (h + z * L(z)) + k * LN2_LO)) - f)
    log1p(x) = log(u) + e / u,  u = 1 + x rounded, e = (1 - (u - (u - 1))) + (x - (u - 1)),
    with the sign of x

At the ends, exp is 0 below -746 and infinite above 710. log is -inf at zeros and NaN below them;
log1p is so at and below -1. If 2**n is out of range, a number is multiplied by 2**(n // 2) and then
by the rest.

The largest errors that tests/function_errors.py measures against mpmath, in units in the last
place: exp 0.87, expm1 1.4, log 0.76, log1p 1.2, logistic 1.7, tanh 2.2, and 4.1 for erf, which is
that of `fast` with this exp. All of 20,000 float32 results in each range were the nearest floats.

References:
    Cody and Waite, Software manual for the elementary functions, 1980, for the reduction; Sun's
    fdlibm, e_exp.c and e_log.c, 1993, for the coefficients and the quotient r c / (2 - c).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy import add, copysign, divide, left_shift, multiply, right_shift, subtract

from pydnn.engines import in_use
from pydnn.numerics.fast import error_function
from pydnn.numerics.portable.workspace import BLOCK, floats, several
from pydnn.records import FloatArray, freeze, scalar

__all__ = [
    "LN2_HI",
    "LN2_LO",
    "LOG2_E",
    "ROOT_HALF",
    "L",
    "P",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "tanh",
]


def _numbers(*values: float) -> tuple[FloatArray, ...]:
    """Return the values as arrays without axes, which combine with small arrays fastest."""
    return tuple(scalar(value, np.float64) for value in values)


LOG2_E, LN2_HI, LN2_LO = _numbers(
    1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
)
_HALF, _ONE, _TWO = _numbers(0.5, 1.0, 2.0)
P = _numbers(
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
L = _numbers(
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
(_TO_INTEGER,) = _numbers(
    1.5 * 2.0**52
)  # adding it to a number rounds that to an integer, in the last bits of the sum
_NORMAL, _LARGEST = 2.0**-1022, sys.float_info.max
ROOT_HALF, _MANTISSA, _BIAS, _BITS_OF_ONE = (
    freeze(np.array(value, np.int64)) for value in (0x3FE6A09E667F3BCD, 52, 1023, 1023 << 52)
)  # the first are the bits of sqrt(1/2)

# A function (x, y) that fills y; both have the same size and do not overlap.
_Core = Callable[[FloatArray, FloatArray], None]


def _elementwise(core: _Core) -> Callable[[FloatArray], FloatArray]:
    """Return a function of arrays of any shape, from a `core` for up to `BLOCK` numbers."""
    name = core.__name__.removeprefix("_")

    def function(x: FloatArray, /) -> FloatArray:
        if not (x.flags.c_contiguous or x.flags.f_contiguous):
            x = np.ascontiguousarray(x)
        y = np.empty_like(x)
        inputs, outputs = x.ravel("K"), y.ravel("K")  # views, in the order of memory
        forms = in_use.forms
        if forms is not None and forms.portable.of_each(name, inputs, outputs):
            return y
        for start in range(0, x.size, BLOCK):
            block = slice(start, start + BLOCK)
            source, target = inputs[block], outputs[block]
            if x.dtype == np.float64:
                core(source, target)
            else:
                wide, result = several("xy", source.size)
                np.copyto(wide, source)
                core(wide, result)
                np.copyto(target, result, casting="same_kind")
        return y

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return {name} of each number of `x`, with the same bits on every machine."
    return function


def _reduced(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return n, hi, lo, r and c of the specification; n is in the lowest bits of its floats."""
    n, hi, lo, r, c, t = several("nhlrct", x.size)
    multiply(x, LOG2_E, n)
    add(n, _TO_INTEGER, n)
    subtract(n, _TO_INTEGER, t)
    multiply(t, LN2_HI, hi)
    subtract(x, hi, hi)
    multiply(t, LN2_LO, lo)
    subtract(hi, lo, r)
    multiply(r, r, t)
    _times_polynomial(t, P, out=c)
    subtract(r, c, c)
    return n, hi, lo, r, c


def _times_polynomial(
    t: FloatArray, coefficients: tuple[FloatArray, ...], *, out: FloatArray
) -> None:
    """Fill `out` with t times a polynomial of t; the constant coefficient comes first."""
    multiply(t, coefficients[-1], out)
    for coefficient in coefficients[-2::-1]:
        add(out, coefficient, out)
        multiply(out, t, out)


def _times_power(y: FloatArray, n: FloatArray, *, small: bool) -> None:
    """Multiply y, normal and not negative, by 2**n.

    Args:
        y: The numbers, which are changed.
        n: The exponents, in the lowest bits of floats.
        small: Whether all products are normal, so that adding n to the exponent bits is enough.
    """
    bits = n.view(np.int64)
    if small:
        left_shift(bits, _MANTISSA, bits)
        exponents = y.view(np.int64)
        add(exponents, bits, exponents)
        return
    whole = (n - _TO_INTEGER).astype(np.int64)
    half = whole >> 1
    for part in (half, whole - half):
        multiply(y, ((part + _BIAS) << _MANTISSA).view(np.float64), y)


def _within(x: FloatArray, low: float, high: float) -> bool:
    """Return whether all numbers are from `low` to `high`; False if one is NaN."""
    return bool(np.minimum.reduce(x) >= low) and bool(np.maximum.reduce(x) <= high)


def _clamped(x: FloatArray, low: float, high: float) -> FloatArray:
    """Return the numbers limited to `low` and `high`, with 0 instead of NaN."""
    clamped = np.minimum(np.maximum(x, low), high)
    return np.where(np.isnan(x), 0.0, clamped)


def _exp(x: FloatArray, y: FloatArray) -> None:
    small = bool(np.maximum.reduce(np.abs(x, out=floats("magnitudes", x.size))) <= 708.0)
    limited = x if small else np.where(x == np.inf, 0.0, _clamped(x, -746.0, 710.0))
    ends = None if small else (np.isnan(x), x == np.inf)
    n, hi, lo, r, c = _reduced(limited)
    multiply(r, c, r)
    subtract(_TWO, c, c)
    divide(r, c, r)
    subtract(lo, r, lo)
    subtract(lo, hi, lo)
    subtract(_ONE, lo, y)
    _times_power(y, n, small=small)
    if ends is not None:
        bad, infinite = ends
        y[bad], y[infinite] = np.nan, np.inf


def _expm1(x: FloatArray, y: FloatArray) -> None:
    middle = _within(x, -50.0, 40.0)
    limited = x if middle else _clamped(x, -50.0, 40.0)
    beyond = None if middle else (np.isnan(x), x > 40.0, x[x > 40.0])
    _expm1_of_middle(limited, y)
    if beyond is not None:
        bad, far, numbers = beyond
        y[bad] = np.nan
        if far.any():
            y[far] = exp(numbers)
    copysign(y, x, y)


def _expm1_of_middle(x: FloatArray, y: FloatArray) -> None:
    """Fill y with expm1 of numbers from -50 to 44; zeros may have the wrong sign."""
    n, hi, lo, r, c = _reduced(x)
    multiply(r, c, r)
    subtract(_TWO, c, c)
    divide(r, c, r)
    subtract(lo, r, lo)
    subtract(hi, lo, hi)
    bits = n.view(np.int64)
    left_shift(bits, _MANTISSA, bits)
    add(bits, _BITS_OF_ONE, bits)  # n is now 2**n
    multiply(hi, n, hi)
    subtract(n, _ONE, n)
    add(hi, n, y)


def _tanh(x: FloatArray, y: FloatArray) -> None:
    m = floats("m", x.size)
    np.abs(x, out=m)
    multiply(m, _TWO, m)
    np.minimum(m, 44.0, out=m)
    bad = None if np.maximum.reduce(m) <= 44.0 else np.isnan(m)
    if bad is not None:
        m[bad] = 0.0
    _expm1_of_middle(m, y)
    add(y, _TWO, m)
    divide(y, m, y)
    copysign(y, x, y)
    if bad is not None:
        y[bad] = np.nan


def _logistic(x: FloatArray, y: FloatArray) -> None:
    below, negative = floats("below", x.size), x < 0
    np.abs(x, out=below)
    np.negative(below, out=below)
    small = bool(np.minimum.reduce(below) >= -700.0)
    bad = None
    if not small:
        bad = np.isnan(x)
        below[...] = _clamped(below, -746.0, 0.0)
    n, hi, _, r, c = _reduced(below)
    v, u = subtract(_TWO, c, c), add(r, r, r)
    add(v, u, u)
    _times_power(u, n, small=small)
    add(v, u, hi)
    np.copyto(v, u, where=negative)
    divide(v, hi, y)
    if bad is not None:
        y[bad] = np.nan


def _log(x: FloatArray, y: FloatArray) -> None:
    if _within(x, _NORMAL, _LARGEST):
        _log_of_normal(x, 0.0, y)
        return
    tiny = x < _NORMAL
    usual = (x > 0.0) & (x < np.inf)
    numbers = np.where(usual, x, 1.0)
    numbers[tiny & usual] *= 2.0**54
    _log_of_normal(numbers, np.where(tiny & usual, 54.0, 0.0), y)
    y[x == 0.0] = -np.inf
    y[x == np.inf] = np.inf
    y[(x < 0.0) | np.isnan(x)] = np.nan


def _log_of_normal(x: FloatArray, less: float | FloatArray, y: FloatArray) -> None:
    """Fill y with the logarithm of x / 2**less, for positive normal numbers x."""
    k, f, h, s, z, q = several("kfhszq", x.size)
    bits, mantissas = k.view(np.int64), f.view(np.int64)
    subtract(x.view(np.int64), ROOT_HALF, bits)
    right_shift(bits, _MANTISSA, bits)
    left_shift(bits, _MANTISSA, mantissas)
    subtract(x.view(np.int64), mantissas, mantissas)
    subtract(f, _ONE, f)
    subtract(bits, less, k)
    add(f, _TWO, s)
    divide(f, s, s)
    multiply(s, s, z)
    _times_polynomial(z, L, out=q)
    multiply(f, _HALF, h)
    multiply(h, f, h)
    add(h, q, q)
    multiply(s, q, q)
    multiply(k, LN2_LO, s)
    add(q, s, q)
    subtract(h, q, h)
    subtract(h, f, h)
    multiply(k, LN2_HI, k)
    subtract(k, h, y)


def _log1p(x: FloatArray, y: FloatArray) -> None:
    u, e, f = several("ued", x.size)
    add(x, _ONE, u)
    if not _within(u, _NORMAL, _LARGEST):
        usual = np.isfinite(x) & (x > -1.0)
        _log1p(np.where(usual, x, 1.0), y)
        y[~usual] = log(1.0 + x[~usual])
        return
    subtract(u, _ONE, f)
    subtract(u, f, e)
    subtract(_ONE, e, e)
    subtract(x, f, f)
    add(e, f, e)
    divide(e, u, e)
    _log_of_normal(u, 0.0, y)
    add(y, e, y)
    copysign(y, x, y)


exp = _elementwise(_exp)
expm1 = _elementwise(_expm1)
log = _elementwise(_log)
log1p = _elementwise(_log1p)
tanh = _elementwise(_tanh)
logistic = _elementwise(_logistic)


def _erf(x: FloatArray, y: FloatArray) -> None:
    y[...] = error_function(x, exp)
    nan = x != x
    if nan.any():  # NumPy's loops keep the payload of a NaN at some places of an array only
        y[nan] = np.copysign(np.nan, x[nan])


erf = _elementwise(_erf)
