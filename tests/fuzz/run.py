"""Fuzz pydnn: `python tests/fuzz/run.py --seconds 240`, or one case again: `--seed 1 --case 77`.

Cases run in processes of their own, one for each core and many cases in each. The parent starts
one again when it dies or hangs, and blames the case that it was at.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
STALLED = 60.0  # seconds without an answer: far more than 5, since others use the machine, too
_SETTING_UP = 120.0  # seconds that the sound files, or those of one case, may take at most
_MOST_MEMORY = 3 << 30  # a case that asks for more is refused it, so that the machine lives on


def fuzz(
    seed: int,
    first: int,
    stop: int,
    *,
    seconds: float = math.inf,
    stalled: float = STALLED,
    keep: Path | None = None,
    lanes: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Run the cases from `first` to before `stop`, or as many as there is time for.

    Args:
        seed: Of all cases.
        first: Number of the first.
        stop: That after the last.
        seconds: No case begins after this time; by default all of them run.
        stalled: Seconds after which a case without an answer hangs.
        keep: A folder for the files, which stay there; by default they are removed.
        lanes: The number of processes, of which each makes the sound files; by default one per
            core.

    Yields:
        Of each case its number, "what" was damaged, "argv", the "status", and what is "wrong".
    """
    deadline = time.monotonic() + seconds
    count = 1 if keep else min(lanes or _cores(), stop - first)
    verdicts: queue.SimpleQueue[Any] = queue.SimpleQueue()
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_in_memory())))
        stack.callback(over.set)
        for lane in range(count):
            options = {"seed": seed, "first": first + lane, "stop": stop, "step": count}
            options |= {"keep": keep, "worker": keep} if keep else {"worker": folder / f"{lane}"}
            work = functools.partial(_lane, options, deadline, stalled, over, verdicts.put)
            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(thread.join)
        stack.callback(over.set)  # before the threads are joined
        while count:
            verdict = verdicts.get()
            if isinstance(verdict, BaseException):
                raise verdict
            if verdict is None:
                count -= 1
            else:
                yield verdict


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _in_memory():
    """A folder in memory, where there is one: thousands of folders come and go."""
    folder = Path("/dev/shm")
    with contextlib.suppress(OSError, AttributeError):
        status = os.statvfs(folder)
        if status.f_bavail * status.f_frsize > _MOST_MEMORY and os.access(folder, os.W_OK):
            return folder
    return None


def _lane(options, deadline, stalled, over, put):
    """Put the verdicts on every so many cases, then None; or the error that ended the lane."""
    try:
        options["worker"].mkdir(exist_ok=True)
        while options["first"] < options["stop"] and time.monotonic() < deadline:
            before = options["first"]
            for verdict in _of_one_process(options, deadline, stalled):
                options["first"] = verdict["case"] + options["step"]
                put(verdict)
                if over.is_set():
                    return
            if options["first"] == before:
                raise RuntimeError("the process of the cases ended without a verdict")
        put(None)
    except BaseException as error:
        put(error)


def _of_one_process(options, deadline, stalled):
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, *(f"--{name}={value}" for name, value in options.items())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_environment(options["worker"]),
    )
    current = None
    try:
        for line in _lines(process.stdout, stalled):
            message = json.loads(line)
            if "broken" in message:
                raise RuntimeError(f"the fuzz test itself failed: {message['broken']}")
            if "wrong" not in message:
                current = message
                continue
            current = None
            yield message
            if time.monotonic() > deadline:
                return
        if current:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            ended = process.returncode
            why = "hangs" if ended is None else f"the process ended with status {ended}"
            yield current | {"status": None, "wrong": [why]}
        elif ended := process.wait(_SETTING_UP):
            raise RuntimeError(f"the fuzz test itself ended with status {ended}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _lines(pipe, stalled) -> Iterator[bytes]:
    """The lines from a pipe until it ends, or is silent for too long after one or between two."""
    buffer, patience = b"", _SETTING_UP
    while select.select([pipe], [], [], patience)[0] and (read := os.read(pipe.fileno(), 65536)):
        *lines, buffer = (buffer + read).split(b"\n")
        yield from lines
        if lines:
            patience = _SETTING_UP if b'"wrong": ' in lines[-1] else stalled


def _environment(folder):
    path = [TESTS.parent, TESTS, Path(folder) / "path"]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "OPENBLAS_NUM_THREADS": "1",
        "BROWSER": "true",
    }


def _work(world: Path, seed: int, numbers: range, *, keep: bool) -> None:
    """What the process of the cases does: a line before each, and one after it."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a case prints there gets lost
    from fuzz import judge
    from fuzz import world as worlds

    from pydnn import cli
    from pydnn.runs import environment

    # The same in every case, and most of the time that a command of so small a run takes.
    environment.arithmetic_fingerprint = _once_each(environment.arithmetic_fingerprint)
    environment._versions = functools.cache(environment._versions)
    cli._parser = functools.cache(cli._parser)
    if not (world / "here").exists():
        os.chdir(world)
        worlds.make_world(world)
    os.dup2(1, 2)
    _limit_memory()

    def say(number, case, **more):
        message = {"case": number, "what": case.what, "argv": case.argv} | more
        print(json.dumps(message), file=out, flush=True)

    try:
        for number in numbers:
            case, answer, wrong = judge.faults(
                seed, number, world, announce=functools.partial(say, number), keep=keep
            )
            said = (answer.escaped or answer.err or answer.out)[-1500:] if wrong or keep else ""
            say(number, case, status=answer.status, seconds=answer.seconds, wrong=wrong, said=said)
            if any("MiB" in fault for fault in wrong):
                return  # the next one could not tell its own from this
    except Exception:
        print(
            json.dumps({"broken": f"case {number}: {traceback.format_exc()}"}), file=out, flush=True
        )


def _once_each(function):
    results = {}

    def once(numerics):
        if id(numerics) not in results:
            results[id(numerics)] = function(numerics)
        return dict(results[id(numerics)])

    return once


def _limit_memory():
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_MEMORY,) * 2)


def _main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all cases (default: 1)")
    parser.add_argument("--case", type=int, help="run this one alone")
    parser.add_argument("--keep", type=Path, help="a new folder, for the files of --case")
    parser.add_argument("--first", type=int, default=0, help="of the cases to run")
    parser.add_argument("--stop", type=int, default=1_000_000, help="after the last of them")
    parser.add_argument("--seconds", type=float, default=240, help="for all (default: 240)")
    parser.add_argument("--stalled", type=float, default=STALLED, help="seconds that are a hang")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        numbers = range(args.first, args.stop, args.step)
        _work(args.worker, args.seed, numbers, keep=args.keep is not None)
        return
    if args.case is not None:
        args.first, args.stop = args.case, args.case + 1
    if args.keep:
        args.keep.mkdir()
    count = 0
    span = (args.seed, args.first, args.stop)
    for verdict in fuzz(*span, seconds=args.seconds, stalled=args.stalled, keep=args.keep):
        count += 1
        if verdict["wrong"] or args.case is not None:
            print(json.dumps(verdict), flush=True)
    print(f"{count} cases")


if __name__ == "__main__":
    _main()
