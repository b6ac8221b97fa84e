"""Positions: numbers that are added to each step, so that attention knows where a step is."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.parameters import NO_PARAMS, Tree
from pydnn.records import WEIGHTS, FloatArray, arrays, freeze, readonly
from pydnn.stages.base import Context, Shape, Stage
from pydnn.stages.initializers import Initializer, normal

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["PositionsCache", "PositionsGrads", "PositionsParams", "positions", "sinusoids"]

_MOST_NUMBERS = 1 << 48  # 2 PiB of float64: a file may claim any size
_KINDS = ("sinusoidal", "learned")
_BITS = 110  # of the integers in which sines and cosines are computed


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class PositionsParams:
    """What is added at each step: P (T, n, 1), which broadcasts over examples."""

    P: FloatArray = attrs.field(metadata=WEIGHTS)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class PositionsGrads:
    """The gradient dP (T, n, 1) of the cost."""

    dP: FloatArray


@attrs.frozen(eq=False)
class PositionsCache:
    """What the backward pass needs: the arithmetic of the forward pass."""

    numerics: Numerics


@described("stage", drawn_by=["initializer"])
def positions(
    kind: str = "sinusoidal",
    *,
    initializer: Initializer = normal(scale=0.02),  # noqa: B008 - frozen
) -> Stage[Any, PositionsCache]:
    """Add numbers to each step of sequences (T, n) that depend on the number of the step.

    Attention treats all steps alike, so it needs them. There are two kinds:

    - "sinusoidal": feature 2 i of step t gets sin(t / 10000**(2 i / n)), and feature 2 i + 1 the
      cosine of the same. Nothing is learned, and sequences may have any number of steps.
    - "learned": the numbers are parameters P (T, n, 1), for sequences of up to the T steps that
      `init` gets.

    Args:
        kind: "sinusoidal" or "learned".
        initializer: How learned positions are drawn.

    Raises:
        BadInput: If the kind is unknown. `init` raises it for examples that are not sequences,
            `forward` for more steps than the learned positions have.

    References:
        Vaswani et al., Attention is all you need, 2017, section 3.5.

    Example:
        >>> stage = nn.positions()
        >>> A, _ = stage.forward((), np.zeros((3, 2, 1)), nn.Context())
        >>> A[:, :, 0].round(4)
        array([[ 0.    ,  1.    ],
               [ 0.8415,  0.5403],
               [ 0.9093, -0.4161]])
    """
    expect_known("kind of positions", kind, _KINDS)
    return _sinusoidal() if kind == "sinusoidal" else _learned(initializer)


def _expect_sequences(shape: Shape) -> None:
    if len(shape) != 2:
        raise BadInput(
            f"examples have shape {shape}, expected (T, n), sequences of T steps: put "
            "embedding(words, units) before positions, or reshape them first."
        )
    if math.prod(shape) > _MOST_NUMBERS:
        raise BadInput(
            f"sequences of shape {shape} have {math.prod(shape)} numbers, more than any machine "
            "holds: give shorter ones."
        )


def _sinusoidal() -> Stage[tuple[()], PositionsCache]:
    def init(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
        _expect_sequences(shape_in)
        return NO_PARAMS, shape_in

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, PositionsCache]:
        if A_prev.ndim != 3:
            _expect_sequences(A_prev.shape[:-1])
        T, n = A_prev.shape[:2]
        P = sinusoids(T, n).astype(A_prev.real.dtype)[:, :, np.newaxis]
        return freeze(np.add(A_prev, P, order="C")), PositionsCache(context.numerics)

    def backward(
        params: tuple[()], cache: PositionsCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return readonly(dA), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        return A_prev.op("Add", sinusoids(*A_prev.shape))

    return Stage("positions", init, forward, backward, lengths="kept", onnx=onnx)


def _learned(initializer: Initializer) -> Stage[PositionsParams, PositionsCache]:
    def init(key: Key, shape_in: Shape) -> tuple[PositionsParams, Shape]:
        _expect_sequences(shape_in)
        P = initializer.draw(key.at("P"), (shape_in[0], shape_in[1]))
        return PositionsParams(P[:, :, np.newaxis]), shape_in

    def forward(
        params: PositionsParams, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, PositionsCache]:
        T, n, _ = params.P.shape
        if A_prev.ndim != 3 or A_prev.shape[1] != n:
            hint = f"positions was initialized for sequences of {n} features"
            expect_shape("A_prev", A_prev, ("T", n, "m"), hint=hint)
        expect_same_dtype("A_prev", A_prev, params.P.dtype)
        steps = len(A_prev)
        if steps > T:
            raise BadInput(
                f"A_prev has {steps} steps, expected at most the {T} of the learned positions: "
                "give shorter sequences, or take positions('sinusoidal')."
            )
        A = np.add(A_prev, params.P[:steps], order="C")
        return freeze(A), PositionsCache(context.numerics)

    def backward(
        params: PositionsParams, cache: PositionsCache, dA: FloatArray
    ) -> tuple[FloatArray, PositionsGrads]:
        dP = np.zeros(params.P.shape, dA.dtype)
        cache.numerics.sum(dA, axis=2, out=dP[: len(dA)])
        return readonly(dA), PositionsGrads(freeze(dP))

    def onnx(params: PositionsParams, A_prev: Value, statistics: Tree) -> Value:
        return A_prev.op("Add", params.P[: A_prev.shape[0], :, 0])

    return Stage(
        "positions", init, forward, backward, gradients=PositionsGrads, lengths="kept", onnx=onnx
    )


def sinusoids(T: int, n: int) -> FloatArray:
    """Return the sines and cosines that `positions` adds, (T, n), the same on every machine.

    They are computed with integers, as multiples of 2**-110, and rounded to float64 at the end: the
    sine and cosine of each step follow from those of the step before by the addition theorems. The
    error before rounding is below T 2**-107.
    """
    # A sequence that grows step by step, as in sampling, needs few tables.
    return _table(1 << max(0, T - 1).bit_length(), n)[:T]


@functools.lru_cache(maxsize=8)
def _table(T: int, n: int) -> FloatArray:
    pairs = -(-n // 2)
    one = 1 << _BITS
    sines, cosines = zip(*(_sine_and_cosine(i, n) for i in range(pairs)), strict=True)
    sin_1, cos_1 = np.array(sines, object), np.array(cosines, object)
    sin, cos = np.array([0] * pairs, object), np.array([one] * pairs, object)
    table = np.empty((T, 2 * pairs))
    for t in range(T):
        table[t, ::2], table[t, 1::2] = sin / one, cos / one  # Python rounds this division once
        sin, cos = (
            (sin * cos_1 + cos * sin_1) >> _BITS,
            (cos * cos_1 - sin * sin_1) >> _BITS,
        )
    return freeze(np.ascontiguousarray(table[:, :n]))


def _sine_and_cosine(i: int, n: int) -> tuple[int, int]:
    """Return the sine and the cosine of 10000**(-2 i / n), in units of 2**-110."""
    from decimal import Context as Digits  # few need it, and it takes a while to import

    digits = Digits(prec=50)  # exp and ln are rounded correctly
    exponent = digits.divide(
        digits.multiply(digits.create_decimal(-2 * i), digits.ln(digits.create_decimal(10_000))),
        digits.create_decimal(n),
    )
    x = int(digits.multiply(digits.exp(exponent), digits.create_decimal(1 << _BITS)))
    sums = [0, 0]
    term, k = 1 << _BITS, 0
    while term:  # 1 - x**2/2! + ... and x - x**3/3! + ...
        sums[k % 2] += -term if k % 4 >= 2 else term
        k += 1
        term = (term * x >> _BITS) // k
    return sums[1], sums[0]
