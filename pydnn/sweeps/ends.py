"""Runs to their ends: one after the other, or all those of a stack at once."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.numerics import fast
from pydnn.recipes import Job, run, stopping
from pydnn.records import Batch
from pydnn.sweeps.stacks import Stack, numerics_of, stack_of
from pydnn.training import NotFinite, StepInfo, TrainState, evaluation, scan, stop_early
from pydnn.training.streams import Measure

__all__ = ["End", "Told", "evaluation_of", "run_apart", "run_together"]

Told = Callable[[int], object]  # is called with how many steps of single runs are done since


@attrs.frozen(eq=False)
class End:
    """Where a run has got to.

    Attributes:
        kept: The state that is kept.
        costs: Of all its steps.
        stopped: What stopped it, if something did.
        lost: Whether that was a number that is not finite.
    """

    kept: TrainState
    costs: list[float]
    stopped: str = ""
    lost: bool = False


Ends = Iterator[tuple[int, End]]


def run_apart(jobs: Sequence[Job], told: Told) -> Ends:
    """Run jobs one after the other."""
    for place, job in enumerate(jobs):
        costs: list[float] = []
        kept, lost = job.state, ""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # NotFinite tells
                for state, info in run(job):
                    kept = state
                    if info.iteration == len(costs):  # early stopping hands back the best one
                        costs.append(info.cost)
                        told(1)
        except NotFinite as error:
            lost = str(error)
        told(job.recipe.iterations - len(costs))
        early = "stopped early" if len(costs) < job.recipe.iterations else ""
        yield place, End(kept, costs, lost or early, bool(lost))


def run_together(jobs: Sequence[Job], told: Told) -> Ends:
    """Run jobs all at once; whichever ends leaves the stack, and the others go on without it."""
    stack = stack_of(jobs)
    live = [(place, _Follow(job)) for place, job in enumerate(jobs)]  # by their rows in the stack
    while live:
        state, ends = _until_one_ends(stack, [follow for _, follow in live], told)
        for row, end in ends.items():
            place, _ = live[row]
            told(jobs[place].recipe.iterations - len(end.costs))
            yield place, end
        left = [row for row in range(len(live)) if row not in ends]
        live = [live[row] for row in left]
        if left:
            stack = stack_of(
                [attrs.evolve(stack.jobs[r], state=stack.state_of(r, state)) for r in left]
            )


class _Follow:
    """The costs of one run of a stack, and what its recipe watches in it."""

    def __init__(self, job: Job) -> None:
        self.costs: list[float] = []
        recipe = job.recipe
        self._job, self._every = job, recipe.evaluate_every
        self._pairs: collections.deque[Any] = collections.deque()
        self._stream: Any = None
        if recipe.patience:
            self._stream = stop_early(_drained(self._pairs), **stopping(recipe))

    def see(
        self, stack: Stack, row: int, after: TrainState, info: StepInfo, cost: float
    ) -> End | None:
        """Take note of a step; where it says that the run is to stop, that is its end."""
        if self._stream is None:
            self.costs.append(cost)
            return None
        own = stack.info_of(row, info)
        if self._every and after.iteration % self._every == 0:
            evaluate = evaluation_of(self._job, self._job.data)
            own = attrs.evolve(own, measured=evaluate(stack.state_of(row, after)))
        # The state is taken out of the stack when it turns out to be the best.
        pair = ((stack, row, after), own)
        self._pairs.append(pair)
        shown = next(self._stream)
        if shown is pair:
            self.costs.append(cost)
            return None
        return self._end_at(shown, "stopped early")

    def end(self, stack: Stack, row: int, state: TrainState) -> End:
        """The end of a run that has taken all its steps, of which `state` is the last."""
        best = self._stream and next(self._stream, None)
        return self._end_at(best or ((stack, row, state), None))

    def _end_at(self, pair: Any, stopped: str = "") -> End:
        (stack, row, state), _ = pair
        return End(stack.state_of(row, state), self.costs, stopped)


def evaluation_of(job: Job, data: Mapping[str, Batch]) -> Measure:
    """The function from a state of a job to cost and metrics on these data sets."""
    return evaluation(job.network, job.loss, data, numerics=numerics_of(job))


def _drained(pairs: collections.deque[Any]) -> Iterator[Any]:
    while pairs:
        yield pairs.popleft()


def _until_one_ends(
    stack: Stack, follows: Sequence[_Follow], told: Told
) -> tuple[TrainState, dict[int, End]]:
    """Fold the stack's step until a run of it ends; the state then, and the ends by row."""
    before = stack.state
    with np.errstate(over="ignore", invalid="ignore"):
        for after, info in scan(stack.train_step, stack.state, stack.batches):
            ends = {
                row: _lost(stack, row, before, follows[row].costs)
                for row in _not_finite(stack, after, info)
            }
            costs = np.asarray(info.cost).tolist()
            for row, (follow, cost) in enumerate(zip(follows, costs, strict=True)):
                if row not in ends and (end := follow.see(stack, row, after, info, cost)):
                    ends[row] = end
            told(len(follows) - len(ends))
            if ends:
                return after, ends
            before = after
    return before, {row: follow.end(stack, row, before) for row, follow in enumerate(follows)}


def _not_finite(stack: Stack, after: TrainState, info: StepInfo) -> list[int]:
    """The rows of runs of which a number that `watch_finite` looks at is not finite."""
    finite = np.isfinite(info.cost) & np.isfinite(info.gradient_norm)
    vector = after.parameters.vector
    if np.all(finite) and np.isfinite(fast.norm(vector)):
        return []
    finite &= np.isfinite([fast.norm(row) for row in stack.layout.rows(vector)])
    return np.flatnonzero(~finite).tolist()


def _lost(stack: Stack, row: int, before: TrainState, costs: list[float]) -> End:
    """The end of a run whose next step is not finite, in the words that it has for that itself."""
    job, state = stack.jobs[row], stack.state_of(row, before)
    try:
        job.train_step(state, job.batching.at(job.data["train"], state.key, state.iteration))
    except NotFinite as error:
        return End(state, costs, str(error), lost=True)
    raise AssertionError("a run of a stack has other bits than by itself")
