"""Run one case in this process, and say what is wrong with how pydnn answered it."""

import contextlib
import functools
import io
import os
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import attrs
from fuzz.cases import Case, lay, make_case
from fuzz.damage import STRANGE_MODULES
from fuzz.world import EVIL

from pydnn.cli import main

try:
    import resource
except ImportError:  # on Windows
    resource = None

SECONDS, BYTES, LETTERS = 5.0, 500 << 20, 1100
_DIFFERENCE = {"replay", "diff", "doctor"}  # may say by exit status 1 that bits differ


@attrs.frozen
class Answer:
    """What a command did: its status, or the exception that escaped; both streams; CPU time."""

    status: int | None
    out: str
    err: str
    escaped: str = ""
    seconds: float = 0.0


def faults(
    seed: int, number: int, world: Path, *, announce: Callable[[Case], object], keep: bool = False
) -> tuple[Case, Answer, list[str]]:
    """Make and run a case, and list what is wrong with the answer: nothing, where all is well.

    Args:
        seed: Of all cases.
        number: Of this one.
        world: The folder of the sound files, in which one for this case is made.
        announce: Called with the case before it is run, which may end the process.
        keep: Whether the folder of the case stays, as it was before it was run.
    """
    here = world / f"case-{os.getpid()}"
    before, memory = _files(world), peak_memory()
    try:
        shutil.copytree(world / "here", here)
        _enter(here)
        case = make_case(seed, number, world, here)
        announce(case)
        answer = _run(case.argv)
        wrong = _complaints(case, answer)
        if not (here / "elsewhere").is_dir() or any((here / "elsewhere").iterdir()):
            wrong.append("wrote through a link out of the run's folder")
        if case.judged and answer.status == 0:
            sound = _sound_output(case.argv, case.needs, world)
            if _comparable(answer.out) != sound:
                wrong.append("success, but not what the sound files say")
    finally:
        os.chdir(world)
        if not keep:
            shutil.rmtree(here, ignore_errors=True)
    evil = world / EVIL
    if evil.exists():
        wrong.append("a stranger's module was run")
        evil.unlink()
    for name in STRANGE_MODULES & set(sys.modules):
        wrong.append(f"imported {name}")
        del sys.modules[name]
    if peak_memory() - memory > BYTES:
        wrong.append(f"took {(peak_memory() - memory) >> 20} MiB more than before")
    if _files(world) - {EVIL} != before - {EVIL}:
        wrong.append("changed files that it was not to change")
    return case, answer, wrong


def peak_memory() -> int:
    """The most bytes that this process has held so far; 0 where nobody counts."""
    if resource is None:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most * (1 if sys.platform == "darwin" else 1024))


def _enter(here):
    """Make the folder that a command is run in, with a pipe in it, and a folder to stay out of."""
    here.mkdir(exist_ok=True)
    (here / "elsewhere").mkdir()
    os.chdir(here)
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")


def _files(world):
    return {path.name for path in world.iterdir() if not path.name.startswith("case-")}


def _run(argv):
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    escaped, status, begin = "", None, time.process_time()
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with streams[0], streams[1], warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            status = main(list(argv))
        except SystemExit as stop:  # argparse
            status = stop.code
        except BaseException as error:
            escaped = "".join(traceback.format_exception(error, limit=-3))
    seconds = time.process_time() - begin
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Answer(status, *texts, escaped, seconds)


def _complaints(case, answer):
    wrong = []
    if answer.escaped:
        return [f"escaped: {answer.escaped.splitlines()[-1][:200]}"]
    allowed = (0, 1, 2) if case.argv[0] in _DIFFERENCE else (0, 2)
    if answer.status not in allowed:
        wrong.append(f"status {answer.status}")
    *others, last = answer.err.removesuffix("\n").split("\n")
    if answer.status == 2 and not last.startswith("pydnn"):
        wrong.append("status 2 without a last line that says why")
    # Progress is printed there too, and warnings of pydnn's; nothing else is to be.
    for line in (*others, last) if answer.err else ():
        if not line.isprintable():
            wrong.append(f"not printable: {line[:200]!r}")
        elif len(line) > LETTERS:
            wrong.append(f"a line of {len(line)} letters: {line[:80]}")
        elif not line.startswith(("pydnn", "training", "iteration", "after", "resuming")):
            wrong.append(f"a strange line: {line[:200]}")
    strange = [line for line in answer.out.split("\n") if not line.isprintable()]
    if strange and case.argv[0] != "train":
        wrong.append(f"not printable: {strange[0][:200]!r}")
    if answer.seconds > SECONDS:
        wrong.append(f"took {answer.seconds:.1f} s")
    if answer.status != 2 and "there is not enough memory (" in answer.err:
        wrong.append("ran out of memory")
    return wrong


@functools.cache
def _sound_output(argv, needs, world):
    here = world / f"case-{os.getpid()}-sound"
    _enter(here)
    try:
        lay(world, here, needs)
        answer = _run(argv)
    finally:
        os.chdir(world)
        shutil.rmtree(here)
    if answer.status != 0:
        raise RuntimeError(f"pydnn {' '.join(argv)} failed on sound input: {answer}")
    return _comparable(answer.out)


def _comparable(out):
    """The output without what differs from one time to the next."""
    return re.sub(r'\d+\.\d s\b|"seconds": [\d.e-]+', "", out)
