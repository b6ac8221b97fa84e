"""The layers and parameters of a recipe's network, without allocating any weight."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from pydnn.checks import BadInput, first_line
from pydnn.descriptions.builders import build, find_builder
from pydnn.descriptions.parts import Description, is_description
from pydnn.keys import Key
from pydnn.parameters import NO_PARAMS, Layout, Tree, layout_of
from pydnn.stages.base import Shape, Stage, map_stages

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe


__all__ = [
    "Layer",
    "layers_of",
    "layouts_of",
    "same_parameters",
    "stages_that_take",
    "without_weights",
]


@attrs.frozen
class Layer:
    """The sizes of a stage that is not a combinator.

    Attributes:
        place: Its place in the network, e.g. "2" or "1/0".
        stage: Its name, e.g. "dense".
        arrays: The names and shapes of its parameters, as text.
        shape: The shape of its output for one example, e.g. (20,) or (32, 32, 8).
        parameters: The number of its parameters.
    """

    place: str
    stage: str
    arrays: str
    shape: Shape
    parameters: int

    @property
    def outputs(self) -> int:
        """The number of values that it outputs per example."""
        return math.prod(self.shape)


def without_weights(description: Description) -> Description:
    """Replace every initializer in a description by `zeros()`, which allocates no memory.

    A hostile recipe may describe terabytes of weights; this lays out its network without them.
    Builders declare which of their options are initializers with
    `described("stage", drawn_by=[...])`.

    Example:
        >>> without_weights(nn.describe(nn.dense(3, initializer=nn.he_normal())))
        {'dense': {'units': 3, 'initializer': {'zeros': {}}}}
    """
    if not is_description(description):  # `build` will refuse it
        return description
    [(name, options)] = description.items()
    options = {option: _value_without_weights(value) for option, value in options.items()}
    zeros: Description = {"zeros": {}}
    return {name: options | dict.fromkeys(find_builder(name).drawn_by, zeros)}


def _value_without_weights(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_value_without_weights(part) for part in value]
    return without_weights(value) if is_description(value) else value


def layers_of(recipe: Recipe, shape: Shape) -> tuple[list[Layer], Layout]:
    """The layers of a recipe's network, and the layout of its parameters.

    Args:
        recipe: The recipe.
        shape: The shape of an example, e.g. (4,) for four features.

    Raises:
        BadInput: If the stages do not fit each other or the shape of the examples.

    Example:
        >>> layers, layout = layers_of(nn.recipes.tutorial_recipe(hidden=[3]), (4,))
        >>> [(layer.place, layer.stage, layer.parameters) for layer in layers]
        [('0', 'dense', 15), ('1', 'relu', 0), ('2', 'dense', 4)]
    """
    layers: list[Layer] = []

    def listed(path: str, stage: Stage) -> Stage:
        def init(key: Key, shape_in: Shape) -> tuple[Tree, Shape]:
            params, shape_out = stage.init(key, shape_in)
            layout = layout_of(params)
            arrays = ", ".join(f"{slot.name} {slot.shape}" for slot in layout.slots)
            place = path.removesuffix("/")
            layers.append(Layer(place, stage.name, arrays, shape_out, layout.size))
            return params, shape_out

        return attrs.evolve(stage, init=init)

    return layers, layouts_of(recipe, shape, through=functools.partial(map_stages, listed))[0]


def layouts_of(
    recipe: Recipe,
    shape: Shape,
    *,
    through: Callable[[Stage], Stage] = lambda network: network,
) -> tuple[Layout, Layout]:
    """The layouts of the parameters and statistics of a recipe's network, however large it is.

    Args:
        recipe: The recipe.
        shape: The shape of an example, e.g. (4,) for four features.
        through: A function that takes the built network and returns the one to lay out.

    Raises:
        BadInput: If the stages do not fit each other or the shape of the examples.

    Example:
        >>> parameters, statistics = layouts_of(nn.recipes.tutorial_recipe(hidden=[3]), (4,))
        >>> parameters.size, statistics.size
        (19, 0)
    """
    network = through(build(without_weights(recipe.network), family="stage"))
    try:
        params, _ = network.init(Key(0), shape)
        gathered = network.statistics.init(params) if network.statistics else NO_PARAMS
        return layout_of(params), layout_of(gathered)
    except BadInput:
        raise
    except (ValueError, OverflowError, MemoryError) as error:  # NumPy's, for enormous shapes
        message = f"the network cannot be laid out ({first_line(error)}): make it smaller."
        raise BadInput(message) from error


def same_parameters(recipe: Recipe, shape: Shape, other: Shape) -> bool:
    """Whether the network has the same parameters for examples of two shapes.

    That is so if no parameter depends on the axes that differ, such as the number of steps of a
    sequence, or the height and width of an image before a global pool.

    Example:
        >>> steps = nn.Recipe("x", "dense(1)", "mean_squared()", "adam()", 3)
        >>> same_parameters(steps, (20, 3), (30, 3)), same_parameters(steps, (20, 3), (20, 4))
        (True, False)
    """
    if shape == other:
        return True
    if len(shape) != len(other):
        return False
    try:
        own, others = (layouts_of(recipe, each) for each in (shape, other))
    except BadInput:
        return False
    return [layout.slots for layout in own] == [layout.slots for layout in others]


def stages_that_take(recipe: Recipe, shape: Shape) -> tuple[int, int]:
    """How many stages a recipe's network has, and how many take examples of a shape.

    Stages that are not combinators are counted, up to the first one that refuses what it gets.

    Example:
        >>> network = nn.serial(nn.dense(2), nn.relu(), nn.dense(1))
        >>> recipe = nn.Recipe("x", network, nn.mean_squared(), nn.adam(), iterations=1)
        >>> stages_that_take(recipe, (4,)), stages_that_take(recipe, ())
        ((3, 3), (3, 0))
    """
    counts = {"stages": 0, "taken": 0}

    def counted(path: str, stage: Stage) -> Stage:
        counts["stages"] += 1

        def init(key: Key, shape_in: Shape) -> tuple[Tree, Shape]:
            result = stage.init(key, shape_in)
            counts["taken"] += 1
            return result

        return attrs.evolve(stage, init=init)

    network = map_stages(counted, build(without_weights(recipe.network), family="stage"))
    with contextlib.suppress(ValueError, OverflowError, MemoryError):  # BadInput is a ValueError
        network.init(Key(0), shape)
    return counts["stages"], counts["taken"]
