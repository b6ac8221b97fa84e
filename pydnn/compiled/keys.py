"""The random numbers of `pydnn.keys`, made in one pass, by several threads where there are many.

Bits are those of Philox 4x64-10. Its counter is the place of four numbers, so a thread can begin
anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.elementary import polynomial, with_sign_of
from pydnn.compiled.portable.forms import or_numpy
from pydnn.compiled.portable.tiles import written_for_llvm
from pydnn.numerics.quantiles import FAR_TAIL, LN2, MIDDLE, ROOT_HALF, TAIL
from pydnn.numerics.threads import share_out, worker_threads

__all__ = ["bits", "normal", "order_of", "permuted", "uniform"]

_Bits = NDArray[np.uint64]
_Floats = NDArray[np.float64]

_AT_ONCE = 1 << 10  # numbers whose bits are in the first cache
_WORTH_A_THREAD = 1 << 17  # numbers
_IN_A_BUCKET = 4  # numbers, on average
_SERIES = tuple(2.0 / (2 * k + 1) for k in range(12))
(_MIDDLE, _UNDER_MIDDLE), (_TAIL, _UNDER_TAIL), (_FAR, _UNDER_FAR) = MIDDLE, TAIL, FAR_TAIL
_LN2, _ROOT_HALF = LN2, ROOT_HALF
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_MIXERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_FRACTION, _HALF = 2**52 - 1, 1022 << 52


@written_for_llvm
def _high_half(typing: Any, x: np.uint64, y: np.uint64) -> Any:
    """Return the first 64 of the 128 bits of a product."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(number, wide) for number in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@kernel
def _fill_bits(low: np.uint64, high: np.uint64, start: int, bits: _Bits) -> None:
    """Fill `bits`, whose size is a multiple of 4, from the number `start`, which is one, too."""
    one, zero = np.uint64(1), np.uint64(0)
    counter = np.uint64(start // 4) + one
    for place in range(0, bits.size, 4):
        a, b, c, d = counter, zero, zero, zero
        first, second = low, high
        for _ in range(10):
            over, other = _high_half(_MULTIPLIERS[0], a), _high_half(_MULTIPLIERS[1], c)
            a, b, c, d = (
                other ^ b ^ first,
                _MULTIPLIERS[1] * c,
                over ^ d ^ second,
                _MULTIPLIERS[0] * a,
            )
            first, second = first + _STEPS[0], second + _STEPS[1]
        bits[place], bits[place + 1], bits[place + 2], bits[place + 3] = a, b, c, d
        counter += one


@kernel
def _log(x: float) -> float:
    """Return the natural logarithm of a positive normal number."""
    bits = np.float64(x).view(np.int64)
    m = np.int64((bits & _FRACTION) | _HALF).view(np.float64)
    low = m < _ROOT_HALF
    e = np.float64((bits >> 52) - (1023 if low else 1022))
    m = m + m if low else m
    s = (m - 1.0) / (m + 1.0)
    return e * _LN2 + s * polynomial(_SERIES, s * s)


@kernel
def _root_of_log(p: float) -> float:
    return math.sqrt(-_log(min(p, 1.0 - p)))


@kernel
def _fill_raw(low: np.uint64, high: np.uint64, start: int, out: _Bits) -> None:
    whole, last = out.size // 4 * 4, np.empty(4, np.uint64)
    _fill_bits(low, high, start, out[:whole])
    _fill_bits(low, high, start + whole, last)
    for i in range(whole, out.size):
        out[i] = last[i - whole]


@kernel
def _fill_uniform(low: np.uint64, high: np.uint64, start: int, out: _Floats) -> None:
    bits = np.empty(_AT_ONCE, np.uint64)
    for begin in range(0, out.size, _AT_ONCE):
        some = out[begin : begin + _AT_ONCE]
        _fill_bits(low, high, start + begin, bits[: (some.size + 3) // 4 * 4])
        for i in range(some.size):
            some[i] = np.float64(np.int64(bits[i] >> np.uint64(11))) * 2.0**-53


@kernel
def _fill_normal(low: np.uint64, high: np.uint64, start: int, out: _Floats) -> None:
    bits, p = np.empty(_AT_ONCE, np.uint64), np.empty(_AT_ONCE)
    for begin in range(0, out.size, _AT_ONCE):
        some = out[begin : begin + _AT_ONCE]
        _fill_bits(low, high, start + begin, bits[: (some.size + 3) // 4 * 4])
        for i in range(some.size):
            p[i] = (np.float64(np.int64(bits[i] >> np.uint64(12))) + 0.5) * 2.0**-52
        far = False
        for i in range(some.size):
            q = p[i] - 0.5
            z = 0.180625 - q * q
            middle = q * (polynomial(_MIDDLE, z) / polynomial(_UNDER_MIDDLE, z))
            r = _root_of_log(p[i])
            tail = polynomial(_TAIL, r - 1.6) / polynomial(_UNDER_TAIL, r - 1.6)
            some[i] = middle if abs(q) <= 0.425 else with_sign_of(tail, q)
            far |= r > 5.0
        if far:  # one number in 3e10
            for i in range(some.size):
                r = _root_of_log(p[i])
                if r > 5.0:
                    tail = polynomial(_FAR, r - 5.0) / polynomial(_UNDER_FAR, r - 5.0)
                    some[i] = with_sign_of(tail, p[i] - 0.5)


@or_numpy
def bits(key: int, out: _Bits) -> bool:
    """Fill the vector `out` with the random bits of a key of Philox."""
    return _drawn(_fill_raw, key, out)


@or_numpy
def uniform(key: int, out: _Floats) -> bool:
    """Fill the vector `out` with the uniform numbers of a key of Philox."""
    return _drawn(_fill_uniform, key, out)


@or_numpy
def normal(key: int, out: _Floats) -> bool:
    """Fill the vector `out` with the normal numbers of a key of Philox."""
    return _drawn(_fill_normal, key, out)


def _drawn(
    fill_from: Callable[[np.uint64, np.uint64, int, Any], None], key: int, out: NDArray[Any]
) -> bool:
    low, high = np.uint64(key & (2**64 - 1)), np.uint64(key >> 64)
    threads = worker_threads() if out.size >= _WORTH_A_THREAD else 1
    bounds = [out.size * part // threads // 4 * 4 for part in range(threads)] + [out.size]

    def fill(part: int) -> None:
        fill_from(low, high, bounds[part], out[bounds[part] : bounds[part + 1]])

    share_out(fill, threads, threads)
    return True


@kernel
def _sort(bits: _Bits, ordered: _Bits, order: NDArray[np.int64]) -> None:
    """Fill `ordered` with random bits from small to large, and `order` with their places."""
    # Numbers with the same first bits come into one bucket. Then nearly all are in their order, and
    # none is far from its place.
    count, kept = bits.size, 1
    while (count // _IN_A_BUCKET) >> kept:
        kept += 1
    shift, ends = np.uint64(64 - kept), np.zeros((1 << kept) + 1, np.int64)
    for i in range(count):
        ends[np.int64(bits[i] >> shift) + 1] += 1
    for bucket in range(1 << kept):
        ends[bucket + 1] += ends[bucket]
    for i in range(count):
        into = np.int64(bits[i] >> shift)
        place = ends[into]
        ends[into] = place + 1
        ordered[place], order[place] = bits[i], i
    for i in range(1, count):
        number, place, free = ordered[i], order[i], i
        while free > 0 and ordered[free - 1] > number:
            ordered[free], order[free] = ordered[free - 1], order[free - 1]
            free -= 1
        ordered[free], order[free] = number, place


@or_numpy
def order_of(bits: _Bits, order: NDArray[np.int64]) -> bool:
    """Fill `order` with the order that sorts random bits, where equal ones keep their order."""
    _sort(bits, np.empty_like(bits), order)
    return True


@kernel
def _sum_of_digits(x: np.uint64, y: np.uint64, base: np.uint64) -> np.uint64:
    """Return the remainder of x + y, where both are below the base, without a division."""
    total = x + y
    return total - base if total >= base else total


@kernel
def _permute(
    count: np.uint64, bases: _Bits, secrets: _Bits, which: _Bits, out: NDArray[np.int64]
) -> None:
    low = bases[1]
    for place in range(which.size):
        number = which[place]
        while True:
            first, second = number // low, number % low
            for i in range(secrets.size):
                mixed = (first if i % 2 else second) + secrets[i]
                mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIXERS[0]
                mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIXERS[1]
                mixed = mixed ^ (mixed >> np.uint64(31))
                if i % 2:
                    second = _sum_of_digits(second, mixed % low, low)
                else:
                    first = _sum_of_digits(first, mixed % bases[0], bases[0])
            number = first * low + second
            if number < count:
                break
        out[place] = np.int64(number)


@or_numpy
def permuted(
    count: int, bases: tuple[int, int], secrets: _Bits, which: _Bits, out: NDArray[np.int64]
) -> bool:
    """Fill `out` with the entries at the places `which` of a random order of `count` integers."""
    threads = worker_threads() if out.size >= _WORTH_A_THREAD else 1

    def fill(part: int) -> None:
        some = slice(out.size * part // threads, out.size * (part + 1) // threads)
        _permute(np.uint64(count), np.array(bases, np.uint64), secrets, which[some], out[some])

    share_out(fill, threads, threads)
    return True
