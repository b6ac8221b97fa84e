"""`pydnn replay`: repeat a run and compare every step with the record, bit for bit."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from pydnn.checks import BadInput, Json
from pydnn.cli.output import complain, say, say_json
from pydnn.cli.run_options import (
    Commands,
    add_mapped_option,
    add_run_options,
    model_of,
    option_group,
)
from pydnn.cli.worker_options import add_worker_options, executor_of
from pydnn.keys import Key
from pydnn.runs import Run
from pydnn.runs.diff import difference_from_run
from pydnn.runs.environment_changes import what_to_expect
from pydnn.runs.mismatches import Mismatch, bits_of
from pydnn.runs.replay import Verified, sampled, verify
from pydnn.runs.verified import note_verified
from pydnn.storage.run_files import MODEL_FILE

if TYPE_CHECKING:
    from pydnn.workers import Executor

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "replay",
        help="repeat a run and compare every step, bit for bit",
        description="Repeat a run from its recipe, and compare the cost, gradient norm and "
        "parameters of every step with the recorded ones, bit for bit. A note of it stays in the "
        "run's folder, for pydnn report. Exit status: 0 if all are the same, 1 if not.",
    )
    add_run_options(parser, example="runs/0001")
    verified = option_group(parser, "how much to verify", "runs/0001 --sample 5 --jobs 2")
    which = verified.add_mutually_exclusive_group()
    which.add_argument(
        "--segments",
        metavar="N,N",
        help="only these segments, each from the one before it; 0 is the initial state",
    )
    which.add_argument("--sample", type=int, metavar="N", help="only N segments, drawn at random")
    verified.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="verify in N processes (default: 1); short for --executor processes --workers N",
    )
    add_mapped_option(parser)
    add_worker_options(parser, example="runs/0001 --cluster tcp://scheduler:8786")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.jobs != 1 and (args.executor or args.workers or args.cluster):
        raise BadInput(
            f"--jobs is {args.jobs}, but --executor, --workers or --cluster is present too, "
            "expected one of them: leave --jobs out."
        )
    with executor_of(args) as executor:
        return _replayed(args, executor)


def _replayed(args: argparse.Namespace, executor: Executor | None) -> int:
    opened = Run.open(
        args.folder, data=args.data, anyway=args.anyway, allow=args.allow, mapped=args.mapped
    )
    # `_expected` prints what has changed since the run was recorded, and the replay goes on.
    run = attrs.evolve(opened, anyway=True)
    if not args.anyway:
        run.expect_own_step()  # a step with other parts differs, whatever the machine does
    numbers = _numbers(args, run)
    run.numerics.expect_sound()  # before the line below promises the same bits everywhere
    expected = _expected(run)
    verifying = verify(run, numbers, jobs=args.jobs, executor=executor)
    begin = time.perf_counter()
    if not args.json:
        say(f"replaying {_what(run, numbers)}")
        if run.numerics.exact:
            say("its arithmetic is portable, so every machine computes exactly these bits")
    done: list[Verified] = []
    for verified in verifying:
        done.append(verified)
        if verified.mismatch:
            break
    mismatch = done[-1].mismatch
    foreign = None if mismatch else _foreign_model(args, run)
    seconds = time.perf_counter() - begin
    noted = _noted(run, done, foreign, by=_workers(args, executor))
    if args.json:
        results = _as_json(run, done, mismatch, expected, seconds)
        say_json({**results, "foreign_model": foreign, "noted": str(noted) if noted else None})
    elif mismatch:
        say(*filter(None, (mismatch, done[-1].measured)))
        if run.numerics.exact:  # this process computes soundly, as `expect_sound` has checked
            say(f"{args.folder} does not repeat: a record or the code has changed")
        else:
            say(f"{args.folder} does not repeat here")
    else:
        steps = sum(verified.steps for verified in done)
        say(f"{_verdict(done, steps)}, {seconds:.1f} s")
        if foreign:
            say(foreign)
    return 1 if mismatch or foreign else 0


def _noted(run: Run, done: list[Verified], foreign: str | None, *, by: str) -> Path | None:
    """The file of the note in the run's folder; None if it cannot be written, which is no harm."""
    try:
        now = datetime.now(UTC)
        return note_verified(run, done, when=now, by=by, difference=foreign or "")
    except BadInput as error:
        complain(f"the run gets no note of this replay: {error}")
        return None


def _workers(args: argparse.Namespace, executor: Executor | None) -> str:
    """Who computes, in words."""
    count = args.jobs if executor is None else executor.workers
    if args.cluster is not None:
        return f"a Dask cluster of {count} worker{'' if count == 1 else 's'}"
    kind = args.executor or ("serial" if executor is None and count == 1 else "processes")
    one = {"serial": "this process", "threads": "1 thread", "processes": "1 process"}
    return one[kind] if count == 1 else f"{count} {kind}"


def _foreign_model(args: argparse.Namespace, run: Run) -> str | None:
    """Why the model in the run's folder is not this run's result; None if it is, or is absent.

    This also reads an old model without a checksum, since it compares every number of it.
    """
    path = run.path / MODEL_FILE
    if not path.is_symlink() and not path.exists():
        return None
    try:
        model = model_of(run.path, allow=args.allow, unverified=True)
        different = difference_from_run(model, run)
    except BadInput as error:
        return str(error)
    advice = f"write it again with pydnn resume {run.path}"
    return different and f"{path} is not the result of this run, as {different} shows: {advice}"


def _verdict(done: list[Verified], steps: int) -> str:
    unchecked = _unchecked(done)
    if not unchecked:
        return f"all bits of {steps} steps are the recorded ones"
    names = ", ".join(map(repr, unchecked))
    return (
        f"the bits of {steps} steps are the recorded ones, except {names}, which were not "
        "computed again because the recipe does not measure them"
    )


def _unchecked(done: list[Verified]) -> list[str]:
    return list(dict.fromkeys(name for verified in done for name in verified.unchecked))


def _numbers(args: argparse.Namespace, run: Run) -> Sequence[int] | None:
    if args.sample is not None:
        # A command may use real chance, and prints which segments it drew.
        return sampled(run, args.sample, Key(secrets.randbits(64)))
    if args.segments is None:
        return None
    try:
        return sorted({int(part) for part in args.segments.split(",")})
    except ValueError:
        raise BadInput(
            f"--segments is {args.segments!r}, expected numbers, separated by commas: "
            "give e.g. --segments 3,7."
        ) from None


def _expected(run: Run) -> list[str]:
    """Why the bits may differ from the recorded ones, also printed before anything is computed."""
    here = run.environment_here
    different = (what_to_expect(there, here) for there in run.environments)
    expected = [*run.changes, *filter(None, different)]
    for line in expected:
        complain(line)
    return expected


def _what(run: Run, numbers: Sequence[int] | None) -> str:
    if numbers is None:
        count = len(run.segments) - 1
        pieces = "1 segment" if count == 1 else f"{count} segments"
        return f"{run.iterations} steps of {run.path}, in {pieces}"
    return f"segments {', '.join(map(str, numbers))} of {run.path}"


def _as_json(
    run: Run,
    done: list[Verified],
    mismatch: Mismatch | None,
    expected: list[str],
    seconds: float,
) -> dict[str, Json]:
    return {
        "run": str(run.path),
        "same": mismatch is None,
        "segments": [verified.number for verified in done],
        "steps": sum(verified.steps for verified in done),
        "fingerprint": done[-1].fingerprint,
        "recorded_fingerprint": run.segments[done[-1].number].state_sha256,
        "not_computed": _unchecked(done),
        "difference": None if mismatch is None else _plain(mismatch),
        "expected": expected,
        "numerics": run.recipe.numerics,
        "seconds": seconds,
    }


def _plain(mismatch: Mismatch) -> dict[str, Json]:
    return {
        "step": mismatch.step,
        "quantity": mismatch.quantity,
        "recorded": bits_of(mismatch.recorded),
        "here": bits_of(mismatch.here),
        "ulps": mismatch.ulps,
        "ulps_of": mismatch.dtype,
    }
