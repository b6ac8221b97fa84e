"""Whether a job trains in a rotated basis, and the job that does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.free_memory import free_memory, readable
from pydnn.jobs.parts import Parts
from pydnn.jobs.rotation import first_weights, fit_rotation, is_worthwhile, project, why_not_exact
from pydnn.jobs.tasks import first_example
from pydnn.optimizers.base import GradientTransformation
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, Examples, FloatArray
from pydnn.training import TrainState, TrainStep

if TYPE_CHECKING:
    from pydnn.jobs.job import Job

__all__ = ["all_in_memory", "choose_rotation", "rotated"]


def choose_rotation(
    recipe: Recipe, parts: Parts, train_step: TrainStep, state: TrainState, train: Examples
) -> tuple[bool, str]:
    """Whether to rotate, and why not if rotation would save time but a part forbids it.

    Raises:
        BadInput: If the recipe demands rotation, but it would change the steps.
    """
    X = train.X if isinstance(train, Batch) else _like_the_first(train)
    why_not = why_not_exact(
        parts.network, parts.optimizer, parts.penalties, state.parameters, X, recipe.arithmetic
    )
    if why_not and recipe.rotate:
        raise BadInput(f"rotate is true, but {why_not}: leave it out.")
    if why_not or not _worth_rotating(recipe, parts, state, train):
        return False, ""
    if not train_step.not_isotropic:
        return True, ""
    why_not = (
        f"part {train_step.not_isotropic[0]!r} of the step does not say that it treats all "
        "directions alike: leave rotate out, or declare the part with part(isotropic=True) if it "
        "does"
    )
    if recipe.rotate:
        raise BadInput(f"rotate is true, but {why_not}.")
    return False, f"training is not rotated, because {why_not}"


def _like_the_first(examples: Examples) -> FloatArray:
    """X as if all examples were the first one, without taking memory for them."""
    first = first_example(examples).X
    return np.broadcast_to(first, (*first.shape[:-1], examples.count))


def all_in_memory(data: Mapping[str, Examples]) -> dict[str, Examples]:
    """The parts in memory, for a rotation, which needs them all.

    Raises:
        BadInput: If they do not fit.
    """
    needed = sum(
        2 * math.prod(part.shape) * part.count * first_example(part).X.itemsize
        for part in data.values()
        if not isinstance(part, Batch)
    )
    if needed > (free_memory() or math.inf):
        raise BadInput(
            f"training is rotated to save time, for which all examples have to be in memory, in "
            f"{readable(needed)}: set rotate to false, which gives other bits."
        )
    return {name: part.in_memory() for name, part in data.items()}


def _worth_rotating(recipe: Recipe, parts: Parts, state: TrainState, train: Examples) -> bool:
    """Whether the recipe demands rotation, or leaves it open and rotation saves time."""
    if recipe.rotate is not None:
        return recipe.rotate
    m = train.count
    per_step = m // parts.batching.per_epoch(m)
    slot = first_weights(parts.network, state.parameters.layout)
    return slot is not None and is_worthwhile(slot, m, iterations=recipe.iterations, batch=per_step)


def rotated(job: Job, optimizer: GradientTransformation) -> Job:
    """The same job in the space spanned by its examples and first weights."""
    state, parts = job.state, {name: part.in_memory() for name, part in job.data.items()}
    rotation = fit_rotation(job.network, state.parameters, parts["train"].X, job.numerics)
    inputs = attrs.evolve(job.inputs, rotation=rotation)
    data = {
        name: attrs.evolve(part, X=inputs.in_basis(part.X, fitted=name == "train"))
        for name, part in parts.items()
    }
    parameters = project(rotation, state.parameters)
    return attrs.evolve(
        job,
        state=attrs.evolve(
            state, parameters=parameters, optimizer_state=optimizer.init(parameters)
        ),
        data=data,
        inputs=inputs,
        train_step=job.train_step.in_rotated_basis(),
    )
