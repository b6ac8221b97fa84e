"""Tables: named columns of numbers, truth values and texts, with one example per row.

    table = nn.read_table("wine.csv")
    table["alcohol"]
    batch = table.examples("quality")

A table holds only decoded values. So the same table read from CSV and from Parquet is the same
data, with the same fingerprint.
"""

from __future__ import annotations

import abc
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_known, expect_shape
from pydnn.data.column_kinds import BOOLEAN, DATE, KINDS, NUMBER, TEXT, Column
from pydnn.data.frames import values_of
from pydnn.fingerprints import fingerprint
from pydnn.records import (
    AnyArray,
    Batch,
    FloatArray,
    IntArray,
    arrays,
    as_array,
    freeze,
    numbers_of_rows,
)
from pydnn.tables import html_table

__all__ = [
    "BOOLEAN",
    "DATE",
    "KINDS",
    "NUMBER",
    "TEXT",
    "Chosen",
    "Column",
    "Facts",
    "NamedColumns",
    "Table",
    "TableBatch",
    "TableExamples",
    "columns_named",
]

_SHOWN_ROWS = 10
_MOST_CLASSES = 20  # of whole numbers; more of them are taken for a quantity


class NamedColumns(abc.ABC):
    """What tables in memory and in files have in common: columns with names.

    Attributes:
        columns: The name and kind of each column.
    """

    __slots__ = ()

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    @abc.abstractmethod
    def rows(self) -> int:
        """The number of rows."""

    @property
    def texts_alone(self) -> tuple[str, ...]:
        """The names of the columns of texts, which must stay texts when more rows are read."""
        return tuple(column.name for column in self.columns if column.kind == TEXT)

    @abc.abstractmethod
    def facts(self, place: int) -> Facts:
        """Where values of a column are missing or infinite."""

    @abc.abstractmethod
    def _values_of(self, place: int) -> FloatArray:
        """All values (rows,) of a column."""

    def __getitem__(self, name: str) -> AnyArray:
        """The values of a column: float64 with NaN if missing, or objects with None if missing.

        Raises:
            BadInput: If there is no column of that name, with the nearest one.
        """
        [place] = self._places([name])
        column, values = self.columns[place], self._values_of(place)
        if column.kind == NUMBER:
            return values
        items: list[object] = list(self.texts(name))
        if column.kind == BOOLEAN:
            items = [None if v != v else bool(v) for v in values.tolist()]
        return freeze(np.array(items, object))

    def texts(self, name: str) -> list[str | None]:
        """The values of a column as people write them; None for missing ones."""
        [place] = self._places([name])
        column = self.columns[place]
        return [None if v != v else column.text(v) for v in self._values_of(place).tolist()]

    def __len__(self) -> int:
        return self.rows

    def _repr(self, kind: str) -> str:
        columns = ", ".join(f"{c.name} ({c.holds})" for c in self.columns[:_SHOWN_ROWS])
        more = len(self.columns) - _SHOWN_ROWS
        return f"<{kind}: {self.rows} rows; {columns}{f' and {more} more' if more > 0 else ''}>"

    def _places(self, names: Iterable[str]) -> list[int]:
        names = list(names)
        places = {column.name: place for place, column in enumerate(self.columns)}
        for name in names:
            if name not in places:
                expect_known("column", name, places)
        return [places[name] for name in names]

    def _chosen(self, target: str | Iterable[str], ignore: Iterable[str], weights: str) -> Chosen:
        """The columns of examples, after all checks that `Table.examples` promises."""
        targets = columns_named(target)
        ignored = columns_named(ignore)
        apart = dict.fromkeys((*targets, *ignored, *([weights] if weights else [])))
        self._places(apart)  # are there
        if both := [name for name in targets if name in ignored or name == weights]:
            what = "ignored" if both[0] in ignored else "a weight"
            raise BadInput(
                f"target {both[0]!r} is also {what}, expected one of the two: name it once."
            )
        features = self._places(name for name in self.names if name not in apart)
        if not targets or not features or not self.rows:
            what = "target" if not targets else "row" if not self.rows else "column to learn from"
            raise BadInput(f"the table has no {what}, expected one or more: give more data.")
        _expect_different(targets)
        labels = self._places(targets)
        for place in labels:
            self._expect_whole("target", place)
        for place in (*features, *labels):
            self._expect_finite(place)
        for place in (*features, *labels):
            _expect_no_dates(self.columns[place])
        counted = None
        if weights:
            [counted] = self._places([weights])
            if self.columns[counted].kind != NUMBER:
                raise BadInput(
                    f"column {weights!r} holds {self.columns[counted].holds}, expected weights: "
                    "give a column of numbers."
                )
            self._expect_whole("weight", counted)
        names = tuple(name for name in (*ignored, weights) if name)
        return Chosen(tuple(features), tuple(labels), counted, names)

    def _expect_whole(self, what: str, place: int) -> None:
        facts = self.facts(place)
        if facts.missing:
            raise BadInput(
                f"{what} {self.columns[place].name!r} is missing in {facts.missing} of {self.rows} "
                f"rows, first in row {facts.first_missing + 1}: fill it in, or remove these rows."
            )

    def _expect_finite(self, place: int) -> None:
        facts = self.facts(place)
        if facts.infinite:
            raise BadInput(
                f"column {self.columns[place].name!r} holds {facts.infinite} in row "
                f"{facts.first_infinite + 1}, expected finite numbers: correct it, or leave the "
                "cell empty."
            )


@attrs.frozen
class Facts:
    """Where values of a column are missing or infinite.

    Attributes:
        missing: The number of missing values.
        first_missing: The number of the first row, from 0 on, in which the value is missing.
        infinite: The first infinite number; 0 if all are finite.
        first_infinite: The number of its row.
    """

    missing: int = 0
    first_missing: int = 0
    infinite: float = 0.0
    first_infinite: int = 0

    @staticmethod
    def of(values: FloatArray) -> Facts:
        """The facts about the values (rows,) of a column."""
        missing, infinite = np.isnan(values), np.isinf(values)
        row = int(np.argmax(infinite)) if infinite.any() else -1
        return Facts(
            int(missing.sum()),
            int(np.argmax(missing)) if missing.any() else 0,
            0.0 if row < 0 else float(values[row]),
            max(0, row),
        )

    def then(self, more: Facts, rows: int) -> Facts:
        """The facts about values of which the first `rows` have these, and the others `more`."""
        missing = self.missing or not more.missing
        first_missing = self.first_missing if missing else more.first_missing + rows
        if self.infinite or not more.infinite:
            infinite = self.infinite, self.first_infinite
        else:
            infinite = more.infinite, more.first_infinite + rows
        return Facts(self.missing + more.missing, first_missing, *infinite)


@attrs.frozen
class Chosen:
    """The numbers of the columns that examples are made of, and the names of those apart."""

    features: tuple[int, ...]
    targets: tuple[int, ...]
    weights: int | None
    apart: tuple[str, ...]


def _in_order(columns: Iterable[Column]) -> tuple[Column, ...]:
    return tuple(columns)


@attrs.frozen(unsafe_hash=False, eq=False, repr=False, field_transformer=arrays)
class Table(NamedColumns):
    """Named columns of equal length. It is read-only, and pickles as it is.

    Attributes:
        columns: The name and kind of each column.
        values: The values, float64, shape (columns, rows). Truth values are 0 and 1, texts are
            positions in the `levels` of their column, and a missing value of any kind is NaN. An
            empty text is a missing value.

    Raises:
        BadInput: If two columns have the same name, or the values do not fit the columns.

    Example:
        >>> table = Table.of({"size": [1.0, 2.0], "city": ["Rome", None]})
        >>> table
        <Table: 2 rows; size (numbers), city (texts)>
        >>> table["city"].tolist()
        ['Rome', None]
    """

    columns: tuple[Column, ...] = attrs.field(converter=_in_order)
    values: FloatArray

    def __attrs_post_init__(self) -> None:
        hint = "give one row of values per column"
        expect_shape("values", self.values, (len(self.columns), "rows"), hint=hint)
        _expect_different(self.names)

    @staticmethod
    def of(data: object) -> Table:
        """Make a table from tabular data of any known kind, such as a data frame.

        Args:
            data: A `Table`; a frame of pandas, polars or pyarrow; a mapping from names to columns;
                a list of mappings, one for each row; a pair (X, y) of an array or a frame and its
                targets, which are then called "y"; or an array (rows, columns), whose columns are
                then called "column 1", "column 2" and so on.

        Raises:
            BadInput: If it is nothing of that kind; or, naming the column, if one holds values
                that are not numbers, truth values, texts or dates, or has another length.

        Example:
            >>> from pydnn.data import Table
            >>> Table.of([{"size": 1.5, "new": True}, {"size": None, "new": False}])
            <Table: 2 rows; size (numbers), new (truth values)>
        """
        if isinstance(data, Table):
            return data
        if isinstance(data, TableBatch):
            return data.table
        columns, values = values_of(data)
        return Table(columns, freeze(values))

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.values.shape[1])

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of names and values, which does not depend on the file they came from."""
        return fingerprint({**described(self.columns), "values": self.values}, nan=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return self.columns == other.columns and _same(self.values, other.values)

    def __repr__(self) -> str:
        return self._repr("Table")

    def _repr_html_(self) -> str:
        rows = self.take(slice(0, _SHOWN_ROWS))
        cells = zip(*(rows.texts(name) for name in self.names), strict=True)
        shown = [[text or "" for text in row] for row in cells]
        return html_table(f"{self.rows} rows", self.names, shown)

    def select(self, names: Iterable[str]) -> Table:
        """The columns of these names, in this order.

        Raises:
            BadInput: If there is no column of one of the names, with the nearest one.
        """
        places = self._places(names)
        return Table([self.columns[place] for place in places], freeze(self.values[places]))

    def take(self, rows: slice | NDArray[np.generic] | Sequence[int]) -> Table:
        """Select rows by their numbers from 0 on, or by a truth value for each row.

        Raises:
            BadInput: If there are no such rows.
        """
        try:
            return Table(self.columns, freeze(self.values[:, rows]))
        except (IndexError, ValueError):  # the latter for lists of several lengths
            numbers_of_rows(rows, self.rows)
            raise

    def facts(self, place: int) -> Facts:
        """Where values of a column are missing or infinite."""
        return Facts.of(self.values[place])

    def _values_of(self, place: int) -> FloatArray:
        return as_array(self.values[place])

    def without_targets(self) -> TableBatch:
        """The rows as examples that have no targets, of which a model predicts some."""
        return TableBatch(self.values, self.values[:0], features=self.columns)

    def examples(
        self,
        target: str | Iterable[str],
        *,
        ignore: Iterable[str] = (),
        weights: str = "",
    ) -> TableBatch:
        """Convert the rows to examples for training or evaluation.

        Args:
            target: The column, or columns, to predict.
            ignore: Columns to leave out, e.g. customer numbers.
            weights: The column of the examples' weights; "" if all count the same.

        Raises:
            BadInput: If there is no column of one of the names, with the nearest one; a target
                or a weight is missing in a row; a number is infinite; a column holds dates; or no
                column or no row is left.
        """
        chosen = self._chosen(target, ignore, weights)
        features, targets = list(chosen.features), list(chosen.targets)
        place = chosen.weights
        return TableBatch(
            freeze(self.values[features]),
            freeze(self.values[targets]),
            None if place is None else self.values[place : place + 1],
            features=tuple(self.columns[place] for place in features),
            targets=tuple(self.columns[place] for place in targets),
            apart=chosen.apart,
        )


def columns_named(names: str | Iterable[str]) -> tuple[str, ...]:
    """The names of columns as a tuple, from one text or a list of texts."""
    return ((names,) if names else ()) if isinstance(names, str) else tuple(names)


class TableExamples(abc.ABC):
    """What raw examples of a table have in common, in memory (`TableBatch`) and in files.

    Attributes:
        features: The column of each row of X.
        targets: The column of each row of Y.
        apart: The names of other columns of the table, which prediction does not need.
    """

    __slots__ = ()

    features: tuple[Column, ...]
    targets: tuple[Column, ...]
    apart: tuple[str, ...]

    @abc.abstractmethod
    def label_blocks(self) -> Iterator[FloatArray]:
        """The targets (targets, rows) of all examples in order, block by block."""

    @property
    def described(self) -> dict[str, AnyArray]:
        """The columns behind the rows of X and Y as arrays, for a fingerprint."""
        return described((*self.features, *self.targets))

    @property
    def is_of_classes(self) -> bool:
        """Whether its only target looks like classes rather than a quantity.

        Texts and truth values do, and whole numbers of which at most 20 are different, if each
        occurs twice on average.
        """
        if len(self.targets) != 1 or self.targets[0].kind != NUMBER:
            return len(self.targets) == 1
        distinct = self.distinct_labels(most=_MOST_CLASSES)
        if distinct.size > _MOST_CLASSES or (distinct != np.rint(distinct)).any():
            return False
        return distinct.size <= sum(Y.size for Y in self.label_blocks()) / 2

    def distinct_labels(self, *, most: int) -> FloatArray:
        """The different values of the targets, sorted; only some of them if there are over `most`.

        Example:
            >>> table = nn.data.Table.of({"x": [1, 2, 3], "y": [5, 4, 5]})
            >>> table.examples("y").distinct_labels(most=20)
            array([4., 5.])
        """
        distinct = np.empty(0)
        for Y in self.label_blocks():
            distinct = np.union1d(distinct, Y)
            if distinct.size > most:
                break
        return distinct

    def expect_of_each_class(self, count: int, why: str) -> None:
        """Refuse a class with so few examples that a split cannot put them into all its parts.

        Args:
            count: The least number of examples.
            why: What they are for, e.g. "one of them for the validation part".

        Raises:
            BadInput: Naming the class and its column.
        """
        if len(self.targets) != 1:
            return
        [column], counts = self.targets, Counter[float]()
        for Y in self.label_blocks():
            values, times = np.unique(Y, return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        least, value = min((times, value) for value, times in counts.items())
        if least < count:
            has = f"{least} example{'s' if least > 1 else ''}"
            expected = f"{'two' if count == 2 else count} or more, {why}"
            raise BadInput(
                f"class {column.text(value)!r} of {column.name!r} has {has}, expected {expected}: "
                "give more examples of it, or leave it out."
            )

    def _order_of(self, other: TableExamples) -> list[int]:
        """The places of the features of `other` among the features here.

        Raises:
            BadInput: If a column is missing or new; the message names it.
        """
        ours, theirs = (tuple(c.name for c in e.features) for e in (self, other))
        for name in sorted(set(theirs).difference(ours)):
            expect_known("column", name, ours)
        known = set(theirs)
        if new := [name for name in ours if name not in known]:
            raise BadInput(
                f"column {new[0]!r} is not in the training table, which has {', '.join(theirs)}: "
                "remove it."
            )
        return [ours.index(name) for name in theirs]


@attrs.frozen(unsafe_hash=False, eq=False, field_transformer=arrays)
class TableBatch(Batch, TableExamples):
    """Raw examples of a table: a batch that knows the columns behind the rows of X and Y.

    X (columns, m) and Y (targets, m) are the `values` of a `Table`, with NaN for missing values;
    `jobs.Columns` converts them to network inputs.

    Attributes:
        features: The column of each row of X.
        targets: The column of each row of Y.
        apart: The names of other columns of the table, which prediction does not need.
    """

    features: tuple[Column, ...] = attrs.field(default=(), kw_only=True)
    targets: tuple[Column, ...] = attrs.field(default=(), kw_only=True)
    apart: tuple[str, ...] = attrs.field(default=(), kw_only=True)

    @property
    def table(self) -> Table:
        """The columns to learn from."""
        return Table(self.features, self.X)

    @property
    def target(self) -> Table:
        """The columns to predict."""
        return Table(self.targets, self.Y)

    def label_blocks(self) -> Iterator[FloatArray]:
        """The targets (targets, m) of all examples, as one block."""
        yield self.Y

    def take(self, which: slice | IntArray) -> TableBatch:
        """Some rows, by a slice or by their numbers, with what is known of their columns."""
        rows = super().take(which)
        return attrs.evolve(self, X=rows.X, Y=rows.Y, weights=rows.weights)

    def first(self, count: int) -> TableBatch:
        """The first `count` examples."""
        return self.take(slice(count))

    def like(self, other: TableExamples) -> TableBatch:
        """The same examples with their columns in the order of `other`.

        Raises:
            BadInput: If a column is missing, new, or of a different kind; the message names it.
        """
        order = self._order_of(other)
        features = tuple(self.features[place] for place in order)
        return attrs.evolve(self, X=freeze(self.X[order]), features=features)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TableBatch):
            return NotImplemented
        fields = ("features", "targets", "apart")
        return all(getattr(self, name) == getattr(other, name) for name in fields) and all(
            _same(getattr(self, name), getattr(other, name)) for name in ("X", "Y", "weights")
        )


def described(columns: Sequence[Column]) -> dict[str, AnyArray]:
    """Names, kinds and levels as arrays of bytes, for a fingerprint."""
    plain = [[c.name, c.kind, *c.levels] for c in columns]
    text = json.dumps(plain, ensure_ascii=True)  # halves of surrogate pairs have no bytes
    return {"columns": np.frombuffer(text.encode(), np.uint8)}


def _same(ours: FloatArray | None, theirs: FloatArray | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours.shape == theirs.shape and bool(np.array_equal(ours, theirs, equal_nan=True))


def _expect_different(names: Iterable[str]) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if first.setdefault(name, number) != number:
            raise BadInput(
                f"columns {first[name]} and {number} are both called {name!r}, expected two "
                "names: rename one."
            )


def _expect_no_dates(column: Column) -> None:
    if column.kind == DATE:
        example = f", e.g. {column.levels[0]!r}" if column.levels else ""
        raise BadInput(
            f"column {column.name!r} holds dates{example}, expected numbers, texts or truth "
            "values: make numbers of them, e.g. days since a date, or ignore the column."
        )
