"""Converts the columns of a table to features and labels, and predictions back.

Numbers are standardized, and missing ones are filled in; truth values become 0 and 1; texts become
one feature per category. Targets become class numbers, or numbers of mean 0 and deviation 1, and
predictions become the table's class names and units. All of it is fitted on the training part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import attrs
import numpy as np

from pydnn.checks import BadInput, printable
from pydnn.data.tables import BOOLEAN, NUMBER, TEXT, Column, Table, TableBatch
from pydnn.jobs.standardization import fit_standardization
from pydnn.losses import Loss, class_count
from pydnn.metrics import classes_of, most_likely
from pydnn.numerics import Numerics, fast
from pydnn.other_names import suggestion
from pydnn.records import AnyArray, Batch, FloatArray, arrays, freeze

if TYPE_CHECKING:
    from pydnn.stages.graph import Graph, Value

__all__ = [
    "MOST_CATEGORIES",
    "BooleanColumn",
    "CategoryColumn",
    "Columns",
    "DroppedColumn",
    "Encoded",
    "NumberColumn",
    "Targets",
    "columns_of",
    "fit_columns",
]

MOST_CATEGORIES = 100  # with their own feature, in one column
_FEWEST_EXAMPLES = 2  # of a category: nothing can be learned about one that occurs once
_MOST_NAMED = 10  # classes or columns that a message lists
_MOST_FEATURES = 1 << 24


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


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

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,) to features (1 or 2, m)."""
        missing = np.isnan(values)
        filled = np.where(missing, self.fill, values)
        with np.errstate(over="ignore", under="ignore"):
            scaled = (filled - self.mean) / self.deviation
        if not np.isfinite(scaled).all():
            row = int(np.argmin(np.isfinite(scaled)))
            raise BadInput(
                f"column {self.name!r} holds {values[row]:g} in row {row + 1}, expected a finite "
                f"number near the mean {self.mean:g}: correct it."
            )
        return np.stack([scaled, missing]) if self.flagged else scaled[np.newaxis]

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

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,) to features (1 or 2, m)."""
        missing = np.isnan(values)
        filled = np.where(missing, self.fill, values)
        return np.stack([filled, missing]) if self.flagged else filled[np.newaxis]

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
    categories: tuple[str, ...] = attrs.field(converter=_names)
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

    def __call__(self, column: Column, values: FloatArray) -> FloatArray:
        """Convert values (m,), which are positions in `column.levels`, to features (n, m)."""
        missing = np.isnan(values)
        features = np.zeros((len(self.features), values.size))
        places = {category: place for place, category in enumerate(self.categories)}
        other = len(places) if self.other else -1
        of_level = np.array([places.get(text, other) for text in column.levels] + [-1], np.int64)
        place = of_level[np.where(missing, len(column.levels), values).astype(np.int64)]
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
_CLASSES, _LABELS, _NUMBERS = "classes", "labels", "numbers"


def _is_named_number(name: str) -> bool:
    """Whether a class of this name is a number, written as `Column.text` writes it."""
    try:
        return Column("").text(float(name)) == name
    except ValueError:
        return False


def _parts(parts: Iterable[Encoded | DroppedColumn]) -> tuple[Encoded | DroppedColumn, ...]:
    return tuple(parts)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Targets:
    """Converts target columns to labels, and predictions back.

    Attributes:
        names: The names of the columns.
        meaning: "classes" (of one column), "labels" (true or false), or "numbers".
        classes: The names of the classes, from class 0 on, or of the labels.
        mean: The numbers to subtract for training, shape (n, 1); empty without numbers.
        deviation: The numbers to divide by for training, shape (n, 1); empty without numbers.
    """

    names: tuple[str, ...] = attrs.field(converter=_names)
    meaning: str
    classes: tuple[str, ...] = attrs.field(default=(), converter=_names)
    mean: FloatArray = attrs.field(factory=lambda: np.zeros((0, 1)))
    deviation: FloatArray = attrs.field(factory=lambda: np.ones((0, 1)))

    @property
    def words(self) -> str:
        """The conversion, in words."""
        if self.meaning == _NUMBERS:
            pairs = zip(self.mean[:, 0], self.deviation[:, 0], strict=True)
            return "; ".join(f"(y - {mean:.6g}) / {deviation:.6g}" for mean, deviation in pairs)
        return f"{self.meaning} {listed(self.classes)}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the columns to read from a file as texts: "01" is not the class "1".

        Classes of numbers and of truth values are named in one way, whatever a file's way is.
        """
        numbers = all(map(_is_named_number, self.classes))
        truths = {Column("", BOOLEAN).text(value) for value in (0.0, 1.0)}
        texts = self.meaning == _CLASSES and not numbers and not truths.issuperset(self.classes)
        return self.names if texts else ()

    def expect_outputs(self, loss: Loss, n_out: int) -> None:
        """Refuse a network that does not have one output per class, label or number.

        Raises:
            BadInput: If it does not, with the number of outputs that it needs.
        """
        if self.meaning == _CLASSES:
            what = f"target {self.names[0]!r} has {len(self.classes)} classes"
            fits = class_count(loss.task(n_out), n_out) == len(self.classes)
            needed = 1 if loss.task(1) == "two classes" else len(self.classes)
        else:
            what = f"there are {len(self.names)} targets"
            fits, needed = n_out == len(self.names), len(self.names)
        if not fits:
            raise BadInput(
                f"{what} ({listed(self.classes or self.names)}), but the network has {n_out} "
                f"outputs: end it with dense({needed})."
            )

    def labels(self, target: Table) -> FloatArray:
        """Convert target columns to labels Y (n_y, m): class numbers, or numbers in their units.

        Raises:
            BadInput: If a target is missing, of another kind, or of a class that the training
                part does not have.
        """
        table = target.select(self.names)
        rows = [
            self._of_classes(*row) if self.meaning == _CLASSES else self._of_numbers(*row)
            for row in zip(table.columns, table.values, strict=True)
        ]
        return freeze(np.stack(rows))

    def __call__(self, target: Table) -> FloatArray:
        """Convert target columns to the labels Y (n_y, m) for training; numbers are scaled.

        Raises:
            BadInput: If `labels` refuses the targets.
        """
        Y = self.labels(target)
        return freeze((Y - self.mean) / self.deviation) if self.meaning == _NUMBERS else Y

    def in_units(self, P: FloatArray) -> FloatArray:
        """Convert the network's predictions P (n_y, m) to the units of the table."""
        if self.meaning != _NUMBERS:
            return P
        scaled = P.astype(np.float64) * self.deviation + self.mean
        return freeze(scaled)

    def onnx(self, P: Value) -> Value:
        """The same conversion of predictions (m, n_y) as `in_units`, in ONNX."""
        if self.meaning != _NUMBERS:
            return P
        return P.cast("float64").op("Mul", self.deviation[:, 0]).op("Add", self.mean[:, 0])

    def of_predictions(self, P: FloatArray) -> AnyArray:
        """Convert predictions P (n_y, m) in the units of the table to an answer for each row.

        Returns:
            Class names (m,); or numbers, (m,) for one target and (m, n) for n targets; or True
            and False for each label, (m, n).
        """
        if self.meaning == _CLASSES:
            numbers = classes_of(P) if len(P) == 1 else most_likely(P)
            return freeze(np.array(self.classes)[numbers[0].astype(np.int64)])
        rows = classes_of(P).astype(bool).T if self.meaning == _LABELS else P.T
        return freeze(rows[:, 0] if len(self.names) == 1 else rows)

    def _of_classes(self, column: Column, values: FloatArray) -> FloatArray:
        places = {name: place for place, name in enumerate(self.classes)}
        distinct, which = np.unique(values, return_inverse=True)
        numbers = np.full(distinct.size, -1.0)
        for i, value in enumerate(distinct.tolist()):
            name = "" if value != value else column.text(value)
            if name not in places:
                row = int(np.argmax(which == i)) + 1
                problem = "is missing" if value != value else f"holds {name!r}"
                raise BadInput(
                    f"target {column.name!r} {problem} in row {row}, expected a class of "
                    f"the training part, {listed(self.classes)}: correct the row or leave it out."
                )
            numbers[i] = places[name]
        return numbers[which.reshape(-1)]

    def _of_numbers(self, column: Column, values: FloatArray) -> FloatArray:
        if column.kind not in (NUMBER, BOOLEAN) and not np.isnan(values).all():
            raise BadInput(
                f"target {column.name!r} holds {column.holds}, e.g. {column.levels[0]!r}, expected "
                f"{'0 and 1' if self.meaning == _LABELS else 'numbers'}: for classes, choose loss "
                '= "softmax_cross_entropy".'
            )
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise BadInput(
                f"target {column.name!r} is {values[row]} in row {row + 1}, expected a finite "
                "number: fill it in, or remove the row."
            )
        return values


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
        >>> columns = fit_columns(table.examples("y"), loss=nn.softmax_cross_entropy())
        >>> columns.features
        ('size', 'size missing', 'city=b', 'city other')
    """

    parts: tuple[Encoded | DroppedColumn, ...] = attrs.field(converter=_parts)
    targets: Targets
    apart: tuple[str, ...] = attrs.field(default=(), converter=_names)

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
        blocks = []
        for part in self.encoded:
            column, values = table.columns[places[part.name]], table.values[places[part.name]]
            _expect_kind(part, column, values)
            blocks.append(part(column, values))
        return freeze(np.concatenate(blocks))

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
        raise BadInput(
            f"column {part.name!r} holds {column.holds}, e.g. {column.text(float(values[row]))!r} "
            f"in row {row + 1}, expected {expected} as in training: correct it."
        )


def listed(names: Sequence[str]) -> str:
    """The first names, for a message.

    Example:
        >>> from pydnn.jobs.columns import listed
        >>> listed(["red", "white"])
        'red, white'
    """
    more = len(names) - _MOST_NAMED
    shown = ", ".join(printable(name, most=60) for name in names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


# Fitting


def fit_columns(
    train: TableBatch, *, loss: Loss, standardize: bool = True, numerics: Numerics = fast
) -> Columns:
    """Fit the conversion of each column to the training part.

    Args:
        train: The training part, without the rows held back for validation.
        loss: The loss, which determines the meaning of the targets.
        standardize: Whether to scale numbers to mean 0 and deviation 1.
        numerics: The arithmetic of means and deviations.

    Raises:
        BadInput: If a column has no values, a target has only one value or does not fit the loss,
            or a number cannot be standardized; the message names the column.
    """
    targets = _fit_targets(train.target, loss, numerics)
    parts = [_fit(column, values) for column, values in zip(train.features, train.X, strict=True)]
    if standardize:
        parts = _standardized(parts, train, numerics)
    columns = Columns(parts, targets, train.apart)
    if not columns.features:
        raise BadInput(
            "no column is left to learn from, because each has only one value: give other columns."
        )
    return columns


def _fit(column: Column, values: FloatArray) -> Encoded | DroppedColumn:
    missing = np.isnan(values)
    present = values[~missing]
    if not present.size:
        raise BadInput(
            f"column {column.name!r} has no values, expected some: fill it in, or ignore it."
        )
    flagged = bool(missing.any())
    if column.kind == TEXT:
        return _fit_categories(column, present, flagged)
    if not flagged and (present == present[0]).all():
        return DroppedColumn(column.name, f"it is always {column.text(float(present[0]))}")
    if column.kind == BOOLEAN:
        return BooleanColumn(column.name, float(2 * present.sum() > present.size), flagged)
    return NumberColumn(column.name, _median(present), flagged=flagged)


def _fit_categories(
    column: Column, present: FloatArray, flagged: bool
) -> CategoryColumn | DroppedColumn:
    counts = np.bincount(present.astype(np.int64), minlength=len(column.levels))
    # The most frequent first; equally frequent ones in alphabetical order.
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    kept = sorted(column.levels[i] for i in order if counts[i] >= _FEWEST_EXAMPLES)
    other = int(counts.sum()) > sum(int(counts[i]) for i in order if counts[i] >= _FEWEST_EXAMPLES)
    if len(kept) + other + flagged < 2:
        one = f"it is always {kept[0]!r}" if kept else "every row has another text"
        return DroppedColumn(column.name, one)
    return CategoryColumn(column.name, kept, other, flagged)


def _median(values: FloatArray) -> float:
    ordered = np.sort(values)
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(middle[0] if middle[0] == middle[1] else middle[0] / 2 + middle[1] / 2)


def _standardized(
    parts: Sequence[Encoded | DroppedColumn], train: TableBatch, numerics: Numerics
) -> list[Encoded | DroppedColumn]:
    numbers = {place: part for place, part in enumerate(parts) if isinstance(part, NumberColumn)}
    if not numbers:
        return list(parts)
    X = train.X[list(numbers)]
    filled = np.where(np.isnan(X), [[part.fill] for part in numbers.values()], X)
    names = [f"column {part.name!r}" for part in numbers.values()]
    fitted = fit_standardization(filled, numerics=numerics, names=names)
    scales = np.hstack([fitted.mean, fitted.deviation]).tolist()
    for (place, part), (mean, deviation) in zip(list(numbers.items()), scales, strict=True):
        numbers[place] = attrs.evolve(part, mean=mean, deviation=deviation)
    return [numbers.get(place, part) for place, part in enumerate(parts)]


def _fit_targets(target: Table, loss: Loss, numerics: Numerics) -> Targets:
    task = loss.task(len(target.columns))
    if task == "regression":
        return _fit_numbers(target, loss, numerics)
    if task == "several labels" and len(target.columns) > 1:
        targets = Targets(target.names, _LABELS, target.names)
        targets.labels(target)  # refuses values that are not numbers
        return targets
    if len(target.columns) > 1:
        raise BadInput(
            f"there are {len(target.columns)} targets ({listed(target.names)}), expected one for "
            f"{loss.name}: name one column."
        )
    column = target.columns[0]
    distinct = np.unique(target.values)
    classes = [column.text(value) for value in distinct.tolist()]
    if len(classes) < 2:
        raise BadInput(
            f"target {column.name!r} is {classes[0]!r} in every row, expected two classes or more: "
            "give examples of another class."
        )
    if task == "two classes" and len(classes) > 2:
        raise BadInput(
            f"target {column.name!r} has {len(classes)} classes ({listed(classes)}), expected 2 "
            f"for {loss.name}: use softmax_cross_entropy and dense({len(classes)})."
        )
    return Targets(target.names, _CLASSES, classes)


def _fit_numbers(target: Table, loss: Loss, numerics: Numerics) -> Targets:
    plain = np.zeros((len(target.columns), 1)), np.ones((len(target.columns), 1))
    unscaled = Targets(target.names, _NUMBERS, (), *plain)
    Y = unscaled.labels(target)
    for column, values in zip(target.columns, Y, strict=True):
        if (values == values[0]).all():
            raise BadInput(
                f"target {column.name!r} is {values[0]:g} in every row, expected different "
                "numbers: choose another target, since this one leaves nothing to learn."
            )
    if not loss.takes_scaled:
        return unscaled
    names = [f"target {name!r}" for name in target.names]
    fitted = fit_standardization(Y, numerics=numerics, names=names)
    return Targets(target.names, _NUMBERS, (), fitted.mean, fitted.deviation)


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
    several = meaning == _LABELS and len(names) > 1 and names == classes
    one = (
        meaning == _CLASSES and len(names) == 1 and len(set(map(str, classes))) == len(classes) > 1
    )
    fits = meaning == _NUMBERS and not classes and len(names) == len(scales) > 0
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
