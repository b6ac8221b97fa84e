"""The folder of a recorded sweep: a recorded run for each training, and what all have in common.

    sweep.toml                     the recipe and the fingerprints of the data, the same for all
    lock                           held by the process that carries out the sweep
    planned.jsonl                  the trainings that the sweep plans, see `planned`
    seed-1-0123456789ab/           the run of one training, see `pydnn.runs`
    seed-1-0123456789ab/outcome.json    its scores, once it is finished

The process that trains also records, so an interrupted training goes on after its last segment. The
name of a run follows from its recipe. So a sweep that is started again recognizes its own runs, and
a sweep with more seeds or values adds to them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from pydnn.checks import AnyPath, BadInput, path_of, shown
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.model import model_in
from pydnn.jobs.training import Trained, train
from pydnn.numerics import ARITHMETICS
from pydnn.numerics.blas_threads import blas_threads
from pydnn.recipes.recipe import Recipe, with_seed
from pydnn.recipes.toml import RECORDED, read_toml, write_recipe
from pydnn.records import Examples
from pydnn.runs.environment import Environment, current_environment
from pydnn.runs.folder import LOCK
from pydnn.runs.provenance import (
    data_differences,
    function_differences,
    pins_of,
    pins_text,
    read_pins,
)
from pydnn.runs.recording import Recording, create_run, record
from pydnn.runs.resume import resume_run
from pydnn.storage.files import (
    RESTORE,
    exclusive,
    is_free,
    make_folder,
    open_regular,
    read_small_text,
    write_atomically,
    write_text,
)
from pydnn.storage.run_files import MODEL_FILE
from pydnn.sweeps.chunks import part_of
from pydnn.sweeps.planned import write_planned
from pydnn.sweeps.plans import Variation
from pydnn.sweeps.results import Outcome
from pydnn.sweeps.training import OnProgress
from pydnn.training import NotFinite, tee
from pydnn.training.stopping import Watched
from pydnn.training.streams import Stream

__all__ = [
    "OUTCOME",
    "SWEEP_FILE",
    "Recorder",
    "SweepFolder",
    "expect_distinct",
    "folder_of",
    "open_sweep",
    "read_outcome",
]

SWEEP_FILE, OUTCOME = "sweep.toml", "outcome.json"


def folder_of(recipe: Recipe) -> str:
    """The name of the run of one training in the folder of its sweep."""
    digits = _sha256(write_recipe(recipe))[:12]
    fold = "-fold-{}-of-{}".format(*recipe.fold) if recipe.fold else ""
    return f"seed-{recipe.seed}{fold}-{digits}"


def expect_distinct(runs: Iterable[Variation]) -> None:
    """Refuse trainings of one recipe, which two workers would record in one folder.

    Raises:
        BadInput: If two have the same recipe.
    """
    known: dict[str, Variation] = {}
    for run in runs:
        other = known.setdefault(folder_of(run.recipe), run)
        if other is not run:
            raise BadInput(
                f"two trainings have the same recipe, one with {dict(other.setting)} and one with "
                f"{dict(run.setting)}, expected different ones to record: leave one of them out."
            )


@attrs.frozen
class SweepFolder:
    """The folder of a recorded sweep, as the sweep or a worker sees it.

    Attributes:
        path: The folder.
        digest: The SHA-256 of the text that all its runs have in common.
    """

    path: Path
    digest: str

    def run_of(self, recipe: Recipe) -> Path:
        """The folder of the run of one training."""
        return self.path / folder_of(recipe)

    def plan(self, recipes: Iterable[Recipe]) -> None:
        """Write down the trainings that the sweep plans, for readers.

        Raises:
            BadInput: If that cannot be written.
        """
        write_planned(self.path, {folder_of(recipe): write_recipe(recipe) for recipe in recipes})

    def expect_here(self) -> None:
        """Check that a worker sees the same folder as the sweep.

        Raises:
            BadInput: If it does not.
        """
        with contextlib.suppress(BadInput):
            if _sha256(read_small_text(self.path / SWEEP_FILE, links=False)) == self.digest:
                return
        raise BadInput(
            f"a worker does not see the folder of the sweep at {self.path}, expected the same "
            "folder everywhere: record in a folder that all workers share."
        )

    def finished(self, recipe: Recipe, allow: Iterable[str]) -> Outcome | None:
        """The outcome of a training that is finished, without its setting; None if it is not."""
        try:
            return read_outcome(self.run_of(recipe), recipe, allow)
        except BadInput:  # whatever is missing or damaged, training goes on from there
            return None


@attrs.frozen
class Recorder:
    """Trains recipes on the data of a sweep, and records them in its folder.

    Attributes:
        folder: The folder of the sweep.
        data: The data.
        allow: The names of the user's own modules that the recipes name.
    """

    folder: SweepFolder
    data: DataSet | Examples
    allow: tuple[str, ...] = ()

    def train(self, recipe: Recipe, on_progress: OnProgress) -> Trained:
        """Train a recipe and record it, or go on with its run.

        Raises:
            BadInput: If another process is writing the run, or it cannot be read or written.
        """
        path = self.folder.run_of(recipe)
        if is_free(path):
            job = prepare(recipe, part_of(self.data))
            here = _environment(recipe.numerics, blas_threads(), recipe.one_thread)
            with create_run(path, job, self.data, environment=here) as recording:
                return self._trained(job, recording, on_progress)
        resuming = resume_run(
            path,
            data=self.data,
            allow=self.allow,
            environment=_environment(recipe.numerics, blas_threads(), recipe.one_thread),
        )
        with resuming as resumed:
            if not _is_same(resumed.run.recipe, recipe):
                raise BadInput(f"{path} is the run of another recipe: move it elsewhere.")
            costs = resumed.run.costs.tolist()
            on_progress(len(costs))
            return self._trained(
                resumed.job, resumed.recording, on_progress, costs, resumed.watched
            )

    def _trained(
        self,
        job: Job,
        recording: Recording,
        on_progress: OnProgress,
        costs: Sequence[float] = (),
        watched: Watched | None = None,
    ) -> Trained:
        def through(stream: Stream) -> Stream:
            return record(recording, tee(stream, to=lambda state, info: on_progress(1)))

        trained = train(job, through=through, costs=costs, watched=watched, ending=(NotFinite,))
        recording.end(trained.why, state=trained.state)
        on_progress(job.recipe.iterations - len(trained.costs))
        return trained

    def keep(self, recipe: Recipe, outcome: Outcome) -> None:
        """Write the outcome of a training into the folder of its run, beside its model."""
        path = self.folder.run_of(recipe)
        text = _outcome_text(
            {
                "model": _seal_of(_read_model(path)),
                "scores": dict(outcome.scores),
                "stopped": outcome.stopped,
                "why_not_stacked": outcome.why_not_stacked,
            }
        )
        write_atomically(path / OUTCOME, lambda file: file.write_bytes(text.encode()), replace=True)


@contextlib.contextmanager
def open_sweep(path: AnyPath, recipe: Recipe, data: DataSet | Examples) -> Iterator[SweepFolder]:
    """Open the folder of a sweep for recording, or make it; a lock keeps other processes out.

    Args:
        path: The folder.
        recipe: The recipe that all trainings have in common.
        data: The data of all trainings.

    Raises:
        BadInput: If the folder is not that of a sweep of this recipe on this data, another process
            writes there, or it cannot be made.
    """
    path = path_of(path)
    text = pins_text(with_seed(recipe, 1), pins_of(recipe, data, ()))
    if is_free(path):
        make_folder(path, lambda folder: write_text(folder / SWEEP_FILE, text))
    elif not (path / SWEEP_FILE).is_file():
        raise BadInput(
            f"{path} exists and has no {SWEEP_FILE}, expected a new folder or that of a sweep: "
            "give another one for the runs."
        )
    with exclusive(path / LOCK):
        there = read_small_text(path / SWEEP_FILE, links=False)
        _expect_same_sweep(path, there, text, data)
        for left in path.glob(".*.part"):  # left by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        yield SweepFolder(path.absolute(), _sha256(there))


def _expect_same_sweep(path: Path, there: str, here: str, data: DataSet | Examples) -> None:
    theirs, ours = read_toml(there), read_toml(here)
    # Each run has its own seed and fold, so a sweep may get more of them.
    for key in sorted({*theirs, *ours}.difference({"seed", "fold", "validation", RECORDED})):
        if theirs.get(key) != ours.get(key):
            raise BadInput(
                f"{path} holds a sweep of another recipe ({key} is {_short(theirs, key)} there and "
                f"{_short(ours, key)} here): give another folder."
            )
    try:
        pins = read_pins(theirs)
    except BadInput as error:
        raise BadInput(f"{path / SWEEP_FILE}: {error}") from error
    if different := data_differences(pins, data):
        raise BadInput(f"{path} holds a sweep on other data ({different[0]}): give another folder.")
    if changed := function_differences(pins):
        raise BadInput(f"{changed[0]}: restore it, or give another folder than {path}.")


def _short(plain: Mapping[str, object], key: str) -> str:
    return shown(plain[key]) if key in plain else "the default"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _environment(numerics: str, threads: int | None, one_thread: bool) -> Environment:
    """The environment of this process, which may train many recipes with as many BLAS threads."""
    return current_environment(ARITHMETICS[numerics], one_thread=one_thread)


# Outcomes


def _outcome_text(plain: Mapping[str, object]) -> str:
    return json.dumps({**plain, "sha256": _sha256(json.dumps(plain))}) + "\n"


def read_outcome(path: Path, recipe: Recipe, allow: Iterable[str]) -> Outcome:
    """The outcome of the training of a recipe in the folder of its run, without its setting.

    Raises:
        BadInput: If it is missing or damaged, or is not that of the model beside it.
    """
    file = path / OUTCOME
    text = read_small_text(file, links=False)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged ({error}): {RESTORE}.") from error
    match plain:
        case {
            "model": str(seal),
            "scores": dict(scores),
            "stopped": str(stopped),
            "why_not_stacked": str(why_not),
            "sha256": _,
        } if all(type(score) is float for score in scores.values()):
            del plain["sha256"]
            content = _read_model(path)
            if text == _outcome_text(plain) and _seal_of(content) == seal:
                model = model_in(content, where=str(path / MODEL_FILE), allow=allow)
                if _is_same(model.recipe, recipe):
                    return Outcome(model, {}, scores, stopped, why_not)
    raise BadInput(f"{file} is not the outcome of the model beside it: {RESTORE}.")


def _read_model(path: Path) -> bytes:
    with open_regular(path / MODEL_FILE, what="a model", links=False) as file:
        return file.read()


def _seal_of(content: bytes) -> str:
    """The digest at the beginning of a model's file, see `storage.checksums`."""
    return content[:64].decode("ascii", "replace")


def _is_same(recorded: Recipe, recipe: Recipe) -> bool:
    """Whether a recorded recipe is that of a training, whose classes may still have names."""
    return attrs.evolve(recorded, class_weights=recipe.class_weights) == recipe
