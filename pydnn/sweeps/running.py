"""Carries out a sweep: stacks the trainings that fit together, and collects their outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import toolz

from pydnn.batches import EpochBatches, examples_together
from pydnn.data import DataSet
from pydnn.free_memory import free_memory
from pydnn.jobs.class_weights import by_class_number
from pydnn.jobs.job import Job, expect_test, prepare
from pydnn.jobs.loading import examples_of
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

# Numbers in the largest array of a stack. Larger arrays leave the cache, and reading memory costs
# more than fewer calls save. Measured for 2 to 32 networks with 16 to 256 units in a layer: stacks
# are fastest with 2**15 to 2**16 numbers, and stacks of two or three large networks gain nothing.
_MOST_NUMBERS = 1 << 16
_FEWEST_RUNS = 4


@attrs.frozen(unsafe_hash=False)
class Sweep:
    """The plan of a sweep.

    Attributes:
        runs: The trainings, one for each combination of seeds and values.
        batch: The examples for training and validation, the same for all trainings.
        test: Examples to evaluate every training on, used by none; None if there are none.
        together: Whether trainings of one shape are stacked; it changes no bit.
        notes: Remarks that the user should see before training starts, one line each.
    """

    runs: tuple[Variation, ...]
    batch: Batch = attrs.field(repr=False)
    test: Batch | None = attrs.field(default=None, repr=False)
    together: bool = True
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """The number of steps of all trainings together, without early stopping."""
        return sum(variation.recipe.iterations for variation in self.runs)


def sweep(
    recipe: Recipe,
    batch: Batch | DataSet | object,
    *,
    seeds: int | Sequence[int] = 1,
    over: Mapping[str, Sequence[object]] = {},
    test: Batch | None = None,
    classes: Sequence[str] | None = None,
    together: bool = True,
    folds: int | None = None,
) -> Sweep:
    """Return the plan of a sweep: one training for each combination of values, seeds and folds.

    Args:
        recipe: The recipe that all trainings have in common.
        batch: The examples for training and validation; or what has a test part too, a data set
            or, for a recipe with a target, a `Table` or anything else that `Table.of` takes.
        seeds: The seeds, or their number; they then begin with the seed of the recipe.
        over: Lists of values by name, e.g. {"optimizer.learning_rate": [0.1, 0.3]}; see `varied`.
        test: Examples to evaluate trained models on; None or no examples skip this.
        classes: The names of the classes, as many as the networks distinguish; None without names.
        together: Whether to stack trainings of one shape, which is faster and changes no bit.
        folds: The number k of folds for cross-validation; None for none. Each setting is then
            trained k times, and each time another k-th of the examples is held back, instead of the
            share that the recipe holds back; see `split_fold`. The scores on them have names such
            as "validation cost". Each seed has its own folds, the same for all settings.

    Raises:
        BadInput: If the recipe of any training does not fit the data; nothing is trained then.

    Example:
        >>> X = nn.Key(1).at("X").normal((2, 40))
        >>> recipe = nn.Recipe(
        ...     data="points", network=nn.dense(1), loss=nn.mean_squared(),
        ...     optimizer=nn.gradient_descent(learning_rate=0.1), iterations=50,
        ... )
        >>> plan = sweep(recipe, nn.Batch(X, X[:1] - X[1:]), seeds=2, over={"iterations": [5, 50]})
        >>> [outcome.setting["iterations"] for outcome in run_sweep(plan).outcomes]
        [5, 5, 50, 50]
    """
    data = examples_of(recipe, batch)
    if isinstance(data, DataSet):
        test, classes = data.test if test is None else test, classes or data.classes
    batch = data.train if isinstance(data, DataSet) else data
    runs = tuple(
        attrs.evolve(one, recipe=by_class_number(one.recipe, classes))
        for one in variations(recipe, seeds=seeds, over=over, folds=folds)
    )
    # All jobs share these examples, so their order in memory is changed once, here.
    judges = test if test is not None and test.Y.size else None
    plan = Sweep(runs, examples_together(batch), judges, together)
    notes: list[str] = []
    for variation in runs[:: _runs_of_setting(runs)]:
        job = prepare(variation.recipe, plan.batch)  # refuses a setting that does not fit
        nothing = Batch(batch.X[..., :0], batch.Y[..., :0])
        expect_test(job, nothing if test is None else test, classes=classes)
        notes += job.notes
    return attrs.evolve(plan, notes=tuple(dict.fromkeys(notes)))


def _runs_of_setting(runs: Sequence[Variation]) -> int:
    """Return the number of trainings of each setting, one for each seed and fold."""
    return sum(variation.setting == runs[0].setting for variation in runs)


@np.errstate(under="ignore")
def run_sweep(plan: Sweep, *, on_progress: OnProgress = lambda steps: None) -> SweepResult:
    """Carry out a sweep, and return the outcomes of all its trainings.

    Args:
        plan: The plan that `sweep` returned.
        on_progress: Called with the number of steps done since the last call, e.g. to move a
            progress bar.
    """
    by_number = dict(outcomes(plan, on_progress=on_progress))
    return SweepResult(tuple(by_number[number] for number in range(len(plan.runs))))


def outcomes(
    plan: Sweep, *, on_progress: OnProgress = lambda steps: None
) -> Iterator[tuple[int, Outcome]]:
    """Carry out a sweep, and yield the number and the outcome of each training when it ends.

    Trainings whose recipes have the same `stacking_key` are stacked where possible; each gives bit
    for bit what it gives alone. The others are trained one after the other.
    """
    for group in _groups(plan):
        for numbers in _chunks(plan, group):
            jobs = _jobs(plan, numbers)
            reason = _why_not_stacked(plan, jobs, len(group))
            train_all = run_one_by_one if reason else run_stacked
            for place, end in train_all(jobs, on_progress):
                number = numbers[place]
                yield number, _outcome(plan, plan.runs[number], end, reason)


def _groups(plan: Sweep) -> list[list[int]]:
    """Return the numbers of the trainings, grouped by the `stacking_key` of their recipes.

    If the folds are not all of one size, they form two groups.
    """
    m = plan.batch.X.shape[-1]

    def key(number: int) -> tuple[str, int]:
        recipe = plan.runs[number].recipe
        which, folds = recipe.fold or (1, 1)
        return write_recipe(stacking_key(recipe)), len(range(which - 1, m, folds))

    return list(toolz.groupby(key, range(len(plan.runs))).values())


def _chunks(plan: Sweep, group: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the trainings of a group in chunks of about equal size, as large as is fastest."""
    first = prepare(plan.runs[group[0]].recipe, plan.batch)
    free = free_memory()
    fitting = len(group) if free is None else free // _bytes_of_run(first)
    most = min(_MOST_NUMBERS // _largest(first), fitting)
    count = -(-len(group) // most) if most >= _FEWEST_RUNS and plan.together else len(group)
    chunks: Iterator[Sequence[int]] = toolz.partition_all(-(-len(group) // count), group)
    return chunks


def _bytes_of_run(job: Job) -> int:
    """Return how many bytes each training adds to a stack; the estimate is never too low."""
    *shape, m = job.data["train"].X.shape
    layers = layers_of(job.recipe, tuple(shape))
    step = sum(bytes_of(job.recipe, *layers, shape=tuple(shape), examples=m).values())
    if not job.recipe.holds_back and job.inputs.rotation is None:
        return step
    # Each seed holds back other examples, so each training has two copies, job and stack.
    parts = [array for part in job.data.values() for array in (part.X, part.Y, part.weights)]
    return step + 2 * sum(array.nbytes for array in parts if array is not None)


def _largest(job: Job) -> int:
    """Return the size of a training's largest array: its parameters, or a layer's output."""
    layout = job.state.parameters.layout
    *shape, m = job.data["train"].X.shape
    features = math.prod(shape)
    widest = max((slot.shape[0] for slot in layout.slots), default=1)
    size = job.batching.at.size if isinstance(job.batching.at, EpochBatches) else None
    columns = int(m) if size is None else size
    # All trainings share a full batch, while other batches are gathered for each of them.
    return max(layout.size, columns * (widest if size is None else max(widest, features)))


def _jobs(plan: Sweep, numbers: Sequence[int]) -> list[Job]:
    """Return the jobs of these trainings; jobs with the same examples share the arrays."""
    jobs: list[Job] = []
    for number in numbers:
        recipe = plan.runs[number].recipe
        job = prepare(recipe, plan.batch)
        first = (jobs or [job])[0].recipe
        same = not recipe.holds_back or (recipe.seed, recipe.fold) == (first.seed, first.fold)
        if jobs and same and job.inputs.rotation is None:  # each training has its own rotation
            job = attrs.evolve(job, data=jobs[0].data)
        jobs.append(job)
    return jobs


def _why_not_stacked(plan: Sweep, jobs: Sequence[Job], in_group: int) -> str:
    if not plan.together:
        return "as requested"
    if in_group == 1:
        return "no other training has its shapes"
    if len(jobs) == 1:
        return "its arrays are so large that stacking would be slower"
    return why_not_stacked(jobs)


def _outcome(plan: Sweep, variation: Variation, trained: Trained, why_not_stacked: str) -> Outcome:
    """Return the outcome of a training, evaluated on every part of the data."""
    job, state = trained.job, trained.state
    data = dict(job.data)
    if plan.test is not None:
        data["test"] = job.inputs.examples(plan.test)
    with ignoring_overflow():
        # The last finite state of a training that diverged may overflow on other examples.
        lost = trained.error is not None or not all(
            np.isfinite(job.output(state, part.X, lengths=part.lengths)).all()
            for part in data.values()
        )
        scores = {} if lost else job.evaluation(data)(state)
    stopped = "" if trained.why == "finished" else str(trained.error or trained.why)
    return Outcome(trained.model, variation.setting, scores, stopped, why_not_stacked)
