"""Options that several commands share, and the groups in which `--help` shows options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from pydnn.checks import BadInput, path_of
from pydnn.data import DataSet
from pydnn.jobs.model import Model, load_model
from pydnn.recipes.toml import read_toml
from pydnn.runs.folder import SEGMENTS
from pydnn.runs.provenance import Pins, data_differences, read_pins
from pydnn.storage.files import read_small_text
from pydnn.storage.run_files import MODEL_FILE, RECIPE, run_folder_of

__all__ = [
    "Commands",
    "Group",
    "add_allow_option",
    "add_model_options",
    "add_run_options",
    "complete_with",
    "model_of",
    "option_group",
    "place_of_data",
    "place_of_test",
    "unlike_recorded",
    "was_given_lengths",
]

# What `add_subparsers` returns: each command adds its parser to it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Group: TypeAlias = "argparse._ArgumentGroup"


def option_group(parser: argparse.ArgumentParser, title: str, example: str) -> Group:
    """Add a group of options to a command, which `--help` shows with an example of their use.

    Args:
        parser: The command's parser.
        title: The question that the options answer, e.g. "when to stop".
        example: The arguments of a command line that uses the group, without "pydnn train".
    """
    return parser.add_argument_group(title, f"example: {parser.prog} {example}")


def complete_with(option: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Let Tab complete the value of an `option` with `names`, which are computed only then."""
    option.completer = lambda **_: names()  # type: ignore[attr-defined]  # argcomplete reads it


def add_run_options(
    parser: argparse.ArgumentParser, *, example: str, several: bool = False
) -> None:
    """Add the group for the run's folder, the place of its data, and what to do about changes.

    Args:
        parser: The command's parser.
        example: The arguments of a command line that uses the group.
        several: Whether the command takes several runs, which are then `folders`.
    """
    run = option_group(parser, "which runs" if several else "which run", example)
    what = "the folder of a recorded run"
    if several:
        what += "; can be repeated"
        run.add_argument("folders", nargs="+", type=run_folder_of, metavar="RUN", help=what)
    else:
        run.add_argument("folder", type=run_folder_of, metavar="RUN", help=what)
    whose = "the data of the runs" if several else "the run's data"
    run.add_argument("--data", metavar="NAME", help=f"where {whose} is now (default: where it was)")
    run.add_argument(
        "--anyway",
        action="store_true",
        help="continue even if the data, your own functions or the machine have changed",
    )
    add_allow_option(run)


def add_allow_option(group: Group) -> None:
    """Add the option with which a person allows a file to name code outside pydnn."""
    group.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="let files name parts of your own from this module or its submodules; pydnn then "
        "imports it, which runs its code; can be repeated",
    )


def add_mapped_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses where examples stay."""
    parser.add_argument(
        "--mapped",
        action=argparse.BooleanOptionalAction,
        help="leave the examples in their file and read each batch from there; this changes no bit "
        "(default: only if they would take more than a quarter of the free memory)",
    )


def add_model_options(parser: argparse.ArgumentParser, *, example: str) -> None:
    """Add the group for the file of a trained model, and how to read it."""
    model = option_group(parser, "which model", example)
    model.add_argument(
        "folder", type=path_of, metavar="RUN", help="a recorded run, or the file of a model"
    )
    add_allow_option(model)
    model.add_argument(
        "--unverified",
        action="store_true",
        help="read a model that pydnn 0.1.0 saved; it has no checksum, so damage goes unnoticed",
    )


def model_of(folder: Path, *, allow: Sequence[str], unverified: bool = False) -> Model:
    """The trained model of the run in `folder`, or the model in that file; see `load_model`.

    Raises:
        NotAllowed: If the model names a builder of a module that is not allowed.
        BadInput: If there is no model, or it is damaged.
    """
    path = folder if folder.is_file() else folder / MODEL_FILE
    if path is not folder and path.is_symlink():
        raise BadInput(f"{path} is a symbolic link, expected the model itself: copy it there.")
    if folder.is_dir() and not path.exists() and not (folder / RECIPE).is_file():
        raise BadInput(
            f"{folder} is a folder without {MODEL_FILE}, expected a run or a model: check the path."
        )
    if not path.exists() and (folder / RECIPE).is_file():
        segments = folder / SEGMENTS
        steps = max(
            (int(s.stem) for s in segments.glob("[0-9]*.h5") if s.stem.isdigit()), default=0
        )
        raise BadInput(
            f"{folder} has {steps} steps but no {MODEL_FILE}: run pydnn resume {folder}, which "
            "takes the missing steps, if there are any, and writes it."
        )
    return load_model(path, allow=allow, unverified=unverified)


def place_of_data(folder: Path) -> str | None:
    """Where the data of the run in `folder` was when it was recorded, if it is still there."""
    pins = _pins_of(folder)
    return pins.place if pins is not None and os.path.exists(pins.place) else None


def place_of_test(folder: Path) -> str | None:
    """The same of the file of the test part, if it has one of its own."""
    pins = _pins_of(folder)
    there = pins is not None and pins.test_place and os.path.exists(pins.test_place)
    return pins.test_place if pins is not None and there else None


def _pins_of(folder: Path) -> Pins | None:
    folder = run_folder_of(folder)
    if not (folder / RECIPE).is_file():
        return None
    return read_pins(read_toml(read_small_text(folder / RECIPE, links=False)))


def was_given_lengths(folder: Path) -> bool:
    """Whether the run in `folder` was trained on sequences with lengths."""
    pins = _pins_of(folder)
    return pins is not None and "lengths" in pins.data.get("train", ())


def unlike_recorded(folder: Path, data: DataSet) -> list[str]:
    """The arrays of `data`, e.g. "train X", whose SHA-256 is not the one that the run recorded.

    The list is empty if `folder` has a model without a recorded run.
    """
    pins = _pins_of(folder)
    if pins is None:
        return []
    return [difference.partition(" differs")[0] for difference in data_differences(pins, data)]
