"""The trainings of a sweep that one worker does: a stack, or one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.batches import examples_together
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.training import Trained
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, Examples
from pydnn.sweeps.results import Outcome
from pydnn.sweeps.stacks import why_not_stacked
from pydnn.sweeps.training import OnProgress, run_one_by_one, run_stacked
from pydnn.training.finite import ignoring_overflow

if TYPE_CHECKING:
    from pydnn.sweeps.recording import Recorder

__all__ = ["Chunk", "jobs_of", "outcomes_of", "part_of", "together_in_memory"]


@attrs.frozen
class Chunk:
    """Trainings of a sweep that one worker does.

    Attributes:
        numbers: Their numbers in the sweep.
        why_not_stacked: Why they are not stacked, as far as the sweep knows; "" to stack them, if
            their jobs can be stacked.
    """

    numbers: tuple[int, ...]
    why_not_stacked: str = ""


def together_in_memory(data: DataSet | Examples) -> DataSet | Examples:
    """The data with training examples in the memory order that jobs use, so that all share them."""
    part = part_of(data)
    if not isinstance(part, Batch):  # examples in files
        return data
    part = examples_together(part)
    return attrs.evolve(data, train=part) if isinstance(data, DataSet) else part


def part_of(data: DataSet | Examples) -> Examples:
    """The examples for training and validation."""
    return data.train if isinstance(data, DataSet) else data


@np.errstate(under="ignore")
def outcomes_of(
    data: DataSet | Examples,
    recipes: Sequence[Recipe],
    *,
    why_not: str = "",
    recorder: Recorder | None = None,
    on_progress: OnProgress = lambda steps: None,
) -> Iterator[tuple[int, Outcome]]:
    """Train recipes, and yield the place and the outcome of each when it ends.

    Args:
        data: The data, which `together_in_memory` returned.
        recipes: The recipes. All have one `stacking_key`, unless `why_not` says why they are not
            stacked.
        why_not: Why they are not stacked; "" to stack them, if their jobs can be stacked.
        recorder: What records each training; None to record nothing.
        on_progress: Called with the number of steps done since the last call.
    """
    if recorder is not None:
        for place, recipe in enumerate(recipes):
            trained = recorder.train(recipe, on_progress)
            outcome = _outcome(data, attrs.evolve(trained, data=data), why_not)
            recorder.keep(recipe, outcome)
            yield place, outcome
        return
    jobs = jobs_of(data, recipes)
    why_not = why_not or why_not_stacked(jobs)
    train_all = run_one_by_one if why_not else run_stacked
    for place, trained in train_all(jobs, on_progress):
        yield place, _outcome(data, attrs.evolve(trained, data=data), why_not)


def jobs_of(data: DataSet | Examples, recipes: Sequence[Recipe]) -> list[Job]:
    """The jobs of recipes; jobs with the same examples share the arrays."""
    jobs: list[Job] = []
    for recipe in recipes:
        job = prepare(recipe, part_of(data))
        first = (jobs or [job])[0].recipe
        same = not recipe.holds_back or (recipe.seed, recipe.fold) == (first.seed, first.fold)
        if jobs and same and job.inputs.rotation is None:  # each training has its own rotation
            job = attrs.evolve(job, data=jobs[0].data)
        jobs.append(job)
    return jobs


def _outcome(data: DataSet | Examples, trained: Trained, why_not: str) -> Outcome:
    """The outcome of a training, evaluated on every part of the data, without its setting."""
    job, state = trained.job, trained.state
    parts = dict(job.data)
    if isinstance(data, DataSet) and data.test.count:
        parts["test"] = job.inputs.of(data.test)
    with ignoring_overflow():
        # The last finite state of a training that diverged may overflow on other examples.
        lost = trained.error is not None or not all(
            np.isfinite(job.output(state, block.X, lengths=block.lengths)).all()
            for part in parts.values()
            for block in part.blocks()
        )
        scores = {} if lost else job.evaluation(parts)(state)
    stopped = "" if trained.why == "finished" else str(trained.error or trained.why)
    return Outcome(trained.model, {}, scores, stopped, why_not)
