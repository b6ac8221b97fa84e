"""One segment of a run: the state at a checkpoint, and a row for each step since the one before.

Segments make a chain: each holds the fingerprint of the one before it, so that a change anywhere
in a run's history is found. The first, of iteration 0, holds the initial state.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput
from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.recipes import Recipe
from pydnn.runs.rows import KINDS, Rows, read_rows, row_arrays
from pydnn.runs.states import ReadArray, arrays_of, state_from
from pydnn.storage import open_hdf5, read_array, read_text, write_hdf5
from pydnn.training import TrainState

__all__ = ["Segment", "read_segment", "segment_name", "write_segment"]

_FORMAT = "pydnn segment 1"
_MOST = 2**53
_SHA256 = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Segment:
    """What a segment's file says of itself; its arrays are read when they are asked for.

    Attributes:
        path: The file.
        start: The iteration of the segment before it, where its rows begin; 0 in the first.
        iteration: That of its state.
        goal: Iterations that the training was to have, when this was written.
        state_sha256: Fingerprint of the state.
        rows_sha256: Fingerprint of the rows.
        before: Fingerprint of the segment before it; of the recipe's text in the first.
        environment: SHA-256 of the text of the environment that it was computed in.
        key: The training's key.
        columns: Kind and name of each column that not every run has.
        fingerprint: Of all this, which is the next one's `before`.
    """

    path: Path
    start: int
    iteration: int
    goal: int
    state_sha256: str
    rows_sha256: str
    before: str
    environment: str
    key: Key
    columns: tuple[tuple[str, str], ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a segment says of itself, which is the next one's `before`."""
        return hashlib.sha256(_about(self).encode()).hexdigest()

    def rows(self) -> Rows:
        """The rows of its steps.

        Raises:
            BadInput: If they are not those of their fingerprint.
        """
        with open_hdf5(self.path) as file:
            rows = read_rows(
                _reading(file),
                start=self.start,
                stop=self.iteration,
                columns=self.columns,
                where=str(self.path),
            )
        if fingerprint(row_arrays(rows), nan=True) != self.rows_sha256:
            raise BadInput(f"rows in {self.path} are not those of their fingerprint: {_AGAIN}.")
        return rows

    def state(self, recipe: Recipe, features: int) -> TrainState:
        """The state, of a training by `recipe` on so many features.

        Raises:
            BadInput: If it does not fit the recipe, or is not that of its fingerprint.
        """
        with open_hdf5(self.path) as file:
            read = _reading(file)
            iteration = int(read("iteration", np.int64, ())[()])
            try:
                state = state_from(
                    read, recipe, features=features, iteration=iteration, key=self.key
                )
                found = fingerprint(arrays_of(state))
            except BadInput as error:
                raise BadInput(f"state in {self.path}: {error}") from error
        if iteration != self.iteration or found != self.state_sha256:
            raise BadInput(f"state in {self.path} is not that of its fingerprint: {_AGAIN}.")
        return state


def _reading(file: h5py.File) -> ReadArray:
    def read(name: str, dtype: Any, shape: Sequence[int | str]) -> NDArray[Any]:
        return read_array(file, name, dtype=dtype, shape=shape, compressed=False)

    return read


def segment_name(iteration: int) -> str:
    """The name of the file for the state after so many steps: sorted by name, sorted by number."""
    return f"{iteration:010}.h5"


def write_segment(
    folder: Path, state: TrainState, rows: Rows, *, before: str, environment: str, goal: int
) -> Segment:
    """Write the segment of `state`, and of the rows of the steps that led to it, into `folder`.

    Raises:
        BadInput: If the state holds a NaN or what no file can hold, a column's name cannot be
            shown, or it cannot be written.
    """
    for kind, name in rows.columns:
        if not name.isprintable():
            raise BadInput(f"{kind} {name!r} is no name for a column: give letters to be shown.")
    state_arrays, rows_here = arrays_of(state), row_arrays(rows)
    segment = Segment(
        folder / segment_name(state.iteration),
        rows.start,
        state.iteration,
        goal,
        fingerprint(state_arrays),
        fingerprint(rows_here, nan=True),
        before,
        environment,
        state.key,
        tuple(rows.columns),
    )
    write_hdf5(
        segment.path,
        arrays=state_arrays | rows_here,
        attributes={"format": _FORMAT, "about": _about(segment)},
        sealed=True,
    )
    return segment


def _about(segment: Segment) -> str:
    plain = attrs.asdict(segment, filter=lambda field, _: field.name not in ("path", "key"))
    return json.dumps(plain | {"seed": segment.key.seed, "key": list(segment.key.path)})


def read_segment(path: Path) -> Segment:
    """What the file `path` says of itself, once every byte of it is known to be as it was written.

    Raises:
        BadInput: If it is missing, damaged, no segment, or says what its name does not.
    """
    with open_hdf5(path, sealed=True) as file:
        if (found := read_text(file, "format", fixed=True)) != _FORMAT:
            raise BadInput(f"format in {path} is {found!r}, expected {_FORMAT!r}: {_AGAIN}.")
        text = read_text(file, "about", fixed=True)
    try:
        segment = _read(path, json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"about in {path} does not say what a segment says: {_AGAIN}.") from error
    if path.name != segment_name(segment.iteration):
        raise BadInput(
            f"iteration in {path} is {segment.iteration}, expected the one that its name says: "
            "give the file its own name."
        )
    return segment


def _read(path: Path, plain: Any) -> Segment:
    match plain:
        case {
            "start": int(start),
            "iteration": int(iteration),
            "goal": int(goal),
            "state_sha256": str(state),
            "rows_sha256": str(rows),
            "before": str(before),
            "environment": str(environment),
            "seed": int(seed),
            "key": list(key),
            "columns": list(columns),
        } if (
            all(map(_SHA256.fullmatch, (state, rows, before, environment)))
            and bool not in map(type, (start, iteration, goal))
            and 0 <= start <= iteration < _MOST
            and 0 < goal <= _MOST
        ):
            return Segment(
                path,
                start,
                iteration,
                goal,
                state,
                rows,
                before,
                environment,
                Key(seed, tuple(key)),
                tuple(map(_column, columns)),
            )
    raise ValueError


def _column(plain: Any) -> tuple[str, str]:
    match plain:
        case [str(kind), str(name)] if kind in KINDS and name.isprintable():
            return kind, name
    raise ValueError


_AGAIN = "get the file again"
