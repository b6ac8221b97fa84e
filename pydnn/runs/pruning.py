"""Dropping states of a run to save room: what proves the run, fingerprints and rows, stays.

A state that is not stored is computed again from the nearest one before it, the first state from
the recipe. The newest state always stays, because training goes on from it, and so does the last
one before the environment changed, because no single machine can compute what is after it.
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
    """What `prune` has done, or would do.

    Attributes:
        dropped: Iterations of the states that were dropped,
        kept: and of those that are stored.
        freed: Bytes that this frees.
        size: Bytes of the run's files afterwards.
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
    """Drop states of the run in the folder `path`.

    Args:
        path: The folder of a run that no process is writing.
        every: Keep the state of every so many segments, besides those that always stay; by
            default none but these and the first.
        dry_run: Whether to only say what would be dropped.
        allow: Names of the modules outside pydnn that its recipe may name, see `Run.open`.

    Raises:
        BadInput: If it is not a run, another process writes it, or a file of it is damaged.
    """
    path = run_folder_of(path)
    if every is not None:
        expect_count("every", every, hint="give the number of segments from one state to the next")
    expect_run_folder(path)
    with exclusive(path / LOCK):
        folder = read_folder(path, anyway=True, allow=allow)  # no step is computed
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
    """The bytes of all files of a run, without those that were set aside."""
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
    """Drop states until the segments have at most so many bytes; the iterations that remain.

    The first state goes first, for it follows from the recipe. Then always the one goes whose two
    neighbors are closest to each other, so that the states that remain lie about evenly.

    Args:
        held: Iterations of the states that are stored, in their order.
        size: The bytes that the segments have now.
        drop: Drops the state of an iteration.
        most: Bytes that they may have.
        staying: Iterations whose states stay, besides the newest.
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
