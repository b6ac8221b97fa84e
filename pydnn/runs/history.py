"""The numbers of every step of a run: rows of a step each, stored as columns."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, MissingExtra, shown
from pydnn.fingerprints import canonical
from pydnn.other_names import suggestion
from pydnn.records import AnyArray, freeze, keep_readonly
from pydnn.runs.state_arrays import ReadArray
from pydnn.storage.files import RESTORE
from pydnn.training import StepInfo
from pydnn.training.evaluation import is_number

__all__ = [
    "ALWAYS",
    "KINDS",
    "SHOWN",
    "Column",
    "History",
    "NoColumn",
    "Rows",
    "history_of",
    "joined",
    "read_rows",
    "row_arrays",
    "rows_of",
]

# The columns that every step has, and their dtypes. "checksum" is the checksum of the parameters
# after the step. It shows the exact step at which two runs start to differ, even if no cost does.
ALWAYS: Mapping[str, type[np.float64] | type[np.uint64]] = {
    "cost": np.float64,
    "gradient_norm": np.float64,
    "checksum": np.uint64,
}
SHOWN = ("cost", "gradient_norm")  # of these, the ones that say something to people
KINDS = ("observed", "measured")
_same = attrs.cmp_using(eq=np.array_equal)


@keep_readonly
@attrs.frozen(unsafe_hash=False)
class Column:
    """A number that k steps have: its values, float64 (k,), and the steps, int64 (k,), in order."""

    steps: NDArray[np.int64] = attrs.field(eq=_same)
    values: NDArray[np.float64] = attrs.field(eq=_same)


@keep_readonly
@attrs.frozen(eq=False)
class Rows:
    """The numbers of n steps in a row.

    Attributes:
        start: The number of the first step.
        always: The columns that every step has, by name, each (n,).
        columns: The other columns, by kind ("observed" or "measured") and name.
    """

    start: int
    always: Mapping[str, NDArray[Any]]  # of the dtypes of ALWAYS
    columns: Mapping[tuple[str, str], Column]

    def __len__(self) -> int:
        return len(self.always["cost"])

    @property
    def stop(self) -> int:
        """The number of the last step, plus 1."""
        return self.start + len(self)

    @property
    def curves(self) -> dict[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The other columns as curves: iterations (k,) and values (k,), by kind and name.

        The iteration is that of the state which a value describes. A step observes the state before
        it, and a measurement is of the state after it: that of step 19 is of iteration 20.
        """
        return {
            (kind, name): (column.steps + (kind == "measured"), column.values)
            for (kind, name), column in self.columns.items()
        }

    @property
    def last_numbers(self) -> dict[str, float]:
        """The last number of each column by name, without the checksums."""
        values = {name: c.values for (_, name), c in self.columns.items()}
        values |= {name: self.always[name] for name in SHOWN}
        return {name: float(numbers[-1]) for name, numbers in values.items() if len(numbers)}

    def infos(self) -> Iterator[StepInfo]:
        """The info of each step, as the training yielded it."""
        values_of: dict[str, list[dict[str, float]]] = {
            kind: [{} for _ in range(len(self))] for kind in KINDS
        }
        for (kind, name), column in self.columns.items():
            for step, value in zip(column.steps.tolist(), column.values.tolist(), strict=True):
                values_of[kind][step - self.start][name] = value
        costs, norms = (self.always[name].tolist() for name in ("cost", "gradient_norm"))
        for i, (cost, norm) in enumerate(zip(costs, norms, strict=True)):
            yield StepInfo(
                self.start + i, cost, norm, values_of["observed"][i], values_of["measured"][i]
            )

    def numbers(self, step: int) -> dict[str, np.generic]:
        """All numbers of one step by readable names, the most informative first."""
        i = step - self.start
        numbers: dict[str, np.generic] = {
            name.replace("_", " "): self.always[name][i] for name in ("cost", "gradient_norm")
        }
        for (kind, name), column in self.columns.items():
            place = int(np.searchsorted(column.steps, step))
            if place < len(column.steps) and column.steps[place] == step:
                numbers[f"{kind} {name}"] = column.values[place]
        return numbers | {"checksum of the parameters after it": self.always["checksum"][i]}

    def without(self, names: Collection[tuple[str, str]]) -> Rows:
        """The same rows without the columns that have these kinds and names."""
        columns = {name: c for name, c in self.columns.items() if name not in names}
        return Rows(self.start, self.always, columns)

    def between(self, start: int, stop: int) -> Rows:
        """The rows of the steps from `start` up to but without `stop`, as far as they are here."""
        start = max(min(start, self.stop), self.start)
        stop = max(min(stop, self.stop), start)
        part = slice(start - self.start, stop - self.start)
        columns = {}
        for name, column in self.columns.items():
            inside = slice(*np.searchsorted(column.steps, (start, stop)))
            if inside.start < inside.stop:
                columns[name] = Column(column.steps[inside], column.values[inside])
        return Rows(start, {name: values[part] for name, values in self.always.items()}, columns)


def rows_of(taken: Sequence[tuple[StepInfo, int]], *, start: int) -> Rows:
    """The rows of consecutive steps.

    An observed value that is not a single number, such as a vector, is left out.

    Args:
        taken: The info of each step, and the checksum of the parameters after it.
        start: The number of the first step.
    """
    pairs: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for info, _ in taken:
        for kind in KINDS:
            for name, value in getattr(info, kind).items():
                if is_number(value):
                    pairs.setdefault((kind, name), []).append((info.iteration, float(value)))
    always = {
        "cost": [info.cost for info, _ in taken],
        "gradient_norm": [info.gradient_norm for info, _ in taken],
        "checksum": [words for _, words in taken],
    }
    return Rows(
        start,
        {name: freeze(np.array(always[name], dtype)) for name, dtype in ALWAYS.items()},
        {name: _column(of_one) for name, of_one in pairs.items()},
    )


def _column(pairs: list[tuple[int, float]]) -> Column:
    steps, values = zip(*pairs, strict=True)
    return Column(freeze(np.array(steps, np.int64)), freeze(np.array(values, np.float64)))


def joined(parts: Sequence[Rows]) -> Rows:
    """Consecutive rows joined into one record."""
    names = list(dict.fromkeys(name for part in parts for name in part.columns))
    columns = {}
    for name in names:
        pieces = [part.columns[name] for part in parts if name in part.columns]
        columns[name] = Column(
            freeze(np.concatenate([piece.steps for piece in pieces])),
            freeze(np.concatenate([piece.values for piece in pieces])),
        )
    always = {
        name: freeze(np.concatenate([part.always[name] for part in parts])) for name in ALWAYS
    }
    return Rows(parts[0].start, always, columns)


def row_arrays(rows: Rows) -> dict[str, AnyArray]:
    """The rows as the named arrays of a file, which holds the names of the columns elsewhere."""
    arrays = {name: canonical(values) for name, values in rows.always.items()}
    for i, column in enumerate(rows.columns.values()):
        arrays[f"column.{i}.steps"] = column.steps
        arrays[f"column.{i}.values"] = canonical(column.values)
    return arrays


def read_rows(
    read: ReadArray, *, start: int, stop: int, columns: Sequence[tuple[str, str]], where: str
) -> Rows:
    """The rows of a file.

    Args:
        read: A function that reads an array of the file.
        start: The number of the first step.
        stop: The number of the last step, plus 1.
        columns: The kind and name of each column that not every step has.
        where: The name of the file, for messages.

    Raises:
        BadInput: If an array is missing, has another size, or belongs to other steps.
    """
    always = {name: read(name, dtype, (stop - start,)) for name, dtype in ALWAYS.items()}
    others = {}
    for i, name in enumerate(columns):
        steps = read(f"column.{i}.steps", np.int64, ("k",))
        values = read(f"column.{i}.values", np.float64, (len(steps),))
        inside = not steps.size or (steps[0] >= start and steps[-1] < stop)
        # Compared, not subtracted, because a difference of two numbers of a stranger can overflow.
        if not (inside and (steps[1:] > steps[:-1]).all()):
            raise BadInput(f"column.{i}.steps in {where} are not those of the segment: {RESTORE}.")
        others[name] = Column(freeze(steps), freeze(values))
    return Rows(start, {name: freeze(values) for name, values in always.items()}, others)


class NoColumn(BadInput, KeyError):  # noqa: N818
    """The error of a history that has no column of some name."""

    __str__ = BaseException.__str__  # a KeyError would show the message in quotes


@keep_readonly
@attrs.frozen(eq=False, repr=False)
class History(Mapping[str, NDArray[Any]]):
    """The numbers of every step of a training as named columns; see `Run.history`.

    It maps names to arrays with one number per step: "step" (int64); "cost" and "gradient_norm"
    (float64); the values that the optimizer observes, e.g. "learning_rate"; and the measurements,
    e.g. "validation cost". A step without a number has NaN. The cost of step i is that of the state
    before it, of iteration i; a measurement in the row of step i is of the state after it, of
    iteration i + 1, where pictures show it.

    Attributes:
        columns: The arrays by name.

    Example:
        >>> from pydnn.runs.history import rows_of
        >>> infos = [nn.training.StepInfo(i, 1 / (i + 1), 2.0) for i in range(2)]
        >>> history = history_of(rows_of([(info, 0) for info in infos], start=0))
        >>> history
        <History of 2 steps: step, cost, gradient_norm>
        >>> history["cost"]
        array([1. , 0.5])
    """

    columns: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self.columns[name]
        except KeyError:
            pass
        known = ", ".join(self.columns)
        advice = suggestion(str(name), self.columns) or f"choose one of {known}."
        raise NoColumn(f"the history has no column {shown(name)}: {advice}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __repr__(self) -> str:
        return f"<History of {len(self.columns['step'])} steps: {', '.join(self.columns)}>"

    def to_pandas(self) -> Any:
        """The history as a `pandas.DataFrame`, indexed by step.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingExtra(
                "a data frame needs pandas, which is not installed: run pip install pandas."
            ) from error
        return pandas.DataFrame(dict(self.columns)).set_index("step")


def history_of(rows: Rows) -> History:
    """The named columns of rows; a measured column replaces an observed one of the same name."""
    columns: dict[str, NDArray[Any]] = {
        "step": np.arange(rows.start, rows.stop, dtype=np.int64),
        "cost": rows.always["cost"],
        "gradient_norm": rows.always["gradient_norm"],
    }
    always = tuple(columns)
    # "measured" is the last of KINDS, so it overwrites an observed column of the same name.
    for kind in KINDS:
        for (of_kind, name), column in rows.columns.items():
            if of_kind == kind and name not in always:
                whole = columns.setdefault(name, np.full(len(rows), np.nan))
                whole[column.steps - rows.start] = column.values
    names = dict.fromkeys((*always, *(name for _, name in rows.columns)))
    return History({name: freeze(columns[name]) for name in names})
