"""A training job as plain data, in one frozen record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

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
    is_count,
    known_options,
    shown,
)
from pydnn.data.image_folders import image_size_of
from pydnn.data.texts import is_text
from pydnn.descriptions.builders import Unread, describe, plain_numbers
from pydnn.descriptions.parts import Description, is_description
from pydnn.descriptions.text import own_builders, read_description
from pydnn.numerics import ARITHMETICS, Numerics

__all__ = ["DTYPES", "ClassWeights", "Recipe", "read_part", "with_seed"]

ClassWeights: TypeAlias = str | Mapping[str, float] | tuple[float, ...]

DTYPES: Mapping[str, type[np.floating[Any]]] = {
    "float64": np.float64,
    "float32": np.float32,
}
_MOST_ITERATIONS = 2**53
_MOST_SHARDS = 2**20
_FULL_BATCH = describe(full_batch())


def _text(_: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise BadInput(f"{field.name} is {shown(value)}, expected a text: put it in quotes.")


def _as_description(value: object) -> object:
    """The description of a part; a description or None is returned unchanged."""
    if value is None or is_description(value) or not hasattr(value, "description"):
        return value
    return describe(value)


def read_part(name: str, family: str, value: object) -> object:
    """The description that a text stands for; any other value is returned unchanged.

    The text is part of the user's program, so its modules are allowed; but none is imported here.
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


def _columns(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _target(value: object) -> object:
    """One column or several; one in a list is written as one."""
    names = _columns(value)
    return names[0] if isinstance(names, tuple) and len(names) == 1 else names


def _several(value: object) -> object:
    return tuple(map(_as_description, value)) if isinstance(value, list | tuple) else value


def _class_weights(value: object) -> ClassWeights:
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
    """A training job as text and numbers, so that a file can hold it.

    A part can be the part itself, `optimizer=adam(learning_rate=0.01)`, its description, or its
    text as in a recipe file, `optimizer="adam(learning_rate=0.01)"`. A text may name a builder
    outside pydnn as module:function if that module is imported.

    Attributes:
        data: The name of the data set, or its path.
        network: The network.
        loss: The loss.
        optimizer: The optimizer.
        iterations: The number of training steps.
        penalties: The penalties, which are added to the loss.
        augment: The random changes of the examples of each batch, in training alone, e.g.
            ("random_flip()", "random_shift(4)"); see `pydnn.augmentation`. Images then have all
            their axes, (height, width, 3).
        batches: How the training part is cut into batches, by default all of it in one.
        weights: The stream that draws the weights of all layers; None if each layer draws its
            own.
        standardize: Whether to scale features to mean 0 and deviation 1, as fitted on the
            training part. The features of images are their channels, and those of sequences the
            numbers of a step.
        rotate: Whether to train in the space of the examples, see `pydnn.jobs.rotation`; None to
            do so if it is exact and saves time.
        validation: The share of the training examples to hold back, at least 0 and below 1.
        fold: Which part to hold back instead of a share, and of how many equal parts: (1, 5) is the
            first of five folds; None for no folds. See `batches.split_fold`.
        evaluate_every: The number of steps between evaluations on the training and validation
            parts; 0 for no evaluations.
        watch: The value that early stopping watches, e.g. "validation cost"; "" for no early
            stopping.
        patience: The number of steps without a better value before training stops; 0 for no
            early stopping.
        higher_is_better: Whether a higher watched value is better; None to look it up in
            `metrics.higher_is_better`.
        target: The column of a table to predict, or several columns; "" if the data is not a table.
        test: Where the test part of a table is: another file, or the share of the rows to draw;
            "" for none. A share can be drawn of the pictures of a folder, too.
        ignore: Columns of a table that are not looked at.
        example_weights: The column of a table that says how much each example counts; "" for none.
        class_weights: The weight of each class in the cost: "balanced" to give all classes the
            same total weight, numbers by class number, or a mapping from class names, where a
            missing class has weight 1; "" for none. They multiply the weights of examples.
        text: How examples are made of a text, e.g. "lines()" or "windows(64)"; None for "lines()"
            if the name of the data ends in .txt. See `pydnn.data.text`.
        image_size: The height and width in pixels that the pictures of a folder are resized to;
            None for 64 and 64.
        skip_unreadable: Whether to leave out the pictures of a folder that cannot be read, instead
            of refusing the folder.
        start_from: The file of the weights from which training starts, for fine-tuning: a model
            of pydnn, or another file that `interop.load_weights` reads; "" for drawn weights.
        seed: The seed of everything random in the job, at least 0.
        dtype: "float64" or "float32".
        numerics: "fast", or "portable" for the same bits on every machine.
        shards: How many parts each batch is cut into, whose gradients are added in a fixed order.
            Several workers can compute them, and their number changes no bit; the number of shards
            does. It is at most the number of examples of the smallest batch.

    Raises:
        BadInput: If a value is of the wrong type or out of range, a text does not describe a
            part, or early stopping has nothing to watch.

    Example:
        >>> recipe = nn.Recipe(
        ...     data="drawn-cats",
        ...     network=nn.serial(nn.dense(20), nn.relu(), nn.dense(1)),
        ...     loss=nn.sigmoid_cross_entropy(),
        ...     optimizer="adam(learning_rate=0.001)",
        ...     iterations=500,
        ... )
        >>> recipe.optimizer
        {'adam': {'learning_rate': 0.001}}
    """

    data: str = attrs.field(validator=_text)
    network: Description = attrs.field(converter=_as_description)
    loss: Description = attrs.field(converter=_as_description)
    optimizer: Description = attrs.field(converter=_as_description)
    iterations: int
    penalties: tuple[Description, ...] = attrs.field(default=(), converter=_several)
    augment: tuple[Description, ...] = attrs.field(default=(), converter=_several)
    batches: Description = attrs.field(default=_FULL_BATCH, converter=_as_description)
    weights: Description | None = attrs.field(default=None, converter=_as_description)
    standardize: bool = False
    rotate: bool | None = None
    validation: float = 0.0
    fold: tuple[int, int] | None = None
    evaluate_every: int = 0
    watch: str = attrs.field(default="", validator=_text)
    patience: int = 0
    higher_is_better: bool | None = None
    class_weights: ClassWeights = ""
    text: Description | None = attrs.field(default=None, converter=_as_description)
    image_size: tuple[int, int] | None = None
    skip_unreadable: bool = False
    target: str | tuple[str, ...] = attrs.field(default="", converter=_target)
    test: str | float = ""
    ignore: tuple[str, ...] = attrs.field(default=(), converter=_columns)
    example_weights: str = attrs.field(default="", validator=_text)
    start_from: str = attrs.field(default="", validator=_text)
    seed: int = 1
    dtype: str = "float64"
    numerics: str = "fast"
    shards: int = 1

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Recipe):  # NumPy scalars become plain numbers, as in a file
            value = getattr(self, field.name)
            if field.name in LISTED and isinstance(value, tuple):
                family = LISTED[field.name]
                value = tuple(read_part(field.name, family, part) for part in value)
            elif field.name in DESCRIBED:
                value = read_part(field.name, DESCRIBED[field.name], value)
            object.__setattr__(self, field.name, plain_numbers(value))
        hint = "give the number of steps"
        expect_count("iterations", self.iterations, most=_MOST_ITERATIONS, hint=hint)
        for name in DESCRIBED:
            value = getattr(self, name)
            if not (value is None or is_description(value) or isinstance(value, Unread)):
                raise BadInput(
                    f"{name} is {value!r}, expected a part, its description or the text of it: "
                    "give e.g. the part that a builder returns."
                )
        for name in LISTED:
            if not isinstance(value := getattr(self, name), tuple):
                verb = "are" if name.endswith("s") else "is"
                raise BadInput(f"{name} {verb} {shown(value)}, expected a list: give e.g. [].")
        hint = "give the number of parts of each batch, or 1 to leave batches whole"
        expect_count("shards", self.shards, most=_MOST_SHARDS, hint=hint)
        hint = "give the seed of the job"
        expect_count("seed", self.seed, least=0, most=MOST_SEED, hint=hint)
        hint = "give the share to hold back, e.g. 0.2"
        expect_real("validation", self.validation, least=0, below=1, hint=hint)
        self._expect_fold()
        hint = "0 means no evaluations"
        expect_count("evaluate_every", self.evaluate_every, least=0, hint=hint)
        hint = "0 means no early stopping"
        expect_count("patience", self.patience, least=0, hint=hint)
        expect_flag("standardize", self.standardize)
        expect_flag("skip_unreadable", self.skip_unreadable)
        if self.image_size is not None:
            object.__setattr__(self, "image_size", image_size_of(self.image_size))
        if self.rotate is not None:
            expect_flag("rotate", self.rotate)
        if self.higher_is_better is not None:
            expect_flag("higher_is_better", self.higher_is_better)
        object.__setattr__(self, "class_weights", _class_weights(self.class_weights))
        object.__setattr__(self, "dtype", str(self.dtype))  # it may be a NumPy dtype
        expect_known("dtype", self.dtype, DTYPES)
        expect_known("numerics", str(self.numerics), ARITHMETICS)
        self._expect_table()
        self._expect_something_to_watch()

    @property
    def arithmetic(self) -> Numerics:
        """The arithmetic that `numerics` names."""
        return ARITHMETICS[self.numerics]

    @property
    def holds_back(self) -> bool:
        """Whether some of the training examples are held back for evaluation."""
        return bool(self.validation) or self.fold is not None

    @property
    def one_thread(self) -> bool:
        """Whether BLAS computes with one thread, as on every worker that may compute shards.

        In portable arithmetic no bit depends on the number of threads.
        """
        return self.shards > 1 and not self.arithmetic.exact

    @property
    def is_of_text(self) -> bool:
        """Whether the data is the file of a text, of which sequences of symbols are made."""
        return self.text is not None or (not self.target and is_text(self.data))

    def _expect_fold(self) -> None:
        if self.fold is None:
            return
        pair = self.fold if isinstance(self.fold, list | tuple) else ()
        which, folds = pair if len(pair) == 2 else (0, 0)
        if not (is_count(folds, least=2) and is_count(which, least=1, most=folds)):
            raise BadInput(
                f"fold is {shown(self.fold)}, expected the number of a fold and how many there "
                "are, two or more: give e.g. (1, 5) for the first of five."
            )
        object.__setattr__(self, "fold", (which, folds))
        if self.validation:
            raise BadInput(
                f"fold is {self.fold} and validation is {self.validation:g}, expected only one of "
                "them, since both hold back examples: leave one out."
            )

    def _expect_table(self) -> None:
        for name in ("target", "ignore"):
            value = getattr(self, name)
            names = (value,) if isinstance(value, str) else value
            texts = isinstance(names, tuple) and all(isinstance(column, str) for column in names)
            if not texts or (name == "ignore" and isinstance(value, str)):
                raise BadInput(
                    f"{name} is {shown(value)}, expected names of columns: put them in quotes."
                )
        if isinstance(self.test, PathLike):
            object.__setattr__(self, "test", str(self.test))
        if not isinstance(self.test, str):
            hint = "give the share of the rows to test on, e.g. 0.2, or a file"
            expect_real("test", self.test, positive=True, below=1, hint=hint)
        of_tables = ("ignore", "example_weights", *(["test"] if isinstance(self.test, str) else []))
        for name in of_tables:  # a share for testing can be drawn of pictures, too
            if name == "test" and self.is_of_text:
                continue
            if getattr(self, name) and not self.target:
                raise BadInput(
                    f"{name} is {getattr(self, name)!r}, but there is no target: name the column "
                    "to predict."
                )

    def _expect_something_to_watch(self) -> None:
        if bool(self.watch) != bool(self.patience):
            raise BadInput(
                f"patience is {self.patience} and watch is {self.watch!r}, expected both or "
                'neither: give e.g. watch = "validation cost" and patience = 500.'
            )
        part = self.watch.partition(" ")[0]
        if part not in ("train", "validation"):
            return
        if not self.evaluate_every or (part == "validation" and not self.holds_back):
            what = "evaluate_every" if not self.evaluate_every else "validation"
            raise BadInput(
                f"patience has nothing to watch: {self.watch!r} needs {what} above 0: set it."
            )


if not TYPE_CHECKING:  # for a type checker, it is the __init__ that attrs makes
    Recipe.__init__ = known_options(Recipe.__init__)


DESCRIBED = {
    "network": "stage",
    "loss": "loss",
    "optimizer": "optimizer",
    "batches": "batches",
    "weights": "weights",
    "text": "text",
}
LISTED = {"penalties": "penalty", "augment": "augmentation"}  # entries with any number of parts


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe with another `seed` for everything random in its job.

    If the recipe states a separate seed for its weight stream, that is changed too.

    Example:
        >>> with_seed(nn.recipes.tutorial_recipe(), 7).seed
        7
    """
    weights = recipe.weights and {
        name: {**options, "seed": seed} if "seed" in options else options
        for name, options in recipe.weights.items()
    }
    return attrs.evolve(recipe, seed=seed, weights=weights)
