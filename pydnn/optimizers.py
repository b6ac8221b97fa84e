"""Optimisers: chains of gradient transformations on the one vector of all parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from pydnn.builders import Description, described
from pydnn.checks import expect_real
from pydnn.packing import Packed
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import EVALUATION, Context

__all__ = ["GradientTransformation", "chain", "gradient_descent", "scale"]


class Update(Protocol):
    """From gradients (size,) and a state to updates (size,) and the state after them."""

    def __call__(
        self, grads: FloatArray, state: Any, params: Packed, context: Context = EVALUATION, /
    ) -> tuple[FloatArray, Any]: ...


@attrs.frozen(eq=False)
class GradientTransformation:
    """A pair of pure functions from gradients to what is added to the parameters.

    Attributes:
        init: `(params) -> state`.
        update: `(grads, state, params, context) -> (updates, state)`; `grads` and `updates` are
            vectors (size,) in the layout of `params`.
        observe: `(state) -> {name: number}`, what a reader of the training may want to see.
        description: How to `build` it again; filled in by `@described`.
    """

    init: Callable[[Packed], Any] = attrs.field(repr=False)
    update: Update = attrs.field(repr=False)
    observe: Callable[[Any], Mapping[str, float]] = attrs.field(
        default=lambda state: {}, kw_only=True, repr=False
    )
    description: Description | None = attrs.field(default=None, kw_only=True)


def scale(factor: float) -> GradientTransformation:
    """Multiply every gradient by `factor`; it has no state, which is written ()."""

    def update(
        grads: FloatArray, state: tuple[()], params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, tuple[()]]:
        return freeze(grads * grads.dtype.type(factor)), state

    return GradientTransformation(lambda params: (), update)


def chain(*parts: GradientTransformation) -> GradientTransformation:
    """Hand the updates of each part to the next one as its gradients."""

    def init(params: Packed) -> tuple[Any, ...]:
        return tuple(part.init(params) for part in parts)

    def update(
        grads: FloatArray, states: tuple[Any, ...], params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, tuple[Any, ...]]:
        after = []
        for part, state in zip(parts, states, strict=True):
            grads, state = part.update(grads, state, params, context)
            after.append(state)
        return grads, tuple(after)

    def observe(states: tuple[Any, ...]) -> dict[str, float]:
        seen: dict[str, float] = {}
        for part, state in zip(parts, states, strict=True):
            seen |= part.observe(state)
        return seen

    return GradientTransformation(init, update, observe=observe)


@described("optimizer")
def gradient_descent(*, learning_rate: float) -> GradientTransformation:
    """Plain gradient descent: each parameter goes `learning_rate` times its gradient downhill."""
    learning_rate = expect_real(
        "learning_rate", learning_rate, positive=True, hint="give a step size, e.g. 0.0075"
    )
    return attrs.evolve(
        scale(-learning_rate), observe=lambda state: {"learning_rate": learning_rate}
    )
