"""Fused kernels: elementwise updates of a chain in one pass over memory.

A pass can be done on any stretch of the vectors, so that those of a chain are one: each goes over
a stretch that is still in the processor's cache from the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import attrs
import numpy as np

from pydnn.numerics import Numerics
from pydnn.records import AnyDType, FloatArray, scalar

if TYPE_CHECKING:  # a `Pass`, or a transformation, alone is then one of any state
    from typing_extensions import TypeVar

    State = TypeVar("State", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")

__all__ = ["Begin", "Pass", "State", "States", "begin_all", "multiply"]


@attrs.frozen(eq=False)
class Pass(Generic[State]):
    """One update of a transformation that treats each number by itself, not yet done.

    Attributes:
        kernel: `(factor, g, p, *before, u, *after)`: for stretches of gradients g, of parameters
            p and of what was remembered before, fills those of updates u, multiplied by the
            factor, and of what is remembered after.
        before: The vectors (size,) that it remembers.
        state: `(*after) -> state`, from those that it will.
        factor: What the kernel is to be given; of a whole chain, that of its last part.
    """

    kernel: Callable[..., None]
    before: tuple[FloatArray, ...]
    state: Callable[..., State]
    factor: float = 1.0


def multiply(factor: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    """The kernel of a pass that does nothing else, and can be left to the one before it."""
    np.multiply(g, factor, u)


Begin: TypeAlias = Callable[[State, AnyDType, Numerics], Pass[State]]

States: TypeAlias = tuple[object, ...]  # of the parts of a chain


def begin_all(begins: Sequence[Begin]) -> Begin[States]:
    """How a chain begins its update, from how each of its parts does.

    A pass that only multiplies is left to the one before it, whose kernel is given the factor.
    """

    def begin(states: States, dtype: AnyDType, numerics: Numerics) -> Pass[States]:
        works = [each(state, dtype, numerics) for each, state in zip(begins, states, strict=True)]
        before = tuple(vector for work in works for vector in work.before)
        stops = list(itertools.accumulate(len(work.before) for work in works))
        places = [slice(a, b) for a, b in itertools.pairwise([0, *stops])]

        def state(*after: FloatArray) -> States:
            rows = zip(works, places, strict=True)
            return tuple(work.state(*after[place]) for work, place in rows)

        steps: list[tuple[Callable[..., None], slice, float]] = []
        for work, place in zip(works, places, strict=True):
            if steps and work.kernel is multiply:
                kernel, earlier, factor = steps[-1]
                steps[-1] = kernel, earlier, factor * work.factor
            else:
                steps.append((work.kernel, place, work.factor))
        return Pass(_one_by_one(steps, dtype), before, state, steps[-1][2])

    return begin


def _one_by_one(
    steps: Sequence[tuple[Callable[..., None], slice, float]], dtype: AnyDType
) -> Callable[..., None]:
    """The kernel that does several, each with its places among what is remembered, and factor."""
    remembered = max(place.stop for _, place, _ in steps)
    factors = [scalar(factor, dtype) for _, _, factor in steps[:-1]]

    def kernel(factor: FloatArray, g: FloatArray, p: FloatArray, *vectors: FloatArray) -> None:
        before, after = vectors[:remembered], vectors[remembered + 1 :]
        updates = vectors[remembered]
        spare = np.empty_like(updates) if factors else updates
        # From one stretch to the other and back, so that the last fills the updates.
        outs = [updates if i % 2 == 0 else spare for i in range(len(steps))][::-1]
        for (part, place, _), by, out in zip(steps, [*factors, factor], outs, strict=True):
            part(by, g, p, *before[place], out, *after[place])
            g = out

    return kernel
