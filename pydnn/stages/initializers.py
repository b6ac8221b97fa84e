"""Initial weights, drawn for one layer from its key, or for all layers from one stream.

An `Initializer` draws W (n_out, n_in) in float64 from the key of its layer. Biases start at 0.
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
Fans = tuple[float, float]  # the numbers of inputs of an output, and of outputs of an input


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("draw", "draw_with_fans"))
class Initializer(DescribedPart):
    """Draws the weights of one layer: `draw(key, (n_out, n_in)) -> W`, in float64.

    Attributes:
        draw: Draws the matrix of a layer in which each output depends on all n_in inputs, and each
            input on all n_out outputs.
        draw_with_fans: `(key, shape, (fan_in, fan_out)) -> W`, optional: draws the matrix of a
            layer with other numbers of connections. Without it, `draw` serves for all.

    Example:
        >>> nn.constant(0.5).draw(nn.Key(0), (2, 3))
        array([[0.5, 0.5, 0.5],
               [0.5, 0.5, 0.5]])
    """

    draw: Callable[[Key, Shape], FloatArray]
    draw_with_fans: Callable[[Key, Shape, Fans], FloatArray] | None = None

    def matrix(self, key: Key, shape: Shape, *, fans: Fans) -> FloatArray:
        """Draw the matrix of a layer that uses an entry for several connections, as kernels do.

        Args:
            key: The key to draw from.
            shape: (n_out, n_in). A kernel has one row of all its weights for each filter.
            fans: How many inputs an output depends on, and how many outputs depend on an input.
                Many windows of an image hold the same input.
        """
        if self.draw_with_fans is None:
            return self.draw(key, shape)
        return self.draw_with_fans(key, shape, fans)


def _expect_takes_key(_: object, __: object, draw: Callable[..., list[FloatArray]]) -> None:
    # Its signature tells as much as a call, which could draw for long.
    try:
        inspect.signature(draw).bind([], fast, key=_TUTORIALS_KEY)
    except TypeError as error:
        raise BadInput(
            f"the draw function of a weight stream cannot be called with (shapes, numerics, key=…) "
            f"({error}): let it take the training's key, so that --seed changes these weights too."
        ) from error


_TUTORIALS_KEY = Key(1)  # the tutorial draws its weights with seed 1


class Draw(Protocol):
    """A function from the shapes of a network's weights and the training's key to the weights."""

    def __call__(
        self, shapes: Sequence[tuple[int, ...]], numerics: Numerics, /, *, key: Key
    ) -> list[FloatArray]:
        """Return one array per shape."""


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("draw"))
class WeightStream(DescribedPart):
    """Draws the weights of all layers of a network, one layer after the other.

    Attributes:
        draw: `(shapes, numerics, key=key) -> weights`, where `key` is the key of the training.

    Raises:
        BadInput: If `draw` does not take a key.

    Example:
        >>> from pydnn.numerics import fast
        >>> weights = nn.stages.initializers.tutorial().draw([(2, 1), (1, 2)], fast, key=nn.Key(1))
        >>> weights[0].round(2)
        array([[ 1.62],
               [-0.61]])
    """

    draw: Draw = attrs.field(validator=_expect_takes_key)


# The same distribution for every layer


@described("initializer")
def zeros() -> Initializer:
    """Start all weights at 0, so that all units of a layer stay equal.

    Example:
        >>> nn.stages.initializers.zeros().draw(nn.Key(0), (1, 3))
        array([[0., 0., 0.]])
    """
    return constant(0.0)


@described("initializer")
def constant(value: float) -> Initializer:
    """Start all weights at `value`, so that all units of a layer stay equal.

    Raises:
        BadInput: If `value` is not a finite number.

    Example:
        >>> nn.constant(0.1).draw(nn.Key(0), (1, 3))
        array([[0.1, 0.1, 0.1]])
    """
    value = expect_real("value", value, hint="give the weights' value")
    # A broadcast number takes no memory, however large the layer claims to be.
    return Initializer(lambda key, shape: np.broadcast_to(value, shape))


@described("initializer")
def normal(*, scale: float = 0.01) -> Initializer:
    """Draw normal weights of standard deviation `scale`, whatever the size of the layer.

    Raises:
        BadInput: If `scale` is not a finite number above 0.

    Example:
        >>> W = nn.normal(scale=0.01).draw(nn.Key(0), (100, 400))
        >>> W.std().round(4)
        np.float64(0.0101)
    """
    scale = _expect_scale(scale)
    return Initializer(lambda key, shape: scale * key.normal(shape))


@described("initializer")
def truncated_normal(*, scale: float = 0.01) -> Initializer:
    """Draw normal weights of standard deviation `scale`, truncated at two standard deviations.

    The standard deviation after truncation is 0.8796 `scale`.

    Raises:
        BadInput: If `scale` is not a finite number above 0.

    Example:
        >>> W = nn.truncated_normal(scale=0.01).draw(nn.Key(0), (100, 400))
        >>> np.abs(W).max().round(4)
        np.float64(0.02)
    """
    scale = _expect_scale(scale)

    def draw(key: Key, shape: Shape) -> FloatArray:
        z = key.normal(shape)
        attempt = 0
        while (beyond := np.abs(z) > 2).any():  # one number in 22, each time
            attempt += 1  # a new address, since a key gives the same numbers each time
            z[beyond] = key.at("again", attempt).normal(int(beyond.sum()))
        return scale * z

    return Initializer(draw)


@described("initializer")
def uniform(*, limit: float = 0.05) -> Initializer:
    """Draw weights uniformly between -`limit` and `limit`.

    Raises:
        BadInput: If `limit` is not a finite number above 0.

    Example:
        >>> W = nn.uniform(limit=0.05).draw(nn.Key(0), (100, 400))
        >>> W.min().round(3), W.max().round(3)
        (np.float64(-0.05), np.float64(0.05))
    """
    limit = expect_real("limit", limit, positive=True, hint="give the largest magnitude")
    return Initializer(lambda key, shape: key.uniform(shape, low=-limit, high=limit))


# A variance that depends on the size of the layer, with a normal or a uniform distribution


def _fan_in(gain: float) -> Callable[[Fans], float]:
    return lambda fans: gain / fans[0]


def _fan_mean(fans: Fans) -> float:
    return 2.0 / sum(fans)


def _normal_of(variance: Callable[[Fans], float]) -> Initializer:
    return _of_fans(lambda key, shape, fans: math.sqrt(variance(fans)) * key.normal(shape))


def _uniform_of(variance: Callable[[Fans], float]) -> Initializer:
    def draw(key: Key, shape: Shape, fans: Fans) -> FloatArray:
        limit = math.sqrt(3.0 * variance(fans))
        return key.uniform(shape, low=-limit, high=limit)

    return _of_fans(draw)


def _of_fans(draw: Callable[[Key, Shape, Fans], FloatArray]) -> Initializer:
    return Initializer(lambda key, shape: draw(key, shape, shape[::-1]), draw)


@described("initializer")
def he_normal() -> Initializer:
    """Draw normal weights of variance 2 / n_in, which suit relu layers.

    References:
        He et al., Delving deep into rectifiers, 2015, section 2.2.

    Example:
        >>> W = nn.he_normal().draw(nn.Key(0), (100, 400))
        >>> (W.var() * 400).round(1)
        np.float64(2.0)
    """
    return _normal_of(_fan_in(2.0))


@described("initializer")
def he_uniform() -> Initializer:
    """Draw uniform weights of variance 2 / n_in, which suit relu layers.

    References:
        He et al., Delving deep into rectifiers, 2015, section 2.2.

    Example:
        >>> W = nn.he_uniform().draw(nn.Key(0), (100, 400))
        >>> np.abs(W).max() <= np.sqrt(6 / 400)
        np.True_
    """
    return _uniform_of(_fan_in(2.0))


@described("initializer")
def xavier_normal() -> Initializer:
    """Draw normal weights of variance 2 / (n_in + n_out), which suit tanh layers.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
        networks, 2010, equation 12.

    Example:
        >>> W = nn.xavier_normal().draw(nn.Key(0), (100, 400))
        >>> (W.var() * (400 + 100)).round(1)
        np.float64(2.0)
    """
    return _normal_of(_fan_mean)


@described("initializer")
def xavier_uniform() -> Initializer:
    """Draw uniform weights of variance 2 / (n_in + n_out), which suit tanh layers.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
        networks, 2010, equation 16.

    Example:
        >>> W = nn.xavier_uniform().draw(nn.Key(0), (100, 400))
        >>> np.abs(W).max() <= np.sqrt(6 / (400 + 100))
        np.True_
    """
    return _uniform_of(_fan_mean)


@described("initializer")
def lecun_normal() -> Initializer:
    """Draw normal weights of variance 1 / n_in, which suit selu layers.

    References:
        LeCun et al., Efficient backprop, 1998, section 4.6.

    Example:
        >>> W = nn.lecun_normal().draw(nn.Key(0), (100, 400))
        >>> (W.var() * 400).round(1)
        np.float64(1.0)
    """
    return _normal_of(_fan_in(1.0))


@described("initializer")
def lecun_uniform() -> Initializer:
    """Draw uniform weights of variance 1 / n_in.

    References:
        LeCun et al., Efficient backprop, 1998, section 4.6.

    Example:
        >>> W = nn.lecun_uniform().draw(nn.Key(0), (100, 400))
        >>> np.abs(W).max() <= np.sqrt(3 / 400)
        np.True_
    """
    return _uniform_of(_fan_in(1.0))


@described("initializer")
def orthogonal(*, gain: float = 1.0) -> Initializer:
    """Draw weights with orthogonal rows of length `gain`; orthogonal columns if those are fewer.

    All such matrices are equally likely.

    Raises:
        BadInput: If `gain` is not a finite number above 0.

    References:
        Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks, 2014, section 3.

    Example:
        >>> W = nn.orthogonal().draw(nn.Key(0), (2, 5))
        >>> np.allclose(W @ W.T, np.eye(2))
        True
    """
    gain = expect_real("gain", gain, positive=True, hint="give the length of a row")

    def draw(key: Key, shape: Shape) -> FloatArray:
        long, short = max(shape), min(shape)
        # `orthonormal` makes R's diagonal positive, so Q is unique, and uniform (Mezzadri, 2007).
        Q = gain * orthonormal(key.normal((long, short)))
        return Q if shape == Q.shape else Q.T

    return Initializer(draw)


# All layers from one stream


@described("weights")
def tutorial(*, seed: int | None = None, scale: float | None = None) -> WeightStream:
    """Draw the tutorial's weights: variance 1 / n_in, all layers from one legacy NumPy generator.

    This is not an `Initializer`, since the numbers of a layer depend on how many the layers before
    it took. The generator is local: NumPy's global one is neither read nor changed.

    NumPy computes the numbers with the logarithm of the C library, which differs between machines.
    An `exact` arithmetic computes them from the same uniform numbers with its own logarithm, which
    may change the last bits.

    Args:
        seed: Seed of the generator, below 2**32; by default the seed of the training.
        scale: Standard deviation of all weights, instead of 1 / sqrt(n_in). The tutorial's network
            of two layers uses 0.01.

    Raises:
        BadInput: If `seed` or `scale` is out of its range.

    Example:
        >>> from pydnn.numerics import fast
        >>> (W,) = nn.stages.initializers.tutorial(seed=1, scale=0.01).draw([(1, 3)], fast)
        >>> W.round(4)
        array([[ 0.0162, -0.0061, -0.0053]])
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
    """Return `seed`; raise BadInput unless the legacy generator takes it."""
    seed = expect_count("seed", seed, least=0, most=MOST_SEED, hint="give the seed of the weights")
    if seed >= 2**32:
        raise BadInput(
            f"seed is {seed}, expected less than 2**32 for the tutorial's weights: "
            "give a smaller one."
        )
    return seed


def _legacy_normals(generator: np.random.RandomState, count: int, numerics: Numerics) -> FloatArray:
    """Return the first `count` normal numbers of the legacy generator, computed with `numerics`.

    References:
        Marsaglia and Bray, A convenient method for generating normal variables, 1964.
    """
    pairs = np.empty((0, 2))
    while 2 * len(pairs) < count:
        drawn = 2.0 * generator.random_sample((count // 2 + 64, 2)) - 1.0
        square = drawn[:, 0] * drawn[:, 0] + drawn[:, 1] * drawn[:, 1]
        inside = (square < 1.0) & (square > 0.0)
        square = square[inside]
        factor = np.sqrt(-2.0 * numerics.log(square) / square)
        # NumPy's legacy generator returns the second number of each pair first.
        pairs = np.concatenate([pairs, factor[:, np.newaxis] * drawn[inside][:, ::-1]])
    return pairs.reshape(-1)[:count]


def _expect_scale(scale: float) -> float:
    hint = "give a standard deviation, e.g. 0.01"
    return expect_real("scale", scale, positive=True, hint=hint)
