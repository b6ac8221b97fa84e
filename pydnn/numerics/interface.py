"""What a stage may ask of its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs

from pydnn.records import FloatArray, Unchanging

__all__ = ["Numerics"]


class Product(Protocol):
    """The product of two matrices, into `out` where the caller has just made that."""

    def __call__(
        self, a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None
    ) -> FloatArray: ...


class Sum(Protocol):
    """Sums along one named axis, which stays in the result with size 1."""

    def __call__(
        self, a: FloatArray, /, *, axis: int, out: FloatArray | None = None
    ) -> FloatArray: ...


def _always_sound() -> None:
    """Refuses nothing: bits of one machine do not depend on what could spoil them elsewhere."""


def _as_it_is(X: FloatArray) -> FloatArray:
    return X


@attrs.frozen(eq=False, repr=False)
class Numerics(Unchanging):
    """One arithmetic: functions of arrays that change none of them, and its `name` in recipes.

    Results are new and still writable, so that the stage that asked may finish them in place
    before anybody else sees them.

    Attributes:
        name: Its name in recipes.
        exact: Whether its results have the same bits on every machine.
        expect_sound: Refuses, with BadInput, a process in which they would have other bits.
        prepare: Makes of examples the array that training reads at every step, with the same
            numbers. An arithmetic may return a copy that nobody can write to, so that it can keep
            what it computes from it.
    """

    name: str
    matmul: Product
    sum: Sum
    mean: Callable[[FloatArray], float]  # of all entries
    norm: Callable[[FloatArray], float]  # Euclidean length of a vector
    exp: Callable[[FloatArray], FloatArray]
    expm1: Callable[[FloatArray], FloatArray]
    log: Callable[[FloatArray], FloatArray]
    log1p: Callable[[FloatArray], FloatArray]
    tanh: Callable[[FloatArray], FloatArray]
    logistic: Callable[[FloatArray], FloatArray]  # 1 / (1 + exp(-Z)), with no exp that overflows
    erf: Callable[[FloatArray], FloatArray]
    positive_part: Callable[[FloatArray], FloatArray]  # max(Z, 0)
    power: Callable[[float, float], float]  # of single numbers, as is
    cosine: Callable[[float], float]  # this
    # Of float64 columns (n, k), k at most n: at most k orthonormal ones, whose span has them all.
    orthonormal_basis: Callable[[FloatArray], FloatArray]
    exact: bool = attrs.field(default=False, kw_only=True)
    expect_sound: Callable[[], None] = attrs.field(default=_always_sound, kw_only=True)
    prepare: Callable[[FloatArray], FloatArray] = attrs.field(default=_as_it_is, kw_only=True)

    def __repr__(self) -> str:
        return f"Numerics({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        from pydnn.numerics import ARITHMETICS  # which are records of this class

        if ARITHMETICS.get(self.name) is self:
            return _by_name, (self.name,)
        return _remade, (attrs.asdict(self, recurse=False),)


def _by_name(name: str) -> Numerics:
    from pydnn.numerics import ARITHMETICS

    return ARITHMETICS[name]


def _remade(fields: dict[str, Any]) -> Numerics:
    return Numerics(**fields)
