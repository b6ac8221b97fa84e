"""A job: a recipe's parts, built and checked against its data, ready to train."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs
import numpy as np

from pydnn.augmentation import Augmentation, augmented
from pydnn.batches import (
    Batching,
    batches_of,
    distinct_labels,
    examples_together,
    split,
    split_fold,
)
from pydnn.checks import (
    BadInput,
    expect_finite,
    expect_known,
    printable,
    shown,
)
from pydnn.data import DataSet
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import TableBatch, TableExamples
from pydnn.data.texts import Vocabulary
from pydnn.data.watching import WatchedFiles
from pydnn.descriptions.builders import (
    build,
)
from pydnn.free_memory import free_memory, readable
from pydnn.jobs.class_weights import WeighClasses, by_class_number, weights_of_classes
from pydnn.jobs.columns import Columns, DroppedColumn, NumberColumn
from pydnn.jobs.inputs import (
    Inputs,
    expect_data,
    expect_finite_in_files,
    fit_inputs,
    fit_table_inputs,
)
from pydnn.jobs.loading import examples_of
from pydnn.jobs.memory import bytes_of, expect_room
from pydnn.jobs.rotation import first_weights, fit_rotation, is_worthwhile, project, why_not_exact
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.keys import Key
from pydnn.losses import Loss, class_count, expect_weights
from pydnn.metrics import METRICS
from pydnn.numerics import Numerics
from pydnn.numerics.blas_threads import THREADS, blas_threads, using_blas_threads
from pydnn.optimizers.base import GradientTransformation
from pydnn.penalties import Penalty
from pydnn.prefetch import prefetched
from pydnn.recipes.layouts import layers_of, layouts_of, same_parameters
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.recipes.toml import own_modules
from pydnn.records import Batch, Examples, FloatArray, IntArray, each_block
from pydnn.sequences import labels_of_steps
from pydnn.stages import Stage
from pydnn.stages.base import Context, Shape, expect_takes_lengths
from pydnn.stages.initializers import WeightStream
from pydnn.training import (
    TrainState,
    TrainStep,
    evaluation,
    initial_state,
    make_train_step,
    measure,
    output_of,
    scan,
    step_context,
    stop_early,
    watch_finite,
)
from pydnn.training.finite import ignoring_overflow
from pydnn.training.selected import Selected
from pydnn.training.stopping import Watch, Watched
from pydnn.training.streams import Measure, Stream

if TYPE_CHECKING:
    from pydnn.interop.weights import Weights
    from pydnn.workers.interface import Executor

__all__ = ["Job", "columns_for", "expect_test", "prepare", "run", "steps", "watch_of", "watching"]

# What compiling saves in a step of exact arithmetic, however small the network is: 0.2 milliseconds
# of calls, as much as in an update of this many parameters.
_OF_AN_EXACT_STEP = 2e5


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
        optimizer: GradientTransformation = build(self.recipe.optimizer, family="optimizer")
        notes = [
            self.not_rotated,
            *_column_notes(self.inputs.columns, self.recipe.standardize),
            _sequence_note(self.recipe, self.batch),
            _share_note(self.recipe.validation, self.data),
            _logits_note(self.network, self.loss),
            *_schedule_notes(optimizer, self.recipe.iterations),
            _thread_note(self.recipe),
        ]
        return tuple(note for note in notes if note)

    @property
    def batches(self) -> Iterator[Batch]:
        """The batches of all iterations after `state`, in order."""
        start, train = self.state.iteration, self.data["train"]
        # Then the step gets the numbers of examples, and workers that have the data gather them.
        examples = Selected.of(train) if self.train_step.keeps(train) else train
        batches = batches_of(self.batching, examples, self.state.key, start=start)
        batches = itertools.islice(batches, max(0, self.recipe.iterations - start))
        return batches if isinstance(train, Batch) else prefetched(batches)

    @property
    def work(self) -> float:
        """The work of the updates that are left, in numbers of parameters; see `engine_for`."""
        updates = max(0, self.recipe.iterations - self.state.iteration)
        more = _OF_AN_EXACT_STEP if self.numerics.exact else 0.0
        return updates * (self.state.parameters.vector.size + more)

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
    parts = _built(recipe, through)
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
    state, start = _first_state(recipe, parts, shape, columns)
    vocabulary = getattr(data, "vocabulary", None)
    if isinstance(batch, Stored):
        expect_finite_in_files(batch, "labels")
    task = _task(recipe, parts, state, first, other_labels, columns, vocabulary)
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
    _expect_weights(recipe, prepared)
    _expect_watchable(recipe, parts.optimizer, state, task.name, prepared)
    _expect_whole_batches(recipe, parts, prepared["train"], state)
    _expect_schedule(recipe, parts.optimizer)
    if parts.augment:  # called once here, so that they refuse examples that do not fit
        augmented(parts.augment, state.key, _first_example(prepared["train"]))
    train_step = _changed(step, _step_of(recipe, parts))
    rotates, not_rotated = _rotates(recipe, parts, train_step, state, prepared["train"])
    if rotates:
        prepared = _in_memory(prepared)
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
    job = _rotated(job, parts.optimizer) if rotates else job
    job = job.computed_by(executor)
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
    return job


@attrs.frozen(eq=False)
class _Parts:
    """The built parts of a recipe."""

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    batching: Batching
    penalties: Sequence[Penalty]
    augment: Sequence[Augmentation]
    weights: WeightStream | None


def _built(recipe: Recipe, through: Callable[[Stage], Stage]) -> _Parts:
    return _Parts(
        through(build(recipe.network, family="stage")),
        build(recipe.loss, family="loss"),
        build(recipe.optimizer, family="optimizer"),
        build(recipe.batches, family="batches"),
        [build(penalty, family="penalty") for penalty in recipe.penalties],
        [build(part, family="augmentation") for part in recipe.augment],
        None if recipe.weights is None else build(recipe.weights, family="weights"),
    )


def _first_state(
    recipe: Recipe, parts: _Parts, shape: Shape, columns: Columns | None
) -> tuple[TrainState, Weights | None]:
    """The state from which training starts, and the weights of a file, if it starts from them."""
    numerics = recipe.arithmetic
    numerics.expect_sound()
    state = initial_state(
        parts.network,
        parts.optimizer,
        shape,
        key=Key(recipe.seed),
        dtype=np.dtype(DTYPES[recipe.dtype]),
        weights=parts.weights,
        numerics=numerics,
    )
    if not recipe.start_from:
        return state, None
    from pydnn.interop.weights import load_weights  # few jobs need it

    try:
        start = load_weights(
            parts.network,
            recipe.start_from,
            shape_in=shape,
            dtype=recipe.dtype,
            allow=own_modules(recipe),  # which are imported, as the recipe names them
            on_table=None,
        )
    except BadInput as error:
        raise type(error)(f"start_from: {error}") from error
    names = zip(start.features, columns.features if columns else (), strict=False)
    if different := [pair for pair in names if pair[0] != pair[1]]:
        theirs, ours = (printable(name, most=60) for name in different[0])
        raise BadInput(
            f"start_from: {recipe.start_from} has weights for the feature {theirs!r} where this "
            f"table has {ours!r}: give the columns the names and the order that they had there."
        )
    parameters = state.parameters.with_vector(start.parameters.vector)
    begun = attrs.evolve(
        state,
        parameters=parameters,
        optimizer_state=parts.optimizer.init(parameters),
        statistics=state.statistics.with_vector(start.statistics.vector),
    )
    return begun, start


@attrs.frozen
class _Task:
    """What the loss trains the network for.

    Attributes:
        name: One of `losses.TASKS`.
        n_out: The number of outputs, for each example or each step.
        steps: Whether there is an output for each step or place of an example.
    """

    name: str
    n_out: int
    steps: bool = False

    @property
    def has_classes(self) -> bool:
        """Whether each example has one class."""
        return self.name in ("two classes", "many classes") and not self.steps


def _task(
    recipe: Recipe,
    parts: _Parts,
    state: TrainState,
    examples: Examples,
    other_labels: FloatArray | None,
    columns: Columns | None,
    vocabulary: Vocabulary | None,
) -> _Task:
    """What the loss trains the network for.

    Raises:
        BadInput: If the network does not take the examples, or the loss their labels.
    """
    numerics = recipe.arithmetic
    first = attrs.evolve(_first_example(examples), weights=None)
    with ignoring_overflow():
        X, Y = (array.astype(DTYPES[recipe.dtype]) for array in (first.X, first.Y))
        AL = output_of(parts.network, state, X, lengths=first.lengths, numerics=numerics)
        n_out = AL.shape[-2]
        if vocabulary is not None and n_out != len(vocabulary.symbols):
            K = len(vocabulary.symbols)
            raise BadInput(
                f"the network has {n_out} outputs, but the text has {K} different symbols: end it "
                f"with dense({K})."
            )
        if columns is not None:
            columns.targets.expect_outputs(parts.loss, n_out)
        if examples.has_lengths and AL.ndim == 2 and parts.network.lengths == "kept":
            shape = (*examples.shape, examples.count)
            raise BadInput(
                f"X has shape {shape} and lengths, so each step is a number, but the "
                "network mixes them like features: for ids begin it with embedding(…) or "
                "one_hot(…), or leave lengths out."
            )
        others = [] if other_labels is None else [other_labels]
        _expect_labels(parts.loss, AL.shape, examples, others)
        # Called once here, so that it refuses options that do not fit the outputs.
        parts.loss(AL, Y, None, Context(numerics=numerics, lengths=first.lengths))
    return _Task(parts.loss.task(n_out), n_out, AL.ndim > 2)


def _with_rare_classes(labels: FloatArray, loss: Loss, output: Shape) -> FloatArray:
    """The labels and, if each step has one, a label of every class.

    A loss asks for examples of every class, but a rare letter or word may be in the test part
    alone.
    """
    n_out = output[-2]
    if len(output) == 2 or len(labels) != 1 or loss.task(n_out) != "many classes":
        return labels
    return np.concatenate([labels, np.arange(n_out)[np.newaxis]], axis=-1)


def _first_example(examples: Examples) -> Batch:
    return examples.take(slice(0, 1))


def _expect_labels(
    loss: Loss, output: Shape, examples: Examples, others: Sequence[FloatArray]
) -> None:
    """Refuse labels that the loss does not take; those in files are checked block by block.

    Args:
        loss: The loss.
        output: The shape of the network's output, with any number of examples.
        examples: The examples.
        others: Further labels in columns, since a loss may require examples of every class.
    """
    if not isinstance(examples, Batch):
        others = [*others, _known_labels(loss, output, examples)]

    def expect(labels: FloatArray) -> None:
        labels = np.concatenate([labels, *others], axis=-1) if others else labels
        loss.expect_labels(_with_rare_classes(labels, loss, output), output[-2])

    try:
        for labels in _label_blocks(output, examples):
            expect(labels)
    except BadInput:
        # Again with all labels, for a message with the place of one among all examples.
        expect(np.concatenate(list(_label_blocks(output, examples)), axis=-1))
        raise


def _label_blocks(output: Shape, examples: Examples) -> Iterator[FloatArray]:
    """The labels of examples in columns, see `_labels`, in blocks if they are in files."""
    if isinstance(examples, Batch):
        yield _labels(output, examples)
        return
    if isinstance(examples, Stored) and not examples.through and len(output) == 2:
        examples = examples.without_X()
    for block in examples.blocks():
        yield _labels(output, block)


def _known_labels(loss: Loss, output: Shape, examples: Examples) -> FloatArray:
    """Labels among which each class occurs that occurs among the examples: all, or a few in files.

    Of a regression, and of classes too many to be classes, those of the first block.
    """
    blocks = _label_blocks(output, examples)
    first = next(blocks)
    if isinstance(examples, Batch) or loss.task(output[-2]) == "regression":
        return first
    distinct = distinct_labels(first)
    for labels in blocks:
        if distinct.shape[1] > _MOST_DISTINCT:
            return first
        distinct = distinct_labels(distinct, labels)
    return distinct


_MOST_DISTINCT = 100_000  # labels, or rows of several labels


def _labels(output: Shape, batch: Batch) -> FloatArray:
    """The labels of a batch in columns: of examples, or of the valid steps of all examples.

    Args:
        output: The shape of the network's output, with any number of examples.
        batch: The examples.

    Raises:
        BadInput: If the network has an output for each step, but Y no label for each.
    """
    Y, *steps = batch.Y, *output[:-2]
    if not steps:
        return Y
    if Y.ndim == 2 and Y.shape[:-1] != tuple(steps):
        raise BadInput(
            f"Y has shape {Y.shape}, but the network's output for an example has shape "
            f"{output[:-1]}, expected labels for each step or place: for one label per example, "
            "end the steps or places before the last dense(…), by output='last', flatten() or "
            "global_average_pool()."
        )
    return labels_of_steps(Y, (*output[:-1], Y.shape[-1]), batch.lengths)


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


def _weighed(recipe: Recipe, task: _Task, data: Mapping[str, Examples]) -> dict[str, Examples]:
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
    task = _Task(loss.task(n_y), n_y)
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


def _step_of(recipe: Recipe, parts: _Parts) -> TrainStep:
    numerics = recipe.arithmetic
    train_step = make_train_step(
        parts.network,
        parts.loss,
        parts.optimizer,
        penalties=parts.penalties,
        augment=parts.augment,
        numerics=numerics,
        shards=recipe.shards,
    )
    if parts.optimizer.tolerates_nonfinite:
        return train_step
    return train_step.insert_after("update", watch_finite(parts.network, numerics=numerics))


def _changed(step: Callable[[TrainStep], TrainStep], train_step: TrainStep) -> TrainStep:
    changed = step(train_step)
    if not isinstance(changed, TrainStep):
        raise BadInput(f"step returned {changed!r}, expected a TrainStep: return the changed step.")
    return changed


# Rotation


def _rotates(
    recipe: Recipe, parts: _Parts, train_step: TrainStep, state: TrainState, train: Examples
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
    first = _first_example(examples).X
    return np.broadcast_to(first, (*first.shape[:-1], examples.count))


def _in_memory(data: Mapping[str, Examples]) -> dict[str, Examples]:
    """The parts in memory, for a rotation, which needs them all.

    Raises:
        BadInput: If they do not fit.
    """
    needed = sum(
        2 * math.prod(part.shape) * part.count * _first_example(part).X.itemsize
        for part in data.values()
        if not isinstance(part, Batch)
    )
    if needed > (free_memory() or math.inf):
        raise BadInput(
            f"training is rotated to save time, for which all examples have to be in memory, in "
            f"{readable(needed)}: set rotate to false, which gives other bits."
        )
    return {name: part.in_memory() for name, part in data.items()}


def _worth_rotating(recipe: Recipe, parts: _Parts, state: TrainState, train: Examples) -> bool:
    """Whether the recipe demands rotation, or leaves it open and rotation saves time."""
    if recipe.rotate is not None:
        return recipe.rotate
    m = train.count
    per_step = m // parts.batching.per_epoch(m)
    slot = first_weights(parts.network, state.parameters.layout)
    return slot is not None and is_worthwhile(slot, m, iterations=recipe.iterations, batch=per_step)


def _rotated(job: Job, optimizer: GradientTransformation) -> Job:
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


# Checks before training starts


def _expect_weights(recipe: Recipe, data: Mapping[str, Examples]) -> None:
    for name, part in data.items():
        if part.has_weights:
            expect_weights_of(part, of=f"the {name} part" if recipe.holds_back else "all examples")


def expect_weights_of(examples: Examples, *, of: str) -> None:
    """Refuse weights of examples of which none is above 0; those in memory are checked further.

    In files, `expect_finite_in_files` has checked each of them.
    """
    if isinstance(examples, Batch):
        assert examples.weights is not None
        expect_weights(examples.weights, examples.count, of=of)
    elif not any(block.weights is None or block.weights.any() for block in examples.blocks()):
        expect_weights(np.zeros((1, 1)), 1, of=of)


def _expect_watchable(
    recipe: Recipe,
    optimizer: GradientTransformation,
    state: TrainState,
    task: str,
    data: Mapping[str, Examples],
) -> None:
    """Refuse early stopping on a value that is unknown or would never be measured."""
    if not recipe.watch:
        return
    evaluated = ("cost", *METRICS[task]) if recipe.evaluate_every else ()
    measured = [f"{part} {metric}" for part in data for metric in evaluated]
    observed = optimizer.observe(state.optimizer_state)
    known = ["cost", "gradient_norm", *observed, *measured]
    expect_known("value to watch", recipe.watch, known)
    watch_of(recipe)  # refuses a value for which it is unknown whether higher is better
    every = recipe.evaluate_every
    for name in ("patience", "iterations"):
        most = getattr(recipe, name)
        if recipe.watch in measured and most < every:
            raise BadInput(
                f"{name} is {most} and evaluate_every is {every}, so {recipe.watch!r} would not be "
                f"measured once: set {name} to {every} or more, or evaluate more often."
            )


def _expect_schedule(recipe: Recipe, optimizer: GradientTransformation) -> None:
    schedule = optimizer.schedule
    if schedule is None:
        return
    if schedule.empty:
        raise BadInput(f"the schedule has an empty phase: {schedule.empty}.")
    # A call at the last update refuses a schedule whose rate is not a number.
    schedule((recipe.iterations - 1) // optimizer.every, recipe.arithmetic)


def expect_test(job: Job, test: Examples, *, classes: Sequence[str] | None = None) -> None:
    """Refuse, before training starts, test examples that the trained model could not be tested on.

    Args:
        job: The job, from `prepare`.
        test: Raw test examples; there may be none.
        classes: Names of the classes, if they have names.

    Raises:
        BadInput: If X or Y has other rows than in training; if an entry is not finite, before or
            after conversion to network inputs; if the loss does not take a label; or if there are
            more or fewer names than classes.
    """
    if isinstance(job.batch, TableExamples):
        _expect_table_test(job, test)
        return
    output = _output_shape(job, job.data["train"])
    n_out = output[-2]
    count = class_count(job.loss.task(n_out), n_out)
    if classes is not None and count not in (None, len(classes)):
        raise BadInput(
            f"the data names {len(classes)} classes, but the network has outputs for {count}: "
            f"give it {len(classes)} outputs, or the data {count} names."
        )
    # Sequences of the test part may have more steps than those in training, and so more labels.
    other = test.shape != job.batch.shape
    other = other and same_parameters(job.recipe, job.batch.shape, test.shape)
    shapes = {"X": (test.shape, job.batch.shape), "Y": (test.label_shape, job.batch.label_shape)}
    for name, (ours, theirs) in shapes.items():
        hint = f"give the test part the rows that {name} has in training"
        if not other and ours != theirs:
            m = test.count
            raise BadInput(f"test {name} has shape {(*ours, m)}, expected {(*theirs, m)}: {hint}.")
    if isinstance(test, Batch):
        expect_finite("test X", test.X)
        expect_finite("test Y", test.Y)
    if not test.count:
        return
    try:
        of_test = output
        if other:
            of_test = _output_shape(job, job.inputs.examples(_first_example(test)))
        if isinstance(test, Stored):
            expect_finite_in_files(test, "labels")
            expect_finite_in_files(test, "X")
        # With the training labels, because a loss may require examples of every class. The test
        # labels come first, so that the column number in a message is theirs.
        _expect_labels(job.loss, of_test, test, [_known_labels(job.loss, output, job.batch)])
        if test.has_weights:
            expect_weights_of(test, of="all test examples")
        for block in _blocks(test):
            job.inputs.plain.examples(block, kept=False)
    except BadInput as error:
        raise BadInput(f"test part: {error}") from error


def _blocks(examples: Examples) -> Iterator[Batch]:
    """Examples in memory at once, and those in files block by block."""
    return iter([examples]) if isinstance(examples, Batch) else examples.blocks()


def _output_shape(job: Job, examples: Examples) -> Shape:
    """The shape of the network's output for the first of some network inputs."""
    first = _first_example(examples)
    return job.output(job.state, first.X, lengths=first.lengths).shape


def _expect_table_test(job: Job, test: Examples) -> None:
    try:
        convert = partial(job.inputs.plain.examples, kept=False)
        for _ in each_block(convert, _blocks(test)) if test.count else ():
            pass  # what does not fit is refused
        if test.count and test.has_weights:
            expect_weights_of(test.then(job.inputs.plain.examples), of="all test examples")
    except BadInput as error:
        raise BadInput(f"test part: {error}") from error


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


def steps(job: Job) -> Stream:
    """The stream of a job's steps, evaluated as its recipe says, without early stopping."""
    stream = scan(job.train_step, job.state, job.batches)
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


def watch_of(recipe: Recipe) -> Watch | None:
    """The value that early stopping watches; None if the recipe does not stop early."""
    return Watch(recipe.watch, recipe.higher_is_better) if recipe.patience else None


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


def _expect_whole_batches(
    recipe: Recipe, parts: _Parts, train: Examples, state: TrainState
) -> None:
    """Refuse batches that do not fit the data, or whose size does not fit the network.

    A network that mixes examples needs two or more in every batch, or in every shard of it. One
    that carries a state from batch to batch needs the same number in every batch. And each shard
    needs an example.
    """
    network, batching, shards = parts.network, parts.batching, recipe.shards
    m = train.count
    count = batching.per_epoch(m)
    statistics = network.statistics
    carries = statistics is not None and statistics.read_in_training
    if not network.mixes_examples and not carries and shards == 1:
        return
    ends = [batching.at(train, state.key, k) for k in sorted({0, count - 1})]
    sizes = [batch.X.shape[-1] for batch in ends]
    if min(sizes) < shards:
        if len(set(sizes)) == 1:
            raise BadInput(
                f"shards are {shards}, but each batch has only {sizes[0]} of {m} training "
                "examples: choose fewer shards or larger batches."
            )
        raise BadInput(
            f"shards are {shards}, but batches of {sizes[0]} leave a batch of {min(sizes)} of {m} "
            "training examples: choose fewer shards, another batch size, or keep_last=False."
        )
    if network.mixes_examples and shards > 1 and min(sizes) < 2 * shards:
        raise BadInput(
            f"{shards} shards of a batch of {min(sizes)} examples leave 1 in a shard, but "
            f"{_mixing(network)} needs 2 or more: choose fewer shards, another batch size, or "
            "keep_last=False."
        )
    if network.mixes_examples and min(sizes) < 2:
        raise BadInput(
            f"batches of {sizes[0]} leave a batch of {min(sizes)} of {m} training examples, but "
            f"{_mixing(network)} needs 2 or more in every batch: choose another batch size, or "
            "keep_last=False."
        )
    if carries and len(set(sizes)) > 1:
        raise BadInput(
            f"batches of {sizes[0]} leave a batch of {sizes[-1]} of {m} training examples, but "
            "the network carries a state from batch to batch, for the same number of examples in "
            "each: choose another batch size, or keep_last=False."
        )
    if carries:  # a stage knows for how many examples it is made
        context = attrs.evolve(
            step_context(state.key, state.iteration, recipe.arithmetic),
            statistics=state.statistics.tree,
            lengths=ends[0].lengths,
        )
        with ignoring_overflow():
            network.forward(state.parameters.tree, ends[0].X, context)


def _mixing(network: Stage) -> str:
    """The name of the first innermost stage that mixes examples."""
    inner = next((part for part in network.parts if part.mixes_examples), None)
    return network.name if inner is None else _mixing(inner)
