"""Initial weights: of one layer from its key, or of all layers from one stream.

An `Initializer` draws W (n_out, n_in) in float64 from a key of its own; biases start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from pydnn.builders import Description, described
from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.keys import Key
from pydnn.records import FloatArray

__all__ = [
    "Initializer",
    "WeightStream",
    "he_normal",
    "scaled_normal",
    "tutorial",
    "xavier_normal",
    "zeros",
]


@attrs.frozen(eq=False)
class Initializer:
    """Draws the weights of one layer: `draw(key, (n_out, n_in))`."""

    draw: Callable[[Key, tuple[int, int]], FloatArray] = attrs.field(repr=False)
    description: Description | None = None


@attrs.frozen(eq=False)
class WeightStream:
    """Draws the weights of all layers of a network, one after the other: `draw(shapes)`."""

    draw: Callable[[Sequence[tuple[int, ...]]], list[FloatArray]] = attrs.field(repr=False)
    description: Description | None = None


@described("initializer")
def zeros() -> Initializer:
    """All weights 0: every unit of a layer stays the same as every other."""
    # One 0 seen as an array: no memory is taken, however large the layer claims to be.
    return Initializer(lambda key, shape: np.broadcast_to(0.0, shape))


@described("initializer")
def scaled_normal(*, scale: float = 0.01) -> Initializer:
    """Normal weights of standard deviation `scale`, whatever the layer's size."""
    scale = expect_real("scale", scale, positive=True, hint="give a standard deviation, e.g. 0.01")
    return Initializer(lambda key, shape: scale * key.normal(shape))


@described("initializer")
def he_normal() -> Initializer:
    """Normal weights of variance 2 / n_in, for relu layers. He et al., 2015, section 2.2."""
    return Initializer(lambda key, shape: math.sqrt(2.0 / shape[1]) * key.normal(shape))


@described("initializer")
def xavier_normal() -> Initializer:
    """Normal weights of variance 2 / (n_in + n_out). Glorot and Bengio, 2010, equation 16."""
    return Initializer(lambda key, shape: math.sqrt(2.0 / sum(shape)) * key.normal(shape))


@described("weights")
def tutorial(*, seed: int = 1) -> WeightStream:
    """The tutorial's weights: variance 1 / n_in, layer after layer from one legacy generator.

    The numbers of a layer depend on how many the layers before it took, which is why this is
    no `Initializer`. The generator is this function's own: the global one is not touched.
    """
    seed = expect_count("seed", seed, least=0, hint="give the seed of the weights")
    if seed >= 2**32:
        raise BadInput(f"seed is {seed}, expected less than 2**32: give a smaller one.")

    def draw(shapes: Sequence[tuple[int, ...]]) -> list[FloatArray]:
        generator = np.random.RandomState(seed)
        return [generator.randn(*shape) / np.sqrt(shape[1]) for shape in shapes]

    return WeightStream(draw)
