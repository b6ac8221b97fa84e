"""Fits the conversion of a table's columns to the training part, block by block.

The rows may stay in a file: each pass over them has one block of them in memory. What is fitted has
the same bits as for the same rows in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from pydnn.checks import BadInput, BadRow
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import BOOLEAN, TEXT, Column, Table, TableBatch
from pydnn.jobs.columns import (
    BooleanColumn,
    CategoryColumn,
    Columns,
    DroppedColumn,
    Encoded,
    NumberColumn,
)
from pydnn.jobs.medians import medians
from pydnn.jobs.standardization import (
    Standardization,
    fit_standardization,
    fit_standardization_over,
)
from pydnn.jobs.targets import CLASSES, LABELS, NUMBERS, Targets, listed
from pydnn.losses import Loss
from pydnn.numerics import Numerics, fast
from pydnn.records import Batch, Examples, FloatArray, IntArray

__all__ = ["MOST_CATEGORIES", "fit_columns"]

MOST_CATEGORIES = 100  # with their own feature, in one column
_FEWEST_EXAMPLES = 2  # of a category: nothing can be learned about one that occurs once
_MOST_CLASSES = 1 << 20
_SAMPLE = 1 << 12  # rows


def fit_columns(
    train: TableBatch | StoredTableBatch,
    *,
    loss: Loss,
    standardize: bool = True,
    numerics: Numerics = fast,
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

    Example:
        >>> table = nn.data.Table.of({"size": [1.0, 3.0, 8.0], "y": [0, 1, 1]})
        >>> columns = fit_columns(table.examples("y"), loss=nn.softmax_cross_entropy())
        >>> columns.parts[0].mean, columns.targets.classes
        (4.0, ('0', '1'))
    """
    targets = _fit_targets(train, loss, numerics)
    counted = _Counted(train)
    parts = [_fit(counted, place) for place in range(len(train.features))]
    parts = _with_medians(parts, train, counted)
    if standardize:
        parts = _standardized(parts, train, numerics)
    columns = Columns(parts, targets, train.apart)
    if not columns.features:
        raise BadInput(
            "no column is left to learn from, because each has only one value: give other columns."
        )
    return columns


class _Counted:
    """What one pass over the rows says of each column of features.

    Attributes:
        columns: The columns.
        rows: The number of rows.
        present: How many values are not missing (columns,).
        least: The least value that is not missing (columns,).
        most: The largest one.
        truths: The number of values that are true, of columns of truth values (columns,).
        levels: How often each level occurs, by the place of a column of texts.
    """

    def __init__(self, train: TableBatch | StoredTableBatch) -> None:
        self.columns, self.rows = train.features, train.count
        self.present, self.truths = np.zeros((2, len(self.columns)), np.int64)
        self.least, self.most = np.full((2, len(self.columns)), np.nan)
        texts = [place for place, column in enumerate(self.columns) if column.kind == TEXT]
        self.levels = {
            place: np.zeros(len(self.columns[place].levels), np.int64) for place in texts
        }
        truths = [place for place, column in enumerate(self.columns) if column.kind == BOOLEAN]
        for block in train.blocks():
            X, missing = block.X, np.isnan(block.X)
            self.present += X.shape[1] - missing.sum(axis=1)
            self.least = np.fmin(self.least, np.fmin.reduce(X, axis=1))
            self.most = np.fmax(self.most, np.fmax.reduce(X, axis=1))
            self.truths[truths] += (X[truths] > 0).sum(axis=1)
            for place, counts in self.levels.items():
                codes = X[place][~missing[place]].astype(np.int64)
                counts += np.bincount(codes, minlength=counts.size)


def _fit(counted: _Counted, place: int) -> Encoded | DroppedColumn:
    """The conversion of a column, without the median and the scale of numbers."""
    column, present = counted.columns[place], int(counted.present[place])
    if not present:
        raise BadInput(
            f"column {column.name!r} has no values, expected some: fill it in, or ignore it."
        )
    flagged = present < counted.rows
    if column.kind == TEXT:
        return _fit_categories(column, counted.levels[place], flagged)
    least = float(counted.least[place])
    if not flagged and least == counted.most[place]:
        return DroppedColumn(column.name, f"it is always {column.text(least)}")
    if column.kind == BOOLEAN:
        return BooleanColumn(column.name, float(2 * counted.truths[place] > present), flagged)
    return NumberColumn(column.name, 0.0, flagged=flagged)


def _fit_categories(
    column: Column, counts: IntArray, flagged: bool
) -> CategoryColumn | DroppedColumn:
    # The most frequent first; equally frequent ones in alphabetical order.
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    kept = sorted(column.levels[i] for i in order if counts[i] >= _FEWEST_EXAMPLES)
    other = int(counts.sum()) > sum(int(counts[i]) for i in order if counts[i] >= _FEWEST_EXAMPLES)
    if len(kept) + other + flagged < 2:
        one = f"it is always {kept[0]!r}" if kept else "every row has another text"
        return DroppedColumn(column.name, one)
    return CategoryColumn(column.name, kept, other, flagged)


_Parts = list[Encoded | DroppedColumn]


def _with_medians(parts: _Parts, train: TableBatch | StoredTableBatch, counted: _Counted) -> _Parts:
    """The parts with the median of each column of numbers, which replaces missing ones."""
    places = [place for place, part in enumerate(parts) if isinstance(part, NumberColumn)]
    if not places:
        return parts

    def numbers() -> Iterator[FloatArray]:
        return (block.X[places] for block in train.blocks())

    def sample() -> FloatArray:
        rows = np.linspace(0, train.count - 1, _SAMPLE).astype(np.int64)
        return train.take(rows).X[places]

    fills = medians(numbers, counted.present[places], sample).tolist()
    changed = dict(zip(places, fills, strict=True))
    return [
        attrs.evolve(part, fill=changed[place]) if isinstance(part, NumberColumn) else part
        for place, part in enumerate(parts)
    ]


def _standardized(
    parts: _Parts, train: TableBatch | StoredTableBatch, numerics: Numerics
) -> _Parts:
    numbers = {place: part for place, part in enumerate(parts) if isinstance(part, NumberColumn)}
    if not numbers:
        return parts
    places = list(numbers)
    fills = np.array([[part.fill] for part in numbers.values()])

    def filled(block: Batch) -> Batch:
        X = block.X[places]
        return Batch(np.where(np.isnan(X), fills, X), block.Y)

    names = [f"column {part.name!r}" for part in numbers.values()]
    fitted = _fitted(train.then(filled), numerics, names)
    scales = np.hstack([fitted.mean, fitted.deviation]).tolist()
    scaled = {
        place: attrs.evolve(part, mean=mean, deviation=deviation)
        for (place, part), (mean, deviation) in zip(numbers.items(), scales, strict=True)
    }
    return [scaled.get(place, part) for place, part in enumerate(parts)]


def _fitted(numbers: Examples, numerics: Numerics, names: Sequence[str]) -> Standardization:
    if isinstance(numbers, Batch):
        return fit_standardization(numbers.X, numerics=numerics, names=names)
    return fit_standardization_over(numbers, numerics=numerics, names=names)


# Targets


def _fit_targets(train: TableBatch | StoredTableBatch, loss: Loss, numerics: Numerics) -> Targets:
    columns, names = train.targets, tuple(column.name for column in train.targets)
    task = loss.task(len(columns))
    if task == "regression":
        return _fit_numbers(train, loss, numerics)
    if task == "several labels" and len(columns) > 1:
        targets = Targets(names, LABELS, names)
        for _ in _labels(train, targets):
            pass  # values that are not numbers are refused
        return targets
    if len(columns) > 1:
        raise BadInput(
            f"there are {len(columns)} targets ({listed(names)}), expected one for "
            f"{loss.name}: name one column."
        )
    [column] = columns
    classes = [column.text(value) for value in _distinct(train)]
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
    return Targets(names, CLASSES, classes)


def _distinct(train: TableBatch | StoredTableBatch) -> list[float]:
    """The different values of the only target, in order."""
    distinct = train.distinct_labels(most=_MOST_CLASSES)
    if distinct.size > _MOST_CLASSES:
        raise BadInput(
            f"target {train.targets[0].name!r} has more than {_MOST_CLASSES} different values, "
            "expected classes: choose a loss for numbers, such as mean_squared."
        )
    values: list[float] = distinct.tolist()
    return values


def _labels(train: TableBatch | StoredTableBatch, targets: Targets) -> Iterator[FloatArray]:
    """The labels of all examples in order, block by block."""
    rows = 0
    for Y in train.label_blocks():
        try:
            yield targets.labels(Table(train.targets, Y))
        except BadRow as error:
            raise error.after(rows) from error
        rows += Y.shape[1]


def _fit_numbers(train: TableBatch | StoredTableBatch, loss: Loss, numerics: Numerics) -> Targets:
    names, count = tuple(column.name for column in train.targets), len(train.targets)
    unscaled = Targets(names, NUMBERS, (), np.zeros((count, 1)), np.ones((count, 1)))
    least, most = np.full((2, count), np.nan)
    for Y in _labels(train, unscaled):
        least, most = np.fmin(least, Y.min(axis=1)), np.fmax(most, Y.max(axis=1))
    for name, value in zip(names, np.where(least == most, least, np.nan).tolist(), strict=True):
        if value == value:
            raise BadInput(
                f"target {name!r} is {value:g} in every row, expected different "
                "numbers: choose another target, since this one leaves nothing to learn."
            )
    if not loss.takes_scaled:
        return unscaled

    def labels(block: Batch) -> Batch:
        assert isinstance(block, TableBatch)
        Y = unscaled.labels(block.target)
        return Batch(Y, Y)

    fitted = _fitted(train.then(labels), numerics, [f"target {name!r}" for name in names])
    return Targets(names, NUMBERS, (), fitted.mean, fitted.deviation)
