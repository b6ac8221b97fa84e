"""Gradient transformations: pairs of pure functions, of which chains are optimisers.

Each works on the one vector of all gradients, and hands what it made of it to the next one. What
it must remember is a frozen record that is passed in and handed back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np

from pydnn.builders import Description, described
from pydnn.checks import BadInput, expect_count, expect_known, expect_real
from pydnn.numerics import Numerics, in_blocks, portable
from pydnn.numerics.underflow import bare, to_ignoring
from pydnn.packing import Packed, expect_names
from pydnn.passes import Begin, Pass, begin_all, multiply
from pydnn.records import FloatArray, arrays, freeze, scalar
from pydnn.schedules import Schedule
from pydnn.stages.base import EVALUATION, Context

__all__ = [
    "GradientTransformation",
    "accumulate",
    "average_parameters",
    "averaged",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "decay_l1",
    "decay_weights",
    "descend",
    "freeze_layers",
    "gradient_noise",
    "look",
    "number_by_number",
    "scale",
    "scale_layers",
    "skip_not_finite",
    "updated",
]


class Update(Protocol):
    """From gradients (size,) and a state to updates (size,) and the state after them."""

    def __call__(
        self, grads: FloatArray, state: Any, params: Packed, context: Context = EVALUATION, /
    ) -> tuple[FloatArray, Any]: ...


@attrs.frozen(eq=False)
class GradientTransformation:
    """A pair of pure functions from gradients to what is added to the parameters.

    Attributes:
        init: `(params) -> state`; a transformation without one has `()`.
        update: `(grads, state, params, context) -> (updates, state)`; `grads` and `updates` are
            vectors (size,) in the layout of `params`.
        observe: `(state) -> {name: value}`, what a reader of the training may want to see of an
            update, from the state after it.
        random: Whether `update` draws from `context.key`.
        outlives_bad: Whether training goes on after gradients that are not finite.
        isotropic: Whether all directions are alike to it, so that rotated gradients give rotated
            updates, for each array of parameters by itself.
        every: Iterations from one update to the next; more than 1 where gradients accumulate.
        schedule: The schedule of its learning rate, if it has one.
        begin: `(state, dtype, numerics) -> Pass`, of one that treats each number by itself; see
            `number_by_number`.
        description: How to `build` it again; filled in by `@described`.
    """

    init: Callable[[Packed], Any] = attrs.field(repr=False)
    update: Update = attrs.field(converter=to_ignoring, repr=False)
    observe: Callable[[Any], Mapping[str, Any]] = attrs.field(
        default=lambda state: {}, kw_only=True, repr=False
    )
    random: bool = attrs.field(default=False, kw_only=True, repr=False)
    outlives_bad: bool = attrs.field(default=False, kw_only=True, repr=False)
    isotropic: bool = attrs.field(default=False, kw_only=True, repr=False)
    every: int = attrs.field(default=1, kw_only=True, repr=False)
    schedule: Schedule | None = attrs.field(default=None, kw_only=True, repr=False)
    begin: Begin | None = attrs.field(default=None, kw_only=True, repr=False)
    description: Description | None = attrs.field(default=None, kw_only=True)


def stateless(
    function: Callable[[FloatArray, Packed, Context], FloatArray], **options: Any
) -> GradientTransformation:
    """A transformation that remembers nothing: `function(grads, params, context) -> updates`."""

    def update(
        grads: FloatArray, state: tuple[()], params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, tuple[()]]:
        return freeze(function(grads, params, context)), state

    return GradientTransformation(lambda params: (), update, **options)


def number_by_number(
    init: Callable[[Packed], Any], begin: Begin, **options: Any
) -> GradientTransformation:
    """A transformation that treats each number by itself, from how it begins an update."""

    def update(
        grads: FloatArray, state: Any, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, Any]:
        work = begin(state, grads.dtype, context.numerics)
        kernel = functools.partial(work.kernel, scalar(work.factor, grads.dtype))
        given = (grads, params.vector, *work.before)
        updates, *after = in_blocks(kernel, *given, results=1 + len(work.before))
        return updates, work.state(*after)

    return GradientTransformation(init, update, begin=begin, **options)


def updated(
    optimizer: GradientTransformation,
    grads: FloatArray,
    state: Any,
    params: Packed,
    context: Context = EVALUATION,
) -> tuple[FloatArray, FloatArray, Any]:
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
def chain(*parts: GradientTransformation) -> GradientTransformation:
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

    def init(params: Packed) -> tuple[Any, ...]:
        return tuple(part.init(params) for part in parts)

    def observe(states: tuple[Any, ...]) -> dict[str, Any]:
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
        "schedule": next((part.schedule for part in parts if part.schedule), None),
    }
    if parts and len(begins) == len(parts):
        return number_by_number(init, begin_all(begins), **known)

    part_updates = [bare(part.update) for part in parts]

    def update(
        grads: FloatArray, states: tuple[Any, ...], params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, tuple[Any, ...]]:
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
        return attrs.evolve(scale(-rate), observe=lambda state: seen)
    schedule = learning_rate

    def begin(state: DescentState, dtype: np.dtype[Any], numerics: Numerics) -> Pass:
        rate = schedule(state.count, numerics)
        return Pass(multiply, (), lambda: DescentState(state.count + 1, rate), -rate)

    return number_by_number(
        # An initial state has the same bits on every machine, whatever trains it.
        lambda params: DescentState(0, schedule(0, portable)),
        begin,
        observe=lambda state: {"learning_rate": state.learning_rate},
        isotropic=True,
        schedule=schedule,
    )


# Gradients that are made smaller, noisier, or nothing


@described("optimizer")
def clip_by_value(limit: float) -> GradientTransformation:
    """Keep each gradient between -limit and limit."""
    limit = expect_real("limit", limit, positive=True, hint="give the largest magnitude")
    return stateless(lambda grads, params, context: np.clip(grads, -limit, limit))


@attrs.frozen
class NormState:
    """The length that the last vector had before it was clipped."""

    norm: float


@described("optimizer")
def clip_by_global_norm(limit: float) -> GradientTransformation:
    """Shorten the vector of all gradients to length `limit` where it is longer.

    Its length before is observed as "norm_before_clip".

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
        2013, algorithm 1.
    """
    limit = expect_real("limit", limit, positive=True, hint="give the greatest length")

    def update(
        grads: FloatArray, state: NormState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, NormState]:
        norm = context.numerics.norm(grads)
        clipped = grads if norm <= limit else freeze(grads * grads.dtype.type(limit / norm))
        return clipped, NormState(norm)

    return GradientTransformation(
        lambda params: NormState(0.0),
        update,
        observe=lambda state: {"norm_before_clip": state.norm},
        isotropic=True,
    )


@attrs.frozen
class CountState:
    """How many updates were made."""

    count: int


@described("optimizer")
def gradient_noise(variance: float, *, decay: float = 0.55) -> GradientTransformation:
    """Add normal noise of variance `variance` / (1 + t) ** decay at update t, from 0.

    References:
        Neelakantan et al., Adding gradient noise improves learning for very deep networks, 2015.
    """
    variance = expect_real("variance", variance, least=0, hint="give that of the first update")
    decay = expect_real("decay", decay, least=0, most=16, hint="0 keeps the noise as it is")

    def update(
        grads: FloatArray, state: CountState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, CountState]:
        if context.key is None:
            raise BadInput("gradient_noise has no key: give Context(training=True, key=…).")
        power = context.numerics.power
        deviation = power(variance / power(1 + state.count, decay), 0.5)
        # Of its own address: two parts that draw must not draw the same.
        noise = deviation * context.key.at("gradient_noise").normal(grads.shape)
        return freeze(grads + noise.astype(grads.dtype)), CountState(state.count + 1)

    return GradientTransformation(lambda params: CountState(0), update, random=True)


@described("optimizer")
def freeze_layers(*names: str) -> GradientTransformation:
    """Update nothing of the arrays that `names` select; put it last in a chain.

    Args:
        names: As `Layout.selected` takes them: "0" is the first stage, "b" all biases.
    """
    return _on_some(names, lambda grads, params: 0, isotropic=True)


@described("optimizer")
def scale_layers(*names: str, factor: float) -> GradientTransformation:
    """Multiply by `factor` for the arrays that `names` select: a learning rate for each layer.

    Args:
        names: As `Layout.selected` takes them: "0" is the first stage, "b" all biases.
        factor: What their updates are multiplied by; the others stay.
    """
    factor = expect_real("factor", factor, least=0, hint="give a number, e.g. 0.1")
    return _on_some(names, lambda grads, params: grads * grads.dtype.type(factor), isotropic=True)


@described("optimizer")
def decay_weights(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times each weight: before `descend`, it decays by learning rate times `rate`.

    This is the decoupled form, which the steps before do not touch. By default biases, and the
    scales and shifts of normalisations, do not decay.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.
    """
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.01")
    return _on_some(
        only, lambda grads, params: grads + params * grads.dtype.type(rate), isotropic=True
    )


@described("optimizer")
def decay_l1(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times each weight's sign: the decoupled form of an L1 penalty."""
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.001")
    return _on_some(only, lambda grads, params: grads + np.sign(params) * grads.dtype.type(rate))


def _on_some(
    names: Sequence[str],
    function: Callable[[FloatArray, FloatArray], FloatArray | int],
    **options: Any,
) -> GradientTransformation:
    """`function(grads, params) -> updates` on the selected stretches; the others stay."""
    names = tuple(expect_names(names))

    def apply(grads: FloatArray, params: Packed, context: Context) -> FloatArray:
        updates = grads.copy()
        for stretch in params.layout.selected(names):
            updates[stretch] = function(grads[stretch], params.vector[stretch])
        return updates

    return stateless(apply, **options)


# Looking, and parts around others


@attrs.frozen(unsafe_hash=False)
class LookState:
    """What was seen at the last update."""

    value: Any = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))


_LOOKS: Mapping[str, Callable[[FloatArray, Context], Any]] = {
    "norm": lambda grads, context: context.numerics.norm(grads),
    "largest": lambda grads, context: float(np.max(np.abs(grads), initial=0.0)),
    "vector": lambda grads, context: grads,
}


@described("optimizer")
def look(name: str, *, at: str = "norm") -> GradientTransformation:
    """Hand everything on, and let a reader see it by `name` in `StepInfo.observed`.

    Args:
        name: What it is observed as.
        at: The vector's "norm", the "largest" magnitude in it, or the "vector" itself.
    """
    expect_known("thing to look at", at, _LOOKS)
    function = _LOOKS[at]
    nothing: Any = np.empty(0) if at == "vector" else 0.0

    def update(
        grads: FloatArray, state: LookState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, LookState]:
        return grads, LookState(function(grads, context))

    return GradientTransformation(
        lambda params: LookState(nothing),
        update,
        observe=lambda state: {name: state.value},
        isotropic=at == "norm",  # of which alone a reader sees the same
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AccumulationState:
    """Gradients of the batches since the last update, summed, and how many these are."""

    count: int
    total: FloatArray
    inner: Any


@described("optimizer")
def accumulate(inner: GradientTransformation, *, batches: int) -> GradientTransformation:
    """Give `inner` the mean gradient of so many `batches` at a time, and update nothing between.

    For batches of equal size that is the gradient of one that is so many times larger.

    Raises:
        BadInput: If `inner` accumulates already.
    """
    batches = expect_count("batches", batches, hint="give the batches of one update")
    if inner.every > 1 and batches > 1:
        raise BadInput(
            f"accumulate of {batches} batches is around an optimizer that accumulates "
            f"{inner.every} already, so nothing would change before {inner.every * batches} "
            f"batches: give one accumulate, with batches={inner.every * batches} if that is meant."
        )

    def update(
        grads: FloatArray, state: AccumulationState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, AccumulationState]:
        total, nothing = freeze(state.total + grads), _zeros_like(grads)
        if state.count + 1 < batches:
            return nothing, AccumulationState(state.count + 1, total, state.inner)
        mean = freeze(total / grads.dtype.type(batches))
        updates, after = bare(inner.update)(mean, state.inner, params, context)
        return updates, AccumulationState(0, nothing, after)

    return GradientTransformation(
        lambda params: AccumulationState(0, _zeros_like(params.vector), inner.init(params)),
        update,
        observe=lambda state: inner.observe(state.inner),
        random=inner.random,
        outlives_bad=inner.outlives_bad,
        isotropic=inner.isotropic,
        every=inner.every * batches,
        schedule=inner.schedule,
    )


@attrs.frozen(unsafe_hash=False)
class SkipState:
    """How many updates were left out so far."""

    skipped: int
    inner: Any


@described("optimizer")
def skip_not_finite(inner: GradientTransformation) -> GradientTransformation:
    """Leave an update out, and everything that `inner` remembers as it was, if it is not finite.

    How many were left out so far is observed as "skipped".
    """

    def update(
        grads: FloatArray, state: SkipState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, SkipState]:
        if np.isfinite(grads).all():
            updates, after = bare(inner.update)(grads, state.inner, params, context)
            if np.isfinite(updates).all():
                return updates, SkipState(state.skipped, after)
        return _zeros_like(grads), SkipState(state.skipped + 1, state.inner)

    return GradientTransformation(
        lambda params: SkipState(0, inner.init(params)),
        update,
        observe=lambda state: {**inner.observe(state.inner), "skipped": state.skipped},
        random=inner.random,
        outlives_bad=True,
        isotropic=inner.isotropic,
        every=inner.every,
        schedule=inner.schedule,
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AverageState:
    """The average of the parameters after each of `count` updates."""

    count: int
    average: FloatArray


@described("optimizer")
def average_parameters(*, decay: float | None = None) -> GradientTransformation:
    """Keep an average of the parameters after each update; put it last in a chain.

    Training goes on as without it, and the model that is saved has the last parameters. A model
    with the average is made from a run that was recorded with this in its recipe:

        opened, model = Run.open("runs/0001"), load_model("runs/0001/model.h5")
        state = opened.state(opened.iterations)
        average = opened.job.lifted(averaged(state.optimizer_state, state.parameters))
        save_model("averaged.h5", attrs.evolve(model, parameters=average))

    `Run`, `load_model` and `save_model` are in `pydnn.runs`; `pydnn evaluate averaged.h5` and
    `pydnn predict averaged.h5` take it as any other model.

    Args:
        decay: Share of the old average in the new one, which starts at the initial parameters.
            None is the plain mean over all updates.

    References:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """
    if decay is not None:
        hint = "give the share of the old average that stays, e.g. 0.99"
        decay = expect_real("decay", decay, least=0, below=1, hint=hint)

    def update(
        grads: FloatArray, state: AverageState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, AverageState]:
        keep = state.count / (state.count + 1) if decay is None else decay
        average = keep * state.average + (1 - keep) * (params.vector + grads)
        return grads, AverageState(state.count + 1, freeze(average))

    return GradientTransformation(
        lambda params: AverageState(0, params.vector), update, isotropic=True
    )


def averaged(optimizer_state: Any, parameters: Packed) -> Packed:
    """The average that `average_parameters` keeps, in the layout of `parameters`.

    Args:
        optimizer_state: That of a training whose optimiser has such a part, however deep.
        parameters: Of the same training.

    Raises:
        BadInput: If there is no such part.
    """
    found = _find_average(optimizer_state)
    if found is None:
        raise BadInput("no average was kept: put average_parameters() last in the optimiser.")
    return parameters.with_vector(found.average)


def _find_average(state: Any) -> AverageState | None:
    if isinstance(state, AverageState):
        return state
    inside = state if isinstance(state, tuple) else [getattr(state, "inner", ())]
    return next(filter(None, map(_find_average, inside)), None)


def _zeros_like(vector: FloatArray) -> FloatArray:
    return freeze(np.zeros_like(vector))
