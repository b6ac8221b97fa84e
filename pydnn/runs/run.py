"""A recorded run, for reading: its recipe, its costs, its states, and any step of it anew."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import toolz

from pydnn.checks import AnyPath, BadInput, expect_count
from pydnn.data import DataSet
from pydnn.descriptions.builders import modules
from pydnn.descriptions.text import write_description
from pydnn.fingerprints import checksum
from pydnn.jobs.job import Job, prepare, watch_of
from pydnn.jobs.loading import data_of
from pydnn.jobs.rebuilding import Prepare, expect_to_travel, rebuild
from pydnn.jobs.standardization import standardization_of_0_1_0
from pydnn.numerics import Numerics
from pydnn.parameters import Packed
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, FloatArray
from pydnn.runs.environment import Environment, current_environment
from pydnn.runs.environment_changes import what_to_expect
from pydnn.runs.folder import FUNCTIONS, Folder, read_folder
from pydnn.runs.history import History, Rows, history_of, joined, rows_of
from pydnn.runs.mismatches import Mismatch, fingerprint_mismatch, first_mismatch
from pydnn.runs.provenance import data_differences, function_differences, read_sources, rotated_pin
from pydnn.runs.segments import Segment
from pydnn.stages import Stage
from pydnn.storage.run_files import run_folder_of
from pydnn.tables import html_table
from pydnn.training import Step, StepInfo, TrainState, scan, trace

__all__ = ["NotRepeated", "Prepare", "Run"]


class NotRepeated(BadInput):
    """A step of a run does not come out as it was recorded."""

    def __init__(self, path: Path, mismatch: Mismatch, reason: str) -> None:  # noqa: D107
        super().__init__(f"{path} is not repeated here: {mismatch}; {reason}.")
        self.mismatch = mismatch
        self._arguments = path, mismatch, reason

    def __reduce__(self) -> tuple[type[NotRepeated], tuple[Path, Mismatch, str]]:
        return type(self), self._arguments


@attrs.frozen(eq=False, repr=False, slots=False)
class Run:
    """A run on disk; nothing here changes it.

    Attributes:
        folder: What is in its folder, all of it sound.
        given: The data, where that is not to be loaded by the recipe's name for it.
        prepare: What makes its job.
        anyway: Whether to go on where something is not as it was when the run was recorded.
        allow: Names of the modules outside pydnn that its recipe may name.
    """

    folder: Folder
    given: DataSet | Batch | str | None = None
    prepare: Prepare = prepare
    anyway: bool = False
    allow: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        path: AnyPath,
        *,
        data: DataSet | Batch | str | None = None,
        prepare: Prepare = prepare,
        anyway: bool = False,
        allow: Iterable[str] = (),
    ) -> Run:
        """The run in the folder `path`, once every file of it has been found sound.

        Args:
            path: The folder, or the model.h5 in it.
            data: Another name or place of its data, or the data itself. It is loaded when it is
                first needed, and must have the bits that were recorded.
            prepare: What made its job. For a step that was composed by hand, a function like
                `recipes.prepare` which calls that, options and all, and gives the job with
                another step.
            anyway: Whether to go on where data or functions of the user's own are not as they
                were, or steps do not come out as they did.
            allow: Names of the modules outside pydnn that may be imported, with all modules below
                them, because the recipe names their builders, e.g. ["my_package"].

        Raises:
            NotAllowed: If the recipe names a module that is not allowed.
            BadInput: Naming the file and what in it is not sound.
        """
        folder = read_folder(run_folder_of(path), anyway=anyway, allow=allow)
        if folder.problem is not None:
            raise BadInput(folder.problem.message)
        return cls(folder, data, prepare, anyway, modules(allow))

    def __reduce__(self) -> tuple[object, ...]:
        """Another process opens the folder itself, and has its job rebuilt there."""
        expect_to_travel(self.prepare)
        return _opened, (self.path, self.given, self.prepare, self.anyway, self.allow)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.iterations} of {self.goal} steps)"

    def _repr_html_(self) -> str:
        recipe = self.recipe
        # Of the newest segment alone, since those before it may take long to read.
        costs = [float(cost) for s in self.segments[-1:] for cost in s.rows().always["cost"]]
        rows = [
            ["steps", f"{self.iterations} of {self.goal}"],
            ["last cost", f"{costs[-1]:.9g}" if costs else "none"],
            ["data", recipe.data],
            ["network", write_description(recipe.network)],
            ["loss", write_description(recipe.loss)],
            ["optimizer", write_description(recipe.optimizer)],
            ["arithmetic", f"{recipe.numerics}, {recipe.dtype}, seed {recipe.seed}"],
        ]
        return html_table(f"run {self.path}", [], rows)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def recipe(self) -> Recipe:
        """The job as it was first recorded."""
        recipe = self.folder.recipe
        try:
            watch_of(recipe)
        except BadInput:
            # Version 0.1.0 took lower values for better ones unless the recipe said otherwise.
            return attrs.evolve(recipe, higher_is_better=False)
        return recipe

    @property
    def numerics(self) -> Numerics:
        """The arithmetic of the run."""
        return self.recipe.arithmetic

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Those of the processes which recorded it, each once, in their order."""
        digests = dict.fromkeys(segment.environment for segment in self.segments)
        return tuple(self.folder.environments[digest] for digest in digests)

    def environment_of(self, step: int) -> Environment:
        """That of the process which recorded the step of that number; at the end, the last one."""
        later = (segment for segment in self.segments if segment.iteration > step)
        return self.folder.environments[next(later, self.segments[-1]).environment]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, from iteration 0 on."""
        return self.folder.segments

    @property
    def iterations(self) -> int:
        """How many steps are recorded."""
        return self.segments[-1].iteration if self.segments else 0

    @property
    def goal(self) -> int:
        """How many steps the training was to have, when it was last begun or resumed."""
        return self.segments[-1].goal if self.segments else self.recipe.iterations

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the newest state's bits: see `state_fingerprint`."""
        return self.segments[-1].state_sha256

    @functools.cached_property
    def rows(self) -> Rows:
        """The rows of all steps."""
        return joined([segment.rows() for segment in self.segments])

    @property
    def costs(self) -> FloatArray:
        """The cost at each step, float64 (iterations,)."""
        return self.rows.always["cost"]

    @functools.cached_property
    def history(self) -> History:
        """The numbers of every step as named columns, e.g. `history["validation cost"]`."""
        return history_of(self.rows)

    @property
    def infos(self) -> Iterator[StepInfo]:
        """What was seen of each step, in their order."""
        return self.rows.infos()

    @property
    def sources(self) -> Mapping[str, str]:
        """The source texts of the modules outside pydnn that the recipe names, as they were.

        They are for people who want to read what was trained; nothing runs them. Runs of pydnn
        0.1.0 have none.
        """
        return read_sources(self.folder.pins, self.path / FUNCTIONS)

    def states(self) -> Iterator[TrainState]:
        """The state of each segment, each read or computed again when it is asked for."""
        return (self.state(segment.iteration) for segment in self.segments)

    def stored(self, segment: Segment) -> TrainState | None:
        """The state that a segment holds; None if it was dropped."""
        if not segment.holds_state():
            return None
        return segment.state(self.recipe, self.folder.pins.features)

    def parameters(self, iteration: int | None = None) -> Packed:
        """The parameters after so many steps; by default, after all that are recorded.

        They are for examples as they are, in whatever basis the training was: `Inputs.lift`.
        """
        state = self.state(self.iterations if iteration is None else iteration)
        rotated = self.folder.pins.rotated is not None
        return self.job.inputs.lift(state.parameters) if rotated else state.parameters

    @functools.cached_property
    def data(self) -> DataSet | Batch:
        """The data that the run was recorded with.

        Raises:
            BadInput: If it is not to be had, or its bits are not the recorded ones.
        """
        if self._unlike and not self.anyway:
            raise BadInput(
                f"{self._unlike[0]}, so this is not the data of {self.path}: give that of then."
            )
        return self._found

    @property
    def changes(self) -> list[str]:
        """What of data and functions of the user's own is not as it was recorded, in words."""
        return [*function_differences(self.folder.pins, self.path / FUNCTIONS), *self._unlike]

    @functools.cached_property
    def _unlike(self) -> list[str]:
        return data_differences(self.folder.pins, self._found)

    @functools.cached_property
    def _found(self) -> DataSet | Batch:
        if isinstance(self.given, DataSet | Batch):
            return self.given
        place = self.folder.pins.place
        name = self.given or (place if Path(place).exists() else self.recipe.data)
        try:
            return data_of(self.recipe, name)
        except BadInput as error:
            if self.given is not None:
                raise
            options = "--data, for the second run of a diff --other-data, in Python data=…"
            hint = f"; or say where it is now with {options}."
            raise BadInput(f"{str(error).rstrip('.')}{hint}") from error

    @functools.cached_property
    def job(self) -> Job:
        """The job, ready to be run from its beginning, for all the steps that are recorded."""
        return self.job_through(lambda network: network)

    def job_through(self, through: Callable[[Stage], Stage]) -> Job:
        """The job with its network led through a function, see `prepare`.

        Raises:
            BadInput: If its step is made of other parts than the one that was recorded, or its
                change of basis comes out differently here.
        """
        # A stored state that does not fit refuses what the recipe claims before it is made.
        if holding := self.folder.nearest_holding(self.iterations):
            self.stored(holding)
        pins = self.folder.pins
        recipe = attrs.evolve(self.recipe, iterations=max(self.goal, self.iterations))
        options: dict[str, object] = {"through": through}
        if recipe.standardize and pins.format == 1:
            options["standardizing"] = standardization_of_0_1_0
        job = rebuild(
            recipe,
            self.data,
            rotated=pins.rotated is not None,
            prepare=self.prepare,
            options=options,
        )
        if pins.rotated not in (None, rotated_pin(job.data["train"].X)) and not self.anyway:
            expected = what_to_expect(self.environments[0], current_environment(self.numerics))
            if self.numerics.exact:
                advice = "open it with the pydnn that recorded it"
            else:
                advice = "open it where and with as many threads as it was recorded"
            raise BadInput(
                f"the change of basis in which {self.path} was trained comes out in other bits "
                f"here, so its states mean nothing here{f' ({expected})' if expected else ''}: "
                f"{advice}; model.h5 in it is as good here as there."
            )
        if not self.anyway:
            self._expect_parts(job)
        return job

    def expect_own_step(self) -> None:
        """Refuse a run whose step is made of other parts than what `prepare` makes here.

        Raises:
            BadInput: If it is.
        """
        if self.folder.pins.parts:
            self._expect_parts(self.job)

    def _expect_parts(self, job: Job) -> None:
        recorded, here = self.folder.pins.parts, job.train_step.names
        if recorded != here:
            raise BadInput(
                f"the step of {self.path} was made of {', '.join(recorded)}, but here it is made "
                f"of {', '.join(here)}: open it with prepare=…, the function that made its job."
            )

    def state(self, iteration: int) -> TrainState:
        """The state after so many steps, computed again from the nearest one that is stored.

        Raises:
            BadInput: If there are not so many.
            NotRepeated: If a step on the way does not come out as it was recorded.
        """
        hint = f"{self.path} has {self.iterations} steps"
        iteration = expect_count("iteration", iteration, least=0, hint=hint)
        if iteration > self.iterations:
            raise BadInput(f"iteration is {iteration}, but {hint}: give at most so many.")
        holding = self.folder.nearest_holding(iteration)
        state = self.stored(holding) if holding else None
        if state is None:  # the first state of all follows from the recipe
            state = self.job.state
            self._expect_state(state)
        if state.iteration == iteration:
            return state
        job = attrs.evolve(self.job, state=state)
        start, seen = state.iteration, []
        # Without the evaluations, which no step depends on.
        stream = scan(job.train_step, state, job.batches)
        for state, info in itertools.islice(stream, iteration - start):
            seen.append((info, checksum(state.parameters.vector)))
        self._expect_rows(rows_of(seen, start=start))
        self._expect_state(state)
        return state

    def _expect_state(self, state: TrainState) -> None:
        """Refuse a state of which a segment holds another fingerprint."""
        if self.anyway:
            return
        segment = self.folder.segment_at(state.iteration)
        unlike = fingerprint_mismatch(segment, state) if segment else None
        if unlike is not None:
            raise self._not_repeated(unlike)

    def at(self, step: int) -> Step:
        """The very record that flowed through the step of that number, computed again.

        Every field of it is filled in, so that any part of the step, or a stage of the network,
        can be called with what it was called with then.

        Raises:
            BadInput: If there is no such step.
            NotRepeated: If it does not come out as it was recorded.
        """
        state, batch = self.before(step)
        record: Step = toolz.last(trace(self.job.train_step, state, batch))[1]
        self.expect_repeated(record)
        return record

    def expect_repeated(self, record: Step) -> None:
        """Refuse the record of a step that did not come out as it was recorded.

        Raises:
            NotRepeated: If it did not.
        """
        words = checksum(record.after.parameters.vector)
        self._expect_rows(rows_of([(record.info, words)], start=record.info.iteration))

    def before(self, step: int) -> tuple[TrainState, Batch]:
        """What the step of that number was given."""
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
        expected = what_to_expect(
            self.environment_of(mismatch.step), current_environment(self.numerics)
        )
        return NotRepeated(self.path, mismatch, expected or _NOTHING_EXPECTED)


def _opened(
    path: Path,
    data: DataSet | Batch | str | None,
    prepare: Prepare,
    anyway: bool,
    allow: tuple[str, ...],
) -> Run:
    return Run.open(path, data=data, prepare=prepare, anyway=anyway, allow=allow)


_NOTHING_EXPECTED = "this machine computes as that one did, so a record or the code has changed"
