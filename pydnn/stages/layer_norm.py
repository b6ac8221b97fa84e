"""Layer normalisation: each example to mean 0 and variance 1 over its own features."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_epsilon, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import Context, Shape, Stage

__all__ = [
    "NormCache",
    "NormGrads",
    "NormParams",
    "expect_features",
    "init_norm",
    "layer_norm",
    "norm_grads",
    "pull_back_norm",
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
    """What the backward pass needs: Z_norm (n, m), and what it was divided by, a row or column."""

    Z_norm: FloatArray
    deviation: FloatArray
    numerics: Numerics


@described("stage")
def layer_norm(*, epsilon: float = 1e-5) -> Stage[NormParams, NormCache]:
    """A = gamma (Z - mean) / sqrt(variance + epsilon) + beta, over the features of each example.

    References:
        Ba, Kiros and Hinton, Layer normalization, 2016, section 3.
    """
    epsilon = expect_epsilon(epsilon)

    def forward(
        params: NormParams, Z: FloatArray, context: Context
    ) -> tuple[FloatArray, NormCache]:
        expect_features("layer_norm", params, Z)
        numerics = context.numerics
        n = len(Z)
        centred = Z - numerics.sum(Z, axis=0) / n
        deviation = np.sqrt(numerics.sum(centred * centred, axis=0) / n + epsilon)
        Z_norm = freeze(centred / deviation)
        A = freeze(params.gamma * Z_norm + params.beta)
        return A, NormCache(Z_norm, freeze(deviation), numerics)

    def backward(
        params: NormParams, cache: NormCache, dA: FloatArray
    ) -> tuple[FloatArray, NormGrads]:
        return pull_back_norm(params, cache, dA, axis=0)

    return Stage("layer_norm", init_norm, forward, backward, gradients=NormGrads)


def init_norm(key: Key, shape_in: Shape) -> tuple[NormParams, Shape]:
    """Parameters that leave normalised numbers as they are."""
    if len(shape_in) != 1:
        raise BadInput(f"examples have shape {shape_in}, expected (n,): flatten them first.")
    n = shape_in[0]
    # Which take no memory, whatever n a file may claim; packed, they do.
    return NormParams(np.broadcast_to(1.0, (n, 1)), np.broadcast_to(0.0, (n, 1))), shape_in


def pull_back_norm(
    params: NormParams, cache: NormCache, dA: FloatArray, *, axis: int
) -> tuple[FloatArray, NormGrads]:
    """Pull dA back through a normalisation whose moments are those along `axis` of its input.

    References:
        Ioffe and Szegedy, Batch normalization, 2015, section 3, for axis 1.
    """
    numerics, Z_norm = cache.numerics, cache.Z_norm
    dZ_norm = dA * params.gamma
    count = Z_norm.shape[axis]
    # The mean and the deviation move with every number, which takes these two shares away.
    along_mean = numerics.sum(dZ_norm, axis=axis) / count
    along_scale = Z_norm * (numerics.sum(dZ_norm * Z_norm, axis=axis) / count)
    dZ = freeze((dZ_norm - along_mean - along_scale) / cache.deviation)
    return dZ, norm_grads(cache, dA)


def norm_grads(cache: NormCache, dA: FloatArray) -> NormGrads:
    """Gradients of the scale and the shift, which are alike in all normalisations."""
    dgamma = cache.numerics.sum(dA * cache.Z_norm, axis=1)
    return NormGrads(freeze(dgamma), freeze(cache.numerics.sum(dA, axis=1)))


def expect_features(name: str, params: NormParams, Z: FloatArray) -> None:
    """Refuse an input Z whose rows or dtype are not those of the parameters."""
    if Z.ndim != 2 or len(Z) != len(params.gamma):
        hint = f"{name} was initialised for so many features"
        expect_shape("Z", Z, (len(params.gamma), "m"), hint=hint)
    expect_same_dtype("Z", Z, params.gamma.dtype)
