"""Data sets by name: images, tables in HDF5 files, and two from scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import ModuleType

import attrs
import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pydnn.batches import split
from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_count,
    expect_finite,
    expect_shape,
    import_extra,
    path_of,
)
from pydnn.data.image_folders import (
    ImageFolder,
    holds_images,
    load_image_folder,
    load_images_file,
)
from pydnn.data.image_sets import (
    DRAWN,
    ImageSet,
    drawn_cats,
    expect_different_names,
    holds_catvnoncat,
    load_catvnoncat,
    to_batch,
)
from pydnn.data.table_files import is_hdf5, is_named_hdf5, read_table
from pydnn.data.tables import Table, TableBatch, columns_named
from pydnn.keys import Key
from pydnn.records import AnyArray, Batch, FloatArray, freeze
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, write_hdf5

__all__ = [
    "DataSet",
    "images_of",
    "lasting_name",
    "load_data_set",
    "load_images",
    "load_table",
    "save_table",
    "table_data",
]

_TEST_SHARE = 0.2


def _sizes(shape: Iterable[object] | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    return tuple(expect_count("image_shape", n, hint="give (height, width, 3)") for n in shape)


def _tuple(value: Iterable[object] | None) -> tuple[object, ...] | None:
    return None if value is None else tuple(value)


@attrs.frozen(unsafe_hash=False)
class DataSet:
    """Examples for training and for testing, with the shape of images and the names of classes.

    Attributes:
        train: The examples for training.
        test: The examples for testing; there may be none.
        image_shape: (height, width, 3) if the examples are images, with values from 0 to 1.
        classes: The names of the classes, from class 0 on, if they have names.
        notes: Notes for the user on how the data was read, one line each.

    Raises:
        BadInput: If the parts differ in their features or labels, `image_shape` does not fit the
            features, or two classes have the same name.

    Example:
        >>> data = DataSet(nn.Batch([[1, 2, 3]], [[0, 1, 1]]), nn.Batch([[4]], [[0]]))
        >>> data.train.X.shape, data.test.X.shape
        ((1, 3), (1, 1))
    """

    train: Batch
    test: Batch
    image_shape: tuple[int, int, int] | None = attrs.field(default=None, converter=_sizes)
    classes: tuple[str, ...] | None = attrs.field(default=None, converter=_tuple)
    notes: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name in ("X", "Y"):
            ours, theirs = getattr(self.test, name), getattr(self.train, name)
            hint = "give both parts the same features and labels"
            expect_shape(f"test {name}", ours, (*theirs.shape[:-1], "m"), hint=hint)
        if self.image_shape is not None and math.prod(self.image_shape) != len(self.train.X):
            raise BadInput(
                f"examples have {len(self.train.X)} features, but images of {self.image_shape} "
                f"have {math.prod(self.image_shape)}: give the shape of the images."
            )
        expect_different_names(self.classes or ())


@np.errstate(under="ignore")
def load_data_set(
    name: AnyPath,
    *,
    dtype: DTypeLike = np.float64,
    image_size: Sequence[int] | None = None,
    skip_unreadable: bool = False,
    target: str | Iterable[str] = "",
    test: AnyPath | float = "",
    ignore: Iterable[str] = (),
    weights: str = "",
) -> DataSet:
    """Load the data set called `name`.

    Args:
        name: "drawn-cats"; "digits" or "diabetes", which come with scikit-learn; a folder of
            pictures, see `load_image_folder`; the directory of the tutorial's photos; a file
            that `save_table` wrote; or the file of a table, see `read_table`, with a target.
        dtype: The dtype of the examples, float64 or float32.
        image_size: The height and width to resize the pictures of a folder to.
        skip_unreadable: Whether to leave out the pictures of a folder that cannot be read.
        target: The column of a table, or the columns, to predict; for an npy file of rows also
            another npy file, with one target per row. Tables are float64 whatever `dtype` is.
        test: Where the test part of a table is: another file of the same columns, or the share
            of the rows, between 0 and 1, to draw from all of them; "" for no test part. Of the
            pictures of a folder without a test part, a share of each class can be drawn.
        ignore: Columns of a table to leave out.
        weights: The column of a table with the weight of each example; "" for none.

    Raises:
        BadInput: If there is no such data set, it is damaged, or `dtype` cannot hold a number; or
            if the columns of a table do not fit.
        MissingExtra: If the data set comes with scikit-learn, which is not installed.

    Example:
        >>> save_table("b.h5", DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]])))
        >>> load_data_set("b.h5", dtype="float32").train.X
        array([[1., 2.]], dtype=float32)
    """
    path = path_of(name)
    targets = columns_named(target)
    by_name = isinstance(name, str) and (name in _FROM_SCIKIT_LEARN or name == DRAWN)
    if targets and path.is_file() and not by_name:
        table = _table_at(path, targets)
        return table_data(table, targets, test=test, ignore=ignore, weights=weights)
    options: dict[str, object] = {
        "target": ", ".join(targets),
        "test": test,
        "ignore": ", ".join(columns_named(ignore)),
        "weights": weights,
    }
    drawn = 0.0
    if isinstance(test, int | float) and not by_name and _holds_pictures(path):
        drawn = float(test)
        del options["test"]
    for option, given in options.items():
        if given and (by_name or path.exists()):
            raise BadInput(
                f"{option} is {given!r}, but {name} is not a table with named columns: leave it "
                "out."
            )
    if isinstance(name, str) and name in _FROM_SCIKIT_LEARN:
        return _cast(_from_scikit_learn(name), dtype)
    if path.is_file() and not is_hdf5(path):
        raise _no_target(path)
    if path.is_file() and not holds_images(path):
        if is_named_hdf5(path):
            raise _no_target(path)
        return _cast(load_table(path), dtype)
    if name != DRAWN and not path.exists():
        known = ", ".join(repr(n) for n in (DRAWN, *_FROM_SCIKIT_LEARN))
        raise BadInput(
            f"there is no data set {str(name)!r}, and no file or folder of that name: check the "
            f"path, or give {known}."
        )
    images = images_of(name, image_size=image_size, skip_unreadable=skip_unreadable)
    train = to_batch(images.train, dtype=dtype)
    if drawn and images.test is not None:
        raise BadInput(f"test is {drawn}, but {name} has a part for testing: leave test out.")
    if drawn:
        _expect_two_images_of_each(images.train)
        train, judged = split(train, _TEST_KEY, share=drawn)
    elif images.test is None:
        judged = Batch(train.X[:, :0], train.Y[:, :0])
    else:
        judged = to_batch(images.test, dtype=dtype)
    shape, classes = images.train.images.shape[1:], images.train.classes
    return DataSet(train, judged, shape, classes, images.notes)


def _holds_pictures(path: Path) -> bool:
    """Whether a path is a folder of pictures, or the file of one that was decoded."""
    if path.is_dir():
        return not holds_catvnoncat(path)
    return path.is_file() and is_hdf5(path) and holds_images(path)


def _expect_two_images_of_each(images: ImageSet) -> None:
    counts = np.bincount(images.labels, minlength=len(images.classes))
    if counts.min() < 2:
        name = images.classes[int(counts.argmin())]
        raise BadInput(
            f"the class {name} has one picture, expected two or more, of which one is for "
            "testing: add some."
        )


def _table_at(path: Path, targets: tuple[str, ...]) -> Table:
    """The table in a file, whose targets may be in another file."""
    table = read_table(path)
    if path.suffix == ".npy" and len(targets) == 1 and targets[0].endswith(".npy"):
        file = path_of(targets[0])
        beside = path.parent / file.name
        labels = read_table(file if file.exists() else beside)
        if labels.rows != table.rows or len(labels.columns) != 1:
            raise BadInput(
                f"{targets[0]} has {labels.rows} rows and {len(labels.columns)} columns, expected "
                f"one target for each of the {table.rows} rows of {path}: give another file."
            )
        target = attrs.evolve(labels.columns[0], name=targets[0])
        return Table((*table.columns, target), freeze(np.vstack([table.values, labels.values])))
    return table


def _no_target(path: Path) -> BadInput:
    names = read_table(path).names
    listed = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
    return BadInput(
        f"{path} is a table with the columns {listed}, expected one of them as target: name it, "
        f'e.g. --target "{names[-1]}".'
    )


def table_data(
    table: object,
    target: str | Iterable[str],
    *,
    test: object = "",
    ignore: Iterable[str] = (),
    weights: str = "",
) -> DataSet:
    """Make a data set of the rows of a table, for training and for testing.

    Args:
        table: A `Table`, or anything that `Table.of` takes, such as a data frame.
        target: The column, or columns, to predict.
        test: The test part: another table, its file, or the share of the rows to draw for it,
            between 0 and 1; "" for no test part. The draw depends only on the number of rows and
            the labels: if these are texts, truth values or up to 20 whole numbers, they are
            classes, and the same share is drawn from each.
        ignore: Columns to leave out.
        weights: The column with the weight of each example; "" if all count the same.

    Raises:
        BadInput: If a column is missing or does not fit, naming it; or if a share is drawn from a
            class with only one example.

    Example:
        >>> data = table_data({"x": [1, 2, 3, 4, 5], "y": [2, 4, 6, 8, 10]}, "y", test=0.4)
        >>> data.train.table["x"], data.test.target["y"]
        (array([3., 4., 5.]), array([2., 4.]))
    """
    table = Table.of(table)
    ignored = columns_named(ignore)
    batch = table.examples(target, ignore=ignored, weights=weights)
    if isinstance(test, int | float) and not isinstance(test, bool):
        stratified = batch.is_of_classes
        if stratified:
            batch.expect_two_of_each("test")
        return DataSet(*split(batch, _TEST_KEY, share=float(test), stratified=stratified))
    if isinstance(test, str) and not test:
        return DataSet(batch, batch.first(0))
    if isinstance(test, str | PathLike):
        path = path_of(test)
        try:
            return DataSet(batch, _second(read_table(path, texts=table.texts_alone), batch))
        except BadInput as error:
            raise BadInput(f"test part: {error}") from error
    return DataSet(batch, _second(Table.of(test), batch))


_TEST_KEY = Key(0).at("test")
_NAMED = 10  # columns that a message names


def _second(table: Table, first: TableBatch) -> TableBatch:
    """The examples of a second table, with the columns and the targets of the first."""
    names = [column.name for column in first.targets]
    ignored = [name for name in first.apart if name in table.names]
    weights = first.apart[-1] if first.weights is not None else ""
    apart = [name for name in ignored if name != weights]
    return table.examples(names, ignore=apart, weights=weights).like(first)


def load_images(
    name: AnyPath, *, image_size: Sequence[int] | None = None, skip_unreadable: bool = False
) -> tuple[ImageSet, ImageSet | None]:
    """Load the images called `name`: for training, and for testing or None.

    Args:
        name: "drawn-cats", a folder of pictures, the directory of the tutorial's photos, or a file
            of decoded pictures, see `load_image_folder`.
        image_size: The height and width to resize the pictures of a folder to.
        skip_unreadable: Whether to leave out the pictures of a folder that cannot be read.

    Raises:
        BadInput: If there are no such images, or they are damaged.
        MissingExtra: If there are pictures to decode, and pillow is not installed.
    """
    images = images_of(name, image_size=image_size, skip_unreadable=skip_unreadable)
    return images.train, images.test


def images_of(
    name: AnyPath, *, image_size: Sequence[int] | None = None, skip_unreadable: bool = False
) -> ImageFolder:
    """Load the images called `name` like `load_images`, with notes on how they were read."""
    if name == DRAWN:
        return ImageFolder(*drawn_cats())
    path = path_of(name)
    if not path.exists():
        raise BadInput(
            f"there are no images {str(name)!r}: give {DRAWN!r}, or a directory of photos."
        )
    if not path.is_dir():
        return load_images_file(path)
    if holds_catvnoncat(path):
        return ImageFolder(*load_catvnoncat(path))
    return load_image_folder(path, image_size=image_size, skip_unreadable=skip_unreadable)


def lasting_name(name: str) -> str:
    """The name that finds the data set from any folder: a path becomes absolute."""
    path = path_of(name)
    by_name = name in _FROM_SCIKIT_LEARN or name == DRAWN or not path.exists()
    return name if by_name else str(path.resolve())


def load_table(path: AnyPath) -> DataSet:
    """Read an HDF5 file of tables, with one example per row.

    The file holds train_X (m, n_x) and train_Y (m,) or (m, n_y), of any numeric type. It may also
    hold test_X and test_Y; weights of examples, train_weights and test_weights (m,); classes, the
    names of the classes from class 0 on; and image_shape (3,) if the examples are images.

    Raises:
        BadInput: If the file is missing or damaged, a table does not fit the others, or a number
            is not finite, naming its row and column.

    Example:
        >>> save_table("a.h5", DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]])))
        >>> load_table("a.h5").train.X
        array([[1., 2.]])
    """
    with open_hdf5(path_of(path)) as file:
        train = _read_part(file, "train")
        if holds(file, "test_X") or holds(file, "test_Y"):
            test = _read_part(file, "test")
        else:
            test = Batch(train.X[:, :0], train.Y[:, :0])
        for name, ours, theirs in (("test_X", test.X, train.X), ("test_Y", test.Y, train.Y)):
            hint = f"give {name} the columns of the training table"
            expect_shape(f"{name}, transposed,", ours, (len(theirs), "m"), hint=hint)
        shape, classes = None, None
        if holds(file, "image_shape"):
            shape = read_array(file, "image_shape", dtype=np.integer, shape=(3,)).tolist()
        if holds(file, "classes"):
            classes = read_names(file, "classes")
    return DataSet(train, test, shape, classes)


def _read_part(file: h5py.File, part: str) -> Batch:
    X = read_array(file, f"{part}_X", dtype=np.number, shape=("m", "n_x"))
    Y = read_array(file, f"{part}_Y", dtype=np.number, shape=None)
    shape = (len(X),) if Y.ndim == 1 else (len(X), "n_y")
    expect_shape(f"{part}_Y in {file.filename}", Y, shape, hint="give one row per example")
    rows = {"X": X, "Y": Y[:, np.newaxis] if Y.ndim == 1 else Y}
    if holds(file, f"{part}_weights"):
        weights = read_array(file, f"{part}_weights", dtype=np.number, shape=(len(X),))
        rows["weights"] = weights[:, np.newaxis]
    for name, table in rows.items():
        expect_finite(f"{part}_{name}", table)
    arrays = {name: _columns(table) for name, table in rows.items()}
    return Batch(arrays["X"], arrays["Y"], arrays.get("weights"))


def save_table(path: AnyPath, data: DataSet) -> None:
    """Write a data set to a new HDF5 file that `load_table` reads.

    Args:
        path: The file to write, which must not exist yet.
        data: The data set; its examples become rows of the file.

    Raises:
        BadInput: If a number is not finite, naming its row and column; or if the file exists or
            cannot be written.

    Example:
        >>> data = DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]]))
        >>> save_table("mine.h5", data)
        >>> load_data_set("mine.h5").test.X
        array([[3.]])
    """
    tables: dict[str, ArrayLike] = {}
    for part in ("train", "test"):
        batch = getattr(data, part)
        for name in ("X", "Y", "weights"):
            if (array := getattr(batch, name)) is not None:
                rows = np.ascontiguousarray(array.T)
                expect_finite(f"{part}_{name}", rows)
                tables[f"{part}_{name}"] = rows[:, 0] if name == "weights" else rows
    if data.image_shape is not None:
        tables["image_shape"] = np.array(data.image_shape, np.int64)
    if data.classes is not None:
        tables["classes"] = _encoded(data.classes)
    write_hdf5(path_of(path), arrays=tables)


def _encoded(names: tuple[str, ...]) -> NDArray[np.bytes_]:
    try:
        return np.array([name.encode() for name in names], np.bytes_)
    except UnicodeEncodeError as error:
        raise BadInput(f"the class {error.object!r} is not Unicode text: rename it.") from error


def _digits(datasets: ModuleType) -> DataSet:
    bunch = datasets.load_digits()
    data = Batch(_columns(bunch.data), _columns(bunch.target[:, np.newaxis]))
    train, test = split(data, Key(0).at("digits"), share=_TEST_SHARE)
    return DataSet(train, test, classes=tuple(map(str, bunch.target_names)))


def _diabetes(datasets: ModuleType) -> DataSet:
    bunch = datasets.load_diabetes()
    data = Batch(_columns(bunch.data), _columns(bunch.target[:, np.newaxis]))
    key = Key(0).at("diabetes")
    return DataSet(*split(data, key, share=_TEST_SHARE, stratified=False))


_FROM_SCIKIT_LEARN: Mapping[str, Callable[[ModuleType], DataSet]] = {
    "digits": _digits,
    "diabetes": _diabetes,
}


def _from_scikit_learn(name: str) -> DataSet:
    datasets = import_extra("sklearn.datasets", extra="sklearn", purpose=f"the data set {name!r}")
    return _FROM_SCIKIT_LEARN[name](datasets)


def _columns(rows: AnyArray) -> FloatArray:
    """Rows of a table as columns, with each example contiguous in memory."""
    dtype: DTypeLike = rows.dtype if rows.dtype.kind == "f" else np.float64
    return freeze(np.array(rows, dtype)).T


def _cast(data: DataSet, dtype: DTypeLike) -> DataSet:
    """The data in a `dtype`; a number beyond its range is refused."""

    def cast(part: str, name: str) -> FloatArray:
        columns = getattr(getattr(data, part), name)
        with np.errstate(over="ignore"):
            rows = columns.T.astype(dtype)
        if not (fits := np.isfinite(rows) | ~np.isfinite(columns.T)).all():
            row, column = (int(i) for i in np.argwhere(~fits)[0])
            raise BadInput(
                f"{part}_{name} holds {columns[column, row]:g} in row {row}, column {column}, "
                f"which {np.dtype(dtype)} cannot hold: use float64, or scale the column."
            )
        return freeze(rows).T

    def cast_part(part: str, batch: Batch) -> Batch:
        weights = None if batch.weights is None else cast(part, "weights")
        return Batch(cast(part, "X"), cast(part, "Y"), weights)

    train, test = cast_part("train", data.train), cast_part("test", data.test)
    return attrs.evolve(data, train=train, test=test)
