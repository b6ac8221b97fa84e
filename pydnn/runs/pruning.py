"""Dropping states of a run to save space; fingerprints and rows, which prove the run, stay.

pydnn computes a state that is not stored again, from the nearest stored state before it or, for the
first, from the recipe. The newest state always stays, because training resumes from it. So does the
last state before each change of the environment, because no single machine can compute the states
on both sides of the change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import attrs

from pydnn.checks import AnyPath, BadInput, expect_count
from pydnn.runs.folder import FUNCTIONS, LOCK, SEGMENTS, expect_run_folder, read_folder
from pydnn.runs.segments import drop_state
from pydnn.storage.files import exclusive
from pydnn.storage.run_files import run_folder_of

__all__ = ["Pruned", "prune", "size_of", "thinned"]


@attrs.frozen
class Pruned:
    """The result of `prune`.

    Attributes:
        dropped: The iterations of the states that were dropped, or would be in a dry run.
        kept: The iterations of the states that stay.
        freed: The bytes that this frees.
        size: The bytes of the run's files afterwards.
    """

    dropped: tuple[int, ...]
    kept: tuple[int, ...]
    freed: int
    size: int


def prune(
    path: AnyPath,
    *,
    every: int | None = None,
    dry_run: bool = False,
    allow: Iterable[str] = (),
) -> Pruned:
    """Drop states of a run to save disk space, so that the run can still be replayed.

    The first state, the newest state and the last one before each change of the environment always
    stay. A dropped state is computed again when it is needed.

    Args:
        path: The folder of a run that no process is writing.
        every: Keep the state of every `every`-th segment as well; by default, of no other.
        dry_run: Whether to only report what would be dropped.
        allow: The names of the modules outside pydnn that the recipe may name; see `Run.open`.

    Raises:
        BadInput: If `path` is not a run, another process is writing it, or a file is damaged.
    """
    path = run_folder_of(path)
    if every is not None:
        expect_count("every", every, hint="give the number of segments from one state to the next")
    expect_run_folder(path)
    with exclusive(path / LOCK):
        folder = read_folder(
            path, anyway=True, allow=allow
        )  # changed functions do not matter: no step is computed
        if folder.problem is not None:
            raise BadInput(folder.problem.message)
        segments = folder.segments
        holding, staying = folder.holding, folder.staying
        staying |= set() if every is None else {one.iteration for one in segments[::every]}
        dropping = [segment for segment in holding if segment.iteration not in staying]
        freed = sum(segment.state_bytes() for segment in dropping)
        if not dry_run:
            for segment in dropping:
                drop_state(segment)
        size = size_of(path) - (freed if dry_run else 0)
    kept = tuple(segment.iteration for segment in holding if segment not in dropping)
    return Pruned(tuple(segment.iteration for segment in dropping), kept, freed, size)


def size_of(path: Path) -> int:
    """The bytes of all files of a run, without the files that were set aside."""
    folders = filter(Path.is_dir, (path, path / SEGMENTS, path / FUNCTIONS))
    return sum(file.lstat().st_size for part in folders for file in part.iterdir())


def thinned(
    held: Sequence[int],
    size: Callable[[], int],
    drop: Callable[[int], None],
    *,
    most: int,
    staying: Collection[int] = (),
) -> list[int]:
    """Drop states until the segments have at most `most` bytes; return the remaining iterations.

    The first state goes first, because it follows from the recipe. After that, the next to go is
    always the state whose neighbors are closest to each other, so the rest stays evenly spaced.

    Args:
        held: The iterations of the stored states, in ascending order.
        size: A function that returns the bytes that the segments have now.
        drop: A function that drops the state of an iteration.
        most: The bytes that the segments may have.
        staying: The iterations of states that stay, besides the newest.
    """
    held = list(held)
    while size() > most:
        inner = [i for i in range(len(held) - 1) if held[i] not in staying]
        if not inner:
            break
        before = [0, *held]
        place = min(inner, key=lambda i: 0 if held[i] == 0 else held[i + 1] - before[i])
        drop(held.pop(place))
    return held
