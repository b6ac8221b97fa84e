"""One segment of a run: the state at a checkpoint, and a row for each step since the one before.

Segments make a chain: each holds the fingerprint of the one before it, so that a change anywhere
in a run's history is noticed. The first, of iteration 0, holds the initial state.

Each segment also holds the texts of the run's recipe and environment, so that a run outlives the
loss of either file. The arrays of a state can be dropped later to save room: the state's
fingerprint stays in the chain, and the state can be computed again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput
from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.recipes.recipe import Recipe
from pydnn.records import AnyArray
from pydnn.runs.history import KINDS, Rows, read_rows, row_arrays
from pydnn.runs.state_arrays import ReadArray, arrays_of, state_from
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_text, stored_bytes, write_hdf5
from pydnn.training import TrainState

__all__ = [
    "Segment",
    "Texts",
    "drop_state",
    "following",
    "read_segment",
    "segment_name",
    "sha256_of",
    "write_segment",
]

_FORMAT = "pydnn segment 2"
_OLD_FORMAT = "pydnn segment 1"  # of pydnn 0.1.0, without the texts
_TEXTS = ("text.recipe", "text.environment")
_MOST = 2**53
_SHA256 = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Texts:
    """The texts of a run's `recipe.toml` and of the environment that a segment was computed in."""

    recipe: str
    environment: str


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
        recipe: SHA-256 of the text of the recipe; None in a segment that pydnn 0.1.0 wrote, which
            does not hold the texts.
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
    recipe: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a segment says of itself, which is the next one's `before`."""
        return hashlib.sha256(_about(self).encode()).hexdigest()

    def rows(self) -> Rows:
        """The rows of its steps.

        Raises:
            BadInput: If they are not those of their fingerprint.
        """
        with open_hdf5(self.path, links=False) as file:
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

    def texts(self) -> Texts | None:
        """The texts that the segment holds; None in one that pydnn 0.1.0 wrote.

        Raises:
            BadInput: If they are not those of their fingerprints, or not UTF-8, which only a forged
            segment can be.
        """
        if self.recipe is None:
            return None
        with open_hdf5(self.path, links=False) as file:
            read = _reading(file)
            recipe, environment = (read(name, np.uint8, ("n",)).tobytes() for name in _TEXTS)
        digests = tuple(hashlib.sha256(text).hexdigest() for text in (recipe, environment))
        if digests != (self.recipe, self.environment):
            raise BadInput(f"texts in {self.path} are not those of their fingerprints: {_AGAIN}.")
        try:
            return Texts(recipe.decode(), environment.decode())
        except UnicodeDecodeError as error:
            raise BadInput(f"texts in {self.path} are not UTF-8 ({error}): {_AGAIN}.") from error

    def holds_state(self) -> bool:
        """Whether the arrays of the state are in the file, and have not been dropped."""
        with open_hdf5(self.path, links=False) as file:
            return holds(file, "parameters")

    def state_bytes(self) -> int:
        """The bytes of the state's arrays in the file; 0 if they were dropped."""
        kinds = ("iteration", "parameters", "statistics", "optimizer")
        with open_hdf5(self.path, links=False) as file:
            sizes = stored_bytes(file)
        return sum(size for name, size in sizes.items() if name.partition(".")[0] in kinds)

    def state(self, recipe: Recipe, features: int) -> TrainState:
        """The state that the file holds, of a training by `recipe` on so many features.

        Raises:
            BadInput: If it was dropped, does not fit the recipe, or is not that of its
                fingerprint.
        """
        with open_hdf5(self.path, links=False) as file:
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


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _reading(file: h5py.File) -> ReadArray:
    def read(
        name: str, dtype: type[_Scalar] | np.dtype[_Scalar], shape: Sequence[int | str], /
    ) -> NDArray[_Scalar]:
        return read_array(file, name, dtype=dtype, shape=shape, compressed=False)

    return read


def segment_name(iteration: int) -> str:
    """The name of the file for the state after so many steps: sorted by name, sorted by number."""
    return f"{iteration:010}.h5"


def sha256_of(text: str) -> str:
    """The SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def following(
    folder: Path, state: TrainState, rows: Rows, *, before: str, texts: Texts, goal: int
) -> Segment:
    """The segment of `state` and of the rows of the steps that led to it, before it is written.

    Raises:
        BadInput: If the state holds a NaN or what no file can hold, or a column's name cannot be
            shown.
    """
    for kind, name in rows.columns:
        if not name.isprintable():
            raise BadInput(f"{kind} {name!r} is no name for a column: give letters to be shown.")
    return Segment(
        folder / segment_name(state.iteration),
        rows.start,
        state.iteration,
        goal,
        fingerprint(arrays_of(state)),
        fingerprint(row_arrays(rows), nan=True),
        before,
        sha256_of(texts.environment),
        state.key,
        tuple(rows.columns),
        sha256_of(texts.recipe),
    )


def write_segment(
    segment: Segment, state: TrainState, rows: Rows, texts: Texts | None, *, stored: bool = True
) -> Segment:
    """Write the file of a segment that `following` made of the same state, rows and texts.

    Args:
        segment: The segment.
        state: Its state.
        rows: Its rows.
        texts: Its texts; None for a segment of the kind that pydnn 0.1.0 wrote.
        stored: Whether the arrays of the state go into the file, besides its fingerprint.

    Returns:
        The segment.

    Raises:
        BadInput: If it cannot be written.
    """
    state_arrays = arrays_of(state) if stored else {}
    _write(segment, {**state_arrays, **row_arrays(rows), **_text_arrays(texts)})
    return segment


def drop_state(segment: Segment) -> None:
    """Write the file of a segment again without the arrays of its state.

    What the segment says of itself stays the same, and so does its fingerprint. Whenever this is
    interrupted, the file is whole: with the state, or without it.

    Raises:
        BadInput: If the file is damaged, or cannot be written.
    """
    arrays = {**row_arrays(segment.rows()), **_text_arrays(segment.texts())}
    _write(segment, arrays, replace=True)


def _text_arrays(texts: Texts | None) -> dict[str, NDArray[np.uint8]]:
    if texts is None:
        return {}
    pairs = zip(_TEXTS, (texts.recipe, texts.environment), strict=True)
    return {name: np.frombuffer(text.encode(), np.uint8) for name, text in pairs}


def _write(segment: Segment, arrays: dict[str, AnyArray], *, replace: bool = False) -> None:
    write_hdf5(
        segment.path,
        arrays=arrays,
        attributes={
            "format": _OLD_FORMAT if segment.recipe is None else _FORMAT,
            "about": _about(segment),
        },
        sealed=True,
        replace=replace,
    )


def _about(segment: Segment) -> str:
    # A segment of pydnn 0.1.0 says nothing of the recipe, and keeps its fingerprint.
    plain = attrs.asdict(
        segment,
        filter=lambda field, value: (
            field.name not in ("path", "key") and (field.name, value) != ("recipe", None)
        ),
    )
    return json.dumps(plain | {"seed": segment.key.seed, "key": list(segment.key.path)})


def read_segment(path: Path) -> Segment:
    """What the file `path` says of itself, once every byte of it is known to be as it was written.

    Raises:
        BadInput: If it is missing, damaged, no segment, or says what its name does not.
    """
    with open_hdf5(path, sealed=True, links=False) as file:
        written = read_text(file, "format", fixed=True)
        if written not in (_FORMAT, _OLD_FORMAT):
            raise BadInput(f"format in {path} is {written!r}, expected {_FORMAT!r}: {_AGAIN}.")
        text = read_text(file, "about", fixed=True)
    try:
        plain = json.loads(text)
        segment = _read(path, plain, plain["recipe"] if written == _FORMAT else None)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"about in {path} does not say what a segment says: {_AGAIN}.") from error
    if path.name != segment_name(segment.iteration):
        raise BadInput(
            f"iteration in {path} is {segment.iteration}, expected the one that its name says: "
            "give the file its own name."
        )
    return segment


def _read(path: Path, plain: object, recipe: str | None) -> Segment:
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
            and (recipe is None or _SHA256.fullmatch(recipe))
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
                recipe,
            )
    raise ValueError


def _column(plain: object) -> tuple[str, str]:
    match plain:
        case [str(kind), str(name)] if kind in KINDS and name.isprintable():
            return kind, name
    raise ValueError


_AGAIN = "get the file again"
