"""The layers and parameters that a recipe claims, without drawing any weight."""

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


__all__ = ["Layer", "layers_of", "layouts_of", "undrawn"]


@attrs.frozen
class Layer:
    """A stage that is not a combinator, and its sizes.

    Attributes:
        place: Where it is in the network, e.g. "2" or "1/0".
        stage: Its name.
        arrays: Names and shapes of its parameters, in words.
        outputs: Numbers that it makes of one example.
        parameters: How many there are.
    """

    place: str
    stage: str
    arrays: str
    outputs: int
    parameters: int


def undrawn(description: Description) -> Description:
    """The same description with zeros, which take no memory, for every initializer.

    With it a network of any claimed size can be laid out. Builders say which of their options are
    initializers with `described("stage", drawn_by=[...])`.
    """
    if not is_description(description):  # which `build` then refuses
        return description
    [(name, options)] = description.items()
    options = {option: _undrawn(value) for option, value in options.items()}
    zeros: Description = {"zeros": {}}
    return {name: options | dict.fromkeys(find_builder(name).drawn_by, zeros)}


def _undrawn(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_undrawn(part) for part in value]
    return undrawn(value) if is_description(value) else value


def layers_of(recipe: Recipe, features: int) -> tuple[list[Layer], Layout]:
    """The layers of a recipe's network on `features` features, and how its parameters lie.

    Raises:
        BadInput: If the stages do not fit each other, or the number of features.
    """
    layers: list[Layer] = []

    def noted(path: str, stage: Stage) -> Stage:
        def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
            params, shape_out = stage.init(key, shape)
            layout = layout_of(params)
            arrays = ", ".join(f"{slot.name} {slot.shape}" for slot in layout.slots)
            place, outputs = path.removesuffix("/"), math.prod(shape_out)
            layers.append(Layer(place, stage.name, arrays, outputs, layout.size))
            return params, shape_out

        return attrs.evolve(stage, init=init)

    return layers, layouts_of(recipe, features, through=functools.partial(map_stages, noted))[0]


def layouts_of(
    recipe: Recipe,
    features: int,
    *,
    through: Callable[[Stage], Stage] = lambda network: network,
) -> tuple[Layout, Layout]:
    """How parameters and statistics of a recipe's network lie, whatever size it claims.

    Args:
        recipe: The job.
        features: Numbers of one example.
        through: A function that the network goes through once it is built.

    Raises:
        BadInput: If the stages do not fit each other, or the number of features.
    """
    network = through(build(undrawn(recipe.network), family="stage"))
    try:
        params, _ = network.init(Key(0), (features,))
        gathered = network.statistics.init(params) if network.statistics else NO_PARAMS
        return layout_of(params), layout_of(gathered)
    except BadInput:
        raise
    except (ValueError, OverflowError, MemoryError) as error:  # NumPy's, of shapes past any size
        message = f"the network cannot be laid out ({first_line(error)}): make it smaller."
        raise BadInput(message) from error
