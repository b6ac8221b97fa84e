"""Tables that stay in a file: the stored form of named columns, and its writer.

    store_table("trips.h5", blocks)  # tables of some rows each
    table = read_table("trips.h5")

The file is HDF5. It holds the text "columns", which names the columns, their kinds and their
levels, and the array "values" (rows, columns), contiguous, in the smallest dtype that holds each
value exactly. Values mean what they mean in a `Table`.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs
import h5py
import numpy as np

from pydnn.checks import AnyPath, BadInput, path_of, printable
from pydnn.data.tables import BOOLEAN, DATE, KINDS, NUMBER, TEXT, Column, Table
from pydnn.records import AnyArray, AnyDType, FloatArray, freeze
from pydnn.storage.contiguous import Blocks, write_contiguous
from pydnn.storage.files import RESTORE, writing
from pydnn.storage.hdf5 import read_array, read_text

__all__ = ["is_stored_table", "read_stored_table", "store_table"]

FORMAT = "pydnn table 1"
_ANY_FORMAT = "pydnn table "
_MOST_TEXT = 1 << 24  # bytes of all names and levels, which each process has in memory
_CODED = (TEXT, DATE)  # kinds whose values are positions in the levels of their column


def store_table(
    path: AnyPath,
    blocks: Iterable[Table],
    *,
    replace: bool = False,
    on_rows: Callable[[int, int], object] = lambda written, rows: None,
) -> None:
    """Write a table to a new file in the stored form, of which a part is in memory at a time.

    The file is the same however the rows are cut into blocks. Until it is complete, another file
    beside it takes as much space again.

    Args:
        path: The file to write.
        blocks: The rows in order, as tables of the same columns. The levels of a column of texts
            are those of all blocks, whatever their order.
        replace: Whether the new file may replace an existing one.
        on_rows: Called after each block that is written to the final file, with the number of rows
            written and of all rows; before that, all blocks have been read.

    Raises:
        BadInput: If there are no rows, a block has other columns than the first, texts take too
            much memory, or the file exists or cannot be written.

    Example:
        >>> from pydnn.data import Table, read_table
        >>> table = Table.of({"size": [1.5, 2.0, None], "city": ["Rome", "Oslo", "Rome"]})
        >>> store_table("cities.h5", [table.take([0]), table.take([1, 2])])
        >>> read_table("cities.h5") == table
        True
    """
    path = path_of(path)
    with writing(path):
        if not replace and os.path.lexists(path):
            raise FileExistsError  # before all blocks are read
        spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed below
    with spool:
        spooled = _Spooled(path, spool)
        for block in blocks:
            spooled.add(block)
        if not spooled.rows:
            raise BadInput(f"the table for {path} has no rows, expected one or more: give some.")
        columns = spooled.columns
        rows = Blocks((spooled.rows, len(columns)), spooled.dtype, spooled.blocks(on_rows))
        write_contiguous(
            path,
            {"values": rows},
            texts={"format": FORMAT, "columns": _text_of(columns)},
            most=_MOST_TEXT,
            replace=replace,
        )


def _text_of(columns: Sequence[Column]) -> str:
    # In ASCII, because halves of surrogate pairs have no bytes in UTF-8.
    return json.dumps([[c.name, c.kind, *c.levels] for c in columns], separators=(",", ":"))


def is_stored_table(file: h5py.File) -> bool:
    """Whether an HDF5 file, from `open_hdf5`, says that it is a table in the stored form."""
    try:
        return read_text(file, "format").startswith(_ANY_FORMAT)
    except BadInput:  # other files may have anything of that name, or nothing
        return False


def columns_in(file: h5py.File) -> tuple[Column, ...]:
    """The columns of a file that `is_stored_table`, which may be a stranger's.

    Raises:
        BadInput: If `store_table` could not have written them.
    """
    where = file.filename
    if (format_ := read_text(file, "format")) != FORMAT:
        raise BadInput(
            f"{where} has format {printable(format_, most=60)!r}, expected {FORMAT!r}: use the "
            "version of pydnn that wrote it, or a later one."
        )
    damaged = BadInput(f"the names of columns in {where} are damaged: {RESTORE}.")
    try:
        plain = json.loads(read_text(file, "columns", most=_MOST_TEXT))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise damaged from error
    columns = [_column_of(item) for item in plain] if isinstance(plain, list) else []
    known = [column for column in columns if column is not None]
    if not columns or len({column.name for column in known}) < len(columns):
        raise damaged
    return tuple(known)


def _column_of(plain: object) -> Column | None:
    match plain:
        case [str(name), str(kind), *rest] if kind in KINDS:
            levels = tuple(level for level in rest if isinstance(level, str))
            in_order = all(a < b for a, b in itertools.pairwise(levels))
            if len(levels) == len(rest) and in_order and (kind in _CODED or not levels):
                return Column(name, kind, levels)
    return None


def read_stored_table(file: h5py.File) -> Table:
    """The table in an HDF5 file that `is_stored_table`, in memory.

    Raises:
        BadInput: If `store_table` could not have written it.
    """
    columns = columns_in(file)
    rows = read_array(
        file, "values", dtype=np.number, shape=("rows", len(columns)), compressed=False
    )
    values = np.ascontiguousarray(rows.T, np.float64)
    for column, of_column in zip(columns, values, strict=True):
        _expect_places(file.filename, column, of_column)
    return Table(columns, freeze(values))


def _expect_places(where: str, column: Column, values: FloatArray) -> None:
    """Refuse values that are not among those that a column of texts or truth values can have."""
    if column.kind == NUMBER:
        return
    most = 1 if column.kind == BOOLEAN else len(column.levels) - 1
    wrong = (values < 0) | (values > most) | (values != np.rint(values)) & ~np.isnan(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadInput(
            f"column {column.name!r} in {where} holds {values[row]:g} in row {row + 1}, expected a "
            f"whole number from 0 to {most}, as {column.holds} are stored: {RESTORE}."
        )


class _Spooled:
    """Rows on their way to the stored form: what is known of all of them only at the end.

    Texts become numbers in order of their first occurrence; once all are known, `blocks` gives
    them their places in the sorted levels.
    """

    def __init__(self, path: Path, spool: IO[bytes]) -> None:
        self.rows = 0
        self._path, self._spool = path, spool
        self._columns: list[Column] = []
        self._empty: list[bool] = []  # whether a column has had no value yet
        self._codes: list[dict[str, int]] = []
        self._size = 0  # bytes of all texts, about
        self._numbers = _Numbers()
        self._blocks: list[tuple[int, AnyDType]] = []

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of all blocks."""
        pairs = zip(self._columns, self._codes, strict=True)
        return tuple(
            attrs.evolve(column, levels=tuple(sorted(codes) if column.kind in _CODED else ()))
            for column, codes in pairs
        )

    @property
    def dtype(self) -> AnyDType:
        """The smallest dtype that holds each value exactly."""
        return self._numbers.dtype

    def add(self, block: Table) -> None:
        """Take the next rows."""
        if not self._columns:
            self._columns = [attrs.evolve(column, levels=()) for column in block.columns]
            self._empty = [True] * len(self._columns)
            self._codes = [{} for _ in self._columns]
        names = tuple(column.name for column in self._columns)
        if block.names != names:
            raise BadInput(
                f"rows from {self.rows + 1} on have the columns {', '.join(block.names)}, expected "
                f"{', '.join(names)}: give all rows the same columns."
            )
        values = np.array(block.values, np.float64)
        for place, column in enumerate(block.columns):
            self._take_kind(place, column, values[place])
            if column.kind in _CODED:
                values[place] = _coded(values[place], self._codes_of(place, column))
        self._numbers.widen(values)
        # The places in sorted levels, which replace the codes, may be larger.
        self._numbers.widen(np.array([max(0, len(codes) - 1) for codes in self._codes], np.float64))
        # In rows, and canonical: no arithmetic promises the bits of a NaN.
        rows = np.where(np.isnan(values), np.nan, values).T.astype(self._numbers.dtype)
        with writing(self._path):
            self._spool.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self._blocks.append((block.rows, rows.dtype))
        self.rows += block.rows

    def _take_kind(self, place: int, column: Column, values: FloatArray) -> None:
        """Give a column the kind of its first value; one without values fits any kind."""
        ours, present = self._columns[place], not np.isnan(values).all()
        if column.kind != ours.kind and present and not self._empty[place]:
            raise BadInput(
                f"column {column.name!r} holds {column.holds} from row {self.rows + 1} on, "
                f"expected {ours.holds} as before: convert them to one kind."
            )
        if present and self._empty[place]:
            self._columns[place] = attrs.evolve(column, levels=())
            self._empty[place] = False

    def _codes_of(self, place: int, column: Column) -> FloatArray:
        """The number of each level of a column in a block."""
        codes = self._codes[place]
        new = [text for text in column.levels if text not in codes]
        self._size += sum(map(len, new))
        if self._size > _MOST_TEXT:
            raise BadInput(
                f"column {column.name!r} has {len(codes) + len(new)} different texts or more, "
                f"expected at most {_MOST_TEXT} letters in those of all columns: leave it out."
            )
        codes.update(zip(new, range(len(codes), len(codes) + len(new)), strict=True))
        return np.array([codes[text] for text in column.levels], np.float64)

    def blocks(self, on_rows: Callable[[int, int], object]) -> Iterator[AnyArray]:
        """All rows in order, with texts as places in the sorted levels."""
        places = {}
        for place, codes in enumerate(self._codes):
            ranks = np.empty(len(codes))
            ranks[[codes[text] for text in sorted(codes)]] = np.arange(len(codes))
            if codes and (ranks[1:] < ranks[:-1]).any():
                places[place] = ranks
        self._spool.seek(0)
        written = 0
        for count, dtype in self._blocks:
            size = count * len(self._columns)
            content = self._spool.read(size * dtype.itemsize)
            rows = np.frombuffer(content, dtype).reshape(count, -1).astype(self.dtype)
            for place, ranks in places.items():
                rows[:, place] = _coded(rows[:, place].astype(np.float64), ranks)
            yield rows
            written += count
            on_rows(written, self.rows)


def _coded(values: FloatArray, codes: FloatArray) -> FloatArray:
    """The code of each value, which is a place in `codes`; NaN stays NaN."""
    missing = np.isnan(values)
    coded: FloatArray = np.append(codes, np.nan)[np.where(missing, -1, values).astype(np.int64)]
    return coded


class _Numbers:
    """The smallest dtype for numbers that become known block by block."""

    def __init__(self) -> None:
        self._whole = self._single = True  # whether all are whole, and whether float32 has each
        self._least = self._most = 0.0

    def widen(self, values: FloatArray) -> None:
        """Take more numbers."""
        if self._whole:
            self._whole = _are_whole(values)
            self._least = min(self._least, float(values.min(initial=0)))
            self._most = max(self._most, float(values.max(initial=0)))
        self._single = self._single and _are_single(values)

    @property
    def dtype(self) -> AnyDType:
        """The smallest dtype that has each number."""
        if self._whole:
            for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32"):
                limits = np.iinfo(name)
                if limits.min <= self._least and self._most <= limits.max:
                    return np.dtype(name)
        return np.dtype(np.float32 if self._single else np.float64)


def _are_whole(values: FloatArray) -> bool:
    """Whether all numbers are integers; -0.0 is not, because integers have no sign of zero."""
    if not (np.isfinite(values) & (values == np.rint(values))).all():
        return False
    return not (np.signbit(values) & (values == 0)).any()


def _are_single(values: FloatArray) -> bool:
    """Whether float32 has each number."""
    with np.errstate(over="ignore", under="ignore"):
        return bool(np.array_equal(values.astype(np.float32), values, equal_nan=True))
