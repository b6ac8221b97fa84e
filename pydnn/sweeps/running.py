"""Sweeps: the runs of a plan, as many at once as it pays, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import toolz

from pydnn.batches import EpochBatches, examples_together
from pydnn.free_memory import free_memory
from pydnn.jobs.class_weights import by_class_number
from pydnn.jobs.job import Job, expect_test, prepare
from pydnn.jobs.memory import bytes_of
from pydnn.jobs.training import Trained
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.records import Batch
from pydnn.sweeps.plans import Variation, variations
from pydnn.sweeps.results import Outcome, SweepResult
from pydnn.sweeps.stacks import stacking_key, why_not_stacked
from pydnn.sweeps.training import OnProgress, run_one_by_one, run_stacked
from pydnn.training.finite import ignoring_overflow

__all__ = ["Sweep", "outcomes", "run_sweep", "sweep"]

# Numbers in the largest arrays of a stack, beyond which they leave the cache, and what is saved in
# calls is lost to memory. Measured for 2 to 32 runs of networks with 16 to 256 units in a layer:
# a stack is fastest from 2**15 to 2**16 on, and two or three large runs at once gain nothing.
_MOST_NUMBERS = 1 << 16
_FEWEST_RUNS = 4


@attrs.frozen(unsafe_hash=False)
class Sweep:
    """Runs that are to be compared.

    Attributes:
        runs: What they are.
        batch: Examples for training and validation, of all of them.
        test: Examples that none is trained on, by which all are judged; None for no such.
        together: Whether runs of one shape are taken all at once; their bits do not depend on it.
        notes: What a user may want to know before the training starts, each in one line.
    """

    runs: tuple[Variation, ...]
    batch: Batch = attrs.field(repr=False)
    test: Batch | None = attrs.field(default=None, repr=False)
    together: bool = True
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps that all runs have together, unless they are stopped early."""
        return sum(variation.recipe.iterations for variation in self.runs)


def sweep(
    recipe: Recipe,
    batch: Batch,
    *,
    seeds: int | Sequence[int] = 1,
    over: Mapping[str, Sequence[object]] = {},
    test: Batch | None = None,
    classes: Sequence[str] | None = None,
    together: bool = True,
) -> Sweep:
    """The sweep of a recipe over seeds and other values: every combination is a run.

    Args:
        recipe: What the runs have in common.
        batch: Examples for training and validation.
        seeds: Their seeds, or how many.
        over: Values by name, as `varied` takes them, e.g. {"optimizer.learning_rate": [0.1, 0.3]}.
        test: Examples by which they are judged in the end; none are like None.
        classes: Names of the classes, if they have names, as many as the networks tell apart.
        together: Whether runs of one shape are taken all at once.

    Raises:
        BadInput: If a run cannot be made of a recipe and the data, before any is trained.
    """
    runs = tuple(
        attrs.evolve(one, recipe=by_class_number(one.recipe, classes))
        for one in variations(recipe, seeds=seeds, over=over)
    )
    # Batches are copied to this order once, and all jobs share it.
    judges = test if test is not None and test.Y.size else None
    plan = Sweep(runs, examples_together(batch), judges, together)
    notes: list[str] = []
    for variation in runs[:: _seeds_of(runs)]:
        job = prepare(variation.recipe, plan.batch)  # one of each setting, for what it refuses
        nothing = Batch(batch.X[:, :0], batch.Y[:, :0])
        expect_test(job, nothing if test is None else test, classes=classes)
        notes += job.notes
    return attrs.evolve(plan, notes=tuple(dict.fromkeys(notes)))


def _seeds_of(runs: Sequence[Variation]) -> int:
    """How many seeds each setting has."""
    return sum(variation.setting == runs[0].setting for variation in runs)


@np.errstate(under="ignore")
def run_sweep(plan: Sweep, *, on_progress: OnProgress = lambda steps: None) -> SweepResult:
    """Train every run of a sweep.

    Args:
        plan: From `sweep`.
        on_progress: Called with the number of steps done since the last call, e.g. to move a
            progress bar.
    """
    found = dict(outcomes(plan, on_progress=on_progress))
    return SweepResult(tuple(found[number] for number in range(len(plan.runs))))


def outcomes(
    plan: Sweep, *, on_progress: OnProgress = lambda steps: None
) -> Iterator[tuple[int, Outcome]]:
    """Train the runs of a sweep, yielding the number and the outcome of each as it ends.

    Runs whose recipes have the same `stacking_key` are trained as one stack where possible; each
    gives bit for bit what it gives alone. The others are trained one after the other.
    """
    for group in _groups(plan):
        for numbers in _chunks(plan, group):
            jobs = _jobs(plan, numbers)
            reason = _why_not_stacked(plan, jobs, len(group))
            run = run_one_by_one if reason else run_stacked
            for place, end in run(jobs, on_progress):
                number = numbers[place]
                yield number, _outcome(plan, plan.runs[number], end, reason)


def _groups(plan: Sweep) -> list[list[int]]:
    """The numbers of the runs, grouped by the `stacking_key` of their recipes."""
    texts = [write_recipe(stacking_key(variation.recipe)) for variation in plan.runs]
    return list(toolz.groupby(texts.__getitem__, range(len(texts))).values())


def _chunks(plan: Sweep, group: Sequence[int]) -> Iterator[Sequence[int]]:
    """The runs of a group in such numbers as are best taken at once, each in about as many."""
    first = prepare(plan.runs[group[0]].recipe, plan.batch)
    free = free_memory()
    fitting = len(group) if free is None else free // _bytes_of_run(first)
    most = min(_MOST_NUMBERS // _largest(first), fitting)
    count = -(-len(group) // most) if most >= _FEWEST_RUNS and plan.together else len(group)
    chunks: Iterator[Sequence[int]] = toolz.partition_all(-(-len(group) // count), group)
    return chunks


def _bytes_of_run(job: Job) -> int:
    """The bytes that each run adds to those that are trained at once, or at least no fewer."""
    features, m = job.data["train"].X.shape
    step = sum(bytes_of(job.recipe, *layers_of(job.recipe, features), examples=m).values())
    if not job.recipe.validation and job.inputs.rotation is None:
        return step
    # Each seed holds other examples back, so every run has its own: in its job and in the stack.
    parts = [array for part in job.data.values() for array in (part.X, part.Y, part.weights)]
    return step + 2 * sum(array.nbytes for array in parts if array is not None)


def _largest(job: Job) -> int:
    """Numbers in the largest array of a run: its parameters, or what a layer gives of a batch."""
    layout = job.state.parameters.layout
    features, m = job.data["train"].X.shape
    widest = max((slot.shape[0] for slot in layout.slots), default=1)
    size = job.batching.at.size if isinstance(job.batching.at, EpochBatches) else None
    columns = int(m) if size is None else size
    # Examples of a full batch are there once; those of others are gathered for every run.
    return max(layout.size, columns * (widest if size is None else max(widest, features)))


def _jobs(plan: Sweep, numbers: Sequence[int]) -> list[Job]:
    """The jobs of these runs; those that see the same examples share them."""
    jobs: list[Job] = []
    for number in numbers:
        recipe = plan.runs[number].recipe
        job = prepare(recipe, plan.batch)
        same = not recipe.validation or recipe.seed == (jobs or [job])[0].recipe.seed
        if jobs and same and job.inputs.rotation is None:  # which is each run's own
            job = attrs.evolve(job, data=jobs[0].data)
        jobs.append(job)
    return jobs


def _why_not_stacked(plan: Sweep, jobs: Sequence[Job], in_group: int) -> str:
    if not plan.together:
        return "it was asked for"
    if in_group == 1:
        return "no other run has its shape"
    if len(jobs) == 1:
        return "its arrays are so large that several at once would take longer"
    return why_not_stacked(jobs)


def _outcome(plan: Sweep, run: Variation, trained: Trained, why_not_stacked: str) -> Outcome:
    """What came of a run, judged on every part of the data."""
    job, state = trained.job, trained.state
    data = dict(job.data)
    if plan.test is not None:
        data["test"] = job.inputs.examples(plan.test)
    with ignoring_overflow():
        # Where a run has left the range of numbers, its last state may, too, on other examples.
        lost = trained.error is not None or not all(
            np.isfinite(job.output(state, part.X)).all() for part in data.values()
        )
        scores = {} if lost else job.evaluation(data)(state)
    stopped = "" if trained.why == "finished" else str(trained.error or trained.why)
    return Outcome(trained.model, run.setting, scores, stopped, why_not_stacked)
