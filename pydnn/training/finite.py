"""Stops training when a number is not finite, and reports the place where that began."""

from __future__ import annotations

import math

import attrs
import numpy as np

from pydnn.numerics import Numerics, fast
from pydnn.parameters import Packed, Tree, leaves
from pydnn.records import FloatArray
from pydnn.stages.base import Context, Stage, map_stages
from pydnn.training.pipeline import Part, Step, TrainState, made_again_by
from pydnn.training.step import step_context

__all__ = ["NotFinite", "ignoring_overflow", "watch_finite"]


class NotFinite(ArithmeticError):  # noqa: N818 - named after the finding
    """A training step computed an infinite number or NaN.

    Attributes:
        iteration: The iteration of that step.
        where: The part of the step, and the stage or array, where the first such number arose.
        state: The state before that step, in which everything is finite.

    Example:
        >>> optimizer = "momentum(learning_rate=1e200)"
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", optimizer, iterations=9)
        >>> try:
        ...     nn.train(recipe, nn.Batch([[0.0, 1.0]], [[1.0, 3.0]]))
        ... except NotFinite as error:
        ...     error.iteration, error.where
        (1, 'cost')
    """

    def __init__(self, iteration: int, where: str, state: TrainState) -> None:  # noqa: D107
        super().__init__(
            f"training stopped being finite at iteration {iteration}, in {where}: "
            "try a smaller learning rate, or look for extreme values in the data"
        )
        self.iteration = iteration
        self.where = where
        self.state = state

    def __reduce__(self) -> tuple[type[NotFinite], tuple[int, str, TrainState]]:
        # Exceptions pickle their message alone by default, but workers must send the state too.
        return type(self), (self.iteration, self.where, self.state)


def ignoring_overflow() -> np.errstate:
    """A context in which NumPy does not warn about overflow and invalid operations.

    It is for training with `watch_finite`: `NotFinite` says more than NumPy's warnings.

    Example:
        >>> with ignoring_overflow():
        ...     np.array([1e200]) ** 2
        array([inf])
    """
    return np.errstate(over="ignore", invalid="ignore")


def watch_finite(network: Stage, *, numerics: Numerics = fast) -> Part:
    """Make a part, to insert after "update", that raises `NotFinite` if a number is not finite.

    It checks the cost, the gradients' norm, and the new parameters and statistics, so the state
    after the step is finite. If the gradients are so large that the sum of their squares may
    overflow, it also checks the optimizer's state: otherwise Adam would divide by infinity in all
    later steps, and never move again.

    Args:
        network: The network, in which to look for the place.
        numerics: The arithmetic.

    Example:
        >>> network = nn.dense(1)
        >>> step = nn.make_train_step(network, nn.mean_squared(), nn.adam())
        >>> step.insert_after("update", watch_finite(network)).names
        ('forward', 'cost', 'backward', 'update', 'watch_finite')
    """
    gathers = network.statistics is not None

    def watch(step: Step) -> Step:
        info, after = step.info, step.after
        if (
            math.isfinite(info.cost)
            and (info.gradient_norm < LONG or _remembers_numbers(info.gradient_norm, after))
            and all_finite(after.parameters.vector, numerics)
            and not (gathers and _names_not_finite(after.statistics))
        ):
            return step
        raise NotFinite(info.iteration, _where(network, step, numerics), step.state)

    part = Part("watch_finite", watch, frozenset(["after", "info"]), isotropic=True, trusted=True)
    return made_again_by(watch_finite, network, numerics=numerics)(part)


# If the gradients' norm stays below this, the sum of its squares over any realistic number of
# steps fits into float32, so the optimizer's state needs no check. Longer gradients are rare.
LONG = 1e11


def _remembers_numbers(gradient_norm: float, after: TrainState) -> bool:
    return math.isfinite(gradient_norm) and remembers_numbers(after.optimizer_state)


def remembers_numbers(optimizer_state: object) -> bool:
    """Whether all arrays in an optimizer's state are finite, at any depth."""
    return all(np.isfinite(array).all() for array in leaves((optimizer_state,)))


def all_finite(vector: FloatArray, numerics: Numerics) -> bool:
    """Whether all numbers of a vector (size,) are finite."""
    # A finite norm, which takes a single BLAS product, proves that every number is finite. The
    # norm can overflow although all numbers are finite, so only then is each of them checked.
    quickly = not numerics.exact and math.isfinite(fast.norm(vector))
    return quickly or bool(np.isfinite(vector).all())


def _where(network: Stage, step: Step, numerics: Numerics) -> str:
    # In the order in which a step computes, so that the first finding is the cause.
    if "shards" not in step.__dict__:
        place = _where_in_gradients(network, step, numerics)
    else:
        places = (_where_in_gradients(network, record, numerics) for record in step.shards)
        place = next((f"shard {s}, {found}" for s, found in enumerate(places) if found), "")
        if not place and not (math.isfinite(step.cost) and np.isfinite(step.grads.vector).all()):
            place = "gradients, the sum over shards"
    if place:
        return place
    bad = _names_not_finite(step.after.statistics)
    if bad:
        return f"gather, statistics {bad[0]}"
    bad = _names_not_finite(step.after.parameters)
    if bad:
        return f"update, parameter {bad[0]}"
    if not remembers_numbers(step.after.optimizer_state):
        return "update, what the optimizer remembers"
    return "the length of the gradient"


def _where_in_gradients(network: Stage, step: Step, numerics: Numerics) -> str:
    """The place in forward, cost or backward; "" if all their results are finite."""
    if not np.isfinite(step.AL).all():
        return f"forward, stage {_first_stage(network, step, numerics)}"
    if not (math.isfinite(step.cost) and np.isfinite(step.dAL).all()):
        return "cost"
    # The backward pass goes from the last layer to the first, so the last bad one came first.
    bad = _names_not_finite(step.grads)
    return f"backward, gradient of {bad[-1]}" if bad else ""


class _Found(Exception):  # noqa: N818 - raised to end a search
    """The place of the first stage whose output is not finite."""


def _first_stage(network: Stage, step: Step, numerics: Numerics) -> str:
    """The first innermost stage whose forward pass outputs a number that is not finite."""

    def checked(path: str, stage: Stage) -> Stage:
        def forward(
            params: Tree, A_prev: FloatArray, context: Context
        ) -> tuple[FloatArray, object]:
            A, cache = stage.forward(params, A_prev, context)
            if not np.isfinite(A).all():
                place = path.removesuffix("/")
                raise _Found(f"{place} ({stage.name})" if place else stage.name)
            return A, cache

        return attrs.evolve(stage, forward=forward)

    state = step.state
    context = attrs.evolve(
        step_context(state.key, state.iteration, numerics, shard=step.shard),
        statistics=state.statistics.tree or None,
        lengths=step.batch.lengths,
    )
    try:
        map_stages(checked, network).forward(state.parameters.tree, step.batch.X, context)
    except _Found as found:
        return str(found)
    return network.name


def _names_not_finite(packed: Packed) -> list[str]:
    return [s.name for s in packed.layout.slots if not np.isfinite(packed[s.name]).all()]
