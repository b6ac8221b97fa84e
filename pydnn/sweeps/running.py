"""Carries out a sweep: stacks the trainings that fit together, and collects their outcomes."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs
import toolz

from pydnn.batches import EpochBatches
from pydnn.checks import AnyPath
from pydnn.data import DataSet, lasting_name
from pydnn.engines import at_work
from pydnn.free_memory import free_memory
from pydnn.jobs.class_weights import by_class_number
from pydnn.jobs.expectations import expect_test
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of, examples_of
from pydnn.jobs.memory import bytes_of
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import own_modules, write_recipe
from pydnn.records import Batch, Examples
from pydnn.sweeps.chunks import Chunk, jobs_of, outcomes_of, part_of, together_in_memory
from pydnn.sweeps.plans import Variation, variations
from pydnn.sweeps.results import Outcome, SweepResult
from pydnn.sweeps.stacks import stacking_key, why_not_stacked
from pydnn.sweeps.training import OnProgress

if TYPE_CHECKING:
    from pydnn.sweeps.recording import Recorder
    from pydnn.workers import Executor

__all__ = ["Sweep", "outcomes", "run_sweep", "sweep"]

# Numbers in the largest array of a stack. Larger arrays leave the cache, and reading memory costs
# more than fewer calls save. Measured for 2 to 32 networks with 16 to 256 units in a layer: stacks
# are fastest with 2**15 to 2**16 numbers, and stacks of two or three large networks gain nothing.
_MOST_NUMBERS = 1 << 16
_FEWEST_RUNS = 4

OnBegin: TypeAlias = Callable[[Sequence[int]], object]  # with the numbers of trainings that begin


@attrs.frozen(unsafe_hash=False)
class Sweep:
    """The plan of a sweep.

    Attributes:
        recipe: The recipe that all trainings have in common.
        runs: The trainings, one for each combination of values, seeds and folds.
        data: The data, the same for all trainings. No training uses its test part, on which each is
            evaluated.
        place: The name or the full path from which all workers load the data; "" to send it to
            them.
        together: Whether trainings of one shape are stacked; it changes no bit.
        notes: Remarks that the user should see before training starts, one line each.
        work: The work of all trainings; see `Job.work`.
    """

    recipe: Recipe
    runs: tuple[Variation, ...]
    data: DataSet | Examples = attrs.field(repr=False)
    place: str = ""
    together: bool = True
    notes: tuple[str, ...] = ()
    work: float = 0.0

    @property
    def batch(self) -> Examples:
        """The examples for training and validation."""
        return part_of(self.data)

    @property
    def own_modules(self) -> tuple[str, ...]:
        """The modules outside pydnn that the recipes name."""
        recipes = {id(run.setting): run.recipe for run in self.runs}.values()  # one of each setting
        return tuple(dict.fromkeys(name for recipe in recipes for name in own_modules(recipe)))

    @property
    def steps(self) -> int:
        """The number of steps of all trainings together, without early stopping."""
        return sum(variation.recipe.iterations for variation in self.runs)


def sweep(
    recipe: Recipe,
    batch: Examples | DataSet | AnyPath | object = None,
    *,
    seeds: int | Sequence[int] = 1,
    over: Mapping[str, Sequence[object]] = {},
    test: Examples | None = None,
    classes: Sequence[str] | None = None,
    together: bool = True,
    folds: int | None = None,
) -> Sweep:
    """Return the plan of a sweep: one training for each combination of values, seeds and folds.

    Args:
        recipe: The recipe that all trainings have in common.
        batch: The examples for training and validation; or what has a test part too, a data set
            or, for a recipe with a target, a `Table` or anything else that `Table.of` takes; or
            the name or path of a data set, by default the one that the recipe names.
        seeds: The seeds, or their number; they then begin with the seed of the recipe.
        over: Lists of values by name, e.g. {"optimizer.learning_rate": [0.1, 0.3]}; see `varied`.
        test: Examples to evaluate trained models on; None or no examples skip this.
        classes: The names of the classes, as many as the networks distinguish; None without names.
        together: Whether to stack trainings of one shape, which is faster and changes no bit.
        folds: The number k of folds for cross-validation; None for no folds. Each setting is
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
    place = ""
    if batch is None or isinstance(batch, str | os.PathLike):
        data: DataSet | Examples = data_of(recipe, batch)
        place = lasting_name(recipe.data if batch is None else str(batch))
    else:
        data = examples_of(recipe, batch)
    if isinstance(data, DataSet):
        data = attrs.evolve(data, test=data.test if test is None else test)
        data = attrs.evolve(data, classes=tuple(classes)) if classes else data
    elif test is not None or classes:
        data = DataSet(data, data.take(slice(0)) if test is None else test, classes=classes)
    classes = data.classes if isinstance(data, DataSet) else None
    runs = tuple(
        attrs.evolve(one, recipe=by_class_number(one.recipe, classes))
        for one in variations(recipe, seeds=seeds, over=over, folds=folds)
    )
    # All jobs share these examples, so their order in memory is changed once, here.
    plan = Sweep(recipe, runs, together_in_memory(data), place, together)
    notes: list[str] = []
    work, of_setting = 0.0, _runs_of_setting(runs)
    for variation in runs[::of_setting]:
        job = prepare(variation.recipe, plan.batch)  # refuses a setting that does not fit
        if isinstance(data, DataSet):
            expect_test(job, data.test, classes=classes)
        notes += job.notes
        work += job.work * of_setting
    return attrs.evolve(plan, notes=tuple(dict.fromkeys(notes)), work=work)


def _runs_of_setting(runs: Sequence[Variation]) -> int:
    """Return the number of trainings of each setting, one for each seed and fold."""
    return sum(variation.setting == runs[0].setting for variation in runs)


def run_sweep(
    plan: Sweep,
    *,
    executor: Executor | None = None,
    record: AnyPath | None = None,
    on_progress: OnProgress = lambda steps: None,
    on_begin: OnBegin = lambda numbers: None,
) -> SweepResult:
    """Carry out a sweep, and return the outcomes of all its trainings.

    Args:
        plan: The plan that `sweep` returned.
        executor: What does the trainings, e.g. `nn.workers.processes(4)`; None for this process
            alone. It changes no bit.
        record: A folder in which each training is recorded as a run; None to record nothing. If it
            exists already, it is the folder of the same sweep, which then goes on: trainings that
            are finished are not repeated, and others go on after their last recorded step.
        on_progress: Called with the number of steps done since the last call, e.g. to move a
            progress bar. Trainings of other processes count when they end.
        on_begin: Called with the numbers of trainings that begin together.

    Raises:
        BadInput: If the folder is not that of this sweep, is written by another process, or a
            worker cannot load the data or does not see the folder.
    """
    stream = outcomes(
        plan, executor=executor, record=record, on_progress=on_progress, on_begin=on_begin
    )
    by_number = dict(stream)
    return SweepResult(tuple(by_number[number] for number in range(len(plan.runs))))


def outcomes(
    plan: Sweep,
    *,
    executor: Executor | None = None,
    record: AnyPath | None = None,
    on_progress: OnProgress = lambda steps: None,
    on_begin: OnBegin = lambda numbers: None,
) -> Generator[tuple[int, Outcome], None, None]:
    """Carry out a sweep, and yield the number and the outcome of each training when it ends.

    Trainings whose recipes have the same `stacking_key` are stacked where possible; each gives bit
    for bit what it gives alone. The others are trained one after the other. Recorded trainings are
    not stacked. The arguments are those of `run_sweep`.

    Raises:
        BadInput: See `run_sweep`.
    """
    with contextlib.ExitStack() as stack:
        done = set()
        allow = plan.own_modules
        folder = None
        if record is not None:
            from pydnn.sweeps.recording import Recorder, expect_distinct, open_sweep  # seldom

            expect_distinct(plan.runs)
            folder = stack.enter_context(open_sweep(record, plan.recipe, plan.data))
            folder.plan(variation.recipe for variation in plan.runs)
            for number, variation in enumerate(plan.runs):
                outcome = folder.finished(variation.recipe, allow)
                if outcome is not None:
                    done.add(number)
                    on_progress(variation.recipe.iterations)
                    yield number, _of_setting(plan, number, outcome)
        workers, recorded = executor.workers if executor else 1, folder is not None
        left = [number for number in range(len(plan.runs)) if number not in done]
        chunks = _chunks(plan, left, workers=workers, recorded=recorded)
        if executor is not None:
            from pydnn.sweeps.tasks import outcomes_by  # few sweeps need it

            stream = outcomes_by(executor, plan, chunks, folder, on_progress, on_begin)
            stack.callback(stream.close)
        else:
            recorder = None if folder is None else Recorder(folder, plan.data, allow)
            stream = _outcomes_here(plan, chunks, recorder, on_progress, on_begin)
        # Every worker compiles once for all that it trains.
        for number, outcome in at_work(plan.work / max(1, workers), stream):
            yield number, _of_setting(plan, number, outcome)


def _of_setting(plan: Sweep, number: int, outcome: Outcome) -> Outcome:
    return attrs.evolve(outcome, setting=plan.runs[number].setting)


def _outcomes_here(
    plan: Sweep,
    chunks: Iterable[Chunk],
    recorder: Recorder | None,
    on_progress: OnProgress,
    on_begin: OnBegin,
) -> Generator[tuple[int, Outcome], None, None]:
    for chunk in chunks:
        on_begin(chunk.numbers)
        recipes = [plan.runs[number].recipe for number in chunk.numbers]
        ends = outcomes_of(
            plan.data,
            recipes,
            why_not=chunk.why_not_stacked,
            recorder=recorder,
            on_progress=on_progress,
        )
        for place, outcome in ends:
            yield chunk.numbers[place], outcome


def _groups(plan: Sweep, numbers: Iterable[int]) -> list[list[int]]:
    """Return the numbers of trainings, grouped by the `stacking_key` of their recipes.

    If the folds are not all of one size, they form two groups.
    """
    m = plan.batch.count

    def key(number: int) -> tuple[str, int]:
        recipe = plan.runs[number].recipe
        which, folds = recipe.fold or (1, 1)
        return write_recipe(stacking_key(recipe)), len(range(which - 1, m, folds))

    return list(toolz.groupby(key, numbers).values())


def _chunks(
    plan: Sweep, numbers: Iterable[int], *, workers: int = 1, recorded: bool = False
) -> Iterator[Chunk]:
    """Yield trainings in chunks that one worker does, as large as is fastest."""
    if recorded or not plan.together:
        why_not = "each is recorded as a run" if recorded else "as requested"
        yield from (Chunk((number,), why_not) for number in numbers)
        return
    for group in _groups(plan, numbers):
        most = _most_in_a_stack(plan, group)
        why_not = ""
        if len(group) == 1:
            why_not = "no other training has its shapes"
        elif most < _FEWEST_RUNS:
            why_not = _TOO_LARGE
        elif workers > 1:  # one chunk would be work for one worker alone
            two = [plan.runs[number].recipe for number in group[:2]]
            why_not = why_not_stacked(jobs_of(plan.data, two))
        if why_not:
            yield from (Chunk((number,), why_not) for number in group)
            continue
        count = max(-(-len(group) // most), min(workers, len(group) // _FEWEST_RUNS))
        for part in toolz.partition_all(-(-len(group) // count), group):
            yield Chunk(tuple(part), "" if len(part) > 1 else _TOO_LARGE)


_TOO_LARGE = "its arrays are so large that stacking would be slower"


def _most_in_a_stack(plan: Sweep, group: Sequence[int]) -> int:
    """Return how many trainings of a group one stack should have at most; below 1 for none."""
    if len(group) == 1:
        return 1
    first = prepare(plan.runs[group[0]].recipe, plan.batch)
    free = free_memory()
    fitting = len(group) if free is None else free // _bytes_of_run(first)
    return min(_MOST_NUMBERS // _largest(first), fitting)


def _bytes_of_run(job: Job) -> int:
    """Return how many bytes each training adds to a stack; the estimate is never too low."""
    train = job.data["train"]
    layers = layers_of(job.recipe, train.shape)
    step = sum(bytes_of(job.recipe, *layers, shape=train.shape, examples=train.count).values())
    if not job.recipe.holds_back and job.inputs.rotation is None:
        return step
    # Each seed holds back other examples, so each training has two copies, job and stack.
    parts = [part for part in job.data.values() if isinstance(part, Batch)]
    arrays = [array for part in parts for array in (part.X, part.Y, part.weights)]
    return step + 2 * sum(array.nbytes for array in arrays if array is not None)


def _largest(job: Job) -> int:
    """Return the size of a training's largest array: its parameters, or a layer's output."""
    layout = job.state.parameters.layout
    train = job.data["train"]
    features = math.prod(train.shape)
    widest = max((slot.shape[0] for slot in layout.slots), default=1)
    size = job.batching.at.size if isinstance(job.batching.at, EpochBatches) else None
    columns = train.count if size is None else size
    # All trainings share a full batch, while other batches are gathered for each of them.
    return max(layout.size, columns * (widest if size is None else max(widest, features)))
