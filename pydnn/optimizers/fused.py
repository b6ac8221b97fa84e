"""Fused kernels: the elementwise updates of a chain in one pass over memory.

Elementwise updates run block by block, so a chain makes one pass over memory: each part works on a
block that the part before it has left in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import attrs
import numpy as np

from pydnn.numerics import Numerics
from pydnn.records import AnyDType, FloatArray, scalar

if TYPE_CHECKING:  # with a default, a plain `PendingUpdate` or transformation has any state
    from typing_extensions import TypeVar

    State = TypeVar("State", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")

__all__ = ["Begin", "PendingUpdate", "State", "States", "fuse", "multiply"]


@attrs.frozen(eq=False)
class PendingUpdate(Generic[State]):
    """An elementwise update that can run on any block of the vectors.

    Attributes:
        kernel: `(factor, g, p, *before, u, *after)`: reads blocks of the gradients g, the
            parameters p and the old vectors of the state, and fills blocks of the updates u,
            multiplied by `factor`, and of the new vectors of the state.
        before: The old vectors (size,) of the state.
        state: `(*after) -> state`, from the new vectors.
        factor: The factor for the kernel.
    """

    kernel: Callable[..., None]
    before: tuple[FloatArray, ...]
    state: Callable[..., State]
    factor: float = 1.0


def multiply(factor: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    """Serve as the kernel of an update that only multiplies; `fuse` hands its factor to others."""
    np.multiply(g, factor, u)


Begin: TypeAlias = Callable[[State, AnyDType, Numerics], PendingUpdate[State]]

States: TypeAlias = tuple[object, ...]  # of the parts of a chain


def fuse(begins: Sequence[Begin]) -> Begin[States]:
    """Return the `begin` of a chain, made of those of its parts.

    A part that only multiplies costs nothing: its factor goes to the kernel of the part before it.
    """

    def begin(states: States, dtype: AnyDType, numerics: Numerics) -> PendingUpdate[States]:
        # Plain loops, since this runs in every step and its time counts for small networks.
        updates = [each(state, dtype, numerics) for each, state in zip(begins, states, strict=True)]
        before: tuple[FloatArray, ...] = ()
        places: list[slice] = []
        steps: list[tuple[Callable[..., None], slice, float]] = []
        for update in updates:
            start = len(before)
            before += update.before
            places.append(place := slice(start, len(before)))
            if steps and update.kernel is multiply:
                kernel, earlier, factor = steps[-1]
                steps[-1] = kernel, earlier, factor * update.factor
            else:
                steps.append((update.kernel, place, update.factor))

        def state(*after: FloatArray) -> States:
            rows = zip(updates, places, strict=True)
            return tuple([update.state(*after[place]) for update, place in rows])

        return PendingUpdate(_in_sequence(steps, dtype), before, state, steps[-1][2])

    return begin


def _in_sequence(
    steps: Sequence[tuple[Callable[..., None], slice, float]], dtype: AnyDType
) -> Callable[..., None]:
    """Return one kernel that runs several: each with its slice of the state and its factor."""
    if len(steps) == 1:  # as in most chains; it has the whole state
        return steps[0][0]
    in_state = max(place.stop for _, place, _ in steps)
    # The last factor is an argument instead: a chain around this one may have multiplied it.
    factors = [scalar(factor, dtype) for _, _, factor in steps[:-1]]

    def kernel(factor: FloatArray, g: FloatArray, p: FloatArray, *vectors: FloatArray) -> None:
        before, after = vectors[:in_state], vectors[in_state + 1 :]
        updates = vectors[in_state]
        spare = np.empty_like(updates) if factors else updates
        # No kernel may overwrite the gradients it reads, so the results alternate between the two
        # arrays, starting with the one that makes the last kernel fill the updates.
        outs = [updates if i % 2 == 0 else spare for i in range(len(steps))][::-1]
        for (part, place, _), own, out in zip(steps, [*factors, factor], outs, strict=True):
            part(own, g, p, *before[place], out, *after[place])
            g = out

    return kernel
