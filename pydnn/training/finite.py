"""Stopping where numbers stop being finite, with the place where that began."""

from __future__ import annotations

import math

import numpy as np

from pydnn.numerics import fast
from pydnn.packing import Packed, Tree
from pydnn.records import FloatArray
from pydnn.stages.base import Context, Stage
from pydnn.training.pipeline import Part, Step, TrainState

__all__ = ["NotFinite", "watch_finite"]


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


def watch_finite(network: Stage) -> Part:
    """A part to insert after "update" that raises `NotFinite` as soon as there is reason to.

    It checks the cost, the gradients' norm and the new parameters, so that the state which it
    hands back is finite; only when something is wrong does it look for the place.
    """

    def watch(step: Step) -> Step:
        if (
            math.isfinite(step.info.cost)
            and math.isfinite(step.info.gradient_norm)
            # One product, and the only number that every entry has a part in.
            and math.isfinite(fast.norm(step.after.parameters.vector))
        ):
            return step
        raise NotFinite(step.info.iteration, _where(network, step), step.state)

    return Part("watch_finite", watch, needs=frozenset(["after", "info"]))


def _where(network: Stage, step: Step) -> str:
    if not np.isfinite(step.AL).all():
        context = Context(training=True, key=step.state.key.at("step", step.state.iteration))
        X, params = step.batch.X, step.state.parameters.tree
        return f"forward, stage {_first_stage(network, params, X, context)}"
    if not (math.isfinite(step.cost) and np.isfinite(step.dAL).all()):
        return "cost"
    # Gradients are made from the last layer back to the first.
    bad = _names_not_finite(step.grads)
    if bad:
        return f"backward, gradient of {bad[-1]}"
    bad = _names_not_finite(step.after.parameters)
    return f"update, parameter {bad[0]}" if bad else "the length of the gradient"


def _first_stage(network: Stage, params: Tree, A: FloatArray, context: Context) -> str:
    """The innermost stage whose forward pass first gives a number that is not finite."""
    for i, stage in enumerate(network.parts):
        A_prev, below = A, context.below(i)
        A = stage.forward(params[i], A_prev, below)[0]
        if not np.isfinite(A).all():
            inner = _first_stage(stage, params[i], A_prev, below) if stage.parts else stage.name
            return f"{i} ({inner})"
    return network.name


def _names_not_finite(packed: Packed) -> list[str]:
    return [s.name for s in packed.layout.slots if not np.isfinite(packed[s.name]).all()]
