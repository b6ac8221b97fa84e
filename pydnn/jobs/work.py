"""How much work an update is, by which the engine "auto" decides whether compiling pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydnn.descriptions.builders import build
from pydnn.recipes.layouts import layers_of
from pydnn.stages.base import Shape

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe

__all__ = ["work_of_update"]

# What compiling saves in a step of exact arithmetic, however small the network is, beside what it
# takes if nothing is compiled yet: 2-16-16-1 gains from 10,000 steps on, as if each updated this
# many parameters.
_OF_AN_EXACT_STEP = 2e5


def work_of_update(recipe: Recipe, shape: Shape, examples: int) -> float:
    """Return how many numbers an update computes one by one, for `engine_for`.

    These are the parameters, and the outputs of all layers for the examples of a batch. Products of
    matrices do not count, since both engines call the same functions for them.

    Args:
        recipe: The recipe of the training.
        shape: The shape of an example, as the network gets it.
        examples: The number of training examples.

    Raises:
        BadInput: If the network does not fit the examples.

    Example:
        >>> recipe = nn.Recipe("x", "dense(2)", "mean_squared()", "adam()", 3)
        >>> work_of_update(recipe, (4,), 5)  # 10 parameters, and 2 outputs of 5 examples
        20.0
    """
    layers, layout = layers_of(recipe, shape)
    batches: int = build(recipe.batches, family="batches").per_epoch(examples)
    outputs = sum(layer.outputs for layer in layers) * -(-examples // batches)
    return layout.size + outputs + (_OF_AN_EXACT_STEP if recipe.arithmetic.exact else 0.0)
