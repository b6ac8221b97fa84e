"""The drawn cats: pictures of cats and of other things, made by pydnn itself from a key.

They have the shape, type and layout of the real photos, so that the main job runs anywhere.
Neither colour nor position gives the answer away: cats and all else share the same coats,
backgrounds, poses and light, and half of the other things have faces.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count, shown
from pydnn.data.drawn_cats.animals import bear, dog, fish, owl, person, rabbit
from pydnn.data.drawn_cats.canvas import SIDE, Pen, Picture
from pydnn.data.drawn_cats.cats import cat
from pydnn.data.drawn_cats.scenes import Chance, background, developed, pose
from pydnn.data.drawn_cats.things import car, cup, flower, house, tree
from pydnn.free_memory import free_memory, readable
from pydnn.keys import Key

__all__ = ["TEST_COUNT", "TRAIN_COUNT", "draw_cats"]

TRAIN_COUNT = 500
TEST_COUNT = 250

_OTHERS: tuple[Callable[[Chance, Picture, Pen], Picture], ...] = (
    dog, dog, bear, bear, rabbit, owl, person, person, fish, house, flower, car, tree, cup,
)  # fmt: skip
_BLOCK = 256  # pictures that share a key; each has a row of its own below it
_BATCH = 16  # pictures painted at once: their planes stay in the cache


def draw_cats(key: Key, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `count` pictures, about half of them of cats.

    Picture i depends on (key, i) alone: the first 100 of 2,000 are the same as 100.

    Returns:
        Images, uint8, shape (count, 64, 64, 3), and labels, int64, shape (count,): 1 for a cat.

    Raises:
        BadInput: If `count` is not an integer of at least 1, or so many pictures do not fit into
            the memory that is free.
    """
    count = expect_count("count", count, hint="draw one picture or more")
    needed, free = count * (SIDE * SIDE * 3 + 8), free_memory()
    if free is not None and needed > free:
        raise BadInput(
            f"there is not enough memory for {shown(count)} pictures: they take "
            f"{readable(needed)}, and {readable(free)} are free: draw fewer."
        )
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        _draw_block(key.at("block", start // _BLOCK), images[block], labels[block])
    return images, labels


def _draw_block(key: Key, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Fill the images and labels of one block, which the caller has just made."""
    wanted = len(labels)
    labels[:] = key.at("label").integers(2, _BLOCK)[:wanted]
    kinds = key.at("kind").integers(len(_OTHERS), _BLOCK)[:wanted]
    kinds = np.where(labels == 1, len(_OTHERS), kinds)
    pixels = SIDE * SIDE
    words = key.at("grain").bits((_BLOCK, pixels // 8))[:wanted]
    grain = words.astype("<u8").view(np.uint8).reshape(wanted, SIDE, SIDE)
    for kind, subject in enumerate((*_OTHERS, cat)):
        rows = np.flatnonzero(kinds == kind)
        for first in range(0, len(rows), _BATCH):
            some = rows[first : first + _BATCH]
            chance = Chance(key, some, _BLOCK)
            picture = subject(chance, background(chance), pose(chance))
            images[some] = developed(chance, picture, grain[some])
