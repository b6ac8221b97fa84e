"""How well a model does on data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_finite, expect_shape, fixed
from pydnn.data import DataSet
from pydnn.descriptions.builders import build
from pydnn.jobs.model import Model
from pydnn.losses import Loss, class_count
from pydnn.metrics import score, score_by_class, title
from pydnn.records import Batch, FloatArray
from pydnn.training.finite import ignoring_overflow

__all__ = ["Score", "expect_like_training", "names_of", "predicted", "score_on", "scores_of"]


@attrs.frozen
class Score:
    """Every metric of the task by name, the number of examples, and the metrics of each class.

    Attributes:
        task: One of `losses.TASKS`.
        metrics: The metrics by name, as `metrics.score` gives them.
        total: The number of examples.
        classes: What `metrics.score_by_class` says of each class, by its name; empty where
            that was not asked for.
    """

    task: str
    metrics: Mapping[str, float]
    total: int
    classes: Mapping[str, Mapping[str, float | int]] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """The first metric, with the numbers behind it where it is an accuracy."""
        name, value = next(iter(self.metrics.items()))
        if name != "accuracy":
            return f"{name} {fixed(value, 4)}"
        return f"accuracy {value:.4f} ({round(value * self.total)} of {self.total} right)"

    def line(self, part: str, *, held_back: str = "") -> str:
        """The first metric of a part of the data.

        Args:
            part: "train" or "test".
            held_back: Which of the training examples were held back for validation, in words;
                they are part of "train" here, but not in the measurements during training.
        """
        among = f", with {held_back} held back for validation"
        return f"{part} {self}" + (among if held_back and part == "train" else "")

    @property
    def others(self) -> str:
        """All metrics but the first."""
        rest = list(self.metrics.items())[1:]
        return ", ".join(f"{title(self.task, name)} {fixed(value, 4)}" for name, value in rest)

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The scores of each class, one row each, below a heading."""
        if not self.classes:
            return []
        heading = ("class", *next(iter(self.classes.values())))
        rows = (
            (name, *("-" if value != value else fixed(value, 4) if isinstance(value, float)
                     else str(value) for value in row.values()))
            for name, row in self.classes.items()
        )  # fmt: skip
        return [heading, *rows]


def predicted(model: Model, X: FloatArray, names: Sequence[object]) -> tuple[str, FloatArray]:
    """The task of `model`, and what it says of each example of X (n_x, m).

    Args:
        model: What predicts.
        X: As the data has it.
        names: What messages call the examples.

    Raises:
        BadInput: If a prediction is not a finite number.
    """
    loss: Loss = build(model.recipe.loss, family="loss")
    with ignoring_overflow():  # what becomes of that is refused below
        P = model.predict(X)
    if not (finite := np.isfinite(P)).all():
        output, example = (int(i) for i in np.argwhere(~finite)[0])
        raise BadInput(
            f"the model's prediction for {names[example]} is {P[output, example]}, expected a "
            "finite number: its inputs or parameters are too large."
        )
    return loss.task(len(P)), P


def names_of(model: Model, task: str, n_out: int) -> tuple[str, ...] | None:
    """What the model's classes are called, numbers where they have no names; None for numbers.

    Raises:
        BadInput: If it has more or fewer names than classes.
    """
    count = class_count(task, n_out)
    if count is None:
        return None
    names = model.classes or tuple(map(str, range(count)))
    if len(names) != count:
        raise BadInput(
            f"the model names {len(names)} classes ({', '.join(names)}), but its network tells "
            f"{count} apart: train it again, with data that names as many."
        )
    return names


def score_on(model: Model, batch: Batch, *, by_class: bool = False) -> Score:
    """Compare what `model` says of each example with its label.

    Args:
        model: What is judged.
        batch: Examples as the data has them.
        by_class: Whether each class is judged, too.

    Raises:
        BadInput: If an example or its label does not fit the model, or is not finite.
    """
    m = batch.X.shape[1]
    expect_shape("Y", batch.Y, ("n_y", m), hint="give one column of labels per example")
    expect_finite("X", batch.X)
    task, P = predicted(model, batch.X, [f"example {number}" for number in range(m)])
    scores = score(task, P, batch.Y, numerics=model.recipe.arithmetic)
    if not by_class:
        return Score(task, scores, m)
    names = names_of(model, task, len(P))
    if names is None:
        loss = next(iter(model.recipe.loss))
        raise BadInput(
            f"a model trained with {loss} predicts numbers, which have no classes: "
            "leave out --per-class."
        )
    return Score(task, scores, m, dict(zip(names, score_by_class(task, P, batch.Y), strict=True)))


def scores_of(model: Model, data: DataSet, *, by_class: bool = False) -> dict[str, Score]:
    """The scores on each part of `data` that has examples, "train" and "test".

    Raises:
        BadInput: If its examples are of another kind than those that the model takes, or do not
            fit it, naming the part.
    """
    expect_like_training(model, data)
    scores = {}
    for part in ("train", "test"):
        batch: Batch = getattr(data, part)
        if not batch.X.shape[1]:
            continue
        try:
            scores[part] = score_on(model, batch, by_class=by_class)
        except BadInput as error:
            raise BadInput(f"{part} part: {error}") from error
    return scores


def expect_like_training(model: Model, data: DataSet) -> None:
    """Refuse data whose examples or classes are not those that `model` was trained on.

    Raises:
        BadInput: If they have another shape, or the classes other names or another order.
    """
    # A table may hold images without saying so; the features still have to be as many.
    if data.image_shape != model.image_shape and None not in (data.image_shape, model.image_shape):
        raise BadInput(
            f"the data is images of {data.image_shape} shape, but the model takes images of "
            f"{model.image_shape} shape: give such data."
        )
    if len(data.train.X) != model.features:
        raise BadInput(
            f"examples have {len(data.train.X)} features, but the model takes {model.features}: "
            "give the data that it was made for."
        )
    if data.classes != model.classes and None not in (data.classes, model.classes):
        ours, theirs = (_numbered(classes or ()) for classes in (model.classes, data.classes))
        raise BadInput(
            f"the model's classes are {ours}, but those of the data are {theirs}: "
            "give data with the same names in the same order."
        )


def _numbered(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))
