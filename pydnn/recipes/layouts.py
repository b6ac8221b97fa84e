"""The layers and parameters of a recipe's network, without allocating any weight."""

from __future__ import annotations

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


__all__ = ["Layer", "layers_of", "layouts_of", "without_weights"]


@attrs.frozen
class Layer:
    """The sizes of a stage that is not a combinator.

    Attributes:
        place: Its place in the network, e.g. "2" or "1/0".
        stage: Its name, e.g. "dense".
        arrays: The names and shapes of its parameters, as text.
        outputs: The number of values that it outputs per example.
        parameters: The number of its parameters.
    """

    place: str
    stage: str
    arrays: str
    outputs: int
    parameters: int


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


def layers_of(recipe: Recipe, features: int) -> tuple[list[Layer], Layout]:
    """The layers of a recipe's network for `features` features, and the layout of its parameters.

    Raises:
        BadInput: If the stages do not fit each other or the number of features.

    Example:
        >>> layers, layout = layers_of(nn.recipes.tutorial_recipe(hidden=[3]), 4)
        >>> [(layer.place, layer.stage, layer.parameters) for layer in layers]
        [('0', 'dense', 15), ('1', 'relu', 0), ('2', 'dense', 4)]
    """
    layers: list[Layer] = []

    def listed(path: str, stage: Stage) -> Stage:
        def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
            params, shape_out = stage.init(key, shape)
            layout = layout_of(params)
            arrays = ", ".join(f"{slot.name} {slot.shape}" for slot in layout.slots)
            place, outputs = path.removesuffix("/"), math.prod(shape_out)
            layers.append(Layer(place, stage.name, arrays, outputs, layout.size))
            return params, shape_out

        return attrs.evolve(stage, init=init)

    return layers, layouts_of(recipe, features, through=functools.partial(map_stages, listed))[0]


def layouts_of(
    recipe: Recipe,
    features: int,
    *,
    through: Callable[[Stage], Stage] = lambda network: network,
) -> tuple[Layout, Layout]:
    """The layouts of the parameters and statistics of a recipe's network, however large it is.

    Args:
        recipe: The recipe.
        features: The number of features of an example.
        through: A function that takes the built network and returns the one to lay out.

    Raises:
        BadInput: If the stages do not fit each other or the number of features.

    Example:
        >>> parameters, statistics = layouts_of(nn.recipes.tutorial_recipe(hidden=[3]), 4)
        >>> parameters.size, statistics.size
        (19, 0)
    """
    network = through(build(without_weights(recipe.network), family="stage"))
    try:
        params, _ = network.init(Key(0), (features,))
        gathered = network.statistics.init(params) if network.statistics else NO_PARAMS
        return layout_of(params), layout_of(gathered)
    except BadInput:
        raise
    except (ValueError, OverflowError, MemoryError) as error:  # NumPy's, for enormous shapes
        message = f"the network cannot be laid out ({first_line(error)}): make it smaller."
        raise BadInput(message) from error
