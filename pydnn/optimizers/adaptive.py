"""Adaptive optimizers: Adam and its relatives, each a chain that ends in `descend`.

Where definitions differ between papers and libraries, the docstring says which is followed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np

from pydnn.checks import expect_epsilon, expect_real
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

__all__ = [
    "adagrad",
    "adam",
    "adamw",
    "amsgrad",
    "nadam",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_amsgrad",
    "scale_by_nadam",
    "scale_by_rms",
]


# A step size for each parameter, from its squared gradients


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class SquareState:
    """A sum or mean of squared gradients (size,)."""

    square: FloatArray


@described("optimizer")
def scale_by_adagrad(*, epsilon: float = 1e-10) -> GradientTransformation:
    """Divide each gradient by the square root of the sum of its squares so far, plus `epsilon`."""
    epsilon = expect_epsilon(epsilon)

    def update(
        grads: FloatArray, state: SquareState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, SquareState]:
        square = state.square + grads * grads
        return _over_root(grads, square, epsilon), SquareState(freeze(square))

    return GradientTransformation(
        lambda params: SquareState(zeros_like(params.vector)), update, elementwise=True
    )


@described("optimizer")
def adagrad(*, learning_rate: Rate = 0.01, epsilon: float = 1e-10) -> GradientTransformation:
    """AdaGrad, with `epsilon` outside of the root, as in PyTorch.

    References:
        Duchi, Hazan and Singer, Adaptive subgradient methods, 2011, figure 1.
    """
    return chain(scale_by_adagrad(epsilon=epsilon), descend(learning_rate))


@described("optimizer")
def scale_by_rms(*, decay: float = 0.9, epsilon: float = 1e-8) -> GradientTransformation:
    """Divide each gradient by the root of a decaying mean of its squares, plus `epsilon`."""
    decay, epsilon = expect_decay_rate("decay", decay), expect_epsilon(epsilon)

    def update(
        grads: FloatArray, state: SquareState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, SquareState]:
        square = moving_average(state.square, grads * grads, decay)
        return _over_root(grads, square, epsilon), SquareState(freeze(square))

    return GradientTransformation(
        lambda params: SquareState(zeros_like(params.vector)), update, elementwise=True
    )


@described("optimizer")
def rmsprop(
    *, learning_rate: Rate = 0.001, decay: float = 0.9, epsilon: float = 1e-8
) -> GradientTransformation:
    """RMSProp, with `epsilon` outside of the root, as in the tutorial's course and PyTorch.

    References:
        Tieleman and Hinton, Neural networks for machine learning, lecture 6.5, 2012.
    """
    return chain(scale_by_rms(decay=decay, epsilon=epsilon), descend(learning_rate))


# Both


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AdamState:
    """Decaying sums of gradients and of their squares (size,), after `count` updates.

    The paper's means m and v are these times 1 - beta1 and 1 - beta2.
    """

    count: int
    gradients: FloatArray
    squares: FloatArray


@described("optimizer")
def scale_by_adam(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> GradientTransformation:
    """Divide a decaying mean of gradients by the root of that of their squares, both corrected."""
    beta1, beta2, epsilon = _expect_adam(beta1, beta2, epsilon)

    def begin(state: AdamState, dtype: AnyDType, numerics: Numerics) -> Pass[AdamState]:
        t, power = state.count + 1, numerics.power
        # The paper's quotient of corrected means, m / (1 - beta1^t) by sqrt(v / (1 - beta2^t)) +
        # epsilon, in terms of sums m / (1 - beta1) and v / (1 - beta2): all that is the same for
        # all parameters comes in two numbers, and each one takes three multiplications less.
        root = math.sqrt((1 - beta2) / (1 - power(beta2, t)))
        own = (1 - beta1) / (1 - power(beta1, t)) / root
        shift = scalar(epsilon / root, dtype)
        b1, b2 = scalar(beta1, dtype), scalar(beta2, dtype)

        def kernel(
            factor: FloatArray,
            g: FloatArray,
            p: FloatArray,
            m: FloatArray,
            v: FloatArray,
            u: FloatArray,
            gradients: FloatArray,
            squares: FloatArray,
        ) -> None:
            np.multiply(m, b1, gradients)
            gradients += g
            np.multiply(v, b2, squares)
            squares += np.multiply(g, g, u)
            np.sqrt(squares, u)
            u += shift
            np.divide(gradients, u, u)
            u *= factor

        def after(gradients: FloatArray, squares: FloatArray) -> AdamState:
            return AdamState(t, gradients, squares)

        return Pass(kernel, (state.gradients, state.squares), after, own)

    return number_by_number(
        lambda params: AdamState(0, zeros_like(params.vector), zeros_like(params.vector)), begin
    )


@described("optimizer")
def adam(
    *,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> GradientTransformation:
    """Adam, with the bias correction of the paper, which is also the tutorial's course's.

    References:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.
    """
    return chain(scale_by_adam(beta1=beta1, beta2=beta2, epsilon=epsilon), descend(learning_rate))


@described("optimizer")
def adamw(
    *,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    only: Sequence[str] = ("W",),
) -> GradientTransformation:
    """Adam with decoupled weight decay of the arrays `only`, which are all W by default.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2, with the
        decay multiplied by the learning rate, as in PyTorch.
    """
    return chain(
        scale_by_adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        decay_weights(weight_decay, only=only),
        descend(learning_rate),
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AmsgradState:
    """Adam's two means (size,), and the largest that the second has been so far."""

    count: int
    mean: FloatArray
    square: FloatArray
    largest: FloatArray


@described("optimizer")
def scale_by_amsgrad(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> GradientTransformation:
    """Adam's quotient, with the largest mean of squares so far for the present one."""
    beta1, beta2, epsilon = _expect_adam(beta1, beta2, epsilon)

    def update(
        grads: FloatArray, state: AmsgradState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, AmsgradState]:
        t = state.count + 1
        mean = moving_average(state.mean, grads, beta1)
        square = moving_average(state.square, grads * grads, beta2)
        largest = np.maximum(state.largest, square)
        power = context.numerics.power
        updates = _over_root(mean / (1 - power(beta1, t)), largest / (1 - power(beta2, t)), epsilon)
        return updates, AmsgradState(t, freeze(mean), freeze(square), freeze(largest))

    return GradientTransformation(
        lambda params: AmsgradState(
            0, zeros_like(params.vector), zeros_like(params.vector), zeros_like(params.vector)
        ),
        update,
        elementwise=True,
    )


@described("optimizer")
def amsgrad(
    *,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> GradientTransformation:
    """Adam whose step sizes never grow.

    The largest mean of squares is that before the bias correction, which comes after, as in
    PyTorch; the paper corrects nothing, and optax takes the largest of the corrected ones.

    References:
        Reddi, Kale and Kumar, On the convergence of Adam and beyond, 2018, algorithm 2.
    """
    return chain(
        scale_by_amsgrad(beta1=beta1, beta2=beta2, epsilon=epsilon), descend(learning_rate)
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class NadamState:
    """Adam's two means (size,), and the product of all momenta so far."""

    count: int
    mean: FloatArray
    square: FloatArray
    product: float


@described("optimizer")
def scale_by_nadam(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 0.004,
) -> GradientTransformation:
    """Adam's quotient with Nesterov's look ahead, the momentum warming up to `beta1`."""
    beta1, beta2, epsilon = _expect_adam(beta1, beta2, epsilon)
    hint = "give how fast the momentum warms up, e.g. 0.004"
    psi = expect_real("momentum_decay", momentum_decay, least=0, hint=hint)

    def momentum_at(t: int, numerics: Numerics) -> float:
        return beta1 * (1 - 0.5 * numerics.power(0.96, t * psi))

    def update(
        grads: FloatArray, state: NadamState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, NadamState]:
        t, numerics = state.count + 1, context.numerics
        now, ahead = momentum_at(t, numerics), momentum_at(t + 1, numerics)
        product = state.product * now
        mean = moving_average(state.mean, grads, beta1)
        square = moving_average(state.square, grads * grads, beta2)
        # The paper's 1 - product of all momenta, up to this one and up to the next one.
        looked = mean * (ahead / (1 - product * ahead)) + grads * ((1 - now) / (1 - product))
        updates = _over_root(looked, square / (1 - numerics.power(beta2, t)), epsilon)
        return updates, NadamState(t, freeze(mean), freeze(square), product)

    return GradientTransformation(
        lambda params: NadamState(0, zeros_like(params.vector), zeros_like(params.vector), 1.0),
        update,
        elementwise=True,
    )


@described("optimizer")
def nadam(
    *,
    learning_rate: Rate = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 0.004,
) -> GradientTransformation:
    """Adam with Nesterov's momentum and the paper's warm-up of it, as in PyTorch.

    References:
        Dozat, Incorporating Nesterov momentum into Adam, 2016, algorithm 2. (optax leaves the
        warm-up out.)
    """
    return chain(
        scale_by_nadam(beta1=beta1, beta2=beta2, epsilon=epsilon, momentum_decay=momentum_decay),
        descend(learning_rate),
    )


def _over_root(dividend: FloatArray, square: FloatArray, epsilon: float) -> FloatArray:
    """Dividend / (sqrt(square) + epsilon)."""
    root = np.sqrt(square)
    root += root.dtype.type(epsilon)
    return freeze(np.divide(dividend, root, out=root))


def _expect_adam(beta1: float, beta2: float, epsilon: float) -> tuple[float, float, float]:
    return (
        expect_decay_rate("beta1", beta1),
        expect_decay_rate("beta2", beta2),
        expect_epsilon(epsilon),
    )
