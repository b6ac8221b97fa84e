"""The tutorial's recurrent network that writes names letter by letter, as a recipe."""

from __future__ import annotations

from pydnn.batches import mini_batches
from pydnn.losses import softmax_cross_entropy
from pydnn.optimizers import chain, clip_by_value, gradient_descent
from pydnn.recipes.recipe import Recipe
from pydnn.stages import Stage, dense, one_hot, rnn, serial
from pydnn.stages.initializers import tutorial, zeros

__all__ = ["letters_network", "letters_recipe"]


def letters_network(letters: int = 27, *, units: int = 50) -> Stage:
    """A plain recurrent layer, and a dense layer of logits for the next letter at each step.

    The state is carried from one name to the next. Initial weights are 0, because the tutorial
    draws the weights of all layers from one stream.

    Args:
        letters: The number of symbols of the vocabulary, with the end of a name.
        units: The number of units of the recurrent layer.

    Example:
        >>> [stage.name for stage in letters_network().parts]
        ['one_hot', 'rnn', 'dense']
    """
    start = zeros()
    return serial(
        one_hot(letters),
        rnn(units, initial="carried", examples=1, initializer=start, recurrent_initializer=start),
        dense(letters, initializer=start),
    )


def letters_recipe(
    *,
    data: str = "names.txt",
    letters: int = 27,
    units: int = 50,
    learning_rate: float = 0.01,
    iterations: int = 22_000,
    seed: int = 1,
    dtype: str = "float64",
) -> Recipe:
    """The tutorial's job: one name a step, in the order of the file, over and over.

    The cost of a step is the sum over the letters of its name. Each gradient is clipped to the
    range from -5 to 5.

    Args:
        data: The path of a text with one name in each line, whose letters are made lower-case.
        letters: The number of different symbols in the text, with the end of a line.
        units: The number of units of the recurrent layer.
        learning_rate: The learning rate of gradient descent.
        iterations: The number of steps.
        seed: The seed of the initial weights.
        dtype: "float64" or "float32".

    Example:
        >>> letters_recipe(iterations=10).iterations
        10
    """
    return Recipe(
        data=data,
        text="lines(lower=True)",
        network=letters_network(letters, units=units),
        loss=softmax_cross_entropy(steps="sum"),
        optimizer=chain(clip_by_value(5.0), gradient_descent(learning_rate=learning_rate)),
        batches=mini_batches(1, shuffle=False),
        weights=tutorial(scale=0.01),
        iterations=iterations,
        seed=seed,
        dtype=dtype,
    )
