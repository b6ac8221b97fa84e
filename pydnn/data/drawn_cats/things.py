"""Things: a house, a flower, a car, a tree, a cup."""

from __future__ import annotations

import numpy as np

from pydnn.data.drawn_cats.canvas import Pen, Picture, box, ellipse, line, mix, paint, polygon
from pydnn.data.drawn_cats.cats import solid
from pydnn.data.drawn_cats.scenes import Chance, coat, darker, vivid

__all__ = ["car", "cup", "flower", "house", "tree"]


def house(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A house with a gable, a chimney, windows and a door."""
    wall, roof = coat(chance), vivid(chance, "roof")
    top = chance.number("gable", 0.80, 1.0)
    picture = paint(picture, box(pen, 0.42, 0.62, 0.11, 0.28), darker(wall, 0.7))
    picture = paint(picture, box(pen, 0, -0.40, 0.66, 0.55), wall)
    picture = paint(
        picture, polygon(pen, (-0.85, 0.10), (0.85, 0.10), (0, top)), darker(roof, 0.85)
    )
    lit = mix(
        solid(chance, 0.98, 0.90, 0.55), solid(chance, 0.30, 0.42, 0.55), chance.happens("day", 0.6)
    )
    frame = solid(chance, 0.95, 0.94, 0.90)
    for x in (-0.36, 0.36):
        picture = paint(picture, box(pen, x, -0.22, 0.19, 0.19), frame)
        picture = paint(picture, box(pen, x, -0.22, 0.15, 0.15), lit)
        picture = paint(picture, box(pen, x, -0.22, 0.02, 0.15), frame)
    picture = paint(picture, box(pen, 0, -0.68, 0.14, 0.27), darker(vivid(chance, "door"), 0.8))
    return paint(picture, ellipse(pen, 0, 0.40, 0.13, 0.13), lit)


def flower(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A flower: petals around a middle, a stem with leaves."""
    petal = mix(vivid(chance), coat(chance), chance.happens("plain", 0.5))
    green = mix(
        solid(chance, 0.18, 0.48, 0.22), solid(chance, 0.45, 0.62, 0.25), chance.number("g")
    )
    picture = paint(picture, line(pen, (0, 0.1), (0.05, -1.3), 0.06), green)
    for side, y in ((pen, -0.75), (pen.mirrored(), -0.92)):
        leaf = side.at(0.28, y, slope=0.25)
        picture = paint(picture, ellipse(leaf, 0, 0, 0.28, 0.10), green)
    length = chance.number("petal", 0.26, 0.34)
    for x, y, slope in _PETALS:
        one = pen.at(np.float32(0.42 * x), np.float32(0.20 + 0.42 * y), slope=slope)
        picture = paint(picture, ellipse(one, 0, 0, length, 0.19), darker(petal, 0.8))
        picture = paint(picture, ellipse(one, 0.03, 0, length * np.float32(0.8), 0.15), petal)
    picture = paint(picture, ellipse(pen, 0, 0.20, 0.24, 0.24), darker(vivid(chance, "heart"), 0.8))
    return paint(picture, ellipse(pen, -0.04, 0.24, 0.13, 0.13), solid(chance, 0.95, 0.80, 0.35))


# Eight directions: cosine, sine, and the tangent of half the angle, modulo half a turn, since an
# ellipse looks the same after one.
_H = 0.70710678
_PETALS = (
    (1.0, 0.0, 0.0), (_H, _H, 0.41421356), (0.0, 1.0, 1.0), (-_H, _H, -0.41421356),
    (-1.0, 0.0, 0.0), (-_H, -_H, 0.41421356), (0.0, -1.0, 1.0), (_H, -_H, -0.41421356),
)  # fmt: skip


def car(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A car from the side."""
    paintwork = mix(vivid(chance), coat(chance), chance.happens("plain", 0.5))
    turned = chance.happens("turned", 0.5) * np.float32(2) - np.float32(1)
    pen = Pen(pen.x * turned, pen.y, pen.pixel)
    hub = solid(chance, 0.75, 0.76, 0.78)
    glass, tyre = solid(chance, 0.62, 0.76, 0.84), solid(chance, 0.10, 0.10, 0.11)
    picture = paint(picture, ellipse(pen, 0, -0.62, 0.95, 0.08) * np.float32(0.5), tyre)
    roof = chance.number("roof", 0.34, 0.48)
    picture = paint(
        picture, polygon(pen, (-0.62, -0.08), (0.55, -0.08), (0.30, roof), (-0.38, roof)), paintwork
    )
    low = roof - np.float32(0.09)
    picture = paint(
        picture, polygon(pen, (-0.50, -0.04), (-0.08, -0.04), (-0.08, low), (-0.33, low)), glass
    )
    picture = paint(
        picture, polygon(pen, (0.0, -0.04), (0.42, -0.04), (0.26, low), (0.0, low)), glass
    )
    picture = paint(picture, box(pen, 0, -0.26, 0.94, 0.22, round_by=0.12), paintwork)
    picture = paint(picture, box(pen, 0, -0.40, 0.92, 0.07, round_by=0.05), darker(paintwork, 0.7))
    picture = paint(picture, ellipse(pen, 0.86, -0.20, 0.07, 0.07), solid(chance, 1, 0.95, 0.7))
    for x in (-0.52, 0.52):
        picture = paint(picture, ellipse(pen, x, -0.46, 0.22, 0.22), tyre)
        picture = paint(picture, ellipse(pen, x, -0.46, 0.11, 0.11), hub)
    return paint(picture, line(pen, (-0.04, -0.08), (-0.04, -0.40), 0.012), darker(paintwork))


def tree(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A tree: a trunk under a crown of leaves, sometimes with fruit."""
    leaves = mix(coat(chance), solid(chance, 0.22, 0.50, 0.20), chance.number("green", 0.3, 1.0))
    bark = solid(chance, 0.40, 0.27, 0.17)
    picture = paint(picture, box(pen, 0, -0.85, 0.12, 0.55), bark)
    picture = paint(picture, line(pen, (0, -0.5), (0.34, -0.1), 0.05), bark)
    for x, y, size in (
        (-0.38, 0.02, 0.40),
        (0.38, 0.04, 0.40),
        (0.0, -0.02, 0.42),
        (0.0, 0.42, 0.50),
    ):
        picture = paint(picture, ellipse(pen, x, y, size, size * 0.9), darker(leaves, 0.8))
        picture = paint(picture, ellipse(pen, x - 0.05, y + 0.06, size * 0.8, size * 0.7), leaves)
    fruit = chance.happens("fruit", 0.5)
    for x, y in ((-0.40, 0.0), (0.1, 0.5), (0.35, 0.05), (-0.15, 0.22), (0.05, -0.12)):
        picture = paint(picture, ellipse(pen, x, y, 0.07, 0.07) * fruit, vivid(chance, "fruit"))
    return picture


def cup(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A steaming cup with a handle and a band."""
    clay = mix(coat(chance), vivid(chance), chance.happens("colourful", 0.4))
    steam = solid(chance, 0.96, 0.96, 0.96)
    for x in (-0.25, 0.0, 0.25):
        lean = chance.number("steam", -0.12, 0.12)
        wisp = line(pen, (x, 0.45), (lean + np.float32(x), 0.9), 0.035) * np.float32(0.6)
        picture = paint(picture, wisp, steam)
    handle = np.minimum(
        ellipse(pen, 0.56, -0.22, 0.32, 0.34), 1 - ellipse(pen, 0.56, -0.22, 0.20, 0.22)
    )
    picture = paint(picture, handle, darker(clay, 0.8))
    body = polygon(pen, (-0.46, -0.75), (0.46, -0.75), (0.60, 0.25), (-0.60, 0.25))
    picture = paint(picture, body, clay)
    picture = paint(
        picture, body * box(pen, -0.48, -0.2, 0.16, 0.8) * np.float32(0.4), darker(clay)
    )
    picture = paint(picture, body * box(pen, 0, -0.30, 0.8, 0.10), vivid(chance, "band"))
    picture = paint(picture, ellipse(pen, 0, 0.25, 0.60, 0.13), darker(clay, 0.85))
    return paint(picture, ellipse(pen, 0, 0.24, 0.52, 0.09), solid(chance, 0.30, 0.18, 0.10))
