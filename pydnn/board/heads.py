"""What a list shows of a run, and its curves, read from few of its files and remembered.

Nothing here takes the lock of a run, imports anything on its behalf or computes a step.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from pydnn.board.finding import Found, find_runs
from pydnn.board.memory import Memory
from pydnn.checks import BadInput, first_line
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import read_toml, toml_of
from pydnn.records import FloatArray, keep_readonly
from pydnn.runs.folder import SEGMENTS, expect_run_folder
from pydnn.runs.history import SHOWN, Rows
from pydnn.runs.live import LiveRow, live_names, read_live
from pydnn.runs.segments import Segment, read_segment
from pydnn.storage.files import read_small_text
from pydnn.storage.run_files import RECIPE

__all__ = ["Catalog", "Curves", "Head", "Listing"]

_KEYS = frozenset(field.name for field in attrs.fields(Recipe))
_SEGMENT = re.compile(r"[0-9]{10,16}\.h5")
_END = re.compile(r"end-[0-9]{10,16}\.json")
_VERIFIED = 1 << 25  # bytes: of a larger segment, only what is read is verified
_SILENT = 20.0  # seconds without a row or a segment, after which a run may have been cut off
_MOST_NUMBERS = 8_000_000  # in all curves that are remembered
_MOST_HEADS = 20_000
_SECONDS = 1.4  # that a list may take to read runs which it does not know yet


@attrs.frozen
class Head:
    """What a list shows of a run.

    Attributes:
        found: Where it is.
        recipe: The values of its recipe as texts and numbers, by key.
        recorded: The number of steps in segments.
        goal: The number of steps that the training is meant to have.
        why: Why the training ended; "" if it has not.
        values: The last numbers by name, e.g. "cost" and "validation accuracy".
        live: The newest rows, if segments do not hold them yet.
        changed: When a file last changed, in seconds since 1970.
        problem: What is wrong with the run, on one line; "" if nothing is.
        known: Whether the run has been read.
    """

    found: Found
    recipe: Mapping[str, object] = attrs.field(factory=dict)
    recorded: int = 0
    goal: int = 0
    why: str = ""
    values: Mapping[str, float] = attrs.field(factory=dict)
    live: tuple[LiveRow, ...] = ()
    changed: float = 0.0
    problem: str = ""
    known: bool = True

    @property
    def name(self) -> str:
        """The name of the run below the folder of all runs."""
        return self.found.name

    @property
    def planned(self) -> bool:
        """Whether it has not begun: a sweep plans it."""
        return bool(self.found.planned)

    @property
    def steps(self) -> int:
        """The number of steps so far, with those that no segment holds yet."""
        return self.live[-1].step + 1 if self.live else self.recorded

    @property
    def speed(self) -> float:
        """The steps in a second lately; NaN if it is not known."""
        if len(self.live) < 2:
            return math.nan
        last = self.live[-1]
        # Over some seconds if there are as many; all lines of one write have the same time.
        first = next(
            (r for r in reversed(self.live) if r.seconds <= last.seconds - 5), self.live[0]
        )
        passed = last.seconds - first.seconds
        return (last.step - first.step) / passed if passed > 0 else math.nan

    def silent(self, now: float) -> float:
        """The seconds since the last sign of the training."""
        return max(0.0, now - self.changed)

    def training(self, now: float) -> bool:
        """Whether a process seems to be training it."""
        return self.known and not self.problem and not self.why and self.silent(now) < _SILENT


@attrs.frozen
class Listing:
    """The runs below a folder at one moment.

    Attributes:
        heads: The runs, in the order of their names.
        now: The moment, in seconds since 1970.
    """

    heads: Sequence[Head]
    now: float

    @property
    def unread(self) -> int:
        """How many runs have not been read yet, because there are many."""
        return sum(not head.known for head in self.heads)

    @property
    def training(self) -> list[Head]:
        """The runs that seem to be training."""
        return [head for head in self.heads if head.training(self.now)]


@keep_readonly
@attrs.frozen(eq=False)
class Curves:
    """The numbers of a run over its steps.

    Attributes:
        columns: The iterations and the values by the name of the number, as `Rows.curves` has them.
        problem: What is wrong, on one line; "" if nothing is.
    """

    columns: Mapping[str, tuple[FloatArray, FloatArray]]
    problem: str = ""


class Catalog:
    """The runs below a folder, as far as they are read; several threads may use it."""

    def __init__(self, root: Path) -> None:
        """Begin with nothing read.

        Args:
            root: The folder.
        """
        self.root = root.resolve()
        self._heads: Memory[Head] = Memory(most=_MOST_HEADS)
        self._rows: Memory[Rows] = Memory(most=_MOST_NUMBERS, size=_numbers_in)
        self._live: Memory[list[LiveRow]] = Memory(most=1000)

    def listing(
        self,
        *,
        seconds: float = _SECONDS,
        first: Callable[[Sequence[Found]], Sequence[Found]] = lambda runs: (),
    ) -> Listing:
        """All runs; those that cannot be read within some seconds are without content.

        Args:
            seconds: How long it may take.
            first: A function that returns the runs to read first. Of the others, those come first
                whose files have changed last, which may be training.
        """
        until = time.monotonic() + seconds
        runs = find_runs(self.root)
        files = {found.path: _files_of(found.path) for found in runs}
        latest = sorted(runs, key=lambda found: -files[found.path].changed)
        heads: dict[Path, Head] = {}
        for found in (*first(runs), *latest):
            if found.path not in heads:
                own = files[found.path]
                know = own.stamp in self._heads or time.monotonic() < until
                heads[found.path] = self._head(found, own) if know else Head(found, known=False)
        return Listing([heads[found.path] for found in runs], time.time())

    def found(self, name: str) -> Found:
        """The run of a name.

        Raises:
            BadInput: If there is no run of that name below the folder.
        """
        for found in find_runs(self.root):
            if found.name == name:
                return attrs.evolve(found, path=self._inside(found.path))
        raise BadInput(f"there is no run {name} below {self.root}: go back to the list.")

    def sweep(self, name: str) -> Path:
        """The folder of the sweep of a name.

        Raises:
            BadInput: If there is no sweep of that name with a run below the folder.
        """
        for found in find_runs(self.root):
            if found.sweep == name and name:
                return self._inside(found.path.parent)
        raise BadInput(f"there is no sweep {name} below {self.root}: go back to the list.")

    def _inside(self, path: Path) -> Path:
        """A path that was found, unless somebody has put a link there since."""
        if path.resolve() != path:
            raise BadInput(f"{path} leads to another place, which is not shown: move it there.")
        return path

    def head(self, name: str) -> Head:
        """What a list shows of the run of a name.

        Raises:
            BadInput: If there is no such run.
        """
        found = self.found(name)
        return self._head(found, _files_of(found.path))

    def _head(self, found: Found, files: _Files) -> Head:
        def read() -> Head:
            try:
                return self._read_head(found, files)
            except Exception as error:  # a file of a stranger must not end the list of all runs
                return Head(found, problem=_reason(error), changed=files.changed)

        head = self._heads.get(files.stamp, read)
        live = tuple(self._live_rows(files, after=head.recorded))
        if not live:
            return head
        values: dict[str, float] = dict(head.values)
        for row in live:
            values |= row.values
        why = ""  # a resumed training goes on after its end
        return attrs.evolve(head, live=live, values=values, why=why, changed=files.changed)

    def _read_head(self, found: Found, files: _Files) -> Head:
        if not found.planned:
            expect_run_folder(found.path)
        text = found.planned or read_small_text(found.path / RECIPE, links=False, exact=True)
        plain = read_toml(text)
        recipe = {
            name: value if isinstance(value, str | int | float) else toml_of(value)
            for name, value in plain.items()
            if name in _KEYS
        }
        goal = plain.get("iterations")
        head = Head(
            found,
            recipe,
            goal=goal if type(goal) is int else 0,
            changed=files.changed,
        )
        if found.planned:
            return head
        if not files.segments:
            raise BadInput(f"{found.path} has no segment: it is damaged.")
        segment = _read(found.path / SEGMENTS / files.segments[-1])
        why = ""
        if files.ends and int(files.ends[-1][4:-5]) == segment.iteration:
            why = _why(found.path / files.ends[-1])
        return attrs.evolve(
            head,
            recorded=segment.iteration,
            goal=segment.goal,
            values=segment.last_numbers(),
            why=why,
        )

    def _live_rows(self, files: _Files, *, after: int) -> list[LiveRow]:
        if files.live is None:
            return []
        path, stamp = files.live
        try:
            rows = self._live.get((path, stamp), lambda: read_live(path))
        except (BadInput, OSError):  # the next segment has been written just now
            return []
        return [row for row in rows if row.step >= after]

    def curves(self, name: str) -> Curves:
        """The numbers of all steps of a run, with those that no segment holds yet.

        Raises:
            BadInput: If there is no run of that name.
        """
        found = self.found(name)
        files = _files_of(found.path)
        parts: list[Rows] = []
        problem = ""
        if found.planned:
            return Curves({})
        try:
            expect_run_folder(found.path)
            for file in files.segments:
                rows = self._rows_in(found.path / SEGMENTS / file)
                if rows.start != (parts[-1].stop if parts else 0):
                    raise BadInput(f"{found.path} lacks the segment before {file}: restore it.")
                parts.append(rows)
        except Exception as error:
            problem = _reason(error)
        recorded = parts[-1].stop if parts else 0
        live = self._live_rows(files, after=recorded)
        return Curves(_columns(parts, live), problem)

    def _rows_in(self, path: Path) -> Rows:
        return self._rows.get((path, _stamp(path)), lambda: _read(path).rows())


@attrs.frozen
class _Files:
    """The files of a run that its head is read from, and what shows whether they have changed."""

    segments: tuple[str, ...]
    ends: tuple[str, ...]
    live: tuple[Path, Hashable] | None
    stamp: Hashable
    changed: float


def _files_of(path: Path) -> _Files:
    names, inside = _names_in(path), _names_in(path / SEGMENTS)
    segments = sorted(filter(_SEGMENT.fullmatch, inside), key=lambda name: int(name[:-3]))
    ends = sorted(filter(_END.fullmatch, names), key=lambda name: int(name[4:-5]))
    lives = live_names(names)
    # Texts, because a list of thousands of runs would spend most of its time on Path objects.
    read = [RECIPE, *(f"{SEGMENTS}/{name}" for name in segments[-1:]), *ends[-1:]]
    stamps = [_stamp(f"{path}/{file}") for file in read]
    live = [(path / name, _stamp(f"{path}/{name}")) for name in lives[-1:]]
    changed = max(stamp[0] for stamp in (*stamps, *(stamp for _, stamp in live))) / 1e9
    return _Files(tuple(segments), tuple(ends), live[0] if live else None, (path, *stamps), changed)


def _reason(error: Exception) -> str:
    """What is wrong with a file, on one line."""
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, OSError):
        return first_line(error)
    return f"its files cannot be read ({type(error).__name__}: {first_line(error)})"


def _names_in(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []


def _stamp(path: str | Path) -> tuple[int, int]:
    """The time of the last change of a file in nanoseconds, and its size."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return status.st_mtime_ns, status.st_size
    return 0, -1


def _read(path: Path) -> Segment:
    return read_segment(path, whole=_stamp(path)[1] <= _VERIFIED)


def _why(path: Path) -> str:
    """The reason in the file that records the end of a training, without verifying it."""
    with contextlib.suppress(ValueError, RecursionError):  # which BadInput is, too
        plain = json.loads(read_small_text(path, links=False, exact=True))
        if isinstance(plain, dict) and isinstance(why := plain.get("why"), str):
            return why
    return "the reason cannot be read"


def _numbers_in(rows: Rows) -> int:
    columns = sum(2 * len(column.steps) for column in rows.columns.values())
    return 3 * len(rows) + columns + 1000


def _columns(
    parts: Sequence[Rows], live: Sequence[LiveRow]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    pieces: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for rows in parts:
        at = np.arange(rows.start, rows.stop, dtype=np.float64)
        for name in SHOWN:
            pieces.setdefault(name, []).append((at, rows.always[name]))
        for (_, name), (steps, values) in rows.curves.items():
            pieces.setdefault(name, []).append((steps.astype(np.float64), values))
    newest: dict[str, list[tuple[int, float]]] = {}
    for row in live:
        for name, value in row.values.items():
            newest.setdefault(name, []).append((row.step + (name in row.measured), value))
    for name, pairs in newest.items():
        iterations, numbers = np.array(pairs, np.float64).T
        pieces.setdefault(name, []).append((iterations, numbers))
    return {
        name: (np.concatenate([a for a, _ in of_one]), np.concatenate([b for _, b in of_one]))
        for name, of_one in pieces.items()
    }
