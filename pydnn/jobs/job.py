"""A job: a recipe's parts, built and checked against its data, ready to train."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs
import numpy as np

from pydnn.augmentation import augmented
from pydnn.batches import (
    Batching,
    batches_of,
    examples_together,
    split,
    split_fold,
)
from pydnn.checks import (
    BadInput,
    shown,
)
from pydnn.data import DataSet
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import TableBatch, TableExamples
from pydnn.data.watching import WatchedFiles
from pydnn.descriptions.builders import (
    build,
)
from pydnn.engines import at_work
from pydnn.jobs.class_weights import WeighClasses, by_class_number, weights_of_classes
from pydnn.jobs.columns import Columns
from pydnn.jobs.expectations import (
    expect_schedule,
    expect_test,
    expect_watchable,
    expect_weights_of_parts,
    expect_whole_batches,
)
from pydnn.jobs.inputs import (
    Inputs,
    expect_data,
    expect_finite_in_files,
    fit_inputs,
    fit_table_inputs,
)
from pydnn.jobs.loading import examples_of
from pydnn.jobs.memory import bytes_of, expect_room
from pydnn.jobs.notes import notes_of
from pydnn.jobs.parts import built, first_state, step_of, watch_of
from pydnn.jobs.rotating import all_in_memory, choose_rotation, rotated
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.jobs.tasks import Task, first_example, task_of
from pydnn.jobs.work import work_of_update
from pydnn.keys import Key
from pydnn.losses import Loss, class_count
from pydnn.numerics import Numerics
from pydnn.numerics.blas_threads import using_blas_threads
from pydnn.prefetch import prefetched
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, Examples, FloatArray, IntArray
from pydnn.stages import Stage
from pydnn.stages.base import expect_takes_lengths
from pydnn.training import (
    TrainState,
    TrainStep,
    evaluation,
    measure,
    output_of,
    scan,
    stop_early,
)
from pydnn.training.selected import Selected
from pydnn.training.stopping import Watched
from pydnn.training.streams import Measure, Stream

if TYPE_CHECKING:
    from pydnn.interop.weights import Weights
    from pydnn.workers.interface import Executor

__all__ = ["Job", "columns_for", "prepare", "run", "steps", "watching"]


@attrs.frozen(eq=False)
class Job:
    """A recipe with its parts built and its data prepared: everything that `scan` needs.

    `attrs.evolve(job, state=state)` is the same job, continued from another state.

    Attributes:
        recipe: The recipe that the job was built from.
        batch: The raw examples that the job was built for, in memory or in files.
        network: The network.
        loss: The loss.
        train_step: The training step.
        state: The state from which training starts.
        batching: How the training part is cut into batches.
        data: The examples for training and evaluation, as network inputs: "train", and
            "validation" if the recipe holds some back. Those in files stay there.
        inputs: The conversion from raw examples to network inputs.
        not_rotated: Why training is not rotated, if rotation would save time but a part of the
            step is not declared isotropic; else "".
        start: The weights that `start_from` of the recipe names; None for drawn weights.
        files: The files that the examples stay in, which must not change during the training.

    Raises:
        BadInput: If there is a rotation and a part of the step is not declared isotropic.
    """

    recipe: Recipe
    batch: Examples = attrs.field(repr=False)
    network: Stage
    loss: Loss
    train_step: TrainStep
    state: TrainState
    batching: Batching
    data: Mapping[str, Examples] = attrs.field(repr=False)
    inputs: Inputs
    not_rotated: str = attrs.field(default="", repr=False)
    start: Weights | None = attrs.field(default=None, repr=False)
    files: WatchedFiles = attrs.field(factory=lambda: WatchedFiles({}), repr=False)

    def __attrs_post_init__(self) -> None:
        if self.inputs.rotation is not None and self.train_step.not_isotropic:
            raise BadInput(
                f"part {self.train_step.not_isotropic[0]!r} does not say that it treats all "
                "directions alike, but the job is trained in a rotated basis: pass the change "
                "as prepare(…, step=…), which then chooses the basis."
            )

    @property
    def numerics(self) -> Numerics:
        """The arithmetic that the recipe names."""
        return self.recipe.arithmetic

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user before training starts, one line each."""
        return notes_of(self)

    @property
    def batches(self) -> Iterator[Batch]:
        """The batches of all iterations after `state`, in order."""
        start, train = self.state.iteration, self.data["train"]
        # Then the step gets the numbers of examples, and workers that have the data gather them.
        examples = Selected.of(train) if self.train_step.keeps(train) else train
        batches = batches_of(self.batching, examples, self.state.key, start=start)
        batches = itertools.islice(batches, _left(self))
        return batches if isinstance(train, Batch) else prefetched(batches)

    @property
    def work(self) -> float:
        """The work of the updates that are left; see `work_of`."""
        return self.work_of(_left(self))

    def work_of(self, updates: int) -> float:
        """The work of so many updates, for `pydnn.engines.engine_for`."""
        train = self.data["train"]
        return updates * work_of_update(self.recipe, train.shape, train.count)

    def computed_by(self, executor: Executor | None) -> Job:
        """The same job, whose shards `executor` computes; None for who computes them already.

        Raises:
            BadInput: If the executor has several workers, but the recipe has no shards.
        """
        if executor is None:
            return self
        return attrs.evolve(self, train_step=self.train_step.computed_by(executor))

    def evaluation(self, data: Mapping[str, Examples] | None = None) -> Measure:
        """The function that measures a state: cost and metrics on each part of `data`.

        Args:
            data: Parts by name, as network inputs; by default the job's own `data`.
        """
        data = self.data if data is None else data
        measured = evaluation(self.network, self.loss, data, numerics=self.numerics)
        return _on_any_worker(self.recipe, measured)

    def output(
        self, state: TrainState, X: FloatArray, *, lengths: IntArray | None = None
    ) -> FloatArray:
        """The network's output (n_out, m) for network inputs X (n_x, m), outside of training.

        For raw examples, call `job.output(state, job.inputs(X))`.

        Args:
            state: A state of the training.
            X: Network inputs, with the examples along the last axis.
            lengths: The number of valid steps of each sequence (m,); None if all steps are valid.
        """
        return output_of(self.network, state, X, lengths=lengths, numerics=self.numerics)


_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _on_any_worker(
    recipe: Recipe, function: Callable[_Given, _Result]
) -> Callable[_Given, _Result]:
    """The function with the same bits on every worker, if the recipe cuts batches into shards."""
    if not recipe.one_thread:
        return function

    def in_one_thread(*args: _Given.args, **options: _Given.kwargs) -> _Result:
        with using_blas_threads(1):
            return function(*args, **options)

    return in_one_thread


def _prepared_on_any_worker(prepare: Callable[_Given, Job]) -> Callable[_Given, Job]:
    @functools.wraps(prepare)
    def prepared(*args: _Given.args, **options: _Given.kwargs) -> Job:
        recipe: Any = options.get("recipe", args[0] if args else None)
        function = _on_any_worker(recipe, prepare) if isinstance(recipe, Recipe) else prepare
        return function(*args, **options)

    return prepared


@_prepared_on_any_worker  # the first weights and a rotation may come from products, too
@np.errstate(under="ignore")
def prepare(
    recipe: Recipe,
    data: Examples | DataSet | object,
    *,
    through: Callable[[Stage], Stage] = lambda network: network,
    step: Callable[[TrainStep], TrainStep] = lambda train_step: train_step,
    standardizing: Callable[..., Standardization] = fit_standardization,
    other_labels: FloatArray | None = None,
    executor: Executor | None = None,
) -> Job:
    """Build and check the parts of `recipe` for training on `data`.

    Args:
        recipe: The recipe.
        data: The examples for training and validation, or a data set, whose test part is then
            checked too (see `expect_test`); for a recipe with a target also a `Table`, or anything
            else that `Table.of` takes. Examples in files stay there, and give the same bits.
            Examples are standardized in their own dtype, so float32 and float64 copies of the same
            data give different bits.
        through: A function that takes the network and returns the one to train, e.g. with its
            stages observed.
        step: A function that takes the training step and returns the one to use, e.g. with
            another part inserted. If a part of it is not declared isotropic, as with
            `part(isotropic=True)`, training is not rotated.
        standardizing: The function that fits a standardization on the training part,
            `(X, numerics=…) -> Standardization`. Only runs of pydnn 0.1.0 need another one.
        other_labels: Labels (n_y, k) of examples that are not in `data` but belong to the same
            task, e.g. one of each class, where `data` is a part in which a class may be absent.
        executor: Who computes the shards of each batch, e.g. `nn.workers.processes(4)`; by default
            the thread that trains. No bit depends on it.

    Raises:
        BadInput: If a description names an unknown builder; the stages do not fit each other
            or the data; the loss does not take the data's labels; options of the recipe
            contradict each other; or a training step needs more memory than is free.

    Example:
        >>> import attrs
        >>> line = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> rate = "gradient_descent(learning_rate=0.1)"
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", rate, iterations=200)
        >>> @nn.part(needs=["grads"], gives=["grads"])
        ... def halve(step):
        ...     half = step.grads.with_vector(step.grads.vector / 2)
        ...     return attrs.evolve(step, grads=half)
        >>> job = prepare(recipe, line, step=lambda step: step.insert_after("backward", halve))
        >>> [part.name for part in job.train_step.parts][2:5]
        ['backward', 'halve', 'update']
    """
    data = examples_of(recipe, data)
    batch = data.train if isinstance(data, DataSet) else data
    if isinstance(data, DataSet):
        recipe = by_class_number(recipe, data.classes)
    parts = built(recipe, through)
    expect_data(batch)
    inputs, columns = None, None
    if isinstance(batch, TableExamples):
        # What its columns become has to be known before the network can be laid out.
        examples, inputs = _table_examples(recipe, parts.loss, batch)
        columns = inputs.columns
        recipe = by_class_number(recipe, columns.targets.classes if columns else None)
        prepared = {name: inputs.of(part) for name, part in examples.items()}
    first = prepared["train"] if inputs else batch
    shape, m = first.shape, batch.count
    if first.has_lengths:
        expect_takes_lengths(parts.network)
    needed = bytes_of(recipe, *layers_of(recipe, shape), shape=shape, examples=m)
    if not isinstance(batch, Batch) and parts.batching.per_epoch(m) == 1:
        # Raw examples, and network inputs, of which the whole batch is made in each step.
        needed["all examples, in one batch"] = (
            2 * math.prod(shape) * m * DTYPES[recipe.dtype](0).itemsize
        )
    expect_room(needed)
    state, start = first_state(recipe, parts, shape, columns)
    vocabulary = getattr(data, "vocabulary", None)
    if isinstance(batch, Stored):
        expect_finite_in_files(batch, "labels")
    task = task_of(recipe, parts, state, first, other_labels, columns, vocabulary)
    if inputs is None:
        if isinstance(batch, Stored):
            expect_finite_in_files(batch, "X")
        examples = _examples(recipe, task.has_classes, batch)
        inputs = fit_inputs(recipe, examples["train"], standardizing=standardizing)
        if parts.batching.per_epoch(examples["train"].count) == 1:
            examples["train"] = examples["train"].in_memory()
        prepared = {name: inputs.of(part) for name, part in examples.items()}
    if recipe.class_weights:
        prepared = _weighed(recipe, task, prepared)
    expect_weights_of_parts(recipe, prepared)
    expect_watchable(recipe, parts.optimizer, state, task.name, prepared)
    expect_whole_batches(recipe, parts, prepared["train"], state)
    expect_schedule(recipe, parts.optimizer)
    if parts.augment:  # called once here, so that they refuse examples that do not fit
        augmented(parts.augment, state.key, first_example(prepared["train"]))
    train_step = _changed(step, step_of(recipe, parts))
    rotates, not_rotated = choose_rotation(recipe, parts, train_step, state, prepared["train"])
    if rotates:
        prepared = all_in_memory(prepared)
    job = Job(
        recipe,
        batch,
        parts.network,
        parts.loss,
        train_step,
        state,
        parts.batching,
        prepared,
        inputs,
        not_rotated,
        start,
        WatchedFiles.of([data.train, data.test] if isinstance(data, DataSet) else [data]),
    )
    job = rotated(job, parts.optimizer) if rotates else job
    job = job.computed_by(executor)
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
    return job


def _examples(recipe: Recipe, stratified: bool, batch: Examples) -> dict[str, Examples]:
    """The raw training part and, if the recipe asks for one, the raw validation part."""
    if isinstance(batch, Batch):  # files have each example together
        batch = examples_together(batch)
    if not recipe.holds_back:
        return {"train": batch}
    which, folds = recipe.fold or (0, 0)
    if stratified and isinstance(batch, TableExamples):
        one = f"one for each of {folds} folds" if folds else "one of them for the validation part"
        batch.expect_of_each_class(folds or 2, one)
    key = Key(recipe.seed).at("validation")
    if folds:
        train, held_back = split_fold(batch, key, which=which, folds=folds, stratified=stratified)
    else:
        train, held_back = split(batch, key, share=recipe.validation, stratified=stratified)
    return {"train": train, "validation": held_back}


def _weighed(recipe: Recipe, task: Task, data: Mapping[str, Examples]) -> dict[str, Examples]:
    """The parts of the data with the weights of classes, which the training part decides on."""
    if not task.has_classes:
        what = "each step has a label" if task.steps else f"the loss is for {task.name}"
        raise BadInput(
            f"class_weights is {shown(recipe.class_weights)}, but {what}, expected one class per "
            "example: leave it out."
        )
    train = data["train"]
    count = class_count(task.name, task.n_out)
    assert count is not None
    by_class = weights_of_classes(recipe.class_weights, train, count).astype(recipe.dtype)
    return {name: part.then(WeighClasses(by_class)) for name, part in data.items()}


def _table_examples(
    recipe: Recipe, loss: Loss, batch: Examples
) -> tuple[dict[str, Examples], Inputs]:
    """The parts of a table's examples, and what its columns become, as the training part says."""
    [n_y] = batch.label_shape
    task = Task(loss.task(n_y), n_y)
    examples = _examples(recipe, task.has_classes, batch)
    train = examples["train"]
    assert isinstance(train, TableBatch | StoredTableBatch)  # as each part of one is
    return examples, fit_table_inputs(recipe, train, loss)


def columns_for(recipe: Recipe, data: Examples | DataSet) -> Columns | None:
    """The conversion of a table's columns in a job of the recipe; None if the data is arrays.

    Raises:
        BadInput: If a column cannot be used, see `fit_columns`.
    """
    batch = data.train if isinstance(data, DataSet) else data
    if not isinstance(batch, TableExamples):
        return None
    loss: Loss = build(recipe.loss, family="loss")
    return _table_examples(recipe, loss, batch)[1].columns


def _changed(step: Callable[[TrainStep], TrainStep], train_step: TrainStep) -> TrainStep:
    changed = step(train_step)
    if not isinstance(changed, TrainStep):
        raise BadInput(f"step returned {changed!r}, expected a TrainStep: return the changed step.")
    return changed


def _left(job: Job) -> int:
    """The number of updates that are left."""
    return max(0, job.recipe.iterations - job.state.iteration)


def steps(job: Job, count: int | None = None) -> Stream:
    """The stream of a job's steps, evaluated as its recipe says, without early stopping.

    While it lasts, the engine for this much work does all the work of the process.

    Args:
        job: The job.
        count: How many steps to take, at most those that are left; by default all of them.
    """
    count = _left(job) if count is None else count
    batches = itertools.islice(job.batches, count)
    stream = at_work(job.work_of(count), scan(job.train_step, job.state, batches, ahead=True))
    every = job.recipe.evaluate_every
    if every:
        stream = measure(stream, every=every, function=job.evaluation())
    if not job.files.states:
        return stream
    epoch = job.batching.per_epoch(job.data["train"].count)
    return _of_unchanged_files(stream, job.files, every=min(epoch, every or epoch, _MOST_UNCHECKED))


_MOST_UNCHECKED = 1000  # steps between two looks at the files of the data


def _of_unchanged_files(stream: Stream, files: WatchedFiles, *, every: int) -> Stream:
    """The same stream, which ends with an error once a file has changed."""
    for state, info in stream:
        if state.iteration % every == 0:
            files.expect_unchanged()
        yield state, info
    files.expect_unchanged()


def run(
    job: Job,
    *,
    watched: Watched | None = None,
    on_watched: Callable[[Watched], object] = lambda watched: None,
) -> Stream:
    """The stream of a job's steps, with the evaluations and early stopping of its recipe.

    The last pair is the last step taken. To find the state to keep, fold `watching(job)` over
    the stream and read its `kept`.

    Args:
        job: The job, from `prepare`.
        watched: The record of early stopping up to `job.state`, to continue from it.
        on_watched: Called with the record of early stopping after each step; see `stop_early`.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
        >>> job = prepare(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> [state.iteration for state, info in run(job)]
        [1, 2, 3]
    """
    stream = steps(job)
    watch = watch_of(job.recipe)
    if watch is None:
        return stream
    return stop_early(
        stream,
        watch=watch.name,
        patience=job.recipe.patience,
        since=watched or watching(job),
        on_watched=on_watched,
    )


def watching(job: Job) -> Watched:
    """The initial value of a fold over `run(job)` whose `kept` is the state to keep.

    That is the best state if the recipe stops early, and the last one otherwise.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
        >>> job = prepare(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> watched = watching(job)
        >>> for state, info in run(job):
        ...     watched = watched.after(state, info)
        >>> watched.kept.iteration
        3
    """
    return Watched(watch_of(job.recipe), job.state)
