"""A recorded run, for reading: its recipe, costs and states, and any step computed again."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import toolz

from pydnn.checks import AnyPath, BadInput, expect_count
from pydnn.data import DataSet
from pydnn.descriptions.builders import modules
from pydnn.fingerprints import checksum
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.jobs.parts import watch_of
from pydnn.jobs.rebuilding import Prepare, expect_to_travel, rebuild
from pydnn.jobs.standardization import standardization_of_0_1_0
from pydnn.numerics import Numerics
from pydnn.parameters import Packed
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, Examples, FloatArray
from pydnn.runs.environment import Environment, as_recorded, current_environment
from pydnn.runs.environment_changes import what_to_expect
from pydnn.runs.folder import FUNCTIONS, START, Folder, read_folder
from pydnn.runs.history import History, Rows, history_of, joined, rows_of
from pydnn.runs.mismatches import Mismatch, fingerprint_mismatch, first_mismatch
from pydnn.runs.provenance import (
    data_differences,
    function_differences,
    read_sources,
    rotated_pin,
    start_pin,
)
from pydnn.runs.segments import Segment
from pydnn.stages import Stage
from pydnn.storage.run_files import run_folder_of
from pydnn.training import Step, StepInfo, TrainState, scan, trace

__all__ = ["NotRepeated", "Prepare", "Run"]


class NotRepeated(BadInput):
    """A step of a run has other bits than the recorded ones when it is computed again."""

    def __init__(self, path: Path, mismatch: Mismatch, reason: str) -> None:  # noqa: D107
        super().__init__(f"{path} is not repeated here: {mismatch}; {reason}.")
        self.mismatch = mismatch
        self._arguments = path, mismatch, reason

    def __reduce__(self) -> tuple[type[NotRepeated], tuple[Path, Mismatch, str]]:
        return type(self), self._arguments


@attrs.frozen(eq=False, repr=False, slots=False)
class Run:
    """A run on disk, for reading; nothing here changes its files.

    Attributes:
        folder: The content of its folder, all of it intact.
        given: The data, or another name of it; None to load it by the name in the recipe.
        prepare: The function that makes its job.
        anyway: Whether to continue even if something has changed since the recording.
        allow: The names of the modules outside pydnn that its recipe may name.
        mapped: Whether data that is loaded by name stays in its file; None if it would take more
            than a quarter of the free memory.

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
        >>> run = Run.open("line", data=points)
        >>> run.state(50) == state
        True
        >>> run.at(20).AL.shape  # step 20 again, with all that it computed
        (1, 3)
    """

    folder: Folder
    given: DataSet | Examples | str | None = None
    prepare: Prepare = prepare
    anyway: bool = False
    allow: tuple[str, ...] = ()
    mapped: bool | None = None

    @classmethod
    def open(
        cls,
        path: AnyPath,
        *,
        data: DataSet | Examples | str | None = None,
        prepare: Prepare = prepare,
        anyway: bool = False,
        allow: Iterable[str] = (),
        mapped: bool | None = None,
    ) -> Run:
        """Open the run in the folder `path`, after verifying all its files.

        Args:
            path: The folder, or the model.h5 in it.
            data: Another name or place of the data, or the data itself. It is loaded when it is
                first needed, and must have the recorded bits.
            prepare: The function that made the job. If its step was composed by hand, this is a
                function that passes all its arguments on to `jobs.prepare`, and returns the job
                with the other step.
            anyway: Whether to continue even if the data or the user's own functions have changed,
                or steps have other bits than the recorded ones.
            allow: The names of the modules outside pydnn that may be imported for the recipe, each
                with all modules below it, e.g. ["my_package"].
            mapped: Whether data that is loaded by name stays in its file; None if it would take
                more than a quarter of the free memory. No bit depends on it.

        Raises:
            NotAllowed: If the recipe names a module that is not allowed.
            BadInput: If `path` is not a run or a file is damaged. The message names the file.
        """
        folder = read_folder(run_folder_of(path), anyway=anyway, allow=allow)
        if folder.problem is not None:
            raise BadInput(folder.problem.message)
        return cls(folder, data, prepare, anyway, modules(allow), mapped)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arguments of `open`: another process reads the folder itself."""
        expect_to_travel(self.prepare)
        state = (self.path, self.given, self.prepare, self.anyway, self.allow, self.mapped)
        return _opened, state

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.iterations} of {self.goal} steps)"

    def _repr_html_(self) -> str:
        from pydnn.reports.in_notebooks import html_of_training  # here, since few processes need it

        measured = {
            name.removesuffix(" cost"): curve
            for (kind, name), curve in self.rows.curves.items()
            if kind == "measured" and name.endswith(" cost")
        }
        steps = [["steps", f"{self.iterations:,} of {self.goal:,}"]]
        return html_of_training(f"run {self.path}", steps, self.recipe, self.costs, measured)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def recipe(self) -> Recipe:
        """The recipe as it was first recorded."""
        recipe = self.folder.recipe
        try:
            watch_of(recipe)
        except BadInput:
            # Version 0.1.0 preferred lower values unless the recipe said otherwise.
            return attrs.evolve(recipe, higher_is_better=False)
        return recipe

    @property
    def numerics(self) -> Numerics:
        """The arithmetic of the run."""
        return self.recipe.arithmetic

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments of the processes that recorded it, in order, each once."""
        digests = dict.fromkeys(segment.environment for segment in self.segments)
        return tuple(self.folder.environments[digest] for digest in digests)

    @property
    def environment_here(self) -> Environment:
        """The environment of this process, with which steps are computed again."""
        with self.as_recorded():
            return current_environment(self.numerics, one_thread=self.recipe.one_thread)

    def as_recorded(self, step: int | None = None) -> contextlib.AbstractContextManager[None]:
        """A context in which BLAS has as many threads as when a step was recorded.

        Args:
            step: The number of the step; None for the last one.
        """
        if not self.segments:
            return contextlib.nullcontext()
        return as_recorded(self.environment_of(self.iterations if step is None else step))

    def environment_of(self, step: int) -> Environment:
        """The environment that recorded a step; for any later step, the last environment."""
        later = (segment for segment in self.segments if segment.iteration > step)
        return self.folder.environments[next(later, self.segments[-1]).environment]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, from iteration 0 on."""
        return self.folder.segments

    @property
    def iterations(self) -> int:
        """The number of recorded steps."""
        return self.segments[-1].iteration if self.segments else 0

    @property
    def goal(self) -> int:
        """The number of steps that the training was meant to have when it was last started."""
        return self.segments[-1].goal if self.segments else self.recipe.iterations

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the bits of the newest state; see `state_fingerprint`."""
        return self.segments[-1].state_sha256

    @functools.cached_property
    def rows(self) -> Rows:
        """The rows of all steps."""
        return joined([segment.rows() for segment in self.segments])

    @property
    def costs(self) -> FloatArray:
        """The cost of each step, float64 (iterations,)."""
        return self.rows.always["cost"]

    @functools.cached_property
    def history(self) -> History:
        """The numbers of every step as named columns, e.g. `history["validation cost"]`."""
        return history_of(self.rows)

    @property
    def infos(self) -> Iterator[StepInfo]:
        """The info of each step, in order."""
        return self.rows.infos()

    @property
    def sources(self) -> Mapping[str, str]:
        """The recorded source of each module outside pydnn that the recipe names, by module.

        It is for people who want to read what was trained; nothing runs it. Runs of pydnn 0.1.0
        have none.
        """
        return read_sources(self.folder.pins, self.path / FUNCTIONS)

    def states(self) -> Iterator[TrainState]:
        """The state of each segment, read or computed again when the iterator reaches it."""
        return (self.state(segment.iteration) for segment in self.segments)

    def stored(self, segment: Segment) -> TrainState | None:
        """The stored state of a segment; None if it was dropped."""
        if not segment.holds_state():
            return None
        return segment.state(self.recipe, self.folder.pins.shape)

    def parameters(self, iteration: int | None = None) -> Packed:
        """The parameters after `iteration` steps, by default after all recorded ones.

        They are for examples as they are, even if the training used another basis (`Inputs.lift`).
        """
        state = self.state(self.iterations if iteration is None else iteration)
        rotated = self.folder.pins.rotated is not None
        return self.job.inputs.lift(state.parameters) if rotated else state.parameters

    @functools.cached_property
    def data(self) -> DataSet | Examples:
        """The data that the run was recorded with.

        Raises:
            BadInput: If the data cannot be loaded, or its bits are not the recorded ones.
        """
        if self._unlike and not self.anyway:
            raise BadInput(
                f"{self._unlike[0]}, so this is not the data of {self.path}: give the data that it "
                "was recorded with."
            )
        return self._loaded

    @property
    def changes(self) -> list[str]:
        """The changes of the data and of the user's own functions since the recording, in words."""
        return [*function_differences(self.folder.pins, self.path / FUNCTIONS), *self._unlike]

    @functools.cached_property
    def _unlike(self) -> list[str]:
        return data_differences(self.folder.pins, self._loaded)

    @functools.cached_property
    def _loaded(self) -> DataSet | Examples:
        if not isinstance(self.given, str | None):
            return self.given
        # `Path.exists` raises for names that no file can have, and these come from a file.
        place, test = self.folder.pins.place, self.folder.pins.test_place
        name = self.given or (place if os.path.exists(place) else self.recipe.data)
        recipe = self.recipe
        if test and os.path.exists(test):
            recipe = attrs.evolve(recipe, test=test)
        try:
            return data_of(recipe, name, mapped=self.mapped)
        except BadInput as error:
            if self.given is not None:
                raise
            options = "--data, for the second run of a diff --other-data, in Python data=…"
            hint = f"; or give its place now with {options}."
            raise BadInput(f"{str(error).rstrip('.')}{hint}") from error

    @functools.cached_property
    def job(self) -> Job:
        """The job, ready to be trained from its beginning, for all recorded steps."""
        return self.job_through(lambda network: network)

    def job_through(self, through: Callable[[Stage], Stage]) -> Job:
        """The job, with `through` applied to its network; see `prepare`.

        Raises:
            BadInput: If its step has other parts than the recorded one, or its change of basis has
                other bits here.
        """
        # Read a stored state first: if the recipe claims other shapes, this refuses it before
        # anything of those shapes takes memory.
        if holding := self.folder.nearest_holding(self.iterations):
            self.stored(holding)
        pins = self.folder.pins
        goal = max(self.goal, self.iterations)
        recipe = attrs.evolve(self.recipe, iterations=goal, start_from=self._start)
        options: dict[str, object] = {"through": through}
        if recipe.standardize and pins.format == 1:
            options["standardizing"] = standardization_of_0_1_0
        with self.as_recorded(0):  # the first weights and a rotation may come from products
            job = rebuild(
                recipe,
                self.data,
                rotated=pins.rotated is not None,
                prepare=self.prepare,
                options=options,
            )
        if (start := job.start) is not None:
            job = attrs.evolve(job, recipe=attrs.evolve(recipe, start_from=self.recipe.start_from))
            if start_pin(start.arrays) != pins.start and not self.anyway:
                raise BadInput(
                    f"{recipe.start_from} does not hold the weights that {self.path} started from: "
                    "restore the file from a backup."
                )
        train = job.data["train"]
        if (
            pins.rotated is not None
            and pins.rotated != rotated_pin(train.in_memory().X)
            and not self.anyway
        ):
            expected = what_to_expect(self.environments[0], self.environment_here)
            if self.numerics.exact:
                advice = "open it with the pydnn that recorded it"
            else:
                advice = "open it where it was recorded, with as many threads"
            raise BadInput(
                f"the change of basis that {self.path} was trained in has other bits here, so its "
                f"states mean nothing here{f' ({expected})' if expected else ''}: "
                f"{advice}; its model.h5 can be used on any machine."
            )
        if not self.anyway:
            self._expect_parts(job)
        return job

    @property
    def _start(self) -> str:
        """Where the weights are that training started from: in the run, or their original place."""
        kept = self.path / START
        return str(kept) if self.recipe.start_from and kept.is_file() else self.recipe.start_from

    def expect_own_step(self) -> None:
        """Refuse a run whose step has other parts than the step that `prepare` makes here.

        Raises:
            BadInput: If the parts differ.
        """
        if self.folder.pins.parts:
            self._expect_parts(self.job)

    def _expect_parts(self, job: Job) -> None:
        recorded, here = self.folder.pins.parts, job.train_step.titles
        if recorded != here:
            raise BadInput(
                f"the step of {self.path} was made of {', '.join(recorded)}, but here it is made "
                f"of {', '.join(here)}: open it with prepare=…, the function that made its job."
            )

    def state(self, iteration: int) -> TrainState:
        """The state after `iteration` steps, computed again from the nearest stored state.

        Raises:
            BadInput: If the run has fewer steps.
            NotRepeated: If a step on the way has other bits than the recorded ones.
        """
        hint = f"{self.path} has {self.iterations} steps"
        iteration = expect_count("iteration", iteration, least=0, hint=hint)
        if iteration > self.iterations:
            raise BadInput(f"iteration is {iteration}, but {hint}: give at most that number.")
        holding = self.folder.nearest_holding(iteration)
        state = self.stored(holding) if holding else None
        if state is None:  # the initial state follows from the recipe
            state = self.job.state
            self._expect_state(state)
        if state.iteration == iteration:
            return state
        job = attrs.evolve(self.job, state=state)
        start, taken = state.iteration, []
        # `scan` instead of `steps`, to leave out the evaluations, which no step depends on.
        stream = scan(job.train_step, state, job.batches, ahead=True)
        with self.as_recorded(start):
            for state, info in itertools.islice(stream, iteration - start):
                taken.append((info, checksum(state.parameters.vector)))
        self._expect_rows(rows_of(taken, start=start))
        self._expect_state(state)
        return state

    def _expect_state(self, state: TrainState) -> None:
        """Refuse a state if the segment of its iteration holds another fingerprint."""
        if self.anyway:
            return
        segment = self.folder.segment_at(state.iteration)
        unlike = fingerprint_mismatch(segment, state) if segment else None
        if unlike is not None:
            raise self._not_repeated(unlike)

    def at(self, step: int) -> Step:
        """The complete record of one step, computed again.

        All its fields are filled, so that any part of the step, or any stage of the network, can be
        called with the arguments that it had then.

        Args:
            step: The number of the step, from 0.

        Raises:
            BadInput: If there is no such step.
            NotRepeated: If the step has other bits than the recorded ones.
        """
        state, batch = self.before(step)
        with self.as_recorded(step):
            record: Step = toolz.last(trace(self.job.train_step, state, batch))[1]
        self.expect_repeated(record)
        return record

    def expect_repeated(self, record: Step) -> None:
        """Refuse the record of a step that has other bits than the recorded ones.

        Raises:
            NotRepeated: If it has.
        """
        words = checksum(record.after.parameters.vector)
        self._expect_rows(rows_of([(record.info, words)], start=record.info.iteration))

    def before(self, step: int) -> tuple[TrainState, Batch]:
        """The state and the batch that a step begins with."""
        last = self.iterations - 1
        hint = f"{self.path} has the steps 0 to {last}" if last >= 0 else f"{self.path} has none"
        step = expect_count("step", step, least=0, hint=hint)
        if step > last:
            raise BadInput(f"there is no step {step}: {hint}.")
        state = self.state(step)
        return state, self.job.batching.at(self.job.data["train"], state.key, step)

    def _expect_rows(self, here: Rows) -> None:
        if self.anyway:
            return
        mismatch = first_mismatch(self.rows, here, dtype=self.recipe.dtype)
        if mismatch is not None:
            raise self._not_repeated(mismatch)

    def _not_repeated(self, mismatch: Mismatch) -> NotRepeated:
        expected = what_to_expect(self.environment_of(mismatch.step), self.environment_here)
        return NotRepeated(self.path, mismatch, expected or _NOTHING_EXPECTED)


def _opened(
    path: Path,
    data: DataSet | Examples | str | None,
    prepare: Prepare,
    anyway: bool,
    allow: tuple[str, ...],
    mapped: bool | None,
) -> Run:
    return Run.open(path, data=data, prepare=prepare, anyway=anyway, allow=allow, mapped=mapped)


_NOTHING_EXPECTED = "this machine computes like that one, so a record or the code has changed"
