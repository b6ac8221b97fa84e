"""Augmentation: random changes of the training examples, which keep what they show.

Each is a pure function of a key and a batch, `(key, X) -> X`. A training step applies them to its
batch before *forward*, with keys of its own, so any step can be repeated alone. Evaluation and
prediction take the examples as they are. X holds network inputs: numbers from 0 to 1 for images,
or what standardization has made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.batches import examples_first, examples_last
from pydnn.checks import BadInput, expect_count, expect_known, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.records import Batch, FloatArray, freeze

__all__ = [
    "Augmentation",
    "augmented",
    "random_brightness",
    "random_crop",
    "random_flip",
    "random_shift",
]

_Floats = NDArray[np.float64]


@attrs.frozen(eq=False, repr=False)
class Augmentation(DescribedPart):
    """A random change of each example of a batch.

    Attributes:
        name: Its name in messages.
        function: `(key, X) -> X`, for images X (H, W, C, m) and, where that makes sense, sequences
            X (T, n, m). The result has the shape of X.
        axes: The numbers of axes that X may have.
        moves_steps: Whether steps of a sequence change places, so that padding would move into
            a shorter sequence.

    Example:
        >>> X = np.arange(3.0).reshape(1, 3, 1, 1)  # an image of 1 x 3 pixels
        >>> random_flip(1.0)(nn.Key(1), X)[0, :, 0, 0]
        array([2., 1., 0.])
    """

    name: str
    function: Callable[[Key, FloatArray], FloatArray]
    axes: tuple[int, ...] = (3, 4)
    moves_steps: bool = False

    def __call__(self, key: Key, X: FloatArray) -> FloatArray:
        """Change the examples X, whose last axis is the examples.

        Raises:
            BadInput: If X has another number of axes.
        """
        if X.ndim not in self.axes:
            expected = {3: "sequences (T, n, m)", 4: "images (H, W, C, m)"}
            raise BadInput(
                f"{self.name} got X of shape {X.shape}, expected "
                f"{' or '.join(expected[n] for n in reversed(self.axes))}: give it examples with "
                "all their axes, or leave it out."
            )
        return self.function(key, X)


def augmented(augmentations: Sequence[Augmentation], key: Key, batch: Batch) -> Batch:
    """The batch with its examples changed by each augmentation in turn.

    Args:
        augmentations: The augmentations.
        key: The key of this batch; each augmentation draws from a key below it.
        batch: The batch, as network inputs.

    Raises:
        BadInput: If an augmentation does not take such examples.
    """
    X = batch.X
    for i, augmentation in enumerate(augmentations):
        if batch.lengths is not None and augmentation.moves_steps:
            raise BadInput(
                f"{augmentation.name} got sequences of unequal length, into which it would move "
                "padding: leave it out."
            )
        X = augmentation(key.at(i), X)
    return attrs.evolve(batch, X=X)


@described("augmentation")
def random_flip(probability: float = 0.5, *, direction: str = "left-right") -> Augmentation:
    """Mirror each image with some probability.

    Args:
        probability: The probability, above 0 and at most 1.
        direction: "left-right" or "up-down".

    Raises:
        BadInput: If the probability is out of range, or pydnn does not know the direction.

    Example:
        >>> X = np.arange(8.0).reshape(1, 2, 1, 4)  # four images of 1 x 2 pixels
        >>> random_flip()(nn.Key(3), X)[0, :, 0]
        array([[0., 5., 2., 3.],
               [4., 1., 6., 7.]])
    """
    hint = "give the share of the images to mirror"
    probability = expect_real("probability", probability, positive=True, most=1, hint=hint)
    expect_known("direction", direction, _AXES)
    axis = _AXES[direction]

    def flip(key: Key, X: FloatArray) -> FloatArray:
        images = _rows(X).copy()
        mirrored = np.flip(_rows(X), axis)
        for i in np.flatnonzero(key.uniform(len(images)) < probability):
            images[i] = mirrored[i]
        return examples_last(freeze(images))

    return Augmentation("random_flip", flip, (4,))


_AXES = {"up-down": 1, "left-right": 2}  # of images (m, H, W, C)


@described("augmentation")
def random_shift(most: int = 4) -> Augmentation:
    """Shift each image in both directions, or each sequence in time, by whole pixels or steps.

    What was at the edge is repeated to fill the gap.

    Args:
        most: The largest shift, in each direction. All shifts up to it are equally probable.

    Raises:
        BadInput: If `most` is not an integer of at least 1.

    Example:
        >>> X = np.arange(6.0).reshape(6, 1, 1)  # a sequence of 6 steps
        >>> [random_shift(2)(nn.Key(seed), X)[:, 0, 0].tolist() for seed in (1, 2)]
        [[0.0, 0.0, 0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    """
    most = expect_count("most", most, hint="give the largest shift in pixels or steps")

    def shift(key: Key, X: FloatArray) -> FloatArray:
        examples = _rows(X)
        sizes = examples.shape[1:-1]
        shifts = key.integers(2 * most + 1, (len(examples), len(sizes))) - most
        edge = min(most, max(sizes))  # a larger shift also leaves only the edge
        padded = np.pad(examples, [(0, 0), *[(edge, edge)] * len(sizes), (0, 0)], mode="edge")
        shifted = np.empty_like(examples)
        firsts = edge - np.clip(shifts, -edge, edge)
        for example, corner, out in zip(padded, firsts.tolist(), shifted, strict=True):
            out[...] = example[tuple(slice(i, i + n) for i, n in zip(corner, sizes, strict=True))]
        return examples_last(freeze(shifted))

    return Augmentation("random_shift", shift, moves_steps=True)


@described("augmentation")
def random_crop(least: float = 0.8) -> Augmentation:
    """Cut a random window out of each image or sequence, and enlarge it to the whole size.

    A window has the proportions of the image. Its sides are a share of those of the image, which is
    drawn uniformly from `least` to 1. Numbers between the pixels are interpolated linearly.

    Args:
        least: The smallest share, above 0 and below 1.

    Raises:
        BadInput: If the share is out of range.

    Example:
        >>> X = np.arange(4.0).reshape(4, 1, 1)  # a sequence of 4 steps
        >>> random_crop(0.5)(nn.Key(5), X)[:, 0, 0].round(2)
        array([1.23, 1.85, 2.47, 3.  ])
    """
    hint = "give the smallest share of a side to keep"
    least = expect_real("least", least, positive=True, below=1, hint=hint)

    def crop(key: Key, X: FloatArray) -> FloatArray:
        examples = _rows(X)
        sizes = examples.shape[1:-1]
        shares = key.at("share").uniform(len(examples), low=least, high=1.0)
        corners = key.at("corner").uniform((len(examples), len(sizes)))
        cropped = np.empty_like(examples)
        for example, share, corner, out in zip(examples, shares, corners, cropped, strict=True):
            for axis, (n, at) in enumerate(zip(sizes, corner, strict=True)):
                # Pixel i covers the stretch from i to i + 1, and its number is at the center.
                first = at * (n - share * n) - 0.5
                example = _interpolated(example, axis, first + share * (np.arange(n) + 0.5))
            out[...] = example
        return examples_last(freeze(cropped))

    return Augmentation("random_crop", crop, moves_steps=True)


def _interpolated(example: FloatArray, axis: int, places: _Floats) -> FloatArray:
    """The numbers of an example between the places of an axis, (n,)."""
    places = np.clip(places, 0, example.shape[axis] - 1)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, example.shape[axis] - 1)
    weight = (places - below).astype(example.dtype).reshape(-1, *[1] * (example.ndim - axis - 1))
    low = example.take(below, axis)
    between: FloatArray = example.take(above, axis)
    between -= low
    between *= weight
    between += low
    return between


@described("augmentation")
def random_brightness(most: float = 0.2) -> Augmentation:
    """Add a random number to all numbers of each example.

    Args:
        most: The largest number to add or subtract, above 0. Images from 0 to 1 are not clipped to
            that range.

    Raises:
        BadInput: If `most` is not above 0.

    Example:
        >>> X = np.full((1, 1, 1, 3), 0.5)  # three images of one pixel
        >>> random_brightness(0.1)(nn.Key(1), X)[0, 0, 0].round(3)
        array([0.599, 0.414, 0.494])
    """
    most = expect_real("most", most, positive=True, hint="give the largest change, e.g. 0.2")

    def brighten(key: Key, X: FloatArray) -> FloatArray:
        examples = _rows(X)
        more = key.uniform(len(examples), low=-most, high=most).astype(X.dtype)
        return examples_last(freeze(examples + more.reshape(-1, *[1] * (X.ndim - 1))))

    return Augmentation("random_brightness", brighten)


# Examples come first inside of these functions, since each is contiguous in memory.


def _rows(X: FloatArray) -> FloatArray:
    return np.ascontiguousarray(examples_first(X))
