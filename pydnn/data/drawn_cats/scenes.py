"""What all pictures share: random numbers, colors, backgrounds, light and grain."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.data.drawn_cats.canvas import (
    SIDE,
    Color,
    Coverage,
    Pen,
    Picture,
    box,
    ellipse,
    line,
    mix,
    paint,
    pen_of,
)
from pydnn.keys import Key

__all__ = ["Chance", "background", "coat", "darker", "developed", "pose", "vivid"]


@attrs.frozen(eq=False)
class Chance:
    """Named random numbers for some pictures of a block.

    A picture's numbers depend only on the block's key, the picture's row and the name, not on
    the pictures that are drawn with it.
    """

    key: Key
    rows: NDArray[np.int64]
    block: int  # pictures in a whole block

    def number(self, name: str, low: float = 0.0, high: float = 1.0) -> NDArray[np.float32]:
        """One number for each picture, uniform from `low` to `high`, shape (B, 1, 1)."""
        drawn = self.key.at(name).uniform(self.block, low=low, high=high)
        return drawn[self.rows].astype(np.float32)[:, np.newaxis, np.newaxis]

    def happens(self, name: str, probability: float) -> NDArray[np.float32]:
        """1 with this probability, else 0, shape (B, 1, 1)."""
        return (self.number(name) < np.float32(probability)).astype(np.float32)

    def choice(self, name: str, palette: NDArray[np.float32]) -> Color:
        """A color of a `palette` (n, 3) for each picture, shape (3, B)."""
        return palette[self.key.at(name).integers(len(palette), self.block)[self.rows]].T


# Colors of cats, and also of dogs, cars, houses and petals, so that color does not reveal the
# class: black, charcoal, gray, silver, white, cream, ginger, rust, brown, tan and two blues.
_COATS = np.array(
    [
        [0.10, 0.10, 0.12], [0.25, 0.25, 0.28], [0.45, 0.46, 0.50], [0.68, 0.69, 0.72],
        [0.95, 0.94, 0.92], [0.93, 0.84, 0.68], [0.88, 0.55, 0.22], [0.66, 0.33, 0.15],
        [0.38, 0.25, 0.17], [0.72, 0.56, 0.40], [0.30, 0.36, 0.46], [0.62, 0.68, 0.76],
    ],
    np.float32,
)  # fmt: skip

# Walls, lawns, skies and carpets: dark and light ones, in every hue.
_DARK = np.array(
    [
        [0.12, 0.12, 0.18], [0.16, 0.24, 0.14], [0.34, 0.14, 0.13], [0.18, 0.26, 0.36],
        [0.26, 0.18, 0.28], [0.24, 0.21, 0.18], [0.16, 0.26, 0.24], [0.38, 0.25, 0.12],
    ],
    np.float32,
)  # fmt: skip
_LIGHT = np.array(
    [
        [0.60, 0.74, 0.84], [0.74, 0.82, 0.58], [0.95, 0.86, 0.62], [0.94, 0.74, 0.74],
        [0.97, 0.95, 0.93], [0.92, 0.70, 0.44], [0.82, 0.72, 0.82], [0.80, 0.78, 0.74],
    ],
    np.float32,
)  # fmt: skip

_VIVID = np.array(
    [
        [0.85, 0.20, 0.22], [0.95, 0.62, 0.15], [0.96, 0.85, 0.30], [0.25, 0.62, 0.38],
        [0.20, 0.48, 0.78], [0.48, 0.30, 0.66], [0.92, 0.50, 0.66], [0.20, 0.66, 0.68],
    ],
    np.float32,
)  # fmt: skip


def coat(chance: Chance, name: str = "coat") -> Color:
    """A color of fur for each picture, with a random shade."""
    return _shaded(chance.choice(name, _COATS), chance.number(f"{name} shade", 0.85, 1.12))


def vivid(chance: Chance, name: str = "vivid") -> Color:
    """A strong color for each picture, for petals, doors, collars and cars."""
    return _shaded(chance.choice(name, _VIVID), chance.number(f"{name} shade", 0.8, 1.1))


def darker(color: Color, by: float = 0.6) -> Color:
    """The same color in shadow."""
    return color * np.float32(by)


def pose(chance: Chance) -> Pen:
    """The position, size and tilt of the object, from the same ranges for every kind."""
    return pen_of(
        chance.number("x", -0.06, 0.06),
        chance.number("y", -0.06, 0.06),
        size=chance.number("size", 0.76, 0.88),
        slope=chance.number("slope", -0.05, 0.05),
    )


def background(chance: Chance) -> Picture:
    """A wall, a room, a garden or stripes, in two colors that fade into each other."""
    pen = pen_of(0, 0, size=np.ones_like(chance.number("style")), slope=0)
    # Mostly set dark coats against light backgrounds and light coats against dark ones, as a
    # photographer would.
    light = np.float32(1) * (coat(chance)[1] < 0.5)
    light = np.where(chance.number("any ground").reshape(-1) < 0.1, np.float32(1) - light, light)
    top, bottom = (
        mix(chance.choice(f"{name} dark", _DARK), chance.choice(f"{name} light", _LIGHT), light)
        for name in ("ground", "other ground")
    )
    bottom = mix(top, bottom, 0.45)
    down = (np.float32(1) - pen.y) * np.float32(0.5)
    height = np.broadcast_to(down, (len(chance.rows), SIDE, SIDE))
    picture = paint(
        np.broadcast_to(top[:, :, np.newaxis, np.newaxis], (3, *height.shape)), height, bottom
    )
    style = np.floor(chance.number("style", 0, 5))
    floor = mix(bottom, vivid(chance, "floor"), 0.25)
    horizon = chance.number("horizon", -0.75, -0.25)
    picture = paint(picture, box(pen, 0, horizon - 2, 3, 2) * (style == 1), floor)
    pale = mix(top, np.ones_like(top), 0.35)
    for i in range(-3, 4):
        x = np.float32(i * 0.36) + chance.number("stripes", 0, 0.36)
        lean = chance.number("lean", -0.5, 0.5)
        stripe = line(pen, (x + lean, np.float32(1.5)), (x - lean, np.float32(-1.5)), 0.07)
        picture = paint(picture, stripe * (style == 2), pale)
    for i in range(6):
        x, y = chance.number(f"blot x{i}", -1, 1), chance.number(f"blot y{i}", -1, 1)
        width = chance.number(f"blot width{i}", 0.12, 0.4)
        blot: Coverage = ellipse(pen, x, y, width, width * np.float32(0.8)) * (style == 3)
        picture = paint(picture, blot * np.float32(0.6), mix(bottom, pale, i / 6))
    return picture


def developed(chance: Chance, picture: Picture, grain: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light pictures from one side, add the grain of a photo, and round them to bytes.

    Args:
        chance: The random numbers of the pictures.
        picture: Red, green and blue, shape (3, B, 64, 64).
        grain: Random bytes, shape (B, 64, 64).

    Returns:
        The images, uint8, shape (B, 64, 64, 3).
    """
    pen = pen_of(0, 0, size=np.ones_like(chance.number("style")), slope=0)
    across, up = chance.number("light x", -0.22, 0.22), chance.number("light y", -0.15, 0.22)
    lit = (pen.x * across + pen.y * up + np.float32(1)) * chance.number("exposure", 0.8, 1.12)
    noise = (grain.astype(np.float32) - np.float32(127.5)) * chance.number("grain", 0.0001, 0.0005)
    images = np.empty((*grain.shape, 3), np.uint8)
    for channel, plane in enumerate(picture):
        bright = (plane * lit + noise) * np.float32(255)
        images[..., channel] = np.rint(
            np.minimum(np.maximum(bright, np.float32(0)), np.float32(255))
        )
    return images


def _shaded(color: Color, shade: NDArray[np.float32]) -> Color:
    shaded: Color = np.minimum(color * shade.reshape(-1), np.float32(1))
    return shaded
