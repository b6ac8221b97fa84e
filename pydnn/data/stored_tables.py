"""Tables that stay in a file: the stored form of named columns, and its writer.

    store_table("trips.h5", blocks)  # tables of some rows each
    table = read_table("trips.h5")

The file is HDF5. It holds the text "columns", which names the columns, their kinds and their
levels; the array "values" (rows, columns), contiguous, in the smallest dtype that holds each value
exactly; and "facts" (columns, 4), which says where values are missing or infinite, so that examples
can be refused before all are read. Values mean what they mean in a `Table`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import AnyPath, BadInput, path_of, printable
from pydnn.data.stored import Stored, StoredColumns, as_floats
from pydnn.data.tables import (
    BOOLEAN,
    DATE,
    KINDS,
    NUMBER,
    TEXT,
    Column,
    Facts,
    NamedColumns,
    Table,
    TableBatch,
    TableExamples,
    described,
)
from pydnn.fingerprints import Fingerprint
from pydnn.records import (
    AnyArray,
    AnyDType,
    FloatArray,
    RowNumbers,
    block_size,
    freeze,
    numbers_of_rows,
)
from pydnn.storage.contiguous import Blocks, write_contiguous
from pydnn.storage.files import RESTORE, spool_beside, writing
from pydnn.storage.hdf5 import open_hdf5, read_array, read_text
from pydnn.storage.mapped import StoredArray, open_stored

__all__ = [
    "CodedBlock",
    "StoredTable",
    "StoredTableBatch",
    "is_stored_table",
    "open_stored_table",
    "store_table",
    "store_values",
]

FORMAT = "pydnn table 1"
_ANY_FORMAT = "pydnn table "
_MOST_TEXT = 1 << 24  # bytes of all names and levels, which each process has in memory
_MOST_HASHED = 1 << 28  # bytes of columns that are in memory at a time for a fingerprint
_SINGLE = 1 << 24  # up to here, float32 holds every integer
_NO_ZERO = np.array(-0.0).view(np.int64)
_CODED = (TEXT, DATE)  # kinds whose values are positions in the levels of their column


def store_table(
    path: AnyPath,
    blocks: Iterable[Table],
    *,
    replace: bool = False,
    on_rows: Callable[[int, int], object] = lambda written, rows: None,
) -> None:
    """Write a table to a new file in the stored form, with only a part of it in memory at a time.

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
    coder = _Coder()
    store_values(path, map(coder.coded, blocks), coder.settled, replace=replace, on_rows=on_rows)


@attrs.frozen(eq=False)
class CodedBlock:
    """Some rows on their way to a stored table, before all texts of their columns are known.

    Attributes:
        values: The values (columns, rows), of numbers and truth values as in a `Table`.
        coded: The places of the columns whose values are codes, from 0 on, of which `settled` knows
            the meanings once all rows have been read.
    """

    values: FloatArray
    coded: Sequence[int] = ()


def store_values(
    path: AnyPath,
    blocks: Iterable[CodedBlock],
    settled: Callable[[], Sequence[tuple[Column, FloatArray | None]]],
    *,
    replace: bool = False,
    on_rows: Callable[[int, int], object] = lambda written, rows: None,
) -> None:
    """Write a table whose texts and kinds are known only after its last row; see `store_table`.

    Args:
        path: The file to write.
        blocks: The rows in order.
        settled: Called after the last block. It returns the columns, each with the value that each
            of its codes means, or None if it has no codes.
        replace: Whether the new file may replace an existing one.
        on_rows: See `store_table`.

    Raises:
        BadInput: If there are no rows, or the file exists or cannot be written.
    """
    path = path_of(path)
    with writing(path):
        if not replace and os.path.lexists(path):
            raise FileExistsError  # before all blocks are read
    with spool_beside(path) as spool:
        spooled = _Spooled(path, spool)
        for block in blocks:
            spooled.add(block)
        if not spooled.rows:
            raise BadInput(f"the table for {path} has no rows, expected one or more: give some.")
        columns, meanings = zip(*settled(), strict=True)
        expect_few_letters({column.name: column.levels for column in columns})
        rows = spooled.settled(meanings, on_rows)
        write_contiguous(
            path,
            # The facts come second, because they are known once all rows are.
            {"values": rows, "facts": Blocks((len(columns), 4), np.float64, spooled.facts())},
            texts={"format": FORMAT, "columns": _text_of(columns)},
            most=_MOST_TEXT,
            replace=replace,
        )


def expect_few_letters(texts: Mapping[str, Collection[str]]) -> int:
    """Refuse texts that take too much memory, since each process that reads them has them all.

    Args:
        texts: The different texts of each column, by its name.

    Returns:
        The number of texts.

    Raises:
        BadInput: Naming the column with the most texts.
    """
    if sum(len(text) for column in texts.values() for text in column) > _MOST_TEXT:
        name = max(texts, key=lambda name: len(texts[name]))
        raise BadInput(_too_many_texts(name, len(texts[name])))
    return sum(map(len, texts.values()))


def _too_many_texts(name: str, count: int) -> str:
    return (
        f"column {name!r} has at least {count} different texts, expected at most {_MOST_TEXT} "
        "letters in the texts of all columns: leave it out."
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


@attrs.frozen
class _SideBySide:
    """The columns of several arrays with the same number of rows."""

    parts: tuple[StoredColumns, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def path(self) -> Path:
        """The file of the first array."""
        return self.parts[0].path

    def take(self, which: slice | RowNumbers) -> AnyArray:
        """Some rows of the columns as float64, by a slice or by their numbers."""
        return np.hstack([as_floats(part.take(which), np.float64) for part in self.parts])

    def select(self, numbers: Iterable[int]) -> StoredColumns | _SideBySide:
        """Those of the columns that have these numbers, in this order."""
        places = [(part, place) for part in self.parts for place in range(len(part.places))]
        runs = itertools.groupby((places[number] for number in numbers), key=itemgetter(0))
        chosen = [part.select(place for _, place in run) for part, run in runs]
        return chosen[0] if len(chosen) == 1 else _SideBySide(tuple(chosen))


@attrs.frozen(eq=False, repr=False)
class StoredTable(NamedColumns):
    """A table of `store_table`, or of npy files, whose rows come into memory when they are used.

    It pickles as its fields, and each process opens the files for itself.

    Attributes:
        columns: The name and kind of each column.
        values: The values in the file or the files, shape (rows, columns).
        known: Where values of each column are missing or infinite.

    Example:
        >>> from pydnn.data import Table
        >>> store_table("sizes.h5", [Table.of({"size": [1.5, 2.0, None]})])
        >>> table = open_stored_table("sizes.h5")
        >>> table
        <StoredTable: 3 rows; size (numbers)>
        >>> table.take([2, 0])["size"]
        array([nan, 1.5])
    """

    columns: tuple[Column, ...]
    values: StoredColumns | _SideBySide
    known: tuple[Facts, ...]

    @property
    def path(self) -> Path:
        """The file, or the first one."""
        return self.values.path

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """The number of bytes of its values as a `Table` in memory."""
        return self.rows * len(self.columns) * np.dtype(np.float64).itemsize

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of names and values, which is that of the same table in memory.

        It covers the values column by column, while the file holds them row by row; so a table of
        more than 256 MiB is read more than once.
        """
        digest = Fingerprint(nan=True)
        for name, array in described(self.columns).items():
            digest.begin(name, array.dtype, array.shape)
            digest.add(array)
        digest.begin("values", np.dtype(np.float64), (len(self.columns), self.rows))
        together = max(1, _MOST_HASHED // max(1, 8 * self.rows))
        for start in range(0, len(self.columns), together):
            part = self.select(self.names[start : start + together])
            for block in part.blocks() if together == 1 else [part.in_memory()]:
                digest.add(block.values)
        return digest.sha256

    def facts(self, place: int) -> Facts:
        """Where values of a column are missing or infinite."""
        return self.known[place]

    def _values_of(self, place: int) -> FloatArray:
        [name] = self.names[place : place + 1]
        return np.concatenate([block.values[0] for block in self.select([name]).blocks()])

    def select(self, names: Iterable[str]) -> StoredTable:
        """The columns of these names, in this order.

        Raises:
            BadInput: If there is no column of one of the names, with the nearest one.
        """
        places = self._places(names)
        return StoredTable(
            tuple(self.columns[place] for place in places),
            self.values.select(places),
            tuple(self.known[place] for place in places),
        )

    def beside(self, other: StoredTable) -> StoredTable:
        """The columns of this table and those of another one with the same number of rows."""
        values = _SideBySide(
            tuple(table._columns(range(len(table.columns))) for table in (self, other))
        )
        return StoredTable(self.columns + other.columns, values, self.known + other.known)

    def _columns(self, places: Sequence[int]) -> StoredColumns:
        columns = self.values.select(places)
        if isinstance(columns, _SideBySide):
            raise BadInput(
                f"columns are in {columns.parts[0].path} and {columns.parts[1].path}, expected "
                "one file of columns to learn from and one of targets: name that as target."
            )
        return columns

    def __repr__(self) -> str:
        return self._repr("StoredTable")

    def take(self, rows: slice | NDArray[np.integer[Any]] | Sequence[int]) -> Table:
        """Some rows as a table in memory, by a slice or by their numbers from 0 on.

        Raises:
            BadInput: If there are no such rows, or `store_table` could not have written them.
        """
        which = rows if isinstance(rows, slice) else numbers_of_rows(rows, self.rows)
        values = as_floats(self.values.take(which), np.float64)
        table = Table(self.columns, freeze(np.ascontiguousarray(values.T)))
        expect_places(str(self.path), table.columns, table.values)
        return table

    def blocks(self) -> Iterator[Table]:
        """All rows in order, in tables of `block_size` rows; the last may be smaller."""
        size = block_size((len(self.columns),))
        for start in range(0, self.rows, size):
            yield self.take(slice(start, start + size))

    def in_memory(self) -> Table:
        """The whole table in memory."""
        return self.take(slice(None))

    def without_targets(self) -> StoredTableBatch:
        """The rows as examples that have no targets, of which a model predicts some."""
        features = self._columns(range(len(self.columns)))
        return StoredTableBatch(features, features.select(()), features=self.columns)

    def examples(
        self,
        target: str | Iterable[str],
        *,
        ignore: Iterable[str] = (),
        weights: str = "",
    ) -> StoredTableBatch:
        """Convert the rows to examples for training or evaluation, which stay in the file.

        Args:
            target: The column, or columns, to predict.
            ignore: Columns to leave out, e.g. customer numbers.
            weights: The column of the examples' weights; "" if all count the same.

        Raises:
            BadInput: As `Table.examples` does.
        """
        chosen = self._chosen(target, ignore, weights)
        return StoredTableBatch(
            self._columns(chosen.features),
            self._columns(chosen.targets),
            None if chosen.weights is None else self._columns([chosen.weights]),
            features=tuple(self.columns[place] for place in chosen.features),
            targets=tuple(self.columns[place] for place in chosen.targets),
            apart=chosen.apart,
        )


@attrs.frozen(eq=False)
class StoredTableBatch(Stored, TableExamples):
    """Raw examples of a table in a file, like `TableBatch` for one in memory.

    A batch of them is a `TableBatch` before the functions in `through` are applied.

    Attributes:
        features: The column of each row of X.
        targets: The column of each row of Y.
        apart: The names of other columns of the table, which prediction does not need.
    """

    features: tuple[Column, ...] = attrs.field(default=(), kw_only=True)
    targets: tuple[Column, ...] = attrs.field(default=(), kw_only=True)
    apart: tuple[str, ...] = attrs.field(default=(), kw_only=True)

    def _gathered(self, rows: slice | RowNumbers) -> TableBatch:
        batch = super()._gathered(rows)
        where = str(self.path)
        expect_places(where, self.features, batch.X)
        expect_places(where, self.targets, batch.Y)
        whole = [batch.Y] if batch.weights is None else [batch.Y, batch.weights]
        if np.isinf(batch.X).any() or not all(np.isfinite(values).all() for values in whole):
            raise BadInput(  # since `examples` refuses a table whose facts list such values
                f"{where} has infinite or missing values that its facts do not list: {RESTORE}."
            )
        return TableBatch(
            batch.X,
            batch.Y,
            batch.weights,
            features=self.features,
            targets=self.targets,
            apart=self.apart,
        )

    @property
    def path(self) -> Path:
        """The file of the table."""
        assert isinstance(self.Y, StoredColumns)
        return self.Y.path

    def label_blocks(self) -> Iterator[FloatArray]:
        """The targets (targets, rows) of all examples in order, block by block."""
        labels = attrs.evolve(self, X=self.Y, features=self.targets, weights=None, through=())
        for block in labels.blocks():
            yield block.Y

    def _no_features(self) -> dict[str, Any]:
        return {"X": np.empty((self.X.shape[0], 0)), "features": ()}

    def first(self, count: int) -> StoredTableBatch:
        """The first `count` examples."""
        first = self.only(np.arange(min(count, self.count)))
        assert isinstance(first, StoredTableBatch)
        return first

    def like(self, other: TableExamples) -> StoredTableBatch:
        """The same examples with their columns in the order of `other`.

        Raises:
            BadInput: If a column is missing or new; the message names it.
        """
        order = self._order_of(other)
        assert isinstance(self.X, StoredColumns)
        return attrs.evolve(
            self, X=self.X.select(order), features=tuple(self.features[place] for place in order)
        )


def open_stored_table(path: AnyPath) -> StoredTable:
    """Open a table that `store_table` wrote; its rows stay in the file.

    Raises:
        BadInput: If `store_table` could not have written the file.
    """
    path = path_of(path)
    with open_hdf5(path) as file:
        if not is_stored_table(file):
            raise BadInput(
                f"{path} is not a table in the stored form, expected one: write it with "
                "nn.data.store_table or pydnn data import."
            )
        columns = columns_in(file)
        facts = read_array(
            file, "facts", dtype=np.float64, shape=(len(columns), 4), compressed=False
        )
        values = open_stored(path, ["values"])["values"]
    if values.shape[1:] != (len(columns),):
        raise BadInput(
            f"values in {path} has shape {values.shape}, expected ('rows', {len(columns)}): "
            f"{RESTORE}."
        )
    if not (np.isinf(facts[:, 2]) | (facts[:, 2] == 0)).all() or not _are_rows(facts, len(values)):
        raise BadInput(f"the facts about columns in {path} are damaged: {RESTORE}.")
    known = tuple(Facts(int(a), int(b), c, int(d)) for a, b, c, d in facts.tolist())
    return StoredTable(columns, StoredColumns(values, range(len(columns))), known)


def table_of_array(array: StoredArray, names: Sequence[str]) -> StoredTable:
    """The table of numbers in a stored array (rows, columns), of which floats are read once."""
    known = [Facts()] * len(names)
    if array.dtype.kind == "f":
        size = block_size(array.shape[1:])
        for start in range(0, len(array), size):
            known = _with_rows(known, start, array.take(slice(start, start + size)))
    columns = tuple(Column(name) for name in names)
    return StoredTable(columns, StoredColumns(array, range(len(names))), tuple(known))


def _with_rows(known: list[Facts], before: int, rows: AnyArray) -> list[Facts]:
    """The facts about columns after more rows (rows, columns), where `before` came earlier."""
    if np.isfinite(rows).all():
        return known
    return [a.then(b, before) for a, b in zip(known, map(Facts.of, rows.T), strict=True)]


def _are_rows(facts: FloatArray, rows: int) -> bool:
    numbers = facts[:, [0, 1, 3]]
    return bool(
        (rows > 0) & ((numbers >= 0) & (numbers <= rows) & (numbers == np.rint(numbers))).all()
    )


def expect_places(where: str, columns: Sequence[Column], values: FloatArray) -> None:
    """Refuse values (columns, rows) that a column of texts or truth values cannot have.

    Raises:
        BadInput: Naming the first one of them.
    """
    for column, row in zip(columns, values, strict=True):
        if column.kind == NUMBER:
            continue
        most = 1 if column.kind == BOOLEAN else len(column.levels) - 1
        # A missing value is NaN, which is neither below nor above anything.
        wrong = (row < 0) | (row > most) | ((row != np.rint(row)) & ~np.isnan(row))
        if wrong.any():
            raise BadInput(
                f"column {column.name!r} in {where} holds {row[np.argmax(wrong)]:g}, expected a "
                f"whole number from 0 to {most}, as {column.holds} are stored: {RESTORE}."
            )


class _Coder:
    """Turns tables into blocks of codes: texts are numbered in the order of their occurrence."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: list[Column] = []
        self._empty: list[bool] = []  # whether a column has had no value yet
        self._codes: list[dict[str, int]] = []
        self._size = 0  # letters of all texts

    def coded(self, block: Table) -> CodedBlock:
        """The next rows.

        Raises:
            BadInput: If they have other columns than the rows before, or texts take too much
                memory.
        """
        if not self._columns:
            self._columns = [attrs.evolve(column, levels=()) for column in block.columns]
            self._empty = [True] * len(self._columns)
            self._codes = [{} for _ in self._columns]
        names = tuple(column.name for column in self._columns)
        if block.names != names:
            raise BadInput(
                f"rows from {self._rows + 1} on have the columns {', '.join(block.names)}, "
                f"expected {', '.join(names)}: give all rows the same columns."
            )
        for place, column in enumerate(block.columns):
            self._take_kind(place, column, block.values[place])
        self._rows += block.rows
        coded = [place for place, c in enumerate(block.columns) if c.kind in _CODED]
        if not coded:
            return CodedBlock(block.values)
        values = np.array(block.values)
        for place in coded:
            codes = self._codes_of(place, block.columns[place])
            values[place] = _coded(values[place], codes)
        return CodedBlock(values, coded)

    def settled(self) -> list[tuple[Column, FloatArray | None]]:
        """The columns of all blocks, and the places of their codes in the sorted levels."""
        pairs: list[tuple[Column, FloatArray | None]] = []
        for column, codes in zip(self._columns, self._codes, strict=True):
            if column.kind in _CODED:
                levels = tuple(sorted(codes))
                ranks = np.empty(len(codes))
                ranks[[codes[text] for text in levels]] = np.arange(len(codes))
                pairs.append((attrs.evolve(column, levels=levels), ranks))
            else:
                pairs.append((column, None))
        return pairs

    def _take_kind(self, place: int, column: Column, values: FloatArray) -> None:
        """Give a column the kind of its first value; one without values fits any kind."""
        ours = self._columns[place]
        if column.kind == ours.kind and not self._empty[place]:
            return
        present = not np.isnan(values).all()
        if column.kind != ours.kind and present and not self._empty[place]:
            raise BadInput(
                f"column {column.name!r} holds {column.holds} from row {self._rows + 1} on, "
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
            raise BadInput(_too_many_texts(column.name, len(codes) + len(new)))
        codes.update(zip(new, range(len(codes), len(codes) + len(new)), strict=True))
        return np.array([codes[text] for text in column.levels], np.float64)


class _Spooled:
    """RowNumbers in a temporary file, until it is known what their codes mean."""

    def __init__(self, path: Path, spool: BinaryIO) -> None:
        self.rows = self._width = 0
        self._path, self._spool = path, spool
        self._numbers, self._codes = _Numbers(), _Numbers()
        self._blocks: list[tuple[int, AnyDType]] = []
        self._facts: list[Facts] = []

    def add(self, block: CodedBlock) -> None:
        """Take the next rows."""
        # One canonical NaN, because no arithmetic promises the bits of a NaN.
        values = block.values
        if values.size and np.isnan(values.min()):
            values = np.where(np.isnan(values), np.nan, values)
            self._numbers.widen(np.array([np.nan]))
        self._numbers.widen(np.delete(values, block.coded, axis=0) if block.coded else values)
        self._codes.widen(values[list(block.coded)])
        self._width, count = values.shape
        rows = np.ascontiguousarray(values.T, self._numbers.together_with(self._codes).dtype)
        with writing(self._path):
            self._spool.write(rows.reshape(-1).view(np.uint8).data)
        self._blocks.append((count, rows.dtype))
        self.rows += count

    def settled(
        self, meanings: Sequence[FloatArray | None], on_rows: Callable[[int, int], object]
    ) -> Blocks:
        """All rows in order, with the meanings of codes, in the smallest dtype for them."""
        known = {place: codes for place, codes in enumerate(meanings) if codes is not None}
        for codes in known.values():
            self._numbers.widen(codes)
        dtype = self._numbers.dtype
        changed = {place: codes for place, codes in known.items() if not _mean_themselves(codes)}
        return Blocks((self.rows, self._width), dtype, self._settled(changed, dtype, on_rows))

    def _settled(
        self,
        meanings: Mapping[int, FloatArray],
        dtype: AnyDType,
        on_rows: Callable[[int, int], object],
    ) -> Iterator[AnyArray]:
        self._spool.seek(0)
        self._facts = [Facts()] * self._width
        written = 0
        for count, spooled in self._blocks:
            content = self._spool.read(count * self._width * spooled.itemsize)
            rows: AnyArray = np.frombuffer(content, spooled).reshape(count, -1)
            if meanings:
                values = rows.astype(np.float64)
                for place, codes in meanings.items():
                    values[:, place] = _coded(values[:, place], codes)
                rows = values
            self._facts = _with_rows(self._facts, written, rows)
            yield rows.astype(dtype, copy=False)
            written += count
            on_rows(written, self.rows)

    def facts(self) -> Iterator[AnyArray]:
        """The facts about each column, one in each row, once all rows are settled."""
        yield np.array([attrs.astuple(facts) for facts in self._facts], np.float64)


def _mean_themselves(codes: FloatArray) -> bool:
    return bool(np.array_equal(codes, np.arange(len(codes))))


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
        if not values.size:
            return
        if self._whole:
            least, most = float(values.min()), float(values.max())
            self._whole = -math.inf < least <= most < math.inf and _are_whole(values)
            self._least, self._most = min(self._least, least), max(self._most, most)
            if self._whole and -_SINGLE <= least <= most <= _SINGLE:
                return
        self._single = self._single and _are_single(values)

    def together_with(self, other: _Numbers) -> _Numbers:
        """All numbers of both."""
        both = _Numbers()
        both._whole, both._single = self._whole and other._whole, self._single and other._single
        both._least, both._most = min(self._least, other._least), max(self._most, other._most)
        return both

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
    """Whether all finite numbers are integers; -0.0 is not, as integers have no sign of zero."""
    return bool((values == np.rint(values)).all() and (values.view(np.int64) != _NO_ZERO).all())


def _are_single(values: FloatArray) -> bool:
    """Whether float32 has each number."""
    with np.errstate(over="ignore", under="ignore"):
        return bool(np.array_equal(values.astype(np.float32), values, equal_nan=True))
