"""Activations: stages without parameters that map each number Z independently.

Each passes two functions to `elementwise`: forward from Z to A, and backward from dA to dZ.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import numpy as np

from pydnn.checks import expect_flag, expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.numerics import Numerics, room_for
from pydnn.records import FloatArray, scalar
from pydnn.stages.base import ElementwiseCache, Stage, elementwise

__all__ = [
    "elu",
    "gelu",
    "identity",
    "leaky_relu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]

Activation: TypeAlias = Stage[tuple[()], ElementwiseCache]


@described("stage")
def identity() -> Activation:
    """Linear units A = Z: a stage that does nothing, where one is needed.

    Example:
        >>> network = nn.serial(nn.dense(4), nn.relu())
        >>> remove_relu = lambda path, stage: nn.stages.identity() if path == "1/" else stage
        >>> nn.stages.map_stages(remove_relu, network)
        serial(dense(4), identity())
    """
    return elementwise("identity", _view, _view)


@functools.partial(compilable, means=lambda array, *_: array)
def _view(array: FloatArray, *_: object) -> FloatArray:
    return array.view()


@described("stage")
def relu() -> Activation:
    """Rectified linear units A = max(Z, 0), with slope 0 at Z = 0.

    References:
        Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    Example:
        >>> A, cache = nn.relu().forward((), np.array([[-2.0, 0.0, 2.0]]), nn.Context())
        >>> A
        array([[0., 0., 2.]])
        >>> dZ, _ = nn.relu().backward((), cache, np.ones((1, 3)))
        >>> dZ
        array([[0., 0., 1.]])
    """
    return elementwise("relu", _relu_forward, _relu_backward, output_range=(0, math.inf))


@compilable
def _relu_forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
    return numerics.positive_part(Z)


@functools.partial(compilable, means=lambda dA, Z, A, _: dA * (A > 0))
def _relu_backward(dA: FloatArray, Z: FloatArray, A: FloatArray, _: Numerics) -> FloatArray:
    # A > 0 exactly where Z > 0, so the slope is the sign of A. `sign` takes 1.3 us for (5, 32) and
    # the comparison 2.1; for large arrays it is a fifth faster, since its booleans are small.
    room = room_for(dA)
    if room is None:
        return dA * np.sign(A)
    # Not dA times the booleans, which NumPy would convert piece by piece: 17 us for (100, 200) in
    # float64, and 14 so.
    np.copyto(room, scalar(0, A.dtype) < A)
    return np.multiply(dA, room, room)


@described("stage")
def leaky_relu(*, slope: float = 0.01) -> Activation:
    """Rectified linear units with a slope below 0 too: A = Z if Z > 0, else `slope` * Z.

    Args:
        slope: The slope below 0, any finite number.

    Raises:
        BadInput: If `slope` is not a finite number.

    References:
        Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models, 2013.

    Example:
        >>> A, _ = nn.leaky_relu(slope=0.1).forward((), np.array([[-2.0, 2.0]]), nn.Context())
        >>> A
        array([[-0.2,  2. ]])
    """
    slope = expect_real("slope", slope, hint="give the slope below 0, e.g. 0.01")
    return elementwise(
        "leaky_relu",
        compilable(lambda Z, _: np.where(Z > 0, Z, slope * Z)),
        compilable(lambda dA, Z, A, _: np.where(Z > 0, dA, slope * dA)),
    )


@described("stage")
def elu(*, alpha: float = 1.0) -> Activation:
    """Exponential linear units: A = Z if Z > 0, else `alpha` * (exp(Z) - 1).

    Args:
        alpha: Minus the limit of A far below 0, a number above 0.

    Raises:
        BadInput: If `alpha` is not a finite number above 0.

    References:
        Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential
        linear units, 2016.

    Example:
        >>> A, _ = nn.elu().forward((), np.array([[-9.0, -2.0, 2.0]]), nn.Context())
        >>> A.round(4)
        array([[-0.9999, -0.8647,  2.    ]])
    """
    alpha = expect_real("alpha", alpha, positive=True, hint="give minus the limit far below 0")
    return _scaled_elu("elu", 1.0, alpha)


@described("stage")
def selu() -> Activation:
    """Scaled exponential linear units, whose outputs tend to mean 0 and variance 1.

    This holds for layers with `lecun_normal` weights.

    References:
        Klambauer et al., Self-normalizing neural networks, 2017, equation 2 and appendix 1.

    Example:
        >>> A, _ = nn.selu().forward((), nn.Key(0).normal((1, 10_000)), nn.Context())
        >>> A.mean().round(1), A.std().round(1)
        (np.float64(0.0), np.float64(1.0))
    """
    return _scaled_elu("selu", 1.0507009873554804934193349852946, 1.6732632423543772848170429916717)


def _scaled_elu(name: str, scale: float, alpha: float) -> Activation:
    @compilable
    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        # Without the minimum, expm1 would overflow at large Z, whose values are not used.
        below = (scale * alpha) * numerics.expm1(np.minimum(Z, 0))
        return np.where(Z > 0, scale * Z, below)

    @compilable
    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        # Below 0 the slope is the value plus its distance from the limit, -scale alpha.
        return dA * np.where(Z > 0, scale, A + scale * alpha)

    return elementwise(name, forward, backward)


@described("stage")
def gelu(*, approximate: bool = False) -> Activation:
    """Gaussian error linear units: A = Z * P(N <= Z) for a standard normal N.

    Args:
        approximate: Whether to compute the paper's approximation by tanh instead, which differs
            by less than 0.0005.

    Raises:
        BadInput: If `approximate` is neither True nor False.

    References:
        Hendrycks and Gimpel, Gaussian error linear units, 2016, section 2.

    Example:
        >>> Z = np.array([[-1.0, 0.0, 1.0]])
        >>> nn.gelu().forward((), Z, nn.Context())[0].round(4)
        array([[-0.1587,  0.    ,  0.8413]])
        >>> nn.gelu(approximate=True).forward((), Z, nn.Context())[0].round(4)
        array([[-0.1588,  0.    ,  0.8412]])
    """
    approximate = expect_flag("approximate", approximate)
    return _gelu_tanh() if approximate else _gelu_exact()


# At |Z| >= 40, exp(-Z*Z/2) is 0 and tanh(Z) is +-1 in float64, so clipping Z there changes no bit.
# Without it, Z*Z overflows for |Z| > 1e154, and the slope becomes inf * 0.
_FAR = 40.0


def _gelu_exact() -> Activation:
    def below(Z: FloatArray, numerics: Numerics) -> FloatArray:
        """Return the probability that a standard normal number is at most Z."""
        return 0.5 * (1 + numerics.erf(Z * math.sqrt(0.5)))

    @compilable
    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        return Z * below(Z, numerics)

    @compilable
    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        density = numerics.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))
        return dA * (below(Z, numerics) + near * density)

    return elementwise("gelu", forward, backward)


def _gelu_tanh() -> Activation:
    a, b = math.sqrt(2 / math.pi), 0.044715

    @compilable
    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        return 0.5 * Z * (1 + numerics.tanh(a * (near + b * near * near * near)))

    @compilable
    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        t = numerics.tanh(a * (near + b * near * near * near))
        return dA * (0.5 * (1 + t) + 0.5 * near * (1 - t * t) * a * (1 + 3 * b * near * near))

    return elementwise("gelu", forward, backward)


@described("stage")
def silu() -> Activation:
    """Sigmoid linear units, also called swish: A = Z / (1 + exp(-Z)).

    References:
        Elfwing, Uchibe and Doya, Sigmoid-weighted linear units, 2018, section 2.

    Example:
        >>> A, _ = nn.silu().forward((), np.array([[-1.0, 0.0, 1.0]]), nn.Context())
        >>> A.round(4)
        array([[-0.2689,  0.    ,  0.7311]])
    """

    @compilable
    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        s = numerics.logistic(Z)  # the slope of Z s is s + Z s (1 - s), and A = Z s
        return dA * (s + A * (1 - s))

    return elementwise("silu", compilable(lambda Z, numerics: Z * numerics.logistic(Z)), backward)


@described("stage")
def softplus() -> Activation:
    """Softplus units, a smooth relu: A = log(1 + exp(Z)).

    References:
        Dugas et al., Incorporating second-order functional knowledge for better option pricing,
        2001, section 3.

    Example:
        >>> A, _ = nn.softplus().forward((), np.array([[-1000.0, 0.0, 1000.0]]), nn.Context())
        >>> A.round(4)
        array([[0.000e+00, 6.931e-01, 1.000e+03]])
    """

    @compilable
    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        # log(1 + exp(Z)) = max(Z, 0) + log(1 + exp(-|Z|)), where exp cannot overflow.
        return np.maximum(Z, 0) + numerics.log1p(numerics.exp(-np.abs(Z)))

    backward = compilable(lambda dA, Z, A, numerics: dA * numerics.logistic(Z))
    return elementwise("softplus", forward, backward, output_range=(0, math.inf))


@described("stage")
def tanh() -> Activation:
    """Hyperbolic tangent units, whose outputs lie between -1 and 1.

    Example:
        >>> A, _ = nn.stages.tanh().forward((), np.array([[-1.0, 0.0, 1.0]]), nn.Context())
        >>> A.round(4)
        array([[-0.7616,  0.    ,  0.7616]])
    """
    return elementwise(
        "tanh",
        compilable(lambda Z, numerics: numerics.tanh(Z)),
        compilable(lambda dA, Z, A, _: dA * (1 - A * A)),
        output_range=(-1, 1),
    )


@described("stage")
def sigmoid() -> Activation:
    """Logistic units A = 1 / (1 + exp(-Z)), between 0 and 1.

    Do not put them at the end of a network: `sigmoid_cross_entropy` takes logits, which is faster
    and stays finite.

    Example:
        >>> A, _ = nn.sigmoid().forward((), np.array([[-1.0, 0.0, 1.0]]), nn.Context())
        >>> A.round(4)
        array([[0.2689, 0.5   , 0.7311]])
    """
    return elementwise(
        "sigmoid",
        compilable(lambda Z, numerics: numerics.logistic(Z)),
        compilable(lambda dA, Z, A, _: dA * A * (1 - A)),
        output_range=(0, 1),
    )
