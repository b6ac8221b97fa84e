"""Other frameworks: the few functions of each that networks need, and networks written in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Protocol, TypeAlias, cast

import attrs
import numpy as np

from pydnn.checks import expect_known, import_extra
from pydnn.records import FloatArray

__all__ = ["FRAMEWORKS", "Framework", "Tensor", "framework"]

_PURPOSE = "comparing with it"


class Tensor(Protocol):
    """An array of another framework, with the operators that formulas use."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes, as in NumPy."""

    def __neg__(self) -> Tensor: ...
    def __add__(self, other: Tensor | float, /) -> Tensor: ...
    def __radd__(self, other: float, /) -> Tensor: ...
    def __sub__(self, other: Tensor | float, /) -> Tensor: ...
    def __rsub__(self, other: float, /) -> Tensor: ...
    def __mul__(self, other: Tensor | float, /) -> Tensor: ...
    def __rmul__(self, other: float, /) -> Tensor: ...
    def __truediv__(self, other: Tensor | float, /) -> Tensor: ...
    def __pow__(self, power: int, /) -> Tensor: ...
    def __lt__(self, other: Tensor | float, /) -> Tensor: ...
    def __gt__(self, other: Tensor | float, /) -> Tensor: ...


Options: TypeAlias = Mapping[str, object]  # of a stage or loss, as in its description
Functions: TypeAlias = Mapping[str, Callable[..., Tensor]]
CostOf: TypeAlias = Callable[..., tuple[Tensor, list[Tensor]]]
Pulled: TypeAlias = tuple[Sequence[Tensor], Sequence[Tensor]]


@attrs.frozen(eq=False)
class Framework:
    """A framework that computes networks and differentiates them automatically.

    Attributes:
        name: The name of the framework, e.g. "torch".
        array: Converts a NumPy array to the framework's tensor.
        numpy: Converts a tensor to a NumPy array.
        functions: The framework's functions by name: matmul, sum, mean, exp, log, log1p, tanh,
            sqrt, abs, where, stack, erf, array.
        pull_back: `(function, arrays) -> ([cost, *outputs], gradients)`, where `function(*arrays)`
            returns a cost and a list of outputs.
        mode: Context manager to compute in, e.g. one that turns on float64.
    """

    name: str
    array: Callable[[FloatArray], Tensor]
    numpy: Callable[[Tensor], FloatArray]
    functions: Functions
    pull_back: Callable[[CostOf, Sequence[Tensor]], Pulled]
    mode: Callable[[], AbstractContextManager[object]] = nullcontext


def _torch() -> Framework:
    torch = import_extra("torch", extra="bench", purpose=_PURPOSE)

    def pull_back(function: CostOf, arrays: Sequence[Tensor]) -> Pulled:
        inputs = [torch.clone(array).requires_grad_() for array in arrays]
        cost, outputs = function(*inputs)
        gradients = torch.autograd.grad(cost, inputs, allow_unused=True)
        zeros = [torch.zeros_like(array) for array in arrays]
        filled = [z if g is None else g for z, g in zip(zeros, gradients, strict=True)]
        return [cost, *outputs], filled

    return Framework(
        "torch",
        lambda array: torch.tensor(np.array(array)),
        lambda tensor: np.asarray(torch.detach(tensor).numpy()),
        {
            "matmul": torch.matmul,
            "sum": lambda a, axis: torch.sum(a, dim=axis, keepdim=True),
            "mean": torch.mean,
            "exp": torch.exp,
            "log": torch.log,
            "log1p": torch.log1p,
            "tanh": torch.tanh,
            "sqrt": torch.sqrt,
            "abs": torch.abs,
            "where": torch.where,
            "stack": lambda parts: torch.cat(list(parts), dim=0),
            "erf": torch.erf,
            "array": lambda array: torch.tensor(np.array(array)),
        },
        pull_back,
    )


def _jax() -> Framework:
    jax = import_extra("jax", extra="bench", purpose=_PURPOSE)
    special = import_extra("jax.scipy.special", extra="bench", purpose=_PURPOSE)

    def pull_back(function: CostOf, arrays: Sequence[Tensor]) -> Pulled:
        places = tuple(range(len(arrays)))
        derived = jax.value_and_grad(function, argnums=places, has_aux=True)
        (cost, outputs), gradients = derived(*arrays)
        return [cost, *outputs], gradients

    return Framework(
        "jax",
        jax.numpy.array,
        np.asarray,
        _like_numpy(jax.numpy) | {"erf": special.erf, "array": jax.numpy.array},
        pull_back,
        lambda: jax.enable_x64(True),
    )


def _autograd() -> Framework:
    numpy_like = import_extra("autograd.numpy", extra="bench", purpose=_PURPOSE)
    autograd = import_extra("autograd", extra="bench", purpose=_PURPOSE)
    special = import_extra("autograd.scipy.special", extra="bench", purpose=_PURPOSE)

    def pull_back(function: CostOf, arrays: Sequence[Tensor]) -> Pulled:
        outputs: list[Tensor] = []

        def cost_of(inputs: Sequence[Tensor]) -> Tensor:
            cost, inner = function(*inputs)
            # Unboxed, so that they are plain arrays again after the differentiation.
            outputs[:] = [_unboxed(cost), *map(_unboxed, inner)]
            return cost

        gradients = autograd.grad(cost_of)(tuple(arrays))
        return outputs, gradients

    return Framework(
        "autograd",
        numpy_like.array,
        np.asarray,
        _like_numpy(numpy_like) | {"erf": special.erf, "array": numpy_like.array},
        pull_back,
    )


def _unboxed(value: Tensor) -> Tensor:
    while hasattr(value, "_value"):
        value = value._value
    return value


def _like_numpy(numpy_like: ModuleType) -> dict[str, Callable[..., Tensor]]:
    names = ("matmul", "mean", "exp", "log", "log1p", "tanh", "sqrt", "abs", "where")
    return {name: getattr(numpy_like, name) for name in names} | {
        "sum": lambda a, axis: numpy_like.sum(a, axis=axis, keepdims=True),
        "stack": lambda parts: numpy_like.concatenate(list(parts), axis=0),
    }


FRAMEWORKS: Mapping[str, Callable[[], Framework]] = {
    "torch": _torch,
    "jax": _jax,
    "autograd": _autograd,
}


def framework(name: str) -> Framework:
    """Return the framework called `name`.

    Raises:
        BadInput: If there is no such framework, or it is not installed.
    """
    expect_known("framework", name, FRAMEWORKS)
    return FRAMEWORKS[name]()


# Stages and losses in these functions, written from their definitions and not from pydnn's code

Forward: TypeAlias = Callable[[Functions, Sequence[Tensor], Tensor, Options], Tensor]


def _number(options: Options, name: str, default: float) -> float:
    return cast("float", options.get(name, default))


def _norm(axis: int) -> Forward:
    def forward(f: Functions, params: Sequence[Tensor], A: Tensor, options: Options) -> Tensor:
        gamma, beta = params
        count = A.shape[axis]
        centered = A - f["sum"](A, axis) / count
        variance = f["sum"](centered**2, axis) / count
        return gamma * centered / f["sqrt"](variance + _number(options, "epsilon", 1e-5)) + beta

    return forward


def _elu(f: Functions, A: Tensor, scale: float, alpha: float) -> Tensor:
    below = f["exp"](f["where"](A < 0, A, 0 * A)) - 1
    return scale * f["where"](A > 0, A, alpha * below)


def _softplus(f: Functions, A: Tensor) -> Tensor:
    return f["where"](A > 0, A, 0 * A) + f["log1p"](f["exp"](-f["abs"](A)))


def _logistic(f: Functions, A: Tensor) -> Tensor:
    return 0.5 * (1 + f["tanh"](0.5 * A))


def _gelu(f: Functions, A: Tensor, options: Options) -> Tensor:
    if options.get("approximate"):
        return 0.5 * A * (1 + f["tanh"](math.sqrt(2 / math.pi) * (A + 0.044715 * A**3)))
    return 0.5 * A * (1 + f["erf"](A / math.sqrt(2)))


Part = Callable[[Tensor], Tensor]  # an inner stage of a combinator


def _in_sequence(f: Functions, parts: Sequence[Part], A: Tensor) -> Tensor:
    for part in parts:
        A = part(A)
    return A


COMBINATORS: Mapping[str, Callable[[Functions, Sequence[Part], Tensor], Tensor]] = {
    "serial": _in_sequence,
    "residual": lambda f, parts, A: A + _in_sequence(f, parts, A),
    "parallel": lambda f, parts, A: f["stack"]([part(A) for part in parts]),
}
STAGES: Mapping[str, Forward] = {
    "dense": lambda f, params, A, options: f["matmul"](params[0], A) + params[1],
    "identity": lambda f, params, A, options: 1 * A,
    "relu": lambda f, params, A, options: f["where"](A > 0, A, 0 * A),
    "leaky_relu": lambda f, params, A, options: f["where"](
        A > 0, A, _number(options, "slope", 0.01) * A
    ),
    "elu": lambda f, params, A, options: _elu(f, A, 1.0, _number(options, "alpha", 1.0)),
    "selu": lambda f, params, A, options: _elu(f, A, 1.0507009873554805, 1.6732632423543772),
    "gelu": lambda f, params, A, options: _gelu(f, A, options),
    "silu": lambda f, params, A, options: A * _logistic(f, A),
    "softplus": lambda f, params, A, options: _softplus(f, A),
    "tanh": lambda f, params, A, options: f["tanh"](A),
    "sigmoid": lambda f, params, A, options: _logistic(f, A),
    "layer_norm": _norm(0),
    "batch_norm": _norm(1),
}


def _binary(f: Functions, Z: Tensor, Y: Tensor, options: Options) -> Tensor:
    smoothing = _number(options, "label_smoothing", 0.0)
    Y = Y * (1 - smoothing) + smoothing / 2
    positive: Tensor | float = _number(options, "positive_weight", 1.0)
    if isinstance(positive, list | tuple):
        positive = f["array"](np.array(positive)[:, np.newaxis])
    return positive * Y * _softplus(f, -Z) + (1 - Y) * _softplus(f, Z)


def _classes(f: Functions, Z: Tensor, Y: Tensor, options: Options) -> Tensor:
    smoothing = _number(options, "label_smoothing", 0.0)
    Y = Y * (1 - smoothing) + smoothing / Z.shape[0]
    return -f["sum"](Y * (Z - f["log"](f["sum"](f["exp"](Z), 0))), 0)


def _huber(f: Functions, AL: Tensor, Y: Tensor, options: Options) -> Tensor:
    D, delta = f["abs"](AL - Y), _number(options, "delta", 1.0)
    return f["where"](delta > D, 0.5 * D**2, delta * (D - 0.5 * delta))


# `(functions, AL, Y, options) -> losses` of (k, m), whose weighted mean is the cost.
LOSSES: Mapping[str, Callable[[Functions, Tensor, Tensor, Options], Tensor]] = {
    "sigmoid_cross_entropy": _binary,
    "softmax_cross_entropy": _classes,
    "mean_squared": lambda f, AL, Y, options: (AL - Y) ** 2,
    "mean_absolute": lambda f, AL, Y, options: f["abs"](AL - Y),
    "huber": _huber,
    "poisson": lambda f, AL, Y, options: f["exp"](AL) - Y * AL,
}
