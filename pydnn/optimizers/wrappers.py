"""Wrappers around optimizers, and transformations that only observe or average."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_known, expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import bare
from pydnn.optimizers.base import GradientTransformation, number_by_number, zeros_like
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Packed
from pydnn.records import AnyDType, FloatArray, arrays, freeze, keep_readonly
from pydnn.stages.base import EVALUATION, Context

__all__ = ["accumulate", "average_parameters", "averaged", "look", "skip_not_finite"]


@keep_readonly
@attrs.frozen(unsafe_hash=False)
class LookState:
    """The value observed at the last update."""

    value: FloatArray | float = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))


_LOOKS: Mapping[str, Callable[[FloatArray, Context], FloatArray | float]] = {
    "norm": lambda grads, context: context.numerics.norm(grads),
    "largest": lambda grads, context: float(np.max(np.abs(grads), initial=0.0)),
    "vector": lambda grads, context: grads,
}


@described("optimizer")
def look(name: str, *, at: str = "norm") -> GradientTransformation:
    """Record the updates at this place of a chain in `StepInfo.observed`, and change nothing.

    Args:
        name: The key in `StepInfo.observed`.
        at: What to record: the "norm" of the vector, its "largest" magnitude, or the "vector".

    Raises:
        BadInput: If `at` is none of these.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> part = nn.optimizers.look("raw_norm")
        >>> updates, state = part.update(np.array([3.0, 4.0]), part.init(params), params)
        >>> updates, part.observe(state)
        (array([3., 4.]), {'raw_norm': 5.0})
    """
    expect_known("thing to look at", at, _LOOKS)
    function = _LOOKS[at]
    initial: FloatArray | float = np.empty(0) if at == "vector" else 0.0

    def update(
        grads: FloatArray, state: LookState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, LookState]:
        return grads, LookState(function(grads, context))

    return GradientTransformation(
        lambda params: LookState(initial),
        update,
        observe=lambda state: {name: state.value},
        isotropic=at == "norm",  # the only one of the three that a rotation does not change
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AccumulationState:
    """The number of batches since the last update, the sum of their gradients, and inner state."""

    count: int
    total: FloatArray
    inner: object


@described("optimizer")
def accumulate(inner: GradientTransformation, *, batches: int) -> GradientTransformation:
    """Update once every `batches` batches, with the mean of their gradients.

    For batches of equal size, this mean is the gradient of all their examples together. In
    between, updates are 0.

    Args:
        inner: The optimizer that gets the mean gradients.
        batches: Number of batches per update, 1 or more.

    Raises:
        BadInput: If `batches` is not a whole number above 0, or `inner` accumulates already.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.optimizers.accumulate(nn.gradient_descent(learning_rate=0.1), batches=2)
        >>> first, state = optimizer.update(np.full(2, 1.0), optimizer.init(params), params)
        >>> second, state = optimizer.update(np.full(2, 3.0), state, params)
        >>> first, second
        (array([0., 0.]), array([-0.2, -0.2]))
    """
    batches = expect_count("batches", batches, hint="give the number of batches per update")
    if inner.every > 1 and batches > 1:
        raise BadInput(
            f"accumulate of {batches} batches is around an optimizer that accumulates "
            f"{inner.every} already, so nothing would change before {inner.every * batches} "
            f"batches: give one accumulate, e.g. with batches={inner.every * batches}."
        )

    def update(
        grads: FloatArray, state: AccumulationState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, AccumulationState]:
        total, zeros = freeze(state.total + grads), zeros_like(grads)
        if state.count + 1 < batches:
            return zeros, AccumulationState(state.count + 1, total, state.inner)
        mean = freeze(total / grads.dtype.type(batches))
        updates, after = bare(inner.update)(mean, state.inner, params, context)
        return updates, AccumulationState(0, zeros, after)

    return GradientTransformation(
        lambda params: AccumulationState(0, zeros_like(params.vector), inner.init(params)),
        update,
        observe=lambda state: inner.observe(state.inner),
        random=inner.random,
        tolerates_nonfinite=inner.tolerates_nonfinite,
        isotropic=inner.isotropic,
        elementwise=inner.elementwise,
        every=inner.every * batches,
        learning_rate=inner.learning_rate,
        rate_last=inner.rate_last,
    )


@attrs.frozen(unsafe_hash=False)
class SkipState:
    """The number of updates skipped so far, and the state of the inner optimizer."""

    skipped: int
    inner: object


@described("optimizer")
def skip_not_finite(inner: GradientTransformation) -> GradientTransformation:
    """Skip an update if a gradient or an update is not finite, and keep the state of `inner`.

    The number of skipped updates is observed as "skipped".

    Args:
        inner: The optimizer.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.optimizers.skip_not_finite(nn.gradient_descent(learning_rate=0.1))
        >>> grads = np.array([1.0, np.nan])
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> updates, state.skipped
        (array([0., 0.]), 1)
    """

    def update(
        grads: FloatArray, state: SkipState, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, SkipState]:
        # `inner` must not get gradients that are not finite: its moments would never recover.
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
        tolerates_nonfinite=True,
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

    Training is the same as without it, and the saved model has the last parameters. To get a model
    with the average, record a run with this in its recipe, and then:

        run, model = nn.Run.open("runs/0001"), nn.load_model("runs/0001/model.h5")
        state = run.state(run.iterations)
        average = nn.optimizers.averaged(state.optimizer_state, state.parameters)
        attrs.evolve(model, parameters=run.job.inputs.lift(average)).save("averaged.h5")

    `pydnn evaluate` and `pydnn predict` take averaged.h5 like any other model.

    Args:
        decay: Share of the average that an update keeps, at least 0 and below 1; the average
            starts at the initial parameters. None means the plain mean over all updates.

    Raises:
        BadInput: If `decay` is out of its range.

    References:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1, initializer=nn.constant(5.0)).init(nn.Key(0), (1,))[0])
        >>> part = nn.average_parameters(decay=0.5)
        >>> updates, state = part.update(np.ones(2), part.init(params), params)
        >>> nn.optimizers.averaged(state, params)["W"]
        array([[5.5]])
    """
    if decay is not None:
        hint = "give the share of the average that an update keeps, e.g. 0.99"
        decay = expect_real("decay", decay, least=0, below=1, hint=hint)

    def begin(
        state: AverageState, dtype: AnyDType, numerics: Numerics
    ) -> PendingUpdate[AverageState]:
        # With this share the average stays the plain mean of all vectors so far.
        keep = state.count / (state.count + 1) if decay is None else decay

        def after(average: FloatArray) -> AverageState:
            return AverageState(state.count + 1, average)

        numbers = (keep, 1 - keep)
        return PendingUpdate(
            _average_kernel, (state.average,), after, numbers=numbers, merges=False
        )

    return number_by_number(lambda params: AverageState(0, params.vector), begin, isotropic=True)


@compilable
def _average_kernel(
    factor: FloatArray,
    keep: FloatArray,
    share: FloatArray,
    g: FloatArray,
    p: FloatArray,
    before: FloatArray,
    u: FloatArray,
    average: FloatArray,
) -> None:
    np.add(p, g, u)
    u *= share
    np.multiply(before, keep, average)
    average += u
    np.multiply(g, factor, u)


def averaged(optimizer_state: object, parameters: Packed) -> Packed:
    """Return the average that `average_parameters` keeps, in the layout of `parameters`.

    Args:
        optimizer_state: The state of an optimizer that contains `average_parameters` at any depth.
        parameters: The parameters of the same training.

    Raises:
        BadInput: If the optimizer does not contain it.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.optimizers.chain(nn.optimizers.descend(0.1), nn.average_parameters())
        >>> updates, state = optimizer.update(np.ones(2), optimizer.init(params), params)
        >>> nn.optimizers.averaged(state, params)["b"]
        array([[-0.1]])
    """
    state = _find_average(optimizer_state)
    if state is None:
        raise BadInput(
            "the optimizer's state has no average, expected one: put average_parameters() last in "
            "the optimizer."
        )
    return parameters.with_vector(state.average)


def _find_average(state: object) -> AverageState | None:
    if isinstance(state, AverageState):
        return state
    inside = state if isinstance(state, tuple) else [getattr(state, "inner", ())]
    return next(filter(None, map(_find_average, inside)), None)
