"""Animals that are not cats, and people: faces with other ears or none."""

from __future__ import annotations

import numpy as np

from pydnn.data.drawn_cats.canvas import Pen, Picture, box, ellipse, line, mix, paint, polygon, ring
from pydnn.data.drawn_cats.cats import chest, eyes_of, muzzle, solid, whiskers
from pydnn.data.drawn_cats.scenes import Chance, coat, darker, vivid

__all__ = ["bear", "dog", "fish", "owl", "person", "rabbit"]


def dog(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A dog: hanging ears, a long muzzle, sometimes with its tongue out."""
    fur = coat(chance)
    pale = mix(fur, coat(chance, "muzzle"), 0.6)
    picture = chest(chance, picture, pen, fur)
    picture = paint(picture, ellipse(pen, 0, 0.02, 0.62, 0.66), fur)
    length = chance.number("ear", 0.42, 0.56)
    for side in (pen, pen.mirrored()):
        ear = side.at(0.62, 0.08, slope=0.10)
        picture = paint(picture, ellipse(ear, 0, 0, 0.20, length), darker(fur, 0.55))
    blaze = chance.happens("blaze", 0.5)
    picture = paint(picture, ellipse(pen, 0, 0.25, 0.13, 0.42) * blaze, pale)
    picture = eyes_of(chance, picture, pen.at(0, 0.03, size=0.95), slit=False)
    picture = paint(picture, ellipse(pen, 0, -0.38, 0.34, 0.30), pale)
    dark = solid(chance, 0.12, 0.09, 0.09)
    tongue = box(pen, 0, -0.66, 0.10, 0.16, round_by=0.09) * chance.happens("tongue", 0.6)
    picture = paint(picture, tongue, solid(chance, 0.90, 0.45, 0.50))
    picture = paint(picture, ellipse(pen, 0, -0.24, 0.15, 0.10), dark)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ring(side, 0.13, -0.42, 0.13, 0.022, below=True), dark)
    return picture


def bear(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A bear or a mouse: round ears on a round head."""
    fur = coat(chance)
    pale = mix(fur, coat(chance, "muzzle"), 0.6)
    picture = chest(chance, picture, pen, fur)
    ear = chance.number("ear", 0.22, 0.34)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ellipse(side, 0.54, 0.46, ear, ear), fur)
        small = ear * np.float32(0.6)
        picture = paint(picture, ellipse(side, 0.54, 0.46, small, small), darker(pale, 0.85))
    picture = paint(picture, ellipse(pen, 0, -0.06, 0.70, 0.62), fur)
    picture = eyes_of(chance, picture, pen, slit=False)
    return whiskers(chance, muzzle(chance, picture, pen, pale), pen, fur)


def rabbit(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A rabbit: long ears, side by side, and two teeth."""
    fur = coat(chance)
    pale = mix(fur, solid(chance, 1, 0.97, 0.95), 0.6)
    spread, length = chance.number("spread", 0.02, 0.14), chance.number("ear", 0.46, 0.56)
    for side in (pen, pen.mirrored()):
        ear = side.at(0.22, 0.62, slope=-spread)
        picture = paint(picture, ellipse(ear, 0, 0, 0.15, length), fur)
        picture = paint(
            picture,
            ellipse(ear, 0, -0.02, 0.075, length * np.float32(0.75)),
            solid(chance, 0.92, 0.66, 0.68),
        )
    picture = chest(chance, picture, pen, fur)
    picture = paint(picture, ellipse(pen, 0, -0.22, 0.56, 0.52), fur)
    picture = eyes_of(chance, picture, pen.at(0, -0.10, size=0.9), slit=False)
    white = solid(chance, 0.98, 0.98, 0.98)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, box(side, 0.045, -0.60, 0.04, 0.09), white)
        picture = paint(picture, ellipse(side, 0.12, -0.44, 0.15, 0.12), pale)
    nose = polygon(pen, (-0.08, -0.32), (0, -0.41), (0.08, -0.32))
    picture = paint(picture, nose, solid(chance, 0.85, 0.45, 0.5))
    return whiskers(chance, picture, pen, fur)


def owl(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """An owl: two discs around large eyes, a beak, a barred breast."""
    fur = coat(chance)
    pale = mix(fur, solid(chance, 1, 0.94, 0.82), 0.55)
    picture = paint(picture, ellipse(pen, 0, -0.25, 0.72, 0.95), fur)
    picture = paint(picture, ellipse(pen, 0, -0.75, 0.46, 0.55), pale)
    for row in range(3):
        for x in (-0.24, 0.0, 0.24):
            mark = ring(pen, x, -0.52 - 0.17 * row, 0.09, 0.03, below=True)
            picture = paint(picture, mark, darker(fur))
    iris = mix(solid(chance, 0.97, 0.80, 0.18), solid(chance, 0.95, 0.5, 0.1), chance.number("i"))
    wide = chance.number("disc", 0.29, 0.34)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ellipse(side, 0.30, 0.18, wide, wide), pale)
        picture = paint(picture, ellipse(side, 0.30, 0.18, 0.20, 0.20), iris)
        picture = paint(picture, ellipse(side, 0.30, 0.18, 0.11, 0.11), solid(chance, 0, 0, 0))
    for x in (-0.26, 0.34):
        picture = paint(picture, ellipse(pen, x, 0.24, 0.04, 0.04), solid(chance, 1, 1, 1))
    beak = polygon(pen, (-0.10, 0.06), (0, -0.22), (0.10, 0.06))
    return paint(picture, beak, solid(chance, 0.93, 0.65, 0.15))


def person(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A person: hair, brows, a nose in the middle, a smile, and clothes."""
    skin = mix(
        solid(chance, 0.98, 0.82, 0.70), solid(chance, 0.38, 0.24, 0.16), chance.number("skin")
    )
    hair, dark = coat(chance, "hair"), solid(chance, 0.12, 0.08, 0.08)
    long = chance.happens("long hair", 0.5)
    picture = paint(picture, box(pen, 0, -0.25, 0.66, 0.70, round_by=0.3) * long, hair)
    picture = paint(picture, ellipse(pen, 0, -1.35, 0.85, 0.62), vivid(chance, "shirt"))
    picture = paint(picture, box(pen, 0, -0.75, 0.18, 0.25), darker(skin, 0.85))
    picture = paint(picture, ellipse(pen, 0, 0.22, 0.62, 0.62), hair)
    picture = paint(picture, ellipse(pen, 0, -0.10, 0.52, 0.64), skin)
    fringe = np.minimum(ellipse(pen, 0, 0.22, 0.60, 0.60), box(pen, 0, 0.62, 0.7, 0.26))
    picture = paint(picture, fringe, hair)
    for side in (pen, pen.mirrored()):
        picture = paint(picture, ellipse(side, 0.21, 0.02, 0.11, 0.065), solid(chance, 1, 1, 1))
        picture = paint(picture, ellipse(side, 0.21, 0.02, 0.055, 0.06), dark)
        picture = paint(picture, line(side, (0.11, 0.15), (0.31, 0.17), 0.025), darker(hair))
    picture = paint(picture, line(pen, (0.02, -0.02), (0.05, -0.22), 0.02), darker(skin, 0.75))
    smile = ring(pen, 0, -0.36, 0.19, 0.03, below=True)
    return paint(picture, smile, solid(chance, 0.75, 0.25, 0.25))


def fish(chance: Chance, picture: Picture, pen: Pen) -> Picture:
    """A fish from the side, facing left or right."""
    body = mix(coat(chance), vivid(chance), chance.happens("colourful", 0.5))
    turned = chance.happens("turned", 0.5) * np.float32(2) - np.float32(1)
    pen = Pen(pen.x * turned, pen.y, pen.pixel)
    tall = chance.number("tall", 0.34, 0.52)
    tail = polygon(pen, (0.50, 0.0), (0.98, -0.40), (0.98, 0.40))
    picture = paint(picture, tail, darker(body, 0.75))
    fin = polygon(pen, (-0.25, 0.25), (0.35, 0.20), (0.25, 0.68))
    picture = paint(picture, fin, darker(body, 0.75))
    whole = ellipse(pen, -0.12, 0, 0.74, tall)
    picture = paint(picture, whole, body)
    pale = mix(body, solid(chance, 1, 1, 1), 0.5)
    picture = paint(picture, whole * ellipse(pen, -0.12, -0.35, 0.7, 0.3), pale)
    for x in (-0.15, 0.08, 0.31):
        stripe = whole * line(pen, (x, 0.5), (x, -0.5), 0.04) * chance.happens("stripes", 0.5)
        picture = paint(picture, stripe, darker(body))
    picture = paint(picture, ellipse(pen, -0.55, 0.09, 0.10, 0.10), solid(chance, 1, 1, 1))
    picture = paint(picture, ellipse(pen, -0.57, 0.09, 0.055, 0.055), solid(chance, 0, 0, 0))
    return paint(picture, line(pen, (-0.84, -0.06), (-0.66, -0.10), 0.02), darker(body, 0.5))
