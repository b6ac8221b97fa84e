"""Draws soft-edged shapes on many small pictures at the same time.

Everything is computed in float32, one ufunc at a time, with operations that IEEE 754 rounds
exactly. So a drawing has the same bits on every machine. A `Pen` holds the coordinates of every
pixel relative to the object that is drawn: (0, 0) is its middle, x points right, y points up, and
the object lies between about -1 and 1. A shape is its coverage of each pixel, 0 to 1, with shape
(B, 64, 64) for B pictures.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.records import FloatArray

__all__ = [
    "SIDE",
    "Color",
    "Coverage",
    "Pen",
    "Picture",
    "box",
    "ellipse",
    "line",
    "mix",
    "paint",
    "pen_of",
    "polygon",
    "ring",
]

SIDE = 64
Coverage: TypeAlias = NDArray[np.float32]  # (B, 64, 64), or what broadcasts to it
Picture: TypeAlias = NDArray[np.float32]  # (3, B, 64, 64): red, green, blue, about 0 to 1
Color: TypeAlias = NDArray[np.float32]  # (3, B)
Number: TypeAlias = "float | np.float32 | FloatArray"  # one for all pictures, or (B, 1, 1)


@attrs.frozen(eq=False)
class Pen:
    """The coordinates of every pixel, x and y (B, 64, 64), and the size of a pixel (B, 1, 1).

    All are float32; the wider type is for NumPy's type stubs, which infer float64.
    """

    x: FloatArray
    y: FloatArray
    pixel: FloatArray

    def mirrored(self) -> Pen:
        """A pen that draws the mirror image, for the other half of something symmetric."""
        return Pen(-self.x, self.y, self.pixel)

    def at(self, x: Number, y: Number, *, size: Number = 1.0, slope: Number = 0.0) -> Pen:
        """A pen for a detail with its middle at (x, y), of relative `size`, turned by `slope`.

        `slope` is the tangent of half the angle, counterclockwise.
        """
        return _frame(self.x - _f(x), self.y - _f(y), self.pixel, _f(size), _f(slope))


def pen_of(x: Number, y: Number, *, size: Number, slope: Number) -> Pen:
    """The pen for an object with its middle at (x, y) of the picture, which goes from -1 to 1."""
    centres = (np.arange(SIDE, dtype=np.float32) * _f(2) + _f(1 - SIDE)) / _f(SIDE)
    across, up = centres[np.newaxis, np.newaxis, :], -centres[np.newaxis, :, np.newaxis]
    return _frame(across - _f(x), up - _f(y), _f(2 / SIDE), _f(size), _f(slope))


def ellipse(pen: Pen, x: Number, y: Number, width: Number, height: Number) -> Coverage:
    """An ellipse around (x, y) with half axes `width` and `height`."""
    width, height = _f(width), _f(height)
    across, up = (pen.x - _f(x)) / width, (pen.y - _f(y)) / height
    radius = np.sqrt(across * across + up * up)
    return _covered((_f(1) - radius) * np.minimum(width, height), pen)


def ring(
    pen: Pen, x: Number, y: Number, radius: Number, half_width: Number, *, below: bool
) -> Coverage:
    """The lower or upper half of a circle's outline: a smile, or an arch."""
    across, up = pen.x - _f(x), pen.y - _f(y)
    outline = _f(half_width) - np.abs(np.sqrt(across * across + up * up) - _f(radius))
    half = -up if below else up
    return _covered(np.minimum(outline, half), pen)


def box(
    pen: Pen, x: Number, y: Number, width: Number, height: Number, *, round_by: float = 0.0
) -> Coverage:
    """A rectangle around (x, y) of half sides `width` and `height`, with corners of a radius."""
    across = np.abs(pen.x - _f(x)) - (_f(width) - _f(round_by))
    up = np.abs(pen.y - _f(y)) - (_f(height) - _f(round_by))
    if not round_by:
        return _covered(np.minimum(-across, -up), pen)
    outside_x, outside_y = np.maximum(across, _f(0)), np.maximum(up, _f(0))
    corner = np.sqrt(outside_x * outside_x + outside_y * outside_y)
    return _covered(_f(round_by) - corner - np.minimum(np.maximum(across, up), _f(0)), pen)


def line(
    pen: Pen, start: tuple[Number, Number], end: tuple[Number, Number], half_width: Number
) -> Coverage:
    """A straight stroke with round ends."""
    (x, y), (x_end, y_end) = (tuple(map(_f, point)) for point in (start, end))
    dx, dy = x_end - x, y_end - y
    along = ((pen.x - x) * dx + (pen.y - y) * dy) / (dx * dx + dy * dy)
    along = np.minimum(np.maximum(along, _f(0)), _f(1))
    across, up = pen.x - x - along * dx, pen.y - y - along * dy
    return _covered(_f(half_width) - np.sqrt(across * across + up * up), pen)


def polygon(pen: Pen, *corners: tuple[Number, Number]) -> Coverage:
    """A convex polygon with its corners in counterclockwise order."""
    inside: FloatArray | None = None
    for (x, y), (x_end, y_end) in zip(corners, corners[1:] + corners[:1], strict=True):
        dx, dy = _f(x_end) - _f(x), _f(y_end) - _f(y)
        length = np.sqrt(dx * dx + dy * dy)
        distance = ((pen.y - _f(y)) * dx - (pen.x - _f(x)) * dy) / length
        inside = distance if inside is None else np.minimum(inside, distance)
    assert inside is not None
    return _covered(inside, pen)


def paint(picture: Picture, coverage: Coverage, color: Color) -> Picture:
    """Paint a `color` over the `picture`, as far as `coverage` says at each pixel."""
    shade = color[:, :, np.newaxis, np.newaxis]
    return picture + (shade - picture) * coverage


def mix(one: Color, other: Color, share: Number) -> Color:
    """The color that lies a `share` of the way from `one` to the `other`."""
    return one + (other - one) * np.asarray(share, np.float32).reshape(-1)


def _frame(
    across: FloatArray,
    up: FloatArray,
    pixel: FloatArray,
    size: FloatArray,
    slope: FloatArray,
) -> Pen:
    # From tan(angle / 2) by rational formulas, because the last bits of NumPy's sine and cosine
    # depend on the machine.
    square = slope * slope
    cosine = (_f(1) - square) / (_f(1) + square)
    sine = (slope + slope) / (_f(1) + square)
    x = (across * cosine + up * sine) / size
    y = (up * cosine - across * sine) / size
    return Pen(x, y, pixel / size)


def _covered(inside: FloatArray, pen: Pen) -> Coverage:
    """The coverage of pixels `inside` an edge by a distance; edges are one pixel soft."""
    coverage: Coverage = np.minimum(np.maximum(inside / pen.pixel + _f(0.5), _f(0)), _f(1))
    return coverage


def _f(x: Number) -> FloatArray:
    return np.asarray(x, np.float32)
