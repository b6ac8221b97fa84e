"""The recipe that a command line asks for: a file's or the tutorial's, changed by options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from pydnn.checks import BadInput, path_of
from pydnn.cli.run_options import (
    Group,
    add_allow_option,
    complete_with,
    option_group,
    place_of_data,
    place_of_test,
)
from pydnn.data import DataSet, TextExamples
from pydnn.data.tables import TableExamples
from pydnn.descriptions.builders import build, builders_of, describe
from pydnn.descriptions.parts import Description
from pydnn.descriptions.text import own_builders, read_description
from pydnn.jobs.file_kinds import MODEL, RECIPE_TEXT, TEXT, UNKNOWN, expecting
from pydnn.losses import softmax_cross_entropy
from pydnn.numerics import ARITHMETICS
from pydnn.optimizers.momentum import gradient_descent
from pydnn.recipes.automatic import TASKS, recipe_for
from pydnn.recipes.cats import cats_recipe
from pydnn.recipes.letters import letters_recipe
from pydnn.recipes.recipe import DESCRIBED, DTYPES, LISTED, Recipe, with_seed
from pydnn.recipes.toml import read_recipe
from pydnn.recipes.tutorial import tutorial_network, tutorial_recipe
from pydnn.runs.folder import START
from pydnn.storage.files import read_small_text
from pydnn.storage.hdf5 import open_hdf5, read_text
from pydnn.storage.run_files import MODEL_FILE, RECIPE, run_folder_of

__all__ = [
    "add_picture_options",
    "add_recipe_options",
    "add_text_option",
    "names_of_parts",
    "recipe_at",
    "recipe_for_data",
    "recipe_of",
    "test_part",
    "text_examples",
    "typed",
]

_LAYERS = "20,7,5"  # the hidden layers of the tutorial's network
_SHIPPED = {"cats": cats_recipe, "letters": letters_recipe, "tutorial": tutorial_recipe}  # by name

# Options whose values are descriptions of parts, the family of each, and its help.
_DESCRIBED = {
    "network": ("stage", "e.g. 'serial(dense(20), relu, dense(1))'"),
    "loss": ("loss", "e.g. softmax_cross_entropy"),
    "optimizer": ("optimizer", "e.g. 'adam(learning_rate=0.001)'"),
    "batches": ("batches", "e.g. 'mini_batches(32)'"),
    "weights": ("weights", "draw all initial weights from one random stream, e.g. 'tutorial()'"),
}


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the recipe's file, and an option for each entry of a recipe, in three groups."""
    parser.usage = "%(prog)s [RECIPE] [options]"
    _add_what(option_group(parser, "what to train", "digits.toml --data photos/"))
    _add_how(
        option_group(parser, "how to train it", "--optimizer adam --batches 'mini_batches(32)'")
    )
    _add_when(option_group(parser, "when to stop", "--iterations 500 --validation 0.2"))


def _add_what(group: Group) -> None:
    option = group.add_argument
    option(
        "recipe",
        type=path_of,
        nargs="?",
        metavar="RECIPE",
        help="a recipe's TOML file, a run or model whose recipe to use, or the name of one in "
        "pydnn: tutorial, cats for a small convolutional network, or letters for the tutorial's "
        "recurrent network on names (default: one that is chosen for a table or a text, else the "
        "tutorial's network)",
    )
    option(
        "--data",
        metavar="NAME",
        help="drawn-cats (the default), digits, diabetes, a folder with a folder of pictures for "
        "each class, a directory with train_catvnoncat.h5 and test_catvnoncat.h5, a table (CSV, "
        "TSV, Parquet, npz, npy or HDF5) with --target, a text (names.txt), or an HDF5 or npz "
        "file of examples",
    )
    _add_table_options(group)
    add_picture_options(group)
    add_text_option(group)
    option(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="scale each feature to mean 0 and deviation 1",
    )
    add_allow_option(group)


def add_picture_options(group: Group) -> None:
    """Add what is said of pictures in a folder."""
    group.add_argument(
        "--image-size",
        type=_image_size,
        metavar="H,W",
        help="height and width that the pictures of a folder are resized to (default: 64,64)",
    )
    group.add_argument(
        "--skip-unreadable",
        action=argparse.BooleanOptionalAction,
        help="leave out the pictures of a folder that cannot be read",
    )


def add_text_option(group: Group) -> None:
    """Add how examples are made of a text."""
    option = group.add_argument(
        "--text",
        metavar="CALL",
        help="how examples are made of a text, e.g. 'lines(words=True)' or 'windows(64)' "
        "(default: lines if the name ends in .txt)",
    )
    complete_with(option, partial(names_of_parts, "text"))


def text_examples(args: argparse.Namespace) -> TextExamples | None:
    """How examples are made of a text, as --text says; None without that option.

    Raises:
        BadInput: If the option does not describe it.
    """
    if args.text is None:
        return None
    examples: TextExamples = build(_described("text", args.text, "text"), family="text")
    return examples


def _add_table_options(group: Group) -> None:
    option = group.add_argument
    option(
        "--target",
        action="append",
        metavar="COLUMN",
        help="the column of a table to predict; can be repeated",
    )
    option(
        "--task",
        choices=TASKS,
        help="what the target of a table is, if no recipe is given (default: classes if it holds "
        "texts, truth values or at most 20 whole numbers, else numbers)",
    )
    option(
        "--test",
        type=test_part,
        metavar="FILE|SHARE",
        help="the table's test part: another file, or the share of the rows (or of the pictures "
        "of a folder) to draw, e.g. 0.2",
    )
    option(
        "--ignore",
        action="append",
        metavar="COLUMN",
        help="a column of a table to leave out; can be repeated",
    )
    option(
        "--example-weights",
        metavar="COLUMN",
        help="the column of a table that says how much each example counts",
    )


def test_part(text: str) -> str | float:
    """The share of the examples, or the name of a file, that --test gives."""
    try:
        return float(text)
    except ValueError:
        return text


def _fold(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, as in 1,5") from None


def _image_size(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not height and width, as in 64,64") from None


def _add_how(group: Group) -> None:
    option = group.add_argument
    option(
        "--layers", metavar="N,N", help="units of the tutorial's hidden layers (default: 20,7,5)"
    )
    option(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="the rate of gradient descent (default: 0.0075)",
    )
    for name, (family, example) in _DESCRIBED.items():
        described = option(f"--{name}", metavar="CALL", help=example)
        complete_with(described, partial(names_of_parts, family))
    option(
        "--shards",
        type=int,
        metavar="N",
        help="cut each batch into this many parts, which several workers can compute (default: 1)",
    )
    penalty = option(
        "--penalty",
        action="append",
        dest="penalties",
        metavar="CALL",
        help="e.g. 'l2_penalty(0.7)'; can be repeated",
    )
    complete_with(penalty, partial(names_of_parts, "penalty"))
    augmentation = option(
        "--augment",
        action="append",
        metavar="CALL",
        help="change the examples at random, in training alone, e.g. random_flip or "
        "'random_shift(4)'; can be repeated",
    )
    complete_with(augmentation, partial(names_of_parts, "augmentation"))
    option(
        "--class-weights",
        type=_class_weights,
        metavar="WEIGHTS",
        help="how much the examples of each class count: balanced, or e.g. 1,2.5 or cat=2.5",
    )
    option(
        "--start-from",
        metavar="FILE",
        help="start from the weights of a model, or of a file of PyTorch, Keras or NumPy",
    )
    option("--seed", type=int, metavar="N", help="changes every random choice (default: 1)")
    option("--dtype", choices=sorted(DTYPES), help="precision (default: float64)")
    option(
        "--numerics",
        choices=sorted(ARITHMETICS),
        help="arithmetic (default: fast); portable gives the same bits on every machine",
    )
    option(
        "--rotate",
        action=argparse.BooleanOptionalAction,
        help="train in the space that the examples span (default: if that is exact and faster)",
    )


def _add_when(group: Group) -> None:
    option = group.add_argument
    option("--iterations", type=int, metavar="N", help="steps to take (default: 2500)")
    option(
        "--validation",
        type=float,
        metavar="SHARE",
        help="share of the training examples to hold back for evaluation",
    )
    option(
        "--fold",
        type=_fold,
        metavar="N,OF",
        help="hold back one of several equal parts instead of a share, e.g. 1,5 for the first of 5",
    )
    option("--evaluate-every", type=int, metavar="N", help="steps from one evaluation to the next")
    option("--watch", metavar="NAME", help="the value for early stopping, e.g. 'validation cost'")
    option(
        "--patience",
        type=int,
        metavar="N",
        help="stop after this many steps without a better value",
    )
    option(
        "--higher-is-better",
        action=argparse.BooleanOptionalAction,
        help="whether a larger watched value is better (default: known for pydnn's metrics)",
    )


def names_of_parts(family: str) -> list[str]:
    """The names of pydnn's builders of one family, e.g. "optimizer"."""
    return [builder.name for builder in builders_of(family) if ":" not in builder.name]


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the command line asks for.

    Raises:
        BadInput: If the file cannot be read, an option does not fit, or two options conflict.
    """
    changes = _changes(args)
    if args.recipe is None:
        base = tutorial_recipe(hidden=_units(_LAYERS if args.layers is None else args.layers))
        if "network" in changes:  # its layers draw their own weights, unless --weights says else
            base = attrs.evolve(base, weights=None)
        return _changed(base, changes)
    if args.layers is not None:
        changes["network"] = describe(tutorial_network(_units(args.layers)))
    return recipe_at(args.recipe, allow=args.allow, changes=changes)


def recipe_at(path: Path, *, allow: Sequence[str], changes: Mapping[str, Any]) -> Recipe:
    """The recipe in a file, a run or a model, or of that name, with other entries.

    Args:
        path: The path, or the name of a recipe that pydnn has.
        allow: The modules that may be imported for it.
        changes: The entries to change.

    Raises:
        BadInput: If the file cannot be read, or an entry does not fit.
    """
    changes = dict(changes)
    if str(path) in _SHIPPED and not path.exists():
        return _changed(_SHIPPED[str(path)](), changes)
    hint = "give a recipe's file, a run or a model"
    known = (RECIPE_TEXT, MODEL, TEXT, UNKNOWN)  # UNKNOWN includes text in another encoding
    with expecting(path, *known, expected="a recipe", hint=hint):
        text = _text_of(path)
        if not {"data", "test"} & set(changes) and (test := place_of_test(path)):
            changes["test"] = test
        if "data" not in changes and (place := place_of_data(path)):
            changes["data"] = place
        kept = run_folder_of(path) / START
        if "start_from" not in changes and kept.is_file():
            changes["start_from"] = str(kept)
        try:
            return _changed(read_recipe(text, allow=allow), changes)
        except BadInput as error:
            raise type(error)(f"{path}: {error}") from error


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The entries of a recipe that options state."""
    changes = {
        field.name: getattr(args, field.name)
        for field in attrs.fields(Recipe)
        if getattr(args, field.name, None) is not None
    }
    for name, family in DESCRIBED.items():
        if name in changes:
            changes[name] = _described(name, changes[name], family)
    for name, family in LISTED.items():
        if name in changes:
            option = "penalty" if name == "penalties" else name
            changes[name] = [_described(option, part, family) for part in changes[name]]
    _expect_apart(args, "layers", "network")
    _expect_apart(args, "learning_rate", "optimizer")
    if args.learning_rate is not None:
        changes["optimizer"] = describe(gradient_descent(learning_rate=args.learning_rate))
    return changes


def recipe_for_data(args: argparse.Namespace, recipe: Recipe, data: DataSet) -> Recipe:
    """The recipe of `recipe_of`, once its data is known.

    Without a recipe, `recipes.recipe_for` chooses one for a table or a text; and the tutorial's
    network ends in one output for each class where the data has more than two.
    """
    of_table = isinstance(data.train, TableExamples)
    automatic = args.recipe is None and (of_table or data.vocabulary is not None)
    if args.task is not None and not automatic:
        raise BadInput(
            f"--task is {args.task}, but it only helps to choose a recipe for a table: give "
            "--loss, or leave out the recipe and give --target."
        )
    if args.recipe is not None:
        return recipe
    hidden = None if args.layers is None else _units(args.layers)
    if automatic:
        return recipe_for(data, task=args.task, hidden=hidden, **_changes(args))
    count = len(data.classes or ())
    if count <= 2 or not (args.network is args.loss is None):
        return recipe
    network = describe(tutorial_network(hidden or _units(_LAYERS), outputs=count))
    return attrs.evolve(recipe, network=network, loss=describe(softmax_cross_entropy()))


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with the options' `changes`; a seed in --weights wins over --seed."""
    if "seed" in changes:
        recipe = with_seed(recipe, changes["seed"])
    return attrs.evolve(recipe, **changes)


def _text_of(path: Path) -> str:
    """The text of a recipe's file, or of the recipe of a run or a model."""
    model = path / MODEL_FILE if path.is_dir() else path
    for file in (path / RECIPE, run_folder_of(path) / RECIPE):
        if file.is_file():
            return read_small_text(file, links=False)
    if model.suffix == ".h5" and model.is_file():
        with open_hdf5(model, sealed=True) as stored:
            return read_text(stored, "recipe")
    if path.is_dir():
        raise BadInput(f"{path} is a folder without {RECIPE}, expected a recipe: name its file.")
    return read_small_text(path, what="a recipe")


def _described(option: str, text: str, family: str) -> Description:
    try:
        return read_description(text, family=family, allow=typed(text))
    except BadInput as error:
        raise BadInput(f"--{option}: {error}") from error


def typed(text: str) -> list[str]:
    """The modules that the text of an option names: whoever types a module's name allows it."""
    return [name.partition(":")[0] for name in own_builders(text)]


def _expect_apart(args: argparse.Namespace, first: str, second: str) -> None:
    if getattr(args, first) is not None and getattr(args, second) is not None:
        raise BadInput(
            f"--{first.replace('_', '-')} and --{second} are both present, expected only one: "
            f"make the former part of --{second}."
        )


def _units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if text.strip())
    except ValueError:
        raise BadInput(
            f"--layers is {text!r}, expected numbers of units, separated by commas: "
            "give e.g. --layers 20,7,5."
        ) from None


def _class_weights(text: str) -> str | dict[str, float] | tuple[float, ...]:
    """The value of `--class-weights`: a word, numbers, or names with numbers."""
    if text == "balanced":
        return text
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        if all(name for name, _, _ in pairs):
            return {name.strip(): float(weight) for name, _, weight in pairs}
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of weights, expected numbers: give balanced, 1,2.5 or cat=2.5"
        ) from None
