"""How well a model does on a set of images."""

from __future__ import annotations

import attrs

from pydnn.checks import BadInput
from pydnn.data import ImageSet, to_batch
from pydnn.metrics import accuracy, classes_of
from pydnn.recipes import DTYPES
from pydnn.runs import Model, probabilities

__all__ = ["Score", "score"]


@attrs.frozen
class Score:
    """Share of right answers, and the numbers behind it."""

    accuracy: float
    right: int
    total: int

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} ({self.right} of {self.total} right)"


def score(model: Model, images: ImageSet) -> Score:
    """Compare what `model` says of each image with its label.

    Raises:
        BadInput: If the images have another shape than those that the model takes.
    """
    shape = images.images.shape[1:]
    if shape != model.image_shape:
        raise BadInput(f"images are {shape}, but the model takes {model.image_shape}: resize them.")
    batch = to_batch(images, dtype=DTYPES[model.recipe.dtype])
    share = accuracy(classes_of(probabilities(model, batch.X)), batch.Y)
    return Score(share, round(share * len(images)), len(images))
