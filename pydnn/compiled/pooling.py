"""Backward passes of pools as in `pydnn.stages.pooling`, in one pass over memory.

A kernel goes over the windows, and for each over its places in reading order. The numbers of all
channels and examples at one place, the lanes, lie one after the other, and those of a window stay
in cache until all its places are done. The numbers are compared and added as NumPy does it, so all
bits are equal. Forward, a pass of NumPy for each place of a window is as fast as such a kernel. Two
threads that share the lanes take longer than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pydnn.compiled.kernels import kernel
from pydnn.compiled.memory import copy
from pydnn.engines import give_up
from pydnn.records import FloatArray, readonly
from pydnn.stages.windows import WindowedAxis

__all__ = ["spread", "to_first_maximum"]

_LEAST = 1 << 16  # bytes of the input; NumPy is as fast for smaller ones
_LANES = 2048  # of an output, which stay in cache while the places of a window are gone through

Axes = Sequence[WindowedAxis]


def to_first_maximum(
    X: FloatArray, A: FloatArray, dA: FloatArray, axes: Axes, adds: bool, dA_prev: FloatArray
) -> bool:
    """Give the gradient of each window to the first place of its maximum; False without a kernel.

    Args:
        X: The input, in C order.
        A: The maxima.
        dA: Their gradients.
        axes: The windows along each axis.
        adds: Whether gradients are added to `dA_prev`, because windows overlap.
        dA_prev: Gets the gradients; places without a window stay as they are.
    """
    if not _fits(dA, dA_prev):
        return False
    lanes = _lanes(X)
    rest = np.empty(min(_LANES, lanes), X.dtype)
    numbers, maxima, gradients = (readonly(a).reshape(-1) for a in (X, A, dA))
    return _done(
        _choose, numbers, maxima, gradients, _where(axes), lanes, adds, rest, dA_prev.reshape(-1)
    )


def spread(share: FloatArray, axes: Axes, dA_prev: FloatArray) -> bool:
    """Add the share of each window to all of its places; False if there is no kernel for it."""
    if not _fits(share, dA_prev):
        return False
    given = readonly(share).reshape(-1)
    return _done(_spread, given, _where(axes), _lanes(dA_prev), dA_prev.reshape(-1))


def _where(axes: Axes) -> tuple[int, ...]:
    """Return length, count, size, stride and padding of the vertical and the horizontal axis."""
    rows, columns = axes if len(axes) == 2 else (WindowedAxis(1, 1), *axes)
    return tuple(
        number
        for axis in (rows, columns)
        for number in (axis.length, axis.count, axis.size, axis.stride, axis.before)
    )


def _lanes(X: FloatArray) -> int:
    lanes: int = X.shape[-2] * X.shape[-1]
    return lanes


def _fits(gradients: FloatArray, dA_prev: FloatArray) -> bool:
    known = dA_prev.dtype.char in "fd" and dA_prev.dtype.isnative
    return known and dA_prev.nbytes >= max(1, _LEAST) and gradients.flags.c_contiguous


def _done(function: Callable[..., None], *arguments: object) -> bool:
    try:
        function(*arguments)
    except Exception as error:  # numba may raise anything
        give_up(error)
        return False
    return True


@kernel
def _choose(
    X: FloatArray,
    A: FloatArray,
    dA: FloatArray,
    where: tuple[int, ...],
    lanes: int,
    adds: bool,
    rest: FloatArray,
    dA_prev: FloatArray,
) -> None:
    H, down, k_H, over, above, W, across, k_W, further, left = where
    zero = dA.dtype.type(0.0)
    for begin in range(0, lanes, rest.size):
        few = min(rest.size, lanes - begin)
        left_over = rest[:few]  # the gradients whose place is still to come
        for p in range(down - 1, -1, -1):  # gradients of one place are added from the last window
            for q in range(across - 1, -1, -1):
                at = (p * across + q) * lanes + begin
                largest = A[at : at + few]
                copy(dA, at, rest, 0, few)
                for h in range(max(0, p * over - above), min(H, p * over - above + k_H)):
                    for w in range(max(0, q * further - left), min(W, q * further - left + k_W)):
                        at = (h * W + w) * lanes + begin
                        place, into = X[at : at + few], dA_prev[at : at + few]
                        if adds:
                            for e in range(into.size):
                                here, dx = place[e] == largest[e], left_over[e]
                                into[e] = into[e] + (dx if here else zero)
                                left_over[e] = zero if here else dx
                        else:
                            for e in range(into.size):
                                here, dx = place[e] == largest[e], left_over[e]
                                into[e] = dx if here else zero
                                left_over[e] = zero if here else dx


@kernel
def _spread(
    share: FloatArray,
    where: tuple[int, ...],
    lanes: int,
    dA_prev: FloatArray,
) -> None:
    H, down, k_H, over, above, W, across, k_W, further, left = where
    for p in range(down - 1, -1, -1):
        for q in range(across - 1, -1, -1):
            at = (p * across + q) * lanes
            given = share[at : at + lanes]
            for h in range(max(0, p * over - above), min(H, p * over - above + k_H)):
                for w in range(max(0, q * further - left), min(W, q * further - left + k_W)):
                    at = (h * W + w) * lanes
                    into = dA_prev[at : at + lanes]
                    for e in range(into.size):
                        into[e] = into[e] + given[e]
