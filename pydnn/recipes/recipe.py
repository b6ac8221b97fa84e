"""A whole training job as plain data, in one frozen record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from pydnn.batches import full_batch
from pydnn.checks import (
    MOST_SEED,
    BadInput,
    expect_count,
    expect_flag,
    expect_known,
    expect_real,
    shown,
)
from pydnn.descriptions.builders import Unread, describe, plain_numbers
from pydnn.descriptions.parts import Description, is_description
from pydnn.descriptions.text import own_builders, read_description
from pydnn.numerics import ARITHMETICS, Numerics

__all__ = ["DTYPES", "Recipe", "with_seed"]

DTYPES: Mapping[str, type[np.floating[Any]]] = {
    "float64": np.float64,
    "float32": np.float32,
}
_MOST_ITERATIONS = 2**53
_FULL_BATCH = describe(full_batch())


def _text(_: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise BadInput(f"{field.name} is {shown(value)}, expected a text: put it in quotes.")


def _as_description(value: object) -> object:
    """The description of a part; a description is one already, and so is None."""
    if value is None or is_description(value) or not hasattr(value, "description"):
        return value
    return describe(value)


def _read(name: str, family: str, value: object) -> object:
    """The description that a text writes; anything else is returned as it is.

    The text is the user's own, as the rest of the program is. Still, nothing is imported for it.
    """
    if not isinstance(value, str):
        return value
    modules = [builder.partition(":")[0] for builder in own_builders(value)]
    for module in modules:
        if module not in sys.modules:
            raise BadInput(
                f"{name} names a builder of {module}, which is not imported: import it first, or "
                "give the part itself."
            )
    try:
        return read_description(value, family=family, allow=modules)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _several(value: object) -> object:
    return tuple(map(_as_description, value)) if isinstance(value, list | tuple) else value


def _class_weights(value: object) -> str | dict[str, float] | tuple[float, ...]:
    """Weights of classes as floats; in a mapping, the number of a class is a text as its name is.

    Raises:
        BadInput: If it is anything else.
    """
    hint = 'give "balanced", one number per class, or numbers by the names of classes'
    match value:
        case "" | "balanced":
            return value
        case Mapping() if value:
            named = {str(name): weight for name, weight in value.items()}
        case list() | tuple() if value:
            named = {str(number): weight for number, weight in enumerate(value)}
        case _:
            raise BadInput(f"class_weights is {shown(value)}, expected weights: {hint}.")
    weights = {
        name: expect_real(f"the class weight of {name}", weight, least=0, hint=hint)
        for name, weight in named.items()
    }
    return weights if isinstance(value, Mapping) else tuple(weights.values())


@attrs.frozen
class Recipe:
    """A training job in words and numbers alone, so that a file can hold it.

    Where a part is described, the part itself can be given, `optimizer=adam(learning_rate=0.01)`,
    or the text that a file has for it, `optimizer="adam(learning_rate=0.01)"`. A text may name a
    builder outside pydnn, as module:function, if the module is imported.

    Attributes:
        data: Name of the data set, or the place where it is.
        network: Description of the network.
        loss: Description of the loss.
        optimizer: Description of the optimiser.
        iterations: Number of steps.
        penalties: Descriptions of what is added to the loss.
        batches: Description of how data is cut into batches.
        weights: Description of the stream that draws all weights; None where each layer
            draws its own.
        standardize: Whether features are brought to mean 0 and deviation 1, as fitted on the
            training part.
        rotate: Whether training goes on in the space of its examples, see
            `pydnn.jobs.rotation`; None where it is to where that is exact and pays.
        validation: Share of the training data, 0 or more and below 1, that is held back.
        evaluate_every: Steps between two evaluations on training and validation parts; 0 for
            none.
        watch: What early stopping watches, e.g. "validation cost"; "" for no early stopping.
        patience: Steps without a better value after which training stops; 0 for no stopping.
        higher_is_better: Whether the watched value should grow; None where
            `metrics.higher_is_better` knows.
        class_weights: How much the examples of each class count: "balanced" for all classes the
            same, numbers by class number, or a mapping from names of classes, in which a class
            that is left out counts 1; "" for no such weights. They multiply weights of examples.
        seed: Of the training's key.
        dtype: "float64" or "float32".
        numerics: "fast", or "portable": the same bits on every machine.
    """

    data: str = attrs.field(validator=_text)
    network: Description = attrs.field(converter=_as_description)
    loss: Description = attrs.field(converter=_as_description)
    optimizer: Description = attrs.field(converter=_as_description)
    iterations: int
    penalties: tuple[Description, ...] = attrs.field(default=(), converter=_several)
    batches: Description = attrs.field(default=_FULL_BATCH, converter=_as_description)
    weights: Description | None = attrs.field(default=None, converter=_as_description)
    standardize: bool = False
    rotate: bool | None = None
    validation: float = 0.0
    evaluate_every: int = 0
    watch: str = attrs.field(default="", validator=_text)
    patience: int = 0
    higher_is_better: bool | None = None
    class_weights: str | Mapping[str, float] | tuple[float, ...] = ""
    seed: int = 1
    dtype: str = "float64"
    numerics: str = "fast"

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Recipe):  # a file holds plain numbers, not NumPy's scalars
            value = getattr(self, field.name)
            if field.name == "penalties" and isinstance(value, tuple):
                value = tuple(_read("penalties", "penalty", penalty) for penalty in value)
            elif field.name in DESCRIBED:
                value = _read(field.name, DESCRIBED[field.name], value)
            object.__setattr__(self, field.name, plain_numbers(value))
        hint = "give the number of steps"
        expect_count("iterations", self.iterations, most=_MOST_ITERATIONS, hint=hint)
        for name in DESCRIBED:
            value = getattr(self, name)
            if not (value is None or is_description(value) or isinstance(value, Unread)):
                raise BadInput(
                    f"{name} is {value!r}, expected a part, its description or the text of it: "
                    "give e.g. what a builder makes."
                )
        if not isinstance(self.penalties, tuple):
            raise BadInput(f"penalties are {shown(self.penalties)}, expected a list: give e.g. [].")
        hint = "give the seed of the initial weights"
        expect_count("seed", self.seed, least=0, most=MOST_SEED, hint=hint)
        hint = "give the share that is held back, e.g. 0.2"
        expect_real("validation", self.validation, least=0, below=1, hint=hint)
        hint = "0 is for no evaluations"
        expect_count("evaluate_every", self.evaluate_every, least=0, hint=hint)
        hint = "0 is for no early stopping"
        expect_count("patience", self.patience, least=0, hint=hint)
        expect_flag("standardize", self.standardize)
        if self.rotate is not None:
            expect_flag("rotate", self.rotate)
        if self.higher_is_better is not None:
            expect_flag("higher_is_better", self.higher_is_better)
        object.__setattr__(self, "class_weights", _class_weights(self.class_weights))
        object.__setattr__(self, "dtype", str(self.dtype))  # it may be one of NumPy's
        expect_known("dtype", self.dtype, DTYPES)
        expect_known("numerics", str(self.numerics), ARITHMETICS)
        self._expect_something_to_watch()

    @property
    def arithmetic(self) -> Numerics:
        """The arithmetic that `numerics` names."""
        return ARITHMETICS[self.numerics]

    def _expect_something_to_watch(self) -> None:
        if bool(self.watch) != bool(self.patience):
            raise BadInput(
                f"patience is {self.patience} and watch is {self.watch!r}, expected both or "
                'neither: give e.g. watch = "validation cost" and patience = 500.'
            )
        part = self.watch.partition(" ")[0]
        if part not in ("train", "validation"):
            return
        if not self.evaluate_every or (part == "validation" and not self.validation):
            what = "evaluate_every" if not self.evaluate_every else "validation"
            raise BadInput(
                f"patience has nothing to watch: {self.watch!r} needs {what} above 0: set it."
            )


DESCRIBED = {
    "network": "stage",
    "loss": "loss",
    "optimizer": "optimizer",
    "batches": "batches",
    "weights": "weights",
}


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another `seed`, from which everything random in its job is then drawn.

    A weight stream for which the recipe states a seed of its own gets the new one too.
    """
    weights = recipe.weights and {
        name: {**options, "seed": seed} if "seed" in options else options
        for name, options in recipe.weights.items()
    }
    return attrs.evolve(recipe, seed=seed, weights=weights)
