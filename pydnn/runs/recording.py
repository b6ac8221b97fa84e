"""Recording a run: a new or an existing folder, and one more function on the stream of steps.

with create_run("runs/mine", job, data) as recording:
    state, info = toolz.last(record(recording, run(job)))
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, expect_count, path_of
from pydnn.data import DataSet
from pydnn.engines import engine_for
from pydnn.fingerprints import checksum
from pydnn.jobs.expectations import expect_test
from pydnn.jobs.job import Job, watching
from pydnn.jobs.model import model_of
from pydnn.jobs.parts import out_of_patience
from pydnn.jobs.training import expect_same_data
from pydnn.recipes.toml import read_recipe, read_toml
from pydnn.records import Examples, FloatArray
from pydnn.runs.data_files import DataFiles
from pydnn.runs.environment import Environment, current_environment, environment_text
from pydnn.runs.folder import (
    ENVIRONMENT,
    FUNCTIONS,
    LOCK,
    SEGMENTS,
    START,
    Fault,
    before_changes,
    end_text,
)
from pydnn.runs.history import Rows, joined, rows_of
from pydnn.runs.live import LiveWriter
from pydnn.runs.provenance import Pins, data_files, pins_of, pins_text, read_pins, write_sources
from pydnn.runs.pruning import thinned
from pydnn.runs.segments import (
    Segment,
    Texts,
    drop_state,
    following,
    read_segment,
    segment_name,
    sha256_of,
    write_segment,
)
from pydnn.runs.state_arrays import arrays_of
from pydnn.storage.files import exclusive, make_folder, write_atomically, write_text
from pydnn.storage.run_files import MODEL_FILE, RECIPE
from pydnn.training import NotFinite, StepInfo, TrainState
from pydnn.training.stopping import Watched, why_ended
from pydnn.training.streams import Log, Stream, logged

__all__ = [
    "MOST_BYTES",
    "Recording",
    "RunMoved",
    "create_run",
    "default_interval",
    "record",
]

_SEGMENTS_OF_A_RUN = 20
_SECONDS = 60.0
_LEAST_SECONDS = 0.25  # between two segments; losing less work than that hurts nobody
_SHARE = 0.02  # of the time may go into segments; the checksums of the steps take about as much
_BYTES_A_SECOND = 2e8  # the assumed speed of writing, until the first segment is timed
MOST_BYTES = 100_000_000  # of all segments together, by default


class RunMoved(BadInput):
    """The error of a run whose folder was renamed or removed during the training."""


@attrs.define(eq=False)
class Recording:
    """A run that this process is writing; a lock keeps other processes out.

    Attributes:
        path: The folder of the run.
        goal: The number of steps that the training is meant to have.
        texts: The texts of the recipe and of this process's environment.
        head: The newest segment.
        job: The job that is trained.
        data: The data that the job is trained on.
        lock: The open file of the run's lock.
        watched: The record of early stopping so far, which holds the state to keep.
        costs: The costs of the steps of each segment, by the segment's iteration.
        segments: All segments, by iteration.
        held: The iterations of the stored states.
        most: The bytes that all segments may have; states are dropped if they would have more.
        set_aside: The damaged files that `resume_run` moved away: their new paths, and the reasons.
        restored: The files that `resume_run` wrote again.
        began: The iteration at which this process began.
        resumed: Whether the run existed before this process.
        ended: Whether the end of the training is recorded.
        stream: The stream that `record` returned; it writes the last segment when it is closed.
        files: The files that the data stays in; a segment is refused if one has changed since the
            training began.
    """

    path: Path
    goal: int
    texts: Texts
    head: Segment
    job: Job
    data: DataSet | Examples
    lock: BinaryIO
    watched: Watched
    costs: dict[int, FloatArray]
    segments: dict[int, Segment]
    held: list[int]
    most: int = MOST_BYTES
    set_aside: tuple[Fault, ...] = ()
    restored: tuple[Path, ...] = ()
    began: int = 0
    resumed: bool = False
    ended: bool = False
    stream: Generator[tuple[TrainState, StepInfo], None, None] | None = None
    files: DataFiles | None = None

    def __attrs_post_init__(self) -> None:
        if self.files is not None:
            self.job.files.leave_to(self.files)

    @property
    def complete(self) -> bool:
        """Whether this process has taken at least one step, and all its steps are in segments."""
        last = self.watched.last
        return self.began < self.head.iteration == (last and last.iteration)

    def write(self, state: TrainState, seen: list[tuple[StepInfo, int]]) -> None:
        """Write the next segment, and drop earlier states if the segments exceed `most` bytes.

        Args:
            state: The state at the end of the segment.
            seen: The info of each step since the newest segment, and the checksum of the
                parameters after it.

        Raises:
            RunMoved: If the folder is no longer the one that this process has locked.
            BadInput: If the segment cannot be written, or a file of the data has changed.
        """
        self.expect_in_place()
        if self.files is not None:
            self.files.expect_unchanged()
        # A library may have changed the processor's rounding mode since `prepare` checked it.
        self.job.numerics.expect_sound()
        rows = rows_of(seen, start=self.head.iteration)
        segment = following(
            self.path / SEGMENTS,
            state,
            rows,
            before=self.head.fingerprint,
            texts=self.texts,
            goal=self.goal,
        )
        self.take(write_segment(segment, state, rows, self.texts), rows)

    def take(self, segment: Segment, rows: Rows) -> None:
        """Make a written segment the newest one. Doing it twice does no harm."""
        iteration = segment.iteration
        self.segments[iteration], self.costs[iteration] = segment, rows.always["cost"]
        self.held = sorted({*self.held, iteration})
        self.head = segment
        self.held = thinned(
            self.held,
            lambda: sum(one.path.stat().st_size for one in self.segments.values()),
            lambda iteration: drop_state(self.segments[iteration]),
            most=self.most,
            staying=before_changes(self.segments.values()),
        )

    def is_in_place(self) -> bool:
        """Whether the folder of this name is still the one that this process has locked."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.lock.fileno()), (self.path / LOCK).lstat())
        return False

    def expect_in_place(self) -> None:
        """Refuse to write if another folder may have taken the name of this run.

        Raises:
            RunMoved: If the folder is no longer the one that this process has locked.
        """
        if self.is_in_place():
            return
        self.ended = True
        raise RunMoved(
            f"{self.path} was renamed or removed during the training, so nothing more is written "
            "there: resume the run where its folder is now."
        )

    def end(self, why: str, *, state: TrainState | None = None) -> Path:
        """Record that the training has ended, save the model, and return the model's file.

        Args:
            why: The reason, e.g. "finished".
            state: The state for the model; by default the one that early stopping keeps, or the
                last one.

        Raises:
            RunMoved: If the folder is no longer the one that this process has locked.
            BadInput: If a file cannot be written.
        """
        self.expect_in_place()
        path = self.path / f"end-{self.head.iteration:010}.json"
        if not path.exists():
            write_text(path, end_text(self.head, why))
        costs = [self.costs[iteration] for iteration in sorted(self.costs)]
        return self.save(state, np.concatenate(costs))

    def save(self, state: TrainState | None, costs: FloatArray) -> Path:
        """Save the model of a state, and return its file; see `end`.

        Args:
            state: The state; None for the one that early stopping keeps.
            costs: The costs of all steps, (iterations,).
        """
        self.expect_in_place()
        self.ended = True
        kept = state or self.watched.kept or self.job.state
        path = self.path / MODEL_FILE
        model_of(self.job, kept, costs, self.data).save(path, replace=True)
        return path


@contextlib.contextmanager
def until_it_ends(recording: Recording) -> Iterator[Recording]:
    """Record the end of a training when the context ends, unless it is recorded already."""
    try:
        try:
            yield recording
        finally:
            # The caller may still hold the stream, e.g. after `next`, with steps not yet written.
            if recording.stream is not None:
                recording.stream.close()
    except (NotFinite, KeyboardInterrupt) as error:
        if not recording.ended and recording.complete:
            with contextlib.suppress(BadInput):  # raise the first error, not this one
                why = "not finite" if isinstance(error, NotFinite) else "interrupted"
                recording.end(why)
        raise
    if not recording.ended and recording.complete:
        finished = recording.head.iteration >= recording.goal
        stopped = out_of_patience(recording.job.recipe, recording.watched)
        recording.end(why_ended(finished=finished, out_of_patience=stopped))


@contextlib.contextmanager
def create_run(
    path: AnyPath,
    job: Job,
    data: DataSet | Examples,
    *,
    most: int = MOST_BYTES,
    environment: Environment | None = None,
) -> Iterator[Recording]:
    """Make the folder of a new run, with the first segment in it.

    When the context ends, the end of the training is recorded and the model is saved, unless an
    error has ended the training.

    Args:
        path: The folder. Nothing of that name may exist, except an empty folder.
        job: The job from `prepare`, before its first step. If its step differs from the step of
            its recipe, `Run.open` needs the function that made the job.
        data: The data that the job was prepared with, for its fingerprint.
        most: The bytes that all segments may have. If their states need more, some are dropped,
            and computed again when they are needed. Then the first state, which follows from the
            recipe, is not stored at all.
        environment: The environment of this process, if it is known; by default it is measured,
            which takes about a tenth of a second.

    Raises:
        BadInput: If something of that name exists, the folder cannot be written, the source of one
            of the user's own functions cannot be found, or the test part of the data does not fit.

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
        >>> nn.Run.open("line", data=points)
        Run('line': 50 of 50 steps)
    """
    path = path_of(path)
    if job.state.iteration != 0:
        raise BadInput(
            f"the job is at iteration {job.state.iteration}, expected 0: give the job that "
            "prepare returned."
        )
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
    text, pins = _recipe_text(job, data)
    here = environment or current_environment(job.numerics, one_thread=job.recipe.one_thread)
    here = attrs.evolve(here, engine=engine_for(job.work))
    texts = Texts(text, environment_text(here))
    rows = rows_of([], start=0)
    goal = job.recipe.iterations
    first = following(
        path / SEGMENTS, job.state, rows, before=sha256_of(text), texts=texts, goal=goal
    )

    def fill(folder: Path) -> None:
        write_text(folder / RECIPE, texts.recipe)
        write_text(folder / ENVIRONMENT, texts.environment)
        write_sources(pins, folder / FUNCTIONS)
        if job.start is not None:
            from pydnn.interop.safetensors import safetensors_bytes  # few runs have them

            content = safetensors_bytes(job.start.arrays, about="")
            write_atomically(folder / START, lambda temporary: temporary.write_bytes(content))
        (folder / SEGMENTS).mkdir()
        here = attrs.evolve(first, path=folder / SEGMENTS / first.path.name)
        write_segment(here, job.state, rows, texts, stored=stored)

    stored = (_SEGMENTS_OF_A_RUN + 1) * _bytes_of(job.state) <= most
    make_folder(path, fill)
    with exclusive(path / LOCK) as lock:
        recording = Recording(
            path,
            goal,
            texts,
            first,
            job,
            data,
            lock,
            watching(job),
            {0: rows.always["cost"]},
            {0: first},
            [0] if stored else [],
            most,
            files=data_files(pins, data),
        )
        with until_it_ends(recording):
            yield recording


def _bytes_of(state: TrainState) -> int:
    return sum(array.nbytes for array in arrays_of(state).values())


def _recipe_text(job: Job, data: DataSet | Examples) -> tuple[str, Pins]:
    """The text of the run's recipe.toml, checked by reading it again, and the provenance.

    Raises:
        BadInput: If it cannot be read again, or `data` is not what the job was prepared with.
    """
    expect_same_data(job, data)
    train = job.data["train"]
    rotated = train.in_memory().X if job.inputs.rotation is not None else None
    columns = job.inputs.columns
    encoded = 0 if columns is None else len(columns.features)
    start = None if job.start is None else job.start.arrays
    pins = pins_of(
        job.recipe, data, job.train_step.titles, rotated=rotated, encoded=encoded, start=start
    )
    text = pins_text(job.recipe, pins)
    try:
        text.encode()
        allow = [name.partition(":")[0] for name in pins.functions]  # the job uses them already
        again = read_recipe(text, allow=allow), read_pins(read_toml(text))
        same = again == (job.recipe, pins)
    except (BadInput, UnicodeEncodeError) as error:
        raise BadInput(
            f"the recipe cannot be read again ({error}): rename the data or the parts that it "
            "names."
        ) from error
    if not same:
        raise BadInput(
            "the recipe would be read as another one, expected plain numbers and texts: use those."
        )
    return text, pins


def default_interval(iterations: int) -> int:
    """The number of steps from one segment to the next that makes about 20 segments.

    >>> default_interval(2500)
    125
    """
    return max(1, -(-iterations // _SEGMENTS_OF_A_RUN))


def record(
    run: Recording,
    stream: Stream,
    *,
    every: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    tensorboard: AnyPath | None = None,
    csv: AnyPath | None = None,
) -> Generator[tuple[TrainState, StepInfo], None, None]:
    """Record every step of `stream` in `run`, and hand the pairs on.

    A few times a second, rows are published for readers in other processes; see `runs.live`. A
    segment is written after every `every` steps, after a minute without one, and when the stream
    ends, in whatever way. By default there are about 20 segments, or fewer, so that writing takes
    at most 2 % of the time and happens at most four times a second. Put this function last, after
    the ones that may end the stream.

    Args:
        run: The recording, from `create_run` or `resume_run`.
        stream: The pairs of state and info, from the step after the run's newest segment on.
        every: The number of steps from one segment to the next, however long writing takes; by
            default such that a run has about 20 segments or fewer.
        clock: A function that returns the time in seconds. It decides where segments end, but
            affects no bit of any state.
        tensorboard: A folder, e.g. "logs": the numbers of every step are written to event files
            in a folder inside it with the name of the run, for `tensorboard --logdir logs`.
        csv: A file for the numbers of every step; see `csv_log`.

    The logs of a resumed run hold each step once: first the recorded steps, then the new ones. A
    step that was logged but not recorded is taken and logged again.

    Raises:
        BadInput: If a step is missing, its state holds a NaN, a segment cannot be written, or the
            log of another training is in the way. All earlier segments stay.
    """
    interval = default_interval(run.goal) if every is None else every
    interval = expect_count("every", interval, hint="give the steps from one segment to the next")
    logs = _logs(run, tensorboard, csv)
    stream = _recorded(run, stream, interval, every is None, clock)
    for log in logs:
        stream = logged(stream, log)
    run.stream = stream
    return stream


def _logs(run: Recording, tensorboard: AnyPath | None, csv: AnyPath | None) -> list[Log]:
    """The logs, which begin with the steps that are recorded already."""
    if tensorboard is None and csv is None:
        return []
    from pydnn.runs.logs import logs_of  # here, because most trainings do not need it

    parts = [run.segments[iteration].rows() for iteration in sorted(run.segments)]
    return logs_of(
        tensorboard,
        csv,
        name=run.path.resolve().name,
        owner=sha256_of(run.texts.recipe)[:12],
        before=list(joined(parts).infos()),
        resumed=run.resumed,
    )


def _recorded(
    run: Recording, stream: Stream, interval: int, limited: bool, clock: Callable[[], float]
) -> Generator[tuple[TrainState, StepInfo], None, None]:
    taken: list[tuple[StepInfo, int]] = []
    begun = written = clock()
    spent, cost = 0.0, _bytes_of(run.job.state) / _BYTES_A_SECOND
    live = LiveWriter(run.path, now=begun, in_place=run.is_in_place)
    try:
        for state, info in stream:
            expected = run.head.iteration + len(taken)
            _expect_same_training(run, state)
            _expect_step(info.iteration, expected)
            taken.append((info, checksum(state.parameters.vector)))
            run.watched = run.watched.after(state, info)
            now = clock()
            due = len(taken) >= interval or now - written >= _SECONDS
            if due and limited:
                # Twice the cost: for this segment, and for the last one, which is always written.
                affordable = spent + 2 * cost <= _SHARE * (now - begun)
                due = affordable and now - written >= _LEAST_SECONDS
            if due:
                run.write(state, taken)
                live.segment_written()
                taken, written = [], clock()
                cost = written - now
                spent += cost
            elif now >= live.due:
                live.publish(taken, after=run.head.iteration, now=now)
            yield state, info
        if taken:
            run.write(state, taken)  # inside the try, so that an interruption is handled below
    finally:
        live.close()
        # An interruption can come between any two instructions. Then `taken` may hold one step more
        # than `watched`, or a segment may be written that is not yet the head. `watched` holds both
        # the last state and the state to keep, so one assignment changes them together.
        last = run.watched.last
        if last and last.iteration > run.head.iteration:
            run.expect_in_place()
            path = run.path / SEGMENTS / segment_name(last.iteration)
            if path.exists():
                segment = read_segment(path)
                run.take(segment, segment.rows())
            else:
                run.write(last, taken[: last.iteration - run.head.iteration])
        if last and last.iteration == run.head.iteration:
            live.segment_written()


def _expect_same_training(run: Recording, state: TrainState) -> None:
    if state.key != run.head.key:
        raise BadInput(
            f"the stream has seed {state.key.seed}, but {run.path} has seed {run.head.key.seed}: "
            "give the stream of the job that the run was made for."
        )


def _expect_step(step: int, expected: int) -> None:
    if step != expected:
        raise BadInput(
            f"the stream is at step {step}, expected step {expected}: give the stream of the run's "
            "own job from there on, without leaving out a step."
        )
