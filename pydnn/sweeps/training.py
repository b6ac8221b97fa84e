"""Trains jobs to their ends, one after the other or as a stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

from pydnn.engines import working
from pydnn.jobs.job import Job, watching
from pydnn.jobs.parts import out_of_patience
from pydnn.jobs.training import Trained, train
from pydnn.sweeps.stacked_layout import rows_of
from pydnn.sweeps.stacks import Stack, StackInfo, stack_of
from pydnn.training import NotFinite, TrainState, scan, tee
from pydnn.training.finite import LONG, all_finite, ignoring_overflow, remembers_numbers

__all__ = ["Ended", "OnProgress", "run_one_by_one", "run_stacked"]

OnProgress = Callable[[int], object]  # called with the number of steps done since the last call
Ended = Iterator[tuple[int, Trained]]  # the places of jobs and their results, in order of ending


def run_one_by_one(jobs: Sequence[Job], on_progress: OnProgress) -> Ended:
    """Train jobs one after the other."""
    for place, job in enumerate(jobs):
        trained = train(
            job, through=partial(tee, to=lambda state, info: on_progress(1)), ending=(NotFinite,)
        )
        on_progress(job.recipe.iterations - len(trained.costs))
        yield place, trained


def run_stacked(jobs: Sequence[Job], on_progress: OnProgress) -> Ended:
    """Train jobs as a stack; a job that ends leaves the stack, and the others go on."""
    stack = stack_of(jobs)
    live = [(place, _Follow(job)) for place, job in enumerate(jobs)]  # in the order of the stack
    while live:
        state, ends = _until_one_ends(stack, [follow for _, follow in live], on_progress)
        jobs[0].files.expect_unchanged()
        for row, end in ends.items():
            place, _ = live[row]
            on_progress(jobs[place].recipe.iterations - len(end.costs))
            yield place, end
        left = [row for row in range(len(live)) if row not in ends]
        live = [live[row] for row in left]
        if left:
            stack = stack_of(
                [attrs.evolve(stack.jobs[r], state=stack.state_of(r, state)) for r in left]
            )


@attrs.frozen(eq=False)
class _Row:
    """The state of one training, still inside a stack.

    Early stopping looks only at its iteration. A copy is taken out of the stack once, at the end,
    and not at each step that is the best so far.
    """

    stack: Stack
    row: int
    state: TrainState

    @property
    def iteration(self) -> int:
        return self.state.iteration

    def taken(self) -> TrainState:
        return self.stack.state_of(self.row, self.state)


class _Follow:
    """Collects the costs of one training of a stack, and watches for early stopping."""

    def __init__(self, job: Job) -> None:
        self.costs: list[float] = []
        self._job, self._watched = job, watching(job)

    def after(
        self, stack: Stack, row: int, state: TrainState, info: StackInfo, cost: float
    ) -> Trained | None:
        """Take note of a step, and return the result of the training if it stops early here."""
        self.costs.append(cost)
        recipe = self._job.recipe
        if not recipe.patience:
            return None
        own, every = stack.info_of(row, info), recipe.evaluate_every
        if every and state.iteration % every == 0:
            measured = self._job.evaluation()(stack.state_of(row, state))
            own = attrs.evolve(own, measured=measured)
        in_stack: Any = _Row(stack, row, state)
        self._watched = self._watched.after(in_stack, own)
        early = out_of_patience(recipe, self._watched)
        return self.end(stack, row, state) if early else None

    def end(
        self, stack: Stack, row: int, state: TrainState, error: NotFinite | None = None
    ) -> Trained:
        """Return the result of the training, whose last state is inside this one of the stack."""
        last = stack.state_of(row, state)
        best: Any = self._watched.kept if self._job.recipe.patience else None
        kept = best.taken() if isinstance(best, _Row) else best or last
        stopped = out_of_patience(self._job.recipe, self._watched)
        costs = np.array(self.costs, np.float64)
        return Trained(self._job, kept, last, costs, error, out_of_patience=stopped)


def _until_one_ends(
    stack: Stack, follows: Sequence[_Follow], on_progress: OnProgress
) -> tuple[TrainState, dict[int, Trained]]:
    """Fold the step of the stack until a training ends; return the state and the ends by row."""
    before = stack.state
    updates = stack.jobs[0].recipe.iterations - before.iteration
    work = stack.jobs[0].work_of(updates) * len(stack.jobs)
    with working(work), ignoring_overflow():
        for after, info in scan(stack.train_step, stack.state, stack.batches):
            ends = {
                row: follows[row].end(stack, row, before, _lost(stack, row, before))
                for row in _not_finite(stack, after, info)
            }
            costs = zip(follows, info.costs.tolist(), strict=True)
            for row, (follow, cost) in enumerate(costs):
                if row not in ends and (end := follow.after(stack, row, after, info, cost)):
                    ends[row] = end
            on_progress(len(follows) - len(ends))
            if ends:
                return after, ends
            before = after
    return before, {row: follow.end(stack, row, before) for row, follow in enumerate(follows)}


def _not_finite(stack: Stack, after: TrainState, info: StackInfo) -> list[int]:
    """Return the rows of trainings that diverged, by the numbers that `watch_finite` checks."""
    finite = np.isfinite(info.costs) & np.isfinite(info.gradient_norms)
    long = np.flatnonzero(finite & (info.gradient_norms >= LONG))
    vector, numerics = after.parameters.vector, stack.jobs[0].numerics
    if np.all(finite) and not long.size and all_finite(vector, numerics):
        return []
    finite &= [all_finite(row, numerics) for row in rows_of(stack.layout, vector)]
    for row in long.tolist():
        finite[row] &= remembers_numbers(stack.state_of(row, after).optimizer_state)
    return np.flatnonzero(~finite).tolist()


def _lost(stack: Stack, row: int, before: TrainState) -> NotFinite:
    """Return the error that a training alone raises in the step after which it is not finite."""
    job, state = stack.jobs[row], stack.state_of(row, before)
    try:
        job.train_step(state, job.batching.at(job.data["train"], state.key, state.iteration))
    except NotFinite as error:
        return error
    raise AssertionError("a training has other bits in the stack than alone")
