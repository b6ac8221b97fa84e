"""`pydnn train`: train a recipe or the tutorial's network, record it and save the model."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import BadInput, NameTaken, path_of
from pydnn.cli.output import complain
from pydnn.cli.recipe_options import add_recipe_options, recipe_for_data, recipe_of
from pydnn.cli.run_options import Commands, add_mapped_option, option_group
from pydnn.cli.training import (
    add_output_options,
    add_recording_options,
    check_training_options,
    say_of,
    train_job,
)
from pydnn.cli.worker_options import add_worker_options, executor_of
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.runs import Recording, create_run
from pydnn.runs.csv_log import expect_new_log
from pydnn.storage.files import exclusive, is_free

if TYPE_CHECKING:
    from pydnn.workers import Executor

__all__ = ["add_to", "plain_folder"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network, record it and save it",
        description="Train the network of a recipe. Without a recipe, pydnn chooses one for a "
        "table or a text; for other data, it trains the tutorial's network, by default on cats "
        "that it draws. Options replace entries of the recipe.",
    )
    add_recipe_options(parser)
    add_mapped_option(parser)
    recorded = option_group(parser, "where it is recorded", "--run runs/first")
    option = recorded.add_argument
    option(
        "--run",
        type=path_of,
        metavar="DIR",
        dest="folder",
        help="the run's folder; it must not exist yet (default: the next runs/NNNN)",
    )
    option(
        "--record",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="record every step, so that the run can be resumed and replayed (default: yes)",
    )
    add_recording_options(recorded)
    add_worker_options(parser, example="digits.toml --shards 8 --executor processes")
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    check_training_options(args)
    with executor_of(args) as executor:  # first, so that workers start while the data is read
        return _trained(args, recipe, executor)


def _trained(args: argparse.Namespace, recipe: Recipe, executor: Executor | None) -> int:
    if args.folder is not None:
        _expect_free(args.folder, "--run")  # before the work
    if args.csv is not None:
        expect_new_log(args.csv)
    data = data_of(recipe, mapped=args.mapped)
    asked, recipe = recipe, recipe_for_data(args, recipe, data)
    job = prepare(recipe, data, executor=executor)
    for note in (*data.notes, *job.notes):
        complain(note)
    with _new_run(args, job, data) as (folder, recording):
        say_of(args)(*_opening(job, data))
        if recipe is not asked:
            lines = write_recipe(recipe).splitlines()
            say_of(args)("with this recipe, chosen for it:", *(f"    {line}" for line in lines))
        return train_job(args, job, data, folder, recording=recording, costs=np.zeros(0))


def _opening(job: Job, data: DataSet) -> list[str]:
    kind = "examples" if data.image_shape is None else "images"
    train, test = data.train.count, data.test.count or "none"
    lines = [f"training on {train} {kind} of {job.recipe.data}, to be tested on {test}"]
    if job.inputs.rotation is not None:
        lines.append(f"in {job.inputs.rotation} (--no-rotate: in those)")
    if job.start is not None:
        lines.append(f"starting from the weights of {job.recipe.start_from}")
        if any(source != parameter for source, _, parameter, _ in job.start.table):
            lines += [f"    {line}" for line in str(job.start).splitlines()]
    return lines


@contextlib.contextmanager
def _new_run(
    args: argparse.Namespace, job: Job, data: DataSet
) -> Iterator[tuple[Path, Recording | None]]:
    """The run's folder, and the recording in it unless --no-record forbids it."""
    with contextlib.ExitStack() as stack:
        while True:
            folder = _next_folder(Path("runs")) if args.folder is None else args.folder
            try:
                made = _recorded(args, folder, job, data) if args.record else plain_folder(folder)
                recording = stack.enter_context(made)
                break
            except NameTaken:
                # Another training may have taken this number since `_next_folder` saw it free.
                if args.folder is not None:
                    raise
        try:
            yield folder, recording
        except BadInput:
            if recording is not None and recording.head.iteration == 0:
                recording.expect_in_place()  # or this would remove another run
                shutil.rmtree(folder)  # nothing is lost: no step was taken
            raise


def _recorded(
    args: argparse.Namespace, folder: Path, job: Job, data: DataSet
) -> contextlib.AbstractContextManager[Recording]:
    # A killed command may have left the folder. If the command is still alive, this refuses.
    if folder.is_dir():
        with plain_folder(folder):
            pass
    return create_run(folder, job, data, most=int(args.run_size * 1e6))


@contextlib.contextmanager
def plain_folder(folder: Path, *, option: str = "--run") -> Iterator[None]:
    """Make the folder before the work, and remove it afterwards if it is still empty.

    An empty folder that a killed process left is used again; the folder of a living process is
    refused.

    Args:
        folder: The folder to make.
        option: The option of the command line that names the folder, for messages.

    Raises:
        BadInput: If something of that name exists, or the folder cannot be made.
    """
    try:
        _expect_free(folder, option)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made ({error.strerror}): give another {option}."
        ) from error
    lock, ours = folder / _WORKING, False
    try:
        with exclusive(lock):
            ours = True
            yield
    finally:
        if ours:
            with contextlib.suppress(OSError):  # rmdir refuses a folder that is not empty
                lock.unlink()
                folder.rmdir()


_WORKING = ".working"


def _expect_free(folder: Path, option: str) -> None:
    if not is_free(folder, besides=[_WORKING]):
        raise NameTaken(f"{folder} exists already, expected a new one: give another {option}.")


def _next_folder(parent: Path) -> Path:
    """The first of runs/0001, runs/0002, … that does not exist."""
    numbered = (parent / f"{number:04}" for number in itertools.count(1))
    return next(folder for folder in numbered if not folder.exists())
