"""Data sets as facts and arrays, which a spec can hold and another process can receive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, Json
from pydnn.data import DataSet, TableBatch, Vocabulary
from pydnn.data.stored import Stored, StoredArray, StoredColumns
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import Column, TableExamples
from pydnn.records import AnyArray, Batch, Examples
from pydnn.storage.chunked import ChunkedArray

__all__ = ["received", "sent"]

_PARTS = ("train", "test")
_ARRAYS = ("X", "Y", "weights", "lengths")


def sent(data: DataSet | Examples) -> tuple[dict[str, Json], dict[str, AnyArray]]:
    """What to send of a data set: facts as JSON, and arrays by name.

    Arrays that are in files stay there: only their places are sent.

    Args:
        data: A data set, or examples, which become the training part.

    Raises:
        BadInput: If examples in files go through functions, which cannot be sent, or are read chunk
            by chunk.

    Example:
        >>> facts, arrays = sent(nn.Batch([[0.0, 1.0]], [[1.0, 3.0]]))
        >>> list(arrays)
        ['train X', 'train Y']
        >>> received(facts, arrays)
        Batch(X=float64 (1, 2), Y=float64 (1, 2), weights=None, lengths=None)
    """
    facts: dict[str, Json] = {}
    arrays: dict[str, AnyArray] = {}
    if isinstance(data, DataSet):
        vocabulary = None if data.vocabulary is None else attrs.asdict(data.vocabulary)
        facts["data set"] = {
            "image_shape": data.image_shape,
            "classes": data.classes,
            "vocabulary": vocabulary,
        }
        parts: dict[str, Any] = {part: getattr(data, part) for part in _PARTS}
    else:
        parts = {"train": data}
    for part, examples in parts.items():
        facts[part] = about = _about(examples)
        for name in _ARRAYS:
            array = getattr(examples, name)
            if isinstance(array, StoredArray | StoredColumns):
                about[name] = _place_of(array)
            elif isinstance(array, ChunkedArray):
                raise BadInput(
                    f"{array.name} in {array.path} is stored in chunks, expected one block that "
                    "other processes can map: copy it once with pydnn data import, or give the "
                    "name of the data."
                )
            elif array is not None:
                arrays[f"{part} {name}"] = array
        if isinstance(examples, Stored) and examples.only_rows is not None:
            arrays[f"{part} only_rows"] = examples.only_rows
    return facts, arrays


def _about(examples: Examples) -> dict[str, Json]:
    """The kind of some examples, and everything of them that is not an array."""
    about: dict[str, Json] = {"kind": next(k for k, c in _KINDS.items() if type(examples) is c)}
    if isinstance(examples, TableExamples):
        about["columns"] = {
            name: [attrs.asdict(column) for column in getattr(examples, name)]
            for name in ("features", "targets")
        }
        about["apart"] = list(examples.apart)
    if isinstance(examples, Stored):
        if examples.through:
            raise BadInput(
                "the examples in files go through functions of this program, which other processes "
                "do not have: give the name of the data instead of the examples."
            )
        about["dtype"] = examples.dtype.name
    return about


_KINDS = {
    "batch": Batch,
    "table": TableBatch,
    "stored": Stored,
    "stored table": StoredTableBatch,
}


def _place_of(array: StoredArray | StoredColumns) -> Json:
    if isinstance(array, StoredColumns):
        return {"array": _place_of(array.array), "places": list(array.places)}
    return {
        "path": str(array.path.absolute()),
        "offset": array.offset,
        "shape": array.shape,
        "dtype": array.dtype.str,
    }


def _array_at(place: dict[str, Any]) -> StoredArray | StoredColumns:
    if "places" in place:
        return StoredColumns(StoredArray(**place["array"]), place["places"])
    return StoredArray(**place)


def received(facts: Mapping[str, Json], arrays: Mapping[str, AnyArray]) -> DataSet | Batch | Stored:
    """The data set, or the examples, of what `sent` returned.

    Args:
        facts: The facts.
        arrays: The arrays by name, with the same bits and memory order.
    """
    known: Any = facts
    parts: dict[str, Any] = {
        part: _examples(part, known[part], arrays) for part in _PARTS if part in known
    }
    if "data set" not in known:
        return parts["train"]  # type: ignore[no-any-return]
    about = known["data set"]
    if about["vocabulary"] is not None:
        about = {**about, "vocabulary": Vocabulary(**about["vocabulary"])}
    return DataSet(**parts, **about)


def _examples(part: str, about: dict[str, Any], arrays: Mapping[str, AnyArray]) -> Batch | Stored:
    values: dict[str, Any] = {
        name: arrays.get(f"{part} {name}", about.get(name)) for name in _ARRAYS
    }
    more: dict[str, Any] = {}
    if "columns" in about:
        more = {
            name: tuple(Column(c["name"], c["kind"], tuple(c["levels"])) for c in listed)
            for name, listed in about["columns"].items()
        }
        more["apart"] = tuple(about["apart"])
    if "dtype" in about:
        for name, value in values.items():
            if isinstance(value, Mapping):
                values[name] = _array_at(dict(value))
        more["dtype"] = np.dtype(about["dtype"])
        more["only_rows"] = arrays.get(f"{part} only_rows")
    examples: Batch | Stored = _KINDS[about["kind"]](**values, **more)
    return examples
