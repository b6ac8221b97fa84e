"""Gradient descent, momentum, and optimizers that use the sign of the momentum."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pydnn.descriptions.builders import described
from pydnn.engines import compilable
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
from pydnn.optimizers.fused import PendingUpdate
from pydnn.records import AnyDType, FloatArray, arrays

__all__ = ["gradient_descent", "heavy_ball", "lion", "momentum", "nesterov", "sign_of_momentum"]


@described("optimizer")
def gradient_descent(*, learning_rate: Rate) -> GradientTransformation:
    """Plain gradient descent: each update is minus the learning rate times the gradient.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.

    Raises:
        BadInput: If `learning_rate` is neither.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.gradient_descent(learning_rate=0.1)
        >>> updates, _ = optimizer.update(np.array([3.0, -4.0]), optimizer.init(params), params)
        >>> updates
        array([-0.3,  0.4])
    """
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
    """Replace each gradient g by a velocity v, which is updated as v = decay * v + g.

    Args:
        decay: Share of the velocity that an update keeps, at least 0 and below 1.
        averaged: Whether v = decay * v + (1 - decay) * g instead, as in the tutorial's course.
        nesterov: Whether the result is decay * v + g with the new v, instead of v.

    Raises:
        BadInput: If `decay` is out of its range.

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964; for
        `nesterov`, Sutskever et al., On the importance of initialization and momentum, 2013, in
        the form of PyTorch.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.heavy_ball(decay=0.5)
        >>> first, state = part.update(np.ones(2), part.init(params), params)
        >>> second, state = part.update(np.ones(2), state, params)
        >>> first, second
        (array([1., 1.]), array([1.5, 1.5]))
    """
    decay = expect_decay_rate("decay", decay)
    share = 1 - decay if averaged else 1.0

    @compilable
    def kernel(
        factor: FloatArray,
        decay: FloatArray,
        share_: FloatArray,
        g: FloatArray,
        p: FloatArray,
        v: FloatArray,
        u: FloatArray,
        after: FloatArray,
    ) -> None:
        gained = g if share == 1 else g * share_  # a product with 1 would only cost time
        np.multiply(v, decay, after)
        after += gained
        if nesterov:
            np.multiply(after, decay, u)
            u += gained
            u *= factor
        else:
            np.multiply(after, factor, u)

    def begin(
        state: VelocityState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[VelocityState]:
        return PendingUpdate(kernel, (state.velocity,), VelocityState, numbers=(decay, share))

    return number_by_number(
        lambda params: VelocityState(zeros_like(params.vector)), begin, isotropic=True
    )


@described("optimizer")
def momentum(
    *, learning_rate: Rate, decay: float = 0.9, averaged: bool = False
) -> GradientTransformation:
    """Gradient descent with momentum: each update is minus the learning rate times a velocity.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        decay: Share of the velocity that an update keeps: beta in the tutorial's course.
        averaged: Whether the velocity is a mean of gradients, as in the tutorial's course: an
            update adds (1 - decay) * g to it. By default it is a sum, as in most libraries, and
            an update adds g.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.momentum(learning_rate=0.1, decay=0.5)
        >>> first, state = optimizer.update(np.ones(2), optimizer.init(params), params)
        >>> second, state = optimizer.update(np.ones(2), state, params)
        >>> first, second
        (array([-0.1, -0.1]), array([-0.15, -0.15]))
    """
    return chain(heavy_ball(decay=decay, averaged=averaged), descend(learning_rate))


@described("optimizer")
def nesterov(*, learning_rate: Rate, decay: float = 0.9) -> GradientTransformation:
    """Gradient descent with Nesterov's momentum, in the form of PyTorch.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        decay: Share of the velocity that an update keeps, at least 0 and below 1.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Sutskever et al., On the importance of initialization and momentum, 2013.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.nesterov(learning_rate=0.1, decay=0.5)
        >>> updates, _ = optimizer.update(np.ones(2), optimizer.init(params), params)
        >>> updates
        array([-0.15, -0.15])
    """
    return chain(heavy_ball(decay=decay, nesterov=True), descend(learning_rate))


# Signs


@described("optimizer")
def sign_of_momentum(*, beta1: float = 0.9, beta2: float = 0.99) -> GradientTransformation:
    """Replace each gradient by the sign of a weighted mean of the momentum and the gradient.

    Args:
        beta1: Weight of the momentum in that mean, at least 0 and below 1; the gradient has the
            weight 1 - beta1.
        beta2: Share of the momentum that an update keeps, at least 0 and below 1.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Chen et al., Symbolic discovery of optimization algorithms, 2023, program 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.sign_of_momentum()
        >>> updates, state = part.update(np.array([3.0, -0.1]), part.init(params), params)
        >>> updates
        array([ 1., -1.])
    """
    beta1, beta2 = expect_decay_rate("beta1", beta1), expect_decay_rate("beta2", beta2)
    numbers = (beta1, 1 - beta1, beta2, 1 - beta2)

    def begin(
        state: VelocityState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[VelocityState]:
        return PendingUpdate(
            _sign_kernel, (state.velocity,), VelocityState, numbers=numbers, merges=False
        )

    return number_by_number(lambda params: VelocityState(zeros_like(params.vector)), begin)


@compilable
def _sign_kernel(
    factor: FloatArray,
    b1: FloatArray,
    share1: FloatArray,
    b2: FloatArray,
    share2: FloatArray,
    g: FloatArray,
    p: FloatArray,
    v: FloatArray,
    u: FloatArray,
    after: FloatArray,
) -> None:
    moving_average(v, b1, g, share1, u, after)
    np.sign(u, u)
    u *= factor
    moving_average(v, b2, g, share2, after, np.empty_like(g))


@described("optimizer")
def lion(
    *,
    learning_rate: Rate = 0.0001,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    only: Sequence[str] = ("W",),
) -> GradientTransformation:
    """Lion: each update is minus the learning rate times the sign of a momentum.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        beta1: Weight of the momentum in the mean whose sign is taken, at least 0 and below 1; the
            gradient has the weight 1 - beta1.
        beta2: Share of the momentum that an update keeps, at least 0 and below 1.
        weight_decay: Decay rate, 0 or more: an update shrinks each weight by this times the
            learning rate.
        only: The arrays that decay, as `Layout.selected` takes them; all W by default.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Chen et al., Symbolic discovery of optimization algorithms, 2023, program 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.lion(learning_rate=0.01)
        >>> updates, _ = optimizer.update(np.array([3.0, -0.1]), optimizer.init(params), params)
        >>> updates
        array([-0.01,  0.01])
    """
    return chain(
        sign_of_momentum(beta1=beta1, beta2=beta2),
        decay_weights(weight_decay, only=only),
        descend(learning_rate),
    )
