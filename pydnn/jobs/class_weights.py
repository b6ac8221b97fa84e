"""Class weights: weights by class, which multiply the weights of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, Json, expect_known
from pydnn.recipes.recipe import ClassWeights, Recipe
from pydnn.records import AnyArray, Batch, Examples, FloatArray, arrays, freeze

__all__ = ["WeighClasses", "by_class_number", "weigh_classes", "weights_of_classes"]


def by_class_number(recipe: Recipe, classes: Sequence[str] | None) -> Recipe:
    """Replace class weights by name in a recipe by one number per class, if the names are known.

    Then a run can be repeated from its examples alone, without the names.

    Raises:
        BadInput: If the recipe names a class that is not one of `classes`.
    """
    given = recipe.class_weights
    if classes is None or not isinstance(given, Mapping):
        return recipe
    for name in given:
        expect_known("class", name, classes)
    return attrs.evolve(recipe, class_weights=tuple(given.get(name, 1.0) for name in classes))


def weights_of_classes(given: ClassWeights, examples: Examples, count: int) -> FloatArray:
    """Compute the weight of each class (count,) from the `class_weights` of a recipe.

    "balanced" gives class k the weight w / (K * w_k), where w_k is the total weight of its
    examples, w the total weight of all examples, and K the number of classes that occur. So all
    classes get the same total weight, and the mean weight of an example does not change.

    Args:
        given: "balanced", one number per class, or numbers by class number.
        examples: The training part, with labels Y of class numbers (1, m) or one-hot columns.
        count: The number of classes.

    Raises:
        BadInput: If the number of weights is not `count`, or there is a weight for a class that
            does not exist.

    References:
        King and Zeng, Logistic regression in rare events data, 2001, section 3.

    Example:
        >>> weights_of_classes("balanced", nn.Batch([[1, 2, 3, 4]], [[0, 0, 0, 1]]), 2)
        array([0.66666667, 2.        ])
    """
    if isinstance(given, str):
        totals = np.zeros(count)
        for block in examples.blocks():
            own = np.ones(1) if block.weights is None else block.weights[0].astype(np.float64)
            np.add.at(totals, _classes(block.Y), own)  # example by example, as in one block
        occurring = totals > 0
        safe = np.where(occurring, totals, 1.0)
        return freeze(np.where(occurring, totals.sum() / (occurring.sum() * safe), 1.0))
    if isinstance(given, Mapping):
        numbers = list(map(str, range(count)))
        for name in given:
            expect_known("class", name, numbers)
        given = tuple(given.get(number, 1.0) for number in numbers)
    if len(given) != count:
        raise BadInput(
            f"class_weights has {len(given)} numbers, expected {count}: give one per class."
        )
    return freeze(np.array(given, np.float64))


def weigh_classes(batch: Batch, by_class: FloatArray) -> Batch:
    """Multiply each example's weight by the weight of its class.

    Args:
        batch: Examples with labels Y of class numbers (1, m) or one-hot columns.
        by_class: The weight of each class, shape (K,).

    Example:
        >>> weigh_classes(nn.Batch([[1, 2]], [[0, 1]]), np.array([1.0, 3.0])).weights
        array([[1., 3.]])
    """
    weights = by_class[_classes(batch.Y)][np.newaxis]
    if batch.weights is not None:
        weights = batch.weights * weights
    return attrs.evolve(batch, weights=freeze(weights))


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class WeighClasses:
    """The function `weigh_classes` for one array of weights, as a `Conversion`.

    Attributes:
        by_class: The weight of each class, shape (K,).

    Example:
        >>> WeighClasses(np.array([1.0, 3.0]))(nn.Batch([[1, 2]], [[0, 1]])).weights
        array([[1., 3.]])
    """

    name: ClassVar[str] = "class weights"
    by_class: FloatArray

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the weights of classes."""
        return weigh_classes(batch, self.by_class)

    def of_labels(self, batch: Batch) -> Batch:
        """The same, since X plays no part in it."""
        return weigh_classes(batch, self.by_class)

    @property
    def plain(self) -> tuple[Json, dict[str, AnyArray]]:
        """The weights."""
        return None, {"by_class": self.by_class}

    @classmethod
    def of_plain(cls, facts: Any, arrays: Mapping[str, Any]) -> Self:
        """The conversion with these weights."""
        return cls(arrays["by_class"])


def _classes(Y: FloatArray) -> NDArray[np.int64]:
    """The class number of each example, shape (m,)."""
    numbers: NDArray[np.int64] = (Y[0] if len(Y) == 1 else Y.argmax(axis=0)).astype(np.int64)
    return numbers
