"""Batch normalization: each feature gets mean 0 and variance 1 over the examples of a batch.

Features are the axis before the examples. In sequences (T, n, m) and images (H, W, n, m) they are
normalized over all steps or places of all examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_epsilon, expect_flag, expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.numerics import Numerics
from pydnn.numerics.passes import in_one_pass
from pydnn.records import FloatArray, IntArray, arrays, contiguous, freeze
from pydnn.sequences import columns_of_steps, steps_of_columns
from pydnn.stages.base import Context, Stage, Statistics
from pydnn.stages.layer_norm import (
    NormCache,
    NormGrads,
    NormParams,
    axes_but_features,
    centered_squares,
    expect_features,
    init_norm,
    norm_grads,
    norm_onnx,
    pull_back_norm,
    scaled,
)

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["BatchNormCache", "BatchNormStatistics", "batch_norm"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class BatchNormStatistics:
    """Running mean (n, 1) and variance (n, 1) of each feature, which evaluation uses."""

    mean: FloatArray
    variance: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class BatchNormCache:
    """What the backward pass and the running statistics need.

    Attributes:
        norm: Z_norm (..., n, m), and the standard deviation (n, 1) it was divided by. For sequences
            of unequal length, Z_norm is (n, N), with a column for each valid step.
        mean: Mean of the batch, (n, 1); None outside of training.
        variance: Unbiased variance of the batch, with its count less 1 as divisor, (n, 1); None
            outside of training.
        lengths: The number of valid steps of each sequence; None if all steps are valid.
    """

    norm: NormCache
    mean: FloatArray | None = None
    variance: FloatArray | None = None
    lengths: IntArray | None = attrs.field(default=None, eq=False)


@described("stage")
def batch_norm(
    *, decay: float = 0.9, epsilon: float = 1e-5, per_shard: bool = False
) -> Stage[NormParams, BatchNormCache]:
    """Normalize each feature over the batch: A = gamma (Z - mean) / sqrt(var + epsilon) + beta.

    In training, mean and variance are those of the batch. Outside of training they are the running
    ones, which start at 0 and 1; each step replaces them by `decay` times their value plus
    1 - `decay` times the batch's value.

    The statistics of sequences (T, n) and of images (H, W, n) are over all examples and all their
    steps or places. Steps beyond the length of a sequence do not count, and become 0.

    Args:
        decay: Share of the running statistics that a step keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added to the variance, so that no division is by 0.
        per_shard: Whether to normalize each shard of a batch with its own mean and variance, where
            a recipe cuts batches into shards. The running statistics then are the mean of those
            that each shard alone would give. Without this, shards are refused.

    Raises:
        BadInput: If an argument is out of its range. `forward` raises it for inputs that do not
            have shape (..., n, m), for a training batch with only one number of each feature, and
            outside of training if the context has no statistics.

    References:
        Ioffe and Szegedy, Batch normalization, 2015, algorithms 1 and 2.

    Example:
        >>> stage = nn.batch_norm()
        >>> params, _ = stage.init(nn.Key(0), (1,))
        >>> A, cache = stage.forward(params, np.array([[2.0, 4.0]]), nn.Context(training=True))
        >>> A.round(4)
        array([[-1.,  1.]])
    """
    hint = "give the share of the running statistics that a step keeps, e.g. 0.9"
    decay = expect_real("decay", decay, least=0, below=1, hint=hint)
    epsilon = expect_epsilon(epsilon)
    expect_flag("per_shard", per_shard)

    def forward(
        params: NormParams, Z: FloatArray, context: Context
    ) -> tuple[FloatArray, BatchNormCache]:
        expect_features("batch_norm", params, Z, context)
        lengths = context.lengths
        if lengths is not None:
            # Without the padding, each valid step is an example of its own.
            columns = columns_of_steps(Z, lengths)
            A, cache = forward(params, columns, attrs.evolve(context, lengths=None))
            return freeze(steps_of_columns(A, Z.shape, lengths)), attrs.evolve(
                cache, lengths=lengths
            )
        if Z.ndim > 2:
            Z = contiguous(Z)
        if context.training:
            return _in_training(params, Z, context.numerics, epsilon)
        running = context.statistics
        if running is None:
            raise BadInput(
                "batch_norm got no running statistics, expected them outside of training: "
                "give those of the state, e.g. Context(statistics=state.statistics.tree)."
            )
        deviation = freeze(np.sqrt(running.variance + Z.dtype.type(epsilon)))
        Z_norm, A = in_one_pass(
            _as_in_training, Z, running.mean, deviation, params.gamma, params.beta
        )
        return A, BatchNormCache(NormCache(Z_norm, deviation, context.numerics))

    def backward(
        params: NormParams, cache: BatchNormCache, dA: FloatArray
    ) -> tuple[FloatArray, NormGrads]:
        norm = cache.norm
        if cache.lengths is not None:
            columns = columns_of_steps(dA, cache.lengths)
            dZ, grads = backward(params, attrs.evolve(cache, lengths=None), columns)
            return freeze(steps_of_columns(dZ, dA.shape, cache.lengths)), grads
        if cache.mean is not None:
            return pull_back_norm(params, norm, dA, axis=axes_but_features(dA))
        # Outside of training the running statistics are constants, so only the scale counts.
        factor = params.gamma / norm.deviation
        return freeze(dA * factor), norm_grads(norm, dA)

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

    def onnx(params: NormParams, Z: Value, running: BatchNormStatistics) -> Value:
        deviation = np.sqrt(running.variance + running.variance.dtype.type(epsilon))
        return norm_onnx(params, (Z - running.mean[:, 0]) / deviation[:, 0])

    return Stage(
        "batch_norm",
        init_norm,
        forward,
        backward,
        gradients=NormGrads,
        mixes_examples=True,
        per_shard=per_shard,
        lengths="kept",
        statistics=Statistics(_before_any_step, absorb),
        onnx=onnx,
    )


@compilable
def _as_in_training(
    Z: FloatArray, mean: FloatArray, deviation: FloatArray, gamma: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    Z_norm = (Z - mean) / deviation
    return Z_norm, gamma * Z_norm + beta


def _before_any_step(params: NormParams) -> BatchNormStatistics:
    mean, variance = (
        np.broadcast_to(params.gamma.dtype.type(n), params.gamma.shape) for n in (0, 1)
    )
    return BatchNormStatistics(mean, variance)


def _in_training(
    params: NormParams, Z: FloatArray, numerics: Numerics, epsilon: float
) -> tuple[FloatArray, BatchNormCache]:
    n = Z.shape[-2]
    count = Z.size // n
    if count < 2:
        raise BadInput(
            "batch_norm got 1 example in training, expected 2 or more: "
            "take larger batches, or leave out the last short one."
        )
    axes = axes_but_features(Z)
    mean, centered, squares = centered_squares(Z, axes, count, numerics)
    squares = squares.reshape(n, 1)
    deviation = np.sqrt(squares / count + epsilon)
    Z_norm, A = in_one_pass(scaled, centered, deviation, params.gamma, params.beta)
    norm = NormCache(Z_norm, freeze(deviation), numerics)
    # The batch is normalized with its own variance; the running variance estimates that of all
    # examples, whose divisor is smaller by 1: algorithm 2, line 10.
    return A, BatchNormCache(norm, freeze(mean), freeze(squares / (count - 1)))
