"""Resuming a recorded run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import attrs

from pydnn.checks import AnyPath, BadInput, expect_count
from pydnn.data import DataSet
from pydnn.descriptions.builders import modules
from pydnn.jobs.job import Job, prepare, watch_of, watching
from pydnn.jobs.rebuilding import Prepare
from pydnn.records import Batch
from pydnn.runs.environment import current_environment, environment_text
from pydnn.runs.environment_changes import what_to_expect
from pydnn.runs.folder import LOCK, Folder, expect_run_folder, read_folder
from pydnn.runs.recording import MOST_BYTES, Recording, until_it_ends
from pydnn.runs.repair import Mended, mend, no_model
from pydnn.runs.run import Run
from pydnn.runs.segments import (
    Texts,
    sha256_of,
)
from pydnn.storage.files import exclusive, write_text
from pydnn.storage.run_files import run_folder_of
from pydnn.training.stopping import Watched, watched_in

__all__ = ["resume_run"]


@attrs.frozen(eq=False)
class Resumed:
    """A run to go on with: where it is recorded, its job from the head on, and what was seen.

    Attributes:
        recording: For `record`.
        run: What was recorded so far.
        job: The job, from the head's state to the goal.
        watched: What early stopping has watched so far, if the recipe wants it.
    """

    recording: Recording
    run: Run
    job: Job
    watched: Watched | None


@contextlib.contextmanager
def resume_run(
    path: AnyPath,
    *,
    iterations: int | None = None,
    data: DataSet | Batch | str | None = None,
    prepare: Prepare = prepare,
    anyway: bool = False,
    allow: Iterable[str] = (),
    most: int = MOST_BYTES,
) -> Iterator[Resumed]:
    """Take a run up where its newest sound segment ends.

    What is not sound or was left half-written is moved to the folder `set-aside` of the run, and
    restored from the other files. A segment that cannot be restored is computed again with all
    that came after it, to the same bits.

    Args:
        path: The folder of the run, or the model.h5 in it.
        iterations: Iterations of the whole training; by default what it was to have.
        data: Another name or place of its data, or the data itself.
        prepare: What made its job, see `Run.open`.
        anyway: Whether to go on where this machine, the data or functions of the user's own are
            not what they were, to other bits than those of a run that was never interrupted.
        allow: Names of the modules outside pydnn that may be imported, see `Run.open`.
        most: Bytes that the segments may have, see `create_run`.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If it is no run, another process writes it, no segment is sound, it has more
            iterations already, or it would not go on to the same bits.
    """
    path = run_folder_of(path)
    if iterations is not None:
        expect_count("iterations", iterations, hint="give those of the whole training")
    expect_run_folder(path)  # so that nothing is made where there is no run
    with exclusive(path / LOCK) as lock:
        folder = read_folder(path, anyway=anyway, allow=allow)
        if lost := folder.lost_all_segments:
            raise BadInput(f"{lost.message.rstrip('.')}; no sound segment is left.")

        def opened(folder: Folder) -> Run:
            return Run(folder, data, prepare, anyway, modules(allow))

        # As far as it reaches, whatever is missing between.
        whole = opened(folder.whole)
        goal = whole.goal if iterations is None else iterations
        if goal < whole.iterations:
            raise BadInput(
                f"{path} has {whole.iterations} iterations already, expected {goal} in all: "
                "give as many or more."
            )
        here = current_environment(whole.numerics)
        expected = what_to_expect(whole.environments[-1], here) if whole.segments else None
        if expected and not anyway:
            raise BadInput(
                f"{expected}: resume it where it was recorded, with the pydnn that recorded it, or "
                "anyway, to other bits."
            )
        text = environment_text(here)
        run, mended = opened(folder), Mended((), ())
        # The state first: what does not fit the recipe must not be prepared, at whatever cost.
        state = run.state(run.iterations) if run.segments else run.job.state
        job = run.job  # which refuses other data, before anything is moved
        if folder.problem is not None or folder.left_behind or no_model(path) is not None:
            mended = mend(run, text)
            run = opened(read_folder(path, anyway=anyway, allow=allow))
            if run.folder.problem is not None:  # an end of what was set aside
                again = mend(run, text)
                mended = Mended(mended.set_aside + again.set_aside, mended.restored)
                run = opened(read_folder(path, anyway=anyway, allow=allow))
            state, job = run.state(run.iterations), run.job
        job = attrs.evolve(job, recipe=attrs.evolve(job.recipe, iterations=goal), state=state)
        if sha256_of(text) not in run.folder.environments:
            write_text(path / f"environment-{sha256_of(text)[:12]}.json", text)
        watched = _watched(run)
        recording = Recording(
            path,
            goal,
            Texts(run.folder.text, text),
            run.segments[-1],
            job,
            run.data,
            lock,
            watched or watching(job),
            {run.iterations: run.costs},
            {segment.iteration: segment for segment in run.segments},
            [segment.iteration for segment in run.folder.holding],
            most,
            mended.set_aside,
            mended.restored,
            run.iterations,
            resumed=True,
        )
        with until_it_ends(recording):
            yield Resumed(recording, run, job, watched)


def _watched(run: Run) -> Watched | None:
    """What early stopping has watched in the recorded steps; None if it watches nothing."""
    watch = watch_of(run.recipe)
    return watched_in(run.infos, watch=watch, state_at=run.state) if watch else None
