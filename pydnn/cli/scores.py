"""How well a model does on data."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pydnn.builders import build
from pydnn.checks import BadInput
from pydnn.data import DataSet
from pydnn.losses import Loss
from pydnn.metrics import score
from pydnn.numerics import TENANTS
from pydnn.records import Batch
from pydnn.runs import Model, predictions

__all__ = ["Score", "score_on", "scores_of"]


@attrs.frozen
class Score:
    """Every metric of the task, by name, over so many examples."""

    metrics: Mapping[str, float]
    total: int

    def __str__(self) -> str:
        """The first metric, with the numbers behind it where it is an accuracy."""
        name, value = next(iter(self.metrics.items()))
        right = f" ({round(value * self.total)} of {self.total} right)"
        return f"{name} {value:.4f}{right if name == 'accuracy' else ''}"

    @property
    def others(self) -> str:
        """All metrics but the first."""
        return ", ".join(f"{name} {v:.4f}" for name, v in list(self.metrics.items())[1:])


def score_on(model: Model, batch: Batch) -> Score:
    """Compare what `model` says of each example with its label."""
    loss: Loss = build(model.recipe.loss, family="loss")
    predicted = predictions(model, batch.X)
    task = loss.task(len(predicted))
    told = score(task, predicted, batch.Y, numerics=TENANTS[model.recipe.numerics])
    return Score(told, batch.X.shape[1])


def scores_of(model: Model, data: DataSet) -> dict[str, Score]:
    """The scores on the training and the test part of `data`.

    Raises:
        BadInput: If its examples are of another kind than those that the model takes.
    """
    if data.image_shape != model.image_shape:
        ours, theirs = (
            f"images of {'no' if shape is None else shape} shape"
            for shape in (data.image_shape, model.image_shape)
        )
        raise BadInput(f"the data is {ours}, but the model takes {theirs}: give such data.")
    if len(data.train.X) != model.features:
        raise BadInput(
            f"examples have {len(data.train.X)} features, but the model takes {model.features}: "
            "give the data that it was made for."
        )
    return {"train": score_on(model, data.train), "test": score_on(model, data.test)}
