"""The newest rows of a run while it is recorded, for readers in other processes.

A segment is written about 20 times in a whole training. In between, the recording process publishes
rows in a file of the run's folder, a few times a second: `live-0000000500.jsonl` holds rows of the
steps after the segment of iteration 500. Each line is a JSON list of the number of the step, the
seconds since this process began to record, the numbers of the step by name, and the names of those
that were measured after it:

    [512, 3.25, {"cost": 0.41, "gradient_norm": 1.5, "test cost": 0.5}, ["test cost"]]

The file only grows, by whole lines, and has a new name after the next segment. So a reader needs no
lock: it takes the lines that end, and ignores a last one that does not. If steps are fast, some
have no line; the next segment holds all of them. The file is removed once the segments hold all its
steps. It is no part of the record: nothing that verifies, replays or resumes a run reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from pydnn.checks import is_count
from pydnn.storage.files import open_regular
from pydnn.training import StepInfo, values_of

__all__ = ["LiveRow", "LiveWriter", "live_files", "live_names", "read_live", "remove_live"]

_SECONDS = 0.5  # between two writes
_LINES = 6  # of one write, and as many with measurements
_MOST_BYTES = 1 << 26  # of a file; one of another size is not ours
_MOST_NAMES = 1000  # of numbers in a row
_MOST_SECONDS = 1e12  # of a row, which also bounds whole numbers that no float holds
_LIVE = re.compile(r"live-[0-9]{10,16}\.jsonl")


@attrs.frozen
class LiveRow:
    """The numbers of one step.

    Attributes:
        step: The number of the step.
        seconds: The time since the recording process began to record.
        values: The numbers by name; see `values_of`.
        measured: The names of those that describe the state after the step.
    """

    step: int
    seconds: float
    values: Mapping[str, float]
    measured: tuple[str, ...] = ()


class LiveWriter:
    """Publishes rows of a run that this process is recording.

    Publishing never ends a training: if a file cannot be written, there is none until the next
    segment.

    Attributes:
        due: The time at which rows should be published next.
    """

    def __init__(self, run: Path, *, now: float, in_place: Callable[[], bool]) -> None:
        """Begin with no file.

        Args:
            run: The folder of the run.
            now: The time in seconds.
            in_place: A function that returns whether the folder is still the one that this process
                has locked.
        """
        self.due = self._begun = now
        self._run, self._in_place = run, in_place
        self._handle: int | None = None
        self._failed = False
        self._published = 0  # of the steps since the segment

    def publish(self, taken: Sequence[tuple[StepInfo, int]], *, after: int, now: float) -> None:
        """Append rows of the newest steps, the last one among them.

        Args:
            taken: The info of each step since the newest segment, and a checksum.
            after: The iteration of that segment.
            now: The time in seconds.
        """
        self.due = now + _SECONDS
        if self._failed:
            return
        new = taken[self._published :]
        self._published = len(taken)
        seconds = round(now - self._begun, 3)
        text = "".join(_line(info, seconds) for info in _chosen([info for info, _ in new]))
        self._failed = True  # also if an interruption leaves half a line at the end of the file
        with contextlib.suppress(OSError):
            if self._handle is None:
                self._handle = self._new_file(after)
            if self._handle is not None:
                content = text.encode()
                self._failed = os.write(self._handle, content) < len(content)

    def _new_file(self, after: int) -> int | None:
        if not self._in_place():
            return None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= sum(getattr(os, flag, 0) for flag in ("O_BINARY", "O_NOFOLLOW", "O_CLOEXEC"))
        return os.open(self._run / f"live-{after:010}.jsonl", flags, 0o666)

    def segment_written(self) -> None:
        """Remove the file, because a segment holds its rows now."""
        handle, self._handle = self._handle, None
        self._published, self._failed = 0, False
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)
        if self._in_place():
            remove_live(self._run)

    def close(self) -> None:
        """Close the file, and leave it in its place."""
        handle, self._handle = self._handle, None
        self._failed = True
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)


def _chosen(infos: Sequence[StepInfo]) -> Sequence[StepInfo]:
    """Some steps evenly spaced, the last one and those with measurements among them."""
    if len(infos) <= _LINES:
        return infos
    places = {len(infos) - 1 - i * len(infos) // _LINES for i in range(_LINES)}
    measured = [place for place, info in enumerate(infos) if info.measured]
    return [infos[place] for place in sorted({*places, *measured[-_LINES:]})]


def _line(info: StepInfo, seconds: float) -> str:
    return json.dumps([info.iteration, seconds, values_of(info), list(info.measured)]) + "\n"


def live_files(run: Path) -> list[Path]:
    """The files with live rows in the folder of a run, in the order of their segments.

    Only the last one matters. There may be others if a process was killed, or if the system does
    not remove a file that somebody reads.
    """
    try:
        return [run / name for name in live_names(os.listdir(run))]
    except OSError:
        return []


def live_names(names: Iterable[str]) -> list[str]:
    """The names of such files among those of a run's files, in the order of their segments."""
    return sorted(filter(_LIVE.fullmatch, names), key=lambda name: int(name[5:-6]))


def remove_live(run: Path) -> None:
    """Remove the files with live rows from the folder of a run that this process has locked."""
    for path in live_files(run):
        with contextlib.suppress(OSError):  # e.g. on Windows, while somebody reads it
            path.unlink()


def read_live(path: Path) -> list[LiveRow]:
    """The rows in a file of live rows, in the order of their steps.

    Reading ends before a line that is not complete, or not that of a later step.

    Raises:
        BadInput: If the file is missing, e.g. because the next segment was written just now, or
            is not a regular file of a plausible size.
    """
    with open_regular(path, what="a file of live rows", most=_MOST_BYTES, links=False) as file:
        content = file.read(_MOST_BYTES)
    rows: list[LiveRow] = []
    for line in content.split(b"\n")[:-1]:
        row = _read_line(line)
        if row is None or (rows and row.step <= rows[-1].step):
            break
        rows.append(row)
    return rows


def _read_line(line: bytes) -> LiveRow | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match plain:
        case [step, int() | float() as seconds, dict(values), list(measured)] if (
            is_count(step, least=0)
            and abs(seconds) < _MOST_SECONDS
            and len(values) <= _MOST_NAMES
            and all(type(value) is float for value in values.values())
            and len(measured) <= _MOST_NAMES
            and all(type(name) is str for name in measured)
        ):
            return LiveRow(step, float(seconds), values, tuple(measured))
    return None
