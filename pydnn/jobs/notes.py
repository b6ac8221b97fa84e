"""Warnings for the user before training starts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.jobs.columns import Columns, DroppedColumn, NumberColumn
from pydnn.losses import Loss
from pydnn.numerics.blas_threads import THREADS, blas_threads
from pydnn.optimizers.base import GradientTransformation
from pydnn.recipes.layouts import layouts_of
from pydnn.recipes.recipe import Recipe
from pydnn.records import Examples
from pydnn.stages import Stage

if TYPE_CHECKING:
    from pydnn.jobs.job import Job

__all__ = ["notes_of"]


def notes_of(job: Job) -> tuple[str, ...]:
    """Return the warnings for a job, one line each."""
    recipe = job.recipe
    optimizer: GradientTransformation = build(recipe.optimizer, family="optimizer")
    notes = [
        job.not_rotated,
        *_column_notes(job.inputs.columns, recipe.standardize),
        _sequence_note(recipe, job.batch),
        _share_note(recipe.validation, job.data),
        _logits_note(job.network, job.loss),
        *_schedule_notes(optimizer, recipe.iterations),
        _thread_note(recipe),
    ]
    return tuple(note for note in notes if note)


_NEAR = 10.0  # numbers of this size train well as they are


def _column_notes(columns: Columns | None, standardized: bool) -> Iterator[str]:
    """Notes on columns whose conversion people may not expect."""
    for part in () if columns is None else columns.parts:
        if isinstance(part, DroppedColumn):
            yield f"column {part.name!r} is left out, because {part.why}"
        if isinstance(part, NumberColumn) and not standardized and abs(part.fill) > _NEAR:
            yield (
                f"numbers are trained on as they are, but those of {part.name!r} are about "
                f"{part.fill:g}: add standardize = true, for small numbers train better"
            )
            standardized = True  # once is enough


def _sequence_note(recipe: Recipe, examples: Examples) -> str:
    """A note if the network takes examples (H, W) as sequences, but would take gray images, too."""
    shape = examples.shape
    # Sequences of numbers usually have many more steps than numbers at each step.
    if len(shape) != 2 or examples.has_lengths or 1 in shape or max(shape) > 2 * min(shape):
        return ""
    try:
        steps, pixels = (layouts_of(recipe, each)[0].slots for each in (shape, (*shape, 1)))
    except BadInput:
        return ""
    if steps == pixels:  # the network does the same with both
        return ""
    H, W = shape
    return (
        f"examples of shape {shape} are sequences of {H} steps with {W} numbers each: if they are "
        f"gray images, put reshape({H}, {W}, 1) first in the network"
    )


def _share_note(share: float, data: Mapping[str, Examples]) -> str:
    """A note if far more than `share` is held back, because every class gives an example."""
    if not share:
        return ""
    held, rest = (data[part].count for part in ("validation", "train"))
    expected = share * (held + rest)
    if held < max(1.5 * expected, expected + 2):
        return ""
    return (
        f"the validation part has {held} of {held + rest} examples, more than the share of "
        f"{share:g}, because every class gives at least one: give more examples per class"
    )


def _logits_note(network: Stage, loss: Loss) -> str:
    """A note if a network ends with a stage that bounds the logits which its loss takes."""
    last = network
    while last.in_sequence and last.parts:
        last = last.parts[-1]
    if not loss.takes_logits or last.output_range is None:
        return ""
    low, high = last.output_range
    outputs = f"from {low:g} on" if math.isinf(high) else f"from {low:g} to {high:g}"
    return (
        f"the network ends with {last}, which gives numbers {outputs}, but {loss.name} takes any "
        "numbers and makes probabilities of them: leave that stage out"
    )


def _thread_note(recipe: Recipe) -> str:
    """A note if the bits of shards depend on the number of BLAS threads of who computes them."""
    if not recipe.one_thread or blas_threads() is not None:
        return ""
    if any(os.environ.get(name) == "1" for name in THREADS):
        return ""
    return (
        "the number of threads of NumPy's BLAS cannot be changed here, and shards have other bits "
        "with another number: set it to 1 for each program, e.g. by MKL_NUM_THREADS=1"
    )


def _schedule_notes(optimizer: GradientTransformation, iterations: int) -> Iterator[str]:
    """Notes about an optimizer whose schedule or accumulation does not fit the number of steps."""
    if optimizer.every > iterations:
        yield (
            f"nothing is updated in {iterations} iterations, because the optimizer accumulates the "
            f"gradients of {optimizer.every}: train longer, or accumulate fewer"
        )
    schedule = optimizer.schedule
    if schedule is not None and schedule.steps is not None:
        end = schedule.steps * optimizer.every
        if end < iterations:
            yield (
                f"the schedule ends after {end} of {iterations} iterations, and the learning rate "
                f"stays {schedule(schedule.steps):g} after that: give a schedule of {iterations}"
            )
        elif end > iterations:
            last = (iterations - 1) // optimizer.every
            yield (
                f"the schedule is for {end} iterations, and after {iterations} the learning rate "
                f"is still {schedule(last):g}: give a schedule of {iterations}"
            )
