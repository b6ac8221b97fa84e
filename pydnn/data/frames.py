"""Tables from tabular data in Python: data frames of any library, mappings, rows, arrays.

No library is imported for this: any object with named columns that NumPy can read is a frame.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pydnn.checks import BadInput
from pydnn.data.column_kinds import BOOLEAN, DATE, NUMBER, TEXT, Column
from pydnn.records import AnyArray, FloatArray, as_array

__all__ = ["coded", "column_of", "numbered", "values_of"]

_MISSING = ("NAType", "NaTType")  # pandas' types of missing values, which compare to nothing


def values_of(data: object) -> tuple[list[Column], FloatArray]:
    """The columns and the values (columns, rows) of tabular data; see `Table.of`.

    Raises:
        BadInput: As `Table.of` does.

    Example:
        >>> values_of([{"size": 1.5, "new": True}, {"size": None, "new": False}])[1]
        array([[1.5, nan],
               [1. , 0. ]])
    """
    columns = _columns_of(data)
    if columns is None:
        raise BadInput(
            f"the data is a {type(data).__name__}, expected a table: give a data frame, a mapping "
            "from names to columns, or an array with one row per example."
        )
    made = [column_of(name, values) for name, values in columns]
    if not made:
        raise BadInput("the table has no columns, expected one or more: add columns.")
    lengths = [len(values) for _, values in made]
    for column, values in made:
        if len(values) != lengths[0]:
            raise BadInput(
                f"column {column.name!r} has {len(values)} values, but {made[0][0].name!r} has "
                f"{lengths[0]}: give one value per row."
            )
    return [column for column, _ in made], np.array([values for _, values in made])


def numbered(count: int) -> list[str]:
    """Names for columns that have none: "column 1" and so on."""
    return [f"column {number}" for number in range(1, count + 1)]


def _columns_of(data: Any) -> Sequence[tuple[str, object]] | None:
    """The names and columns of tabular data of any known kind; None for other data."""
    if isinstance(data, Mapping):
        return [(_name(name), values) for name, values in data.items()]
    if isinstance(data, tuple) and [np.ndim(part) for part in data] == [2, 1]:  # X and y
        return [*(_columns_of(data[0]) or ()), ("y", data[1])]
    if isinstance(data, np.ndarray) and data.dtype.names:  # records
        return [(name, data[name]) for name in data.dtype.names]
    if hasattr(data, "column_names") and hasattr(data, "column"):  # pyarrow
        return [(name, _of_arrow(data.column(i))) for i, name in enumerate(data.column_names)]
    if hasattr(data, "get_columns"):  # polars
        return [(series.name, series) for series in data.get_columns()]
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas
        return [(_name(name), data.iloc[:, i]) for i, name in enumerate(data.columns)]
    if isinstance(data, list | tuple) and data and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        return [(_name(name), [row.get(name) for row in data]) for name in names]
    if isinstance(data, np.ndarray | list | tuple) or hasattr(data, "__array__"):
        array = as_array(data)
        if array.ndim == 2:
            return list(zip(numbered(array.shape[1]), array.T, strict=True))
    return None


def _of_arrow(column: Any) -> object:
    """A column of pyarrow's in a form that NumPy reads rightly.

    Of a dictionary with missing values, pyarrow's own array has the last entry for each of them.
    """
    kind = str(column.type)
    if kind == "null":
        return np.full(len(column), np.nan)
    return column.cast(column.type.value_type) if kind.startswith("dictionary") else column


def _name(name: object) -> str:
    return name if isinstance(name, str) else str(name)


def column_of(name: str, values: Any) -> tuple[Column, FloatArray]:
    """One column of a table and its values, float64 (rows,).

    Args:
        name: What it is called.
        values: An array, a column of a frame, or a list of Python's values.

    Raises:
        BadInput: If they are not numbers, truth values, texts or dates.
    """
    if isinstance(values, list | tuple):
        array = np.empty(len(values), object)
        array[:] = values
    else:
        array = as_array(values)
    if array.ndim != 1:
        advice = "give a list of rows" if array.ndim == 0 else "give a column for each"
        if array.ndim > 2:
            advice = "name arrays of images or sequences train_X, and their labels train_Y"
        raise BadInput(
            f"column {name!r} has shape {array.shape}, expected one value per row: {advice}."
        )
    kind = array.dtype.kind
    if kind in "iuf":
        return Column(name), array.astype(np.float64)
    if kind == "b":
        return Column(name, BOOLEAN), array.astype(np.float64)
    if kind == "M":
        return _of_times(name, array)
    if kind in "UT":
        return _of_texts(name, array.tolist(), TEXT)
    if kind == "S":
        return _of_texts(name, [_decoded(name, text) for text in array.tolist()], TEXT)
    if kind == "O":
        return _of_objects(name, array)
    raise BadInput(
        f"column {name!r} holds {array.dtype}, expected numbers, texts or truth values: convert "
        "or remove it."
    )


def _of_objects(name: str, array: AnyArray) -> tuple[Column, FloatArray]:
    items = array.tolist()
    examples = dict(zip(map(type, items), items, strict=True))  # kinds follow from types
    if any(map(_may_be_missing, examples)):
        items = [None if _is_missing(item) else item for item in items]
    if any(issubclass(kind, str) for kind in examples):
        items = [(item or None) if isinstance(item, str) else item for item in items]
    examples = dict(zip(map(type, items), items, strict=True))
    examples.pop(type(None), None)
    if not examples:
        return Column(name), np.full(len(items), np.nan)
    kinds = {_kind_of(name, item) for item in examples.values()}
    if len(kinds) > 1:
        a, b = sorted(kinds)[:2]
        raise BadInput(
            f"column {name!r} holds values of several kinds ({a} and {b}), expected one: convert "
            "them, e.g. all to texts."
        )
    kind = kinds.pop()
    if kind in (TEXT, DATE):
        return _of_texts(name, [None if item is None else str(item) for item in items], kind)
    try:
        numbers = np.array([np.nan if item is None else float(item) for item in items], np.float64)
    except OverflowError as error:
        raise BadInput(
            f"column {name!r} holds a number that is too large for float64: correct it."
        ) from error
    return Column(name, kind), numbers


def _kind_of(name: str, item: object) -> str:
    if isinstance(item, bool | np.bool_):
        return BOOLEAN
    if isinstance(item, str):
        return TEXT
    if isinstance(item, datetime.date | datetime.time | datetime.timedelta | np.datetime64):
        return DATE
    if hasattr(item, "__float__") and not isinstance(item, np.ndarray):
        return NUMBER  # decimals and fractions among them
    raise BadInput(
        f"column {name!r} holds a {type(item).__name__}, expected numbers, texts or truth values: "
        "convert or remove it."
    )


def _is_missing(item: object) -> bool:
    if item is None or type(item).__name__ in _MISSING:
        return True
    return isinstance(item, float | np.floating) and item != item


def _may_be_missing(kind: type) -> bool:
    """Whether an object of a type, other than None, may stand for a missing value."""
    return kind.__name__ in _MISSING or issubclass(kind, float | np.floating)


def _of_times(name: str, array: AnyArray) -> tuple[Column, FloatArray]:
    different, places = np.unique(array, return_inverse=True)  # texts are made of these alone
    levels, codes = coded(None if np.isnat(time) else str(time) for time in different)
    return Column(name, DATE, levels), codes[places]


def _of_texts(name: str, texts: Iterable[str | None], kind: str) -> tuple[Column, FloatArray]:
    levels, codes = coded(texts)
    return Column(name, kind if levels else NUMBER, levels), codes


def coded(texts: Iterable[str | None]) -> tuple[tuple[str, ...], FloatArray]:
    """Different texts, sorted, and the place of each text among them; NaN for None and "".

    A CSV file cannot tell an empty text from a missing one, so no form of a table does.

    >>> coded(["b", None, "a", "b"])
    (('a', 'b'), array([ 1., nan,  0.,  1.]))
    """
    texts = list(texts)
    levels = sorted({text for text in texts if text})
    places: dict[str | None, float] = {text: float(i) for i, text in enumerate(levels)}
    places[None] = places[""] = np.nan
    return tuple(levels), np.array([places[text] for text in texts], np.float64)


def _decoded(name: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"column {name!r} holds {text!r}, expected UTF-8: convert it.") from error
