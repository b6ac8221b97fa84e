"""Finding the runs and sweeps below a folder, without following any link.

Trainings that a sweep plans and has not begun are found, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from pydnn.runs.folder import SEGMENTS
from pydnn.storage.run_files import RECIPE
from pydnn.sweeps.planned import PLANNED, read_planned
from pydnn.sweeps.recording import SWEEP_FILE

__all__ = ["Found", "find_runs"]

_MOST_FOLDERS = 100_000
_DEEPEST = 8


@attrs.frozen
class Found:
    """A folder that holds a run, or will hold it.

    Attributes:
        name: Its path below the folder of all runs, with "/" between its parts.
        path: Its path.
        sweep: The name of the sweep that it belongs to; "" if it belongs to none.
        planned: The text of its recipe if a sweep plans it and there is no folder yet; else "".
    """

    name: str
    path: Path
    sweep: str = ""
    planned: str = ""


def find_runs(root: Path) -> list[Found]:
    """All runs below a folder, or the run in it, in the order of their names.

    A folder with a recipe or with segments is a run, and what is inside it is not searched.
    """
    return sorted(_runs_in(root), key=lambda one: _natural(one.name))


def _runs_in(root: Path) -> Iterator[Found]:
    left = [(root, "", "", 0)]
    searched = 0
    while left and searched < _MOST_FOLDERS:
        path, name, sweep, depth = left.pop()
        searched += 1
        try:
            entries = list(os.scandir(path))
        except OSError:  # removed in the meantime, or not ours to read
            continue
        names = {entry.name for entry in entries}
        if RECIPE in names or SEGMENTS in names:
            yield Found(name or path.name, path, sweep)
            continue
        sweep = (name or path.name) if SWEEP_FILE in names else ""  # of the folders in this one
        if sweep and PLANNED in names:
            for run, recipe in read_planned(path).items():
                if run not in names:
                    yield Found(f"{name}/{run}" if name else run, path / run, sweep, recipe)
        if depth < _DEEPEST:
            left += [
                (
                    path / entry.name,
                    f"{name}/{entry.name}" if name else entry.name,
                    sweep,
                    depth + 1,
                )
                for entry in entries
                if not entry.name.startswith(".") and _is_folder(entry)
            ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _natural(name: str) -> list[str | int]:
    """A key that sorts numbers in names by their value: run-9 comes before run-10."""
    parts = re.split(r"([0-9]{1,18})", name)  # texts and numbers take turns, a text comes first
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
