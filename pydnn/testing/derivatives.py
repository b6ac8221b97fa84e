"""The derivative of a function along a line, by numbers alone, with how far it can be trusted.

Central differences at three steps are refined by Richardson's extrapolation. Where the second
difference shows a corner within the step, the step is made smaller until the corner is outside;
one at the very point stays, and is told.
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

Line = Callable[[complex], NDArray[Any]]  # t -> outputs (k,) at a distance of t, real or imaginary

_EPS = float(np.finfo(np.float64).eps)
_ROUNDS, _SHRINK = 5, 16
# Where the second derivative jumps, steps that halve settle this much slower than they seem to.
_SLOW = 20
_IMAGINARY = 2.0**-70  # whose square is nothing beside 1, and far from the smallest number


@attrs.frozen(eq=False)
class Derivative:
    """Derivatives of k outputs along a line.

    Attributes:
        value: Central differences, extrapolated, (k,).
        error: What they may be off by, (k,).
        corner: Whether no step was small enough: there is a corner at the very point.
        left: The slope before the point, (k,),
        right: and after it.
    """

    value: FloatArray
    error: FloatArray
    corner: bool
    left: FloatArray
    right: FloatArray


def derivative(line: Line, at: FloatArray, step: float) -> Derivative:
    """Differentiate `line` at 0, where its outputs are `at`, from a `step` on downwards.

    References:
        Richardson, The approximate arithmetical solution by finite differences, 1911.
    """
    for _ in range(_ROUNDS):
        found = _by_differences(line, at, step)
        if not found.corner:
            return found
        step /= _SHRINK
    return found


def _by_differences(line: Line, at: FloatArray, step: float) -> Derivative:
    steps = [step, step / 2, step / 4]
    after, before = ([line(sign * h) for h in steps] for sign in (1, -1))
    slopes = [(a - b) / (2 * h) for a, b, h in zip(after, before, steps, strict=True)]
    second = [(4 * slopes[i + 1] - slopes[i]) / 3 for i in (0, 1)]  # h**2 taken away
    value = (16 * second[1] - second[0]) / 15  # and h**4
    rounding = 8 * _EPS * max(np.abs(at).max(initial=0), np.abs(after[0]).max(initial=0)) / steps[2]
    unsettled = np.abs(value - second[1])
    # Between two steps, of which one is a quarter, a smooth function's bend is a quarter, too.
    bends = [np.abs(after[i] - 2 * at + before[i]) / steps[i] for i in (0, 2)]
    corner = (bends[1] > 0.5 * bends[0] + 2 * rounding) | (
        unsettled > 1e-8 * np.abs(value).max(initial=0) + 4 * rounding
    )
    return Derivative(
        value,
        _SLOW * unsettled + rounding,
        bool(corner.any()),
        (at - before[2]) / steps[2],
        (after[2] - at) / steps[2],
    )


def by_complex_step(line: Line, known: Derivative) -> FloatArray | None:
    """The derivative to the last digits, for a function that takes complex numbers.

    None where it does not, or makes of them something else than differences have found, as a
    function that takes absolute values does.

    References:
        Squire and Trapp, Using complex variables to estimate derivatives, 1998.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that imaginary parts are thrown away is one
            outputs = np.asarray(line(1j * _IMAGINARY))
    except Exception:  # whatever a function may do that was not written for this
        return None
    if outputs.dtype.kind != "c":
        return None
    value: FloatArray = outputs.imag / _IMAGINARY
    most = 4 * known.error + 1e-11 * np.abs(known.value).max(initial=0)
    return value if bool((np.abs(value - known.value) <= most).all()) else None
