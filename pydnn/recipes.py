"""A whole training job as plain data, and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import toolz

from pydnn.builders import Description, build, describe
from pydnn.checks import BadInput, expect_count, expect_finite, expect_known, expect_shape
from pydnn.initializers import tutorial, zeros
from pydnn.keys import Key
from pydnn.losses import Loss, sigmoid_cross_entropy
from pydnn.optimizers import gradient_descent
from pydnn.records import Batch
from pydnn.stages import Stage, dense, relu, serial
from pydnn.training import TrainState, TrainStep, initial_state, make_train_step, watch_finite
from pydnn.transformations import GradientTransformation

__all__ = ["Job", "Recipe", "prepare", "tutorial_network", "tutorial_recipe"]

DTYPES = {"float64": np.float64, "float32": np.float32}


@attrs.frozen
class Recipe:
    """A training job in words and numbers alone, so that a file can hold it.

    Attributes:
        data: Name of the data set, or the directory that holds it.
        network: Description of the network.
        loss: Description of the loss.
        optimizer: Description of the optimiser.
        weights: Description of the stream that draws all weights; None where each layer
            draws its own.
        iterations: Number of full-batch steps.
        seed: Of the training's key.
        dtype: "float64" or "float32".
    """

    data: str
    network: Description
    loss: Description
    optimizer: Description
    weights: Description | None
    iterations: int
    seed: int
    dtype: str = "float64"

    def __attrs_post_init__(self) -> None:
        if expect_count("iterations", self.iterations, hint="give the number of steps") > 2**53:
            raise BadInput(f"iterations is {self.iterations}, expected at most 2**53: give fewer.")
        expect_count("seed", self.seed, least=0, hint="give the seed of the initial weights")
        expect_known("dtype", self.dtype, DTYPES)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as nested dictionaries, lists, texts and numbers."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """The recipe of what `to_dict` gave.

        Raises:
            BadInput: If a key is unknown or missing, or a value does not fit.
        """
        known = [field.name for field in attrs.fields(cls)]
        for name in plain:
            expect_known("key of a recipe", name, known)
        missing = [name for name in known if name not in plain]
        if missing:
            raise BadInput(f"the recipe lacks {', '.join(missing)}: add what is missing.")
        return cls(**plain)


@attrs.frozen(eq=False)
class Job:
    """What a recipe makes: all that `scan` needs, and the parts it was made of."""

    network: Stage
    loss: Loss
    train_step: TrainStep
    state: TrainState
    batches: Iterator[Batch] = attrs.field(repr=False)


def tutorial_network(hidden: Sequence[int]) -> Stage:
    """Dense and relu for each of the `hidden` layers' units, then one dense unit: the logit.

    The weights are 0 here, since the tutorial draws those of all layers from one stream.
    """
    layers = [(dense(units, initializer=zeros()), relu()) for units in hidden]
    return serial(*toolz.concat(layers), dense(1, initializer=zeros()))


def tutorial_recipe(
    *,
    data: str = "drawn-cats",
    hidden: Sequence[int] = (20, 7, 5),
    learning_rate: float = 0.0075,
    iterations: int = 2500,
    seed: int = 1,
    dtype: str = "float64",
) -> Recipe:
    """The tutorial's job: by default 12288-20-7-5-1 on the drawn cats, for 2500 iterations."""
    return Recipe(
        data=data,
        network=describe(tutorial_network(hidden)),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(gradient_descent(learning_rate=learning_rate)),
        weights=describe(tutorial(seed=seed)),
        iterations=iterations,
        seed=seed,
        dtype=dtype,
    )


def prepare(recipe: Recipe, batch: Batch) -> Job:
    """Build everything that the `recipe` names, for full-batch training on `batch`.

    Raises:
        BadInput: If a description names nothing known, the stages do not fit each other or
            the data, or the data is not what the loss takes.
    """
    network: Stage = build(recipe.network, family="stage")
    loss: Loss = build(recipe.loss, family="loss")
    optimizer: GradientTransformation = build(recipe.optimizer, family="optimizer")
    weights = None if recipe.weights is None else build(recipe.weights, family="weights")
    expect_shape("Y", batch.Y, (1, batch.X.shape[1]), hint="give one label per column of X")
    if batch.Y.size == 0:
        raise BadInput("X has no columns, expected one example or more: give some data.")
    expect_finite("X", batch.X)
    loss.expect_labels(batch.Y, 1)
    state = initial_state(
        network,
        optimizer,
        batch.X.shape[:1],
        key=Key(recipe.seed),
        dtype=DTYPES[recipe.dtype],
        weights=weights,
    )
    step = make_train_step(network, loss, optimizer).insert_after("update", watch_finite(network))
    return Job(network, loss, step, state, itertools.repeat(batch, recipe.iterations))
