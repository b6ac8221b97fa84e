"""Tables from files of any kind: CSV and its relatives, Parquet, npz, npy and HDF5.

What a file is, its first bytes say, whatever its name is.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, overload

import h5py
import numpy as np

from pydnn.batches import examples_last
from pydnn.checks import AnyPath, BadInput, expect_flag, first_line, import_extra, path_of
from pydnn.data.csv_files import read_csv
from pydnn.data.frames import numbered, table_of
from pydnn.data.stored_tables import StoredTable, is_stored_table, open_stored_table
from pydnn.data.tables import Table
from pydnn.free_memory import free_memory, readable
from pydnn.records import AnyArray, AnyDType, FloatArray, readonly
from pydnn.storage.checksums import may_be_sealed
from pydnn.storage.files import open_regular, unchanged
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, stored_bytes
from pydnn.storage.mapped import stays_in_file
from pydnn.storage.npy import NPY_DAMAGE, NPY_MAGIC, Member, npy_array

__all__ = [
    "HDF5",
    "PARQUET",
    "ZIP",
    "dtype_of_values",
    "holds_examples",
    "is_hdf5",
    "is_named_hdf5",
    "opened_parquet",
    "read_examples",
    "read_npz",
    "read_table",
    "table_of_arrays",
]

# The first bytes of files of these kinds.
HDF5, PARQUET, ZIP = b"\x89HDF\r\n\x1a\n", b"PAR1", b"PK\3\4"
_ARRAYS = ("train_X", "train_Y", "test_X", "test_Y")  # what a file that `save_table` wrote holds
# Numbers, truth values, texts and dates, as numpy.save writes their dtypes.
_VALUES = re.compile(r"[<>|=]([fiubcmM][1-9]\d?|[US][1-9]\d{0,8})(\[\w{1,10}\])?")


@overload
def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    mapped: Literal[False],
) -> Table: ...


@overload
def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    mapped: bool | None = None,
) -> Table | StoredTable: ...


def read_table(
    path: AnyPath,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
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
        mapped: Whether a table that `store_table` wrote stays in its file, as a `StoredTable`; None
            if it would take more than a quarter of the free memory. Other tables come into memory.

    Raises:
        BadInput: If the file is missing, damaged, changes while it is read, or holds something
            else than a table, naming the line or the column.
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
            size = file.seek(0, 2)
            file.seek(0)
            return table_of_arrays(path, {"X": _read_npy(Member(file, size), str(path))})
        if head.startswith(PARQUET):
            return _read_parquet(path, file)
        if head.startswith(ZIP):
            return table_of_arrays(path, read_npz(path))
        if head.startswith(HDF5):
            return _read_hdf5(path, mapped)
        return read_csv(path, header=header, delimiter=delimiter, texts=texts)


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
            names = numbered(array.shape[1])
            if name not in ("X", "x"):
                names = [f"{name} {number}" for number in range(1, array.shape[1] + 1)]
            columns |= dict(zip(names, array.T, strict=True))
        else:
            columns[name] = array
    try:
        return table_of(columns)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _read_npy(member: Member, where: str) -> AnyArray:
    """The array of an npy file, which holds values of columns or records of them."""
    try:
        array = npy_array(member, dtype_of_values)
        if not array.size:  # of which there may be any number
            raise ValueError("it has no values")
        return array
    except NPY_DAMAGE as error:
        raise BadInput(
            f"{where} is not a readable array ({first_line(error)}): save it again with numpy.save."
        ) from error


def dtype_of_values(descr: object) -> AnyDType | None:
    """The dtype of values or records of them, from what an npy file's header says it is."""
    match descr:
        case str() if "O" in descr:
            raise ValueError("it holds Python objects, which are not read")
        case str() if _VALUES.fullmatch(descr):
            return np.dtype(descr)
        case [*fields] if fields and all(map(_is_field, fields)):
            return np.dtype(fields)
    return None


def _is_field(field: object) -> bool:
    match field:
        case (str(name), str(descr)):
            return bool(name) and dtype_of_values(descr) is not None
    return False


def holds_examples(path: Path) -> bool:
    """Whether a file is an npz file of arrays of examples, such as train_X, and not of columns.

    Raises:
        BadInput: If it cannot be read.
    """
    from pydnn.interop.npz import opened_zip

    with open_regular(path, what="a table's file") as file:
        if not file.read(4).startswith(ZIP):
            return False
    with opened_zip(path, what="an npz file") as archive:
        return any(f"{name}.npy" in archive.namelist() for name in _ARRAYS)


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


def read_examples(path: Path) -> tuple[FloatArray, AnyArray | None]:
    """Examples without labels, X (..., m), and the lengths (m,) of sequences, or None.

    The file has the examples along the first axis, in an npy file of X alone, or an npz file of X
    and perhaps lengths.

    Raises:
        BadInput: If it is another kind of file, is damaged, or holds something else.
    """
    with open_regular(path, what="a file of examples") as file:
        head = file.read(8)
        if head.startswith(NPY_MAGIC):
            size = file.seek(0, 2)
            file.seek(0)
            arrays = {"X": _read_npy(Member(file, size), str(path))}
        else:
            arrays = read_npz(path) if head.startswith(ZIP) else {}
    if "X" not in arrays or not set(arrays) <= {"X", "lengths"} or not arrays["X"].ndim:
        raise BadInput(
            f"{path} has {', '.join(arrays) or 'no arrays'}, expected X with the examples along "
            "its first axis, and perhaps lengths: save them by numpy.save or numpy.savez."
        )
    return examples_last(readonly(arrays["X"])), arrays.get("lengths")


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
    return table_of(frame)


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
