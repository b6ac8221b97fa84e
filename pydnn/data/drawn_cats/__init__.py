"""The drawn cats: pictures of cats and of other things, which pydnn draws from a key.

They have the shape, type and layout of the tutorial's photos, so the tutorial's job runs anywhere.
Neither color nor position reveals the class: cats and other things share the same coats,
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
_BLOCK = 256  # pictures that share a key, of whose draws each takes one row
_BATCH = 16  # pictures painted at the same time, so few that their planes stay in the cache


def draw_cats(key: Key, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `count` pictures, about half of them of cats.

    Picture i depends on (key, i) alone: the first 100 of 2,000 pictures equal those of
    `draw_cats(key, 100)`.

    Returns:
        Images, uint8, shape (count, 64, 64, 3), and labels, int64, shape (count,), which are 1 for
        cats.

    Raises:
        BadInput: If `count` is not an integer of at least 1, or the pictures need more memory
            than is free.

    Example:
        >>> images, labels = draw_cats(nn.Key(1), 3)
        >>> images.shape, images.dtype, labels.shape
        ((3, 64, 64, 3), dtype('uint8'), (3,))
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
    """Fill the images and labels of one block, which the caller has just created."""
    count = len(labels)
    # Numbers are always drawn for a whole block, so that a picture does not depend on `count`.
    labels[:] = key.at("label").integers(2, _BLOCK)[:count]
    kinds = key.at("kind").integers(len(_OTHERS), _BLOCK)[:count]
    kinds = np.where(labels == 1, len(_OTHERS), kinds)
    pixels = SIDE * SIDE
    words = key.at("grain").bits((_BLOCK, pixels // 8))[:count]
    grain = words.astype("<u8").view(np.uint8).reshape(count, SIDE, SIDE)
    for kind, subject in enumerate((*_OTHERS, cat)):
        rows = np.flatnonzero(kinds == kind)
        for first in range(0, len(rows), _BATCH):
            some = rows[first : first + _BATCH]
            chance = Chance(key, some, _BLOCK)
            picture = subject(chance, background(chance), pose(chance))
            images[some] = developed(chance, picture, grain[some])
