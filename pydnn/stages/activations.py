"""Activations: stages without parameters that map each number Z by itself.

Each is a value and, right under it, how dA is pulled back to dZ, as `elementwise` takes them.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from pydnn.checks import expect_flag, expect_real
from pydnn.descriptions.builders import described
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
    """Linear units A = Z, for the place of a stage that does nothing."""
    return elementwise("identity", lambda Z, _: Z.view(), lambda dA, Z, A, _: dA.view())


@described("stage")
def relu() -> Activation:
    """Rectified linear units A = max(Z, 0); the slope at 0 is taken as 0. Nair and Hinton, 2010."""
    return elementwise("relu", lambda Z, numerics: numerics.positive_part(Z), _relu_backward)


def _relu_backward(dA: FloatArray, Z: FloatArray, A: FloatArray, _: Numerics) -> FloatArray:
    room = room_for(dA)
    if room is None:
        return dA * np.sign(A)
    return np.multiply(dA, scalar(0, A.dtype) < A, room)


@described("stage")
def leaky_relu(*, slope: float = 0.01) -> Activation:
    """A = Z above 0, and `slope` times Z below. Maas, Hannun and Ng, 2013."""
    slope = expect_real("slope", slope, hint="give the slope below 0, e.g. 0.01")
    return elementwise(
        "leaky_relu",
        lambda Z, _: np.where(Z > 0, Z, slope * Z),
        lambda dA, Z, A, _: np.where(Z > 0, dA, slope * dA),
    )


@described("stage")
def elu(*, alpha: float = 1.0) -> Activation:
    """A = Z above 0, and `alpha` (exp(Z) - 1) below. Clevert, Unterthiner and Hochreiter, 2016."""
    alpha = expect_real("alpha", alpha, positive=True, hint="give minus the value far below 0")
    return _scaled_elu("elu", 1.0, alpha)


@described("stage")
def selu() -> Activation:
    """The exponential linear unit whose outputs tend to mean 0 and variance 1 by themselves.

    References:
        Klambauer et al., Self-normalizing neural networks, 2017, equation 2 and appendix 1.
    """
    return _scaled_elu("selu", 1.0507009873554804934193349852946, 1.6732632423543772848170429916717)


def _scaled_elu(name: str, scale: float, alpha: float) -> Activation:
    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        below = (scale * alpha) * numerics.expm1(np.minimum(Z, 0))
        return np.where(Z > 0, scale * Z, below)

    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        # Below 0 the slope is the value plus its distance from the limit, -scale alpha.
        return dA * np.where(Z > 0, scale, A + scale * alpha)

    return elementwise(name, forward, backward)


@described("stage")
def gelu(*, approximate: bool = False) -> Activation:
    """A = Z times the normal distribution's function of Z. Hendrycks and Gimpel, 2016.

    Args:
        approximate: Whether to take that paper's form with tanh instead of the exact one.
    """
    approximate = expect_flag("approximate", approximate)
    return _gelu_tanh() if approximate else _gelu_exact()


# From here on exp(-Z*Z/2) is 0 and tanh(Z) is 1 in float64, so that no bit changes where Z is cut
# off at it; without that, squares beyond 1e308 made the slope inf * 0.
_FAR = 40.0


def _gelu_exact() -> Activation:
    def below(Z: FloatArray, numerics: Numerics) -> FloatArray:
        """The share of a standard normal distribution that lies below Z."""
        return 0.5 * (1 + numerics.erf(Z * math.sqrt(0.5)))

    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        return Z * below(Z, numerics)

    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        density = numerics.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))
        return dA * (below(Z, numerics) + near * density)

    return elementwise("gelu", forward, backward)


def _gelu_tanh() -> Activation:
    a, b = math.sqrt(2 / math.pi), 0.044715

    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        return 0.5 * Z * (1 + numerics.tanh(a * (near + b * near * near * near)))

    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        near = np.clip(Z, -_FAR, _FAR)
        t = numerics.tanh(a * (near + b * near * near * near))
        return dA * (0.5 * (1 + t) + 0.5 * near * (1 - t * t) * a * (1 + 3 * b * near * near))

    return elementwise("gelu", forward, backward)


@described("stage")
def silu() -> Activation:
    """A = Z times the logistic function of Z, also called swish. Elfwing, Uchibe and Doya, 2018."""

    def backward(dA: FloatArray, Z: FloatArray, A: FloatArray, numerics: Numerics) -> FloatArray:
        s = numerics.logistic(Z)
        return dA * (s + A * (1 - s))

    return elementwise("silu", lambda Z, numerics: Z * numerics.logistic(Z), backward)


@described("stage")
def softplus() -> Activation:
    """A = log(1 + exp(Z)), a smooth relu. Dugas et al., 2001."""

    def forward(Z: FloatArray, numerics: Numerics) -> FloatArray:
        return np.maximum(Z, 0) + numerics.log1p(numerics.exp(-np.abs(Z)))  # exp never overflows

    return elementwise("softplus", forward, lambda dA, Z, A, numerics: dA * numerics.logistic(Z))


@described("stage")
def tanh() -> Activation:
    """Hyperbolic tangent units."""
    return elementwise(
        "tanh", lambda Z, numerics: numerics.tanh(Z), lambda dA, Z, A, _: dA * (1 - A * A)
    )


@described("stage")
def sigmoid() -> Activation:
    """Logistic units A = 1 / (1 + exp(-Z)).

    At a network's end, prefer a loss on logits: it is stable and cheaper.
    """
    return elementwise(
        "sigmoid",
        lambda Z, numerics: numerics.logistic(Z),
        lambda dA, Z, A, _: dA * A * (1 - A),
    )
