"""The laws of training steps and of schedules, and the checks of all of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.optimizers.schedules import Schedule
from pydnn.parameters import Slot
from pydnn.records import Batch, FloatArray, freeze
from pydnn.testing.gradients import check_problem
from pydnn.testing.nested import deviation, difference, snapshot
from pydnn.testing.problems import Problem, expect_float64
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial
from pydnn.training import Part, Shard, Step, TrainState, TrainStep, trace
from pydnn.training.pipeline import composed
from pydnn.training.shards import Sharding, ShardResult, add_up

__all__ = ["assert_schedule", "assert_train_step"]

# After the first of these parts that a step has, its gradients are those of its cost.
_AFTER_GRADIENTS = ("penalties", "backward", "gradients")


def assert_train_step(
    train_step: TrainStep,
    state: TrainState,
    batch: Batch,
    *,
    rtol: float = 1e-7,
    entries: int = 48,
    key: Key = Key(0),  # noqa: B008 - frozen
    adds_up: bool | None = None,
) -> Proof:
    """Check all laws of a training step.

    - *purity*: the same state and batch give the same bits, and neither changes;
    - *state*: the next state counts one more iteration, and has the same layout, key and kind of
      optimizer state, so that the step can be repeated;
    - *parts*: running the step part by part gives the same bits;
    - *gradients*: the gradients after *backward*, or after *penalties* if there are any, agree
      with finite differences of the cost;
    - *resume*: continuing from a saved state gives the same bits;
    - *shards*, of a step with shards: each gives the same bits in any order and on any worker; with
      a random network each draws numbers of its own; and their gradients add up to that of the
      whole batch, to 1e-10.

    Args:
        train_step: The step to check.
        state: The state to start from, in float64.
        batch: The examples.
        rtol: The largest error of a gradient, relative to the largest gradient of its array.
        entries: The largest number of entries of an array that are compared one by one.
        key: The key to draw those entries from.
        adds_up: Whether the gradients of shards must add up to that of the whole batch. By default
            this is checked unless the network is random or mixes examples, or examples are
            augmented.

    Returns:
        The proof: which laws hold, with the table of gradients.

    Raises:
        BrokenLaw: If a law is broken; it lists all faults by law.
        BadInput: If it is not a training step, or the state and the batch do not fit it.

    Example:
        >>> from pydnn.testing import assert_train_step
        >>> network, optimizer = nn.serial(nn.dense(1)), nn.adam()
        >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer)
        >>> state = nn.initial_state(network, optimizer, (2,), key=nn.Key(0))
        >>> assert_train_step(step, state, nn.Batch(np.ones((2, 3)), np.ones((1, 3)))).laws
        ('purity', 'state', 'parts', 'gradients', 'resume')
    """
    if not isinstance(train_step, TrainStep):
        raise BadInput(f"got {train_step!r}, expected a training step: use make_train_step.")
    expect_float64("state.parameters", state.parameters.vector)
    arguments = {"state": state, "batch": batch}
    expect_runs("the training step", train_step, arguments, hint="give a state and batch that fit")
    trial = Trial("the training step")
    with trial.law("purity") as fault:
        # The next state may share whatever the step does not change: layout, key, statistics.
        _, faults = purity_faults(
            train_step, state, batch, shares=["result"], names=["state", "batch"]
        )
        for text in faults:
            fault(text.replace("result[0]", "state").replace("result[1]", "info"))
    with trial.law("state") as fault:
        after, info = train_step(state, batch)
        if (after.iteration, info.iteration) != (state.iteration + 1, state.iteration):
            fault(
                f"iteration {state.iteration} is {info.iteration} in info, and the next one is "
                f"{after.iteration}"
            )
        if after.key != state.key:
            fault("the key has changed: the draws of a step depend on the key and the iteration")
        if after.parameters.layout != state.parameters.layout:
            fault(
                f"the layout of parameters is {after.parameters.layout}, and was "
                f"{state.parameters.layout} before"
            )
        kinds = [sorted(snapshot(s.optimizer_state, "state")) for s in (state, after)]
        if kinds[0] != kinds[1]:
            fault(f"the optimizer's state has {kinds[1]}, and had {kinds[0]} before")
        if not math.isfinite(info.cost):
            fault(f"the cost is {info.cost!r}")
        train_step(after, batch)
    with trial.law("parts") as fault:
        *_, (_, last) = trace(train_step, state, batch)
        mismatch = difference(
            snapshot((last.after, last.info), "(state, info)"),
            snapshot(train_step(state, batch), "(state, info)"),
        )
        if mismatch:
            fault(f"as a whole, {mismatch} part by part")
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
        resumed = copy.deepcopy(states[2])
        for _ in range(2):
            resumed, _ = train_step(resumed, batch)
        mismatch = difference(snapshot(states[-1], "state"), snapshot(resumed, "state"))
        if mismatch:
            fault(f"resumed after two steps, {mismatch} straight through")
    for part in train_step.parts:
        if isinstance(part.inside, Sharding):
            with trial.law("shards") as fault:
                for text in _faults_of_shards(train_step, part, state, batch, adds_up):
                    fault(text)
    return trial.proof()


_TOLERANCE = 1e-10


def _faults_of_shards(
    train_step: TrainStep, part: Part, state: TrainState, batch: Batch, adds_up: bool | None
) -> Iterator[str]:
    sharding: Any = part.inside
    count, network = sharding.shards, sharding.network
    together = next(record for n, record in trace(train_step, state, batch) if n == part.name)
    total = ShardResult.of(together)
    copied = TrainStep(tuple(_copied(p) if p is part else p for p in train_step.parts))
    # The statistics of a step are the mean of the shards', so only the other two are sums.
    for how, own in (("in reverse order", train_step), ("by a copy", copied)):
        records = {s: own.of_shard(state, batch, s) for s in reversed(range(count))}
        again = add_up(ShardResult.of(records[s]) for s in range(count))
        for name in ("cost", "vector"):
            values = (snapshot(getattr(r, name), name) for r in (again, total))
            if mismatch := difference(*values):
                yield f"computed {how}, {mismatch} in the step: a shard depends on another one"
    if network.random:
        first, second = (train_step.of_shard(state, _alike(batch, count), s).AL for s in (0, 1))
        if first.tobytes() == second.tobytes():
            yield (
                "two shards with the same examples draw the same numbers: derive them from "
                "step_context(key, iteration, shard=step.shard)"
            )
    if adds_up is None:
        adds_up = not (network.random or network.mixes_examples or sharding.augment)
    if adds_up:
        run = sharding.alone(composed(part.parts))
        whole = ShardResult.of(run(Step(state, batch, Shard(0, 1, 1.0))))
        for name in ("cost", "vector"):
            ours, theirs = (np.atleast_1d(getattr(r, name)) for r in (total, whole))
            if mismatch := deviation(theirs, ours, tolerance=_TOLERANCE):
                what = {"vector": "gradients"}.get(name, name)
                yield f"the {what} of all shards{mismatch}, which the whole batch gives"


def _copied(part: Part) -> Part:
    """The part as another process makes it again; the part itself if it cannot be pickled."""
    if part.inside is not None:
        return part.inside.part(tuple(map(_copied, part.parts)))
    try:
        make, arguments, *_ = part.__reduce__()
    except BadInput:
        return part
    made: Part = make(*arguments)
    return made


def _alike(batch: Batch, shards: int) -> Batch:
    """A batch of which every shard has the same examples: the first ones of `batch`."""
    which = np.tile(np.arange(batch.count // shards), shards)
    return batch.take(which)


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
    """Check all laws of a schedule.

    - *value*: a finite number of 0 or more at every iteration;
    - *purity*: it depends on the iteration only, not on the order of calls;
    - *description*: a schedule built from its description does the same.

    Args:
        schedule: The schedule to check.
        iterations: Number of iterations to try, from 0 on.

    Returns:
        The proof: which laws hold.

    Raises:
        BrokenLaw: If a law is broken; it lists all faults by law.
        BadInput: If it is not a schedule.

    Example:
        >>> from pydnn.testing import assert_schedule
        >>> assert_schedule(nn.one_cycle(0.1, steps=50)).laws
        ('value', 'purity', 'description')
    """
    if not isinstance(schedule, Schedule):
        raise BadInput(f"got {schedule!r}, expected a schedule: call its builder.")
    expect_count("iterations", iterations, hint="give the number of iterations to try")
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
        mismatch = difference(snapshot(values, "value"), snapshot(backwards, "value"))
        if mismatch:
            fault(f"called from the last iteration to the first, {mismatch} from first to last")
    if schedule.description is not None:
        with trial.law("description") as fault:
            built = build(describe(schedule), family="schedule")
            again = [built(i) for i in range(iterations)]
            mismatch = difference(snapshot(values, "value"), snapshot(again, "value"))
            if mismatch:
                fault(f"built again, {mismatch} before")
    return trial.proof()
