"""Initial weights: of one layer from its key, or of all layers from one stream.

An `Initializer` draws W (n_out, n_in) in float64 from a key of its own; biases start at zero.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import numpy as np

from pydnn.checks import MOST_SEED, BadInput, expect_count, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast
from pydnn.numerics.portable import orthonormal
from pydnn.numerics.underflow import ignoring_in
from pydnn.records import FloatArray

__all__ = [
    "Initializer",
    "WeightStream",
    "constant",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "truncated_normal",
    "tutorial",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = tuple[int, int]  # (n_out, n_in)


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("draw"))
class Initializer(DescribedPart):
    """Draws the weights of one layer: `draw(key, (n_out, n_in))`."""

    draw: Callable[[Key, Shape], FloatArray]


def _expect_takes_key(_: object, __: object, draw: Callable[..., list[FloatArray]]) -> None:
    try:
        inspect.signature(draw).bind([], fast, key=_TUTORIALS_KEY)
    except TypeError as error:
        raise BadInput(
            f"the draw of a weight stream cannot be called with (shapes, numerics, key=…) ({error})"
            ": let it take the training's key, so that --seed changes these weights too."
        ) from error


_TUTORIALS_KEY = Key(1)  # of the seed with which the tutorial draws its weights


class Draw(Protocol):
    """From the shapes of a network's weights, and the training's key, to the weights."""

    def __call__(
        self, shapes: Sequence[tuple[int, ...]], numerics: Numerics, /, *, key: Key
    ) -> list[FloatArray]:
        """One array for each shape."""


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("draw"))
class WeightStream(DescribedPart):
    """Draws the weights of all layers of a network, one after the other.

    Attributes:
        draw: `(shapes, numerics, key=key) -> weights`, where `key` is the key of the training.

    Raises:
        BadInput: If `draw` does not take a key.
    """

    draw: Draw = attrs.field(validator=_expect_takes_key)


# The same for every layer


@described("initializer")
def zeros() -> Initializer:
    """All weights 0: every unit of a layer stays the same as every other."""
    return constant(0.0)


@described("initializer")
def constant(value: float) -> Initializer:
    """All weights `value`: every unit of a layer stays the same as every other."""
    value = expect_real("value", value, hint="give the weights' value")
    # One number seen as an array: no memory is taken, however large the layer claims to be.
    return Initializer(lambda key, shape: np.broadcast_to(value, shape))


@described("initializer")
def normal(*, scale: float = 0.01) -> Initializer:
    """Normal weights of standard deviation `scale`, whatever the layer's size."""
    scale = _expect_scale(scale)
    return Initializer(lambda key, shape: scale * key.normal(shape))


@described("initializer")
def truncated_normal(*, scale: float = 0.01) -> Initializer:
    """Normal weights of standard deviation `scale`, of which those beyond 2 scale come not.

    What is left has the deviation 0.8796 scale.
    """
    scale = _expect_scale(scale)

    def draw(key: Key, shape: Shape) -> FloatArray:
        z = key.normal(shape)
        attempt = 0
        while (beyond := np.abs(z) > 2).any():  # one draw in 22, each time
            attempt += 1
            z[beyond] = key.at("again", attempt).normal(int(beyond.sum()))
        return scale * z

    return Initializer(draw)


@described("initializer")
def uniform(*, limit: float = 0.05) -> Initializer:
    """Weights uniform between -limit and limit."""
    limit = expect_real("limit", limit, positive=True, hint="give the largest magnitude")
    return Initializer(lambda key, shape: key.uniform(shape, low=-limit, high=limit))


# By the sizes of the layer: a variance, drawn from either distribution


def _fan_in(gain: float) -> Callable[[Shape], float]:
    return lambda shape: gain / shape[1]


def _fan_mean(shape: Shape) -> float:
    return 2.0 / sum(shape)


def _normal_of(variance: Callable[[Shape], float]) -> Initializer:
    return Initializer(lambda key, shape: math.sqrt(variance(shape)) * key.normal(shape))


def _uniform_of(variance: Callable[[Shape], float]) -> Initializer:
    def draw(key: Key, shape: Shape) -> FloatArray:
        limit = math.sqrt(3.0 * variance(shape))
        return key.uniform(shape, low=-limit, high=limit)

    return Initializer(draw)


@described("initializer")
def he_normal() -> Initializer:
    """Normal weights of variance 2 / n_in, for relu layers. He et al., 2015, section 2.2."""
    return _normal_of(_fan_in(2.0))


@described("initializer")
def he_uniform() -> Initializer:
    """Uniform weights of variance 2 / n_in, for relu layers. He et al., 2015, section 2.2."""
    return _uniform_of(_fan_in(2.0))


@described("initializer")
def xavier_normal() -> Initializer:
    """Normal weights of variance 2 / (n_in + n_out). Glorot and Bengio, 2010, equation 12."""
    return _normal_of(_fan_mean)


@described("initializer")
def xavier_uniform() -> Initializer:
    """Uniform weights of variance 2 / (n_in + n_out). Glorot and Bengio, 2010, equation 16."""
    return _uniform_of(_fan_mean)


@described("initializer")
def lecun_normal() -> Initializer:
    """Normal weights of variance 1 / n_in, for selu layers. LeCun et al., 1998, section 4.6."""
    return _normal_of(_fan_in(1.0))


@described("initializer")
def lecun_uniform() -> Initializer:
    """Uniform weights of variance 1 / n_in. LeCun et al., Efficient backprop, 1998, section 4.6."""
    return _uniform_of(_fan_in(1.0))


@described("initializer")
def orthogonal(*, gain: float = 1.0) -> Initializer:
    """Weights whose rows, or columns where these are fewer, are orthogonal and of length `gain`.

    All such matrices are equally likely.

    References:
        Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks, 2014, section 3.
    """
    gain = expect_real("gain", gain, positive=True, hint="give the length of a row")

    def draw(key: Key, shape: Shape) -> FloatArray:
        long, short = max(shape), min(shape)
        # R's diagonal being positive, the factors are unique, and Q is uniform (Mezzadri, 2007).
        Q = gain * orthonormal(key.normal((long, short)))
        return Q if shape == Q.shape else Q.T

    return Initializer(draw)


# All layers from one stream


@described("weights")
def tutorial(*, seed: int | None = None, scale: float | None = None) -> WeightStream:
    """The tutorial's weights: variance 1 / n_in, layer after layer from one legacy generator.

    The numbers of a layer depend on how many the layers before it took, so this is not an
    `Initializer`. The generator belongs to this function: NumPy's global one is not touched.

    The numbers are NumPy's, whose logarithms are those of the C library. An `exact` arithmetic
    makes them from the same uniform numbers, which may change the last bits.

    Args:
        seed: Seed of the generator, below 2**32; by default the seed of the training.
        scale: Standard deviation of all weights, instead of one by the size of their layer: the
            tutorial's network of two layers has 0.01.
    """
    if seed is not None:
        seed = _legacy_seed(seed)
    if scale is not None:
        scale = _expect_scale(scale)

    def scaled(z: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        return z / np.sqrt(shape[1]) if scale is None else z * scale

    def draw(
        shapes: Sequence[tuple[int, ...]], numerics: Numerics = fast, *, key: Key = _TUTORIALS_KEY
    ) -> list[FloatArray]:
        generator = np.random.RandomState(_legacy_seed(key.seed) if seed is None else seed)
        if not numerics.exact:
            return [scaled(generator.randn(*shape), shape) for shape in shapes]
        numbers = _legacy_normals(generator, sum(map(math.prod, shapes)), numerics)
        ends = itertools.accumulate(map(math.prod, shapes))
        return [
            scaled(numbers[end - math.prod(shape) : end].reshape(shape), shape)
            for shape, end in zip(shapes, ends, strict=True)
        ]

    return WeightStream(draw)


def _legacy_seed(seed: int) -> int:
    """The seed, where the legacy generator takes it."""
    seed = expect_count("seed", seed, least=0, most=MOST_SEED, hint="give the seed of the weights")
    if seed >= 2**32:
        raise BadInput(
            f"seed is {seed}, expected less than 2**32 for the tutorial's weights: "
            "give a smaller one."
        )
    return seed


def _legacy_normals(generator: np.random.RandomState, count: int, numerics: Numerics) -> FloatArray:
    """The first normal numbers of the legacy generator, by this arithmetic.

    References:
        Marsaglia and Bray, A convenient method for generating normal variables, 1964, in the
        order in which NumPy hands its pairs out.
    """
    pairs = np.empty((0, 2))
    while 2 * len(pairs) < count:
        drawn = 2.0 * generator.random_sample((count // 2 + 64, 2)) - 1.0
        square = drawn[:, 0] * drawn[:, 0] + drawn[:, 1] * drawn[:, 1]
        inside = (square < 1.0) & (square > 0.0)
        square = square[inside]
        factor = np.sqrt(-2.0 * numerics.log(square) / square)
        pairs = np.concatenate([pairs, factor[:, np.newaxis] * drawn[inside][:, ::-1]])
    return pairs.reshape(-1)[:count]


def _expect_scale(scale: float) -> float:
    hint = "give a standard deviation, e.g. 0.01"
    return expect_real("scale", scale, positive=True, hint=hint)
