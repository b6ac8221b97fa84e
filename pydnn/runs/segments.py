"""Segments of a run: the state at a checkpoint, and a row for each step since the last checkpoint.

Segments form a chain: each holds the fingerprint of the one before it, so a change anywhere in a
run's history is noticed. The first segment, of iteration 0, holds the initial state.

Each segment also holds the texts of the run's recipe and environment, so a run survives the loss of
either file. To save space, the arrays of a state can be dropped later: the fingerprint of the state
stays in the chain, and the state can be computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, is_count
from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.recipes.recipe import Recipe
from pydnn.records import AnyArray
from pydnn.runs.history import KINDS, SHOWN, Rows, read_rows, row_arrays
from pydnn.runs.state_arrays import ReadArray, arrays_of, state_from
from pydnn.stages.base import Shape
from pydnn.storage.checksums import sealed_bytes
from pydnn.storage.files import RESTORE, open_regular
from pydnn.storage.hdf5 import (
    hdf5_in,
    holds,
    open_hdf5,
    read_array,
    read_text,
    stored_bytes,
    write_hdf5,
)
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
    """The text of a run's recipe.toml, and that of the environment which computed a segment."""

    recipe: str
    environment: str


@attrs.frozen
class Segment:
    """The header of a segment's file. Its methods read the arrays from the file.

    Attributes:
        path: The file.
        start: The number of its first step, and the iteration of the segment before it.
        iteration: The iteration of its state, i.e. the number of steps before that state.
        goal: The number of steps that the training was meant to have when this was written.
        state_sha256: The fingerprint of the state.
        rows_sha256: The fingerprint of the rows.
        before: The fingerprint of the segment before it; in the first, of the recipe's text.
        environment: The SHA-256 of the text of the environment that computed it.
        key: The key of the training.
        columns: The kind and name of each column that not every run has.
        recipe: The SHA-256 of the recipe's text; None in a segment of pydnn 0.1.0, which does not
            hold the texts.
        fingerprint: The SHA-256 of all these fields, which is `before` in the next segment.
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
        """The SHA-256 of the header, which is `before` in the next segment."""
        return hashlib.sha256(_about(self).encode()).hexdigest()

    def rows(self) -> Rows:
        """The rows of its steps.

        Raises:
            BadInput: If the rows do not match their fingerprint.
        """
        with open_regular(self.path, what="an HDF5 file", links=False) as raw:
            with contextlib.suppress(_NotListed, BadInput):
                rows = self._rows(_reading_sealed(raw))
                if fingerprint(row_arrays(rows), nan=True) == self.rows_sha256:
                    return rows
            raw.seek(0)
            with hdf5_in(raw, self.path) as file:
                rows = self._rows(_reading(file))
        if fingerprint(row_arrays(rows), nan=True) != self.rows_sha256:
            raise BadInput(f"rows in {self.path} do not match their fingerprint: {RESTORE}.")
        return rows

    def last_numbers(self) -> dict[str, float]:
        """The last number of each column by name, as one looks for a list of many runs.

        It reads little, and does not compare the rows with their fingerprint.

        Raises:
            BadInput: If the rows cannot be read.
        """
        arrays = {name: f"column.{i}.values" for i, (_, name) in enumerate(self.columns)}
        arrays |= {name: name for name in SHOWN}
        with open_regular(self.path, what="an HDF5 file", links=False) as raw:
            read = sealed_bytes(raw)
            contents = {name: read(array) for name, array in arrays.items()}
        numbers = {
            name: float(np.frombuffer(content, "<f8")[-1])
            for name, content in contents.items()
            if content and len(content) % 8 == 0
        }
        return numbers if len(numbers) == len(arrays) else self.rows().last_numbers

    def _rows(self, read: ReadArray) -> Rows:
        return read_rows(
            read,
            start=self.start,
            stop=self.iteration,
            columns=self.columns,
            where=str(self.path),
        )

    def texts(self) -> Texts | None:
        """The texts that the segment holds; None in a segment of pydnn 0.1.0.

        Raises:
            BadInput: If the texts do not match their fingerprints, or are not UTF-8, as only in a
                forged segment.
        """
        if self.recipe is None:
            return None
        with open_hdf5(self.path, links=False) as file:
            read = _reading(file)
            recipe, environment = (read(name, np.uint8, ("n",)).tobytes() for name in _TEXTS)
        digests = tuple(hashlib.sha256(text).hexdigest() for text in (recipe, environment))
        if digests != (self.recipe, self.environment):
            raise BadInput(f"texts in {self.path} do not match their fingerprints: {RESTORE}.")
        try:
            return Texts(recipe.decode(), environment.decode())
        except UnicodeDecodeError as error:
            raise BadInput(f"texts in {self.path} are not UTF-8 ({error}): {RESTORE}.") from error

    def holds_state(self) -> bool:
        """Whether the file still holds the arrays of the state."""
        with open_hdf5(self.path, links=False) as file:
            return holds(file, "parameters")

    def state_bytes(self) -> int:
        """The number of bytes of the state's arrays in the file; 0 if they were dropped."""
        kinds = ("iteration", "parameters", "statistics", "optimizer")
        with open_hdf5(self.path, links=False) as file:
            sizes = stored_bytes(file)
        return sum(size for name, size in sizes.items() if name.partition(".")[0] in kinds)

    def state(self, recipe: Recipe, shape: Shape) -> TrainState:
        """The state that the file holds.

        Args:
            recipe: The recipe of the training, which defines the shapes of the arrays.
            shape: The shape of an example, e.g. (4,) for four features.

        Raises:
            BadInput: If the state was dropped, does not fit the recipe, or does not match its
                fingerprint.
        """
        with open_hdf5(self.path, links=False) as file:
            read = _reading(file)
            iteration = int(read("iteration", np.int64, ())[()])
            try:
                state = state_from(read, recipe, shape=shape, iteration=iteration, key=self.key)
                computed = fingerprint(arrays_of(state))
            except BadInput as error:
                raise BadInput(f"state in {self.path}: {error}") from error
        if iteration != self.iteration or computed != self.state_sha256:
            raise BadInput(f"state in {self.path} does not match its fingerprint: {RESTORE}.")
        return state


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _reading(file: h5py.File) -> ReadArray:
    def read(
        name: str, dtype: type[_Scalar] | np.dtype[_Scalar], shape: Sequence[int | str], /
    ) -> NDArray[_Scalar]:
        return read_array(file, name, dtype=dtype, shape=shape, compressed=False)

    return read


class _NotListed(Exception):  # noqa: N818 - HDF5 says what is wrong, if anything is
    """The seal of a file does not list an array of this size, or its bytes have changed."""


def _reading_sealed(file: BinaryIO) -> ReadArray:
    read_bytes = sealed_bytes(file)

    def read(
        name: str, dtype: type[_Scalar] | np.dtype[_Scalar], shape: Sequence[int | str], /
    ) -> NDArray[_Scalar]:
        content = read_bytes(name)
        little = np.dtype(dtype).newbyteorder("<")
        [count] = shape  # every array of rows has one axis
        if content is None or len(content) % little.itemsize:
            raise _NotListed
        array = np.frombuffer(content, little).astype(dtype)
        if count not in (array.size, "k"):
            raise _NotListed
        return array

    return read


def segment_name(iteration: int) -> str:
    """The name of the segment's file after `iteration` steps. Names sort like the numbers.

    >>> segment_name(500)
    '0000000500.h5'
    """
    return f"{iteration:010}.h5"


def sha256_of(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def following(
    folder: Path, state: TrainState, rows: Rows, *, before: str, texts: Texts, goal: int
) -> Segment:
    """The next segment of a run, not yet written.

    Args:
        folder: The folder of the segments.
        state: The state at the end of the segment.
        rows: The rows of the steps that led to it.
        before: The fingerprint of the segment before it; for the first, of the recipe's text.
        texts: The texts of the recipe and of this environment.
        goal: The number of steps that the training is meant to have.

    Raises:
        BadInput: If the state holds a NaN or a value that no file can hold, or the name of a column
            is not printable.
    """
    for kind, name in rows.columns:
        if not name.isprintable():
            raise BadInput(
                f"{kind} {name!r} cannot name a column, expected printable text: rename it."
            )
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
    """Write the file of a segment, and return the segment.

    Args:
        segment: The segment, which `following` made from the same state, rows and texts.
        state: The state of the segment.
        rows: The rows of the segment.
        texts: The texts of the segment; None for one in the format of pydnn 0.1.0.
        stored: Whether to store the arrays of the state, besides its fingerprint.

    Raises:
        BadInput: If the file cannot be written.
    """
    state_arrays = arrays_of(state) if stored else {}
    _write(segment, {**state_arrays, **row_arrays(rows), **_text_arrays(texts)})
    return segment


def drop_state(segment: Segment) -> None:
    """Write the file of a segment again without the arrays of its state.

    The header stays the same, so the fingerprint of the segment does, too. If this is interrupted,
    the file is complete, either with the state or without it.

    Raises:
        BadInput: If the file is damaged or cannot be written.
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
    # A segment of pydnn 0.1.0 has no entry for the recipe. Without one, it keeps its fingerprint.
    plain = attrs.asdict(
        segment,
        filter=lambda field, value: (
            field.name not in ("path", "key") and (field.name, value) != ("recipe", None)
        ),
    )
    return json.dumps(plain | {"seed": segment.key.seed, "key": list(segment.key.path)})


def read_segment(path: Path, *, whole: bool = True) -> Segment:
    """Read the header of a segment's file, after verifying every byte of the file.

    Args:
        path: The file.
        whole: Whether to verify every byte; if not, only what is read is checked.

    Raises:
        BadInput: If the file is missing, damaged, not a segment, or has the name of another one.
    """
    with open_hdf5(path, sealed=whole, links=False) as file:
        written = read_text(file, "format", fixed=True)
        if written not in (_FORMAT, _OLD_FORMAT):
            raise BadInput(f"format in {path} is {written!r}, expected {_FORMAT!r}: {RESTORE}.")
        text = read_text(file, "about", fixed=True)
    try:
        plain = json.loads(text)
        segment = _read(path, plain, plain["recipe"] if written == _FORMAT else None)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"about in {path} is not the header of a segment: {RESTORE}.") from error
    if path.name != segment_name(segment.iteration):
        raise BadInput(
            f"iteration in {path} is {segment.iteration}, expected the one in its name: "
            "give the file its original name."
        )
    return segment


def _read(path: Path, plain: object, recipe: str | None) -> Segment:
    match plain:
        case {
            "start": start,
            "iteration": iteration,
            "goal": goal,
            "state_sha256": str(state),
            "rows_sha256": str(rows),
            "before": str(before),
            "environment": str(environment),
            "seed": seed,
            "key": list(key),
            "columns": list(columns),
        } if (
            all(map(_SHA256.fullmatch, (state, rows, before, environment)))
            and (recipe is None or _SHA256.fullmatch(recipe))
            and is_count(iteration, most=_MOST - 1)
            and is_count(start, most=iteration)
            and is_count(goal, least=1, most=_MOST)
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
