"""Batch normalisation: each feature to mean 0 and variance 1 over the examples of a batch."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_epsilon, expect_real
from pydnn.descriptions.builders import described
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import Context, Stage, Statistics
from pydnn.stages.layer_norm import (
    NormCache,
    NormGrads,
    NormParams,
    expect_features,
    init_norm,
    norm_grads,
    pull_back_norm,
)

__all__ = ["BatchNormCache", "BatchNormStatistics", "batch_norm"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class BatchNormStatistics:
    """Running mean (n, 1) and variance (n, 1) of each feature, for use outside of training."""

    mean: FloatArray
    variance: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class BatchNormCache:
    """What the backward pass and the running statistics need.

    Attributes:
        norm: Z_norm (n, m), and the deviation (n, 1) that it was divided by.
        mean: Of the batch, (n, 1); None outside of training.
        variance: Of the batch, without bias, as if of the population, (n, 1); likewise.
    """

    norm: NormCache
    mean: FloatArray | None = None
    variance: FloatArray | None = None


@described("stage")
def batch_norm(*, decay: float = 0.9, epsilon: float = 1e-5) -> Stage[NormParams, BatchNormCache]:
    """A = gamma (Z - mean) / sqrt(variance + epsilon) + beta, over the examples of the batch.

    Outside of training, mean and variance are the running ones, which each step moves to
    `decay` times what they were and 1 - `decay` times those of its batch. They start at 0 and 1.

    References:
        Ioffe and Szegedy, Batch normalization, 2015, algorithms 1 and 2.
    """
    hint = "give the share of the running statistics that a step keeps, e.g. 0.9"
    decay = expect_real("decay", decay, least=0, below=1, hint=hint)
    epsilon = expect_epsilon(epsilon)

    def forward(
        params: NormParams, Z: FloatArray, context: Context
    ) -> tuple[FloatArray, BatchNormCache]:
        expect_features("batch_norm", params, Z)
        if context.training:
            return _in_training(params, Z, context.numerics, epsilon)
        running = context.statistics
        if running is None:
            raise BadInput(
                "batch_norm has no running statistics outside of training: "
                "give those of the state, e.g. Context(statistics=state.statistics.tree)."
            )
        deviation = freeze(np.sqrt(running.variance + Z.dtype.type(epsilon)))
        Z_norm = freeze((Z - running.mean) / deviation)
        A = freeze(params.gamma * Z_norm + params.beta)
        return A, BatchNormCache(NormCache(Z_norm, deviation, context.numerics))

    def backward(
        params: NormParams, cache: BatchNormCache, dA: FloatArray
    ) -> tuple[FloatArray, NormGrads]:
        norm = cache.norm
        if cache.mean is not None:
            return pull_back_norm(params, norm, dA, axis=1)
        return freeze(dA * (params.gamma / norm.deviation)), norm_grads(norm, dA)

    def absorb(running: BatchNormStatistics, cache: BatchNormCache) -> BatchNormStatistics:
        mean, variance = cache.mean, cache.variance
        if mean is None or variance is None:
            raise BadInput(
                "batch_norm got the cache of an evaluation, expected that of a training step: "
                "give Context(training=True) to forward."
            )
        return BatchNormStatistics(
            freeze(decay * running.mean + (1 - decay) * mean),
            freeze(decay * running.variance + (1 - decay) * variance),
        )

    return Stage(
        "batch_norm",
        init_norm,
        forward,
        backward,
        gradients=NormGrads,
        mixes_examples=True,
        statistics=Statistics(_before_any_step, absorb),
    )


def _before_any_step(params: NormParams) -> BatchNormStatistics:
    mean, variance = (
        np.broadcast_to(params.gamma.dtype.type(n), params.gamma.shape) for n in (0, 1)
    )
    return BatchNormStatistics(mean, variance)


def _in_training(
    params: NormParams, Z: FloatArray, numerics: Numerics, epsilon: float
) -> tuple[FloatArray, BatchNormCache]:
    m = Z.shape[1]
    if m < 2:
        raise BadInput(
            "batch_norm got 1 example in training, expected 2 or more: "
            "take larger batches, or leave out the last short one."
        )
    mean = numerics.sum(Z, axis=1) / m
    centred = Z - mean
    squares = numerics.sum(centred * centred, axis=1)
    deviation = np.sqrt(squares / m + epsilon)
    Z_norm = freeze(centred / deviation)
    A = freeze(params.gamma * Z_norm + params.beta)
    norm = NormCache(Z_norm, freeze(deviation), numerics)
    return A, BatchNormCache(norm, freeze(mean), freeze(squares / (m - 1)))
