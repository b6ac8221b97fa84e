"""What every optimizer is made of: gradient transformations, and chains of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.numerics import Numerics, in_blocks, portable
from pydnn.numerics.underflow import bare, belongs, ignoring_in
from pydnn.optimizers.fused import Begin, Pass, State, States, begin_all, multiply
from pydnn.optimizers.schedules import Schedule
from pydnn.parameters import Packed
from pydnn.records import AnyDType, FloatArray, freeze, scalar
from pydnn.stages.base import EVALUATION, Context

Rate = float | Schedule  # a learning rate

__all__ = ["GradientTransformation", "chain", "descend", "number_by_number", "scale", "updated"]


class Update(Protocol[State]):
    """From gradients (size,) and a state to updates (size,) and the state after them."""

    def __call__(
        self, grads: FloatArray, state: State, params: Packed, context: Context = EVALUATION, /
    ) -> tuple[FloatArray, State]: ...


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("update"))
class GradientTransformation(DescribedPart, Generic[State]):
    """A pair of pure functions from gradients to what is added to the parameters.

    `GradientTransformation[AdamState]` is one with this state; without it, one of any state.

    Attributes:
        init: `(params) -> state`; a transformation without one has `()`.
        update: `(grads, state, params, context) -> (updates, state)`; `grads` and `updates` are
            vectors (size,) in the layout of `params`.
        observe: `(state) -> {name: value}`, what a reader of the training may want to see of an
            update, from the state after it.
        random: Whether `update` draws from `context.key`.
        outlives_bad: Whether training goes on after gradients that are not finite.
        isotropic: Whether all directions are alike to it, so that rotated gradients give rotated
            updates, for each array of parameters alone.
        elementwise: Whether the update of a number depends on no other number, so that the
            vectors of several runs can be updated as one vector. It then remembers records and
            tuples of vectors (size,), and of numbers that are the same whatever the gradients.
        every: Iterations from one update to the next; more than 1 where gradients accumulate.
        learning_rate: The learning rate, a number or a schedule, if it has one.
        rate_last: Whether multiplying by minus the learning rate is the last that it does, so
            that with another rate only this factor is another one.
        begin: `(state, dtype, numerics) -> Pass`, of one that can update any stretch of the
            vectors alone; see `number_by_number`. It computes the same as `update`: one whose
            `update` was replaced alone has none. `attrs.evolve` keeps the flags above, so change
            those that no longer hold.
    """

    init: Callable[[Packed], State]
    update: Update[State]
    observe: Callable[[State], Mapping[str, Any]] = attrs.field(
        default=lambda state: {}, kw_only=True, repr=False
    )
    random: bool = attrs.field(default=False, kw_only=True)
    outlives_bad: bool = attrs.field(default=False, kw_only=True)
    isotropic: bool = attrs.field(default=False, kw_only=True)
    elementwise: bool = attrs.field(default=False, kw_only=True)
    every: int = attrs.field(default=1, kw_only=True)
    learning_rate: Rate | None = attrs.field(default=None, kw_only=True)
    rate_last: bool = attrs.field(default=False, kw_only=True)
    begin: Begin[State] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.begin is not None and not belongs(self.begin, self.update):
            object.__setattr__(self, "begin", None)

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of its learning rate, if it has one."""
        return self.learning_rate if isinstance(self.learning_rate, Schedule) else None


def stateless(
    function: Callable[[FloatArray, Packed, Context], FloatArray], **options: Any
) -> GradientTransformation[tuple[()]]:
    """A transformation that remembers nothing: `function(grads, params, context) -> updates`."""

    def update(
        grads: FloatArray, state: tuple[()], params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, tuple[()]]:
        return freeze(function(grads, params, context)), state

    return GradientTransformation(lambda params: (), update, **options)


def number_by_number(
    init: Callable[[Packed], State], begin: Begin[State], **options: Any
) -> GradientTransformation[State]:
    """An elementwise transformation, from how it begins an update."""

    def update(
        grads: FloatArray, state: State, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, State]:
        work = begin(state, grads.dtype, context.numerics)
        kernel = functools.partial(work.kernel, scalar(work.factor, grads.dtype))
        given = (grads, params.vector, *work.before)
        updates, *after = in_blocks(kernel, *given, results=1 + len(work.before))
        return updates, work.state(*after)

    # An object of its own, which can say that it belongs to this `update`.
    own = functools.partial(begin)
    return GradientTransformation(init, update, begin=own, elementwise=True, **options)


def updated(
    optimizer: GradientTransformation[State],
    grads: FloatArray,
    state: State,
    params: Packed,
    context: Context = EVALUATION,
) -> tuple[FloatArray, FloatArray, State]:
    """The updates, the vector of parameters with them, and the optimiser's state after them.

    All in one pass over the vectors, where the optimiser treats each number by itself.
    """
    if optimizer.begin is None:
        updates, state = bare(optimizer.update)(grads, state, params, context)
        return updates, in_blocks(np.add, params.vector, updates)[0], state
    work = optimizer.begin(state, grads.dtype, context.numerics)
    kernel, before = work.kernel, work.before
    factor, place = scalar(work.factor, grads.dtype), 2 + len(before)

    def step(*vectors: FloatArray) -> None:
        kernel(factor, *vectors[:-1])
        np.add(vectors[1], vectors[place], vectors[-1])

    made = in_blocks(step, grads, params.vector, *before, results=place)
    return made[0], made[-1], work.state(*made[1:-1])


@described("optimizer")
def chain(*parts: GradientTransformation) -> GradientTransformation[States]:
    """Hand the updates of each part to the next one as its gradients.

    What its parts let a reader observe, it lets a reader observe; where two use one name, the
    later part's is seen.

    Raises:
        BadInput: If a part is not a gradient transformation, or more than one accumulates.
    """
    for i, part in enumerate(parts):
        if not isinstance(part, GradientTransformation):
            raise BadInput(
                f"chain got {part!r} as part {i}, expected a gradient transformation: "
                "call its builder."
            )

    accumulating = [part.every for part in parts if part.every > 1]
    if len(accumulating) > 1:
        raise BadInput(
            f"chain got parts that accumulate {' and '.join(map(str, accumulating))} batches, "
            "expected one such part: put accumulate around the whole chain."
        )

    def init(params: Packed) -> States:
        return tuple(part.init(params) for part in parts)

    def observe(states: States) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for part, state in zip(parts, states, strict=True):
            seen |= part.observe(state)
        return seen

    # One part after another on each stretch, where all of them treat each number by itself.
    begins = [part.begin for part in parts if part.begin is not None]
    known: dict[str, Any] = {
        "observe": observe,
        "isotropic": all(part.isotropic for part in parts),
        "every": max((part.every for part in parts), default=1),
        "learning_rate": next(filter(None, (part.learning_rate for part in parts)), None),
        # Not where an earlier part has a rate, too, by which the last one is not the only factor.
        "rate_last": [part.rate_last for part in parts if part.learning_rate] == [True]
        and parts[-1].rate_last,
    }
    if parts and len(begins) == len(parts):
        return number_by_number(init, begin_all(begins), **known)

    part_updates = [bare(part.update) for part in parts]

    def update(
        grads: FloatArray, states: States, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, States]:
        after = []
        for part_update, state in zip(part_updates, states, strict=True):
            grads, state = part_update(grads, state, params, context)
            after.append(state)
        return grads, tuple(after)

    return GradientTransformation(
        init,
        update,
        random=any(part.random for part in parts),
        outlives_bad=any(part.outlives_bad for part in parts),
        elementwise=all(part.elementwise for part in parts),
        **known,
    )


@described("optimizer")
def scale(factor: float) -> GradientTransformation:
    """Multiply every gradient by `factor`."""
    factor = expect_real("factor", factor, hint="give a number")
    # The same at every step: what is not made anew, small networks need not pay for.
    work = Pass(multiply, (), lambda: (), factor)
    return number_by_number(lambda params: (), lambda state, dtype, numerics: work, isotropic=True)


@attrs.frozen
class DescentState:
    """How many updates were made, and the learning rate of the last one."""

    count: int
    learning_rate: float


@described("optimizer")
def descend(learning_rate: float | Schedule) -> GradientTransformation:
    """Multiply by minus the learning rate: the last part of most chains.

    The rate is observed as "learning_rate". A schedule counts the updates that come here.
    """
    if not isinstance(learning_rate, Schedule):
        hint = "give a step size, e.g. 0.0075, or a schedule"
        rate = expect_real("learning_rate", learning_rate, positive=True, hint=hint)
        seen = {"learning_rate": rate}
        return attrs.evolve(
            scale(-rate), observe=lambda state: seen, learning_rate=rate, rate_last=True
        )
    schedule = learning_rate

    def begin(state: DescentState, dtype: AnyDType, numerics: Numerics) -> Pass[DescentState]:
        rate = schedule(state.count, numerics)
        return Pass(multiply, (), lambda: DescentState(state.count + 1, rate), -rate)

    return number_by_number(
        # An initial state has the same bits on every machine, whatever trains it.
        lambda params: DescentState(0, schedule(0, portable)),
        begin,
        observe=lambda state: {"learning_rate": state.learning_rate},
        isotropic=True,
        learning_rate=schedule,
        rate_last=True,
    )


def zeros_like(vector: FloatArray) -> FloatArray:
    return freeze(np.zeros_like(vector))


def moving_average(mean: FloatArray, towards: FloatArray, decay: float) -> FloatArray:
    """Decay * mean + (1 - decay) * towards, new and still writable."""
    moved = mean * mean.dtype.type(decay)
    moved += towards * mean.dtype.type(1 - decay)
    return moved


def expect_decay_rate(name: str, value: float) -> float:
    return expect_real(name, value, least=0, below=1, hint="give the share that stays, e.g. 0.9")
