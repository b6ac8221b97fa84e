"""Gradient clipping, and noise on gradients."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.optimizers.base import GradientTransformation, number_by_number
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Packed
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import EVALUATION, Context

__all__ = ["clip_by_global_norm", "clip_by_value", "gradient_noise"]


@described("optimizer")
def clip_by_value(limit: float) -> GradientTransformation:
    """Clip each gradient to the range from -`limit` to `limit`.

    Raises:
        BadInput: If `limit` is not a finite number above 0.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> updates, _ = nn.clip_by_value(1.0).update(np.array([3.0, -0.5]), (), params)
        >>> updates
        array([ 1. , -0.5])
    """
    limit = expect_real("limit", limit, positive=True, hint="give the largest magnitude")
    pending = PendingUpdate(_clip_kernel, (), lambda: (), numbers=(-limit, limit), merges=False)
    return number_by_number(lambda params: (), lambda *_: pending)


@compilable
def _clip_kernel(
    factor: FloatArray,
    low: FloatArray,
    high: FloatArray,
    g: FloatArray,
    p: FloatArray,
    u: FloatArray,
) -> None:
    np.clip(g, low, high, u)
    u *= factor


@attrs.frozen
class NormState:
    """The norm of the last gradients before clipping."""

    norm: float


@described("optimizer")
def clip_by_global_norm(limit: float) -> GradientTransformation:
    """Scale the vector of all gradients down to norm `limit` if its norm is larger.

    The norm before clipping is observed as "norm_before_clip".

    Raises:
        BadInput: If `limit` is not a finite number above 0.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
        2013, algorithm 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> clip = nn.clip_by_global_norm(1.0)
        >>> updates, state = clip.update(np.array([3.0, 4.0]), clip.init(params), params)
        >>> updates, clip.observe(state)
        (array([0.6, 0.8]), {'norm_before_clip': 5.0})
    """
    limit = expect_real("limit", limit, positive=True, hint="give the largest norm")

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
    """The number of updates so far."""

    count: int


@described("optimizer")
def gradient_noise(variance: float, *, decay: float = 0.55) -> GradientTransformation:
    """Add normal noise of variance `variance` / (1 + t) ** `decay` at update t = 0, 1, 2, ...

    Args:
        variance: Variance of the noise at the first update, 0 or more.
        decay: How fast the variance falls, from 0 (not at all) to 16.

    Raises:
        BadInput: If an argument is out of its range. `update` raises it if the context has no key.

    References:
        Neelakantan et al., Adding gradient noise improves learning for very deep networks, 2015.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (999,))[0])
        >>> noise = nn.optimizers.gradient_noise(0.25)
        >>> context = nn.Context(training=True, key=nn.Key(1))
        >>> updates, state = noise.update(np.zeros(1000), noise.init(params), params, context)
        >>> updates.std().round(1)
        np.float64(0.5)
    """
    variance = expect_real("variance", variance, least=0, hint="give the first update's variance")
    decay = expect_real("decay", decay, least=0, most=16, hint="0 keeps the variance constant")

    def update(
        grads: FloatArray, state: CountState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, CountState]:
        if context.key is None:
            raise BadInput(
                "gradient_noise got a context without a key, expected the key of a training step: "
                "give Context(training=True, key=…)."
            )
        power = context.numerics.power
        deviation = power(variance / power(1 + state.count, decay), 0.5)
        # At an address of its own, or another random part would draw the same numbers.
        noise = deviation * context.key.at("gradient_noise").normal(grads.shape)
        return freeze(grads + noise.astype(grads.dtype)), CountState(state.count + 1)

    return GradientTransformation(lambda params: CountState(0), update, random=True)
