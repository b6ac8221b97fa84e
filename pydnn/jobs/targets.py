"""Converts the target columns of a table to labels, and predictions back to names and units.

Targets become class numbers, or numbers of mean 0 and deviation 1 over the training part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, BadRow, printable
from pydnn.data.tables import BOOLEAN, NUMBER, Column, Table
from pydnn.losses import Loss, class_count
from pydnn.metrics import classes_of, most_likely
from pydnn.records import AnyArray, FloatArray, arrays, freeze

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["CLASSES", "LABELS", "NUMBERS", "Targets", "listed", "names_of"]

CLASSES, LABELS, NUMBERS = "classes", "labels", "numbers"
_MOST_NAMED = 10  # classes or columns that a message lists


def names_of(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Example:
        >>> names_of(["a", "b"])
        ('a', 'b')
    """
    return tuple(names)


def listed(names: Sequence[str]) -> str:
    """The first names, for a message.

    Example:
        >>> from pydnn.jobs.targets import listed
        >>> listed(["red", "white"])
        'red, white'
    """
    more = len(names) - _MOST_NAMED
    shown = ", ".join(printable(name, most=60) for name in names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _is_named_number(name: str) -> bool:
    """Whether a class of this name is a number, written as `Column.text` writes it."""
    try:
        return Column("").text(float(name)) == name
    except ValueError:
        return False


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

    names: tuple[str, ...] = attrs.field(converter=names_of)
    meaning: str
    classes: tuple[str, ...] = attrs.field(default=(), converter=names_of)
    mean: FloatArray = attrs.field(factory=lambda: np.zeros((0, 1)))
    deviation: FloatArray = attrs.field(factory=lambda: np.ones((0, 1)))

    @property
    def words(self) -> str:
        """The conversion, in words."""
        if self.meaning == NUMBERS:
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
        texts = self.meaning == CLASSES and not numbers and not truths.issuperset(self.classes)
        return self.names if texts else ()

    def expect_outputs(self, loss: Loss, n_out: int) -> None:
        """Refuse a network that does not have one output per class, label or number.

        Raises:
            BadInput: If it does not, with the number of outputs that it needs.
        """
        if self.meaning == CLASSES:
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
            self._of_classes(*row) if self.meaning == CLASSES else self._of_numbers(*row)
            for row in zip(table.columns, table.values, strict=True)
        ]
        return freeze(np.stack(rows))

    def __call__(self, target: Table) -> FloatArray:
        """Convert target columns to the labels Y (n_y, m) for training; numbers are scaled.

        Raises:
            BadInput: If `labels` refuses the targets.
        """
        Y = self.labels(target)
        return freeze((Y - self.mean) / self.deviation) if self.meaning == NUMBERS else Y

    def in_units(self, P: FloatArray) -> FloatArray:
        """Convert the network's predictions P (n_y, m) to the units of the table."""
        if self.meaning != NUMBERS:
            return P
        scaled = P.astype(np.float64) * self.deviation + self.mean
        return freeze(scaled)

    def onnx(self, P: Value) -> Value:
        """The same conversion of predictions (m, n_y) as `in_units`, in ONNX."""
        if self.meaning != NUMBERS:
            return P
        return P.cast("float64").op("Mul", self.deviation[:, 0]).op("Add", self.mean[:, 0])

    def of_predictions(self, P: FloatArray) -> AnyArray:
        """Convert predictions P (n_y, m) in the units of the table to an answer for each row.

        Returns:
            Class names (m,); or numbers, (m,) for one target and (m, n) for n targets; or True
            and False for each label, (m, n).
        """
        if self.meaning == CLASSES:
            numbers = classes_of(P) if len(P) == 1 else most_likely(P)
            return freeze(np.array(self.classes)[numbers[0].astype(np.int64)])
        rows = classes_of(P).astype(bool).T if self.meaning == LABELS else P.T
        return freeze(rows[:, 0] if len(self.names) == 1 else rows)

    def _of_classes(self, column: Column, values: FloatArray) -> FloatArray:
        places = {name: place for place, name in enumerate(self.classes)}
        distinct, which = np.unique(values, return_inverse=True)
        numbers = np.full(distinct.size, -1.0)
        for i, value in enumerate(distinct.tolist()):
            name = "" if value != value else column.text(value)
            if name not in places:
                problem = "is missing" if value != value else f"holds {name!r}"
                raise BadRow(
                    f"target {column.name!r} {problem}",
                    int(np.argmax(which.reshape(-1) == i)),
                    f", expected a class of the training part, {listed(self.classes)}: correct the "
                    "row or leave it out.",
                )
            numbers[i] = places[name]
        return numbers[which.reshape(-1)]

    def _of_numbers(self, column: Column, values: FloatArray) -> FloatArray:
        if column.kind not in (NUMBER, BOOLEAN) and not np.isnan(values).all():
            raise BadInput(
                f"target {column.name!r} holds {column.holds}, e.g. {column.levels[0]!r}, expected "
                f"{'0 and 1' if self.meaning == LABELS else 'numbers'}: for classes, choose loss "
                '= "softmax_cross_entropy".'
            )
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise BadRow(
                f"target {column.name!r} is {values[row]}",
                row,
                ", expected a finite number: fill it in, or remove the row.",
            )
        return values
