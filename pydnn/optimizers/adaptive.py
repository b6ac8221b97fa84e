"""Adaptive optimizers: Adam and its relatives, each a chain that ends in `descend`.

Where papers and libraries define an optimizer differently, its docstring says which one it follows.
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
from pydnn.optimizers.fused import PendingUpdate
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


# A step size for each parameter, computed from its squared gradients


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class SquareState:
    """The sum, or a decaying mean, of squared gradients (size,)."""

    square: FloatArray


@described("optimizer")
def scale_by_adagrad(*, epsilon: float = 1e-10) -> GradientTransformation:
    """Divide each gradient by the square root of the sum of its squares so far, plus `epsilon`.

    Raises:
        BadInput: If `epsilon` is not a finite number above 0.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.scale_by_adagrad()
        >>> updates, state = part.update(np.array([3.0, -4.0]), part.init(params), params)
        >>> updates, state.square
        (array([ 1., -1.]), array([ 9., 16.]))
    """
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
    """AdaGrad: learning rates that fall with the sum of squared gradients.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        epsilon: Number above 0 that is added after taking the root, as in PyTorch.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Duchi, Hazan and Singer, Adaptive subgradient methods, 2011, figure 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.adagrad(learning_rate=0.1)
        >>> first, state = optimizer.update(np.ones(2), optimizer.init(params), params)
        >>> second, state = optimizer.update(np.ones(2), state, params)
        >>> first.round(4), second.round(4)
        (array([-0.1, -0.1]), array([-0.0707, -0.0707]))
    """
    return chain(scale_by_adagrad(epsilon=epsilon), descend(learning_rate))


@described("optimizer")
def scale_by_rms(*, decay: float = 0.9, epsilon: float = 1e-8) -> GradientTransformation:
    """Divide each gradient by the root of a decaying mean of its squares, plus `epsilon`.

    Args:
        decay: Share of the mean that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.

    Raises:
        BadInput: If an argument is out of its range.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.scale_by_rms(decay=0.75)
        >>> updates, state = part.update(np.array([3.0, -4.0]), part.init(params), params)
        >>> updates.round(4), state.square
        (array([ 2., -2.]), array([2.25, 4.  ]))
    """
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
    """RMSProp: gradients divided by the root of a decaying mean of their squares.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        decay: Share of the mean that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root, as in the tutorial's course and
            in PyTorch.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Tieleman and Hinton, Neural networks for machine learning, lecture 6.5, 2012.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.rmsprop(learning_rate=0.01, decay=0.75)
        >>> updates, _ = optimizer.update(np.array([3.0, -4.0]), optimizer.init(params), params)
        >>> updates.round(4)
        array([-0.02,  0.02])
    """
    return chain(scale_by_rms(decay=decay, epsilon=epsilon), descend(learning_rate))


# Momentum and a step size for each parameter


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AdamState:
    """Decaying sums of gradients and of squared gradients (size,), after `count` updates.

    Multiplied by 1 - beta1 and 1 - beta2, they are the paper's means m and v.
    """

    count: int
    gradients: FloatArray
    squares: FloatArray


@described("optimizer")
def scale_by_adam(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> GradientTransformation:
    """Divide the mean of gradients by the root of the mean of squares, both decaying and corrected.

    Args:
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.scale_by_adam()
        >>> updates, state = part.update(np.array([3.0, -0.1]), part.init(params), params)
        >>> updates.round(4)
        array([ 1., -1.])
    """
    beta1, beta2, epsilon = _expect_adam(beta1, beta2, epsilon)

    def begin(state: AdamState, dtype: AnyDType, numerics: Numerics) -> PendingUpdate[AdamState]:
        t, power = state.count + 1, numerics.power
        # The paper divides m / (1 - beta1^t) by sqrt(v / (1 - beta2^t)) + epsilon. With the sums
        # m / (1 - beta1) and v / (1 - beta2) instead of m and v, the numbers that all parameters
        # share combine into two, `own` and `shift`: three multiplications less per parameter.
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
            # `u` is work memory until its last line, so the kernel allocates nothing.
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

        return PendingUpdate(kernel, (state.gradients, state.squares), after, own)

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
    """Adam: momentum, divided by the root of a decaying mean of squared gradients.

    The bias correction is the paper's, which the tutorial's course and PyTorch use too. In the
    first updates, each parameter moves by about the learning rate.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.adam(learning_rate=0.01)
        >>> updates, _ = optimizer.update(np.array([3.0, -0.1]), optimizer.init(params), params)
        >>> updates.round(4)
        array([-0.01,  0.01])
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
    """Adam with decoupled weight decay.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.
        weight_decay: Decay rate, 0 or more: an update shrinks each weight by this times the
            learning rate, as in PyTorch.
        only: The arrays that decay, as `Layout.selected` takes them; all W by default.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2, with the
        decay multiplied by the learning rate.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1, initializer=nn.constant(5.0)).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.adamw(learning_rate=0.1, weight_decay=0.01)
        >>> updates, _ = optimizer.update(np.array([1e-9, 1.0]), optimizer.init(params), params)
        >>> updates.round(4)
        array([-0.0141, -0.1   ])
    """
    return chain(
        scale_by_adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        decay_weights(weight_decay, only=only),
        descend(learning_rate),
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AmsgradState:
    """Adam's two means (size,), and the largest value of the second one so far, by number."""

    count: int
    mean: FloatArray
    square: FloatArray
    largest: FloatArray


@described("optimizer")
def scale_by_amsgrad(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> GradientTransformation:
    """Do as `scale_by_adam` does, but with the largest mean of squares so far.

    Args:
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Reddi, Kale and Kumar, On the convergence of Adam and beyond, 2018, algorithm 2.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.scale_by_amsgrad(beta1=0.0)
        >>> large, state = part.update(np.full(2, 9.0), part.init(params), params)
        >>> small, state = part.update(np.full(2, 0.1), state, params)
        >>> large.round(4), small.round(4)
        (array([1., 1.]), array([0.0157, 0.0157]))
    """
    beta1, beta2, epsilon = _expect_adam(beta1, beta2, epsilon)

    def update(
        grads: FloatArray, state: AmsgradState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, AmsgradState]:
        t = state.count + 1
        mean = moving_average(state.mean, grads, beta1)
        square = moving_average(state.square, grads * grads, beta2)
        largest = np.maximum(state.largest, square)  # before the bias correction, as in PyTorch
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
    """AMSGrad: Adam with the largest mean of squared gradients so far, instead of the present one.

    As in PyTorch, the largest mean is taken before the bias correction. The paper has no
    correction, and optax takes the largest of the corrected means.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Reddi, Kale and Kumar, On the convergence of Adam and beyond, 2018, algorithm 2.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.amsgrad(learning_rate=0.01)
        >>> updates, _ = optimizer.update(np.array([3.0, -0.1]), optimizer.init(params), params)
        >>> updates.round(4)
        array([-0.01,  0.01])
    """
    return chain(
        scale_by_amsgrad(beta1=beta1, beta2=beta2, epsilon=epsilon), descend(learning_rate)
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class NadamState:
    """Adam's two means (size,), and the product of the momentum factors so far."""

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
    """Do as `scale_by_adam` does, but with Nesterov's momentum, which warms up to `beta1`.

    Args:
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.
        momentum_decay: How fast the momentum warms up, 0 or more; psi in PyTorch.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Dozat, Incorporating Nesterov momentum into Adam, 2016, algorithm 2.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.scale_by_nadam()
        >>> updates, _ = part.update(np.array([3.0, -0.1]), part.init(params), params)
        >>> updates.round(4)
        array([ 1.0565, -1.0565])
    """
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
        # The paper's bias corrections: 1 - the product of all momentum factors, up to the next one
        # for the mean, and up to this one for the gradient.
        combined = mean * (ahead / (1 - product * ahead)) + grads * ((1 - now) / (1 - product))
        updates = _over_root(combined, square / (1 - numerics.power(beta2, t)), epsilon)
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
    """NAdam: Adam with Nesterov's momentum, which warms up to `beta1` as in the paper and PyTorch.

    Args:
        learning_rate: The learning rate, a number above 0 or a schedule.
        beta1: Share of the mean of gradients that an update keeps, at least 0 and below 1.
        beta2: Share of the mean of squares that an update keeps, at least 0 and below 1.
        epsilon: Number above 0 that is added after taking the root.
        momentum_decay: How fast the momentum warms up, 0 or more; optax has no warm-up.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Dozat, Incorporating Nesterov momentum into Adam, 2016, algorithm 2.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.nadam(learning_rate=0.01)
        >>> updates, _ = optimizer.update(np.array([3.0, -0.1]), optimizer.init(params), params)
        >>> updates.round(4)
        array([-0.0106,  0.0106])
    """
    return chain(
        scale_by_nadam(beta1=beta1, beta2=beta2, epsilon=epsilon, momentum_decay=momentum_decay),
        descend(learning_rate),
    )


def _over_root(dividend: FloatArray, square: FloatArray, epsilon: float) -> FloatArray:
    """Return dividend / (sqrt(square) + epsilon)."""
    root = np.sqrt(square)
    root += root.dtype.type(epsilon)
    return freeze(np.divide(dividend, root, out=root))


def _expect_adam(beta1: float, beta2: float, epsilon: float) -> tuple[float, float, float]:
    return (
        expect_decay_rate("beta1", beta1),
        expect_decay_rate("beta2", beta2),
        expect_epsilon(epsilon),
    )
