"""Replay: compute the steps of a run again, and compare them with the record bit for bit.

Each segment is verified alone, from the state of the one before it, so several can be verified at
the same time. If every segment follows from the one before it, and the first from the recipe, then
the whole run follows from the recipe.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.fingerprints import checksum
from pydnn.jobs.job import Job, steps
from pydnn.keys import Key
from pydnn.runs.history import rows_of
from pydnn.runs.mismatches import Mismatch, fingerprint_mismatch, mismatches, state_mismatch
from pydnn.runs.run import Run
from pydnn.runs.segments import Segment
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.training import NotFinite, TrainState

__all__ = ["Verified", "sampled", "verify"]


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


def verify(run: Run, numbers: Sequence[int] | None = None, *, jobs: int = 1) -> Iterator[Verified]:
    """Compute segments of `run` again, each from the one before it, and yield the results in order.

    Args:
        run: The run.
        numbers: The numbers of the segments; by default all. Number 0 is compared with the initial
            state that follows from the recipe.
        jobs: The number of processes that share the work, each with as many BLAS threads as this
            one. A script that asks for several must guard its main part with
            `if __name__ == "__main__":`.

    Raises:
        BadInput: If there is no segment of that number.
    """
    chosen = range(len(run.segments)) if numbers is None else numbers
    for number in chosen:
        if not 0 <= number < len(run.segments):
            raise BadInput(
                f"there is no segment {number}: {run.path} has 0 to {len(run.segments) - 1}."
            )
    expect_count("jobs", jobs, hint="give the number of processes")
    groups = _groups(run, list(chosen))
    if jobs == 1 or len(groups) < 2:
        return _verified_in_turn(run, list(chosen))
    return _shared(run, groups, min(jobs, len(groups)))


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


def _verified_in_turn(run: Run, numbers: list[int]) -> Iterator[Verified]:
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
    stream = steps(attrs.evolve(run.job, state=state))
    failed = []
    try:
        for state, info in itertools.islice(stream, segment.iteration - segment.start):
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


# More than one process


def _shared(run: Run, groups: list[list[int]], jobs: int) -> Iterator[Verified]:
    # New processes instead of forks, because BLAS threads of this one may hold locks.
    context = multiprocessing.get_context("spawn")
    arguments = (pickle.dumps(run),)
    pool: ProcessPoolExecutor | None = None
    try:
        with _importing_nothing_from_here():  # all processes are started here
            pool = ProcessPoolExecutor(
                jobs, mp_context=context, initializer=_open, initargs=arguments
            )
            reports = pool.map(_verified_here, groups)
        for group, report in zip(groups, reports, strict=True):
            yield from _expected_report(report, group)
    except (BrokenProcessPool, OSError, EOFError) as error:
        # Any of these three, because a pipe to a dying process breaks in several ways.
        raise BadInput(
            f"a process that verified {run.path} has died: use fewer of them, or free memory."
        ) from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _importing_nothing_from_here() -> Iterator[None]:
    """Keep Pythons that are started in this context from importing from the current folder.

    `multiprocessing` starts them with `python -c`, which would look in the current folder first. A
    stranger may have put a `multiprocessing.py` there. After the start, they get the import path of
    this process.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


_SAFE_PATH = "PYTHONSAFEPATH"


def _expected_report(report: object, group: list[int]) -> list[Verified]:
    """The report of a process about a group of segments.

    Raises:
        BadInput: If the report is about anything else.
    """
    match report:
        case [*reports]:
            verified = [one for one in reports if isinstance(one, Verified)]
            if len(verified) == len(reports) and [one.number for one in verified] == group:
                return verified
    raise BadInput(
        f"a process that verified segments {', '.join(map(str, group))} reported something else: "
        "use --jobs 1."
    )


_opened: dict[str, Run] = {}


def _open(pickled: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interruptions
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _opened["run"] = pickle.loads(pickled)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, however the parent ended.

    `join` waits for the parent's end through a pipe or a handle, depending on the system.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _verified_here(group: list[int]) -> list[Verified]:
    return list(_verified_in_turn(_opened["run"], group))
