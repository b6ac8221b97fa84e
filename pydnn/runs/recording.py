"""Recording a run: a new folder, or one to go on with, and one more function on the stream.

with create_run("runs/mine", job, data) as recording:
state, info = toolz.last(record(recording, run(job)))
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import attrs

from pydnn.builders import modules
from pydnn.checks import AnyPath, BadInput, expect_count, path_of
from pydnn.data import DataSet
from pydnn.fingerprints import checksum
from pydnn.numerics import TENANTS
from pydnn.recipes import Job, prepare, read_recipe, read_toml, watch_of
from pydnn.records import Batch
from pydnn.runs.environment import current_environment, environment_text, what_to_expect
from pydnn.runs.folder import (
    ENVIRONMENT,
    FUNCTIONS,
    LOCK,
    RECIPE,
    SEGMENTS,
    SET_ASIDE,
    Fault,
    Folder,
    end_text,
    expect_run_folder,
    free_name,
    read_folder,
    run_folder_of,
    sha256_of,
)
from pydnn.runs.pins import Pins, pins_of, pins_text, read_pins, write_sources
from pydnn.runs.recorded import Prepare, Run
from pydnn.runs.rows import rows_of
from pydnn.runs.segments import Segment, read_segment, segment_name, write_segment
from pydnn.storage import exclusive, make_folder, write_text
from pydnn.training import StepInfo, TrainState
from pydnn.training.streams import Stream, Watched, watched_in

__all__ = ["Recording", "create_run", "default_interval", "record", "resume_run"]

_SEGMENTS_OF_A_RUN = 20
_SECONDS = 60.0
_LEAST_SECONDS = 0.25  # of work that a kill may cost without anybody being the worse for it


@attrs.define(eq=False)
class Recording:
    """A run that this process, and no other, is writing.

    Attributes:
        path: Its folder.
        goal: Iterations that the training is to have.
        environment: SHA-256 of the text of this process's environment.
        head: The newest segment.
        set_aside: What was found unsound when the run was resumed, with the reason; its path is
            where it has been moved.
    """

    path: Path
    goal: int
    environment: str
    head: Segment
    set_aside: tuple[Fault, ...] = ()

    def write(self, state: TrainState, seen: list[tuple[StepInfo, int]]) -> None:
        """Write the segment of `state`, after the steps that were `seen` since the newest one."""
        self.head = write_segment(
            self.path / SEGMENTS,
            state,
            rows_of(seen, start=self.head.iteration),
            before=self.head.fingerprint,
            environment=self.environment,
            goal=self.goal,
        )

    def end(self, why: str) -> None:
        """Say that the training has ended in good order, and why, e.g. "finished"."""
        path = self.path / f"end-{self.head.iteration:010}.json"
        if not path.exists():
            write_text(path, end_text(self.head, why))


@contextlib.contextmanager
def create_run(path: AnyPath, job: Job, data: DataSet | Batch) -> Iterator[Recording]:
    """Make the folder of a new run, which holds the initial state from its first moment on.

    Args:
        path: The folder; there must be nothing of that name yet.
        job: From `prepare`, at its beginning. Where its step is another than that of its recipe,
            the run can only be opened with the function that made the job so.
        data: What the job was prepared with, for its fingerprint.

    Raises:
        BadInput: If there is something of that name, it cannot be written, or a function of the
            user's own cannot be found again.
    """
    path = path_of(path)
    if job.state.iteration != 0:
        raise BadInput(
            f"the job is at iteration {job.state.iteration}, expected its beginning: "
            "give what prepare made."
        )
    text, pins = _recipe_text(job, data)
    environment = environment_text(current_environment(TENANTS[job.recipe.numerics]))
    heads: list[Segment] = []

    def fill(folder: Path) -> None:
        write_text(folder / RECIPE, text)
        write_text(folder / ENVIRONMENT, environment)
        write_sources(pins, folder / FUNCTIONS)
        (folder / SEGMENTS).mkdir()
        first = write_segment(
            folder / SEGMENTS,
            job.state,
            rows_of([], start=0),
            before=sha256_of(text),
            environment=sha256_of(environment),
            goal=job.recipe.iterations,
        )
        heads.append(attrs.evolve(first, path=path / SEGMENTS / first.path.name))

    make_folder(path, fill)
    with exclusive(path / LOCK):
        yield Recording(path, job.recipe.iterations, sha256_of(environment), heads[0])


def _recipe_text(job: Job, data: DataSet | Batch) -> tuple[str, Pins]:
    """The text of the run's recipe, which can be read again, and what it met.

    Raises:
        BadInput: If it cannot, or `data` is not what the job was prepared with.
    """
    batch = data if isinstance(data, Batch) else data.train
    if batch is not job.batch and batch != job.batch:
        raise BadInput("data is not what the job was prepared with: give the very same.")
    rotated = job.data["train"].X if job.rotation is not None else None
    pins = pins_of(job.recipe, data, job.train_step.names, rotated=rotated)
    text = pins_text(job.recipe, pins)
    try:
        text.encode()
        allow = [name.partition(":")[0] for name in pins.functions]  # they made the job
        again = read_recipe(text, allow=allow), read_pins(read_toml(text))
        same = again == (job.recipe, pins)
    except (BadInput, UnicodeEncodeError) as error:
        raise BadInput(
            f"the recipe could not be read again ({error}): rename what it names."
        ) from error
    if not same:
        raise BadInput("the recipe would be read as another: give plain numbers and texts in it.")
    return text, pins


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
) -> Iterator[Resumed]:
    """Take a run up where its newest sound segment ends.

    What is unsound or was left half-written is moved to the folder `set-aside` of the run, and
    what was after it is computed again, to the same bits.

    Args:
        path: The folder of the run, or the model.h5 in it.
        iterations: Iterations of the whole training; by default what it was to have.
        data: Another name or place of its data, or the data itself.
        prepare: What made its job, see `Run.open`.
        anyway: Whether to go on where this machine, the data or functions of the user's own are
            not what they were, to other bits than those of a run that was never interrupted.
        allow: Names of the modules outside pydnn that may be imported, see `Run.open`.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If it is no run, another process writes it, no segment is sound, it has more
            iterations already, or it would not go on to the same bits.
    """
    path = run_folder_of(path)
    if iterations is not None:
        expect_count("iterations", iterations, hint="give those of the whole training")
    expect_run_folder(path)  # so that nothing is made where there is no run
    with exclusive(path / LOCK):
        folder = read_folder(path, anyway=anyway, allow=allow)
        if not folder.segments:
            raise BadInput(f"{folder.faults[0].message.rstrip('.')}; no sound segment is left.")
        run = Run(attrs.evolve(folder, faults=()), data, prepare, anyway, modules(allow))
        goal = run.goal if iterations is None else iterations
        if goal < run.iterations:
            raise BadInput(
                f"{path} has {run.iterations} iterations already, expected {goal} in all: "
                "give as many or more."
            )
        job = run.job
        job = attrs.evolve(
            job,
            recipe=attrs.evolve(job.recipe, iterations=goal),
            state=run.stored(run.segments[-1]),
        )
        here = current_environment(run.numerics)
        expected = what_to_expect(run.environments[-1], here)
        if expected and not anyway:
            raise BadInput(
                f"{expected}: resume it where it was recorded, or anyway, to other bits."
            )
        text = environment_text(here)
        digest = sha256_of(text)
        if digest not in folder.environments:
            write_text(path / f"environment-{digest[:12]}.json", text)
        recording = Recording(path, goal, digest, run.segments[-1], tuple(_set_aside(folder)))
        yield Resumed(recording, run, job, _watched(run))


def _set_aside(folder: Folder) -> Iterator[Fault]:
    """Move what is unsound or half-written out of the way, and say what was moved and why."""
    left = [Fault(path, f"{path} was left half-written.") for path in folder.left_behind]
    for fault in (*folder.faults, *left):
        if not fault.path.exists() and not fault.path.is_symlink():
            continue  # what is missing is its fault
        aside = folder.path / SET_ASIDE
        try:
            aside.mkdir(exist_ok=True)
            yield Fault(fault.path.rename(free_name(aside, fault.path.name)), fault.message)
        except OSError as error:
            raise BadInput(
                f"{fault.path} cannot be moved to {aside} ({error.strerror}): move it by hand."
            ) from error


def _watched(run: Run) -> Watched | None:
    """What early stopping has watched in the recorded steps; None if it watches nothing."""
    watch = watch_of(run.recipe)
    return watched_in(run.infos, watch=watch, state_at=run.state) if watch else None


def default_interval(iterations: int) -> int:
    """Steps from one segment to the next, such that a run has about 20."""
    return max(1, -(-iterations // _SEGMENTS_OF_A_RUN))


def record(
    run: Recording,
    stream: Stream,
    *,
    every: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[tuple[TrainState, StepInfo], None, None]:
    """Record every step of `stream` in `run`, and hand its pairs on.

    A segment is written after every so many steps, after a minute without one, and when the
    stream ends, in whatever way; by default not more than four a second. Put it last, after what
    may end the stream.

    Args:
        run: From `create_run` or `resume_run`.
        stream: Begins with the step after the newest segment of the run.
        every: Steps from one segment to the next; by default such that a run has about 20.
        clock: In seconds; where segments lie has no part in any bit of a state.

    Raises:
        BadInput: If a step is missing, its state holds a NaN, or a segment cannot be written. All
            segments before it stay.
    """
    interval = default_interval(run.goal) if every is None else every
    interval = expect_count("every", interval, hint="give the steps from one segment to the next")
    least = _LEAST_SECONDS if every is None else 0.0
    return _recorded(run, stream, interval, least, clock)


def _recorded(
    run: Recording, stream: Stream, interval: int, least: float, clock: Callable[[], float]
) -> Generator[tuple[TrainState, StepInfo], None, None]:
    seen: list[tuple[StepInfo, int]] = []
    latest: TrainState | None = None
    written = clock()
    try:
        for state, info in stream:
            expected = run.head.iteration + len(seen)
            _expect_same_training(run, state)
            _expect_step(info.iteration, expected)
            seen.append((info, checksum(state.parameters.vector)))
            latest = state
            since = clock() - written
            if (len(seen) >= interval and since >= least) or since >= _SECONDS:
                run.write(latest, seen)
                seen, written = [], clock()
            yield state, info
        if latest and seen:
            run.write(latest, seen)  # here, so that an interruption of it is made good below
    finally:
        # An interruption comes between any two instructions: when one more step was seen than
        # leads to `latest`, or when the segment of `latest` has its name, but is not yet the head.
        if latest and latest.iteration > run.head.iteration:
            path = run.path / SEGMENTS / segment_name(latest.iteration)
            if path.exists():
                run.head = read_segment(path)
            else:
                run.write(latest, seen[: latest.iteration - run.head.iteration])


def _expect_same_training(run: Recording, state: TrainState) -> None:
    if state.key != run.head.key:
        raise BadInput(
            f"a step of seed {state.key.seed} came, but {run.path} is a training of seed "
            f"{run.head.key.seed}: give the stream of the job that it was made for."
        )


def _expect_step(found: int, expected: int) -> None:
    if found != expected:
        raise BadInput(
            f"step {found} came where step {expected} was to be recorded: "
            "give the stream of the run's own job from there on, with no step left out."
        )
