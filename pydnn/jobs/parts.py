"""The parts of a recipe, built: network, loss, optimizer, batches, and the step of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.augmentation import Augmentation
from pydnn.batches import Batching
from pydnn.checks import BadInput, printable
from pydnn.descriptions.builders import build
from pydnn.jobs.columns import Columns
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.optimizers.base import GradientTransformation
from pydnn.penalties import Penalty
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.recipes.toml import own_modules
from pydnn.stages import Stage
from pydnn.stages.base import Shape
from pydnn.stages.initializers import WeightStream
from pydnn.training import TrainState, TrainStep, initial_state, make_train_step, watch_finite
from pydnn.training.stopping import Watch, Watched

if TYPE_CHECKING:
    from pydnn.interop.weights import Weights

__all__ = ["Parts", "built", "first_state", "out_of_patience", "step_of", "watch_of"]


@attrs.frozen(eq=False)
class Parts:
    """The built parts of a recipe."""

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    batching: Batching
    penalties: Sequence[Penalty]
    augment: Sequence[Augmentation]
    weights: WeightStream | None


def built(recipe: Recipe, through: Callable[[Stage], Stage]) -> Parts:
    """Build the parts of a recipe, with the network that `through` makes of the recipe's."""
    return Parts(
        through(build(recipe.network, family="stage")),
        build(recipe.loss, family="loss"),
        build(recipe.optimizer, family="optimizer"),
        build(recipe.batches, family="batches"),
        [build(penalty, family="penalty") for penalty in recipe.penalties],
        [build(part, family="augmentation") for part in recipe.augment],
        None if recipe.weights is None else build(recipe.weights, family="weights"),
    )


def first_state(
    recipe: Recipe, parts: Parts, shape: Shape, columns: Columns | None
) -> tuple[TrainState, Weights | None]:
    """The state from which training starts, and the weights of a file, if it starts from them."""
    numerics = recipe.arithmetic
    numerics.expect_sound()
    state = initial_state(
        parts.network,
        parts.optimizer,
        shape,
        key=Key(recipe.seed),
        dtype=np.dtype(DTYPES[recipe.dtype]),
        weights=parts.weights,
        numerics=numerics,
    )
    if not recipe.start_from:
        return state, None
    from pydnn.interop.weights import load_weights  # few jobs need it

    try:
        start = load_weights(
            parts.network,
            recipe.start_from,
            shape_in=shape,
            dtype=recipe.dtype,
            allow=own_modules(recipe),  # which are imported, as the recipe names them
            on_table=None,
        )
    except BadInput as error:
        raise type(error)(f"start_from: {error}") from error
    names = zip(start.features, columns.features if columns else (), strict=False)
    if different := [pair for pair in names if pair[0] != pair[1]]:
        theirs, ours = (printable(name, most=60) for name in different[0])
        raise BadInput(
            f"start_from: {recipe.start_from} has weights for the feature {theirs!r} where this "
            f"table has {ours!r}: give the columns the names and the order that they had there."
        )
    parameters = state.parameters.with_vector(start.parameters.vector)
    begun = attrs.evolve(
        state,
        parameters=parameters,
        optimizer_state=parts.optimizer.init(parameters),
        statistics=state.statistics.with_vector(start.statistics.vector),
    )
    return begun, start


def step_of(recipe: Recipe, parts: Parts) -> TrainStep:
    """Compose the training step, which stops at numbers that are not finite."""
    numerics = recipe.arithmetic
    train_step = make_train_step(
        parts.network,
        parts.loss,
        parts.optimizer,
        penalties=parts.penalties,
        augment=parts.augment,
        numerics=numerics,
        shards=recipe.shards,
    )
    if parts.optimizer.tolerates_nonfinite:
        return train_step
    return train_step.insert_after("update", watch_finite(parts.network, numerics=numerics))


def watch_of(recipe: Recipe) -> Watch | None:
    """The value that early stopping watches; None if the recipe does not stop early."""
    return Watch(recipe.watch, recipe.higher_is_better) if recipe.patience else None


def out_of_patience(recipe: Recipe, watched: Watched) -> bool:
    """Whether early stopping ends a training of a recipe here."""
    return 0 < recipe.patience <= watched.waited
