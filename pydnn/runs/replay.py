"""Replay: compute the steps of a run again, and compare them with the record bit for bit.

Each segment is verified alone, from the state of the one before it, so several can be verified at
the same time. If every segment follows from the one before it, and the first from the recipe, then
the whole run follows from the recipe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.engines import at_work
from pydnn.fingerprints import checksum
from pydnn.jobs.job import Job, steps
from pydnn.jobs.work import work_of_update
from pydnn.keys import Key
from pydnn.runs.history import rows_of
from pydnn.runs.mismatches import Mismatch, fingerprint_mismatch, mismatches, state_mismatch
from pydnn.runs.run import Run
from pydnn.runs.segments import Segment
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.training import NotFinite, TrainState

if TYPE_CHECKING:
    from pydnn.workers import Executor

__all__ = ["Verified", "sampled", "verified_in_turn", "verify"]


@attrs.frozen
class Verified:
    """The result of computing one segment again.

    Attributes:
        number: The number of the segment; 0 is the initial state.
        iteration: The iteration of its state.
        steps: The number of steps that were computed.
        fingerprint: The fingerprint of the computed state.
        mismatch: The first number that differs from the record; None if all bits are the same.
        measured: The first difference that people can interpret, such as a cost, if `mismatch` is
            only a checksum.
        unchecked: The names of recorded measurements that the recipe does not make, so they could
            not be computed again.
    """

    number: int
    iteration: int
    steps: int
    fingerprint: str
    mismatch: Mismatch | None
    measured: Mismatch | None = None
    unchecked: tuple[str, ...] = ()


def verify(
    run: Run,
    numbers: Sequence[int] | None = None,
    *,
    jobs: int = 1,
    executor: Executor | None = None,
) -> Iterator[Verified]:
    """Compute segments of `run` again, each from the one before it, and yield the results in order.

    Args:
        run: The run.
        numbers: The numbers of the segments; by default all. Number 0 is compared with the initial
            state that follows from the recipe.
        jobs: The number of processes that share the work; short for an executor of processes.
        executor: The workers that share the work, e.g. `nn.workers.processes(4)`. They find the
            run and its data where this process finds them, and BLAS has as many threads there as
            here.

    Raises:
        BadInput: If there is no segment of that number, or a worker does not find the run.
    """
    chosen = range(len(run.segments)) if numbers is None else numbers
    for number in chosen:
        if not 0 <= number < len(run.segments):
            raise BadInput(
                f"there is no segment {number}: {run.path} has 0 to {len(run.segments) - 1}."
            )
    expect_count("jobs", jobs, hint="give the number of processes")
    groups = _groups(run, list(chosen))
    if executor is not None:
        return _at_work(run, chosen, executor.workers, _shared(run, groups, executor))
    if jobs == 1 or len(groups) < 2:
        return _at_work(run, chosen, 1, verified_in_turn(run, list(chosen)))
    jobs = min(jobs, len(groups))
    return _at_work(run, chosen, jobs, _by_processes(run, groups, jobs))


def _at_work(
    run: Run, numbers: Sequence[int], workers: int, verifying: Iterator[Verified]
) -> Iterator[Verified]:
    """The same results, computed by the engine for all segments that one worker computes."""
    work = 0.0  # as for one segment after the other
    with contextlib.suppress(BadInput):  # whoever computes from a damaged record says so
        segments = [run.segments[number] for number in numbers]
        updates = sum(segment.iteration - segment.start for segment in segments)
        pins = run.folder.pins
        examples = pins.data["train"]["X"].shape[-1]
        work = updates * work_of_update(run.recipe, pins.shape, examples) / max(1, workers)
    yield from at_work(work, verifying)


def _by_processes(run: Run, groups: list[list[int]], jobs: int) -> Iterator[Verified]:
    from pydnn.workers import processes

    with processes(jobs) as executor:
        yield from _shared(run, groups, executor)


def sampled(run: Run, count: int, key: Key) -> list[int]:
    """The numbers of `count` random segments, without the first one, in ascending order.

    Args:
        run: The run.
        count: The number of segments to draw, or more than there are to get them all.
        key: The source of randomness.
    """
    count = expect_count("sample", count, hint="give the number of segments")
    others = len(run.segments) - 1
    if not others:
        raise BadInput(f"{run.path} has no steps to sample from: train it further.")
    return sorted(1 + int(i) for i in key.at("sample").permutation(others)[:count])


def _groups(run: Run, numbers: list[int]) -> list[list[int]]:
    """The numbers in groups, so that each group begins after a stored state."""
    groups: list[list[int]] = []
    for number in numbers:
        follows = groups and groups[-1][-1] == number - 1
        if follows and not run.segments[number - 1].holds_state():
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def verified_in_turn(run: Run, numbers: Sequence[int]) -> Iterator[Verified]:
    """Compute segments of a run again, one after the other, in this thread."""
    before: tuple[int, TrainState] | None = None
    for number in numbers:
        segment = run.segments[number]
        # Stored states first: they refuse a recipe that they do not fit, before `run.job` is made.
        stored = run.stored(segment)
        state = run.stored(run.segments[number - 1]) if number else None
        if number and state is None:
            known, here = before or (None, None)
            state = here if known == number - 1 else run.state(run.segments[number - 1].iteration)
        verified, here = _verified(run, number, state, stored)
        before = number, here
        yield verified


def _verified(
    run: Run, number: int, state: TrainState | None, stored: TrainState | None
) -> tuple[Verified, TrainState]:
    """The result for a segment that begins at `state`, and the state that was computed."""
    segment = run.segments[number]
    different: list[Mismatch] = []
    unchecked: tuple[str, ...] = ()
    if state is None:
        here = run.job.state
    else:
        here, different, unchecked = _computed(run, segment, state)
    if not different:
        unlike = stored and state_mismatch(stored, here, step=segment.iteration - 1)
        unlike = unlike or fingerprint_mismatch(segment, here)
        different = [unlike] if unlike else []
    first = different[0] if different else None
    verified = Verified(
        number,
        segment.iteration,
        segment.iteration - segment.start,
        state_fingerprint(here),
        first,
        next(
            (m for m in different[1:] if first and first.ulps is None and m.ulps is not None), None
        ),
        unchecked,
    )
    return verified, here


def _computed(
    run: Run, segment: Segment, state: TrainState
) -> tuple[TrainState, list[Mismatch], tuple[str, ...]]:
    """The state after a segment, the numbers that differ, and the measurements not made here."""
    taken = []
    stream = steps(attrs.evolve(run.job, state=state), segment.iteration - segment.start)
    failed = []
    try:
        with run.as_recorded(segment.start):
            for state, info in stream:
                taken.append((info, checksum(state.parameters.vector)))
    except NotFinite as error:
        failed.append(Mismatch(error.iteration, f"finiteness, in {error.where},", None, None))
    here = rows_of(taken, start=segment.start)
    recorded = segment.rows()
    named = [name for kind, name in recorded.columns if kind == "measured"]
    made = _measured(run.job, state) if named else set()
    unchecked = tuple(name for name in named if name not in made)
    different = mismatches(recorded, here, dtype=run.recipe.dtype, measured=made)
    return state, [*different, *failed], unchecked


def _measured(job: Job, state: TrainState) -> set[str]:
    """The names of all measurements that the recipe makes of a state."""
    if not job.recipe.evaluate_every:
        return set()
    with np.errstate(all="ignore"):  # only the names matter
        return set(job.evaluation()(state))


# More than one worker


def _shared(run: Run, groups: list[list[int]], executor: Executor) -> Iterator[Verified]:
    from pydnn.runs.segment_tasks import task_of, verified_in  # most replays have one worker

    ready: dict[int, list[Verified]] = {}
    following = 0
    stream: Any = executor.each(task_of(run, group) for group in groups)
    with contextlib.closing(stream):
        for place, result in stream:
            ready[place] = verified_in(result, groups[place])
            while following in ready:
                yield from ready.pop(following)
                following += 1
