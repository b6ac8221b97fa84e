import math
import re
import struct
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn.data import cells, read_table


def cut(text, delimiter, columns):
    return cells.cut(text.encode(), delimiter, columns)


def bits(number):
    return struct.pack("d", number)


def test_cells_are_cut_into_columns():
    made = cut("1.5,né,\n-2,,x", ",", 3)
    assert [made.texts(column, np.arange(2)) for column in range(3)] == [
        ["1.5", "-2"],
        ["né", ""],
        ["", "x"],
    ]
    assert cut("a§b\nc§d", "§", 2).texts(1, np.array([1, 0])) == ["d", "b"]


@pytest.mark.parametrize("text", ["1,2\n3", "1\n2,3", "1,2\n3,4,5", "1,2,3\n4", "1"])
def test_uneven_lines_are_not_cut(text):
    assert cut(text, ",", 2) is None


RIGHT = ["0", "-0", "+1", "1.", ".5", "-.5", "-0.0", "007", "1.25", "-12345678.1234", "0.1", ""]
RIGHT += [
    "9007199254740992",
    "0.00000000000001",
    "999999999999.99",
    "-100000000000000",
    "4503599627.3705",
    "9" * 18,
    "0.12345678901234567",
    "-1234.5678901234567e-20",
    "1e5",
    "1E-05",
    ".5e+250",
    "0e-9",
    "00000.000000000000000000",
    "1.7976931348623157e200",
]
WRONG = [
    "9007199254740993",
    "9" * 19,
    "1" * 300,
    "1e400",
    "1e-320",
    "1e",
    "e5",
    "1e5e5",
    "1e5.",
    "1 ",
]
WRONG += [" 1", "NA", "1.e2.", "-e", "1e+", "1e--5", "1e1234567890", "0." + "1" * 25, "1.5E5x"]
WRONG += [
    "-",
    "+",
    ".",
    "-.",
    "--1",
    "1-",
    "1.2.3",
    "..",
    "1_0",
    "inf",
    "x",
    "0x1",
    "\u0661",
    "1\u00e9",
]


def test_short_decimals_are_read_and_others_are_left():
    for text in RIGHT + WRONG:
        numbers, right = cut(f"x,{text}", ",", 2).decimals([1])
        assert numbers.shape == right.shape == (1, 1)
        assert right[0, 0] == (text in RIGHT), text
        if text in RIGHT:
            assert bits(numbers[0, 0]) == bits(float(text or "nan")), text


def between(number):
    """About the middle between a float and the next one, where it is hardest to round."""
    middle = (Decimal(number) + Decimal(math.nextafter(number, math.inf))) / 2
    return str(middle)[:19]


CELL = st.one_of(
    st.floats(1e-4, 1e15).map(between),
    st.text("0123456789.", max_size=18),
    st.text("0123456789.-+e_ x\u00e9", max_size=18),
    st.decimals(-(10**6), 10**6, places=4).map(str),
    st.integers(-(2**54), 2**54).map(str),
    st.floats(-1e3, 1e3).map("{:.12g}".format),
    st.floats().map(repr),
    st.floats().map("{:.18e}".format),
    st.floats(-1e20, 1e20).map("{:.17f}".format),
)


DECIMAL = re.compile(r"[+-]?([0-9]+\.?|[0-9]*\.[0-9]+)")


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20))
def test_right_numbers_are_those_of_float(rows):
    made = cut("\n".join(f"{a},{b}" for a, b in rows), ",", 2)
    numbers, right = made.decimals([1, 0])
    for row, (a, b) in enumerate(rows):
        for column, text in enumerate((b, a)):
            if right[column, row]:
                assert bits(numbers[column, row]) == bits(float(text or "nan")), text
            else:
                assert len(text) > 15 or not DECIMAL.fullmatch(text), text


WORD = st.one_of(st.sampled_from(["red", "green", "né", ""]), st.text("ab", max_size=20))


@pytest.mark.parametrize("slots", [1, 8])
@given(words=st.lists(WORD, min_size=1, max_size=30))
def test_every_cell_is_among_the_different_texts(slots, words):
    made = cut("\n".join(f"1,{word}" for word in words), ",", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_FEW", 0)
        patch.setattr(cells, "_SLOTS", slots)
        own, places = made.different(1)
    texts = made.texts(1, own)
    assert [texts[place] for place in places] == words


def test_equal_texts_are_decoded_once():
    own, places = cut(
        "\n".join(["x,red", "y,green", "x,white", "y,green"] * 500), ",", 2
    ).different(1)
    assert (len(own), len(places)) == (3, 2000)


ODD = st.sampled_from(["NA", "", "1e-05", "0.12345678901234567", " 7", "nan", "inf", "-0"])
NUMBER = st.one_of(*[st.decimals(-100, 100, places=2).map(str)] * 3, ODD)


@given(
    columns=st.lists(
        st.one_of(
            *(st.lists(cell, min_size=9, max_size=9) for cell in (NUMBER, WORD, st.just("1_0")))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_file_without_quotes_is_read_as_one_with_quotes(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("cells")
    names = [f"n{place}" for place in range(len(columns))]
    lines = [",".join(line) for line in zip(*columns, strict=True)]
    (folder / "plain.csv").write_text(
        "\n".join([",".join(names), *lines, "9,9,9,9"[: 2 * len(names) - 1]])
    )
    quoted = ",".join(f'"{name}"' for name in names)
    (folder / "quoted.csv").write_text("\n".join([quoted, *lines, "9,9,9,9"[: 2 * len(names) - 1]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_FEW", 0)
        patch.setattr("pydnn.data.csv_files._CELLS", 8)
        patch.setattr("pydnn.data.csv_files._WIDTH", 0)
        plain = read_table(folder / "plain.csv", header=True)
    table = read_table(folder / "quoted.csv", header=True)
    assert plain == table
    assert plain.values.tobytes() == table.values.tobytes()
