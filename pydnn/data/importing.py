"""Copies data from any format, once, into an HDF5 file that can be mapped into memory.

    import_data("trips.csv", "trips.h5")
    data = load_data_set("trips.h5", target="price")

The source is read from beginning to end, with about 100 MB of it in memory at a time, or one chunk
or one row if that is more. A table is written twice: first to a temporary file, because the dtype
that fits all values is known only after the last row, and then to the final file.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import attrs
import numpy as np

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_known,
    expect_shape,
    import_extra,
    not_finite,
    path_of,
)
from pydnn.data.csv_files import CsvTable, HoldsTexts, open_csv
from pydnn.data.image_folders import store_image_folder
from pydnn.data.image_sets import holds_catvnoncat
from pydnn.data.row_files import RowFile, Rows, open_rows
from pydnn.data.sets import images_for_testing
from pydnn.data.stored_tables import (
    CodedBlock,
    expect_few_letters,
    store_table,
    store_values,
)
from pydnn.data.table_files import PARQUET, opened_parquet, table_of_arrays, without_header
from pydnn.data.tables import Table
from pydnn.free_memory import readable
from pydnn.prefetch import prefetched
from pydnn.records import AnyArray, AnyDType
from pydnn.storage.contiguous import Blocks, write_contiguous
from pydnn.storage.files import open_regular, unchanged

__all__ = ["Imported", "import_data"]

Progress: TypeAlias = Callable[[str, int, int], object]

_MOST = 1 << 24  # bytes of a block of rows
_CELLS = 1 << 20  # of a block of a table
_TEXT = 1 << 5  # cells that take as much memory as a text that an HDF5 file holds
_SOME = 1 << 14  # texts before their letters are counted for the first time
_NAMED = 10  # arrays that a message names
_LARGEST = 8  # bytes of a number
_PARTS = ("train", "test")
_OF_EXAMPLES = ("X", "Y", "weights", "lengths")  # after the name of a part
_BESIDE = ("classes", "image_shape", "vocabulary", "vocabulary_kind")  # short ones


@attrs.frozen
class Imported:
    """What `import_data` wrote.

    Attributes:
        path: The file.
        rows: The number of rows or examples, including those of a test part.
        what: What the file holds, in a few words, e.g. "a table of 21 columns".
        notes: Notes for the user on how the source was read, one line each.
    """

    path: Path
    rows: int
    what: str
    notes: tuple[str, ...] = ()


def _no_progress(what: str, done: int, total: int) -> None:
    pass


def import_data(
    source: AnyPath,
    path: AnyPath,
    *,
    inputs: str = "",
    target: str = "",
    test: AnyPath | float = "",
    image_size: Sequence[int] | None = None,
    skip_unreadable: bool = False,
    header: bool | None = None,
    on_progress: Progress = _no_progress,
) -> Imported:
    r"""Copy data into a new HDF5 file of contiguous arrays, which can be larger than memory.

    The copy gives the same examples, fingerprints and training as the source does. Numbers keep
    their dtype: pixels stay uint8. An interrupted import leaves no file.

    Args:
        source: A CSV or TSV file, a Parquet file (extra `parquet`), an npz or npy file, an HDF5
            file of any layout, or a folder of pictures (extra `image`).
        path: The file to write, which must not exist yet; its name ends in .h5 or .hdf5.
        inputs: The name of the array of inputs in an HDF5 or npz file that does not call it
            train_X. It has one example per row.
        target: The name of the array of labels in such a file; for an npy file of inputs, the npy
            file of labels. Leave it out for tables with named columns, which keep all of them.
        test: The share of the pictures of a folder to hold back for testing, as `load_data_set`
            draws it; or, where `target` names an array, a second file like `source`.
        image_size: The height and width to resize the pictures of a folder to.
        skip_unreadable: Whether to leave out the pictures of a folder that cannot be read.
        header: Whether the first line of a CSV file names the columns; None to decide by whether
            its cells are numbers.
        on_progress: Called with what is done ("reading" or "writing"), how much of it, and how
            much in all.

    Raises:
        BadInput: If the source is missing or damaged, changes while it is read, is an imported
            table already, or holds arrays that no training takes; or if the file exists, has a name
            of another kind, or cannot be written.
        MissingExtra: If the source needs a library that is not installed.

    Example:
        >>> from pathlib import Path
        >>> from pydnn.data.importing import import_data
        >>> _ = Path("houses.csv").write_text("size,city\n1.5,Rome\n,Oslo\n")
        >>> import_data("houses.csv", "houses.h5").what
        'a table of 2 columns'
        >>> nn.read_table("houses.h5") == nn.read_table("houses.csv")
        True
    """
    source, path = path_of(source), path_of(path)
    if path.exists():
        raise BadInput(f"{path} exists already, expected a new name: choose another.")
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise BadInput(
            f"{path} is to be an HDF5 file, expected a name that ends in .h5 or .hdf5: give one."
        )
    options: dict[str, object] = {"inputs": inputs, "target": target, "test": test}
    options |= {"image_size": image_size, "skip_unreadable": skip_unreadable, "header": header}
    if source.is_dir():
        _expect_unused(source, options, but=("test", "image_size", "skip_unreadable"))
        return _pictures(source, path, image_size, skip_unreadable, test, on_progress)
    with open_rows(source) as file:
        if file is None:  # a file that is read from its beginning to its end
            _expect_unused(source, options, but=("header",))
            return _named_columns(source, path, header, on_progress)
        if file.is_stored:
            raise BadInput(
                f"{source} is an imported table already, expected another format: use it as it is."
            )
        if target or inputs:
            _expect_unused(source, options, but=("inputs", "target", "test"))
            return _named_arrays(file, path, inputs, target, test, on_progress)
        _expect_unused(source, options)
        every = {*file.arrays, *file.links}
        of_examples = any(f"{part}_{name}" in every for part in _PARTS for name in "XY")
        for name in file.links:
            if not of_examples or name in _known_names():  # else the copy would silently lack it
                raise BadInput(
                    f"{name} in {source} is a link, expected the data itself: links are not "
                    "followed."
                )
        if of_examples:
            names = [name for name in file.arrays if name in _known_names()]
            arrays = {name: file.arrays[name] for name in names}
            return _examples(source, arrays, path, [file.expect_unchanged], on_progress)
        return _columns(file, path, on_progress)


def _known_names() -> tuple[str, ...]:
    return (*(f"{part}_{name}" for part in _PARTS for name in _OF_EXAMPLES), *_BESIDE)


def _expect_unused(source: Path, options: Mapping[str, object], *, but: Sequence[str] = ()) -> None:
    for option, value in options.items():
        if option not in but and value not in ("", None, False):
            advice = "choose the test part when you train" if option == "test" else "leave it out"
            raise BadInput(f"{option} is {value!r}, but {source} is imported as a whole: {advice}.")


def _expect_room(path: Path, size: int) -> None:
    """Refuse a file that is too large for its disk, before hours are spent on writing it."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return  # the folder is missing, which the writer refuses
    if size > free:
        raise BadInput(
            f"{path} takes {readable(size)}, but its disk has {readable(free)} free: choose a "
            "place with enough space."
        )


# Pictures


def _pictures(
    source: Path,
    path: Path,
    image_size: Sequence[int] | None,
    skip_unreadable: bool,
    test: AnyPath | float,
    on_progress: Progress,
) -> Imported:
    if test != "" and not isinstance(test, int | float):
        raise BadInput(
            f"test is {test}, but {source} is a folder of pictures: give the share to hold back, "
            "e.g. 0.2, or put pictures into a folder called test in it."
        )
    if holds_catvnoncat(source):
        raise BadInput(
            f"{source} holds photos in HDF5 files, expected folders of pictures: use it as it is."
        )
    chosen = None if test == "" else partial(images_for_testing, share=float(test))
    count, (height, width), notes = store_image_folder(
        source,
        path,
        image_size=image_size,
        skip_unreadable=skip_unreadable,
        chosen=chosen,
        on_progress=on_progress,
    )
    return Imported(path, count, f"images of {height} x {width} pixels", notes)


# Tables with named columns


def _named_columns(
    source: Path, path: Path, header: bool | None, on_progress: Progress
) -> Imported:
    """Import a table from a file that is read from its beginning to its end."""

    def on_rows(written: int, rows: int) -> None:
        on_progress("writing", written, rows)

    with open_regular(source, what="a table's file") as file, unchanged(file, source) as check:
        if file.read(len(PARQUET)) == PARQUET:
            counted = _Counted()
            blocks = counted.tables(_in_parquet(source, file, check, on_progress))
            store_table(path, blocks, on_rows=on_rows)
            return counted.imported(path)
    with open_csv(source, header=header) as table:
        notes = [without_header(source, "import it with --header (header=True)")]
        if table.headed or header is not None:
            notes = []
        size = source.stat().st_size
        while True:
            counted = _Counted()
            try:
                blocks_of_csv = _in_csv(table, size, counted, on_progress)
                store_values(path, blocks_of_csv, table.settled, on_rows=on_rows)
                return attrs.evolve(counted.imported(path), notes=tuple(notes))
            except HoldsTexts:
                continue  # from the beginning, with other columns as texts


class _Counted:
    """Counts the rows and columns of a table while they are read."""

    def __init__(self) -> None:
        self.rows = self.columns = 0

    def add(self, columns: int, rows: int) -> None:
        """Count some more rows."""
        self.columns = columns
        self.rows += rows

    def tables(self, tables: Iterable[Table]) -> Iterator[Table]:
        """The same tables."""
        for table in tables:
            self.add(len(table.columns), table.rows)
            yield table

    def imported(self, path: Path) -> Imported:
        """What is written once all rows have passed by."""
        columns = "1 column" if self.columns == 1 else f"{self.columns} columns"
        return Imported(path, self.rows, f"a table of {columns}")


def _in_csv(
    table: CsvTable, size: int, counted: _Counted, on_progress: Progress
) -> Iterator[CodedBlock]:
    known = _SOME
    for values, coded in table.blocks():
        counted.add(*values.shape)
        if coded and sum(map(len, table.texts().values())) > 2 * known:
            known = expect_few_letters(table.texts())
        yield CodedBlock(values, coded)
        on_progress("reading", min(table.place, size), size)


def _in_parquet(
    source: Path, file: BufferedReader, check: Callable[[], None], on_progress: Progress
) -> Iterator[Table]:
    arrow = import_extra("pyarrow", extra="parquet", purpose=f"the Parquet file {source}")
    with opened_parquet(source, file) as parquet:
        total, read = parquet.metadata.num_rows, 0
        rows = max(1, _CELLS // max(1, parquet.metadata.num_columns))
        for batch in parquet.iter_batches(batch_size=rows):
            yield Table.of(arrow.Table.from_batches([batch]))
            read += len(batch)
            on_progress("reading", read, total)
        check()


def _columns(file: RowFile, path: Path, on_progress: Progress) -> Imported:
    """Import a table whose columns are arrays of a file."""
    arrays = {name: rows for name, rows in file.arrays.items() if "/" not in name}
    lengths = {name: rows.shape[0] for name, rows in arrays.items()}
    if not arrays:
        raise BadInput(
            f"{file.path} has no arrays, expected columns of a table: give another file."
        )
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise BadInput(
                f"{name} in {file.path} has {length} rows, but {first} has {lengths[first]}: give "
                "one row per example, or name two arrays with --inputs and --target."
            )
    width = sum(_cells_of(rows) for rows in arrays.values())
    rows = max(1, _CELLS // max(1, width))

    def tables() -> Iterator[Table]:
        read, total = 0, lengths[first]
        for blocks in zip(*(array.blocks(rows) for array in arrays.values()), strict=True):
            table = table_of_arrays(file.path, dict(zip(arrays, blocks, strict=True)))
            yield table
            read += table.rows
            on_progress("reading", read, total)
        file.expect_unchanged()

    counted = _Counted()
    store_table(
        path,
        counted.tables(tables()),
        on_rows=lambda written, rows: on_progress("writing", written, rows),
    )
    return counted.imported(path)


def _cells_of(rows: Rows) -> int:
    """The numbers that take as much memory as a row."""
    size = _TEXT if rows.dtype == np.object_ else max(1, rows.dtype.itemsize // 8)
    return math.prod(rows.shape[1:]) * size


# Arrays of examples


def _named_arrays(
    file: RowFile,
    path: Path,
    inputs: str,
    target: str,
    test: AnyPath | float,
    on_progress: Progress,
) -> Imported:
    """Import two arrays as inputs and labels, and perhaps those of a second file for testing."""
    if not target:
        raise BadInput(f"inputs is {inputs}, but no target is named: name the array of labels.")
    if test != "" and (isinstance(test, int | float) or file.is_npy):
        raise BadInput(
            f"test is {test}, expected a second HDF5 or npz file with the same two arrays: give "
            "its path, or leave test out."
        )
    with contextlib.ExitStack() as stack:
        files = {"train": file}
        if test != "":
            files["test"] = _rows_at(path_of(test), stack)
        arrays: dict[str, Rows] = {}
        for part, opened in files.items():
            if file.is_npy:
                beside = _rows_at(_beside(file.path, target), stack)
                opened = attrs.evolve(opened, arrays={**opened.arrays, **_called(target, beside)})
            labels = opened.array(target)
            arrays[f"{part}_X"] = opened.array(inputs or _other(opened, target))
            arrays[f"{part}_Y"] = labels
        checks = [opened.expect_unchanged for opened in files.values()]
        return _examples(file.path, arrays, path, checks, on_progress)


def _rows_at(path: Path, stack: contextlib.ExitStack) -> RowFile:
    opened = stack.enter_context(open_rows(path))
    if opened is None:
        raise BadInput(f"{path} is not an HDF5, npz or npy file, expected arrays: give another.")
    return opened


def _beside(path: Path, target: str) -> Path:
    """The file of labels, whose name may be relative to the folder of the inputs."""
    named = path_of(target)
    return named if named.exists() else path.parent / named.name


def _called(target: str, labels: RowFile) -> dict[str, Rows]:
    if not labels.is_npy:
        raise BadInput(f"{labels.path} is not an npy file, expected one of labels: give another.")
    return {target: labels.array("X")}


def _other(file: RowFile, target: str) -> str:
    """The name of the inputs, where the labels are the only other array."""
    others = [name for name in file.arrays if name != target]
    if len(others) != 1:
        known = ", ".join(others[:_NAMED]) or "no other array"
        raise BadInput(
            f"{file.path} has {known}, expected one array of inputs beside {target}: name it as "
            "inputs."
        )
    return others[0]


def _examples(
    source: Path,
    arrays: Mapping[str, Rows],
    path: Path,
    checks: Sequence[Callable[[], None]],
    on_progress: Progress,
) -> Imported:
    """Write arrays of examples, and short ones that belong to them, in the order of their names."""
    for name, array in arrays.items():
        _expect_fitting(source, name, array, arrays)
    dtypes = {name: _dtype_of(source, name, array) for name, array in arrays.items()}
    names = [name for name in _known_names() if name in arrays]
    large = [name for name in names if name not in _BESIDE]
    total = sum(math.prod(arrays[name].shape) * dtypes[name].itemsize for name in large)
    _expect_room(path, total)
    written = 0

    def blocks(name: str) -> Iterator[AnyArray]:
        nonlocal written
        array = arrays[name]
        rows = max(1, _MOST // array.row_bytes)
        if rows > array.multiple:
            rows -= rows % array.multiple
        first, weight = 0, 0.0
        for block in prefetched(array.blocks(rows)):  # read while the last one is written
            if block.dtype.kind == "f":
                _expect_finite(source, name, block, first)
            if name.endswith("_weights"):
                _expect_within(source, name, block, first, 0, math.inf)
                weight += float(block.sum(dtype=np.float64))
            elif name.endswith("_lengths"):
                steps = arrays[name.replace("lengths", "X")].shape[1]
                _expect_within(source, name, block, first, 1, steps)
            yield block
            first += len(block)
            written += len(block) * math.prod(array.shape[1:]) * dtypes[name].itemsize
            on_progress("writing", written, total)
        if name.endswith("_weights") and first and not weight:
            raise BadInput(
                f"{name} in {source} sums to 0, expected a number above 0: give some a weight."
            )
        if name == large[-1]:
            for check in checks:
                check()

    short = {name: _short(arrays[name]) for name in names if name in _BESIDE}
    write_contiguous(
        path,
        {
            name: short.get(name) or Blocks(arrays[name].shape, dtypes[name], blocks(name))
            for name in names
        },
        most=_MOST,
    )
    rows = sum(arrays[f"{part}_X"].shape[0] for part in _PARTS if f"{part}_X" in arrays)
    shape = " x ".join(map(str, arrays["train_X"].shape[1:]))
    return Imported(path, rows, f"examples of {shape} numbers ({dtypes['train_X']})")


def _short(array: Rows) -> Blocks:
    """A short array, such as the names of classes."""
    [values] = array.blocks(max(1, array.shape[0]))
    if values.dtype.kind in "OU":
        values = np.array([str(text).encode() for text in values], np.bytes_)
    return Blocks(values.shape, values.dtype, [values])


def _expect_fitting(source: Path, name: str, array: Rows, arrays: Mapping[str, Rows]) -> None:
    part, _, what = name.partition("_")
    if part not in _PARTS:
        return
    if f"{part}_X" not in arrays or f"{part}_Y" not in arrays:
        missing = "X" if f"{part}_X" not in arrays else "Y"
        raise BadInput(f"{source} has {name} without {part}_{missing}, expected both: add it.")
    expect_known("array", "train_X", arrays, place=source)
    if what == "X" and len(array.shape) < 2:
        raise BadInput(
            f"{name} in {source} has shape {array.shape}, expected ('m', 'n_x'): give one row per "
            "example."
        )
    if (rows := arrays[f"{part}_X"].shape[0]) != array.shape[0]:
        raise BadInput(
            f"{name} in {source} has {array.shape[0]} rows, but the inputs have {rows}: give one "
            "row per example."
        )
    if name == "train_X" and not math.prod(array.shape):
        raise BadInput(
            f"{name} in {source} has shape {array.shape}, expected examples with features: give "
            "some data."
        )
    expected: tuple[int | str, ...] = ("m",)
    if what in "XY":
        like = arrays[f"train_{what}"].shape
        expected = (*expected, *like[1:])
        if "train_lengths" in arrays and like[1:2] == arrays["train_X"].shape[1:2]:
            expected = ("m", "T", *like[2:])  # other steps than in training
    shape = array.shape
    if what == "Y" and math.prod(shape[1:]) == math.prod(like[1:]) == 1:
        return  # one number each, with an axis of its own or without
    hint = "give what the training part has" if what in "XY" else "give one per example"
    expect_shape(f"{name} in {source}", np.broadcast_to(0.0, shape), expected, hint=hint)


def _dtype_of(source: Path, name: str, array: Rows) -> AnyDType:
    """The dtype of an array in the copy: its own, with truth values as the integers 0 and 1."""
    dtype = array.dtype
    if name in _BESIDE:
        return dtype
    if dtype.kind not in "biuf" or dtype.itemsize > _LARGEST:
        raise BadInput(
            f"{name} in {source} holds {dtype}, expected integers or floats of at most {_LARGEST} "
            "bytes: convert it."
        )
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("<")


def _expect_within(
    source: Path, name: str, block: AnyArray, first: int, least: int, most: float
) -> None:
    """Refuse weights or lengths of which one is too small or too large."""
    right = np.greater_equal(block, least) & np.less_equal(block, most)
    if not right.all():
        row = int(np.argmin(right))
        expected = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise BadInput(
            f"{name} in {source} holds {block[row]} in row {first + row}, expected {expected}: "
            "correct it, or leave the example out."
        )


def _expect_finite(source: Path, name: str, block: AnyArray, first: int) -> None:
    rows = block[:, np.newaxis] if block.ndim == 1 else block  # named as the copy would be
    if not (finite := np.isfinite(rows)).all():
        row, *place = (int(i) for i in np.argwhere(~finite)[0])
        raise not_finite(f"{name} in {source}", rows[row, *place], (first + row, *place))
