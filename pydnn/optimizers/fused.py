"""Fused kernels: the elementwise updates of a chain in one pass over memory.

Elementwise updates run block by block, so a chain makes one pass over memory: each part works on a
block that the part before it has left in the processor's cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import attrs
import numpy as np

from pydnn.engines import compilable, in_use, is_compilable
from pydnn.numerics import Numerics, empty, in_blocks
from pydnn.parameters import Layout, Packed
from pydnn.records import AnyArray, AnyDType, FloatArray, scalar

if TYPE_CHECKING:  # with a default, a plain `PendingUpdate` or transformation has any state
    from typing_extensions import TypeVar

    State = TypeVar("State", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")

__all__ = ["Begin", "PendingUpdate", "State", "States", "carried_out", "fuse", "multiply"]


@attrs.frozen(eq=False, slots=False)  # instances are created faster without slots
class PendingUpdate(Generic[State]):
    """An elementwise update that can run on any block of the vectors.

    Attributes:
        kernel: `(factor, *numbers, g, p, *read, *before, u, *after)`: reads blocks of the gradients
            g, the parameters p, the vectors `read` and the old vectors of the state, and fills
            blocks of the updates u, multiplied by `factor`, and of the new vectors of the state. If
            it is marked as `compilable`, the same kernel must serve in every step.
        before: The old vectors (size,) of the state.
        state: `(*after) -> state`, from the new vectors.
        factor: The factor for the kernel.
        numbers: Further numbers for the kernel, which gets them rounded to the dtype.
        read: Functions from the layout of the parameters to further vectors (size,) to read, which
            may hold truth values.
        merges: Whether it can be in a chain where the factors of neighbors are multiplied with each
            other. In other chains, each factor is a multiplication of its own, with a rounding of
            its own, and runs that are recorded have these bits.
        varies: Whether the factor is not the same in every step.
    """

    kernel: Callable[..., None]
    before: tuple[FloatArray, ...]
    state: Callable[..., State]
    factor: float = 1.0
    numbers: tuple[float, ...] = ()
    read: tuple[Callable[[Layout], AnyArray], ...] = ()
    merges: bool = True
    varies: bool = False


@compilable
def multiply(factor: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    """Serve as the kernel of an update that only multiplies; `fuse` hands its factor to others."""
    np.multiply(g, factor, u)


Begin: TypeAlias = Callable[[State, AnyDType, Numerics], PendingUpdate[State]]

States: TypeAlias = tuple[object, ...]  # of the parts of a chain


def carried_out(
    pending: PendingUpdate[State],
    grads: FloatArray,
    params: Packed,
    *,
    move: bool = False,
    keep: bool = True,
    factors: FloatArray | None = None,
) -> tuple[FloatArray, ...]:
    """Return the updates (size,), the new vectors of the state, and with `move` the parameters.

    Args:
        pending: The update.
        grads: Gradients, shape (size,).
        params: The parameters before the update.
        move: Whether to add the updates to the parameters, in the same pass over memory.
        keep: Whether to return the updates; False only together with `move`. Without them, a pass
            writes a quarter less.
        factors: A factor for each number (size,), instead of the factor of `pending`; not together
            with `move`.
    """
    # Few lines for most updates, since their time counts for small networks.
    kernel, before, dtype = pending.kernel, pending.before, grads.dtype
    vectors: tuple[AnyArray, ...] = (grads, params.vector, *before)
    if pending.read:
        read = [read(params.layout) for read in pending.read]
        vectors = (grads, params.vector, *read, *before)
    results = keep + len(before) + move
    forms = in_use.forms  # another thread may change it
    if forms is not None and is_compilable(kernel):
        made = forms.passes.carried_out(pending, vectors, results, move, keep, factors)
        if made is not None:
            return made  # type: ignore[no-any-return]
    numbers = [scalar(number, dtype) for number in pending.numbers] if pending.numbers else ()
    if factors is not None:
        return in_blocks(
            lambda factor, *blocks: kernel(factor, *numbers, *blocks),
            factors,
            *vectors,
            results=results,
        )
    step = functools.partial(kernel, scalar(pending.factor, dtype), *numbers)
    if not move:
        return in_blocks(step, *vectors, results=results)
    u = len(vectors)

    def moved(*blocks: FloatArray) -> None:
        if not keep:
            blocks = (*blocks[:u], empty(blocks[0].size, dtype), *blocks[u:])
        step(*blocks[:-1])
        np.add(blocks[1], blocks[u], blocks[-1])

    return in_blocks(moved, *vectors, results=results)


def fuse(begins: Sequence[Begin]) -> Begin[States]:
    """Return the `begin` of a chain, made of those of its parts.

    A part that only multiplies costs nothing where its factor goes to the kernel of the part before
    it.
    """

    def begin(states: States, dtype: AnyDType, numerics: Numerics) -> PendingUpdate[States]:
        # Plain loops, since this runs in every step and its time counts for small networks.
        updates = [each(state, dtype, numerics) for each, state in zip(begins, states, strict=True)]
        merges = all([update.merges for update in updates])
        before: tuple[FloatArray, ...] = ()
        places: list[slice] = []
        steps: list[tuple[PendingUpdate, float, bool]] = []
        for update in updates:
            start = len(before)
            before += update.before
            places.append(slice(start, len(before)))
            if steps and update.kernel is multiply:
                earlier, factor, varies = steps[-1]
                # The kernel must be the same in every step, and some factors are 1 only in some.
                if merges or (factor == 1 and not varies):
                    steps[-1] = earlier, factor * update.factor, varies or update.varies
                    continue
            steps.append((update, update.factor, update.varies))

        def state(*after: FloatArray) -> States:
            rows = zip(updates, places, strict=True)
            return tuple([update.state(*after[place]) for update, place in rows])

        last, factor, varies = steps[-1]
        if len(steps) == 1:  # as in most chains; parts that only multiply have no state
            kernel, numbers, read = last.kernel, last.numbers, last.read
            return PendingUpdate(kernel, before, state, factor, numbers, read, merges, varies)
        numbers, read, parts = (), (), []
        for update, own, _ in steps:
            parts.append((update.kernel, len(update.numbers), len(update.read), len(update.before)))
            numbers += (own, *update.numbers)
            read += update.read
        kernel = _in_sequence(tuple(parts))
        own_of_last = len(numbers) - 1 - len(last.numbers)
        numbers = numbers[:own_of_last] + numbers[own_of_last + 1 :]
        return PendingUpdate(kernel, before, state, factor, numbers, read, merges, varies)

    return begin


@functools.lru_cache(maxsize=64)
def _in_sequence(
    parts: tuple[tuple[Callable[..., None], int, int, int], ...],
) -> Callable[..., None]:
    """Return one kernel that runs several.

    Each part is a kernel and how many numbers, vectors to read and vectors of the state it has. The
    numbers of all but the last one begin with its factor. The last factor comes first, since a
    chain around this one may have multiplied it.
    """
    _, numbers_of, reads_of, states_of = zip(*parts, strict=True)
    count, reads, states = sum(numbers_of) + len(parts) - 1, sum(reads_of), sum(states_of)

    def kernel(factor: FloatArray, *rest: FloatArray) -> None:
        numbers, (g, p), read = rest[:count], rest[count : count + 2], rest[count + 2 :]
        before, updates, after = (
            read[reads : reads + states],
            read[reads + states],
            read[reads + states + 1 :],
        )
        spare = np.empty_like(updates)
        # No kernel may overwrite the gradients it reads, so the results alternate between the two
        # arrays, starting with the one that makes the last kernel fill the updates.
        number = vector = place = 0
        for left, (part, own_numbers, own_read, own_state) in zip(
            range(len(parts) - 1, -1, -1), parts, strict=True
        ):
            u = updates if left % 2 == 0 else spare
            own = factor
            if left:
                own, number = numbers[number], number + 1
            stop, end, last = number + own_numbers, vector + own_read, place + own_state
            part(
                own,
                *numbers[number:stop],
                g,
                p,
                *read[vector:end],
                *before[place:last],
                u,
                *after[place:last],
            )
            g, number, vector, place = u, stop, end, last

    return compilable(kernel) if all(is_compilable(part[0]) for part in parts) else kernel
