"""Whether the files that examples stay in are still those that were opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from pydnn.checks import BadInput
from pydnn.data.stored import Stored, StoredColumns
from pydnn.storage.chunked import ChunkedArray
from pydnn.storage.mapped import StoredArray
from pydnn.storage.remembered import FileState, state_of

__all__ = ["WatchedFiles", "arrays_in_files", "paths_of"]

_ARRAYS = ("X", "Y", "weights", "lengths")


def arrays_in_files(examples: object) -> list[StoredArray | ChunkedArray]:
    """The arrays of examples that stay in files."""
    if not isinstance(examples, Stored):
        return []
    every = (getattr(examples, name) for name in _ARRAYS)
    arrays = (array.array if isinstance(array, StoredColumns) else array for array in every)
    return [array for array in arrays if isinstance(array, StoredArray | ChunkedArray)]


def paths_of(examples: object) -> list[Path]:
    """The files of examples that stay in files, each once."""
    return list(dict.fromkeys(array.path for array in arrays_in_files(examples)))


@attrs.define(eq=False)
class WatchedFiles:
    """Files that must not change while a training reads them.

    Attributes:
        states: The state of each file when it was opened.
        changed: The error about a file that has changed, once one has.
        deputy: Other watched files that are asked instead, because their owner knows more.
    """

    states: dict[Path, FileState]
    changed: BadInput | None = attrs.field(default=None, init=False)
    deputy: WatchedFiles | None = attrs.field(default=None, init=False)

    @staticmethod
    def of(parts: Iterable[object]) -> WatchedFiles:
        """The files of some examples, of which those in memory have none.

        Raises:
            BadInput: If one of the files is missing.
        """
        states: dict[Path, FileState] = {}
        for array in (array for examples in parts for array in arrays_in_files(examples)):
            if array.path not in states:
                states[array.path] = array.opened or state_of(array.path)
        return WatchedFiles(states)

    def expect_unchanged(self) -> None:
        """Refuse a file that has changed since it was opened.

        That takes a microsecond for each file.

        Raises:
            BadInput: Naming the file.
        """
        if self.deputy is not None:
            self.deputy.expect_unchanged()
            return
        if self.changed is not None:
            raise self.changed
        for path, state in list(self.states.items()):
            try:
                now = state_of(path)
                if now == state or self._has_same_data(path):
                    self.states[path] = now
                    continue
                reason = "changed"
            except BadInput as error:
                reason = f"changed ({str(error).rstrip('.')})"
            self.changed = BadInput(f"{path} {reason} during the training: {self._advice}.")
            raise self.changed

    def leave_to(self, deputy: WatchedFiles) -> None:
        """Let `deputy` watch the files from now on, if it watches all of them.

        Raises:
            BadInput: If one has changed already.
        """
        self.expect_unchanged()
        if set(self.states) <= set(deputy.states):
            self.deputy = deputy

    @property
    def _advice(self) -> str:
        return "restore the file, and train again"

    def _has_same_data(self, path: Path) -> bool:
        """Whether a file with another state still holds the same numbers."""
        return False
