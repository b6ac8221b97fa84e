"""Numeric derivatives of a function along a line, with bounds on their error.

Central differences at three step sizes are refined by Richardson extrapolation. If the second
difference shows a corner within the step, the step shrinks until the corner is outside. A corner
at the point itself cannot be avoided, and is reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.records import FloatArray

__all__ = ["Derivative", "Line", "by_complex_step", "derivative"]

Line = Callable[[complex], NDArray[Any]]  # t -> outputs (k,) at distance t, real or imaginary

_EPS = float(np.finfo(np.float64).eps)
_ROUNDS, _SHRINK = 5, 16
# Where the second derivative jumps, the error falls more slowly than Richardson assumes: the change
# between two extrapolations then has to be multiplied by this to bound it.
_SLOW = 20
_IMAGINARY = 2.0**-70  # its square vanishes beside 1, and it is far above the smallest number


@attrs.frozen(eq=False)
class Derivative:
    """Derivatives of k outputs along a line.

    Attributes:
        value: Extrapolated central differences, (k,).
        error: Bounds on their errors, (k,).
        corner: Whether there is a corner at the point itself, so that no step was small enough.
        left: Slopes just before the point, (k,).
        right: Slopes just after the point, (k,).
    """

    value: FloatArray
    error: FloatArray
    corner: bool
    left: FloatArray
    right: FloatArray


def derivative(line: Line, at: FloatArray, step: float) -> Derivative:
    """Differentiate `line` at 0 by differences.

    Args:
        line: The function, from a distance to outputs (k,).
        at: The outputs at distance 0, (k,).
        step: The first step size; it shrinks as long as there is a corner within it.

    References:
        Richardson, The approximate arithmetical solution by finite differences, 1911.

    Example:
        >>> from pydnn.testing.derivatives import derivative
        >>> cube = derivative(lambda t: np.array([(1 + t) ** 3]), np.array([1.0]), 1e-3)
        >>> cube.value.round(9), cube.corner
        (array([3.]), False)
        >>> derivative(lambda t: np.abs([t]), np.array([0.0]), 1e-3).corner
        True
    """
    for _ in range(_ROUNDS):
        result = _by_differences(line, at, step)
        if not result.corner:
            return result
        step /= _SHRINK
    return result


def _by_differences(line: Line, at: FloatArray, step: float) -> Derivative:
    steps = [step, step / 2, step / 4]
    after, before = ([line(sign * h) for h in steps] for sign in (1, -1))
    slopes = [(a - b) / (2 * h) for a, b, h in zip(after, before, steps, strict=True)]
    second = [(4 * slopes[i + 1] - slopes[i]) / 3 for i in (0, 1)]  # without the error in h**2
    value = (16 * second[1] - second[0]) / 15  # and without the one in h**4
    rounding = 8 * _EPS * max(np.abs(at).max(initial=0), np.abs(after[0]).max(initial=0)) / steps[2]
    change = np.abs(value - second[1])
    # The change of slope across the step is proportional to the step for a smooth function, so a
    # quarter of the step gives a quarter of it. At a corner it stays the same.
    bends = [np.abs(after[i] - 2 * at + before[i]) / steps[i] for i in (0, 2)]
    corner = (bends[1] > 0.5 * bends[0] + 2 * rounding) | (
        change > 1e-8 * np.abs(value).max(initial=0) + 4 * rounding
    )
    return Derivative(
        value,
        _SLOW * change + rounding,
        bool(corner.any()),
        (at - before[2]) / steps[2],
        (after[2] - at) / steps[2],
    )


def by_complex_step(line: Line, known: Derivative) -> FloatArray | None:
    """Differentiate a function that takes complex numbers, accurate to the last digits.

    Args:
        line: The function, from a distance to outputs (k,).
        known: Its derivative by differences, which the result must agree with.

    Returns:
        The derivative (k,). None if the function does not take complex numbers, or the result does
        not agree with `known`: a function of absolute values, for instance, is not analytic.

    References:
        Squire and Trapp, Using complex variables to estimate derivatives, 1998.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns when it discards imaginary parts
            outputs = np.asarray(line(1j * _IMAGINARY))
    except Exception:  # a function that was not written for complex numbers may raise anything
        return None
    if outputs.dtype.kind != "c":
        return None
    value: FloatArray = outputs.imag / _IMAGINARY
    tolerance = 4 * known.error + 1e-11 * np.abs(known.value).max(initial=0)
    return value if bool((np.abs(value - known.value) <= tolerance).all()) else None
