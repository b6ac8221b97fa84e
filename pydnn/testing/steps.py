"""The laws of a training step and of a schedule."""

from __future__ import annotations

import copy
import math

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.optimizers.schedules import Schedule
from pydnn.parameters import Slot
from pydnn.records import Batch, FloatArray, freeze
from pydnn.testing.gradients import check_problem
from pydnn.testing.nested import difference, snapshot
from pydnn.testing.problems import Problem, expect_float64
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial
from pydnn.training import Step, TrainState, TrainStep, trace

__all__ = ["assert_schedule", "assert_train_step"]

_AFTER_GRADIENTS = ("penalties", "backward")  # the part after which cost and gradients agree


def assert_train_step(
    train_step: TrainStep,
    state: TrainState,
    batch: Batch,
    *,
    rtol: float = 1e-7,
    entries: int = 48,
    key: Key = Key(0),  # noqa: B008 - frozen
) -> Proof:
    """Try all laws of a training step at once.

    - *purity*: the same state and batch give the same bits, and neither changes;
    - *state*: the next one counts one more iteration, and has the layout, key and kind of
      optimiser state of this one, so that the step can be taken again;
    - *parts*: taken part by part, it is the same step to the bit;
    - *gradients*: those after *backward*, and *penalties* where there are some, are what
      differences of the cost give;
    - *resume*: going on from a saved state gives the same bits.

    Args:
        train_step: What is to be proved right.
        state: From which it is taken, in float64.
        batch: For these examples.
        rtol: The largest error of a gradient, beside the largest gradient of its array.
        entries: Up to how many of an array's entries are compared one by one.
        key: Where entries are drawn from.

    Raises:
        BrokenLaw: With all that was found, by the names of laws.
        BadInput: If it is no training step, or is given what does not fit.
    """
    if not isinstance(train_step, TrainStep):
        raise BadInput(f"got {train_step!r}, expected a training step: use make_train_step.")
    expect_float64("state.parameters", state.parameters.vector)
    given = {"state": state, "batch": batch}
    expect_runs("the training step", train_step, given, hint="give a state and batch that fit")
    trial = Trial("the training step")
    with trial.law("purity") as fault:
        # What a step has nothing to change of is handed on: layouts, keys, statistics.
        _, faults = purity_faults(
            train_step, state, batch, shares=["result"], names=["state", "batch"]
        )
        for text in faults:
            fault(text.replace("result[0]", "state").replace("result[1]", "info"))
    with trial.law("state") as fault:
        after, info = train_step(state, batch)
        if (after.iteration, info.iteration) != (state.iteration + 1, state.iteration):
            fault(
                f"iteration {state.iteration} is told as {info.iteration}, and the next one is "
                f"{after.iteration}"
            )
        if after.key != state.key:
            fault("the key is another one: draws are addressed by key and iteration")
        if after.parameters.layout != state.parameters.layout:
            fault(f"parameters lie as {after.parameters.layout}, before {state.parameters.layout}")
        kinds = [sorted(snapshot(s.optimizer_state, "state")) for s in (state, after)]
        if kinds[0] != kinds[1]:
            fault(f"the optimiser's state has {kinds[1]}, before {kinds[0]}")
        if not math.isfinite(info.cost):
            fault(f"the cost is {info.cost!r}")
        train_step(after, batch)
    with trial.law("parts") as fault:
        *_, (_, last) = trace(train_step, state, batch)
        told = difference(
            snapshot((last.after, last.info), "(state, info)"),
            snapshot(train_step(state, batch), "(state, info)"),
        )
        if told:
            fault(f"as a whole, {told} part by part")
    name = next((n for n in _AFTER_GRADIENTS if n in train_step.names), None)
    if name is not None:
        with trial.law("gradients") as fault:
            problem = _problem_of_step(train_step, state, batch, name)
            report = check_problem(problem, key=key, rtol=rtol, entries=entries)
            trial.tables.append(report)
            if not report.right:
                fault(str(report))
    with trial.law("resume") as fault:
        states = [state]
        for _ in range(4):
            states.append(train_step(states[-1], batch)[0])
        again = copy.deepcopy(states[2])
        for _ in range(2):
            again, _ = train_step(again, batch)
        told = difference(snapshot(states[-1], "state"), snapshot(again, "state"))
        if told:
            fault(f"resumed after two steps, {told} straight through")
    return trial.proof()


def _problem_of_step(train_step: TrainStep, state: TrainState, batch: Batch, name: str) -> Problem:
    def step_at(vector: FloatArray) -> Step:
        parameters = state.parameters.layout.packed(freeze(vector))
        moved = attrs.evolve(state, parameters=parameters)
        return next(step for n, step in trace(train_step, moved, batch) if n == name)

    layout = state.parameters.layout
    slots = tuple(Slot(s.name, s.shape, s.start) for s in layout.slots)
    return Problem(
        f"the training step after {name!r}",
        slots,
        state.parameters.vector,
        lambda vector: np.array([step_at(vector).cost]),
        np.ones(1),
        lambda vector: step_at(vector).grads.vector,
    )


def assert_schedule(schedule: Schedule, *, iterations: int = 200) -> Proof:
    """Try all laws of a schedule at once.

    - *value*: a finite number of 0 or more at every iteration;
    - *purity*: it depends on the iteration alone, in whatever order iterations are asked for;
    - *description*: what is built again does the same.

    Args:
        schedule: What is to be proved right.
        iterations: How many are tried, from 0 on.

    Raises:
        BrokenLaw: With all that was found, by the names of laws.
        BadInput: If it is no schedule.
    """
    if not isinstance(schedule, Schedule):
        raise BadInput(f"got {schedule!r}, expected a schedule: call its builder.")
    expect_count("iterations", iterations, hint="give how many are tried")
    trial = Trial("the schedule")
    values: list[object] = []
    with trial.law("value") as fault:
        values = [schedule(i) for i in range(iterations)]
        for i, value in enumerate(values):
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                fault(f"{value!r} at iteration {i}, expected a finite number of 0 or more")
                break
    with trial.law("purity") as fault:
        backwards = [schedule(i) for i in reversed(range(iterations))][::-1]
        told = difference(snapshot(values, "value"), snapshot(backwards, "value"))
        if told:
            fault(f"asked for from the end, {told} from the start")
    if schedule.description is not None:
        with trial.law("description") as fault:
            again = build(describe(schedule), family="schedule")
            built = [again(i) for i in range(iterations)]
            told = difference(snapshot(values, "value"), snapshot(built, "value"))
            if told:
                fault(f"built again, {told} before")
    return trial.proof()
