"""`pydnn train`: a recipe's job, or the tutorial's, and every option of it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pydnn.checks import BadInput, NameTaken, path_of
from pydnn.cli.output import complain
from pydnn.cli.recipe_options import add_recipe_options, recipe_of
from pydnn.cli.run_options import Commands
from pydnn.cli.training import add_training_options, check_training_options, say_of, train_job
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.runs import Recording, create_run
from pydnn.runs.csv_log import expect_new_log
from pydnn.storage.files import exclusive, is_free

__all__ = ["add_to", "plain_folder"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network, record it and save it",
        description="Train the job of a recipe; without one the tutorial's network, on the cats "
        "that pydnn draws itself. Options go before what the recipe says.",
        epilog="example: pydnn train digits.toml --optimizer 'adam(learning_rate=0.001)'",
    )
    add_recipe_options(parser)
    option = parser.add_argument
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
        help="record every step, so that the run can be resumed and repeated",
    )
    add_training_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    check_training_options(args)
    if args.folder is not None:
        _expect_free(args.folder, "--run")  # before the work
    if args.csv is not None:
        expect_new_log(args.csv)
    data = data_of(recipe)
    job = prepare(recipe, data)
    for note in job.notes:
        complain(note)
    with _new_run(args, job, data) as (folder, recording):
        say_of(args)(*_opening(job, data))
        return train_job(args, job, data, folder, recording=recording, costs=np.zeros(0))


def _opening(job: Job, data: DataSet) -> list[str]:
    kind = "examples" if data.image_shape is None else "images"
    train, test = data.train.X.shape[1], data.test.X.shape[1] or "none"
    lines = [f"training on {train} {kind} of {job.recipe.data}, to be tested on {test}"]
    if job.inputs.rotation is not None:
        lines.append(f"in {job.inputs.rotation} (--no-rotate: in those)")
    return lines


@contextlib.contextmanager
def _new_run(
    args: argparse.Namespace, job: Job, data: DataSet
) -> Iterator[tuple[Path, Recording | None]]:
    """The run's folder, and the recording in it, if it is to be recorded."""
    with contextlib.ExitStack() as stack:
        while True:
            folder = _next_folder(Path("runs")) if args.folder is None else args.folder
            try:
                made = _recorded(args, folder, job, data) if args.record else plain_folder(folder)
                recording = stack.enter_context(made)
                break
            except NameTaken:
                # Another training may have taken the number since it was found to be free.
                if args.folder is not None:
                    raise
        try:
            yield folder, recording
        except BadInput:
            if recording is not None and recording.head.iteration == 0:
                recording.expect_in_place()  # or it would be another run that is removed
                shutil.rmtree(folder)  # no step of it was ever taken
            raise


def _recorded(
    args: argparse.Namespace, folder: Path, job: Job, data: DataSet
) -> contextlib.AbstractContextManager[Recording]:
    if folder.is_dir():  # what a killed command left; refused if a living one works for it
        with plain_folder(folder):
            pass
    return create_run(folder, job, data, most=int(args.run_size * 1e6))


@contextlib.contextmanager
def plain_folder(folder: Path, *, option: str = "--run") -> Iterator[None]:
    """Make the folder before the work, and remove it again if nothing came to be in it.

    A folder that a killed process left empty is taken over; one that a living process works for
    is not.

    Args:
        folder: The folder.
        option: The option of the command line that names it, for messages.

    Raises:
        BadInput: If there is something of that name, or the folder cannot be made.
    """
    try:
        _expect_free(folder, option)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made ({error.strerror}): give a {option} that can be written."
        ) from error
    lock, ours = folder / _WORKING, False
    try:
        with exclusive(lock):
            ours = True
            yield
    finally:
        if ours:
            with contextlib.suppress(OSError):  # that is how rmdir says that it holds something
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
