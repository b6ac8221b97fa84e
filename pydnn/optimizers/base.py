"""Gradient transformations, the building blocks of optimizers, and chains of them."""

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
from pydnn.optimizers.fused import Begin, PendingUpdate, State, States, carried_out, fuse, multiply
from pydnn.optimizers.schedules import Schedule
from pydnn.parameters import Packed
from pydnn.records import AnyDType, FloatArray, freeze
from pydnn.stages.base import EVALUATION, Context

Rate = float | Schedule  # a learning rate: a number, or a schedule of numbers

__all__ = [
    "GradientTransformation",
    "chain",
    "descend",
    "moved",
    "number_by_number",
    "scale",
    "updated",
]


class Update(Protocol[State]):
    """A function from gradients (size,) and a state to updates (size,) and the next state."""

    def __call__(
        self, grads: FloatArray, state: State, params: Packed, context: Context = EVALUATION, /
    ) -> tuple[FloatArray, State]: ...


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("update"))
class GradientTransformation(DescribedPart, Generic[State]):
    """An optimizer, or a part of one: pure functions from gradients to parameter updates.

    The type `GradientTransformation[AdamState]` means a transformation with this state; plain
    `GradientTransformation` means any. `attrs.evolve` keeps the flags below, so change those that
    no longer hold.

    Attributes:
        init: `(params) -> state`, which is `()` for a transformation without state.
        update: `(grads, state, params, context) -> (updates, state)`, where `grads` and `updates`
            are vectors (size,) in the layout of `params`. Training adds the updates to the
            parameters.
        observe: `(state) -> {name: value}`, values of the last update for `StepInfo.observed`.
        random: Whether `update` draws from `context.key`.
        tolerates_nonfinite: Whether training continues after gradients that are not finite.
        isotropic: Whether all directions are treated equally, so that rotating the gradients of an
            array rotates its updates.
        elementwise: Whether the update of a number depends only on the gradients, parameters and
            state of that number, so that the vectors of several trainings can be updated as one
            vector. The state must then be made of records, tuples, vectors (size,), and numbers
            that do not depend on the gradients.
        every: Number of iterations per update; more than 1 if gradients accumulate.
        learning_rate: The learning rate, a number or a schedule; None if there is none.
        rate_last: Whether the last operation multiplies by minus the learning rate, so that
            another learning rate changes only this factor.
        begin: `(state, dtype, numerics) -> PendingUpdate`, optional: the same computation as
            `update`, for any block of the vectors. `number_by_number` sets it. A transformation
            whose `update` alone was replaced loses it.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.gradient_descent(learning_rate=0.1)
        >>> updates, state = optimizer.update(np.array([3.0, -0.5]), optimizer.init(params), params)
        >>> updates
        array([-0.3 ,  0.05])
    """

    init: Callable[[Packed], State]
    update: Update[State]
    observe: Callable[[State], Mapping[str, Any]] = attrs.field(
        default=lambda state: {}, kw_only=True, repr=False
    )
    random: bool = attrs.field(default=False, kw_only=True)
    tolerates_nonfinite: bool = attrs.field(default=False, kw_only=True)
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
        """The schedule of the learning rate; None if the rate is a number or there is none."""
        return self.learning_rate if isinstance(self.learning_rate, Schedule) else None


def number_by_number(
    init: Callable[[Packed], State], begin: Begin[State], **options: Any
) -> GradientTransformation[State]:
    """Make an elementwise transformation that a chain can fuse with its neighbors.

    Args:
        init: `(params) -> state`.
        begin: `(state, dtype, numerics) -> PendingUpdate`.
        **options: Further fields of `GradientTransformation`.

    Example:
        >>> from pydnn.optimizers.fused import PendingUpdate
        >>> def halve(factor, g, p, u):
        ...     np.multiply(g, 0.5 * factor, out=u)
        >>> pending = PendingUpdate(halve, (), lambda: ())
        >>> half = nn.optimizers.number_by_number(lambda params: (), lambda *_: pending)
        >>> half.elementwise
        True
    """

    def update(
        grads: FloatArray, state: State, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, State]:
        pending = begin(state, grads.dtype, context.numerics)
        updates, *after = carried_out(pending, grads, params)
        return updates, pending.state(*after)

    # A new object for each transformation, since it carries a mark that it belongs to `update`.
    own = functools.partial(begin)
    return GradientTransformation(init, update, begin=own, elementwise=True, **options)


def updated(
    optimizer: GradientTransformation[State],
    grads: FloatArray,
    state: State,
    params: Packed,
    context: Context = EVALUATION,
) -> tuple[FloatArray, FloatArray, State]:
    """Compute one update of the parameters, in one pass over memory if `optimizer.begin` allows it.

    Args:
        optimizer: The optimizer.
        grads: Gradients, shape (size,).
        state: The optimizer's state before the update.
        params: The parameters before the update.
        context: The arithmetic and the randomness of the step.

    Returns:
        The updates (size,), the new vector of parameters (size,), and the new state.
    """
    if optimizer.begin is None:
        updates, state = bare(optimizer.update)(grads, state, params, context)
        return updates, in_blocks(np.add, params.vector, updates)[0], state
    pending = optimizer.begin(state, grads.dtype, context.numerics)
    results = carried_out(pending, grads, params, move=True)
    return results[0], results[-1], pending.state(*results[1:-1])


def moved(
    optimizer: GradientTransformation[State],
    grads: FloatArray,
    state: State,
    params: Packed,
    context: Context = EVALUATION,
) -> tuple[FloatArray, State]:
    """Do the same as `updated`, without the updates: return the new parameters and the new state.

    Where the optimizer makes one pass over memory, the updates are never written to it.
    """
    if optimizer.begin is None:
        _, vector, state = updated(optimizer, grads, state, params, context)
        return vector, state
    pending = optimizer.begin(state, grads.dtype, context.numerics)
    *after, vector = carried_out(pending, grads, params, move=True, keep=False)
    return vector, pending.state(*after)


@described("optimizer")
def chain(*parts: GradientTransformation) -> GradientTransformation[States]:
    """Apply transformations in order: the updates of each are the gradients of the next.

    A chain observes what its parts observe. If two use the same name, the later one wins.

    Args:
        *parts: The transformations in order; most chains end with `descend`.

    Raises:
        BadInput: If a part is not a gradient transformation, or more than one accumulates.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.optimizers.chain(nn.clip_by_global_norm(1.0), nn.optimizers.descend(0.1))
        >>> updates, state = optimizer.update(np.array([3.0, 4.0]), optimizer.init(params), params)
        >>> updates, dict(optimizer.observe(state))
        (array([-0.06, -0.08]), {'norm_before_clip': 5.0, 'learning_rate': 0.1})
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
        observed: dict[str, Any] = {}
        for part, state in zip(parts, states, strict=True):
            observed |= part.observe(state)
        return observed

    begins = [part.begin for part in parts if part.begin is not None]
    flags: dict[str, Any] = {
        "observe": observe,
        "isotropic": all(part.isotropic for part in parts),
        "every": max((part.every for part in parts), default=1),
        "learning_rate": next(filter(None, (part.learning_rate for part in parts)), None),
        # Only if the last part alone has a rate: an earlier rate would be a second factor.
        "rate_last": [part.rate_last for part in parts if part.learning_rate] == [True]
        and parts[-1].rate_last,
    }
    if parts and len(begins) == len(parts):
        return number_by_number(init, fuse(begins), **flags)

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
        tolerates_nonfinite=any(part.tolerates_nonfinite for part in parts),
        elementwise=all(part.elementwise for part in parts),
        **flags,
    )


@described("optimizer")
def scale(factor: float) -> GradientTransformation:
    """Multiply every gradient by `factor`.

    Raises:
        BadInput: If `factor` is not a finite number.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> nn.optimizers.scale(0.5).update(np.array([2.0, -4.0]), (), params)
        (array([ 1., -2.]), ())
    """
    factor = expect_real("factor", factor, hint="give a number")
    # Made once instead of at every step, since that time counts for small networks.
    pending = PendingUpdate(multiply, (), lambda: (), factor)
    return number_by_number(
        lambda params: (), lambda state, dtype, numerics: pending, isotropic=True
    )


@attrs.frozen
class DescentState:
    """The number of updates so far, and the learning rate of the last one."""

    count: int
    learning_rate: float


@described("optimizer")
def descend(learning_rate: float | Schedule) -> GradientTransformation:
    """Multiply every gradient by minus the learning rate; the last part of most chains.

    The rate is observed as "learning_rate".

    Args:
        learning_rate: A number above 0, or a schedule of the number of updates so far.

    Raises:
        BadInput: If `learning_rate` is neither.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.descend(nn.step_decay(0.1, factor=0.5, every=1))
        >>> first, state = part.update(np.ones(2), part.init(params), params)
        >>> second, state = part.update(np.ones(2), state, params)
        >>> first, second
        (array([-0.1, -0.1]), array([-0.05, -0.05]))
    """
    if not isinstance(learning_rate, Schedule):
        hint = "give a step size, e.g. 0.0075, or a schedule"
        rate = expect_real("learning_rate", learning_rate, positive=True, hint=hint)
        observed = {"learning_rate": rate}
        return attrs.evolve(
            scale(-rate), observe=lambda state: observed, learning_rate=rate, rate_last=True
        )
    schedule = learning_rate

    def begin(
        state: DescentState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[DescentState]:
        rate = schedule(state.count, numerics)
        after = DescentState(state.count + 1, rate)
        return PendingUpdate(multiply, (), lambda: after, -rate, varies=True)

    return number_by_number(
        # Portable, since an initial state has the same bits on every machine in any arithmetic.
        lambda params: DescentState(0, schedule(0, portable)),
        begin,
        observe=lambda state: {"learning_rate": state.learning_rate},
        isotropic=True,
        learning_rate=schedule,
        rate_last=True,
    )


def zeros_like(vector: FloatArray) -> FloatArray:
    """Return read-only zeros of the shape and dtype of `vector`."""
    return freeze(np.zeros_like(vector))


def moving_average(
    mean: FloatArray,
    decay: FloatArray,
    new: FloatArray,
    share: FloatArray,
    out: FloatArray,
    room: FloatArray,
) -> None:
    """Fill `out` with decay * mean + share * new; `room` is work memory, and may be `new`."""
    np.multiply(mean, decay, out)
    out += np.multiply(new, share, room)


def expect_decay_rate(name: str, value: float) -> float:
    """Return `value` as a float; raise BadInput unless it is at least 0 and below 1."""
    return expect_real(name, value, least=0, below=1, hint="give the share that stays, e.g. 0.9")
