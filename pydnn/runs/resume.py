"""Resuming a recorded run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import attrs

from pydnn.checks import AnyPath, BadInput, expect_count
from pydnn.data import DataSet
from pydnn.descriptions.builders import modules
from pydnn.engines import engine_for
from pydnn.jobs.job import Job, prepare, watching
from pydnn.jobs.parts import watch_of
from pydnn.jobs.rebuilding import Prepare
from pydnn.numerics.blas_threads import blas_threads
from pydnn.records import Examples
from pydnn.runs.environment import Environment, environment_text
from pydnn.runs.environment_changes import what_to_expect
from pydnn.runs.folder import LOCK, Folder, expect_run_folder, read_folder
from pydnn.runs.live import remove_live
from pydnn.runs.provenance import data_files
from pydnn.runs.recording import MOST_BYTES, Recording, until_it_ends
from pydnn.runs.repair import Repaired, no_model, repair
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
    """A run that goes on: the recording, the run so far, and the job for the remaining steps.

    Attributes:
        recording: The recording, for `record`.
        run: The run as recorded so far.
        job: The job, from the newest state to the goal.
        watched: The record of early stopping so far; None if the recipe does not stop early.
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
    data: DataSet | Examples | str | None = None,
    prepare: Prepare = prepare,
    anyway: bool = False,
    allow: Iterable[str] = (),
    most: int = MOST_BYTES,
    environment: Environment | None = None,
    mapped: bool | None = None,
) -> Iterator[Resumed]:
    """Go on with a run after its newest intact segment, to the same bits as without a break.

    In the context, BLAS has as many threads as it had for the newest segment, since the bits of
    `fast` arithmetic depend on their number.

    Damaged and half-written files move to the folder `set-aside` of the run, and are restored from
    the other files. A segment that cannot be restored is computed again, with all after it.

    Args:
        path: The folder of the run, or the model.h5 in it.
        iterations: The number of steps of the whole training; by default as before.
        data: Another name or place of the data, or the data itself.
        prepare: The function that made the job; see `Run.open`.
        anyway: Whether to continue even if this machine, the data or the user's own functions have
            changed, so that the bits may differ from those of a run without a break.
        allow: The names of the modules outside pydnn that may be imported; see `Run.open`.
        most: The bytes that all segments may have; see `create_run`.
        environment: The environment of this process, if it is known; see `create_run`.
        mapped: Whether data that is loaded by name stays in its file; see `Run.open`.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If `path` is not a run, another process is writing it, no segment is intact, it
            already has more steps, or it would not go on to the same bits.

    Example:
        >>> points = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> recipe = nn.Recipe(
        ...     data="points", network="dense(1)", loss="mean_squared", optimizer="adam",
        ...     iterations=50,
        ... )
        >>> job = nn.jobs.prepare(recipe, points)
        >>> with nn.runs.create_run("line", job, points) as recording:
        ...     for state, info in nn.runs.record(recording, nn.jobs.run(job)):
        ...         pass
        >>> with nn.runs.resume_run("line", iterations=80, data=points) as resumed:
        ...     for state, info in nn.runs.record(resumed.recording, nn.jobs.run(resumed.job)):
        ...         pass
        >>> state.iteration
        80
    """
    path = run_folder_of(path)
    if iterations is not None:
        hint = "give the number of steps of the whole training"
        expect_count("iterations", iterations, hint=hint)
    expect_run_folder(path)  # before the lock makes a file there
    with exclusive(path / LOCK) as lock, contextlib.ExitStack() as until_the_end:
        folder = read_folder(path, anyway=anyway, allow=allow)
        if lost := folder.lost_all_segments:
            raise BadInput(f"{lost.message.rstrip('.')}; no intact segment is left.")

        def opened(folder: Folder) -> Run:
            return Run(folder, data, prepare, anyway, modules(allow), mapped)

        # With the segments after a gap, too: they say how far the training had come.
        whole = opened(folder.whole)
        goal = whole.goal if iterations is None else iterations
        if goal < whole.iterations:
            raise BadInput(
                f"{path} has {whole.iterations} iterations already, expected at most {goal}: "
                "ask for as many or more."
            )
        until_the_end.enter_context(whole.as_recorded())
        as_many = environment and environment.blas.get("threads") == str(blas_threads())
        here = environment if environment and as_many else whole.environment_here
        expected = what_to_expect(whole.environments[-1], here) if whole.segments else None
        if expected and not anyway:
            raise BadInput(
                f"{expected}: resume it where it was recorded, with the pydnn that recorded it, or "
                "with --anyway (anyway=True), which leads to other bits."
            )
        run, repaired = opened(folder), Repaired((), ())
        # The state first: it refuses a recipe that it does not fit, before the job takes memory.
        state = run.state(run.iterations) if run.segments else run.job.state
        job = run.job  # refuses other data before any file is moved
        engine = engine_for(job.work_of(goal - state.iteration))
        text = environment_text(attrs.evolve(here, engine=engine))
        if folder.problem is not None or folder.left_behind or no_model(path) is not None:
            repaired = repair(run, text)
            run = opened(read_folder(path, anyway=anyway, allow=allow))
            if run.folder.problem is not None:  # an end-….json of a segment that was set aside
                again = repair(run, text)
                repaired = Repaired(repaired.set_aside + again.set_aside, repaired.restored)
                run = opened(read_folder(path, anyway=anyway, allow=allow))
            state, job = run.state(run.iterations), run.job
        job = attrs.evolve(job, recipe=attrs.evolve(job.recipe, iterations=goal), state=state)
        if sha256_of(text) not in run.folder.environments:
            write_text(path / f"environment-{sha256_of(text)[:12]}.json", text)
        remove_live(path)  # of steps that no segment holds, so they will be taken again
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
            repaired.set_aside,
            repaired.restored,
            run.iterations,
            resumed=True,
            files=data_files(run.folder.pins, run.data),
        )
        with until_it_ends(recording):
            yield Resumed(recording, run, job, watched)


def _watched(run: Run) -> Watched | None:
    """The record of early stopping after the recorded steps; None if the recipe has none."""
    watch = watch_of(run.recipe)
    return watched_in(run.infos, watch=watch, state_at=run.state) if watch else None
