import copy
import datetime
import pickle
from decimal import Decimal

import numpy as np
import pytest
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput
from pydnn.data import Column, Table, TableBatch, read_table
from pydnn.storage.hdf5 import write_hdf5

NAN = float("nan")
MIXED = {
    "size": [1.5, None, 3.0],
    "new": [True, False, None],
    "city": ["Rome", None, "Oslo"],
    "price": [10, 20, 30],
}


def test_a_table_holds_numbers_truth_values_and_texts():
    table = Table.of(MIXED)
    assert table.names == ("size", "new", "city", "price")
    assert [column.kind for column in table.columns] == ["number", "boolean", "text", "number"]
    assert table.columns[2].levels == ("Oslo", "Rome")
    np.testing.assert_array_equal(
        table.values, [[1.5, NAN, 3.0], [1, 0, NAN], [1, NAN, 0], [10, 20, 30]]
    )
    np.testing.assert_array_equal(table["size"], [1.5, NAN, 3.0])
    assert table["new"].tolist() == [True, False, None]
    assert table["city"].tolist() == ["Rome", None, "Oslo"]
    assert table.texts("price") == ["10", "20", "30"]
    assert len(table) == table.rows == 3
    assert "3 rows; size (numbers), new (truth values), city (texts)" in repr(table)
    assert "<td" in table._repr_html_()


def test_parts_of_a_table_are_tables():
    table = Table.of(MIXED)
    assert table.select(["price", "size"]).names == ("price", "size")
    assert table.take([2, 0])["city"].tolist() == ["Oslo", "Rome"]
    assert table.take(slice(0, 1)).rows == 1


@pytest.mark.parametrize("way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_tables_can_be_copied_and_stay_read_only(way):
    table = Table.of(MIXED)
    batch = table.examples("price")
    assert way(table) == table
    assert way(batch) == batch
    assert not way(table).values.flags.writeable
    assert table != Table.of(MIXED | {"price": [10, 20, 31]})
    assert batch != table.examples("price", ignore="size")


COLUMNS = st.one_of(
    st.lists(st.none() | st.floats(allow_nan=False), min_size=3, max_size=3),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3),
    st.lists(st.none() | texts(max_size=3), min_size=3, max_size=3),
)


@given(st.dictionaries(texts(max_size=3), COLUMNS, min_size=1, max_size=4))
def test_every_value_comes_out_as_it_went_in(columns):
    table = Table.of(columns)
    again = Table.of(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    )
    assert again == table
    assert again.fingerprint == table.fingerprint
    for name, values in columns.items():
        kept = [None if value != value else value for value in table[name].tolist()]
        assert kept == [None if value == "" else value for value in values]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "numpy", "npz", "h5", "csv"])
def test_an_empty_text_is_a_missing_value_in_each_form_of_a_table(tmp_path, library):
    columns = {"t": ["a", "", "b"], "e": ["", "", ""], "n": [1.0, 2.0, 3.0]}
    expected = Table.of({"t": ["a", None, "b"], "e": [None, None, None], "n": [1.0, 2.0, 3.0]})
    arrays = {name: np.array(values) for name, values in columns.items()}
    if library in ("pandas", "polars"):
        data = pytest.importorskip(library).DataFrame(columns)
    elif library == "pyarrow":
        data = pytest.importorskip("pyarrow").table(columns)
    elif library == "numpy":
        data = arrays
    else:
        data = tmp_path / f"t.{library}"
        if library == "npz":
            np.savez(data, **arrays)
        elif library == "h5":
            encoded = {name: arrays[name].astype("S1") for name in ("t", "e")}
            write_hdf5(data, arrays=arrays | encoded)
        else:
            data.write_text('t,e,n\na,"",1\n"",,2\nb,"",3\n')
        data = read_table(data)
    table = Table.of(data).select(["t", "e", "n"])
    assert table == expected
    assert table.columns[1] == Column("e")


def test_one_changed_value_or_name_changes_the_fingerprint():
    table = Table.of(MIXED)
    others = [
        MIXED | {"size": [1.5, None, 3.0000000000000004]},
        MIXED | {"city": ["Roma", None, "Oslo"]},
        MIXED | {"new": [1.0, 0.0, None]},
        {("Size" if name == "size" else name): values for name, values in MIXED.items()},
    ]
    assert len({Table.of(other).fingerprint for other in [MIXED, *others]}) == 5
    assert Table.of(dict(MIXED)).fingerprint == table.fingerprint


def test_arrays_of_rows_get_numbered_columns():
    table = Table.of(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert table.names == ("column 1", "column 2")
    assert table["column 2"].tolist() == [2.0, 4.0]
    pair = Table.of((np.array([[1.0, 2.0], [3.0, 4.0]]), ["a", "b"]))
    assert pair.names == ("column 1", "column 2", "y")
    assert pair["y"].tolist() == ["a", "b"]
    records = np.array([(1, "a"), (2, "b")], [("n", int), ("t", "U1")])
    assert Table.of(records)["t"].tolist() == ["a", "b"]


def test_decimals_dates_and_bytes_are_what_they_are():
    day = datetime.date(2024, 1, 2)
    table = Table.of(
        {
            "price": [Decimal("1.5"), None],
            "day": [day, None],
            "when": np.array(["2024-01-02", "NaT"], "datetime64[D]"),
            "code": np.array([b"a", b"b"]),
            "count": np.array([2**53 + 1, 1], np.uint64),
        }
    )
    kinds = [column.kind for column in table.columns]
    assert kinds == ["number", "date", "date", "text", "number"]
    assert table["when"].tolist() == ["2024-01-02", None]
    assert table["count"].tolist() == [2.0**53, 1.0]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_of_every_library_are_the_same_table(library):
    module = pytest.importorskip(library)
    frame = (module.DataFrame if library != "pyarrow" else module.table)(MIXED)
    assert Table.of(frame) == Table.of(MIXED)
    assert Table.of(frame).fingerprint == Table.of(MIXED).fingerprint


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=20), st.sampled_from("smun"))
def test_times_are_the_texts_of_each(numbers, unit):
    unit = {"s": "s", "m": "ms", "u": "us", "n": "ns"}[unit]
    array = np.array([np.datetime64("NaT") if n is None else n for n in numbers], f"M8[{unit}]")
    table = Table.of({"t": array})
    assert table["t"].tolist() == [None if np.isnat(t) else str(t) for t in array]
    assert table.columns[0].kind == "date"
    assert list(table.columns[0].levels) == sorted({str(t) for t in array if not np.isnat(t)})


@pytest.mark.parametrize("kind", ["null", "string", "bool_", "int64", "float32"])
def test_columns_of_pyarrow_without_values_are_missing_numbers(kind):
    pa = pytest.importorskip("pyarrow")
    table = Table.of(pa.table({"a": pa.nulls(3, getattr(pa, kind)()), "b": [1, 2, 3]}))
    assert table.columns == (Column("a"), Column("b"))
    assert np.isnan(table["a"]).all()


@pytest.mark.parametrize(
    "values", [["x", None, "y"], [1, None, 2], [True, None, False], [1.5, None, 2.5]]
)
def test_a_dictionary_of_pyarrow_is_the_column_that_it_encodes(values):
    pa = pytest.importorskip("pyarrow")
    plain = pa.array(values)
    different = pa.array([value for value in values if value is not None])
    places = pa.array([None if v is None else different.to_pylist().index(v) for v in values])
    encoded = pa.DictionaryArray.from_arrays(places, different)
    assert Table.of(pa.table({"a": encoded})) == Table.of(pa.table({"a": plain}))


def test_columns_of_pyarrow_of_every_type_are_read():
    pyarrow = pytest.importorskip("pyarrow")
    columns = {
        "dictionary": pyarrow.array(["b", None, "a"]).dictionary_encode(),
        "text": pyarrow.array(["b", None, "a"], pyarrow.large_string()),
        "decimal": pyarrow.array([Decimal("1.50"), None, Decimal(2)], pyarrow.decimal128(10, 2)),
        "moment": pyarrow.array([1, None, 3], pyarrow.timestamp("s", tz="UTC")),
        "day": pyarrow.array([datetime.date(2024, 1, 2), None, None]),
        "time": pyarrow.array([1, None, 3], pyarrow.time32("s")),
        "whole": pyarrow.array([2**63 + 1, None, 1], pyarrow.uint64()),
        "truth": pyarrow.array([True, None, False]),
        "nothing": pyarrow.nulls(3),
    }
    table = Table.of(pyarrow.table(columns))
    kinds = ["text", "text", "number", "date", "date", "date", "number", "boolean", "number"]
    assert [column.kind for column in table.columns] == kinds
    assert np.isnan(table.values[:, 1]).all()
    assert table["dictionary"].tolist() == table["text"].tolist() == ["b", None, "a"]
    assert table["decimal"].tolist()[::2] == [1.5, 2.0]
    assert table["whole"].tolist()[::2] == [2.0**63, 1.0]
    numbers = pyarrow.table({"n": pyarrow.array([7, None, 5]).dictionary_encode()})
    np.testing.assert_array_equal(Table.of(numbers)["n"], [7, NAN, 5])


def test_columns_of_pandas_that_may_be_missing_are_read():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "n": pandas.array([1, None], "Int64"),
            "b": pandas.array([True, None], "boolean"),
            "t": pandas.array(["a", None], "string"),
            "c": pandas.Categorical(["x", None]),
            "d": pandas.to_datetime(["2024-01-02", None]),
        }
    )
    table = Table.of(frame)
    assert [c.kind for c in table.columns] == ["number", "boolean", "text", "text", "date"]
    assert np.isnan(table.values[:, 1]).all()


REFUSED = {
    "a number": (3, r"the data is a int, expected a table: give a data frame"),
    "a line": (np.zeros(3), r"the data is a ndarray, expected a table"),
    "nothing": ({}, r"the table has no columns"),
    "another length": ({"a": [1], "b": [1, 2]}, r"column 'b' has 2 values, but 'a' has 1"),
    "two kinds": ({"a": [1, "x"]}, r"column 'a' holds values of several kinds \(number and text"),
    "lists": ({"a": [[1], [2]]}, r"column 'a' holds a list, expected numbers, texts or truth"),
    "complex": ({"a": np.array([1j])}, r"column 'a' holds complex128, expected numbers"),
    "two axes": ({"a": np.zeros((2, 2))}, r"column 'a' has shape \(2, 2\), expected one value per"),
    "no UTF-8": ({"a": np.array([b"\xff"])}, r"column 'a' holds b'\\xff', expected UTF-8"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_table_is_refused(data, message):
    with pytest.raises(BadInput, match=message):
        Table.of(data)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(BadInput, match=r"columns 1 and 3 are both called 'a'"):
        Table([Column("a"), Column("b"), Column("a")], np.zeros((3, 1)))


def test_examples_are_rows_with_their_targets_and_weights():
    table = Table.of(MIXED)
    batch = table.examples("price", ignore="new")
    assert isinstance(batch, TableBatch)
    assert batch.table == table.select(["size", "city"])
    assert batch.target == table.select(["price"])
    assert batch.apart == ("new",)
    weighed = Table.of(MIXED | {"w": [1.0, 2.0, 0.5]}).examples("price", weights="w")
    assert weighed.weights.tolist() == [[1.0, 2.0, 0.5]]
    assert "w" not in weighed.table.names


BAD_EXAMPLES = {
    "absent target": (MIXED, "prise", r"no column 'prise': did you mean 'price'\?"),
    "missing target": (MIXED, "size", r"target 'size' is missing in 1 of 3 rows, first in row 2"),
    "infinite": (
        MIXED | {"size": [1.0, np.inf, 2.0]},
        "price",
        r"column 'size' holds inf in row 2, expected finite",
    ),
    "dates": (
        MIXED | {"day": [datetime.date(2024, 1, 2)] * 3},
        "price",
        r"column 'day' holds dates, e\.g\. '2024-01-02', expected numbers, texts",
    ),
    "no features": ({"price": [1, 2]}, "price", r"no column to learn from"),
    "no rows": ({"price": [], "size": []}, "price", r"no row, expected one or more"),
    "no target": (MIXED, (), r"no target"),
}


@pytest.mark.parametrize(("data", "target", "message"), BAD_EXAMPLES.values(), ids=BAD_EXAMPLES)
def test_what_nothing_can_be_learned_from_is_refused_by_name(data, target, message):
    with pytest.raises(BadInput, match=message):
        Table.of(data).examples(target)


def test_a_target_is_nothing_else():
    table = Table.of({"x": [1.0, 2.0], "y": [0, 1]})
    with pytest.raises(BadInput, match=r"target 'y' is also ignored, expected one"):
        table.examples("y", ignore=["y"])
    with pytest.raises(BadInput, match=r"target 'y' is also a weight, expected one"):
        table.examples(["y"], weights="y")


def test_a_column_without_a_name_is_learned_from_as_others_are():
    batch = Table.of({"": [1.0, 2.0], "x": [3.0, 4.0], "y": [0, 1]}).examples("y")
    assert [column.name for column in batch.features] == ["", "x"]


def test_an_ignored_column_may_hold_dates():
    data = MIXED | {"day": [datetime.date(2024, 1, 2)] * 3}
    assert Table.of(data).examples("price", ignore=["day"]).X.shape == (3, 3)


def test_a_second_table_gets_the_order_of_the_first():
    first = Table.of(MIXED).examples("price")
    turned = dict(reversed(MIXED.items()))
    assert Table.of(turned).examples("price").like(first) == first
    with pytest.raises(BadInput, match=r"no column 'new'"):
        Table.of({k: v for k, v in MIXED.items() if k != "new"}).examples("price").like(first)
    with pytest.raises(BadInput, match=r"column 'more' is not in the training table"):
        Table.of(MIXED | {"more": [1, 2, 3]}).examples("price").like(first)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 7], "rows hold 7, expected numbers from 0 to 2"),
        ([0.5], "rows are float64 (1,), expected a slice or a list of whole numbers"),
        ([True, False], "rows are bool (2,), expected a slice"),
        ([[0], [1, 2]], "rows are [[0], [1, 2]], expected a slice"),
    ],
)
def test_rows_that_are_not_in_a_table_are_refused(rows, message):
    table = Table.of({"a": [1, 2, 3]})
    with pytest.raises(BadInput) as refused:
        table.take(rows)
    assert message in str(refused.value)
    assert table.take([True, False, True]) == table.take([0, 2])
