"""Options of the commands that work on a recorded run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pydnn.checks import BadInput
from pydnn.data import DataSet
from pydnn.jobs.model import Model, load_model
from pydnn.recipes.toml import read_toml
from pydnn.runs.folder import SEGMENTS
from pydnn.runs.provenance import data_differences, read_pins
from pydnn.storage.files import read_small_text
from pydnn.storage.run_files import MODEL_FILE, RECIPE, run_folder_of

__all__ = [
    "Commands",
    "add_allow_option",
    "add_model_options",
    "add_run_options",
    "model_of",
    "place_of_data",
    "unlike_recorded",
]

# What `add_subparsers` gives: each command adds its parser to it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the run's folder, where its data is, and whether to go on in spite of changes."""
    parser.add_argument(
        "folder", type=run_folder_of, metavar="RUN", help="the folder of a recorded run"
    )
    parser.add_argument(
        "--data", metavar="NAME", help="where its data is now (default: where it was)"
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="go on where data, functions of your own or the machine are not what they were",
    )
    add_allow_option(parser)


def add_allow_option(parser: argparse.ArgumentParser) -> None:
    """Add the option by which a person allows code outside pydnn that a file names."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="let files name builders of this module outside pydnn, or of one below it, which is "
        "then imported and run; may be given more than once",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading a trained model."""
    add_allow_option(parser)
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="read a model of pydnn 0.1.0, which has no checksum, so damage cannot be noticed",
    )


def model_of(folder: Path, *, allow: Sequence[str], unverified: bool = False) -> Model:
    """The model that came of the run in `folder`, or the one in that file, see `load_model`.

    Raises:
        NotAllowed: If its network has a part of a module that is not allowed.
        BadInput: If there is none, or it is damaged.
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
            f"{folder} has {steps} steps but no {MODEL_FILE}: pydnn resume {folder} writes it, "
            "after the steps that are missing, if any are."
        )
    return load_model(path, allow=allow, unverified=unverified)


def place_of_data(folder: Path) -> str | None:
    """Where the data of the run in `folder` was when it was recorded, if it is still there."""
    folder = run_folder_of(folder)
    if not (folder / RECIPE).is_file():
        return None
    place = read_pins(read_toml(read_small_text(folder / RECIPE, links=False))).place
    return place if Path(place).exists() else None


def unlike_recorded(folder: Path, data: DataSet) -> list[str]:
    """The arrays of `data`, e.g. "train X", whose SHA-256 is not that which the run recorded.

    There is none where `folder` has a model without a recorded run.
    """
    folder = run_folder_of(folder)
    if not (folder / RECIPE).is_file():
        return []
    pins = read_pins(read_toml(read_small_text(folder / RECIPE, links=False)))
    return [difference.partition(" differs")[0] for difference in data_differences(pins, data)]
