import warnings
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pydnn import BadInput, Recipe, train
from pydnn.checks import MissingExtra
from pydnn.data import Table, load_data_set, read_table, save_table, table_data
from pydnn.data import table_files as module
from pydnn.data.csv_files import read_csv
from pydnn.data.stored_tables import StoredTable, StoredTableBatch
from pydnn.data.tables import TableBatch
from pydnn.runs.provenance import pins_of

NAN = float("nan")
ROWS = {
    "size": [1.5, None, 3.0, 4.0],
    "rooms": [1, 2, 3, 4],
    "new": [True, False, None, True],
    "city": ["Rome", None, "Oslo", "größe"],
    "kind": ["flat", "house", "flat", "house"],
}
TABLE = Table.of(ROWS)
CSV = """size,rooms,new,city,kind
1.5,1,true,Rome,flat
,2,false,,house
3,3,,Oslo,flat
4,4,true,größe,house
"""


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_the_same_table_from_any_file_is_the_same_data(tmp_path, csv_file):
    assert read_table(csv_file) == TABLE
    assert read_table(csv_file).fingerprint == TABLE.fingerprint
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "houses.parquet"
    parquet.write_table(pyarrow.table(ROWS), path)
    assert read_table(path) == TABLE
    assert read_table(path).fingerprint == TABLE.fingerprint


def test_missing_texts_of_a_dictionary_in_parquet_are_missing(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"city": ["Rome", None, "Oslo", "Rome"], "rooms": [3, None, 1, 3]}
    columns = {name: pyarrow.array(values).dictionary_encode() for name, values in rows.items()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == Table.of(rows)
    assert Table.of(pyarrow.table(columns)) == Table.of(rows)
    assert Table.of(pyarrow.record_batch(columns)) == Table.of(rows)


def test_arrays_are_tables_of_numbered_columns(tmp_path):
    X, y = np.arange(6.0).reshape(3, 2), np.array([1, 0, 1])
    np.savez(tmp_path / "a.npz", X=X, y=y, name=np.array(["a", "b", "c"]))
    np.savez_compressed(tmp_path / "b.npz", X=X, y=np.stack([y, y], axis=1))
    np.save(tmp_path / "X.npy", np.asfortranarray(X))
    np.save(tmp_path / "r.npy", np.array([(1.5, True)], [("a", float), ("b", bool)]))
    table = read_table(tmp_path / "a.npz")
    assert table == Table.of(
        {"column 1": X[:, 0], "column 2": X[:, 1], "y": y, "name": ["a", "b", "c"]}
    )
    assert read_table(tmp_path / "b.npz").names == ("column 1", "column 2", "y 1", "y 2")
    assert read_table(tmp_path / "X.npy") == Table.of(X)
    assert read_table(tmp_path / "r.npy") == Table.of({"a": [1.5], "b": [True]})


def test_arrays_of_any_dtype_are_read_as_numpy_reads_them(tmp_path):
    rows = np.array([[1, 0], [2, 3], [0, 1]])
    arrays = [rows.astype(dtype) for dtype in ("<f4", ">f8", "u1", ">i4", "?", "f2")]
    for array in [*arrays, np.asfortranarray(rows)]:
        np.save(tmp_path / "t.npy", array)
        assert read_table(tmp_path / "t.npy") == Table.of(array)
    records = np.array([(1, "a", True), (2, "é", False)], [("x", ">i2"), ("é", "U3"), ("b", "?")])
    for names in (("x", "é", "b"), ("x", "市", "b")):  # as Latin-1, and as UTF-8
        records.dtype.names = names
        with warnings.catch_warnings(action="ignore"):  # NumPy's, of a name that is not Latin-1
            np.save(tmp_path / "t.npy", records)
        assert read_table(tmp_path / "t.npy") == Table.of(records)
    dates = np.array(["2020-01-31", "NaT"], "M8[D]")
    np.savez(tmp_path / "t.npz", when=dates, city=np.array([b"Rome", b"Oslo"]))
    assert read_table(tmp_path / "t.npz")["when"].tolist() == ["2020-01-31", None]
    assert read_table(tmp_path / "t.npz")["city"].tolist() == ["Rome", "Oslo"]


def test_an_hdf5_file_of_columns_is_a_table(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a"] = [1, 2]
        file["b"] = [True, False]
        file["c"] = ["x", "y"]
        file["d"] = np.array([b"x", b"y"])
    table = read_table(tmp_path / "t.h5")
    assert table == Table.of({"a": [1, 2], "b": [True, False], "c": ["x", "y"], "d": ["x", "y"]})


def test_names_do_not_say_what_a_file_is(tmp_path):
    with (tmp_path / "t.csv").open("wb") as file:
        np.save(file, np.ones((2, 2)))
    assert read_table(tmp_path / "t.csv").rows == 2


def forged_npy(shape, descr="'<f8'"):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "t.npy"
    for content in (
        forged_npy("(10**3, 10**9)"),
        forged_npy("(1000000000000,)"),
        forged_npy("(0, 1000000000000)"),
        forged_npy("(1000000000000,)", "'<U0'"),
        forged_npy("(2,)") + bytes(8),
        forged_npy("(1,)", "[('a', '<f8', (1000000,))]") + bytes(8),
        forged_npy("(1,)", "[" * 20) + bytes(8),
        b"\x93NUMPY\x07",
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"t\.npy is not a readable array"):
            read_table(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"it holds Python objects, which are not read"):
        read_table(path)
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as file:
        file.writestr("sheet.xml", "<a/>")
    with pytest.raises(BadInput, match=r"is a ZIP archive without arrays.*spreadsheet as CSV"):
        read_table(tmp_path / "t.xlsx")
    np.savez(tmp_path / "u.npz", a=np.ones(2), b=np.ones(3))
    with pytest.raises(BadInput, match=r"u\.npz: column 'b' has 3 values, but 'a' has 2"):
        read_table(tmp_path / "u.npz")
    np.savez(tmp_path / "s.npz", X=np.ones((4, 5, 3)), y=np.ones(4))  # sequences, but as a table
    with pytest.raises(BadInput, match=r"'X' has shape \(4, 5, 3\), expected one .*name .*train_X"):
        read_table(tmp_path / "s.npz")


def test_damaged_parquet_is_refused(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(BadInput, match=r"t\.parquet is not a readable Parquet file"):
        read_table(path)
    parquet.write_table(pyarrow.table({"a": [[1], [2]]}), path)
    with pytest.raises(BadInput, match=r"column 'a' holds a (list|ndarray), expected numbers"):
        read_table(path)
    parquet.write_table(pyarrow.table({"a": [1.0] * 100}), path)
    monkeypatch.setattr(module, "free_memory", lambda: 100)
    with pytest.raises(BadInput, match=r"claims 100 rows, which take .* but .* are free"):
        read_table(path)


def test_parquet_needs_an_extra(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"t\.parquet needs pyarrow"):
        read_table(path)


# Data sets of tables


def test_a_table_with_a_target_is_a_data_set(csv_file):
    data = load_data_set(csv_file, target="kind")
    assert data.train == TABLE.examples("kind")
    assert data.test.X.shape == (4, 0)
    data = load_data_set(csv_file, target=["rooms"], ignore=["kind", "city"])
    assert data.train.table.names == ("size", "new")
    weighed = load_data_set(csv_file, target="kind", weights="rooms").train
    assert weighed.weights.tolist() == [[1, 2, 3, 4]]


def test_a_share_of_each_class_is_drawn_for_testing(csv_file):
    data = load_data_set(csv_file, target="kind", test=0.5)
    for part in (data.train, data.test):
        assert sorted(part.target["kind"]) == ["flat", "house"]
    again = load_data_set(csv_file, target="kind", test=0.5)
    assert again == data
    numbers = Table.of({"x": np.arange(100.0), "y": np.repeat([3.0, 4.0], [90, 10])})
    assert (table_data(numbers, "y", test=0.2).test.Y == 4).sum() == 2


def test_the_test_part_may_be_a_file_of_its_own_in_any_order(tmp_path, csv_file):
    path = tmp_path / "test.csv"
    path.write_text("kind,city,new,rooms,size\nflat,12,true,3,2.5\n")
    data = load_data_set(csv_file, target="kind", test=path)
    assert data.test.table.names == ("size", "rooms", "new", "city")
    assert data.test.table["city"].tolist() == ["12"]
    assert table_data(TABLE, "kind", test=TABLE.take([0])).test.X.shape == (4, 1)


def test_rows_and_targets_may_lie_in_two_npy_files(tmp_path, monkeypatch):
    np.save(tmp_path / "X.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "y.npy", [1, 0, 1])
    data = load_data_set(tmp_path / "X.npy", target="y.npy")
    assert data.train.target["y.npy"].tolist() == [1, 0, 1]
    np.save(tmp_path / "z.npy", [1, 0])
    with pytest.raises(BadInput, match=r"z\.npy has 2 rows and 1 columns, expected one target for"):
        load_data_set(tmp_path / "X.npy", target="z.npy")


@pytest.mark.parametrize("dtype", ["float64", "float32", ">i2", "uint8", "int64"])
@pytest.mark.parametrize("shape", [(9,), (9, 3)])
def test_rows_of_npy_files_stay_there_with_the_values_of_memory(tmp_path, dtype, shape):
    X = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    if X.dtype.kind == "f":
        X[4], X[6], X[7] = np.nan, -0.0, np.inf
    np.save(tmp_path / "X.npy", X)
    stored, table = (read_table(tmp_path / "X.npy", mapped=m) for m in (True, False))
    assert isinstance(stored, StoredTable)
    assert stored.in_memory() == table
    assert [stored.facts(i) for i in range(len(table.columns))] == [
        table.facts(i) for i in range(len(table.columns))
    ]


def test_rows_and_targets_stay_in_two_npy_files(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(30, 4)).astype("f4"), rng.integers(0, 2, 30)
    X[3, 1] = np.nan
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    options = {"target": "y.npy", "test": 0.2, "weights": "column 1", "ignore": ["column 3"]}
    X[:, 0] = abs(X[:, 0])
    np.save(tmp_path / "X.npy", X)
    in_memory = load_data_set(tmp_path / "X.npy", mapped=False, **options)
    for mapped in (True, None):
        data = load_data_set(tmp_path / "X.npy", mapped=mapped, **options)
        assert isinstance(data.train, StoredTableBatch)
        assert data.train.in_memory() == in_memory.train
        assert data.test.in_memory() == in_memory.test
        monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: 100)
    np.save(tmp_path / "y.npy", y > 0)  # truth values cannot be mapped
    assert isinstance(load_data_set(tmp_path / "X.npy", target="y.npy").train, TableBatch)
    with pytest.raises(BadInput, match=r"y\.npy holds bool, expected integers or floats"):
        load_data_set(tmp_path / "X.npy", target="y.npy", mapped=True)
    np.save(tmp_path / "y.npy", y)
    recipe = Recipe("X.npy", "dense(2)", "softmax_cross_entropy()", "adam()", 3, target="y.npy")
    results = []
    for mapped in (True, False):
        data = load_data_set(tmp_path / "X.npy", mapped=mapped, target="y.npy")
        trained = train(recipe, data)
        results.append((trained.costs.tobytes(), pins_of(recipe, data, [])))
    assert results[0] == results[1]


def test_the_names_of_a_recipe_say_that_a_line_of_numbers_is_a_header(tmp_path):
    path = tmp_path / "years.csv"
    path.write_text("2019,2020,2021\n1,2,3\n4,5,9\n7,8,9\n")
    data = load_data_set(path, target="2021", ignore=["2019"], test=path)
    assert (data.train.count, data.test.count, data.notes) == (3, 3, ())
    assert data.test.table.names == ("2020",)
    data = load_data_set(path, target="column 3")
    assert data.train.count == 4
    assert len(data.notes) == 1
    assert "years.csv holds numbers and is a row, so the columns are called" in data.notes[0]
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
    assert load_data_set(tmp_path / "rows.npy", target="column 2").notes == ()


def test_ignored_columns_may_hold_numbers_with_commas(tmp_path):
    path, test = tmp_path / "t.csv", tmp_path / "test.csv"
    path.write_text('a,y,sold\n1,2,"1,234"\n3,4,"2,345"\n')
    test.write_text('sold,a,y\n"5,678",3,4\n')
    data = load_data_set(path, target="y", ignore=["sold"], test=test)
    assert data.train.table.names == data.test.table.names == ("a",)
    with pytest.raises(BadInput, match=r"'sold' of .* holds numbers with separated thousands"):
        load_data_set(path, target="y")


REFUSED = {
    "absent target": ({"target": "kinds"}, r"no column 'kinds': did you mean 'kind'\?"),
    "no target": ({}, r"is a table with the columns size, rooms, new, city, kind, expected one"),
    "absent column": ({"target": "kind", "ignore": ["towns"]}, r"no column 'towns'"),
    "share": ({"target": "kind", "test": 1.5}, r"share is 1\.5"),
    "absent test file": (
        {"target": "kind", "test": "no.csv"},
        r"test part: no\.csv does not exist",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_options_that_do_not_fit_a_table_are_refused(csv_file, options, message):
    with pytest.raises(BadInput, match=message):
        load_data_set(csv_file, **options)


def test_a_class_of_one_example_is_refused_where_each_class_is_drawn_from():
    table = Table.of({"x": [1, 2, 3], "y": ["a", "a", "b"]})
    with pytest.raises(
        BadInput, match=r"class 'b' of 'y' has 1 example, expected two .* test part"
    ):
        table_data(table, "y", test=0.3)


def test_a_target_is_refused_for_data_that_is_not_a_table(tmp_path):
    with pytest.raises(BadInput, match=r"target is .*, but digits is not a table"):
        load_data_set("digits", target="y")
    data = table_data(Table.of({"x": [1.0, 2.0], "y": [0.0, 1.0]}), "y")
    save_table(tmp_path / "arrays.h5", data)
    with pytest.raises(BadInput, match=r"holds arrays of examples, expected named columns"):
        load_data_set(tmp_path / "arrays.h5", target="y")
    assert load_data_set(tmp_path / "arrays.h5").train.X.shape == (1, 2)


def test_an_hdf5_table_needs_a_target(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a"], file["b"] = [1.0, 2.0], [3.0, 4.0]
    with pytest.raises(BadInput, match=r"is a table with the columns a, b, expected one of them"):
        load_data_set(tmp_path / "t.h5")
    assert load_data_set(tmp_path / "t.h5", target="b").train.Y.tolist() == [[3.0, 4.0]]


WORDS = st.text('ab ü,;"\n', min_size=1, max_size=4).filter(lambda text: text.strip() == text != "")


@st.composite
def tables(draw):
    m = draw(st.integers(1, 6))
    kinds = {
        "number": st.none() | st.floats(allow_nan=False),
        "whole": st.integers(-(2**63), 2**63 - 1),
        "truth": st.booleans(),
        "text": st.none() | WORDS,
    }
    kept = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, unique=True))
    return {kind: draw(st.lists(kinds[kind], min_size=m, max_size=m)) for kind in kept}


@pytest.mark.slow
@given(columns=tables())
def test_files_that_pandas_writes_are_the_table_that_it_holds(tmp_path_factory, columns):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("t")
    frame = pandas.DataFrame(columns)
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_parquet(folder / "t.parquet")
    held = Table.of(frame)
    from_csv = read_csv(folder / "t.csv", header=True, delimiter=",")
    from_parquet = read_table(folder / "t.parquet")
    again = Table.of(pandas.read_parquet(folder / "t.parquet"))
    assert held == from_parquet == again
    assert held.fingerprint == from_parquet.fingerprint
    there = [name for name in held.names if not np.isnan(held.values[held.names.index(name)]).all()]
    if len(columns) > 1:  # or a row without its only value is a blank line
        assert from_csv.select(there).fingerprint == held.select(there).fingerprint


@given(
    X=arrays(np.float64, (3, 2), elements=st.floats(allow_nan=True)),
    packed=st.booleans(),
)
def test_arrays_keep_their_bits_in_npz_and_npy_files(tmp_path_factory, X, packed):
    folder = tmp_path_factory.mktemp("t")
    (np.savez_compressed if packed else np.savez)(folder / "t.npz", X=X, y=X[:, 0])
    np.save(folder / "t.npy", X)
    assert read_table(folder / "t.npy").values.T.tobytes("C") == X.tobytes()
    assert read_table(folder / "t.npz").values[:2].T.tobytes("C") == X.tobytes()
