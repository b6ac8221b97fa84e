"""Gradient descent, momentum, and optimizers that use the sign of the momentum."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pydnn.descriptions.builders import described
from pydnn.numerics import Numerics
from pydnn.optimizers.base import (
    GradientTransformation,
    Rate,
    chain,
    descend,
    expect_decay_rate,
    moving_average,
    number_by_number,
    zeros_like,
)
from pydnn.optimizers.decay import decay_weights
from pydnn.optimizers.fused import Pass
from pydnn.parameters import Packed
from pydnn.records import AnyDType, FloatArray, arrays, freeze, scalar
from pydnn.stages.base import EVALUATION, Context

__all__ = ["gradient_descent", "heavy_ball", "lion", "momentum", "nesterov", "sign_of_momentum"]


@described("optimizer")
def gradient_descent(*, learning_rate: Rate) -> GradientTransformation:
    """Plain gradient descent: each parameter goes `learning_rate` times its gradient downhill."""
    return descend(learning_rate)


# Momentum


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class VelocityState:
    """The velocity v (size,)."""

    velocity: FloatArray


@described("optimizer")
def heavy_ball(
    *, decay: float = 0.9, averaged: bool = False, nesterov: bool = False
) -> GradientTransformation:
    """Replace each gradient g by the velocity v, which becomes decay * v + g.

    Args:
        decay: The share of the velocity that stays, 0 or more and below 1.
        averaged: Whether v becomes decay * v + (1 - decay) * g instead, as in the tutorial's
            course.
        nesterov: Whether the gradient is taken a step ahead: decay * v + g of the new v.

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964; for
        `nesterov`, Sutskever et al., On the importance of initialization and momentum, 2013, in
        the form of PyTorch.
    """
    decay = expect_decay_rate("decay", decay)
    share = 1 - decay if averaged else 1.0

    def begin(state: VelocityState, dtype: AnyDType, numerics: Numerics) -> Pass[VelocityState]:
        d, s = scalar(decay, dtype), scalar(share, dtype)

        def kernel(
            factor: FloatArray,
            g: FloatArray,
            p: FloatArray,
            v: FloatArray,
            u: FloatArray,
            after: FloatArray,
        ) -> None:
            gained = g if share == 1 else g * s
            np.multiply(v, d, after)
            after += gained
            if nesterov:
                np.multiply(after, d, u)
                u += gained
                u *= factor
            else:
                np.multiply(after, factor, u)

        return Pass(kernel, (state.velocity,), VelocityState)

    return number_by_number(
        lambda params: VelocityState(zeros_like(params.vector)), begin, isotropic=True
    )


@described("optimizer")
def momentum(
    *, learning_rate: Rate, decay: float = 0.9, averaged: bool = False
) -> GradientTransformation:
    """Gradient descent with momentum.

    Args:
        learning_rate: The learning rate, or a schedule of it.
        decay: The share of the velocity that a step keeps: beta in the tutorial's course.
        averaged: Whether the velocity is a mean of gradients, (1 - decay) * g added at each step,
            as in the tutorial's course; otherwise it is a sum, as in most libraries.
    """
    return chain(heavy_ball(decay=decay, averaged=averaged), descend(learning_rate))


@described("optimizer")
def nesterov(*, learning_rate: Rate, decay: float = 0.9) -> GradientTransformation:
    """Gradient descent with Nesterov's momentum, in the form of PyTorch."""
    return chain(heavy_ball(decay=decay, nesterov=True), descend(learning_rate))


# Signs


@described("optimizer")
def sign_of_momentum(*, beta1: float = 0.9, beta2: float = 0.99) -> GradientTransformation:
    """The sign of a mean of momentum and gradient; the momentum itself decays by `beta2`."""
    beta1, beta2 = expect_decay_rate("beta1", beta1), expect_decay_rate("beta2", beta2)

    def update(
        grads: FloatArray, state: VelocityState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, VelocityState]:
        updates = np.sign(moving_average(state.velocity, grads, beta1))
        return freeze(updates), VelocityState(freeze(moving_average(state.velocity, grads, beta2)))

    return GradientTransformation(
        lambda params: VelocityState(zeros_like(params.vector)), update, elementwise=True
    )


@described("optimizer")
def lion(
    *,
    learning_rate: Rate = 0.0001,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    only: Sequence[str] = ("W",),
) -> GradientTransformation:
    """Steps of one size, in the direction of the signs of a momentum.

    References:
        Chen et al., Symbolic discovery of optimization algorithms, 2023, program 1.
    """
    return chain(
        sign_of_momentum(beta1=beta1, beta2=beta2),
        decay_weights(weight_decay, only=only),
        descend(learning_rate),
    )
