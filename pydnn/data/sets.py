"""Data sets by name: images, tables in HDF5 files, and those that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pydnn.batches import split
from pydnn.checks import BadInput, expect_shape, import_extra
from pydnn.data.image_sets import DRAWN, load_images, to_batch
from pydnn.keys import Key
from pydnn.records import Batch, FloatArray, freeze
from pydnn.storage import open_hdf5, read_array, write_hdf5

__all__ = ["DataSet", "lasting_name", "load_data_set", "load_table", "save_table"]

_TEST_SHARE = 0.2


@attrs.frozen(unsafe_hash=False)
class DataSet:
    """Examples for training and for testing, and what is known about them.

    Attributes:
        train: What is trained on.
        test: What is not.
        image_shape: (height, width, 3), where examples are images from 0 to 1.
        classes: Names of the classes, from number 0 on.
    """

    train: Batch
    test: Batch
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] | None = None


def load_data_set(name: str, *, dtype: Any = np.float64) -> DataSet:
    """The data set called `name`.

    Args:
        name: "drawn-cats"; "digits" or "diabetes", which come with scikit-learn; a directory of
            photos; or a file that `save_table` wrote.
        dtype: float64 or float32.

    Raises:
        BadInput: If there is no such data set, or it is damaged.
    """
    if name in _FROM_SCIKIT_LEARN:
        return _cast(_from_scikit_learn(name), dtype)
    if Path(name).is_file():
        return _cast(load_table(name), dtype)
    if name != DRAWN and not Path(name).is_dir():
        known = ", ".join(repr(n) for n in (DRAWN, *_FROM_SCIKIT_LEARN))
        raise BadInput(
            f"there is no data set {name!r}: give {known}, a directory of photos, or a table's "
            "file."
        )
    train, test = load_images(name)
    return DataSet(
        to_batch(train, dtype=dtype),
        to_batch(test, dtype=dtype),
        train.images.shape[1:],
        train.classes,
    )


def lasting_name(name: str) -> str:
    """The name by which the data set called `name` is found from any folder: its whole path."""
    by_name = name in _FROM_SCIKIT_LEARN or name == DRAWN or not Path(name).exists()
    return name if by_name else str(Path(name).resolve())


def load_table(path: str | PathLike[str]) -> DataSet:
    """Read an HDF5 file of tables, with one example per row.

    It holds train_X (m, n_x), train_Y (m,) or (m, n_y), test_X and test_Y, of any numbers.

    Raises:
        BadInput: If the file is missing or damaged, or a table does not fit the others.
    """
    with open_hdf5(Path(path)) as file:
        parts = {}
        for part in ("train", "test"):
            X = read_array(file, f"{part}_X", dtype=np.number, shape=("m", "n_x"))
            flat = file[f"{part}_Y"].ndim == 1 if f"{part}_Y" in file else True
            shape = (len(X),) if flat else (len(X), "n_y")
            Y = read_array(file, f"{part}_Y", dtype=np.number, shape=shape)
            parts[part] = Batch(_columns(X), _columns(Y.reshape(len(X), -1)))
    train, test = parts["train"], parts["test"]
    for name, ours, theirs in (("test_X", test.X, train.X), ("test_Y", test.Y, train.Y)):
        hint = f"give {name} the columns of the training table"
        expect_shape(f"{name}, transposed,", ours, (len(theirs), "m"), hint=hint)
    return DataSet(train, test)


def save_table(path: str | PathLike[str], data: DataSet) -> None:
    """Write a new file that `load_table` reads."""
    write_hdf5(
        Path(path),
        arrays={
            f"{part}_{name}": np.ascontiguousarray(getattr(batch, name).T)
            for part, batch in (("train", data.train), ("test", data.test))
            for name in ("X", "Y")
        },
    )


def _digits(datasets: Any) -> DataSet:
    bunch = datasets.load_digits()
    data = Batch(_columns(bunch.data), _columns(bunch.target[:, np.newaxis]))
    train, test = split(data, Key(0).at("digits"), share=_TEST_SHARE)
    return DataSet(train, test, classes=tuple(map(str, bunch.target_names)))


def _diabetes(datasets: Any) -> DataSet:
    bunch = datasets.load_diabetes()
    data = Batch(_columns(bunch.data), _columns(bunch.target[:, np.newaxis]))
    key = Key(0).at("diabetes")
    return DataSet(*split(data, key, share=_TEST_SHARE, stratified=False))


_FROM_SCIKIT_LEARN: Mapping[str, Callable[[Any], DataSet]] = {
    "digits": _digits,
    "diabetes": _diabetes,
}


def _from_scikit_learn(name: str) -> DataSet:
    datasets = import_extra("sklearn.datasets", extra="sklearn", purpose=f"the data set {name!r}")
    return _FROM_SCIKIT_LEARN[name](datasets)


def _columns(rows: Any) -> FloatArray:
    """Examples in columns, one after the other in memory."""
    return freeze(np.array(rows, dtype=rows.dtype if rows.dtype.kind == "f" else np.float64)).T


def _cast(data: DataSet, dtype: Any) -> DataSet:
    def cast(batch: Batch) -> Batch:
        return Batch(*(freeze(a.T.astype(dtype)).T for a in (batch.X, batch.Y)))

    return attrs.evolve(data, train=cast(data.train), test=cast(data.test))
