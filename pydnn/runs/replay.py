"""Replay: whether the steps of a run come out again as they were recorded, to the last bit.

A segment is verified alone, from the state of the one before it, so that many can be at once. If
every segment follows from the one before it, and the first from the recipe, then so does the run.
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
    """One segment that was computed again.

    Attributes:
        number: The segment's, from 0, which is the initial state.
        iteration: That of its state.
        steps: How many were computed.
        fingerprint: Of the state that was computed.
        mismatch: The first number that was not the recorded one; None where all bits were.
        measured: The first one that people can read, where that is another: a cost, say, where a
            checksum had already told.
        unchecked: Names of the recorded measurements that the recipe does not make, so that
            nothing here could compute them again.
    """

    number: int
    iteration: int
    steps: int
    fingerprint: str
    mismatch: Mismatch | None
    measured: Mismatch | None = None
    unchecked: tuple[str, ...] = ()


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
    groups = _groups(run, list(chosen))
    if jobs == 1 or len(groups) < 2:
        return _verified_in_turn(run, list(chosen))
    return _shared(run, groups, min(jobs, len(groups)))


def sampled(run: Run, count: int, key: Key) -> list[int]:
    """The numbers of so many segments that are drawn from all but the first, in their order."""
    count = expect_count("sample", count, hint="give the number of segments")
    others = len(run.segments) - 1
    if not others:
        raise BadInput(f"{run.path} has no steps to sample from: train it further.")
    return sorted(1 + int(i) for i in key.at("sample").permutation(others)[:count])


def _groups(run: Run, numbers: list[int]) -> list[list[int]]:
    """The numbers in groups, each of which begins where a state is stored."""
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
        # The stored states first: what does not fit the recipe must not be prepared.
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
    """What was found of a segment that begins at `state`, and the state that was computed."""
    segment = run.segments[number]
    found: list[Mismatch] = []
    unchecked: tuple[str, ...] = ()
    if state is None:
        here = run.job.state
    else:
        here, found, unchecked = _computed(run, segment, state)
    if not found:
        unlike = stored and state_mismatch(stored, here, step=segment.iteration - 1)
        unlike = unlike or fingerprint_mismatch(segment, here)
        found = [unlike] if unlike else []
    verified = Verified(
        number,
        segment.iteration,
        segment.iteration - segment.start,
        state_fingerprint(here),
        found[0] if found else None,
        next((m for m in found[1:] if found[0].ulps is None and m.ulps is not None), None),
        unchecked,
    )
    return verified, here


def _computed(
    run: Run, segment: Segment, state: TrainState
) -> tuple[TrainState, list[Mismatch], tuple[str, ...]]:
    """The state that a segment leads to, numbers that differ, and measurements not made here."""
    seen = []
    stream = steps(attrs.evolve(run.job, state=state))
    failed = []
    try:
        for state, info in itertools.islice(stream, segment.iteration - segment.start):
            seen.append((info, checksum(state.parameters.vector)))
    except NotFinite as error:
        failed.append(Mismatch(error.iteration, f"finiteness, in {error.where},", None, None))
    here = rows_of(seen, start=segment.start)
    recorded = segment.rows()
    named = [name for kind, name in recorded.columns if kind == "measured"]
    made = _measured(run.job, state) if named else set()
    unchecked = tuple(name for name in named if name not in made)
    found = mismatches(recorded, here, dtype=run.recipe.dtype, measured=made)
    return state, [*found, *failed], unchecked


def _measured(job: Job, state: TrainState) -> set[str]:
    """The names of all that the recipe measures of a state."""
    if not job.recipe.evaluate_every:
        return set()
    with np.errstate(all="ignore"):  # the names are all that matters
        return set(job.evaluation()(state))


# More than one process


def _shared(run: Run, groups: list[list[int]], jobs: int) -> Iterator[Verified]:
    # New processes, not copies of this one, whose BLAS may be in the middle of something.
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
        # Not only the first: a pipe to a process that dies breaks in several ways.
        raise BadInput(
            f"a process that verified {run.path} has died: use fewer of them, or free memory."
        ) from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _importing_nothing_from_here() -> Iterator[None]:
    """Have Pythons that are started now import nothing from the folder that this one is in.

    `python -c`, by which `multiprocessing` starts them, would look there first, where a stranger
    may have put a `multiprocessing.py`. They then get the import path of this process.
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
    """The report of a process, which must be of what it was asked.

    Raises:
        BadInput: If it is not.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this is interrupted
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _opened["run"] = pickle.loads(pickled)


def _end_with_parent() -> None:
    """End this process at once when the one that started it has ended, however that ended.

    It waits for the end of a pipe to the parent, or its handle, as systems have it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _verified_here(group: list[int]) -> list[Verified]:
    return list(_verified_in_turn(_opened["run"], group))
