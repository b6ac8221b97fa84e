import contextlib
import csv
import io
import os
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput
from pydnn.data import Table, csv_files, read_table
from pydnn.data.csv_files import MISSING, read_csv
from pydnn.long_work import work_shown

NAN = float("nan")


def table_of(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(path, **options)


WORKED = {
    "numbers and texts": (
        "size,city\n1.5,Rome\n-2e-3,Oslo\n",
        {"size": [1.5, -2e-3], "city": ["Rome", "Oslo"]},
    ),
    "no header": ("1,2\n3,4\n", {"column 1": [1, 3], "column 2": [2, 4]}),
    "no header beside a text": ("5.1,setosa\n4.9,setosa\n", {"column 1": [5.1, 4.9]}),
    "a header with a year": ("city,2020,n\nRome,1,2\n", {"2020": [1], "n": [2]}),
    "tabs": ("a\tb\n1\tx y\n", {"a": [1], "b": ["x y"]}),
    "semicolons": ("a;b\n1.5;x,y\n", {"a": [1.5], "b": ["x,y"]}),
    "bars": ("a|b\n1|2\n", {"a": [1], "b": [2]}),
    "one column": ("a\n1\n2\n", {"a": [1, 2]}),
    "BOM": ("\ufeffa,b\n1,2\n", {"a": [1], "b": [2]}),
    "CRLF": ("a,b\r\n1,2\r\n3,4\r\n", {"a": [1, 3], "b": [2, 4]}),
    "CR alone": ("a,b\r1,2\r3,4", {"a": [1, 3], "b": [2, 4]}),
    "blank lines": ("\na,b\n\n1,2\n\n\n3,4\n\n", {"a": [1, 3], "b": [2, 4]}),
    "quotes": (
        'a,"b ""c"""\n1,"x, y"\n2,"line 1\nline 2"\n',
        {'b "c"': ["x, y", "line 1\nline 2"]},
    ),
    "quoted numbers": ('"a","b"\n"1","2"\n', {"a": [1], "b": [2]}),
    "missing": ("a,b,c\n1,NA,\n,x,true\n", {"a": [1, None], "b": [None, "x"], "c": [None, True]}),
    "truth values": ("a\ntrue\nFalse\n", {"a": [True, False]}),
    "missing at every place": (
        "a,b,c,d\n,,,\n1,,,4\n,2,3,\n,2,,4\n",
        {"a": [None, 1, None, None], "b": [None, None, 2, 2], "d": [None, 4, None, 4]},
    ),
    "all missing": ("a,b\n,1\nNaN,2\n", {"a": [None, None]}),
    "blank cells": ("a,b\n ,1\n2,2\n", {"a": [None, 2]}),
    "spaces": ("a,b\n 1, 2\n3 ,4\n", {"a": [1, 3], "b": [2, 4]}),
    "infinity": ("a\ninf\n-inf\nInfinity\n", {"a": [np.inf, -np.inf, np.inf]}),
    "large integers": (
        "a\n9007199254740993\n-18446744073709551617\n",
        {"a": [2.0**53, -(2.0**64)]},
    ),
    "extremes": ("a\n1e400\n5e-324\n1e-400\n-0.0\n", {"a": [np.inf, 5e-324, 0.0, -0.0]}),
    "zero with a sign beside a gap": ("a,b\n0,1\n,1\n-0,1\n", {"a": [0.0, None, -0.0]}),
    "short numbers beside others": (
        "a,b\n1.5,x\n-1e-05,x\n0.12345678901234567,x\n2,x\n+.5,x\n3.,x\nNA,x\n 7,x\n8,x\n",
        {"a": [1.5, -1e-05, 0.12345678901234567, 2, 0.5, 3, None, 7, 8]},
    ),
    "numbers with underscores are texts": ("a,b\n1_000,1\n2,2\n", {"a": ["1_000", "2"]}),
    "they are in a first line without names": (
        "1_000,5\n,6\n",
        {"column 1": ["1_000", None], "column 2": [5, 6]},
    ),
    "digits of other scripts are texts": (
        "a,b\n\u0661\u0662,1\n3,2\n",
        {"a": ["\u0661\u0662", "3"]},
    ),
    "unicode names": ("größe,城市\n1,東京\n", {"größe": [1], "城市": ["東京"]}),
    "numbers before a text": ("a,b\n1.0,1\n01,2\nx,3\n", {"a": ["1.0", "01", "x"]}),
}


@pytest.mark.parametrize(("text", "columns"), WORKED.values(), ids=WORKED)
def test_every_form_of_a_table_is_read(tmp_path, text, columns):
    table = table_of(tmp_path, text)
    for name, values in columns.items():
        wanted = Table.of({name: values})
        assert table.select([name]) == wanted
        assert table.select([name]).values.tobytes() == wanted.values.tobytes()


def test_a_header_can_be_claimed_or_denied(tmp_path):
    assert table_of(tmp_path, "1,2\n3,4\n", header=True).names == ("1", "2")
    assert table_of(tmp_path, "a,b\nc,d\n", header=False).names == ("column 1", "column 2")
    assert table_of(tmp_path, "a;b,c\n1;2,3\n", delimiter=",").names == ("a;b", "c")
    assert table_of(tmp_path, "a\tb;c\n1\t2;3\n", name="t.tsv").names == ("a", "b;c")


def test_a_first_line_with_all_known_names_is_a_header_of_numbers(tmp_path):
    text = "2019,2020\n1,2\n3,4\n"
    assert table_of(tmp_path, text, known=["2020"]) == Table.of({"2019": [1, 3], "2020": [2, 4]})
    assert table_of(tmp_path, text, known=["2020", "2021"]).rows == 3
    assert table_of(tmp_path, text, known=["2020"], header=False).rows == 3


def test_an_ignored_column_may_hold_numbers_with_commas(tmp_path):
    text = "a;price\n1;1,234\n2;2,345\n"
    table = table_of(tmp_path, text, ignored=["price"])
    assert table["price"].tolist() == ["1,234", "2,345"]
    with pytest.raises(BadInput, match=r"'price' of .* holds numbers with separated thousands"):
        table_of(tmp_path, text, ignored=["a"])


def test_a_column_is_read_as_texts_if_its_reader_says_so(tmp_path):
    text = "code,n,truth\n01,1,true\n1,2,false\n"
    assert table_of(tmp_path, text)["code"].tolist() == [1, 1]
    table = table_of(tmp_path, text, texts=["code", "truth", "absent"])
    assert table["code"].tolist() == ["01", "1"]
    assert table["truth"].tolist() == ["true", "false"]


def test_dates_are_known_for_what_they_are(tmp_path):
    dates = ["2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.678+01:00", "1/2/2024"]
    dates += ["01.02.24", "2024/1/2", "12:30", "3:04:05 pm"]
    for date in dates:
        table = table_of(tmp_path, f"when,y\n{date},1\n,2\n")
        assert table.columns[0].kind == "date", date
    for text in ["2024-01", "1.2", "10-20", "a 2024-01-02", "12:3"]:
        assert table_of(tmp_path, f"when,y\n{text},1\n,2\n").columns[0].kind != "date", text
    with pytest.raises(BadInput, match=r"column 'when' holds dates, e\.g\. '2024-01-02'"):
        table_of(tmp_path, "when,y\n2024-01-02,1\n").examples("y")


REFUSED = {
    "empty": ("", r"t\.csv is empty, expected a table"),
    "blank": ("\n\n", r"t\.csv has only blank lines"),
    "header alone": ("a,b\n", r"only names of columns, expected rows below"),
    "short row": (
        "a,b\n1,2\n3\n4,5\n",
        r"line 3 of .*t\.csv has 1 cells, expected 2 as in the first",
    ),
    "long row": ("a,b\n1,2\n\n3,4,5\n", r"line 4 of .*t\.csv has 3 cells, expected 2"),
    "uneven rows": ("a,b\n1\n2,3,4\n", r"line 2 of .*t\.csv has 1 cells, expected 2"),
    "quoted short row": ('a,b\n"1\n",2\n3\n', r"line 4 of .*t\.csv has 1 cells, expected 2"),
    "duplicate": ("a,b,a\n1,2,3\n", r"columns 1 and 3 of .*t\.csv are both called 'a'"),
    "no name": (",a\n0,1\n", r"column 1 has no name in line 1 .*index=False"),
    "blank name": ("a, \n0,1\n", r"column 2 has no name in line 1"),
    "open quote": (
        'a,b\n1,"2\n3,4\n',
        r"line [23] of .*t\.csv cannot be read \(unexpected end of data",
    ),
    "bad quote": (
        'a,b\n1,"2"x\n',
        r"cannot be read \(',' expected after '\"'\): correct the quotes",
    ),
    "decimal commas": (
        "a;b\n1,5;x\n-2,25;y\n",
        r"column 'a' of .*t\.csv holds numbers with decimal commas, e\.g\. '-2,25' in row 2",
    ),
    "decimal commas alone": (
        "1,5;2,5\n3,5;4,5\n",
        r"'column 1' of .* decimal commas, e\.g\. '1,5'",
    ),
    "thousands": (
        'a,b\n"1,234",x\n56,y\n"1,234,567.5",z\n',
        r"column 'a' of .*t\.csv holds numbers with separated thousands, e\.g\. '1,234' in row 1",
    ),
    "thousands with dots": ("a;b\n1.234.567;1\n", r"numbers with separated thousands"),
    "thousands with spaces": ("a,b\n1 234 567,1\n", r"numbers with separated thousands"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), r"t\.csv is UTF-16, expected UTF-8: save"),
    "zero bytes": (b"a,b\n\0,2\n", r"t\.csv is not text, expected UTF-8"),
    "latin": (
        "größe,b\n1,2\n".encode("latin-1"),
        r"t\.csv is not UTF-8 \(byte 0xf6\), expected it",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_whole_table_is_refused_by_line_or_column(tmp_path, text, message):
    with pytest.raises(BadInput, match=message) as refusal:
        table_of(tmp_path, text)
    assert "\n" not in str(refusal.value)


def test_files_that_are_not_there_or_not_allowed_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"does not exist, expected a table's file"):
        read_table(tmp_path / "no.csv")
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):  # this user may read every file

        def refuse(*args):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadInput, match=r"t\.csv cannot be read \(Permission denied\)"):
        read_table(path)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", 'a,b\n"1",2\n', "a,b\n1,x\n"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    read = csv_files.CsvTable

    def read_and_write(*args):
        with path.open("a") as file:
            file.write("3\n")  # ragged, which is not what is said
        return read(*args)

    monkeypatch.setattr(csv_files, "CsvTable", read_and_write)
    with pytest.raises(BadInput, match=r"t\.csv has changed while it was read"):
        read_csv(path)


@pytest.mark.slow
def test_ten_thousand_columns_are_read(tmp_path):
    names = ",".join(f"c{i}" for i in range(10_000))
    rows = "\n".join(",".join(str(i + j) for i in range(10_000)) for j in range(3))
    table = table_of(tmp_path, f"{names}\n{rows}\n")
    np.testing.assert_array_equal(table.values[:, 2], np.arange(10_000.0) + 2)
    batch = table.examples("c7")  # in a time that does not grow with their square
    assert batch.like(batch) == batch


def test_kinds_that_show_late_are_those_of_the_whole_column(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK", 64)
    monkeypatch.setattr(csv_files, "_CELLS", 8)
    monkeypatch.setattr(csv_files, "_ROWS", 1)
    rows = [f"{i}.0,{i}" for i in range(50)]
    for quote in ("", '"'):
        late = "\n".join(["a,b", *rows, f"{quote}x{quote},", *rows])
        table = table_of(tmp_path, late)
        assert table["a"].tolist() == [*(f"{i}.0" for i in range(50)), "x"] + [
            f"{i}.0" for i in range(50)
        ]
        numbers = [*map(float, range(50)), NAN, *map(float, range(50))]
        np.testing.assert_array_equal(table["b"], numbers)


BREAK = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r"])


@given(breaks=st.lists(BREAK, min_size=8, max_size=8), block=st.integers(1, 9), bom=st.booleans())
def test_any_line_breaks_are_the_same(tmp_path_factory, breaks, block, bom):
    path = tmp_path_factory.mktemp("breaks") / "t.csv"
    lines = ["a,n\u00e9", "1,2", "-3.5,4e3", "5,6", ",7", "8,9"]
    text = breaks[6] * bom + "".join(map("".join, zip(lines, breaks, strict=False)))
    path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BLOCK", block)
        patch.setattr(csv_files, "_CELLS", block)
        patch.setattr(csv_files, "_WIDTH", 0)
        table = read_csv(path)
    assert table.names == ("a", "n\u00e9")
    np.testing.assert_array_equal(table.values, [[1, -3.5, 5, NAN, 8], [2, 4000, 6, 7, 9]])


# What pandas makes of the same file

CELL_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=5
)
NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.sampled_from(["", "NA", "-0", "+1", "1e5", ".5", "1.", "inf", "-inf"]),
)
WORDS = st.one_of(CELL_TEXT, st.sampled_from(["Rome", "x,y", 'quote "', "a\nb", "", "NULL", "née"]))


def is_plain_word(text):
    """Whether no reader takes it for a number, a truth value or a blank."""
    try:
        float(text)
    except ValueError:
        pass
    else:
        return text in MISSING
    return text == "" or (text.strip() == text and text.lower() not in ("true", "false"))


@st.composite
def csv_texts(draw):
    kinds = draw(st.lists(st.sampled_from(["number", "text"]), min_size=1, max_size=4))
    m = draw(st.integers(1, 6))
    names = draw(
        st.lists(
            CELL_TEXT.filter(lambda t: t.strip() == t != "" and is_plain_word(t)).map("n".__add__),
            min_size=len(kinds), max_size=len(kinds), unique=True,
        )
    )  # fmt: skip
    cells = [
        draw(st.lists(NUMBERS, min_size=m, max_size=m))
        if kind == "number"
        else ["word", *draw(st.lists(WORDS.filter(is_plain_word), min_size=m - 1, max_size=m - 1))]
        for kind in kinds
    ]
    out = io.StringIO()
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ends, quoting=quoting)
    writer.writerows([names, *zip(*cells, strict=True)])
    bom = draw(st.sampled_from(["", "\ufeff"]))
    return kinds, delimiter, bom + out.getvalue()


def outcome(path, **options):
    """What reading a file gives, or its error."""
    try:
        table = read_csv(path, **options)
    except BadInput as error:
        return str(error)
    return table.columns, [table[name].tolist() for name in table.names]


@given(
    lines=st.lists(
        st.lists(
            st.sampled_from(
                ["1", '"2.5"', '"-3"', "a", '"b"', '"c,d"', '"e""f"', '"g\nh"', '""', "", 'i"j',
                 '"k"l', ' "m"', '"', '"n,\n"', "é"]
            ),
            min_size=1, max_size=3,
        ),
        min_size=1, max_size=8,
    ),
    block=st.integers(1, 20), ends=st.sampled_from(["\n", "\r\n", "\n\n"]), last=st.booleans(),
    header=st.booleans(),
)  # fmt: skip
def test_cells_in_quotes_are_those_that_the_csv_module_reads(
    tmp_path_factory, lines, block, ends, last, header
):
    path = tmp_path_factory.mktemp("quotes") / "t.csv"
    path.write_bytes((ends.join(map(",".join, lines)) + ends * last).encode())
    options = {"header": header, "delimiter": ","}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BLOCK", block)
        patch.setattr(csv_files, "_CELLS", block)
        patch.setattr(csv_files, "_WIDTH", 0)
        read = outcome(path, **options)
        source = csv_files._Source
        slow = source._cut_at_quotes
        patch.setattr(source, "_cut_at_delimiters", lambda self, c, skip, _: slow(self, c, skip))
        assert repr(read) == repr(outcome(path, **options))


@pytest.mark.parametrize("text", ['1,1\n1\n"k"l\n', '"1",1\n"2"\n"k"l\n', '1,"a""b"\n1\n"k"l\n'])
def test_of_several_wrong_lines_the_first_is_named(tmp_path, text):
    with pytest.raises(BadInput, match=r"^line 2 of .* has 1 cells, expected 2"):
        table_of(tmp_path, text, header=False)


def test_few_pieces_of_a_file_with_quotes_need_the_csv_module(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_CELLS", 64)
    rows = [f'"{i}.5","name {i}, {i % 3}"' for i in range(1000)]
    rows[500] = '"500.5","two\nlines"'
    asked = []
    plain = csv_files._without_quotes
    monkeypatch.setattr(
        csv_files, "_without_quotes", lambda *args: asked.append(plain(*args)) or asked[-1]
    )
    table = table_of(tmp_path, "\n".join(["a,b", *rows]))
    np.testing.assert_array_equal(table["a"], np.arange(1000) + 0.5)
    assert table["b"][[0, 500, 999]].tolist() == ["name 0, 0", "two\nlines", "name 999, 0"]
    assert asked.count(None) == 1
    assert len(asked) > 20


@given(drawn=csv_texts())
def test_values_are_those_that_pandas_reads(tmp_path_factory, drawn):
    pandas = pytest.importorskip("pandas")
    kinds, delimiter, text = drawn
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.encode())
    table = read_csv(path, header=True, delimiter=delimiter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it deprecates this precision, which is its exact one
        frame = pandas.read_csv(
            path, sep=delimiter, float_precision="round_trip", encoding="utf-8-sig"
        )
    assert list(frame.columns) == list(table.names)
    assert len(frame) == table.rows
    for place, kind in enumerate(kinds):
        name, column = table.names[place], frame.iloc[:, place]
        if kind == "number":
            theirs = column.to_numpy(np.float64, na_value=np.nan)
            np.testing.assert_array_equal(table[name], theirs)
            # Its whole numbers have no -0; beside missing ones they become floats afterwards.
            whole = column.dtype != np.float64 or (
                column.hasnans and not (column.dropna() % 1).any()
            )
            if not whole:
                np.testing.assert_array_equal(np.signbit(table[name]), np.signbit(theirs))
        else:
            theirs = [None if value != value or value is None else value for value in column]
            assert table[name].tolist() == theirs


RAW = st.lists(
    st.sampled_from(
        [*'ab1."', ",", ";", "\t", "\n", "\r", '"', "1.5", "NA", "\ufeff", "é", "2024-01-01"]
    ),
    max_size=30,
).map("".join)


@given(text=RAW)
def test_any_text_is_a_table_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.encode())
    with contextlib.suppress(BadInput):
        table = read_csv(path)
        assert table.rows
        assert table == read_csv(path)


def test_every_text_that_pandas_takes_for_missing_is_missing():
    pandas = pytest.importorskip("pandas")
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(STR_NA_VALUES) == set(MISSING), pandas.__version__


@pytest.mark.slow
def test_a_large_file_is_read_to_the_same_bits_as_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    path = tmp_path / "big.csv"
    frame = pandas.DataFrame(rng.normal(size=(20_000, 20)))
    frame["city"] = np.array(["Rome", "Oslo"])[rng.integers(0, 2, len(frame))]
    frame.to_csv(path, index=False)
    table = read_csv(path, header=True)
    for place in range(20):
        assert table.values[place].tobytes() == frame.iloc[:, place].to_numpy().tobytes()


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("block", [8, 64, 1000])
def test_a_line_that_is_too_long_is_refused_by_its_number(tmp_path, monkeypatch, ending, block):
    monkeypatch.setattr(csv_files, "_LONGEST", 100)
    monkeypatch.setattr(csv_files, "_BLOCK", block)
    lines = ["a,b", "1,2", *["3,4"] * 30]
    assert table_of(tmp_path, ending.join(lines)).rows == 31
    lines[7] = "5," + "6" * 3000
    with pytest.raises(BadInput, match=r"line 8 of .*t\.csv is longer than"):
        table_of(tmp_path, ending.join(lines))


def test_a_file_of_one_endless_line_is_refused_in_little_memory(tmp_path):
    with (tmp_path / "t.csv").open("wb") as file:
        for _ in range(40):
            file.write(b"1," * (1 << 19))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"line 1 of .*is longer than 16\.0 MiB, expected"):
            read_csv(tmp_path / "t.csv")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_record_of_too_many_lines_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_LONGEST", 100)
    rows = '"a","b"\n' + '"x\ny","z"\n' * 30
    assert table_of(tmp_path, rows).rows == 30
    for text in (rows + '"' + "x\n" * 60 + '",1\n', '"' + "a\n" * 60 + '","b"\n1,2\n'):
        with pytest.raises(BadInput, match=r"the record around line \d+ of .* is longer than"):
            table_of(tmp_path, text)


def test_millions_of_empty_names_are_refused_without_a_look_at_each(tmp_path, monkeypatch):
    looked = []
    is_number = csv_files._is_number
    monkeypatch.setattr(
        csv_files, "_is_number", lambda cell: looked.append(cell) or is_number(cell)
    )
    with pytest.raises(BadInput, match="column 1 has no name in line 1"):
        table_of(tmp_path, "," * 10_000 + "\n" + "1," * 10_000 + "1\n")
    assert len(looked) < 10
    monkeypatch.setattr(csv_files, "_MOST_COLUMNS", 3)
    with pytest.raises(BadInput, match=r"line 1 of .* has 4 cells, expected a table of at most 3"):
        table_of(tmp_path, "1,2,3,4\n")


def test_reading_a_large_file_shows_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_LARGE", 1 << 18)
    text = "a,b\n" + "1,2\n" * 200_000
    steps = []
    with work_shown(lambda *step: steps.append(step)):
        table_of(tmp_path, text)
    assert steps == sorted(steps)
    assert steps[-1] == ("reading", len(text), len(text))
    assert len(steps) > 1
