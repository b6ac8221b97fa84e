"""The record of functions that every arithmetic provides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from pydnn.numerics.geometry import Geometry
from pydnn.records import FloatArray, IntArray, Unchanging

__all__ = ["Convolution", "Numerics"]


class Product(Protocol):
    """A product of matrices; the caller may pass `out`, an array that it has just made."""

    def __call__(
        self, a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None
    ) -> FloatArray: ...


class Sum(Protocol):
    """Sums along one axis of an array or several, counted from 0, which keep size 1."""

    def __call__(
        self, a: FloatArray, /, *, axis: int | tuple[int, ...], out: FloatArray | None = None
    ) -> FloatArray: ...


class Gates(Protocol):
    """The logistic function of the first rows of a matrix, and tanh of the others."""

    def __call__(
        self, Z: FloatArray, sigmoids: int, /, *, out: FloatArray | None = None
    ) -> FloatArray: ...


class GroupedSum(Protocol):
    """Sums of columns by group; the caller may pass `out`, an array that it has just made."""

    def __call__(
        self,
        a: FloatArray,
        groups: IntArray,
        count: int,
        /,
        *,
        out: FloatArray | None = None,
    ) -> FloatArray: ...


class Convolved(Protocol):
    """The products of a kernel with all windows, plus a bias (C_out, 1)."""

    def __call__(
        self,
        A_prev: FloatArray,
        W: FloatArray,
        geometry: Geometry,
        /,
        *,
        bias: FloatArray | None = None,
    ) -> FloatArray: ...


class WeightGradient(Protocol):
    """The gradient of a kernel; the caller may pass `out`, an array that it has just made."""

    def __call__(
        self,
        A_prev: FloatArray,
        dZ: FloatArray,
        geometry: Geometry,
        /,
        *,
        out: FloatArray | None = None,
    ) -> FloatArray: ...


@attrs.frozen(eq=False)
class Convolution(Unchanging):
    """A convolution and its gradients, as pure functions of arrays in C order.

    A_prev is (H, W, C_in, m), dZ is (H', W', C_out, m) and W is (k_H, k_W, C_in / groups, C_out).
    The outputs of a group of channels depend on the inputs of that group alone.

    Attributes:
        product: `(A_prev, W, geometry, bias=None) -> Z`.
        weight_gradient: `(A_prev, dZ, geometry, out=None) -> dW`.
        input_gradient: `(W, dZ, geometry) -> dA_prev`, which is also a transposed convolution.
    """

    product: Convolved
    weight_gradient: WeightGradient
    input_gradient: Callable[[FloatArray, FloatArray, Geometry], FloatArray]


def _always_sound() -> None:
    """Refuse no process: this arithmetic does not promise the bits of other machines."""


def _as_it_is(X: FloatArray) -> FloatArray:
    return X


class SumOfRows(Protocol):
    """The sum along the first axis of a matrix that is not in memory."""

    def __call__(self, count: int, rows: Callable[[int, int], FloatArray], /) -> FloatArray: ...


@attrs.frozen(eq=False, repr=False)
class Numerics(Unchanging):
    """An arithmetic: functions that change none of their arguments.

    Results are new arrays that can still be written to, so a stage may finish them in place before
    anybody else holds them.

    Attributes:
        name: The name of the arithmetic in recipes.
        matmul: The product of two matrices, or of each pair of two stacks of matrices, as in
            `np.matmul`.
        sum: Sums of an array along one axis or several.
        mean: The mean of all entries of an array.
        norm: The Euclidean length of a vector.
        exp: exp of each number. This and the functions below, down to `positive_part`, take and
            return arrays of any shape.
        expm1: exp(x) - 1.
        log: The natural logarithm.
        log1p: log(1 + x).
        tanh: The hyperbolic tangent.
        logistic: 1 / (1 + exp(-x)), computed without an exp that could overflow.
        erf: The error function.
        positive_part: max(x, 0).
        power: `(x, y) -> x**y`, of two Python floats.
        cosine: The cosine of one Python float.
        orthonormal_basis: From float64 columns (n, k) with k <= n, at most k orthonormal columns
            that span them.
        summed_matmul: The sum of all products of two stacks of matrices (..., n, k) and
            (..., k, p), shape (n, p). It has no fingerprint of its own in recorded environments,
            since it is made of `matmul`.
        sum_groups: `(a, groups, count, out=None)`: for columns (..., n, m) and the group of each,
            (..., m), the sums of each of `count` groups, (count, n).
        gates: `(Z, sigmoids, out=None)`: the logistic function of the first `sigmoids` rows of a
            matrix, and tanh of the others, for recurrent stages. Errors are small beside 1, so a
            result near 0 may have fewer correct digits than those of `logistic` and `tanh`. `out`
            may be Z. It has no fingerprint of its own either.
        convolution: The products of a kernel with the windows of images, and their gradients.
        sum_rows: `(count, rows)`: `sum` along the first axis of a matrix (count, n), bit for bit,
            of which `rows(start, stop)` makes some rows as a new array in the memory order of the
            matrix, C or Fortran; so they need not be in memory at the same time. None for all at
            once.
        exact: Whether results have the same bits on every machine.
        expect_sound: A function that raises BadInput in a process where bits would differ.
        prepare: A function that training calls once on its examples, and a recurrent stage on the
            weights of all its steps. It returns the same numbers, possibly in an array that nobody
            can write to, so that the arithmetic can keep what it computes from them.
    """

    name: str
    matmul: Product
    sum: Sum
    mean: Callable[[FloatArray], float]
    norm: Callable[[FloatArray], float]
    exp: Callable[[FloatArray], FloatArray]
    expm1: Callable[[FloatArray], FloatArray]
    log: Callable[[FloatArray], FloatArray]
    log1p: Callable[[FloatArray], FloatArray]
    tanh: Callable[[FloatArray], FloatArray]
    logistic: Callable[[FloatArray], FloatArray]
    erf: Callable[[FloatArray], FloatArray]
    positive_part: Callable[[FloatArray], FloatArray]
    power: Callable[[float, float], float]
    cosine: Callable[[float], float]
    orthonormal_basis: Callable[[FloatArray], FloatArray]
    summed_matmul: Product = attrs.field(kw_only=True)
    sum_groups: GroupedSum = attrs.field(kw_only=True)
    gates: Gates = attrs.field(kw_only=True)
    convolution: Convolution = attrs.field(kw_only=True)
    sum_rows: SumOfRows | None = attrs.field(default=None, kw_only=True)
    exact: bool = attrs.field(default=False, kw_only=True)
    expect_sound: Callable[[], None] = attrs.field(default=_always_sound, kw_only=True)
    prepare: Callable[[FloatArray], FloatArray] = attrs.field(default=_as_it_is, kw_only=True)

    def __repr__(self) -> str:
        return f"Numerics({self.name!r})"
