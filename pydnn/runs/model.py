"""A trained model in one HDF5 file: the recipe, the parameters, and what the inputs are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py

from pydnn.batches import Standardization
from pydnn.builders import build
from pydnn.checks import AnyPath, BadInput, expect_finite, expect_shape, path_of
from pydnn.losses import Loss
from pydnn.numerics import TENANTS
from pydnn.packing import NO_PARAMS, Layout, Packed, pack
from pydnn.recipes import DTYPES, Recipe, read_recipe, write_recipe
from pydnn.records import FloatArray, arrays
from pydnn.runs.states import layouts_of
from pydnn.stages.base import Context, Stage
from pydnn.storage import open_hdf5, read_array, read_text, write_hdf5
from pydnn.training import output_of

__all__ = ["MODEL_FILE", "Model", "load_model", "predictions", "save_model"]

MODEL_FILE = "model.h5"  # in the run's folder
_FORMAT = "pydnn model 2"
_MOST_FEATURES = 3 * 4096 * 4096  # else a file could claim all memory


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Model:
    """What is needed to predict with a trained network, and to tell how it was trained.

    Attributes:
        recipe: The job that trained it.
        parameters: Its parameters at the end.
        costs: The cost at each iteration.
        features: Numbers of one example.
        statistics: What stages such as batch normalisation have gathered.
        standardization: What is done to the features first, if the recipe wants it.
        image_shape: (height, width, 3) of the images that it takes, if it takes images.
        classes: Names of the classes from number 0 on, if they have names.
    """

    recipe: Recipe
    parameters: Packed
    costs: FloatArray
    features: int
    statistics: Packed = attrs.field(factory=lambda: pack(NO_PARAMS))
    standardization: Standardization | None = None
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] | None = None


def predictions(model: Model, X: FloatArray) -> FloatArray:
    """What `model` says of each example of X (n_x, m): probabilities, or numbers.

    X is as the data has it: a standardisation that belongs to the model is done here.
    """
    network: Stage = build(model.recipe.network, family="stage")
    loss: Loss = build(model.recipe.loss, family="loss")
    if model.standardization is not None:
        X = model.standardization(X)
    X = X.astype(DTYPES[model.recipe.dtype], copy=False)
    numerics = TENANTS[model.recipe.numerics]
    AL = output_of(network, model.parameters, X, statistics=model.statistics, numerics=numerics)
    return loss.predict(AL, Context(numerics=numerics))


def save_model(path: AnyPath, model: Model, *, replace: bool = False) -> None:
    """Write `model` to a new file, or in the place of an old one; it is there whole, or not."""
    fitted = model.standardization
    write_hdf5(
        path_of(path),
        arrays={
            "parameters": model.parameters.vector,
            "statistics": model.statistics.vector,
            "costs": model.costs,
        }
        | ({"mean": fitted.mean, "deviation": fitted.deviation} if fitted else {}),
        attributes={
            "format": _FORMAT,
            "recipe": write_recipe(model.recipe),
            "inputs": json.dumps(
                {
                    "features": model.features,
                    "image_shape": model.image_shape,
                    "classes": model.classes,
                }
            ),
        },
        replace=replace,
    )


def load_model(path: AnyPath, *, allow: Iterable[str] = ()) -> Model:
    """Read what `save_model` wrote.

    Predicting needs the network, and what the loss makes of its outputs. All other parts of the
    recipe may be of modules that are not here, or not allowed: they are kept as `Unread`.

    Args:
        path: The file.
        allow: Names of the modules outside pydnn that may be imported, with all modules below
            them, because the recipe names their builders, e.g. ["my_package"].

    Raises:
        NotAllowed: If the network has a part of a module that is not allowed.
        BadInput: If the file is missing, damaged, of another kind, or does not fit itself.
    """
    path = path_of(path)
    with open_hdf5(path) as file:
        if (found := read_text(file, "format")) != _FORMAT:
            raise BadInput(f"{path} has format {found!r}, expected {_FORMAT!r}: train it again.")
        try:
            recipe = read_recipe(read_text(file, "recipe"), allow=allow, needed=["network"])
        except BadInput as error:
            raise type(error)(f"recipe in {path}: {error}") from error
        features, shape, classes = _inputs(path, _json(path, read_text(file, "inputs")))
        layouts = _layouts(path, recipe, features)
        parameters, statistics = (
            _packed(file, name, recipe.dtype, layout)
            for name, layout in zip(("parameters", "statistics"), layouts, strict=True)
        )
        costs = read_array(file, "costs", dtype="float64", shape=("iterations",))
        standardization = _standardization(file, features) if recipe.standardize else None
    return Model(recipe, parameters, costs, features, statistics, standardization, shape, classes)


def _packed(file: h5py.File, name: str, dtype: str, layout: Layout) -> Packed:
    where = f"{name} in {file.filename}"
    vector = read_array(file, name, dtype=dtype, shape=(name,))
    expect_shape(where, vector, (layout.size,), hint="train it again")
    expect_finite(where, vector)
    return layout.packed(vector)


def _standardization(file: h5py.File, features: int) -> Standardization:
    mean, deviation = (
        read_array(file, name, dtype="float64", shape=(features, 1))
        for name in ("mean", "deviation")
    )
    expect_finite(f"mean in {file.filename}", mean)
    expect_finite(f"deviation in {file.filename}", deviation)
    if not (deviation > 0).all():
        raise BadInput(f"deviation in {file.filename} is not above 0: train it again.")
    return Standardization(mean, deviation)


def _layouts(path: Path, recipe: Recipe, features: int) -> tuple[Layout, Layout]:
    try:
        return layouts_of(recipe, features)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _json(path: Path, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"inputs in {path} are damaged ({error}): train the model again.") from error
    if not isinstance(value, dict):
        raise BadInput(f"inputs in {path} are no mapping: train the model again.")
    return value


def _inputs(
    path: Path, plain: Mapping[str, Any]
) -> tuple[int, tuple[int, int, int] | None, tuple[str, ...] | None]:
    match plain:
        case {"features": int(features), "image_shape": shape, "classes": classes}:
            if (
                0 < features <= _MOST_FEATURES
                and _is_image_shape(shape, features)
                and (classes is None or _are_names(classes))
            ):
                return features, shape and tuple(shape), classes and tuple(classes)
    raise BadInput(
        f"inputs in {path} are {dict(plain)!r}, expected features, an image's shape and names of "
        "classes: train the model again."
    )


def _is_image_shape(shape: Any, features: int) -> bool:
    if shape is None:
        return True
    match shape:
        case [int(height), int(width), 3]:
            return 0 < height <= 4096 and 0 < width <= 4096 and height * width * 3 == features
    return False


def _are_names(classes: Any) -> bool:
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)
