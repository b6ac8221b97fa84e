"""Data sets by name: images, texts, tables, arrays in files, and two from scikit-learn."""

from __future__ import annotations

import contextlib
import gzip
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from types import ModuleType

import attrs
import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pydnn.batches import examples_first, examples_last, split
from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_count,
    expect_finite,
    expect_flag,
    expect_known,
    expect_real,
    expect_shape,
    import_extra,
    path_of,
)
from pydnn.data.image_folders import (
    ImageFolder,
    holds_images,
    load_image_folder,
    load_images_file,
    map_images_file,
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
from pydnn.data.stored import InFile, Stored
from pydnn.data.stored_tables import StoredTable, StoredTableBatch
from pydnn.data.table_files import (
    OF_ALL,
    examples_beside,
    has_no_header,
    holds_examples,
    is_hdf5,
    is_named_hdf5,
    not_in_its_file,
    read_npy,
    read_npz,
    read_table,
    without_header,
)
from pydnn.data.tables import Table, TableBatch, columns_named
from pydnn.data.texts import TextExamples, Vocabulary, is_text, lines, text_batches
from pydnn.free_memory import free_memory, readable
from pydnn.keys import Key
from pydnn.records import AnyArray, Batch, Examples, FloatArray, IntArray, freeze
from pydnn.storage.chunked import open_chunked
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, shapes_in, write_hdf5
from pydnn.storage.mapped import NotMappable, open_stored, stays_in_file

__all__ = [
    "DataSet",
    "images_for_testing",
    "images_of",
    "lasting_name",
    "load_data_set",
    "load_images",
    "load_table",
    "save_table",
    "table_data",
    "text",
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
        image_shape: (height, width, 3) if the examples are images, with values from 0 to 1. X is
            (height * width * 3, m), or (height, width, 3, m); see `unflattened`.
        classes: The names of the classes, from class 0 on, if they have names.
        notes: Notes for the user on how the data was read, one line each.
        vocabulary: The symbols behind the numbers in X and Y, if the examples are texts.

    Raises:
        BadInput: If the parts differ in the shape of their examples or labels, `image_shape` does
            not fit the examples, or two classes have the same name.

    Example:
        >>> data = DataSet(nn.Batch([[1, 2, 3]], [[0, 1, 1]]), nn.Batch([[4]], [[0]]))
        >>> data.train.X.shape, data.test.X.shape
        ((1, 3), (1, 1))
    """

    train: Examples
    test: Examples
    image_shape: tuple[int, int, int] | None = attrs.field(default=None, converter=_sizes)
    classes: tuple[str, ...] | None = attrs.field(default=None, converter=_tuple)
    notes: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    vocabulary: Vocabulary | None = None

    def __attrs_post_init__(self) -> None:
        shapes = {
            "X": (self.test.shape, self.train.shape),
            "Y": (self.test.label_shape, self.train.label_shape),
        }
        for name, (ours, theirs) in shapes.items():
            expected = _shape_like(theirs, self.train)
            hint = "give both parts the same features and labels"
            array = _in_form((*ours, self.test.count))
            expect_shape(f"test {name}", array, expected, hint=hint)
        shape, of_one = self.image_shape, self.train.shape
        if shape is not None and of_one not in (shape, (math.prod(shape),)):
            have = f"{of_one[0]} features" if len(of_one) == 1 else f"the shape {of_one}"
            raise BadInput(
                f"examples have {have}, but images of {shape} have {math.prod(shape)}: give the "
                "shape of the images."
            )
        expect_different_names(self.classes or ())

    def unflattened(self) -> DataSet:
        """The same images as X (height, width, 3, m) instead of columns; a view.

        Raises:
            BadInput: If the examples are not images.

        Example:
            >>> load_data_set("drawn-cats").unflattened().test.X.shape
            (64, 64, 3, 250)
        """
        shape = self.image_shape
        if shape is None:
            raise BadInput(
                "the examples are not images, expected a data set with an image_shape: reshape X "
                "yourself."
            )
        train, test = (examples.reshaped(*shape) for examples in (self.train, self.test))
        return attrs.evolve(self, train=train, test=test)


def _in_form(shape: tuple[int, ...]) -> FloatArray:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(0.0, shape)


def _shape_like(of_one: tuple[int, ...], train: Examples) -> tuple[int | str, ...]:
    """The shape of the same array of another part; only sequences may have other lengths."""
    steps = train.has_lengths and of_one[0] == train.shape[0]
    return (*(["T"] if steps else of_one[:1]), *of_one[1:], "m")


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
    flat: bool = True,
    text: TextExamples | None = None,
    vocabulary: Vocabulary | None = None,
    mapped: bool | None = None,
    in_windows: bool = False,
) -> DataSet:
    """Load the data set called `name`.

    Args:
        name: "drawn-cats"; "digits" or "diabetes", which come with scikit-learn; a folder of
            pictures, see `load_image_folder`; the directory of the tutorial's photos; a file
            of arrays, see `load_table`; the file of a table, see `read_table`, with a target; or
            the file of a text.
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
        flat: Whether images are columns, X (height * width * 3, m), instead of X (height, width,
            3, m).
        text: How to make examples of a text, `lines()` or `windows(…)`; None for `lines()` if the
            name of the file ends in .txt and there is no target.
        vocabulary: The symbols of a text, if they are known, e.g. `model.vocabulary`; by default
            those in the file.
        mapped: Whether examples stay in their file and are read batch by batch; None if they would
            take more than a quarter of the free memory. The file is HDF5 of uncompressed arrays
            (see `load_table`), npy, or a table in the stored form (see `store_table`). No bit of a
            training depends on it.
        in_windows: Whether examples in chunks, plain or compressed, may stay in their file, too,
            because batches come from few places of it, as by `mini_batches(64, window=65536)`.

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
    if mapped is not None:
        mapped = expect_flag("mapped", mapped)
    targets = columns_named(target)
    by_name = isinstance(name, str) and (name in _FROM_SCIKIT_LEARN or name == DRAWN)
    a_file = path.is_file() and not by_name
    if text is not None or (a_file and is_text(path) and not targets):
        if not a_file and (by_name or path.exists()):
            raise BadInput(
                f"text is {text}, but {name} is not the file of a text: leave text out, or name a "
                "file."
            )
        columns = {"target": targets, "ignore": tuple(ignore), "weights": weights}
        for option, named in columns.items():
            if named:
                raise BadInput(
                    f"{option} is {named!r}, but {name} is read as a text, which has no columns: "
                    "leave it out."
                )
        if mapped:
            raise not_in_its_file(name)
        return _text_data(path, text or lines(), test, vocabulary, dtype)
    if targets and a_file:
        ignore = columns_named(ignore)
        named = (*targets, *ignore, *([weights] if weights else []))
        table = _table_at(path, targets, mapped, known=named, ignored=ignore)
        data = table_data(table, targets, test=test, ignore=ignore, weights=weights, mapped=mapped)
        if has_no_header(path, table):
            note = without_header(path, "name the target as it does")
            return attrs.evolve(data, notes=(note,))
        return data
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
    if mapped and not (path.is_file() and (is_hdf5(path) or examples_beside(path))):
        raise not_in_its_file(name)
    if isinstance(name, str) and name in _FROM_SCIKIT_LEARN:
        return _cast(_FROM_SCIKIT_LEARN[name](), dtype)
    if path.is_file() and not is_hdf5(path):
        if holds_examples(path):
            return _cast(load_table(path, mapped=mapped), dtype)
        raise _no_target(path)
    if path.is_file() and not holds_images(path):
        if is_named_hdf5(path):
            raise _no_target(path)
        return _cast(load_table(path, mapped=mapped, in_windows=in_windows), dtype)
    if name != DRAWN and not path.exists():
        known = ", ".join(repr(n) for n in (DRAWN, *_FROM_SCIKIT_LEARN))
        raise BadInput(
            f"there is no data set {str(name)!r}, and no file or folder of that name: check the "
            f"path, or give {known}."
        )
    if path.is_file() and _to_be_mapped(path, mapped):
        data = _mapped_images(path, drawn, dtype)
        return data if flat else data.unflattened()
    images = images_of(name, image_size=image_size, skip_unreadable=skip_unreadable)
    train = to_batch(images.train, dtype=dtype)
    if drawn and images.test is not None:
        raise BadInput(f"test is {drawn}, but {name} has a part for testing: leave test out.")
    if drawn:
        _expect_two_images_of_each(images.train.labels, images.train.classes)
        train, judged = split(train, _TEST_KEY, share=drawn)
    elif images.test is None:
        judged = Batch(train.X[:, :0], train.Y[:, :0])
    else:
        judged = to_batch(images.test, dtype=dtype)
    shape, classes = images.train.images.shape[1:], images.train.classes
    data = DataSet(train, judged, shape, classes, images.notes)
    return data if flat else data.unflattened()


def text(
    path: AnyPath,
    examples: TextExamples | None = None,
    *,
    test: AnyPath | float = "",
    vocabulary: Vocabulary | None = None,
) -> DataSet:
    r"""Read a text as sequences of letters or words, each with the symbol after it as target.

    Args:
        path: The file of the text, in UTF-8.
        examples: How to make examples of it: `nn.data.lines(…)`, the default, where each line is
            one, or `nn.data.windows(…)` of a longer text.
        test: The test part: the file of another text, or the share of the examples to hold back,
            between 0 and 1; "" for no test part.
        vocabulary: The symbols, if they are known, e.g. those of a model; by default those of the
            file.

    Returns:
        A data set with ids X (T, m) and Y (T, m), the `lengths` of lines, and the `vocabulary`.

    Raises:
        BadInput: If a file cannot be read, is empty or not text; if a line is too long; or if a
            symbol is not in the vocabulary.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("names.txt").write_text("Ada\nBob\n")
        >>> data = nn.text("names.txt", nn.data.lines(lower=True))
        >>> data.train.X.T, data.vocabulary.text(data.train.X[:, 1])
        (array([[5., 1., 3., 1.],
               [5., 2., 4., 2.]]), 'bob')
    """
    return _text_data(path_of(path), examples or lines(), test, vocabulary, np.float64)


def _text_data(
    path: Path,
    examples: TextExamples,
    test: AnyPath | float,
    vocabulary: Vocabulary | None,
    dtype: DTypeLike,
) -> DataSet:
    judged: Path | float | None = None
    if isinstance(test, int | float):
        hint = "give the share of the examples to test on, e.g. 0.1, or a file"
        judged = expect_real("test", test, positive=True, below=1, hint=hint)
    elif test != "":
        judged = path_of(test)
    train, held_back, known = text_batches(
        path, examples, test=judged, vocabulary=vocabulary, dtype=dtype
    )
    return DataSet(train, held_back, vocabulary=known)


def _holds_pictures(path: Path) -> bool:
    """Whether a path is a folder of pictures, or the file of one that was decoded."""
    if path.is_dir():
        return not holds_catvnoncat(path)
    return path.is_file() and is_hdf5(path) and holds_images(path)


def _to_be_mapped(path: Path, mapped: bool | None) -> bool:
    """Whether decoded images stay in their file, because that is asked for or they are many."""
    if mapped is not None:
        return mapped
    with open_hdf5(path) as file:
        names = [f"{part}_images" for part in _PARTS]
        size = 8 * sum(math.prod(shape) for n, shape in shapes_in(file).items() if n in names)
    return stays_in_file(size)


def _mapped_images(path: Path, share: float, dtype: DTypeLike) -> DataSet:
    """The images in a file, which stay there; a share of each class is for testing."""
    parts, shape, classes = map_images_file(path, dtype=dtype)
    train: Examples = parts["train"]
    test: Examples | None = parts.get("test")
    if share and test is not None:
        raise BadInput(f"test is {share}, but {path} has a part for testing: leave test out.")
    if share:
        train, test = split(train, _TEST_KEY, share=share)
    if test is None:
        test = Batch(np.empty((math.prod(shape), 0), dtype), np.empty((1, 0), dtype))
    return DataSet(train, test, shape, classes)


def _expect_two_images_of_each(labels: IntArray, classes: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise BadInput(
            f"the class {name} has one picture, expected two or more, of which one is for "
            "testing: add some."
        )


def images_for_testing(
    labels: IntArray, classes: Sequence[str], *, share: float
) -> NDArray[np.bool_]:
    """Which images `load_data_set` holds back for testing if `test` is a share.

    Args:
        labels: The numbers of their classes.
        classes: The names of the classes.
        share: The share of each class.

    Raises:
        BadInput: If the share is not between 0 and 1, or a class has one image.
    """
    _expect_two_images_of_each(labels, classes)
    rows = np.arange(len(labels), dtype=np.float64)
    numbers = Batch(rows[np.newaxis], labels[np.newaxis].astype(np.float64))
    _, test = split(numbers, _TEST_KEY, share=share)
    chosen = np.zeros(len(labels), bool)
    chosen[test.X[0].astype(np.int64)] = True
    return chosen


def _table_at(
    path: Path,
    targets: tuple[str, ...],
    mapped: bool | None,
    *,
    known: Sequence[str],
    ignored: Sequence[str],
) -> Table | StoredTable:
    """The table in a file, whose targets may be in another file."""
    table = read_table(path, known=known, ignored=ignored, mapped=mapped)
    if path.suffix != ".npy" or len(targets) != 1 or not targets[0].endswith(".npy"):
        return table
    file = path_of(targets[0])
    file = file if file.exists() else path.parent / file.name
    try:
        labels = read_table(file, mapped=isinstance(table, StoredTable))
    except NotMappable:
        if mapped:
            raise
        table, labels = read_table(path, mapped=False), read_table(file, mapped=False)
    if labels.rows != table.rows or len(labels.columns) != 1:
        raise BadInput(
            f"{targets[0]} has {labels.rows} rows and {len(labels.columns)} columns, expected "
            f"one target for each of the {table.rows} rows of {path}: give another file."
        )
    labels = attrs.evolve(labels, columns=(attrs.evolve(labels.columns[0], name=targets[0]),))
    if isinstance(table, StoredTable):
        assert isinstance(labels, StoredTable)
        return table.beside(labels)
    assert isinstance(labels, Table)
    columns = (*table.columns, *labels.columns)
    return Table(columns, freeze(np.vstack([table.values, labels.values])))


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
    mapped: bool | None = None,
) -> DataSet:
    """Make a data set of the rows of a table, for training and for testing.

    Args:
        table: A `Table`, a `StoredTable`, whose rows stay in its file, or anything that `Table.of`
            takes, such as a data frame.
        target: The column, or columns, to predict.
        test: The test part: another table, its file, or the share of the rows to draw for it,
            between 0 and 1; "" for no test part. The draw depends only on the number of rows and
            the labels: if these are texts, truth values or up to 20 whole numbers, they are
            classes, and the same share is drawn from each.
        ignore: Columns to leave out.
        weights: The column with the weight of each example; "" if all count the same.
        mapped: Whether a test part in a file of its own stays there, see `read_table`.

    Raises:
        BadInput: If a column is missing or does not fit, naming it; or if a share is drawn from a
            class with only one example.

    Example:
        >>> data = table_data({"x": [1, 2, 3, 4, 5], "y": [2, 4, 6, 8, 10]}, "y", test=0.4)
        >>> data.train.table["x"], data.test.target["y"]
        (array([3., 4., 5.]), array([2., 4.]))
    """
    table = table if isinstance(table, StoredTable) else Table.of(table)
    ignored = columns_named(ignore)
    batch = table.examples(target, ignore=ignored, weights=weights)
    if isinstance(test, int | float) and not isinstance(test, bool):
        stratified = batch.is_of_classes
        if stratified:
            batch.expect_of_each_class(2, "one of them for the test part")
        return DataSet(*split(batch, _TEST_KEY, share=float(test), stratified=stratified))
    if isinstance(test, str) and not test:
        return DataSet(batch, batch.first(0))
    if isinstance(test, str | PathLike):
        path = path_of(test)
        try:
            judged = read_table(
                path,
                texts=table.texts_alone,
                known=[column.name for column in batch.features],
                ignored=ignored,
                mapped=mapped,
            )
            return DataSet(batch, _second(judged, batch))
        except BadInput as error:
            raise BadInput(f"test part: {error}") from error
    judged = test if isinstance(test, StoredTable) else Table.of(test)
    return DataSet(batch, _second(judged, batch))


_TEST_KEY = Key(0).at("test")
_NAMED = 10  # columns that a message names


def _second(
    table: Table | StoredTable, first: TableBatch | StoredTableBatch
) -> TableBatch | StoredTableBatch:
    """The examples of a second table, with the columns and the targets of the first."""
    names = [column.name for column in first.targets]
    ignored = [name for name in first.apart if name in table.names]
    weights = first.apart[-1] if first.has_weights else ""
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
    if name in _FROM_SCIKIT_LEARN or name == DRAWN:
        return name
    try:
        path = path_of(name)
    except BadInput:  # a name of data in memory may be anything
        return name
    return str(path.resolve()) if path.exists() else name


def load_table(path: AnyPath, *, mapped: bool | None = None, in_windows: bool = False) -> DataSet:
    """Read examples from an HDF5 file, an npz file or several npy files, with one per row.

    The file holds train_X (m, …) and train_Y (m,) or (m, …), of any numeric type: train_X is
    (m, n_x) for features, (m, T) for sequences of ids, (m, T, n) for sequences of features, and
    (m, height, width, channels) for images; the labels of each step of a sequence are (m, T). The
    first axis becomes the last one. The file may also hold test_X and test_Y; weights of examples,
    train_weights and test_weights (m,); the numbers of valid steps of sequences, train_lengths and
    test_lengths (m,); classes, the names of the classes from class 0 on; and image_shape (3,) if
    the examples are images. Or each array is in an npy file of its own: train_X.npy, train_Y.npy
    and so on in one folder, or X.npy and Y.npy without a test part.

    Args:
        path: The file; of several npy files the one of train_X or X.
        mapped: Whether the examples stay in the file, as `Stored`, which needs HDF5 without chunks
            or compression, as `save_table` writes it, or npy files; None if they would take more
            than a quarter of the free memory. Their numbers are then checked when they are used.
        in_windows: Whether those in chunks or compressed may stay there, too; see `load_data_set`.

    Raises:
        BadInput: If the file is missing or damaged, an array does not fit the others, or a number
            is not finite, naming its place; or if the examples should stay in the file, or would
            not fit into memory, and cannot stay there.

    Example:
        >>> save_table("a.h5", DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]])))
        >>> load_table("a.h5").train.X
        array([[1., 2.]])
        >>> X, Y = np.zeros((6, 20, 3)), np.zeros(6)  # 6 sequences of up to 20 steps
        >>> np.savez("b.npz", train_X=X, train_Y=Y, train_lengths=[20, 7, 9, 9, 1, 2])
        >>> load_data_set("b.npz").train
        Batch(X=float64 (20, 3, 6), Y=float64 (1, 6), weights=None, lengths=int64 (6,))
    """
    path = path_of(path)
    if mapped is not None:
        mapped = expect_flag("mapped", mapped)
    if is_hdf5(path):
        with open_hdf5(path) as file:
            return _read_examples(_InHDF5(file, _mapped_arrays(path, file, mapped, in_windows)))
    if files := examples_beside(path):
        return _read_examples(_InNumPy(path.parent, _arrays_in_npy(files, mapped)))
    if mapped:
        raise not_in_its_file(path)
    return _read_examples(_InNumPy(path, read_npz(path)))


_PARTS = ("train", "test")
_OF_EXAMPLES = ("X", "Y", "weights", "lengths")


def _mapped_arrays(
    path: Path, file: h5py.File, mapped: bool | None, in_windows: bool
) -> Mapping[str, InFile] | None:
    """The arrays of examples that stay in a file; None to read them into memory."""
    names = [f"{part}_{name}" for part in _PARTS for name in _OF_EXAMPLES]
    shapes = {name: shape for name, shape in shapes_in(file).items() if name in names}
    size = 8 * sum(math.prod(shape) for shape in shapes.values())
    if not stays_in_file(size, mapped):
        return None
    try:
        return open_stored(path, shapes)
    except NotMappable as error:
        if in_windows:
            return open_chunked(path, shapes)
        if mapped:
            raise
        free = free_memory()
        if free is not None and size > free:
            need = f"{readable(size)} in memory, of {readable(free)} free"
            raise BadInput(f"examples would take {need}, but {error}") from error
        return None


def _arrays_in_npy(
    files: Mapping[str, Path], mapped: bool | None
) -> Mapping[str, AnyArray | InFile]:
    """The arrays in npy files; those of examples stay there if all of them do."""
    of_examples = [name for name in files if name not in OF_ALL]
    stored: dict[str, InFile] = {}
    try:
        if mapped is not False:
            stored = {name: open_stored(files[name])["X"] for name in of_examples}
        if not stays_in_file(8 * sum(math.prod(array.shape) for array in stored.values()), mapped):
            stored = {}
    except NotMappable:
        if mapped:
            raise
        stored = {}
    read = {name: read_npy(file) for name, file in files.items() if name not in stored}
    return {**read, **stored}


_WHOLE = ("_lengths", "image_shape", "vocabulary_kind")  # arrays of whole numbers


@attrs.frozen
class _InHDF5:
    """The arrays of an HDF5 file, and those of them that stay there."""

    file: h5py.File
    stored: Mapping[str, InFile] | None = None

    @property
    def place(self) -> str:
        return str(self.file.filename)

    def holds(self, name: str) -> bool:
        return holds(self.file, name)

    def table(self, name: str) -> AnyArray | InFile:
        if self.stored is None or name not in self.stored:  # if it is missing or a link, refuse it
            return self.numbers(name, None)
        return self.stored[name]

    def numbers(self, name: str, shape: Sequence[int | str] | None) -> AnyArray:
        dtype = np.integer if name.endswith(_WHOLE) else np.number
        return read_array(self.file, name, dtype=dtype, shape=shape)

    def names(self, name: str) -> list[str]:
        return read_names(self.file, name)


@attrs.frozen
class _InNumPy:
    """The arrays of an npz file or of npy files, which are read already or stay there."""

    place: Path
    arrays: Mapping[str, AnyArray | InFile]

    def holds(self, name: str) -> bool:
        return name in self.arrays

    def table(self, name: str) -> AnyArray | InFile:
        array = self.arrays.get(name)
        return array if isinstance(array, InFile) else self.numbers(name, None)

    def numbers(self, name: str, shape: Sequence[int | str] | None) -> AnyArray:
        array = self._array(name, "iu" if name.endswith(_WHOLE) else "biuf")
        if shape is not None:
            expect_shape(f"{name} in {self.place}", array, shape, hint="save it again")
        return array

    def names(self, name: str) -> list[str]:
        array = self._array(name, "U")
        expect_shape(f"{name} in {self.place}", array, ("count",), hint="give one name per class")
        return [str(text) for text in array]

    def _array(self, name: str, kinds: str) -> AnyArray:
        expect_known("array", name, self.arrays, place=self.place)
        array = self.arrays[name]
        assert not isinstance(array, InFile)
        if array.dtype.kind not in kinds:
            what = {"U": "texts", "iu": "integers"}.get(kinds, "numbers")
            raise BadInput(f"{name} in {self.place} holds {array.dtype}, expected {what}.")
        return array


def _read_examples(file: _InHDF5 | _InNumPy) -> DataSet:
    train = _read_part(file, "train")
    if file.holds("test_X") or file.holds("test_Y"):
        test = _read_part(file, "test")
    else:
        test = train.only(np.arange(0))
    shapes = {"X": (test.shape, train.shape), "Y": (test.label_shape, train.label_shape)}
    for name, (ours, theirs) in shapes.items():
        hint = f"give test_{name} the columns of the training table"
        what = "transposed" if len(theirs) == 1 else "with its first axis last"
        array = _in_form((*ours, test.count))
        expect_shape(f"test_{name}, {what},", array, _shape_like(theirs, train), hint=hint)
    shape, classes, vocabulary = None, None, None
    if file.holds("image_shape"):
        shape = file.numbers("image_shape", (3,)).tolist()
    if file.holds("classes"):
        classes = file.names("classes")
    if file.holds("vocabulary"):
        words, of_lines = file.numbers("vocabulary_kind", (2,)).tolist()
        vocabulary = Vocabulary(file.names("vocabulary"), words=bool(words), lines=bool(of_lines))
    return DataSet(train, test, shape, classes, vocabulary=vocabulary)


def _read_part(file: _InHDF5 | _InNumPy, part: str) -> Examples:
    X = file.table(f"{part}_X")
    if len(X.shape) < 2:
        where = f"{part}_X in {file.place}"
        expect_shape(where, _in_form(X.shape), ("m", "n_x"), hint="give one row per example")
    Y = file.table(f"{part}_Y")
    if Y.shape[:1] != X.shape[:1]:
        shape = (len(X), "n_y") if len(Y.shape) == 2 else (len(X), *Y.shape[1:])
        where = f"{part}_Y in {file.place}"
        expect_shape(where, _in_form(Y.shape), shape, hint="give one row per example")
    if isinstance(X, InFile) or isinstance(Y, InFile):
        return _stored_part(file, part, X, Y)
    rows = {"X": X, "Y": Y[:, np.newaxis] if Y.ndim == 1 else Y}
    if file.holds(f"{part}_weights"):
        rows["weights"] = file.numbers(f"{part}_weights", (len(X),))[:, np.newaxis]
    for name, table in rows.items():
        expect_finite(f"{part}_{name} in {file.place}", table)
    arrays = {name: _columns(table) for name, table in rows.items()}
    lengths = None
    if file.holds(f"{part}_lengths"):
        lengths = file.numbers(f"{part}_lengths", (len(X),)).astype(np.int64)
    try:
        return Batch(arrays["X"], arrays["Y"], arrays.get("weights"), lengths)
    except BadInput as error:
        raise BadInput(f"the {part} part in {file.place}: {error}") from error


def _stored_part(
    file: _InHDF5 | _InNumPy, part: str, X: AnyArray | InFile, Y: AnyArray | InFile
) -> Stored:
    more: dict[str, AnyArray | InFile] = {}
    for name in ("weights", "lengths"):
        if file.holds(f"{part}_{name}"):
            array = more[name] = file.table(f"{part}_{name}")
            where = f"{part}_{name} in {file.place}"
            expect_shape(where, _in_form(array.shape), (len(X),), hint="give one per example")
    if "lengths" in more and more["lengths"].dtype.kind not in "iu":
        raise BadInput(
            f"{part}_lengths in {file.place} holds {more['lengths'].dtype}, expected integers."
        )
    dtype = X.dtype.newbyteorder("=") if X.dtype.kind == "f" else np.dtype(np.float64)
    return Stored(X, Y, more.get("weights"), more.get("lengths"), dtype)


def save_table(path: AnyPath, data: DataSet) -> None:
    """Write a data set to a new HDF5 file that `load_table` reads.

    Args:
        path: The file to write, which must not exist yet.
        data: The data set; its examples become rows of the file, so the last axis becomes the
            first one.

    Raises:
        BadInput: If a number is not finite, naming its place; or if the file exists or cannot be
            written.

    Example:
        >>> data = DataSet(nn.Batch([[1, 2]], [[0, 1]]), nn.Batch([[3]], [[0]]))
        >>> save_table("mine.h5", data)
        >>> load_data_set("mine.h5").test.X
        array([[3.]])
    """
    tables: dict[str, ArrayLike] = {}
    for part in _PARTS:
        batch = getattr(data, part).in_memory()
        for name in ("X", "Y", "weights"):
            if (array := getattr(batch, name)) is not None:
                rows = np.ascontiguousarray(examples_first(array))
                expect_finite(f"{part}_{name}", rows)
                tables[f"{part}_{name}"] = rows[:, 0] if name == "weights" else rows
        if batch.lengths is not None:
            tables[f"{part}_lengths"] = batch.lengths
    if data.image_shape is not None:
        tables["image_shape"] = np.array(data.image_shape, np.int64)
    if data.classes is not None:
        tables["classes"] = _encoded(data.classes)
    if (known := data.vocabulary) is not None:
        tables["vocabulary"] = _encoded(known.symbols)
        tables["vocabulary_kind"] = np.array([known.words, known.lines], np.int64)
    write_hdf5(path_of(path), arrays=tables)


def _encoded(names: tuple[str, ...]) -> NDArray[np.bytes_]:
    try:
        return np.array([name.encode() for name in names], np.bytes_)
    except UnicodeEncodeError as error:
        raise BadInput(f"the class {error.object!r} is not Unicode text: rename it.") from error


def _digits() -> DataSet:
    values = _file_of_digits()
    if values is None:
        bunch = _datasets("digits").load_digits()
        values = np.column_stack([bunch.data, bunch.target])
    data = Batch(_columns(values[:, :-1]), _columns(values[:, -1:]))
    train, test = split(data, Key(0).at("digits"), share=_TEST_SHARE)
    return DataSet(train, test, classes=tuple(map(str, range(10))))


def _file_of_digits() -> AnyArray | None:
    """The pixels and the class of each digit (m, 65), from the file that scikit-learn reads.

    None if there is no such file. To import scikit-learn for it would take three seconds, of which
    whoever trains or looks into a step would spend most of the time.
    """
    found = find_spec("sklearn")
    for place in (found.submodule_search_locations or ()) if found else ():
        with contextlib.suppress(OSError, ValueError):
            with gzip.open(Path(place) / "datasets" / "data" / "digits.csv.gz", "rt") as file:
                values = np.loadtxt(file, delimiter=",", ndmin=2)
            if values.shape == (1797, 65):
                return values
    return None


def _diabetes() -> DataSet:
    bunch = _datasets("diabetes").load_diabetes()
    data = Batch(_columns(bunch.data), _columns(bunch.target[:, np.newaxis]))
    key = Key(0).at("diabetes")
    return DataSet(*split(data, key, share=_TEST_SHARE, stratified=False))


_FROM_SCIKIT_LEARN: Mapping[str, Callable[[], DataSet]] = {
    "digits": _digits,
    "diabetes": _diabetes,
}


def _datasets(name: str) -> ModuleType:
    return import_extra("sklearn.datasets", extra="sklearn", purpose=f"the data set {name!r}")


def _columns(rows: AnyArray) -> FloatArray:
    """Examples along the first axis moved to the last one, each contiguous in memory."""
    dtype: DTypeLike = rows.dtype if rows.dtype.kind == "f" else np.float64
    return examples_last(freeze(np.array(rows, dtype)))


def _cast(data: DataSet, dtype: DTypeLike) -> DataSet:
    """The data in a `dtype`; a number beyond its range is refused."""

    def cast(part: str, name: str) -> FloatArray:
        before = examples_first(getattr(getattr(data, part), name))
        with np.errstate(over="ignore"):
            rows = before.astype(dtype)
        if not (fits := np.isfinite(rows) | ~np.isfinite(before)).all():
            row, *place = (int(i) for i in np.argwhere(~fits)[0])
            column = place[0] if len(place) == 1 else tuple(place)
            raise BadInput(
                f"{part}_{name} holds {before[row, *place]:g} in row {row}, column {column}, "
                f"which {np.dtype(dtype)} cannot hold: use float64, or scale the column."
            )
        return examples_last(freeze(rows))

    def cast_part(part: str, batch: Examples) -> Examples:
        if isinstance(batch, Stored):
            return attrs.evolve(batch, dtype=dtype)
        assert isinstance(batch, Batch)
        weights = None if batch.weights is None else cast(part, "weights")
        return Batch(cast(part, "X"), cast(part, "Y"), weights, batch.lengths)

    train, test = cast_part("train", data.train), cast_part("test", data.test)
    return attrs.evolve(data, train=train, test=test)
