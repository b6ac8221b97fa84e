"""Replay: whether the steps of a run come out again as they were recorded, to the last bit.

A segment is verified alone, from the state of the one before it, so that many can be at once. If
every segment follows from the one before it, and the first from the recipe, then so does the run.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import attrs

from pydnn.checks import BadInput, expect_count
from pydnn.data import DataSet
from pydnn.fingerprints import checksum
from pydnn.keys import Key
from pydnn.recipes import steps
from pydnn.records import Batch
from pydnn.runs.mismatches import Mismatch, mismatches, state_mismatch
from pydnn.runs.recorded import Prepare, Run
from pydnn.runs.rows import rows_of
from pydnn.runs.segments import Segment
from pydnn.runs.states import state_fingerprint
from pydnn.training import NotFinite, TrainState

__all__ = ["Verified", "sampled", "verify"]


@attrs.frozen
class Verified:
    """One segment that was computed again.

    Attributes:
        number: The segment's, from 0, which is the initial state.
        iteration: That of its state.
        steps: How many were computed.
        fingerprint: Of the state that was computed.
        mismatch: The first number that was not the recorded one; None where all bits were.
        measured: The first one that people can read, where that is another: a cost, say, where a
            checksum had already told.
    """

    number: int
    iteration: int
    steps: int
    fingerprint: str
    mismatch: Mismatch | None
    measured: Mismatch | None = None


def verify(run: Run, numbers: Sequence[int] | None = None, *, jobs: int = 1) -> Iterator[Verified]:
    """Compute segments of `run` again, each from the one before it, in their order.

    Args:
        run: The run, which has its data.
        numbers: Of the segments; by default all of them, from number 0, which is compared with
            the initial state that the recipe gives.
        jobs: Processes that share the work, each with the BLAS threads that this one has. As with
            all that starts processes, a script that asks for more than one guards its main part.

    Raises:
        BadInput: If there is no segment of a number.
    """
    chosen = range(len(run.segments)) if numbers is None else numbers
    for number in chosen:
        if not 0 <= number < len(run.segments):
            raise BadInput(
                f"there is no segment {number}: {run.path} has 0 to {len(run.segments) - 1}."
            )
    expect_count("jobs", jobs, hint="give the number of processes")
    if jobs == 1 or len(chosen) < 2:
        return (_verified(run, number) for number in chosen)
    return _shared(run, list(chosen), min(jobs, len(chosen)))


def sampled(run: Run, count: int, key: Key) -> list[int]:
    """The numbers of so many segments that are drawn from all but the first, in their order."""
    count = expect_count("sample", count, hint="give the number of segments")
    others = len(run.segments) - 1
    if not others:
        raise BadInput(f"{run.path} has no steps to sample from: train it further.")
    return sorted(1 + int(i) for i in key.at("sample").permutation(others)[:count])


def _verified(run: Run, number: int) -> Verified:
    segment = run.segments[number]
    found: list[Mismatch] = []
    here = run.job.state
    if number > 0:
        here, found = _computed(run, segment, run.stored(run.segments[number - 1]))
    if not found:
        unlike = state_mismatch(run.stored(segment), here, step=segment.iteration - 1)
        found = [unlike] if unlike else []
    return Verified(
        number,
        segment.iteration,
        segment.iteration - segment.start,
        state_fingerprint(here),
        found[0] if found else None,
        next((m for m in found[1:] if found[0].ulps is None and m.ulps is not None), None),
    )


def _computed(run: Run, segment: Segment, state: TrainState) -> tuple[TrainState, list[Mismatch]]:
    """The state that the steps of a segment lead to, and the numbers that were not recorded so."""
    seen = []
    stream = steps(attrs.evolve(run.job, state=state))
    failed = []
    try:
        for state, info in itertools.islice(stream, segment.iteration - segment.start):
            seen.append((info, checksum(state.parameters.vector)))
    except NotFinite as error:
        failed.append(Mismatch(error.iteration, f"finiteness, in {error.where},", None, None))
    here = rows_of(seen, start=segment.start)
    return state, [*mismatches(segment.rows(), here), *failed]


# More than one process


def _shared(run: Run, numbers: list[int], jobs: int) -> Iterator[Verified]:
    given = run.given if not isinstance(run.given, DataSet | Batch) else run.data
    # New processes, not copies of this one, whose BLAS may be in the middle of something.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs,
        mp_context=context,
        initializer=_open,
        initargs=(run.path, given, run.prepare, run.anyway, run.allow),
    ) as pool:
        try:
            yield from pool.map(_verified_here, numbers)
        except BrokenProcessPool as error:
            raise BadInput(
                f"a process that verified {run.path} has died: use fewer of them, or free memory."
            ) from error


_opened: dict[str, Run] = {}


def _open(path: Path, data: Any, prepare: Prepare, anyway: bool, allow: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is this process's maker that is interrupted
    _opened["run"] = Run.open(path, data=data, prepare=prepare, anyway=anyway, allow=allow)


def _verified_here(number: int) -> Verified:
    return _verified(_opened["run"], number)
