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

    def begin(
        state: SquareState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[SquareState]:
        return PendingUpdate(
            _adagrad_kernel, (state.square,), SquareState, numbers=(epsilon,), merges=False
        )

    return number_by_number(lambda params: SquareState(zeros_like(params.vector)), begin)


@compilable
def _adagrad_kernel(
    factor: FloatArray,
    epsilon: FloatArray,
    g: FloatArray,
    p: FloatArray,
    v: FloatArray,
    u: FloatArray,
    square: FloatArray,
) -> None:
    np.multiply(g, g, square)
    square += v
    _over_root(g, square, epsilon, u)
    u *= factor


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
    numbers = (decay, 1 - decay, epsilon)

    def begin(
        state: SquareState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[SquareState]:
        return PendingUpdate(
            _rms_kernel, (state.square,), SquareState, numbers=numbers, merges=False
        )

    return number_by_number(lambda params: SquareState(zeros_like(params.vector)), begin)


@compilable
def _rms_kernel(
    factor: FloatArray,
    decay: FloatArray,
    share: FloatArray,
    epsilon: FloatArray,
    g: FloatArray,
    p: FloatArray,
    v: FloatArray,
    u: FloatArray,
    square: FloatArray,
) -> None:
    np.multiply(g, g, u)
    moving_average(v, decay, u, share, square, u)
    _over_root(g, square, epsilon, u)
    u *= factor


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

        def after(gradients: FloatArray, squares: FloatArray) -> AdamState:
            return AdamState(t, gradients, squares)

        before, numbers = (state.gradients, state.squares), (beta1, beta2, epsilon / root)
        return PendingUpdate(_adam_kernel, before, after, own, numbers, varies=True)

    return number_by_number(
        lambda params: AdamState(0, zeros_like(params.vector), zeros_like(params.vector)), begin
    )


@compilable
def _adam_kernel(
    factor: FloatArray,
    b1: FloatArray,
    b2: FloatArray,
    shift: FloatArray,
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
    shares = (beta1, 1 - beta1, beta2, 1 - beta2, epsilon)

    def begin(
        state: AmsgradState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[AmsgradState]:
        t, power = state.count + 1, numerics.power

        def after(mean: FloatArray, square: FloatArray, largest: FloatArray) -> AmsgradState:
            return AmsgradState(t, mean, square, largest)

        before = (state.mean, state.square, state.largest)
        numbers = (*shares, 1 - power(beta1, t), 1 - power(beta2, t))
        return PendingUpdate(_amsgrad_kernel, before, after, numbers=numbers, merges=False)

    return number_by_number(
        lambda params: AmsgradState(
            0, zeros_like(params.vector), zeros_like(params.vector), zeros_like(params.vector)
        ),
        begin,
    )


@compilable
def _amsgrad_kernel(
    factor: FloatArray,
    b1: FloatArray,
    share1: FloatArray,
    b2: FloatArray,
    share2: FloatArray,
    epsilon: FloatArray,
    correction1: FloatArray,
    correction2: FloatArray,
    g: FloatArray,
    p: FloatArray,
    m: FloatArray,
    v: FloatArray,
    most: FloatArray,
    u: FloatArray,
    mean: FloatArray,
    square: FloatArray,
    largest: FloatArray,
) -> None:
    moving_average(m, b1, g, share1, mean, u)
    np.multiply(g, g, u)
    moving_average(v, b2, u, share2, square, u)
    np.maximum(most, square, out=largest)  # before the bias correction, as in PyTorch
    np.divide(largest, correction2, u)
    _over_root(mean / correction1, u, epsilon, u)
    u *= factor


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

    shares = (beta1, 1 - beta1, beta2, 1 - beta2, epsilon)

    def begin(state: NadamState, dtype: AnyDType, numerics: Numerics) -> PendingUpdate[NadamState]:
        t = state.count + 1
        now, ahead = momentum_at(t, numerics), momentum_at(t + 1, numerics)
        product = state.product * now
        # The paper's bias corrections: 1 - the product of all momentum factors, up to the next one
        # for the mean, and up to this one for the gradient.
        of_mean, of_gradient = ahead / (1 - product * ahead), (1 - now) / (1 - product)

        def after(mean: FloatArray, square: FloatArray) -> NadamState:
            return NadamState(t, mean, square, product)

        numbers = (*shares, of_mean, of_gradient, 1 - numerics.power(beta2, t))
        return PendingUpdate(
            _nadam_kernel, (state.mean, state.square), after, numbers=numbers, merges=False
        )

    return number_by_number(
        lambda params: NadamState(0, zeros_like(params.vector), zeros_like(params.vector), 1.0),
        begin,
    )


@compilable
def _nadam_kernel(
    factor: FloatArray,
    b1: FloatArray,
    share1: FloatArray,
    b2: FloatArray,
    share2: FloatArray,
    epsilon: FloatArray,
    of_mean: FloatArray,
    of_gradient: FloatArray,
    correction: FloatArray,
    g: FloatArray,
    p: FloatArray,
    m: FloatArray,
    v: FloatArray,
    u: FloatArray,
    mean: FloatArray,
    square: FloatArray,
) -> None:
    moving_average(m, b1, g, share1, mean, u)
    np.multiply(g, g, u)
    moving_average(v, b2, u, share2, square, u)
    combined = mean * of_mean
    combined += np.multiply(g, of_gradient, u)
    np.divide(square, correction, u)
    _over_root(combined, u, epsilon, u)
    u *= factor


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


def _over_root(
    dividend: FloatArray, square: FloatArray, epsilon: FloatArray, out: FloatArray
) -> None:
    """Fill `out`, which may be `square`, with dividend / (sqrt(square) + epsilon)."""
    np.sqrt(square, out)
    out += epsilon
    np.divide(dividend, out, out)


def _expect_adam(beta1: float, beta2: float, epsilon: float) -> tuple[float, float, float]:
    return (
        expect_decay_rate("beta1", beta1),
        expect_decay_rate("beta2", beta2),
        expect_epsilon(epsilon),
    )
