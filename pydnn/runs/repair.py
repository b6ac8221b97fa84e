"""Repairing the folder of a run: damaged files are restored from the other files.

Damaged files move to the folder `set-aside`; nothing is deleted. Each segment holds the texts of
the recipe and of its environment, so these files can be written again. A lost segment is computed
again from the one before it, the first from the recipe. The result is accepted only if the segment
after it holds its fingerprint.
"""

from __future__ import annotations

import contextlib
import itertools
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from pydnn.checks import BadInput
from pydnn.fingerprints import checksum
from pydnn.jobs.job import steps
from pydnn.runs.folder import SEGMENTS, SET_ASIDE, Fault, expect_real_folder, free_name
from pydnn.runs.history import Rows, rows_of
from pydnn.runs.run import Run
from pydnn.runs.segments import Segment, Texts, following, write_segment
from pydnn.storage.files import write_text
from pydnn.storage.run_files import MODEL_FILE
from pydnn.training import NotFinite, TrainState

__all__ = ["Repaired", "no_model", "repair"]


@attrs.frozen
class Repaired:
    """The changes that `repair` made in the folder of a run.

    Attributes:
        set_aside: The damaged files: their new paths, and the reasons.
        restored: The files that were written again.
    """

    set_aside: tuple[Fault, ...]
    restored: tuple[Path, ...]


def repair(run: Run, environment: str) -> Repaired:
    """Restore what can be restored in the folder of `run`, which must be read again afterwards.

    If a lost segment cannot be computed again, the segments after it are set aside, too, and the
    training computes them again.

    Args:
        run: The run, whose folder this process has locked.
        environment: The text of this process's environment.

    Raises:
        BadInput: If a file cannot be moved or written.
    """
    folder = run.folder
    left = [Fault(path, f"{path} was left half-written.") for path in folder.left_behind]
    left += filter(None, [no_model(folder.path)])
    lost = None if folder.gap is None else _lost_segment(run, environment)
    moved = [*_set_aside(folder.path, [*folder.faults, *left])]
    if folder.gap is not None and lost is None:
        follows = "{} follows a damaged segment."
        after = [Fault(s.path, follows.format(s.path)) for s in folder.later]
        moved += _set_aside(folder.path, after)
    restored = []
    for name, text in folder.lost.items():
        write_text(folder.path / name, text)
        restored.append(folder.path / name)
    if lost is not None:
        segment, state, rows, texts = lost
        exchanged = Fault(segment.path, f"{segment.path} is not the segment of this run.")
        moved += _set_aside(folder.path, [exchanged])
        write_segment(segment, state, rows, texts)
        restored.append(segment.path)
    return Repaired(tuple(moved), tuple(restored))


def no_model(path: Path) -> Fault | None:
    """The fault if anything but a regular file has the name of the run's model; else None."""
    model = path / MODEL_FILE
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(model.lstat().st_mode):
            return Fault(model, f"{model} is not a regular file, expected the model.")
    return None


_Lost = tuple[Segment, TrainState, Rows, Texts | None]


def _lost_segment(run: Run, environment: str) -> _Lost | None:
    """The missing segment before the end of the gap, computed again; None if it is not the same."""
    folder = run.folder
    after = folder.later[0] if folder.later else None
    if after is None and folder.segments:
        return None  # the end is missing, and the training will compute it
    stop = after.start if after else 0
    before = [segment for segment in folder.segments if segment.iteration < stop]
    if stop and not before:
        return None
    start = before[-1].iteration if before else 0
    state = run.state(start) if before else run.job.state
    taken = []
    try:
        stream = steps(attrs.evolve(run.job, state=state))
        for state, info in itertools.islice(stream, stop - start):
            taken.append((info, checksum(state.parameters.vector)))
    except NotFinite:
        return None
    rows = rows_of(taken, start=start)
    # The header of the lost segment also held an environment and a goal. They are those of one of
    # its neighbors, or of this process, or the recipe's: the fingerprint shows which.
    beside = [*before[-1:], *([after] if after else [])]
    texts = [folder.environment_texts.get(segment.environment) for segment in beside]
    for text, goal in itertools.product(
        dict.fromkeys([*filter(None, texts), environment]),
        dict.fromkeys([*(segment.goal for segment in beside), run.recipe.iterations]),
    ):
        held = Texts(folder.text, text)
        segment = following(
            folder.path / SEGMENTS,
            state,
            rows,
            before=before[-1].fingerprint if before else folder.text_sha256,
            texts=held,
            goal=goal,
        )
        # A segment of pydnn 0.1.0 holds no texts, and has no entry for the recipe.
        for same in (segment, *_of_old_format(segment, beside)):
            if after is None or same.fingerprint == after.before:
                return same, state, rows, None if same.recipe is None else held
    return None


def _of_old_format(segment: Segment, beside: list[Segment]) -> Iterator[Segment]:
    for environment in dict.fromkeys(s.environment for s in beside if s.recipe is None):
        yield attrs.evolve(segment, recipe=None, environment=environment)


def _set_aside(path: Path, faults: list[Fault]) -> Iterator[Fault]:
    """Move files into the folder `set-aside`, and yield their new paths with the reasons."""
    aside = path / SET_ASIDE
    for fault in faults:
        try:
            fault.path.lstat()
        except OSError:
            continue  # the fault is that the file is missing
        try:
            expect_real_folder(aside)
            aside.mkdir(exist_ok=True)
            yield Fault(fault.path.rename(free_name(aside, fault.path.name)), fault.message)
        except OSError as error:
            raise BadInput(
                f"{fault.path} cannot be moved to {aside} ({error.strerror}): move it by hand."
            ) from error
