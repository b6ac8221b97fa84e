"""Stop training when a number is not finite, and say where that began."""

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


class NotFinite(ArithmeticError):  # noqa: N818 - it names what was found
    """A training step made a number that is not finite.

    Attributes:
        iteration: The step that made it.
        where: The part of the step and, in it, the stage or array where it began.
        state: The last state, the one before that step, in which everything is finite.
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
        # Otherwise a process that trains could not hand it to the one that waits for it.
        return type(self), (self.iteration, self.where, self.state)


def ignoring_overflow() -> np.errstate:
    """A context in which NumPy says nothing of numbers that leave their range.

    It is for trainings that `watch_finite` watches: `NotFinite` says more than NumPy's warnings.
    """
    return np.errstate(over="ignore", invalid="ignore")


def watch_finite(network: Stage, *, numerics: Numerics = fast) -> Part:
    """A part to insert after "update" that raises `NotFinite` as soon as there is reason to.

    It checks the cost, the gradients' norm, and the new parameters and statistics, so that the
    state which it hands back is finite; only when something is wrong does it look for the place.
    Where the gradients are so long that the sum of their squares may leave the range of numbers,
    it also checks what the optimizer remembers: Adam would divide by infinity from there on, and
    take no step any more.
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


# A length of the gradients below which their squares, summed over any number of steps that a
# training has, stay in the range of float32. Above it, a look at the optimizer's state is cheap.
LONG = 1e11


def _remembers_numbers(gradient_norm: float, after: TrainState) -> bool:
    return math.isfinite(gradient_norm) and remembers_numbers(after.optimizer_state)


def remembers_numbers(optimizer_state: object) -> bool:
    """Whether all arrays that an optimizer remembers are finite, however deep they lie."""
    return all(np.isfinite(array).all() for array in leaves((optimizer_state,)))


def all_finite(vector: FloatArray, numerics: Numerics) -> bool:
    """Whether all numbers of a vector (size,) are finite."""
    # The length is one product of BLAS, to which every number contributes. It can be infinite
    # though all numbers are finite, so only then is each of them looked at.
    quickly = not numerics.exact and math.isfinite(fast.norm(vector))
    return quickly or bool(np.isfinite(vector).all())


def _where(network: Stage, step: Step, numerics: Numerics) -> str:
    if not np.isfinite(step.AL).all():
        return f"forward, stage {_first_stage(network, step, numerics)}"
    if not (math.isfinite(step.cost) and np.isfinite(step.dAL).all()):
        return "cost"
    # Gradients are made from the last layer back to the first.
    bad = _names_not_finite(step.grads)
    if bad:
        return f"backward, gradient of {bad[-1]}"
    bad = _names_not_finite(step.after.statistics)
    if bad:
        return f"gather, statistics {bad[0]}"
    bad = _names_not_finite(step.after.parameters)
    if bad:
        return f"update, parameter {bad[0]}"
    if not remembers_numbers(step.after.optimizer_state):
        return "update, what the optimizer remembers"
    return "the length of the gradient"


class _Found(Exception):  # noqa: N818 - it ends a search
    """The place of the first stage whose output is not finite."""


def _first_stage(network: Stage, step: Step, numerics: Numerics) -> str:
    """The innermost stage whose forward pass first gives a number that is not finite."""

    def watched(path: str, stage: Stage) -> Stage:
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
    context = step_context(state.key, state.iteration, numerics)
    try:
        map_stages(watched, network).forward(state.parameters.tree, step.batch.X, context)
    except _Found as found:
        return str(found)
    return network.name


def _names_not_finite(packed: Packed) -> list[str]:
    return [s.name for s in packed.layout.slots if not np.isfinite(packed[s.name]).all()]
