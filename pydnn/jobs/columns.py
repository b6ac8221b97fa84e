"""Converts the columns of a table to features and labels, and predictions back.

Numbers are standardized, and missing ones are filled in; truth values become 0 and 1; texts become
one feature per category. `fitting_columns` fits all of it to the training part, and `targets`
converts the columns to predict.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import attrs
import numpy as np

from pydnn.checks import BadInput, BadRow
from pydnn.data.tables import BOOLEAN, NUMBER, TEXT, Column, Table, TableBatch
from pydnn.jobs.targets import CLASSES, LABELS, NUMBERS, Targets, listed, names_of
from pydnn.other_names import suggestion
from pydnn.records import Batch, FloatArray, freeze

if TYPE_CHECKING:
    from pydnn.stages.graph import Graph, Value

__all__ = [
    "BooleanColumn",
    "CategoryColumn",
    "Columns",
    "DroppedColumn",
    "Encoded",
    "NumberColumn",
    "Targets",
    "columns_of",
]

_MOST_FEATURES = 1 << 24


@attrs.frozen
class NumberColumn:
    """A column of numbers: a feature (x - mean) / deviation, and one that marks missing numbers.

    Attributes:
        name: The name of the column.
        fill: The number that replaces missing ones, the median of the training part.
        mean: The number to subtract; 0 if the recipe does not standardize.
        deviation: The number to divide by; 1 if the recipe does not standardize.
        flagged: Whether a second feature is 1 where the number is missing, and 0 elsewhere.
    """

    kind: ClassVar[str] = NUMBER
    name: str
    fill: float
    mean: float = 0.0
    deviation: float = 1.0
    flagged: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return (self.name, f"{self.name} missing") if self.flagged else (self.name,)

    @property
    def words(self) -> str:
        """The conversion, in words."""
        scaled = f"(x - {self.mean:.6g}) / {self.deviation:.6g}"
        plain = "as it is" if (self.mean, self.deviation) == (0.0, 1.0) else scaled
        return plain + (f"; missing: {self.fill:.6g} and a feature" if self.flagged else "")

    @property
    def width(self) -> int:
        """The number of features."""
        return 1 + self.flagged

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,) to features (1 or 2, m)."""
        return np.concatenate(_scaled([self], values[np.newaxis]))[: self.width]

    def onnx(self, x: Value) -> list[Value]:
        """The same conversion of values (m,) in ONNX: blocks of features, (m, 1) each."""
        filled, missing = _filled(x, self.fill)
        scaled = filled.op("Sub", self.mean).op("Div", self.deviation)
        return [scaled, missing] if self.flagged else [scaled]


@attrs.frozen
class BooleanColumn:
    """A column of truth values: a feature of 0 and 1, and one that marks missing values.

    Attributes:
        name: The name of the column.
        fill: The value that replaces missing ones, the more frequent one in the training part.
        flagged: Whether a second feature is 1 where the value is missing, and 0 elsewhere.
    """

    kind: ClassVar[str] = BOOLEAN
    mean: ClassVar[float] = 0.0
    deviation: ClassVar[float] = 1.0
    name: str
    fill: float
    flagged: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return (self.name, f"{self.name} missing") if self.flagged else (self.name,)

    @property
    def words(self) -> str:
        """The conversion, in words."""
        return "0 or 1" + (f"; missing: {self.fill:g} and a feature" if self.flagged else "")

    @property
    def width(self) -> int:
        """The number of features."""
        return 1 + self.flagged

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,) to features (1 or 2, m)."""
        return np.concatenate(_scaled([self], values[np.newaxis]))[: self.width]

    def onnx(self, x: Value) -> list[Value]:
        """The same conversion of values (m,) in ONNX: blocks of features, (m, 1) each."""
        filled, missing = _filled(x, self.fill)
        return [filled, missing] if self.flagged else [filled]


@attrs.frozen
class CategoryColumn:
    """A column of texts: a feature for each category, which is 1 for texts of that category.

    Attributes:
        name: The name of the column.
        categories: The texts that have their own feature, sorted.
        other: Whether another feature is 1 for all other texts. There is one if the training part
            has such texts: they occur once, or are not among the 100 most frequent. Without this
            feature, a text that is new after training gives zeros.
        flagged: Whether another feature is 1 where the text is missing. Without this feature, a
            missing text gives zeros.
    """

    kind: ClassVar[str] = TEXT
    name: str
    categories: tuple[str, ...] = attrs.field(converter=names_of)
    other: bool = False
    flagged: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        more = ["other"] * self.other + ["missing"] * self.flagged
        return (
            *(f"{self.name}={category}" for category in self.categories),
            *(f"{self.name} {word}" for word in more),
        )

    @property
    def words(self) -> str:
        """The conversion, in words."""
        more = ", other" * self.other + ", missing" * self.flagged
        return f"one of {listed(self.categories)}{more}"

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.categories) + self.other + self.flagged

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,), which are positions in `column.levels`, to features (n, m)."""
        missing, levels = np.isnan(values), column.levels
        features = np.zeros((self.width, values.size))
        places = {category: place for place, category in enumerate(self.categories)}
        other = len(places) if self.other else -1
        which = np.where(missing, len(levels), values).astype(np.int64)
        if len(levels) > values.size:  # few of which occur in a batch
            used, which = np.unique(which, return_inverse=True)
            levels = tuple(levels[level] for level in used if level < len(levels))
        of_level = np.array([places.get(text, other) for text in levels] + [-1], np.int64)
        place = of_level[which.reshape(-1)]
        if self.flagged:
            place[missing] = len(features) - 1
        example = np.flatnonzero(place >= 0)
        features[place[example], example] = 1.0
        return features

    def onnx(self, x: Value) -> list[Value]:
        """The same conversion of texts (m,) in ONNX: blocks of features, together (m, n).

        A missing text is "".
        """
        # TfIdfVectorizer is the core ONNX operator that can count texts.
        counted = [*self.categories, *([] if "" in self.categories else [""])]
        counts = _in_rows(x).op(
            "TfIdfVectorizer",
            dtype="float32",
            mode="TF",
            min_gram_length=1,
            max_gram_length=1,
            max_skip_count=0,
            ngram_counts=(0,),
            ngram_indexes=tuple(range(len(counted))),
            pool_strings=tuple(counted),
        )
        hot = counts.cast("float64")
        n = len(self.categories)
        blocks = [] if n == 0 else [hot.op("Slice", np.array([0]), np.array([n]), np.array([1]))]
        if self.other:
            known = hot.op("ReduceSum", np.array([1]), keepdims=1)
            blocks.append(hot.constant(1.0, "float64").op("Sub", known))
        if self.flagged:  # if "" is a category, no text stands for a missing one
            place = np.array([n]), np.array([n + 1]), np.array([1])
            absent = hot.op("Slice", *place) if "" not in self.categories else hot.op("Mul", 0.0)
            blocks.append(absent)
        return blocks


@attrs.frozen
class DroppedColumn:
    """A column that is left out, because the training part gives it no information.

    Attributes:
        name: The name of the column, which other tables need not have.
        why: The reason, in words.
    """

    kind: ClassVar[str] = "dropped"
    features: ClassVar[tuple[str, ...]] = ()
    name: str
    why: str

    @property
    def words(self) -> str:
        """The conversion, in words."""
        return f"left out, because {self.why}"


def _scaled(
    parts: Sequence[NumberColumn | BooleanColumn], values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The features of some columns, and 1 where a value is missing, from their values (k, m)."""
    numbers = np.array([[part.fill, part.mean, part.deviation] for part in parts])
    fill, mean, deviation = numbers.T[..., np.newaxis]
    missing = np.isnan(values)
    with np.errstate(over="ignore", under="ignore"):
        scaled = (np.where(missing, fill, values) - mean) / deviation
    if not (finite := np.isfinite(scaled)).all():
        place = int(np.argmin(finite.all(axis=1)))
        row = int(np.argmin(finite[place]))
        raise BadRow(
            f"column {parts[place].name!r} holds {values[place, row]:g}",
            row,
            f", expected a finite number near the mean {parts[place].mean:g}: correct it.",
        )
    return scaled, missing.astype(np.float64)


def _in_rows(values: Value) -> Value:
    """Values (m,) as a column (m, 1)."""
    return values.op("Unsqueeze", np.array([1]))


def _filled(x: Value, fill: float) -> tuple[Value, Value]:
    """Values (m,) with missing ones filled in, and 1 for each missing one: (m, 1) each."""
    column = _in_rows(x)
    missing = column.op("IsNaN", dtype=bool)
    number = column.constant(fill, "float64")
    return missing.op("Where", number, column, dtype="float64"), missing.cast("float64")


Encoded: TypeAlias = NumberColumn | BooleanColumn | CategoryColumn


def _parts(parts: Iterable[Encoded | DroppedColumn]) -> tuple[Encoded | DroppedColumn, ...]:
    return tuple(parts)


@attrs.frozen
class Columns:
    """Converts the rows of a table to network inputs and labels, as fitted by `fit_columns`.

    Attributes:
        parts: The conversion of each column, in the order of the features.
        targets: The conversion of the target columns.
        apart: The names of other columns that a table may have, which are ignored.

    Example:
        >>> from pydnn.data import Table
        >>> table = Table.of({"size": [1.0, 3.0, None], "city": ["a", "b", "b"], "y": [0, 1, 1]})
        >>> columns = nn.jobs.fit_columns(table.examples("y"), loss=nn.softmax_cross_entropy())
        >>> columns.features
        ('size', 'size missing', 'city=b', 'city other')
    """

    parts: tuple[Encoded | DroppedColumn, ...] = attrs.field(converter=_parts)
    targets: Targets
    apart: tuple[str, ...] = attrs.field(default=(), converter=names_of)

    @property
    def encoded(self) -> tuple[Encoded, ...]:
        """The conversions that give features; dropped columns are left out."""
        return tuple(part for part in self.parts if not isinstance(part, DroppedColumn))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features that the network takes."""
        return tuple(name for part in self.encoded for name in part.features)

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the columns to read from a file as texts, whatever they look like there."""
        features = tuple(part.name for part in self.encoded if part.kind == TEXT)
        return features + self.targets.texts

    def __call__(self, table: Table) -> FloatArray:
        """Convert a table, whose columns may be in any order, to features X (n_x, m), float64.

        Raises:
            BadInput: If a column is missing, new or not of the same kind as in training, naming it;
                or if a number is not finite.
        """
        places = {column.name: place for place, column in enumerate(table.columns)}
        self._expect_columns(places)
        encoded = self.encoded
        of_part = [places[part.name] for part in encoded]
        for part, place in zip(encoded, of_part, strict=True):
            _expect_kind(part, table.columns[place], table.values[place])
        starts = [0, *itertools.accumulate(part.width for part in encoded)]
        X = np.empty((starts[-1], table.rows))
        # All numbers at once, because a batch has few rows and a table may have many columns.
        numbers, numbered, first = [], [], []
        for part, place, start in zip(encoded, of_part, starts, strict=False):
            if isinstance(part, CategoryColumn):
                X[start : start + part.width] = part(table.columns[place], table.values[place])
            else:
                numbers.append(part)
                numbered.append(place)
                first.append(start)
        if numbers:
            scaled, missing = _scaled(numbers, table.values[numbered])
            X[first] = scaled
            flagged = [i for i, part in enumerate(numbers) if part.flagged]
            X[[first[i] + 1 for i in flagged]] = missing[flagged]
        return freeze(X)

    def onnx(self, graph: Graph) -> Value:
        """The same conversion in ONNX: one graph input per column, to features (m, n_x), float64.

        Numbers and truth values are float64, NaN if missing; texts are strings, "" if missing.
        """
        columns = [
            graph.input(part.name, (), object if part.kind == TEXT else "float64")
            for part in self.encoded
        ]
        pairs = zip(self.encoded, columns, strict=True)
        first, *others = [block for part, x in pairs for block in part.onnx(x)]
        return first.op("Concat", *others, axis=1) if others else first

    def examples(self, batch: TableBatch) -> Batch:
        """Convert the examples of a table to features and labels for training, float64.

        Raises:
            BadInput: If the columns or the targets are refused.
        """
        return Batch(self(batch.table), self.targets(batch.target), batch.weights)

    @property
    def summary(self) -> list[tuple[str, str, str, str]]:
        """A heading, and for each column its name, kind, number of features, and conversion."""
        rows = [("column", "kind", "features", "becomes")]
        rows += [(p.name, p.kind, str(len(p.features)), p.words) for p in self.parts]
        names = ", ".join(self.targets.names)
        return [*rows, (names, "target", "", self.targets.words)]

    def _expect_columns(self, places: Mapping[str, int]) -> None:
        for part in self.encoded:
            if part.name not in places:
                near = suggestion(part.name, places) or "give a table with it."
                raise BadInput(
                    f"the table has no column {part.name!r}, which the model was trained on: {near}"
                )
        known = {part.name for part in self.parts} | set(self.targets.names) | set(self.apart)
        for name in places:
            if name not in known:
                raise BadInput(
                    f"column {name!r} is not one of those in training, "
                    f"{listed([part.name for part in self.parts])}: remove it."
                )


def _expect_kind(part: Encoded, column: Column, values: FloatArray) -> None:
    if column.kind == part.kind:
        return
    present = np.flatnonzero(~np.isnan(values))
    if present.size:  # an empty column fits any kind
        row = int(present[0])
        expected = Column(part.name, part.kind).holds
        example = column.text(float(values[row]))
        raise BadRow(
            f"column {part.name!r} holds {column.holds}, e.g. {example!r}",
            row,
            f", expected {expected} as in training: correct it.",
        )


# As plain data, for files


def plain_of(columns: Columns) -> tuple[str, dict[str, FloatArray]]:
    """Convert columns to a text and arrays of numbers, from which `columns_of` rebuilds them."""
    parts: list[list[object]] = []
    numbers = np.zeros((len(columns.parts), 3))
    for row, part in zip(numbers, columns.parts, strict=True):
        match part:
            case NumberColumn(name, fill, mean, deviation, flagged):
                row[:] = fill, mean, deviation
                parts.append([part.kind, name, flagged])
            case BooleanColumn(name, fill, flagged):
                row[0] = fill
                parts.append([part.kind, name, flagged])
            case CategoryColumn(name, categories, other, flagged):
                parts.append([part.kind, name, list(categories), other, flagged])
            case DroppedColumn(name, why):
                parts.append([part.kind, name, why])
    targets = columns.targets
    text = json.dumps(
        {
            "parts": parts,
            "targets": [list(targets.names), targets.meaning, list(targets.classes)],
            "apart": list(columns.apart),
        },
        ensure_ascii=False,
    )
    scales = np.hstack([targets.mean, targets.deviation])
    return text, {"column_numbers": freeze(numbers), "target_scales": freeze(scales)}


def columns_of(
    where: str, text: str, numbers: Callable[[int], FloatArray], scales: FloatArray
) -> Columns:
    """Rebuild the columns that `plain_of` converted, from a file that may be a stranger's.

    Args:
        where: The name of the file, for messages.
        text: The text.
        numbers: A function that reads the numbers of n columns, `(n) -> (n, 3)`.
        scales: The mean and deviation of each target, shape (targets, 2).

    Raises:
        BadInput: If `plain_of` could not have written them.
    """
    damaged = BadInput(f"the columns in {where} are damaged: train the model again.")
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged from error
    match plain:
        case {"parts": list(parts), "targets": [list(names), str(meaning), list(classes)],
              "apart": list(apart)}:  # fmt: skip
            pass
        case _:
            raise damaged
    table = numbers(len(parts))
    read = [_read_part(plain, row.tolist()) for plain, row in zip(parts, table, strict=True)]
    several = meaning == LABELS and len(names) > 1 and names == classes
    one = meaning == CLASSES and len(names) == 1 and len(set(map(str, classes))) == len(classes) > 1
    fits = meaning == NUMBERS and not classes and len(names) == len(scales) > 0
    whole = (
        all(map(_is_text, [*names, *classes, *apart]))
        and (several or one or fits)
        and np.isfinite(table).all()
        and np.isfinite(scales).all()
        and (scales[:, 1:] > 0).all()
    )
    known = [part.name for part in read if part is not None]
    if not whole or len(known) < len(parts) or len({*known, *names}) < len(known) + len(names):
        raise damaged
    columns = Columns(
        [part for part in read if part is not None],
        Targets(names, meaning, classes, scales[:, :1], scales[:, 1:]),
        apart,
    )
    if not 0 < len(columns.features) <= _MOST_FEATURES:
        raise damaged
    return columns


def _read_part(plain: object, row: Sequence[float]) -> Encoded | DroppedColumn | None:
    fill, mean, deviation = row
    match plain:
        case ["number", str(name), bool(flagged)] if _is_text(name) and deviation > 0:
            return NumberColumn(name, fill, mean, deviation, flagged)
        case ["boolean", str(name), bool(flagged)] if _is_text(name) and fill in (0, 1):
            return BooleanColumn(name, fill, flagged)
        case ["text", str(name), list(categories), bool(other), bool(flagged)] if all(
            map(_is_text, [name, *categories])
        ) and len(set(categories)) == len(categories):
            return CategoryColumn(name, categories, other, flagged)
        case ["dropped", str(name), str(why)] if _is_text(name) and _is_text(why):
            return DroppedColumn(name, why)
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
