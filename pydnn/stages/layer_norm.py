"""Layer normalization: each example gets mean 0 and variance 1 over its own features.

Features are the axis before the examples: rows of (n, m), and channels of sequences (T, n, m) and
of images (H, W, n, m), whose steps and places are normalized one by one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_epsilon, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.passes import in_one_pass, summed_in_one_pass
from pydnn.parameters import Tree
from pydnn.records import FloatArray, arrays, contiguous, freeze
from pydnn.sequences import expect_features_of_steps
from pydnn.stages.base import Context, Shape, Stage

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "NormCache",
    "NormGrads",
    "NormParams",
    "axes_but_features",
    "centered_squares",
    "expect_features",
    "init_norm",
    "layer_norm",
    "norm_grads",
    "norm_onnx",
    "pull_back_norm",
    "scaled",
]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class NormParams:
    """Scale gamma (n, 1), which starts at 1, and shift beta (n, 1), which starts at 0."""

    gamma: FloatArray
    beta: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class NormGrads:
    """Gradients dgamma (n, 1) and dbeta (n, 1) of the cost."""

    dgamma: FloatArray
    dbeta: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class NormCache:
    """What the backward pass needs.

    Attributes:
        Z_norm: Z less its mean, divided by its standard deviation, (..., n, m).
        deviation: The standard deviation: (..., 1, m) over features, or (n, 1) over examples.
        numerics: The arithmetic of the forward pass.
    """

    Z_norm: FloatArray
    deviation: FloatArray
    numerics: Numerics


@described("stage")
def layer_norm(*, epsilon: float = 1e-5) -> Stage[NormParams, NormCache]:
    """Normalize each example over its features: A = gamma (Z - mean) / sqrt(var + epsilon) + beta.

    Each step of sequences (T, n), and each place of images (H, W, n), is normalized over its own n
    features; gamma and beta are (n, 1) for all of them.

    Args:
        epsilon: Number above 0 that is added to the variance, to avoid a division by 0.

    Raises:
        BadInput: If `epsilon` is not a finite number above 0. Its functions raise it for inputs
            that do not have shape (..., n, m) and the dtype of the parameters.

    References:
        Ba, Kiros and Hinton, Layer normalization, 2016, section 3.

    Example:
        >>> stage = nn.layer_norm()
        >>> params, _ = stage.init(nn.Key(0), (2,))
        >>> A, cache = stage.forward(params, np.array([[2.0, 1.0], [4.0, 9.0]]), nn.Context())
        >>> A.round(4)
        array([[-1., -1.],
               [ 1.,  1.]])
    """
    epsilon = expect_epsilon(epsilon)

    def forward(
        params: NormParams, Z: FloatArray, context: Context
    ) -> tuple[FloatArray, NormCache]:
        expect_features("layer_norm", params, Z, context)
        numerics = context.numerics
        if Z.ndim > 2:
            Z = contiguous(Z)
        features, n = Z.ndim - 2, Z.shape[-2]  # the axis and the number of them
        centered, squares = centered_squares(Z, features, n, numerics)[1:]
        deviation = np.sqrt(squares / n + epsilon)
        Z_norm, A = in_one_pass(scaled, centered, deviation, params.gamma, params.beta)
        return A, NormCache(Z_norm, freeze(deviation), numerics)

    def backward(
        params: NormParams, cache: NormCache, dA: FloatArray
    ) -> tuple[FloatArray, NormGrads]:
        return pull_back_norm(params, cache, dA, axis=dA.ndim - 2)

    def onnx(params: NormParams, Z: Value, statistics: Tree) -> Value:
        centered = Z - Z.op("ReduceMean", axes=(-1,))
        variance = (centered * centered).op("ReduceMean", axes=(-1,))
        return norm_onnx(params, centered / np.sqrt(variance + epsilon))

    return Stage(
        "layer_norm", init_norm, forward, backward, gradients=NormGrads, lengths="kept", onnx=onnx
    )


def norm_onnx(params: NormParams, Z_norm: Value) -> Value:
    """Write scale and shift as operators of ONNX, with examples along the first axis."""
    return Z_norm.op("Mul", params.gamma[:, 0]).op("Add", params.beta[:, 0])


def init_norm(key: Key, shape_in: Shape) -> tuple[NormParams, Shape]:
    """Return parameters that leave normalized numbers unchanged: gamma 1 and beta 0."""
    if not shape_in:
        raise BadInput("examples are single numbers, expected features (n,): reshape them first.")
    n = shape_in[-1]
    # Broadcast numbers take no memory, so a file that claims a huge n costs nothing here.
    return NormParams(np.broadcast_to(1.0, (n, 1)), np.broadcast_to(0.0, (n, 1))), shape_in


def pull_back_norm(
    params: NormParams, cache: NormCache, dA: FloatArray, *, axis: int | tuple[int, ...]
) -> tuple[FloatArray, NormGrads]:
    """Compute dZ and the gradients of a normalization from dA, both (..., n, m).

    Args:
        params: Scale gamma and shift beta, each (n, 1).
        cache: The cache of the forward pass.
        dA: Gradient of the cost with respect to the output.
        axis: The axes of the mean and the variance: features, or examples and their places.

    References:
        Ioffe and Szegedy, Batch normalization, 2015, section 3, for examples.
    """
    numerics, Z_norm = cache.numerics, cache.Z_norm
    if dA.ndim > 2:
        dA = contiguous(dA)
    dZ_norm, *sums = summed_in_one_pass(
        _scaled_back, dA, Z_norm, params.gamma, kept=1, axis=axis, numerics=numerics
    )
    count = Z_norm.size // cache.deviation.size
    # Sums of images keep their four axes, where the deviation of features has two.
    mean, scale = (each.reshape(cache.deviation.shape) / count for each in sums)
    (dZ,) = in_one_pass(_without_moves, dZ_norm, Z_norm, mean, scale, cache.deviation)
    return dZ, norm_grads(cache, dA)


def centered_squares(
    Z: FloatArray, axis: int | tuple[int, ...], count: int, numerics: Numerics
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the mean along axes, Z less its mean, and the sums of the squares of that.

    Args:
        Z: Numbers (..., n, m).
        axis: The axes of the mean: that of the features, or all others.
        count: How many numbers a mean has.
        numerics: The arithmetic.
    """
    (total,) = summed_in_one_pass(_each, Z, kept=0, axis=axis, numerics=numerics)
    # Sums of images keep their four axes, where the statistics of features have two.
    mean = (total if axis == Z.ndim - 2 else total.reshape(-1, 1)) / count
    centered, squares = summed_in_one_pass(_centered, Z, mean, kept=1, axis=axis, numerics=numerics)
    return mean, centered, squares


@functools.partial(compilable, means=lambda Z: (Z,))
def _each(Z: FloatArray) -> tuple[FloatArray]:
    return (Z.view(),)


@compilable
def _centered(Z: FloatArray, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    centered = Z - mean
    return centered, centered * centered


@compilable
def scaled(
    centered: FloatArray, deviation: FloatArray, gamma: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return Z_norm and A."""
    Z_norm = centered / deviation
    return Z_norm, gamma * Z_norm + beta


@compilable
def _scaled_back(
    dA: FloatArray, Z_norm: FloatArray, gamma: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    dZ_norm = dA * gamma
    return dZ_norm, dZ_norm, dZ_norm * Z_norm


@functools.partial(compilable, means=lambda dA, Z_norm: (dA * Z_norm, dA))
def _products(dA: FloatArray, Z_norm: FloatArray) -> tuple[FloatArray, FloatArray]:
    return dA * Z_norm, dA.view()


@compilable
def _without_moves(
    dZ_norm: FloatArray,
    Z_norm: FloatArray,
    mean: FloatArray,
    scale: FloatArray,
    deviation: FloatArray,
) -> tuple[FloatArray]:
    # Mean and deviation depend on every number of Z, so a change of one number moves all of Z_norm:
    # dZ loses its part along the constant vector and its part along Z_norm.
    return ((dZ_norm - mean - Z_norm * scale) / deviation,)


def norm_grads(cache: NormCache, dA: FloatArray) -> NormGrads:
    """Return the gradients of scale and shift, which are the same in every normalization."""
    dgamma, dbeta = summed_in_one_pass(
        _products, dA, cache.Z_norm, kept=0, axis=axes_but_features(dA), numerics=cache.numerics
    )
    if dA.ndim == 2:
        return NormGrads(freeze(dgamma), freeze(dbeta))
    n = dA.shape[-2]
    return NormGrads(freeze(dgamma).reshape(n, 1), freeze(dbeta).reshape(n, 1))


def axes_but_features(Z: FloatArray) -> int | tuple[int, ...]:
    """Return the axes of examples and of their steps or places: all but the one before the last."""
    return 1 if Z.ndim == 2 else (*range(Z.ndim - 2), Z.ndim - 1)


def expect_features(name: str, params: NormParams, Z: FloatArray, context: Context) -> None:
    """Raise BadInput unless Z has the features and the dtype of the parameters."""
    if Z.ndim < 2 or Z.shape[-2] != len(params.gamma):
        hint = f"{name} was initialized for {len(params.gamma)} features"
        places = {3: ("T",), 4: ("H", "W")}.get(Z.ndim, ())
        expect_shape("Z", Z, (*places, len(params.gamma), "m"), hint=hint)
    expect_same_dtype("Z", Z, params.gamma.dtype)
    if context.lengths is not None:
        expect_features_of_steps(name, Z)
