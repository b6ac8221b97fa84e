"""What a loss trains a network for, and whether it takes the labels of the examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from pydnn.batches import distinct_labels
from pydnn.checks import BadInput
from pydnn.data.stored import Stored
from pydnn.data.texts import Vocabulary
from pydnn.jobs.columns import Columns
from pydnn.jobs.parts import Parts
from pydnn.losses import Loss
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, Examples, FloatArray
from pydnn.sequences import labels_of_steps
from pydnn.stages.base import Context, Shape
from pydnn.training import TrainState, output_of
from pydnn.training.finite import ignoring_overflow

__all__ = ["Task", "expect_labels", "first_example", "known_labels", "task_of"]


@attrs.frozen
class Task:
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


def task_of(
    recipe: Recipe,
    parts: Parts,
    state: TrainState,
    examples: Examples,
    other_labels: FloatArray | None,
    columns: Columns | None,
    vocabulary: Vocabulary | None,
) -> Task:
    """What the loss trains the network for.

    Raises:
        BadInput: If the network does not take the examples, or the loss their labels.
    """
    numerics = recipe.arithmetic
    first = attrs.evolve(first_example(examples), weights=None)
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
        expect_labels(parts.loss, AL.shape, examples, others)
        # Called once here, so that it refuses options that do not fit the outputs.
        parts.loss(AL, Y, None, Context(numerics=numerics, lengths=first.lengths))
    return Task(parts.loss.task(n_out), n_out, AL.ndim > 2)


def _with_rare_classes(labels: FloatArray, loss: Loss, output: Shape) -> FloatArray:
    """The labels and, if each step has one, a label of every class.

    A loss asks for examples of every class, but a rare letter or word may be in the test part
    alone.
    """
    n_out = output[-2]
    if len(output) == 2 or len(labels) != 1 or loss.task(n_out) != "many classes":
        return labels
    return np.concatenate([labels, np.arange(n_out)[np.newaxis]], axis=-1)


def first_example(examples: Examples) -> Batch:
    """Return the first example, in memory."""
    return examples.take(slice(0, 1))


def expect_labels(
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
        others = [*others, known_labels(loss, output, examples)]

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


def known_labels(loss: Loss, output: Shape, examples: Examples) -> FloatArray:
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
