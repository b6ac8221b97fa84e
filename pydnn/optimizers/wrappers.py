"""Wrappers around an optimizer, and transformations that only observe or average."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_known, expect_real
from pydnn.descriptions.builders import described
from pydnn.numerics.underflow import bare
from pydnn.optimizers.base import GradientTransformation, zeros_like
from pydnn.parameters import Packed
from pydnn.records import FloatArray, arrays, freeze, keep_readonly
from pydnn.stages.base import EVALUATION, Context

__all__ = ["accumulate", "average_parameters", "averaged", "look", "skip_not_finite"]


# Looking, and parts around others


@keep_readonly
@attrs.frozen(unsafe_hash=False)
class LookState:
    """What was seen at the last update."""

    value: FloatArray | float = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))


_LOOKS: Mapping[str, Callable[[FloatArray, Context], FloatArray | float]] = {
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
    nothing: FloatArray | float = np.empty(0) if at == "vector" else 0.0

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
    inner: object


@described("optimizer")
def accumulate(inner: GradientTransformation, *, batches: int) -> GradientTransformation:
    """Give `inner` the mean gradient of every `batches` batches, and update nothing in between.

    For batches of equal size, that is the gradient of all their examples together.

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
        total, nothing = freeze(state.total + grads), zeros_like(grads)
        if state.count + 1 < batches:
            return nothing, AccumulationState(state.count + 1, total, state.inner)
        mean = freeze(total / grads.dtype.type(batches))
        updates, after = bare(inner.update)(mean, state.inner, params, context)
        return updates, AccumulationState(0, nothing, after)

    return GradientTransformation(
        lambda params: AccumulationState(0, zeros_like(params.vector), inner.init(params)),
        update,
        observe=lambda state: inner.observe(state.inner),
        random=inner.random,
        outlives_bad=inner.outlives_bad,
        isotropic=inner.isotropic,
        elementwise=inner.elementwise,
        every=inner.every * batches,
        learning_rate=inner.learning_rate,
        rate_last=inner.rate_last,
    )


@attrs.frozen(unsafe_hash=False)
class SkipState:
    """How many updates were left out so far."""

    skipped: int
    inner: object


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
        return zeros_like(grads), SkipState(state.skipped + 1, state.inner)

    return GradientTransformation(
        lambda params: SkipState(0, inner.init(params)),
        update,
        observe=lambda state: {**inner.observe(state.inner), "skipped": state.skipped},
        random=inner.random,
        outlives_bad=True,
        isotropic=inner.isotropic,
        every=inner.every,
        learning_rate=inner.learning_rate,
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
        average = opened.job.inputs.lift(averaged(state.optimizer_state, state.parameters))
        attrs.evolve(model, parameters=average).save("averaged.h5")

    `Run` and `load_model` are in `pydnn`; `pydnn evaluate averaged.h5` and
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
        lambda params: AverageState(0, params.vector), update, isotropic=True, elementwise=True
    )


def averaged(optimizer_state: object, parameters: Packed) -> Packed:
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


def _find_average(state: object) -> AverageState | None:
    if isinstance(state, AverageState):
        return state
    inside = state if isinstance(state, tuple) else [getattr(state, "inner", ())]
    return next(filter(None, map(_find_average, inside)), None)
