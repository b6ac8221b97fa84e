"""Cats: pointed ears, almond eyes, a muzzle, whiskers, and coats of many patterns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydnn.data.drawn_cats.canvas import (
    Color,
    Pen,
    Picture,
    ellipse,
    line,
    mix,
    paint,
    polygon,
    ring,
)
from pydnn.data.drawn_cats.scenes import Chance, coat, darker, vivid

__all__ = ["cat", "chest", "eyes_of", "muzzle", "solid", "whiskers"]

# Gold, lime, sky, amber; and the darker hazel, moss, slate, umber.
_EYES = np.array(
    [
        [0.93, 0.78, 0.20], [0.55, 0.78, 0.30], [0.35, 0.68, 0.85], [0.88, 0.56, 0.16],
        [0.46, 0.34, 0.16], [0.22, 0.36, 0.20], [0.24, 0.34, 0.50], [0.40, 0.20, 0.10],
    ],
    np.float32,
)  # fmt: skip


def solid(chance: Chance, red: float, green: float, blue: float) -> Color:
    """The same color for all pictures."""
    color = np.array([[red], [green], [blue]], np.float32)
    return np.broadcast_to(color, (3, len(chance.rows)))


def cat(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A cat's face and chest, from the front."""
    fur = coat(chance)
    shade, pale = darker(fur, 0.72), mix(fur, coat(chance, "muzzle"), 0.6)
    other = mix(darker(fur, 0.45), mix(fur, solid(chance, 1, 1, 1), 0.5), 1 - _contrasting(fur))
    marks = mix(fur, other, chance.happens("tabby", 0.5))
    picture = chest(chance, picture, pen, fur)
    picture = _ears(chance, picture, pen, fur, shade)
    cheek = chance.number("cheek", 0.68, 0.80)
    head = ellipse(pen, 0, -0.08, cheek, 0.60)
    picture = paint(picture, head, fur)
    # Shadow to one side makes the head round.
    picture = paint(picture, head * ellipse(pen, 0, -0.62, 0.7, 0.3) * np.float32(0.35), shade)
    picture = _marked(chance, picture, pen, marks)
    patch = chance.happens("patch", 0.25) * head
    picture = paint(picture, patch * ellipse(pen, 0.42, 0.20, 0.36, 0.42), coat(chance, "patch"))
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ellipse(side, 0.50, -0.32, 0.17, 0.13) * np.float32(0.5), pale)
    picture = eyes_of(chance, picture, pen, slit=True)
    return whiskers(chance, muzzle(chance, picture, pen, pale), pen, fur)


def chest(chance: Chance, picture: Picture, pen: Pen, fur: Color) -> Picture:
    """An animal's chest, sometimes with a bib or a collar."""
    picture = paint(picture, ellipse(pen, 0, -1.25, 0.62, 0.75), darker(fur, 0.72))
    bib = chance.happens("bib", 0.5)
    picture = paint(picture, ellipse(pen, 0, -1.15, 0.30, 0.55) * bib, coat(chance, "bib"))
    collar = ring(pen, 0, -0.15, 0.66, 0.055, below=True) * chance.happens("collar", 0.35)
    return paint(picture, collar, vivid(chance, "collar"))


def _ears(chance: Chance, picture: Picture, pen: Pen, fur: Color, shade: Color) -> Picture:
    tip_x, tip_y = chance.number("ear x", 0.54, 0.66), chance.number("ear y", 0.86, 1.02)
    pink = mix(solid(chance, 0.93, 0.62, 0.62), solid(chance, 0.45, 0.25, 0.26), _contrasting(fur))
    inside = mix(coat(chance, "inside"), pink, np.float32(0.7) * chance.happens("pink", 0.5))
    for side in (pen, pen.mirrored()):
        outer = polygon(side, (0.12, 0.32), (0.74, -0.02), (tip_x, tip_y))
        picture = paint(picture, outer, fur)
        edge = polygon(side, (0.62, 0.10), (0.74, -0.02), (tip_x, tip_y))
        picture = paint(picture, edge, shade)
        inner_y = tip_y - np.float32(0.16)
        picture = paint(
            picture,
            polygon(side, (0.28, 0.34), (0.62, 0.20), (tip_x * np.float32(0.97), inner_y)),
            inside,
        )
    return picture


def _marked(chance: Chance, picture: Picture, pen: Pen, marks: Color) -> Picture:
    """The M of a tabby's forehead and the bars of its cheeks."""
    middle = line(pen, (0, 0.24), (0, 0.48), 0.045)
    picture = paint(picture, middle, marks)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, line(side, (0.14, 0.24), (0.20, 0.45), 0.04), marks)
        picture = paint(picture, line(side, (0.56, -0.12), (0.74, -0.08), 0.03), marks)
        picture = paint(picture, line(side, (0.54, -0.24), (0.70, -0.26), 0.03), marks)
    return picture


def eyes_of(chance: Chance, picture: Picture, pen: Pen, *, slit: bool) -> Picture:
    """Two eyes with round or upright pupils, and highlights on the same side."""
    iris = chance.choice("iris", _EYES)
    black, white = solid(chance, 0.05, 0.05, 0.06), solid(chance, 1, 1, 1)
    edge = mix(white, black, np.maximum(_contrasting(coat(chance)), np.float32(0.55)))
    apart, tall = chance.number("eyes apart", 0.27, 0.33), chance.number("eye height", 0.12, 0.16)
    pupil = chance.number("pupil", 0.03, 0.065) if slit else chance.number("pupil", 0.08, 0.10)
    for side in (pen, pen.mirrored()):
        eye = side.at(apart, 0.02, slope=0.12)
        # An almond is the intersection of two circles.
        rim = np.minimum(ellipse(eye, 0, 0.12, 0.25, 0.27), ellipse(eye, 0, -0.12, 0.25, 0.27))
        lid = np.minimum(ellipse(eye, 0, 0.08, 0.20, 0.20), ellipse(eye, 0, -0.08, 0.20, 0.20))
        if not slit:
            rim, lid = ellipse(eye, 0, 0, 0.17, 0.17), ellipse(eye, 0, 0, 0.14, 0.14)
        picture = paint(picture, rim, edge)
        picture = paint(picture, lid, iris)
        picture = paint(picture, np.minimum(lid, ellipse(eye, 0, 0, pupil, tall)), black)
    for x in (-apart, apart):
        picture = paint(picture, ellipse(pen, x + np.float32(0.04), 0.07, 0.035, 0.035), white)
    return picture


def muzzle(chance: Chance, picture: Picture, pen: Pen, pale: Color) -> Picture:
    """Two soft cheeks, a nose and a mouth."""
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ellipse(side, 0.12, -0.36, 0.17, 0.14), pale)
    picture = paint(picture, ellipse(pen, 0, -0.48, 0.12, 0.09), pale)
    nose = mix(
        solid(chance, 0.88, 0.50, 0.52),
        solid(chance, 0.2, 0.14, 0.14),
        chance.happens("dark nose", 0.4),
    )
    picture = paint(picture, polygon(pen, (-0.10, -0.21), (0, -0.32), (0.10, -0.21)), nose)
    dark = solid(chance, 0.18, 0.12, 0.12)
    picture = paint(picture, line(pen, (0, -0.30), (0, -0.38), 0.015), dark)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ring(side, 0.085, -0.36, 0.085, 0.018, below=True), dark)
    return picture


def _contrasting(fur: Color) -> NDArray[np.float32]:
    """1 where a coat is light and needs dark details, else 0."""
    light: NDArray[np.float32] = (fur[1] > 0.5).astype(np.float32)
    return light


def whiskers(chance: Chance, picture: Picture, pen: Pen, fur: Color) -> Picture:
    """Three whiskers on each side, dark on a light coat and light on a dark one."""
    tone = mix(solid(chance, 0.97, 0.97, 0.97), solid(chance, 0.1, 0.1, 0.1), _contrasting(fur))
    droop = chance.number("whiskers", -0.06, 0.06)
    for side in (pen, pen.mirrored()):
        for start, end in ((-0.32, -0.24), (-0.37, -0.38), (-0.42, -0.52)):
            stroke = line(side, (0.20, start), (0.92, droop + np.float32(end)), 0.012)
            picture = paint(picture, stroke * np.float32(0.8), tone)
    return picture
