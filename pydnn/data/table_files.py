"""Tables from files of any kind: CSV and its relatives, Parquet, npz, npy and HDF5.

What a file is, its first bytes say, whatever its name is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, overload

import h5py
import numpy as np

from pydnn.batches import examples_last
from pydnn.checks import AnyPath, BadInput, expect_flag, first_line, import_extra, path_of
from pydnn.data.csv_files import read_csv
from pydnn.data.frames import numbered
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import (
    StoredTable,
    is_stored_table,
    open_stored_table,
    table_of_array,
)
from pydnn.data.tables import Table
from pydnn.free_memory import free_memory, readable
from pydnn.records import AnyArray, Batch, readonly
from pydnn.sequences import expect_lengths
from pydnn.storage.checksums import may_be_sealed
from pydnn.storage.files import open_regular, unchanged
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, stored_bytes
from pydnn.storage.mapped import NotMappable, StoredArray, open_stored, stays_in_file
from pydnn.storage.npy import (
    NPY_DAMAGE,
    NPY_MAGIC,
    Member,
    dtype_of_values,
    npy_array,
    npy_header,
)

__all__ = [
    "HDF5",
    "OF_ALL",
    "PARQUET",
    "ZIP",
    "examples_beside",
    "has_no_header",
    "holds_examples",
    "is_hdf5",
    "is_named_hdf5",
    "not_in_its_file",
    "opened_parquet",
    "read_examples",
    "read_npy",
    "read_npz",
    "read_table",
    "table_of_arrays",
    "without_header",
]

# The first bytes of files of these kinds.
HDF5, PARQUET, ZIP = b"\x89HDF\r\n\x1a\n", b"PAR1", b"PK\3\4"
_ARRAYS = ("train_X", "train_Y", "test_X", "test_Y")  # what a file that `save_table` wrote holds
_OF_EXAMPLES = ("X", "Y", "weights", "lengths")
OF_ALL = ("classes", "image_shape")  # arrays that say something about all examples


@overload
def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    known: Collection[str] = (),
    ignored: Collection[str] = (),
    mapped: Literal[False],
) -> Table: ...


@overload
def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    known: Collection[str] = (),
    ignored: Collection[str] = (),
    mapped: bool | None = None,
) -> Table | StoredTable: ...


def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    known: Collection[str] = (),
    ignored: Collection[str] = (),
    mapped: bool | None = None,
) -> Table | StoredTable:
    r"""Read a table from a file, with one example per row.

    Args:
        path: A CSV or TSV file, a Parquet file (extra `parquet`), an npz file of columns, an npy
            file of rows, an HDF5 file of columns, or one that `store_table` wrote. A 2-dimensional
            array has a column in each of its columns, called "column 1" and so on, or "y 1" and so
            on in an array called y.
        header: Whether the first line of a CSV file names the columns; None to decide by whether
            its cells are numbers.
        delimiter: What separates the cells of a CSV file; None to find it in its first lines.
        texts: Names of columns of a CSV file that hold texts, though all may look like numbers.
        known: Names of columns that the table is expected to have. A first line of a CSV file with
            all of them names the columns, even if all its cells are numbers.
        ignored: Names of columns of a CSV file that nobody uses, so they may hold numbers with
            commas.
        mapped: Whether a table that `store_table` wrote, or the rows of numbers of an npy file,
            stay in their file, as a `StoredTable`; None if they would take more than a quarter of
            the free memory. Other tables come into memory.

    Raises:
        BadInput: If the file is missing, damaged, changes while it is read, or holds something
            else than a table, naming the line or the column; or if it cannot stay in its file.
        MissingExtra: If it is a Parquet file, and pyarrow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("houses.csv").write_text("size,city\n1.5,Rome\n,Oslo\n")
        >>> read_table("houses.csv")
        <Table: 2 rows; size (numbers), city (texts)>
    """
    path = path_of(path)
    if mapped is not None:
        mapped = expect_flag("mapped", mapped)
    with open_regular(path, what="a table's file") as file, unchanged(file, path):
        head = file.read(8)
        file.seek(0)
        if head.startswith(NPY_MAGIC):
            return _table_in_npy(path, mapped)
        if head.startswith(HDF5):
            return _read_hdf5(path, mapped)
        if mapped:
            raise not_in_its_file(path)
        if head.startswith(PARQUET):
            return _read_parquet(path, file)
        if head.startswith(ZIP):
            return table_of_arrays(path, read_npz(path))
        return read_csv(
            path, header=header, delimiter=delimiter, texts=texts, known=known, ignored=ignored
        )


def not_in_its_file(name: AnyPath) -> BadInput:
    """The error about data that should stay in its file, but is in a form that cannot."""
    return BadInput(
        f"mapped is True, but {name} is not an HDF5 file of arrays or a table in the stored form, "
        "expected one: copy it once with pydnn data import, or leave mapped out."
    )


def has_no_header(path: Path, table: Table | StoredTable) -> bool:
    """Whether a table was read from a text file whose first line is a row."""
    with open_regular(path, what="a table's file") as file:
        head = file.read(8)
    of_text = not head.startswith((NPY_MAGIC, HDF5, PARQUET, ZIP))
    return of_text and table.names == tuple(numbered(len(table.names)))


def without_header(path: Path, advice: str) -> str:
    """The note about a text file of which nobody said whether its first line names the columns."""
    return (
        f"the first line of {path} holds numbers and is a row, so the columns are called column 1 "
        f"and so on: if it names them, {advice}"
    )


def is_hdf5(path: Path) -> bool:
    """Whether a file is one of HDF5, or is called so.

    Raises:
        BadInput: If it cannot be read.
    """
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True  # which reading it then shows
    with open_regular(path, what="a table's file") as file:
        head = file.read(1 << 16)
    return head.startswith(HDF5) or may_be_sealed(head)


def is_named_hdf5(path: Path) -> bool:
    """Whether an HDF5 file holds named columns, and not arrays of examples from `save_table`.

    Raises:
        BadInput: If it cannot be read.
    """
    with open_hdf5(path) as file:
        return bool(stored_bytes(file)) and not any(name in _ARRAYS for name in stored_bytes(file))


def _table_in_npy(path: Path, mapped: bool | None) -> Table | StoredTable:
    """The table in an npy file, whose rows stay there if they are many or `mapped`."""
    array = _array_in_npy(path, mapped)
    if isinstance(array, StoredArray) and len(array.shape) <= 2:
        names = _names_of("X", array.shape)
        return table_of_array(array.reshaped(len(names)), names)
    return table_of_arrays(path, {"X": array.rows if isinstance(array, StoredArray) else array})


def _array_in_npy(path: Path, mapped: bool | None) -> StoredArray | AnyArray:
    """The array in an npy file, which stays there if it is large, or if `mapped`.

    Raises:
        NotMappable: If it should stay there, but cannot.
        BadInput: As `read_npy` does.
    """
    with _opened_npy(path) as member, _readable(str(path)):
        shape, _, _ = npy_header(member, dtype_of_values)
    if stays_in_file(8 * math.prod(shape), mapped):
        try:
            return open_stored(path)["X"]
        except NotMappable:
            if mapped:
                raise
    return read_npy(path)


def _names_of(name: str, shape: tuple[int, ...]) -> list[str]:
    """The names of the columns of an array in a file."""
    if len(shape) != 2:
        return [name]
    if name in ("X", "x"):
        return numbered(shape[1])
    return [f"{name} {number}" for number in range(1, shape[1] + 1)]


def table_of_arrays(path: Path, arrays: Mapping[str, AnyArray]) -> Table:
    """The table whose columns are in arrays of a file, by name; see `read_table`.

    Raises:
        BadInput: If they do not have the same number of rows, or values that are not plain.
    """
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.dtype.names:  # records
            records: Any = array
            columns |= {field: records[field] for field in array.dtype.names}
        elif array.ndim == 2:
            columns |= dict(zip(_names_of(name, array.shape), array.T, strict=True))
        else:
            columns[name] = array
    try:
        return Table.of(columns)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _read_npy(member: Member, where: str) -> AnyArray:
    """The array of an npy file, which holds values of columns or records of them."""
    with _readable(where):
        array = npy_array(member, dtype_of_values)
        if not array.size:  # of which there may be any number
            raise ValueError("it has no values")
        return array


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """A context in which damage to an npy file becomes one line."""
    try:
        yield
    except NPY_DAMAGE as error:
        raise BadInput(
            f"{where} is not a readable array ({first_line(error)}): save it again with numpy.save."
        ) from error


def holds_examples(path: Path) -> bool:
    """Whether a file is one of arrays of examples, such as train_X, in npz or npy, not of columns.

    Raises:
        BadInput: If it cannot be read.
    """
    if examples_beside(path):
        return True
    from pydnn.interop.npz import opened_zip

    with open_regular(path, what="a table's file") as file:
        if not file.read(4).startswith(ZIP):
            return False
    with opened_zip(path, what="an npz file") as archive:
        return any(f"{name}.npy" in archive.namelist() for name in _ARRAYS)


def examples_beside(path: Path) -> dict[str, Path]:
    """The npy files of one data set, by the names that their arrays have in an npz file.

    Args:
        path: The file train_X.npy, or X.npy, whose arrays have no prefix.

    Returns:
        The files that exist in its folder; none if it is another file, or Y is missing.
    """
    if path.name not in ("train_X.npy", "X.npy"):
        return {}
    prefix = path.name.removesuffix("X.npy")
    names = {f"train_{name}": f"{prefix}{name}" for name in _OF_EXAMPLES}
    if prefix:
        names |= {name: name for name in (*(f"test_{n}" for n in _OF_EXAMPLES), *OF_ALL)}
    files = {name: path.with_name(f"{file}.npy") for name, file in names.items()}
    there = {name: file for name, file in files.items() if file.is_file()}
    return there if {"train_X", "train_Y"} <= set(there) else {}


def read_npy(path: Path) -> AnyArray:
    """The array of an npy file.

    Raises:
        BadInput: If it is damaged, or has no values, or values that are not plain.
    """
    with _opened_npy(path) as member:
        return _read_npy(member, str(path))


@contextlib.contextmanager
def _opened_npy(path: Path) -> Iterator[Member]:
    with open_regular(path, what="an npy file") as file, unchanged(file, path):
        size = file.seek(0, 2)
        file.seek(0)
        yield Member(file, size)


def read_npz(path: Path) -> dict[str, AnyArray]:
    """The arrays of an npz file, by name.

    Raises:
        BadInput: If it is damaged, or one has no values, or values that are not plain.
    """
    from pydnn.interop.npz import opened_member, opened_zip

    arrays = {}
    with opened_zip(path, what="an npz file") as archive:
        names = [info.filename for info in archive.infolist()]
        if not names or not all(name.endswith(".npy") for name in names):
            raise BadInput(
                f"{path} is a ZIP archive without arrays, expected an npz file: save a spreadsheet "
                "as CSV, and arrays with numpy.savez."
            )
        for name in names:
            with opened_member(path, archive, name) as member:
                array = _read_npy(member, f"{name} in {path}")
            arrays[name.removesuffix(".npy")] = array
    return arrays


def read_examples(path: Path, *, mapped: bool | None = None) -> Batch | Stored:
    """Examples without labels, for which Y holds zeros.

    The file has the examples along the first axis, in an npy file of X alone, or an npz file of X
    and perhaps lengths.

    Args:
        path: The file.
        mapped: Whether the examples of an npy file stay there; None if they would take more than a
            quarter of the free memory.

    Raises:
        BadInput: If it is another kind of file, is damaged, or holds something else.
    """
    arrays: dict[str, Any] = {}
    with open_regular(path, what="a file of examples") as file:
        head = file.read(8)
    if head.startswith(NPY_MAGIC):
        arrays = {"X": _array_in_npy(path, mapped)}
    elif mapped:
        raise not_in_its_file(path)
    elif head.startswith(ZIP):
        arrays = dict(read_npz(path))
    X, lengths = arrays.get("X"), arrays.get("lengths")
    if X is None or not set(arrays) <= {"X", "lengths"} or not X.shape:
        raise BadInput(
            f"{path} has {', '.join(arrays) or 'no arrays'}, expected X with the examples along "
            "its first axis, and perhaps lengths: save them by numpy.save or numpy.savez."
        )
    if isinstance(X, StoredArray):
        dtype = X.dtype.newbyteorder("=") if X.dtype.kind == "f" else np.float64
        return Stored(X, np.zeros(len(X)), dtype=dtype)
    X = examples_last(readonly(X))
    valid = None if lengths is None else expect_lengths(lengths, X.shape[0], X.shape[-1])
    return Batch(X, np.zeros((1, X.shape[-1])), None, valid)


def _read_hdf5(path: Path, mapped: bool | None) -> Table | StoredTable:
    arrays: dict[str, AnyArray] = {}
    with open_hdf5(path) as file:
        if is_stored_table(file):
            stored = open_stored_table(path)
            return stored if stays_in_file(stored.nbytes, mapped) else stored.in_memory()
        if holds(file, _ARRAYS[0]):
            raise BadInput(
                f"{path} holds arrays of examples, expected named columns: leave out the target, "
                "which such a file has already."
            )
        if mapped:
            raise not_in_its_file(path)
        for name in stored_bytes(file):
            if h5py.check_string_dtype(file[name].dtype):
                arrays[name] = np.array(read_names(file, name), object)
            else:
                kind = np.bool_ if file[name].dtype == np.bool_ else np.number
                arrays[name] = read_array(file, name, dtype=kind, shape=None)
    return table_of_arrays(path, arrays)


def _read_parquet(path: Path, file: BufferedReader) -> Table:
    with opened_parquet(path, file) as opened:
        # A few bytes can claim any number of equal rows.
        needed = opened.metadata.num_rows * opened.metadata.num_columns * 8
        if (free := free_memory()) is not None and needed > free:
            raise BadInput(
                f"{path} claims {opened.metadata.num_rows} rows, which take {readable(needed)}, "
                f"but {readable(free)} are free: give fewer rows, or import it with pydnn data "
                "import."
            )
        frame = opened.read()
    return Table.of(frame)


@contextlib.contextmanager
def opened_parquet(path: Path, file: BufferedReader) -> Iterator[Any]:
    """The ParquetFile of pyarrow's for an open file; its errors become one line.

    Raises:
        BadInput: If it is damaged.
        MissingExtra: If pyarrow is not installed.
    """
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=f"the Parquet file {path}")
    try:
        yield parquet.ParquetFile(file)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # pyarrow has errors of its own, for whose names it must be there
        raise BadInput(
            f"{path} is not a readable Parquet file ({first_line(error)}): write it again."
        ) from error
