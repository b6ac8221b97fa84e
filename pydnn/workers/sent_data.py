"""Data sets as facts and arrays, which a spec can hold and another process can receive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, Json, first_line
from pydnn.data import DataSet, TableBatch, Vocabulary
from pydnn.data.conversions import conversion_of, plain_conversion
from pydnn.data.stored import Stored, StoredArray, StoredColumns
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import Column, TableExamples
from pydnn.records import AnyArray, Batch, Examples
from pydnn.storage.chunked import ChunkedArray
from pydnn.storage.samples import Sample, expect_same, sample_of
from pydnn.workers.failures import NoData

__all__ = ["paths_in", "received", "sent"]

_PARTS = ("train", "test")
_ARRAYS = ("X", "Y", "weights", "lengths")


def sent(data: DataSet | Examples) -> tuple[dict[str, Json], dict[str, AnyArray]]:
    """What to send of a data set: facts as JSON, and arrays by name.

    Arrays that are in files stay there: only their places are sent, with samples of what is there.

    Args:
        data: A data set, or examples, which become the training part.

    Raises:
        BadInput: If examples in files go through other functions than a `Conversion`, or are read
            chunk by chunk.

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
        if isinstance(examples, Stored):
            if examples.only_rows is not None:
                arrays[f"{part} only_rows"] = examples.only_rows
            about["through"], of_functions = _conversions(part, examples)
            arrays |= of_functions
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
    return facts, arrays


def _about(examples: Examples) -> dict[str, Json]:
    """The kind of some examples, and everything of them that is not an array."""
    kind = next((kind for kind, known in _KINDS.items() if type(examples) is known), None)
    if kind is None:
        raise BadInput(
            f"examples of the class {type(examples).__name__} are not sent: give them as a Batch, "
            "or the name of the data."
        )
    about: dict[str, Json] = {"kind": kind}
    if isinstance(examples, TableExamples):
        about["columns"] = {
            name: [attrs.asdict(column) for column in getattr(examples, name)]
            for name in ("features", "targets")
        }
        about["apart"] = list(examples.apart)
    if isinstance(examples, Stored):
        about["dtype"] = examples.dtype.name
    return about


def _conversions(part: str, examples: Stored) -> tuple[list[Json], dict[str, AnyArray]]:
    """The functions that examples in files pass, as JSON and arrays."""
    listed: list[Json] = []
    arrays: dict[str, AnyArray] = {}
    for number, function in enumerate(examples.through):
        plain = plain_conversion(function)
        if plain is None:
            raise BadInput(
                "the examples in files go through functions of this program, which other processes "
                "do not have: give the name of the data instead of the examples."
            )
        name, facts, own = plain
        listed.append([name, facts, list(own)])
        arrays |= {f"{part} through {number} {key}": array for key, array in own.items()}
    return listed, arrays


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
        "sample": sample_of(array).plain,
    }


def _array_at(place: dict[str, Any]) -> StoredArray | StoredColumns:
    if "places" in place:
        array = _array_at(place["array"])
        assert isinstance(array, StoredArray)
        return StoredColumns(array, place["places"])
    fields = dict(place)
    sample = Sample(*fields.pop("sample"))
    array = StoredArray(**fields)
    try:
        expect_same(array, sample)
    except (BadInput, OSError, ValueError) as error:  # the last two if it cannot be mapped
        raise NoData(first_line(error)) from None
    return array


def received(facts: Mapping[str, Json], arrays: Mapping[str, AnyArray]) -> DataSet | Batch | Stored:
    """The data set, or the examples, of what `sent` returned.

    Args:
        facts: The facts.
        arrays: The arrays by name, with the same bits and memory order.

    Raises:
        NoData: If a file is not in its place here, or is another one.
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


def paths_in(facts: Mapping[str, Json]) -> list[str]:
    """The paths of all files in what `sent` returned, each once."""
    known: Any = facts
    about = [known[part].get(name) for part in _PARTS if part in known for name in _ARRAYS]
    places = [place.get("array", place) for place in about if place is not None]
    return list(dict.fromkeys(place["path"] for place in places))


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
        more["through"] = tuple(
            conversion_of(name, facts, {n: arrays[f"{part} through {number} {n}"] for n in names})
            for number, (name, facts, names) in enumerate(about["through"])
        )
    examples: Batch | Stored = _KINDS[about["kind"]](**values, **more)
    return examples
