"""Recording a run: a new folder, or one to go on with, and one more function on the stream.

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
from pydnn.fingerprints import checksum
from pydnn.jobs.job import Job, expect_test, watching
from pydnn.jobs.model import model_of
from pydnn.jobs.training import expect_same_data
from pydnn.recipes.toml import read_recipe, read_toml
from pydnn.records import Batch, FloatArray
from pydnn.runs.environment import current_environment, environment_text
from pydnn.runs.folder import (
    ENVIRONMENT,
    FUNCTIONS,
    LOCK,
    SEGMENTS,
    Fault,
    before_changes,
    end_text,
)
from pydnn.runs.history import Rows, joined, rows_of
from pydnn.runs.provenance import Pins, pins_of, pins_text, read_pins, write_sources
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
from pydnn.storage.files import exclusive, make_folder, write_text
from pydnn.storage.run_files import MODEL_FILE, RECIPE
from pydnn.training import NotFinite, StepInfo, TrainState
from pydnn.training.stopping import Watched
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
_LEAST_SECONDS = 0.25  # of work that a kill may cost without anybody being the worse for it
_SHARE = 0.02  # of the time for writing segments; the checksums of the steps take about as much
_BYTES_A_SECOND = 2e8  # what writing is expected to take, before the first segment was timed
MOST_BYTES = 100_000_000  # of all segments, by default


class RunMoved(BadInput):
    """The folder of a run got another name, or was removed, while the run was being trained."""


@attrs.define(eq=False)
class Recording:
    """A run that this process, and no other, is writing.

    Attributes:
        path: Its folder.
        goal: Iterations that the training is to have.
        texts: Those of its recipe and of this process's environment.
        head: The newest segment.
        job: What is trained.
        data: What it is trained on.
        lock: The open file of the run's lock.
        watched: What early stopping has watched so far, and with it the state to keep.
        costs: The costs of the steps of each segment, by its iteration.
        segments: All segments, by iteration.
        held: The iterations whose states are stored.
        most: Bytes that the segments may have; states are dropped where they would have more.
        set_aside: What was not sound when the run was resumed, with the reason; its path is
            where it has been moved.
        restored: The files that were written again then.
        began: The iteration at which this process began.
        resumed: Whether the run is one that is gone on with.
        ended: Whether the end of the training was recorded.
        stream: What `record` returned, which writes the last segment when it is closed.
    """

    path: Path
    goal: int
    texts: Texts
    head: Segment
    job: Job
    data: DataSet | Batch
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

    @property
    def complete(self) -> bool:
        """Whether every step that was taken is in a segment, at least one of this process's."""
        last = self.watched.last
        return self.began < self.head.iteration == (last and last.iteration)

    def write(self, state: TrainState, seen: list[tuple[StepInfo, int]]) -> None:
        """Write the segment of `state`, after the steps that were `seen` since the newest one.

        States before it are dropped if the segments would have more than `most` bytes.

        Raises:
            RunMoved: If the folder is not the one that this process has locked.
            BadInput: If it cannot be written.
        """
        self.expect_in_place()
        # A library may have changed the processor's state since `prepare`.
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
        """Take a segment that was written as the newest one; taking it twice does no harm."""
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

    def expect_in_place(self) -> None:
        """Refuse to write where another run may have taken the name of this one.

        Raises:
            RunMoved: If the folder is not the one that this process has locked.
        """
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self.lock.fileno()), (self.path / LOCK).lstat()):
                return
        self.ended = True
        raise RunMoved(
            f"{self.path} was renamed or removed while it was being trained, so nothing more is "
            "written there: what was recorded is where the folder is now; resume it there."
        )

    def end(self, why: str, *, state: TrainState | None = None) -> Path:
        """Record that the training has ended and why, e.g. "finished", and save the model.

        Args:
            why: The reason.
            state: The state of which the model is made; by default the one that early stopping
                keeps, and else the last one.

        Returns:
            The model's file.

        Raises:
            RunMoved: If the folder is not the one that this process has locked.
            BadInput: If a file cannot be written.
        """
        self.expect_in_place()
        path = self.path / f"end-{self.head.iteration:010}.json"
        if not path.exists():
            write_text(path, end_text(self.head, why))
        costs = [self.costs[iteration] for iteration in sorted(self.costs)]
        return self.save(state, np.concatenate(costs))

    def save(self, state: TrainState | None, costs: FloatArray) -> Path:
        """Save the model of a state, see `end`."""
        self.expect_in_place()
        self.ended = True
        kept = state or self.watched.kept or self.job.state
        path = self.path / MODEL_FILE
        model_of(self.job, kept, costs, self.data).save(path, replace=True)
        return path


@contextlib.contextmanager
def until_it_ends(recording: Recording) -> Iterator[Recording]:
    """Record the end of a training whose steps were recorded, if nobody has done it before."""
    try:
        try:
            yield recording
        finally:
            # A stream that the caller still holds, e.g. after `next`, has steps to write.
            if recording.stream is not None:
                recording.stream.close()
    except (NotFinite, KeyboardInterrupt) as error:
        if not recording.ended and recording.complete:
            with contextlib.suppress(BadInput):  # the error itself is what matters
                why = "not finite" if isinstance(error, NotFinite) else "interrupted"
                recording.end(why)
        raise
    if not recording.ended and recording.complete:
        finished = recording.head.iteration >= recording.goal
        recording.end("finished" if finished else "stopped early")


@contextlib.contextmanager
def create_run(
    path: AnyPath, job: Job, data: DataSet | Batch, *, most: int = MOST_BYTES
) -> Iterator[Recording]:
    """Make the folder of a new run, which holds the first segment from its first moment on.

    When the context ends, the end of the training is recorded and its model saved, unless an
    error ended it.

    Args:
        path: The folder; there must be nothing of that name yet, or an empty folder.
        job: From `prepare`, at its beginning. Where its step is another than that of its recipe,
            the run can only be opened with the function that made the job so.
        data: What the job was prepared with, for its fingerprint.
        most: Bytes that the segments may have. Where all states would have more, some are
            dropped, and computed again when they are needed, see `pruning.thinned`. The first
            one, which follows from the recipe, is then not stored at all.

    Raises:
        BadInput: If there is something of that name, it cannot be written, a function of the
            user's own cannot be found again, or the test part does not fit, see `expect_test`.
    """
    path = path_of(path)
    if job.state.iteration != 0:
        raise BadInput(
            f"the job is at iteration {job.state.iteration}, expected its beginning: "
            "give what prepare made."
        )
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
    text, pins = _recipe_text(job, data)
    texts = Texts(text, environment_text(current_environment(job.numerics)))
    rows = rows_of([], start=0)
    goal = job.recipe.iterations
    first = following(
        path / SEGMENTS, job.state, rows, before=sha256_of(text), texts=texts, goal=goal
    )

    def fill(folder: Path) -> None:
        write_text(folder / RECIPE, texts.recipe)
        write_text(folder / ENVIRONMENT, texts.environment)
        write_sources(pins, folder / FUNCTIONS)
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
        )
        with until_it_ends(recording):
            yield recording


def _bytes_of(state: TrainState) -> int:
    return sum(array.nbytes for array in arrays_of(state).values())


def _recipe_text(job: Job, data: DataSet | Batch) -> tuple[str, Pins]:
    """The text of the run's recipe, which can be read again, and what it met.

    Raises:
        BadInput: If it cannot, or `data` is not what the job was prepared with.
    """
    expect_same_data(job, data)
    rotated = job.data["train"].X if job.inputs.rotation is not None else None
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


def default_interval(iterations: int) -> int:
    """Steps from one segment to the next, such that a run has about 20."""
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
    """Record every step of `stream` in `run`, and hand its pairs on.

    A segment is written when the stream ends, in whatever way, and after every so many steps or
    a minute without one. By default it is then only written if all writing, that of the last
    segment included, takes at most two hundredths of the time, and not more than four times a
    second. Put it last, after what may end the stream.

    Args:
        run: From `create_run` or `resume_run`.
        stream: Begins with the step after the newest segment of the run.
        every: Steps from one segment to the next, whatever time that takes; by default such that
            a run has at most about 20.
        clock: In seconds; where segments lie has no part in any bit of a state.
        tensorboard: A folder, e.g. "logs": the numbers of every step are written to event files
            in a folder of it that is called as the run is, for `tensorboard --logdir logs`.
        csv: A file that the numbers of every step are written to, see `csv_log`.

    A log of a run that was resumed goes on where the recorded steps end: steps that were logged
    but not recorded are taken again and logged once, and recorded steps that were not logged are
    logged first.

    Raises:
        BadInput: If a step is missing, its state holds a NaN, or a segment cannot be written. All
            segments before it stay. Also if there is another training's log at the place of one.
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
    """The logs that go on after the steps that are recorded."""
    if tensorboard is None and csv is None:
        return []
    from pydnn.runs.logs import logs_of  # which most trainings do not need

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
    run: Recording, stream: Stream, interval: int, thrifty: bool, clock: Callable[[], float]
) -> Generator[tuple[TrainState, StepInfo], None, None]:
    seen: list[tuple[StepInfo, int]] = []
    begun = written = clock()
    spent, cost = 0.0, _bytes_of(run.job.state) / _BYTES_A_SECOND
    try:
        for state, info in stream:
            expected = run.head.iteration + len(seen)
            _expect_same_training(run, state)
            _expect_step(info.iteration, expected)
            seen.append((info, checksum(state.parameters.vector)))
            run.watched = run.watched.after(state, info)
            now = clock()
            due = len(seen) >= interval or now - written >= _SECONDS
            if due and thrifty:
                affordable = spent + 2 * cost <= _SHARE * (now - begun)
                due = affordable and now - written >= _LEAST_SECONDS
            if due:
                run.write(state, seen)
                seen, written = [], clock()
                cost = written - now
                spent += cost
            yield state, info
        if seen:
            run.write(state, seen)  # here, so that an interruption of it is made good below
    finally:
        # An interruption comes between any two instructions: when one more step was seen than
        # leads to the last state, or when the segment of that has its name, but is not yet the
        # head. One assignment changes both this state and the one that will be kept.
        last = run.watched.last
        if last and last.iteration > run.head.iteration:
            run.expect_in_place()
            path = run.path / SEGMENTS / segment_name(last.iteration)
            if path.exists():
                segment = read_segment(path)
                run.take(segment, segment.rows())
            else:
                run.write(last, seen[: last.iteration - run.head.iteration])


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
