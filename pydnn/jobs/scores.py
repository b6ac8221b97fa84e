"""Scores a model on data: its metrics over all examples, and for each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput, expect_finite, fixed
from pydnn.data import DataSet
from pydnn.data.stored_tables import StoredTable
from pydnn.data.tables import Table, TableBatch, TableExamples
from pydnn.descriptions.builders import build
from pydnn.jobs.inputs import expect_finite_from
from pydnn.jobs.model import Model
from pydnn.losses import Loss, class_count
from pydnn.metrics import (
    Tally,
    classes_of,
    confusion_matrix,
    most_likely,
    score,
    score_by_class,
    tally,
    title,
)
from pydnn.records import Batch, Examples, FloatArray
from pydnn.sequences import columns_with_labels
from pydnn.training.evaluation import outputs_over
from pydnn.training.finite import ignoring_overflow

__all__ = ["Score", "expect_like_training", "names_of", "predicted", "score_on", "scores_of"]


@attrs.frozen
class Score:
    """The metrics of a model on some examples.

    Attributes:
        task: One of `losses.TASKS`.
        metrics: The metrics by name, from `metrics.score`.
        total: The number of examples, or of valid steps if each step has a label.
        classes: The metrics of each class by its name, from `metrics.score_by_class`; empty if
            they were not requested.
    """

    task: str
    metrics: Mapping[str, float]
    total: int
    classes: Mapping[str, Mapping[str, float | int]] = attrs.field(factory=dict)
    confusion: Sequence[Sequence[int]] = ()

    def __str__(self) -> str:
        """The first metric; an accuracy with the number of correct examples."""
        name, value = next(iter(self.metrics.items()))
        if name != "accuracy":
            return f"{name} {fixed(value, 4)}"
        return f"accuracy {value:.4f} ({round(value * self.total)} of {self.total} right)"

    def line(self, part: str, *, held_back: str = "") -> str:
        """The first metric of a part of the data, in one line.

        Args:
            part: "train" or "test".
            held_back: Words for the training examples that were held back for validation, e.g.
                "the 42". "train" includes them here, but not in measurements during training.
        """
        note = f", with {held_back} held back for validation"
        return f"{part} {self}" + (note if held_back and part == "train" else "")

    @property
    def others(self) -> str:
        """All metrics except the first, in one line."""
        rest = list(self.metrics.items())[1:]
        return ", ".join(f"{title(self.task, name)} {fixed(value, 4)}" for name, value in rest)

    @property
    def confusion_table(self) -> list[tuple[str, ...]]:
        """How many examples of each class (row) the model predicts as each (column), in words."""
        if not self.confusion:
            return []
        rows = zip(self.classes, self.confusion, strict=True)
        return [
            ("class \\ predicted as", *self.classes),
            *((name, *map(str, row)) for name, row in rows),
        ]

    @property
    def table(self) -> list[tuple[str, ...]]:
        """A heading and one row of metrics for each class."""
        if not self.classes:
            return []
        # A class that occurs nowhere has NaN, the only value that differs from itself.
        heading = ("class", *next(iter(self.classes.values())))
        rows = (
            (name, *("-" if value != value else fixed(value, 4) if isinstance(value, float)
                     else str(value) for value in row.values()))
            for name, row in self.classes.items()
        )  # fmt: skip
        return [heading, *rows]


def predicted(
    model: Model,
    X: FloatArray | Table | StoredTable,
    names: Sequence[object],
    *,
    lengths: ArrayLike | None = None,
) -> tuple[str, FloatArray]:
    """The task of a model, and its predictions (n_out, m) for raw examples.

    Args:
        model: The model.
        X: Raw examples along the last axis, or rows of a table.
        names: The name of each example for error messages.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

    Raises:
        BadInput: If a prediction is not a finite number.
    """
    loss: Loss = build(model.recipe.loss, family="loss")
    with ignoring_overflow():  # its results, inf and NaN, are refused below
        P = model.outputs(X, lengths=lengths)
    if not (finite := np.isfinite(P)).all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise BadInput(
            f"the model's prediction for {names[place[-1]]} is {P[place]}, expected a finite "
            "number: its inputs or parameters are too large."
        )
    return loss.task(P.shape[-2]), P


def names_of(model: Model, task: str, n_out: int) -> tuple[str, ...] | None:
    """The names of the classes that a model predicts; None if it predicts numbers.

    Classes without names are called "0", "1", and so on.

    Raises:
        BadInput: If the model has more or fewer names than its network has classes.
    """
    count = class_count(task, n_out)
    if count is None:
        return None
    names = model.classes or tuple(map(str, range(count)))
    if len(names) != count:
        raise BadInput(
            f"the model names {len(names)} classes ({', '.join(names)}), but its network has "
            f"outputs for {count}: train it again on data that names {count} classes."
        )
    return names


def score_on(model: Model, examples: Examples, *, by_class: bool = False) -> Score:
    """Score a model's predictions against the labels of raw examples.

    Args:
        model: The model.
        examples: Raw examples with their labels; those in files are scored block by block.
        by_class: Whether to score each class too.

    Raises:
        BadInput: If an example or its label does not fit the model, or is not finite.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
        >>> job = nn.jobs.prepare(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> model = nn.train(job).model
        >>> list(score_on(model, job.batch).metrics)
        ['r_squared', 'mean_absolute_error']
    """
    start, task = 0, ""

    def predictions(block: Batch) -> FloatArray:
        nonlocal start, task
        X: FloatArray | Table = block.X
        if model.columns is not None and isinstance(block, TableBatch):
            X = block.table
        elif block.count == examples.count:
            expect_finite("X", block.X)
        else:
            expect_finite_from(start, block, ["X"], examples)
        names = [f"example {start + number}" for number in range(block.count)]
        task, P = predicted(model, X, names, lengths=block.lengths)
        start += block.count
        return P

    def labels(block: Batch) -> FloatArray:
        if model.columns is not None and isinstance(block, TableBatch):
            return model.columns.targets.labels(block.target)
        return block.Y

    numerics = model.recipe.arithmetic
    counts: Tally | None = None
    parts = outputs_over(predictions, examples, labels=labels)
    for part in parts:
        n_out = part.AL.shape[-2]
        P, Y = columns_with_labels(part.AL, part.examples.Y, part.examples.lengths)
        if not isinstance(parts, list):
            counts = (counts or tally(task, numerics=numerics)).plus(P, Y)
    if counts is None:
        scores, m = score(task, P, Y, numerics=numerics), P.shape[-1]
    else:
        scores, m = counts.scores(), counts.count
    if not by_class:
        return Score(task, scores, m)
    names = names_of(model, task, n_out)
    if names is None:
        loss = next(iter(model.recipe.loss))
        raise BadInput(
            f"a model trained with {loss} predicts numbers, which have no classes: "
            "leave out --per-class."
        )
    if counts is not None:
        rows, confusion = counts.by_class(), counts.confusion()
    else:
        rows, confusion = score_by_class(task, P, Y), []
        if task != "several labels":
            taken = classes_of(P) if task == "two classes" else most_likely(P)
            confusion = confusion_matrix(taken, Y, classes=len(names)).tolist()
    return Score(task, scores, m, dict(zip(names, rows, strict=True)), confusion)


def scores_of(model: Model, data: DataSet, *, by_class: bool = False) -> dict[str, Score]:
    """The scores by part, "train" and "test", for each part of `data` that has examples.

    Args:
        model: The model.
        data: The data set.
        by_class: Whether to score each class too.

    Raises:
        BadInput: If the model takes examples or classes of another kind, or an example does not
            fit it, naming the part.
    """
    expect_like_training(model, data)
    scores = {}
    for part in ("train", "test"):
        examples: Examples = getattr(data, part)
        if not examples.count:
            continue
        try:
            scores[part] = score_on(model, examples, by_class=by_class)
        except BadInput as error:
            raise BadInput(f"{part} part: {error}") from error
    return scores


def expect_like_training(model: Model, data: DataSet) -> None:
    """Refuse data whose examples or classes differ in kind from those that `model` was trained on.

    Raises:
        BadInput: If the examples have another shape, or the classes other names or another order.
    """
    if isinstance(data.train, TableExamples) != (model.columns is not None):
        raise BadInput(
            "the model was trained on a table with named columns, and the data is arrays, or the "
            "other way round: give the data that it was made for."
        )
    if model.columns is not None:
        return  # which refuse what does not fit by its name
    shape = data.train.shape
    # A table may hold images without stating their shape; the number of features must still agree.
    images = data.image_shape, model.image_shape
    flat = len(model.shape) == 1
    if flat and images[0] != images[1] and None not in images:
        raise BadInput(
            f"the data is images of {data.image_shape} shape, but the model takes images of "
            f"{model.image_shape} shape: give images of that shape."
        )
    if not model.takes(shape):
        ours, theirs = (
            f"{each[0]} features" if len(each) == 1 else f"shape {each}"
            for each in (model.shape, shape)
        )
        raise BadInput(
            f"examples have {theirs}, but the model takes {ours.removesuffix(' features')}: "
            "give data with the features that it was trained on."
        )
    if data.classes != model.classes and None not in (data.classes, model.classes):
        ours, theirs = (_numbered(classes or ()) for classes in (model.classes, data.classes))
        raise BadInput(
            f"the model's classes are {ours}, but those of the data are {theirs}: "
            "give data with the same names in the same order."
        )


def _numbered(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))
