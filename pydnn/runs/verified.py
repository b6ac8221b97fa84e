"""What has been verified of a run: each replay leaves a small file in the folder of the run.

    verified-0001.json            when, which steps, by what, and whether all bits were the same

Each file is written once, and the oldest ones go when there are more than 50. No bit of the run
depends on them. A damaged one is left out, and a line says so.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeGuard

import attrs

from pydnn.checks import BadInput, NameTaken, is_count, printable
from pydnn.runs.environment import Environment, plain, read_environment
from pydnn.runs.replay import Verified
from pydnn.runs.run import Run
from pydnn.runs.segments import sha256_of
from pydnn.storage.files import RESTORE, is_free, read_small_text, write_text

__all__ = ["Verification", "note_verified", "verifications_of"]

_FILE = re.compile(r"verified-([0-9]{4,9})\.json")
_MOST = 50  # files
_MOST_RANGES = 100  # of one file; samples of a long run may have more
_TRIES = 100  # names, if other replays of the run end at the same time
_LONGEST = 500  # characters of a text
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@attrs.frozen
class Verification:
    """The outcome of one replay of a run.

    Attributes:
        when: When it ended, in UTC, e.g. "2026-11-29T08:15:00Z".
        by: Who computed, e.g. "4 processes".
        steps: The number of steps that were computed again.
        ranges: Those steps, as ranges from a first step up to but without another; the first 100.
        iteration: The iteration of the last segment that was compared.
        fingerprint: The recorded fingerprint of that segment, which stands for all before it.
        difference: The first thing that differs from the record, in words; "" if all bits are the
            same.
        not_computed: The recorded measurements that could not be computed again.
        environment: Versions, machine and arithmetic fingerprint of the process that computed.
    """

    when: str
    by: str
    steps: int
    ranges: tuple[tuple[int, int], ...]
    iteration: int
    fingerprint: str
    difference: str
    not_computed: tuple[str, ...]
    environment: Environment

    @property
    def same(self) -> bool:
        """Whether all computed bits are the recorded ones."""
        return not self.difference


def note_verified(
    run: Run,
    done: Sequence[Verified],
    *,
    when: datetime,
    by: str = "this process",
    difference: object = "",
    environment: Environment | None = None,
) -> Path:
    """Leave a note of a replay in the folder of the run, and return its file.

    Args:
        run: The run.
        done: What `verify` yielded.
        when: When the replay ended, with a time zone.
        by: Who computed, e.g. "4 processes".
        difference: What else differs, e.g. the model beside the record; "" if nothing does.
        environment: The environment of the process that computed, by default that of this one.

    Raises:
        BadInput: If nothing was verified, or the file cannot be written.

    Example:
        >>> from datetime import UTC, datetime
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> data = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> job = nn.jobs.prepare(recipe, data)
        >>> with nn.runs.create_run("verified", job, data) as recording:
        ...     for state, info in nn.runs.record(recording, nn.jobs.run(job)):
        ...         pass
        >>> run = nn.Run.open("verified", data=data)
        >>> done = list(nn.runs.verify(run))
        >>> note_verified(run, done, when=datetime(2026, 11, 29, tzinfo=UTC)).name
        'verified-0001.json'
        >>> [(one.when, one.steps, one.same) for one in verifications_of(run)[0]]
        [('2026-11-29T00:00:00Z', 5, True)]
    """
    if not done:
        raise BadInput("no segment was verified, expected one or more: give what verify yielded.")
    last = done[-1]
    different = last.mismatch or difference
    one = Verification(
        when=when.astimezone(UTC).strftime(_TIME),
        by=plain(by),
        steps=sum(verified.steps for verified in done),
        ranges=tuple(_ranges(done))[:_MOST_RANGES],
        iteration=last.iteration,
        fingerprint=run.segments[last.number].fingerprint,
        difference=printable(different or "", most=_LONGEST),
        not_computed=tuple(
            dict.fromkeys(
                printable(name, most=_LONGEST) for verified in done for name in verified.unchecked
            )
        ),
        environment=environment or run.environment_here,
    )
    text = _text_of(one)
    numbers = _numbers(run.path)
    first = max(numbers, default=0) + 1
    for number in range(first, first + _TRIES):
        path = run.path / f"verified-{number:04}.json"
        if not is_free(path):
            continue
        with contextlib.suppress(NameTaken):
            write_text(path, text)
            break
    else:
        raise BadInput(f"{path} exists already, expected a new name: replay the run again.")
    for old in sorted(numbers)[: max(0, len(numbers) + 1 - _MOST)]:
        with contextlib.suppress(OSError):  # another replay may have removed it
            (run.path / f"verified-{old:04}.json").unlink()
    return path


def verifications_of(run: Run) -> tuple[list[Verification], list[str]]:
    """The notes that replays of a run have left, the newest first, and what is wrong with others.

    A note is believed only if its text has its checksum, and the run still has the segment that it
    is about.
    """
    known, wrong = [], []
    for number in sorted(_numbers(run.path), reverse=True)[:_MOST]:
        path = run.path / f"verified-{number:04}.json"
        try:
            one = _read(path)
            segment = run.folder.segment_at(one.iteration)
            if segment is None or segment.fingerprint != one.fingerprint:
                raise BadInput(f"{path} is about other steps than this run has: remove it.")
            known.append(one)
        except BadInput as error:
            wrong.append(str(error))
    return known, wrong


def _numbers(folder: Path) -> list[int]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise BadInput(f"{folder} cannot be read ({error.strerror}): check the path.") from error
    matches = map(_FILE.fullmatch, names)
    return [
        int(match[1])
        for match in matches
        if match and match[0] == f"verified-{int(match[1]):04}.json"
    ]


def _ranges(done: Iterable[Verified]) -> list[tuple[int, int]]:
    """The verified steps as ranges, of which those that touch are one."""
    ranges: list[tuple[int, int]] = []
    for start, stop in sorted((one.iteration - one.steps, one.iteration) for one in done):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(stop, ranges[-1][1])
        elif start < stop:
            ranges.append((start, stop))
    return ranges


def _text_of(one: Verification) -> str:
    text = json.dumps(attrs.asdict(one))
    return json.dumps({**json.loads(text), "sha256": sha256_of(text)}) + "\n"


def _read(path: Path) -> Verification:
    text = read_small_text(path, links=False, exact=True)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}): {RESTORE}, or remove it.") from error
    match plain:
        case {
            "when": str(when),
            "by": str(by),
            "steps": steps,
            "ranges": [*ranges],
            "iteration": iteration,
            "fingerprint": str(fingerprint),
            "difference": str(difference),
            "not_computed": [*names],
            "environment": dict(environment),
        } if (
            is_count(steps)
            and is_count(iteration)
            and all(map(_is_range, ranges))
            and len(ranges) <= _MOST_RANGES
            and _is_time(when)
            and all(map(_is_text, (by, fingerprint, difference, *names)))
        ):
            one = Verification(
                when,
                by,
                steps,
                tuple((start, stop) for start, stop in ranges),
                iteration,
                fingerprint,
                difference,
                tuple(names),
                read_environment(json.dumps(environment), str(path)),
            )
            if text == _text_of(one):
                return one
            raise BadInput(f"sha256 in {path} is not that of its text: {RESTORE}, or remove it.")
    raise BadInput(f"{path} does not say what was verified: {RESTORE}, or remove it.")


def _is_range(value: object) -> bool:
    match value:
        case [start, stop]:
            return is_count(start) and is_count(stop) and start < stop
    return False


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()


def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, _TIME).strftime(_TIME) == text
    except ValueError:
        return False
