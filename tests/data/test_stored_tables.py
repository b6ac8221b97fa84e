"""Checks that a table in the stored form has every value of the table that it was written from."""

import datetime
import itertools
import json
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn.checks import BadInput
from pydnn.data import Table, read_table, store_table
from pydnn.data import stored_tables as module
from pydnn.data.stored_tables import open_stored_table
from pydnn.storage.hdf5 import write_hdf5

NUMBERS = st.none() | st.sampled_from([0.0, -0.0, 1.0, 255.0, 256.0, -1.0, 0.5, 0.1, 2.0**24 + 1])
COLUMNS = st.one_of(
    st.lists(NUMBERS, min_size=7, max_size=7),
    st.lists(st.none() | st.booleans(), min_size=7, max_size=7),
    st.lists(st.none() | st.text(max_size=3), min_size=7, max_size=7),
)


@pytest.mark.slow
@given(columns=st.lists(COLUMNS, min_size=1, max_size=4), cuts=st.sets(st.integers(1, 6)))
def test_the_stored_table_is_the_table_however_it_is_cut(tmp_path_factory, columns, cuts):
    table = Table.of({f"c{i}": values for i, values in enumerate(columns)})
    ends = [0, *sorted(cuts), 7]
    blocks = [
        Table.of({f"c{i}": values[a:b] for i, values in enumerate(columns)})
        for a, b in itertools.pairwise(ends)
    ]
    folder = tmp_path_factory.mktemp("stored")
    store_table(folder / "cut.h5", blocks)
    store_table(folder / "whole.h5", [table])
    stored = read_table(folder / "cut.h5")
    assert stored == table
    assert stored.fingerprint == table.fingerprint  # which zeros of both signs have their own of
    assert (folder / "cut.h5").read_bytes() == (folder / "whole.h5").read_bytes()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "uint8"),
        ([-1, 127], "int8"),
        ([0, 256], "uint16"),
        ([-1, 2**15 - 1], "int16"),
        ([0, 2**16], "uint32"),
        ([-1, 2**16], "int32"),
        ([0, 2**33], "float32"),
        ([0, 2**33 + 1], "float64"),
        ([0.5, 1], "float32"),
        ([0.1, 1], "float64"),
        ([None, 2**24 + 1], "float64"),
        ([np.inf, -0.0], "float32"),
        (["a", None], "float32"),
        ([True, False], "uint8"),
        (list(map(str, range(257))), "uint16"),
    ],
)
def test_numbers_are_stored_in_the_smallest_dtype(tmp_path, values, dtype):
    table = Table.of({"x": values})
    store_table(tmp_path / "a.h5", [table])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["values"].dtype == dtype
    assert read_table(tmp_path / "a.h5").fingerprint == table.fingerprint


def test_a_column_takes_the_kind_of_its_first_value(tmp_path):
    store_table(tmp_path / "a.h5", [Table.of({"x": [None]}), Table.of({"x": ["b", "a"]})])
    assert read_table(tmp_path / "a.h5") == Table.of({"x": [None, "b", "a"]})


def test_progress_counts_the_rows_of_the_final_file(tmp_path):
    counts = []
    blocks = [Table.of({"x": [1, 2]}), Table.of({"x": [3]})]
    store_table(tmp_path / "a.h5", blocks, on_rows=lambda *rows: counts.append(rows))
    assert counts == [(2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "the table for .* has no rows"),
        ([{"x": [1]}, {"y": [1]}], "rows from 2 on have the columns y, expected x"),
        ([{"x": [1]}, {"x": ["a"]}], "'x' holds texts from row 2 on, expected numbers as before"),
    ],
)
def test_blocks_that_are_not_one_table_leave_no_file(tmp_path, blocks, message):
    with pytest.raises(BadInput, match=message):
        store_table(tmp_path / "a.h5", map(Table.of, blocks))
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_refused_before_any_block_is_read(tmp_path):
    store_table(tmp_path / "a.h5", [Table.of({"x": [1]})])
    with pytest.raises(BadInput, match=r"a\.h5 exists already"):
        store_table(tmp_path / "a.h5", (pytest.fail("read") for _ in range(1)))
    store_table(tmp_path / "a.h5", [Table.of({"x": [2]})], replace=True)
    assert read_table(tmp_path / "a.h5")["x"] == 2


def test_too_many_texts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pydnn.data.stored_tables._MOST_TEXT", 10)
    with pytest.raises(BadInput, match="column 'id' has at least 2 different texts"):
        store_table(tmp_path / "a.h5", [Table.of({"id": ["sixsix", "seven!!"]})])


GOOD = [["x", "number"], ["c", "text", "a", "b"], ["t", "boolean"]]


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        ("[", [[1, 1, 1]], "the names of columns in .* are damaged"),
        ("[" * 100_000, [[1, 1, 1]], "are damaged"),
        ("{}", [[1, 1, 1]], "are damaged"),
        ("[]", np.zeros((1, 0)), "are damaged"),
        ([["x"]], [[1]], "are damaged"),
        ([["x", "number", "a"]], [[1]], "are damaged"),
        ([["x", "color"]], [[1]], "are damaged"),
        ([["x", "number"], ["x", "number"]], [[1, 1]], "are damaged"),
        ([["c", "text", "b", "a"]], [[1]], "are damaged"),
        ([["c", "text", 1]], [[1]], "are damaged"),
        (GOOD, [[1, 1]], r"values in .* has shape \(1, 2\)"),
        (GOOD, [1, 1, 1], r"values in .* has shape \(3,\)"),
        (GOOD, [[1, 2, 1]], "'c' in .* holds 2, expected a whole number from 0 to 1"),
        (GOOD, [[1, 0, 0], [1, 0.5, 1]], "'c' in .* holds 0.5"),
        (GOOD, [[1, -1, 1]], "'c' in .* holds -1"),
        (GOOD, [[1, np.inf, 1]], "'c' in .* holds inf"),
        (GOOD, [[1, 1, 2]], "'t' in .* holds 2, expected a whole number from 0 to 1"),
        (GOOD, [[b"a", b"b", b"c"]], "values in .* holds .*, expected numbers"),
    ],
)
def test_what_store_table_cannot_have_written_is_refused(tmp_path, columns, values, message):
    text = columns if isinstance(columns, str) else json.dumps(columns)
    write_hdf5(
        tmp_path / "a.h5",
        arrays={"values": values, "facts": np.zeros((len(columns), 4))},
        attributes={"format": "pydnn table 1", "columns": text},
    )
    with pytest.raises(BadInput, match=message):
        read_table(tmp_path / "a.h5")


def _newer(file):
    file.attrs["format"] = np.bytes_(b"pydnn table 9")


def _in_chunks(file):
    del file["values"]
    file.create_dataset("values", data=np.zeros((1, 1)), chunks=(1, 1))


def _without_values(file):
    del file["values"]


def _without_columns(file):
    del file.attrs["columns"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_newer, "has format 'pydnn table 9', expected 'pydnn table 1'"),
        (_in_chunks, "values in .* is stored in chunks"),
        (_without_values, "values"),
        (_without_columns, "columns"),
    ],
)
def test_another_format_or_layout_is_refused(tmp_path, damage, message):
    store_table(tmp_path / "a.h5", [Table.of({"x": [1]})])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        damage(file)
    with pytest.raises(BadInput, match=message):
        read_table(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "facts",
    [
        np.zeros((2, 4)),
        np.zeros((1, 3)),
        np.zeros((1, 4), np.int64),
        [[2, 0, 0, 0]],
        [[0.5, 0, 0, 0]],
        [[0, -1, 0, 0]],
        [[np.nan, 0, 0, 0]],
        [[0, 0, 1, 0]],
        [[0, 0, np.nan, 0]],
        [[0, 0, np.inf, 1e300]],
    ],
)
def test_facts_that_cannot_be_are_refused(tmp_path, facts):
    write_hdf5(
        tmp_path / "a.h5",
        arrays={"values": [[1.0]], "facts": facts},
        attributes={"format": "pydnn table 1", "columns": json.dumps([["x", "number"]])},
    )
    with pytest.raises(BadInput, match=r"facts .*a\.h5"):
        read_table(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "columns",
    [
        {"x": [1, 2], "y": [1, None]},
        {"x": [1, 2], "y": ["a", None]},
        {"x": [1, np.inf], "y": [1, 2]},
        {"x": [1, 2], "y": [1, -np.inf]},
        {"x": [1, 2], "y": [1, 2], "w": [1, None]},
    ],
)
def test_facts_that_are_wrong_are_found_when_the_rows_are_read(tmp_path, columns):
    store_table(tmp_path / "a.h5", [Table.of(columns)])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["facts"][:] = 0
    weights = "w" if "w" in columns else ""
    examples = open_stored_table(tmp_path / "a.h5").examples("y", weights=weights)
    with pytest.raises(BadInput, match=r"a\.h5 has infinite or missing values"):
        examples.take(slice(2))


MIXED = {
    "size": [1.5, None, 3.0, 2.0, -0.0],
    "new": [True, False, None, True, True],
    "city": ["Rome", None, "Oslo", "Rome", "Bern"],
    "day": ["a", "b", "c", "d", "e"],
    "weight": [1, 2, 3, 4, 5],
    "price": [10, 20, 30, 40, 50],
    "kind": ["x", "y", "x", "y", "y"],
}


@pytest.fixture
def mixed(tmp_path):
    """A table in memory, and the same one in a file."""
    table = Table.of(MIXED)
    store_table(tmp_path / "mixed.h5", [table])
    return table, open_stored_table(tmp_path / "mixed.h5")


def test_columns_come_from_the_file_as_they_are_in_memory(mixed):
    table, stored = mixed
    for name in table.names:
        assert stored.texts(name) == table.texts(name)
        np.testing.assert_array_equal(stored[name], table[name])
    some = stored.select(["kind", "size"])
    assert some.in_memory() == table.select(["kind", "size"])
    assert some.select(["size"]).facts(0) == table.select(["size"]).facts(0)
    assert some.examples("kind").in_memory() == table.select(["kind", "size"]).examples("kind")
    with pytest.raises(BadInput, match="column"):
        stored.select(["sise"])


def test_a_small_table_comes_into_memory_and_a_large_one_stays(mixed, monkeypatch):
    table, stored = mixed
    assert read_table(stored.path) == table
    assert read_table(stored.path, mapped=True).in_memory() == table
    free = 4 * stored.nbytes
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: free)
    assert read_table(stored.path) == table
    free -= 1
    assert read_table(stored.path).in_memory() == table
    assert read_table(stored.path, mapped=False) == table


def test_rows_come_from_the_file_as_they_are_in_memory(mixed, monkeypatch):
    table, stored = mixed
    assert (stored.names, stored.rows, len(stored)) == (table.names, 5, 5)
    assert stored.texts_alone == table.texts_alone
    assert repr(stored).replace("StoredTable", "Table") == repr(table)
    for rows in (slice(1, 3), slice(None), [4, 0, 0], np.array([3])):
        assert stored.take(rows).fingerprint == table.take(rows).fingerprint
    assert pickle.loads(pickle.dumps(stored)).in_memory() == table
    monkeypatch.setattr("pydnn.records._NUMBERS_IN_A_BLOCK", 14)
    blocks = list(stored.blocks())
    assert [block.rows for block in blocks] == [2, 2, 1]
    for start, block in zip((0, 2, 4), blocks, strict=True):
        assert block == table.take(slice(start, start + 2))


@pytest.mark.parametrize(
    "options",
    [
        {"target": "price"},
        {"target": ["kind"], "ignore": ["day"], "weights": "weight"},
        {"target": ["price", "weight"], "ignore": "size"},
    ],
)
def test_examples_come_from_the_file_as_they_are_in_memory(mixed, options):
    table, stored = mixed
    expected, examples = table.examples(**options), stored.examples(**options)
    assert (examples.count, examples.shape) == (expected.count, expected.shape)
    assert examples.label_shape == expected.label_shape
    assert examples.has_weights == expected.has_weights
    for which in (slice(1, 4), np.array([4, 0, 2])):
        assert examples.take(which) == expected.take(which)
    assert examples.only(np.array([3, 1])).take(slice(1)) == expected.take(np.array([3]))
    assert examples.in_memory() == expected
    assert examples.first(2).in_memory() == expected.first(2)
    assert examples.first(0).count == 0
    assert examples.is_of_classes == expected.is_of_classes
    [labels] = examples.then(lambda batch: batch).label_blocks()
    assert labels.tolist() == expected.Y.tolist()
    np.testing.assert_array_equal(examples.described["columns"], expected.described["columns"])
    turned = table.select(table.names[::-1])
    assert examples.like(turned.examples(**options)).in_memory() == expected.like(
        turned.examples(**options)
    )
    assert pickle.loads(pickle.dumps(examples)).in_memory() == expected


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"x": [1, 2, 3], "y": [1, None, None]}, {"target": "y"}),
        ({"x": [1, np.inf, -np.inf], "y": [1, 2, 3]}, {"target": "y"}),
        ({"x": [1, 2, 3], "y": [1, 2, -np.inf]}, {"target": "y"}),
        ({"x": [1, 2, 3], "y": [1, 2, 3], "w": [1, None, 2]}, {"target": "y", "weights": "w"}),
        ({"x": [1, 2, 3], "y": [1, 2, 3], "w": ["a", "b", "a"]}, {"target": "y", "weights": "w"}),
        ({"x": [1], "y": [1]}, {"target": "z"}),
        ({"x": [1], "y": [1]}, {"target": "y", "ignore": "x"}),
        ({"x": [1], "y": [1]}, {"target": "y", "ignore": "y"}),
        ({"x": [1], "y": [1]}, {"target": ["y", "y"]}),
        ({"x": [datetime.date(2026, 1, 2)], "y": [1]}, {"target": "y"}),
    ],
)
def test_examples_are_refused_with_the_same_message(tmp_path, columns, options):
    table = Table.of(columns)
    rows = [table.take([row]) for row in range(table.rows)]
    store_table(tmp_path / "a.h5", rows)
    stored = open_stored_table(tmp_path / "a.h5")
    messages = []
    for each in (table, stored):
        with pytest.raises(BadInput) as caught:
            each.examples(**options)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("kind", [[1, 2, 2, 2, 3], ["a", "b", "b", "a", "c"]])
def test_a_class_of_one_example_is_refused_with_the_same_message(tmp_path, kind):
    table = Table.of({"x": [1, 2, 3, 4, 5], "y": kind})
    store_table(tmp_path / "a.h5", [table])
    for each in (table, open_stored_table(tmp_path / "a.h5")):
        with pytest.raises(BadInput, match=r"class '[1c]' of 'y' has 1 example"):
            each.examples("y").expect_of_each_class(2, "one of them for the test part")


def test_another_file_is_not_opened_as_a_stored_table(tmp_path):
    write_hdf5(tmp_path / "a.h5", arrays={"x": [1.0]})
    with pytest.raises(BadInput, match=r"a\.h5 is not a table in the stored form"):
        open_stored_table(tmp_path / "a.h5")


def test_an_hdf5_file_with_another_format_still_has_columns(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["format"] = "mine"
        file["x"] = [1.0, 2.0]
    assert read_table(tmp_path / "a.h5").names == ("x",)


@pytest.mark.parametrize("most", [1, 100, 1 << 28])
def test_the_fingerprint_is_that_of_the_table_in_memory(tmp_path, monkeypatch, most):
    monkeypatch.setattr(module, "_MOST_HASHED", most)
    monkeypatch.setattr(module, "block_size", lambda shape: 2)
    table = Table.of(
        {"a": [1.5, None, -0.0, 4.0, 9.0], "b": ["x", "y", None, "x", "x"], "c": [1, 2, 3, 4, 5]}
    )
    store_table(tmp_path / "t.h5", [table])
    stored = open_stored_table(tmp_path / "t.h5")
    assert stored.fingerprint == table.fingerprint
    assert stored.select(["c", "a"]).fingerprint == table.select(["c", "a"]).fingerprint
