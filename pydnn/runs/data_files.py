"""Hashes of data that stays in files, and the check that no file changes during a training.

The hashes are those of the same data in memory. They are computed block by block and remembered
beside the file, because a file that is larger than memory takes minutes to hash.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import DTypeLike

from pydnn.checks import BadInput, Json
from pydnn.data.stored import Stored, StoredArray, StoredColumns
from pydnn.data.tables import TableExamples
from pydnn.data.watching import WatchedFiles, paths_of
from pydnn.fingerprints import Fingerprint, fingerprint
from pydnn.long_work import report_work
from pydnn.records import AnyArray, examples_first
from pydnn.storage.chunked import ChunkedArray
from pydnn.storage.remembered import key_of, recall, remember, state_of

__all__ = ["DataFiles", "sha256_of_blocks"]

_ARRAYS = ("X", "Y", "weights", "lengths")
_LEAST = 1 << 26  # bytes from which hashes are remembered: fewer take less than a second


def sha256_of_blocks(part: str, examples: Stored, dtype: DTypeLike) -> dict[str, str]:
    """The fingerprints of the arrays of examples in files, as of the same examples in memory.

    Args:
        part: The part of the data, "train" or "test".
        examples: The examples.
        dtype: The dtype of the recipe, which tables do not need.

    Raises:
        BadInput: If they hold a NaN that is not a missing value of a table, or a file changes
            meanwhile.
    """
    before = {path: state_of(path) for path in paths_of(examples)}
    what = _description(part, examples, dtype)
    first = next(iter(before), None)
    key = None if what is None else key_of(list(before.values()), what)
    if key is not None and first is not None:
        known = recall(first, key)
        if known is not None and set(known) == set(_arrays_of(examples)):
            return known
    hashes = _hashed(part, examples, np.dtype(dtype))
    for path, state in before.items():
        if state_of(path) != state:
            raise BadInput(
                f"{path} has changed while it was hashed, expected a finished file: start again "
                "once it is written."
            )
    large = sum(state.size for state in before.values()) >= _LEAST
    if key is not None and first is not None and large:
        remember(first, key, hashes, states=before.values())
    return hashes


def _hashed(part: str, examples: Stored, dtype: np.dtype[np.generic]) -> dict[str, str]:
    count = examples.count
    table = isinstance(examples, TableExamples)
    digests: dict[str, Fingerprint] = {}
    done = 0
    for block in examples.blocks():
        for name in _ARRAYS:
            array = getattr(block, name)
            if array is None:
                continue
            rows: AnyArray = examples_first(array)
            if not table and name != "lengths":
                rows = rows.astype(dtype, copy=False)
            if name not in digests:
                digests[name] = Fingerprint(nan=table)
                if isinstance(examples, TableExamples):
                    columns = examples.described["columns"]
                    digests[name].begin(f"{part} columns", columns.dtype, columns.shape)
                    digests[name].add(columns)
                shape = (count, *rows.shape[1:])
                digests[name].begin(f"{part} {name}", rows.dtype, shape)
            digests[name].add(rows)
        done += block.count
        report_work("hashing", done, count)
    return {name: digest.sha256 for name, digest in digests.items()}


def _arrays_of(examples: Stored) -> list[str]:
    return [name for name in _ARRAYS if getattr(examples, name) is not None]


def _stored(array: object) -> StoredArray | None:
    if isinstance(array, StoredColumns):
        return array.array
    return array if isinstance(array, StoredArray) else None


def _description(part: str, examples: Stored, dtype: DTypeLike) -> Json | None:
    """Everything but the files that decides the hashes, as JSON; None if it cannot be written."""
    paths = paths_of(examples)
    arrays: dict[str, Json] = {}
    for name in _arrays_of(examples):
        array = getattr(examples, name)
        if isinstance(array, ChunkedArray):
            return None
        stored = _stored(array)
        if stored is None:
            arrays[name] = fingerprint({name: array})
        else:
            places = array.places if isinstance(array, StoredColumns) else None
            arrays[name] = [
                paths.index(stored.path), stored.offset, list(stored.shape), stored.dtype.str,
                None if places is None else list(places),
            ]  # fmt: skip
    rows, columns = examples.only_rows, ""
    if isinstance(examples, TableExamples):
        columns = examples.described["columns"].tobytes().decode()
    try:
        # Only to tell functions apart. Nothing is ever unpickled.
        through = hashlib.sha256(pickle.dumps(examples.through)).hexdigest()
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return {
        "part": part,
        "dtype": [np.dtype(dtype).str, examples.dtype.str],
        "arrays": arrays,
        "rows": None if rows is None else hashlib.sha256(rows.tobytes()).hexdigest(),
        "columns": columns,
        "through": through,
    }


@attrs.define(eq=False)
class DataFiles(WatchedFiles):
    """The files that the data of a recorded training stays in, whose hashes are known.

    A file with another time or identity is hashed again, because somebody may have written the same
    bytes.

    Attributes:
        parts: The parts of the data.
        hashes: The fingerprints of their arrays, by part and name.
        dtype: The dtype of the recipe.
        states: The state of each file.
        changed: The error about a file that has changed, once one has.
    """

    parts: Mapping[str, object]
    hashes: Mapping[str, Mapping[str, str]]
    dtype: str

    @staticmethod
    def with_hashes(
        parts: Mapping[str, object], hashes: Mapping[str, Mapping[str, str]], dtype: str
    ) -> DataFiles:
        """The files of data whose fingerprints are known.

        Raises:
            BadInput: If one of them is missing.
        """
        paths = [path for examples in parts.values() for path in paths_of(examples)]
        return DataFiles({path: state_of(path) for path in paths}, parts, hashes, dtype)

    @property
    def _advice(self) -> str:
        return "restore the file and go on from the newest state before that, or train again"

    def _has_same_data(self, path: Path) -> bool:
        for part, examples in self.parts.items():
            if isinstance(examples, Stored) and path in paths_of(examples) and part in self.hashes:
                again = sha256_of_blocks(part, _reopened(examples), self.dtype)
                if again != dict(self.hashes[part]):
                    return False
        return True


def _reopened(examples: Stored) -> Stored:
    """The same examples with new maps, because the old maps may show a file that was replaced."""

    def again(array: object) -> object:
        if isinstance(array, StoredColumns):
            return attrs.evolve(array, array=attrs.evolve(array.array))
        return attrs.evolve(array) if isinstance(array, StoredArray) else array

    arrays: dict[str, Any] = {name: again(getattr(examples, name)) for name in _ARRAYS}
    return attrs.evolve(examples, **arrays)
