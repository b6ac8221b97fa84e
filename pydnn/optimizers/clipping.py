"""Gradient clipping, and noise on gradients."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_real
from pydnn.descriptions.builders import described
from pydnn.optimizers.base import GradientTransformation, stateless
from pydnn.parameters import Packed
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import EVALUATION, Context

__all__ = ["clip_by_global_norm", "clip_by_value", "gradient_noise"]


# Gradients that are made smaller, noisier, or nothing


@described("optimizer")
def clip_by_value(limit: float) -> GradientTransformation:
    """Keep each gradient between -limit and limit."""
    limit = expect_real("limit", limit, positive=True, hint="give the largest magnitude")
    return stateless(lambda grads, params, context: np.clip(grads, -limit, limit), elementwise=True)


@attrs.frozen
class NormState:
    """The length that the last vector had before it was clipped."""

    norm: float


@described("optimizer")
def clip_by_global_norm(limit: float) -> GradientTransformation:
    """Shorten the vector of all gradients to length `limit` where it is longer.

    Its length before is observed as "norm_before_clip".

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
        2013, algorithm 1.
    """
    limit = expect_real("limit", limit, positive=True, hint="give the greatest length")

    def update(
        grads: FloatArray, state: NormState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, NormState]:
        norm = context.numerics.norm(grads)
        clipped = grads if norm <= limit else freeze(grads * grads.dtype.type(limit / norm))
        return clipped, NormState(norm)

    return GradientTransformation(
        lambda params: NormState(0.0),
        update,
        observe=lambda state: {"norm_before_clip": state.norm},
        isotropic=True,
    )


@attrs.frozen
class CountState:
    """How many updates were made."""

    count: int


@described("optimizer")
def gradient_noise(variance: float, *, decay: float = 0.55) -> GradientTransformation:
    """Add normal noise of variance `variance` / (1 + t) ** decay at update t, from 0.

    References:
        Neelakantan et al., Adding gradient noise improves learning for very deep networks, 2015.
    """
    variance = expect_real("variance", variance, least=0, hint="give that of the first update")
    decay = expect_real("decay", decay, least=0, most=16, hint="0 keeps the noise as it is")

    def update(
        grads: FloatArray, state: CountState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, CountState]:
        if context.key is None:
            raise BadInput("gradient_noise has no key: give Context(training=True, key=…).")
        power = context.numerics.power
        deviation = power(variance / power(1 + state.count, decay), 0.5)
        # Of its own address: two parts that draw must not draw the same.
        noise = deviation * context.key.at("gradient_noise").normal(grads.shape)
        return freeze(grads + noise.astype(grads.dtype)), CountState(state.count + 1)

    return GradientTransformation(lambda params: CountState(0), update, random=True)
