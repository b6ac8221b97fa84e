"""The tutorial's job as a recipe."""

from __future__ import annotations

from collections.abc import Sequence

import toolz

from pydnn.descriptions.builders import (
    describe,
)
from pydnn.losses import sigmoid_cross_entropy
from pydnn.optimizers.momentum import gradient_descent
from pydnn.recipes.recipe import Recipe
from pydnn.stages import Stage, dense, relu, serial
from pydnn.stages.initializers import tutorial, zeros

__all__ = ["tutorial_network", "tutorial_recipe"]


def tutorial_network(hidden: Sequence[int], *, outputs: int = 1) -> Stage:
    """A dense layer with relu for each number of `hidden` units, then a dense layer of logits.

    Its initial weights are 0, because the tutorial draws the weights of all layers from one stream.

    Example:
        >>> tutorial_network([3])
        serial(dense(3, initializer=zeros()), relu(), dense(1, initializer=zeros()))
    """
    layers = [(dense(units, initializer=zeros()), relu()) for units in hidden]
    return serial(*toolz.concat(layers), dense(outputs, initializer=zeros()))


def tutorial_recipe(
    *,
    data: str = "drawn-cats",
    hidden: Sequence[int] = (20, 7, 5),
    learning_rate: float = 0.0075,
    iterations: int = 2500,
    seed: int = 1,
    dtype: str = "float64",
) -> Recipe:
    """The tutorial's job: by default 12288-20-7-5-1 on the drawn cats, for 2500 iterations.

    Args:
        data: The name of the data set, or its path.
        hidden: The number of units of each hidden layer.
        learning_rate: The learning rate of gradient descent.
        iterations: The number of steps.
        seed: The seed of the initial weights.
        dtype: "float64" or "float32".

    Example:
        >>> tutorial_recipe(hidden=[3], iterations=10).iterations
        10
    """
    return Recipe(
        data=data,
        network=describe(tutorial_network(hidden)),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(gradient_descent(learning_rate=learning_rate)),
        weights=describe(tutorial()),
        iterations=iterations,
        seed=seed,
        dtype=dtype,
    )
