"""A trained model in one HDF5 file: the recipe, the parameters, and what the inputs are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from pydnn.builders import build
from pydnn.checks import BadInput, expect_finite, expect_shape
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics import fast
from pydnn.packing import Layout, Packed, layout_of
from pydnn.recipes import Recipe
from pydnn.records import FloatArray, arrays
from pydnn.stages.base import Context, Stage
from pydnn.storage import open_hdf5, read_array, read_text, write_hdf5
from pydnn.training import output_of

__all__ = ["MODEL_FILE", "Model", "load_model", "probabilities", "save_model"]

MODEL_FILE = "model.h5"  # in the run's folder
_FORMAT = "pydnn model 1"


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Model:
    """What is needed to predict with a trained network, and to tell how it was trained.

    Attributes:
        recipe: The job that trained it.
        parameters: Its parameters after `len(costs)` iterations.
        image_shape: (height, width, 3) of the images that it takes.
        classes: Names of the classes 0 and 1.
        costs: The cost at each iteration.
    """

    recipe: Recipe
    parameters: Packed
    image_shape: tuple[int, int, int]
    classes: tuple[str, str]
    costs: FloatArray


def probabilities(model: Model, X: FloatArray) -> FloatArray:
    """Probability of class 1 for each example of X (n_x, m), shape (1, m)."""
    network: Stage = build(model.recipe.network, family="stage")
    loss: Loss = build(model.recipe.loss, family="loss")
    AL = output_of(network, model.parameters, X)
    return loss.predict(AL, Context(numerics=fast))


def save_model(path: Path, model: Model) -> None:
    """Write `model` to a new file; the file is there whole, or not at all."""
    write_hdf5(
        path,
        arrays={"parameters": model.parameters.vector, "costs": model.costs},
        attributes={
            "format": _FORMAT,
            "recipe": json.dumps(model.recipe.to_dict()),
            "images": json.dumps({"shape": model.image_shape, "classes": model.classes}),
        },
    )


def load_model(path: Path) -> Model:
    """Read what `save_model` wrote.

    Raises:
        BadInput: If the file is missing, damaged, of another kind, or does not fit itself.
    """
    with open_hdf5(path) as file:
        if (found := read_text(file, "format")) != _FORMAT:
            raise BadInput(f"{path} has format {found!r}, expected {_FORMAT!r}: train it again.")
        recipe = Recipe.from_dict(_json(path, "recipe", read_text(file, "recipe")))
        shape, classes = _images(path, _json(path, "images", read_text(file, "images")))
        vector = read_array(file, "parameters", dtype=recipe.dtype, shape=("parameters",))
        layout = _layout(path, recipe, shape)
        expect_shape(f"parameters in {path}", vector, (layout.size,), hint="train it again")
        costs = read_array(file, "costs", dtype="float64", shape=("iterations",))
    expect_finite(f"parameters in {path}", vector)
    return Model(recipe, layout.packed(vector), shape, classes, costs)


def _layout(path: Path, recipe: Recipe, shape: tuple[int, int, int]) -> Layout:
    """The layout of the recipe's network, for which no memory is taken, whatever it claims."""
    network: Stage = build(_drawing_nothing(recipe.network), family="stage")
    try:
        return layout_of(network.init(Key(0), (math.prod(shape),))[0])
    except (BadInput, ValueError, OverflowError, MemoryError) as error:
        raise BadInput(
            f"network in {path} cannot be laid out ({error}): train it again."
        ) from error


def _drawing_nothing(description: Any) -> Any:
    """The same description with zeros, which take no memory, for every initialiser."""
    if isinstance(description, list | tuple):
        return [_drawing_nothing(part) for part in description]
    if not isinstance(description, Mapping):
        return description
    return {
        name: {"zeros": {}} if name == "initializer" else _drawing_nothing(value)
        for name, value in description.items()
    } | ({"initializer": {"zeros": {}}} if "units" in description else {})


def _json(path: Path, name: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} in {path} is damaged ({error}): train the model again.") from error
    if not isinstance(value, dict):
        raise BadInput(f"{name} in {path} is no mapping: train the model again.")
    return value


def _images(path: Path, plain: Mapping[str, Any]) -> tuple[tuple[int, int, int], tuple[str, str]]:
    match plain:
        case {"shape": [int(height), int(width), 3], "classes": [str(zero), str(one)]}:
            if 0 < height <= 4096 and 0 < width <= 4096:  # else a file could claim all memory
                return (height, width, 3), (zero, one)
    raise BadInput(f"images in {path} are {dict(plain)!r}, expected a shape and two classes.")
