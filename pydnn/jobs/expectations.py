"""Checks of a job before training starts: weights, values to watch, batches, test examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_finite, expect_known
from pydnn.data.stored import Stored
from pydnn.data.tables import TableExamples
from pydnn.jobs.inputs import expect_finite_in_files
from pydnn.jobs.parts import Parts, watch_of
from pydnn.jobs.tasks import expect_labels, first_example, known_labels
from pydnn.losses import class_count, expect_weights
from pydnn.metrics import METRICS
from pydnn.optimizers.base import GradientTransformation
from pydnn.recipes.layouts import same_parameters
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, Examples, each_block
from pydnn.stages import Stage
from pydnn.stages.base import Shape
from pydnn.training import TrainState, step_context
from pydnn.training.finite import ignoring_overflow

if TYPE_CHECKING:
    from pydnn.jobs.job import Job

__all__ = [
    "expect_schedule",
    "expect_test",
    "expect_watchable",
    "expect_weights_of",
    "expect_weights_of_parts",
    "expect_whole_batches",
]


def expect_weights_of_parts(recipe: Recipe, data: Mapping[str, Examples]) -> None:
    """Refuse a part whose examples all have the weight 0; see `expect_weights_of`."""
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


def expect_watchable(
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


def expect_schedule(recipe: Recipe, optimizer: GradientTransformation) -> None:
    """Refuse a schedule with an empty phase, or whose rate is not a number."""
    schedule = optimizer.schedule
    if schedule is None:
        return
    if schedule.empty:
        raise BadInput(f"the schedule has an empty phase: {schedule.empty}.")
    # A call at the last update refuses a schedule whose rate is not a number.
    schedule((recipe.iterations - 1) // optimizer.every, recipe.arithmetic)


def expect_whole_batches(recipe: Recipe, parts: Parts, train: Examples, state: TrainState) -> None:
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
            of_test = _output_shape(job, job.inputs.examples(first_example(test)))
        if isinstance(test, Stored):
            expect_finite_in_files(test, "labels")
            expect_finite_in_files(test, "X")
        # With the training labels, because a loss may require examples of every class. The test
        # labels come first, so that the column number in a message is theirs.
        expect_labels(job.loss, of_test, test, [known_labels(job.loss, output, job.batch)])
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
    first = first_example(examples)
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
