"""`pydnn data import` on the command line."""

import json
import re
import sys

import pytest

from pydnn import read_table


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("size,city,price\n" + "1,Rome,2\n2,Oslo,4\n" * 20)
    return tmp_path


def test_a_table_is_imported_and_trained_on_like_its_source(command, here):
    status, out, err = command("data", "import", "t.csv", "t.h5")
    assert (status, err) == (0, "")
    assert out.startswith("40 rows in t.h5 (")
    assert out.endswith("): a table of 3 columns\n")
    assert read_table("t.h5") == read_table("t.csv")
    options = "--target", "price", "--test", "0.25", "--iterations", "3", "--no-record"
    costs = [command("train", "--data", name, *options)[1] for name in ("t.csv", "t.h5")]
    numbers = [re.findall(r"cost [\d.]+", text) for text in costs]
    assert numbers[0] == numbers[1] != []


def test_json_says_what_was_written(command, here):
    _, out, _ = command("data", "import", "t.csv", "t.h5", "--json")
    assert json.loads(out) == {
        "file": "t.h5",
        "rows": 40,
        "bytes": (here / "t.h5").stat().st_size,
        "what": "a table of 3 columns",
    }


def test_bad_input_is_one_line_and_leaves_nothing(command, here):
    (here / "t.csv").write_text("a,b\n1,2\n3\n")
    status, out, err = command("data", "import", "t.csv", "t.h5")
    assert (status, out) == (2, "")
    assert "line 3 of t.csv has 1 cells, expected 2" in err
    assert err.count("\n") == 1
    assert not (here / "t.h5").exists()


def test_progress_goes_to_a_terminal_only(command, here, monkeypatch):
    pytest.importorskip("tqdm")
    assert command("data", "import", "t.csv", "a.h5")[2] == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True, raising=False)
    assert "writing: " in command("data", "import", "t.csv", "b.h5")[2]


def test_an_empty_file_is_not_called_a_damaged_file_of_another_kind(command, here):
    (here / "empty.csv").write_text("")
    for argv in (
        ["data", "import", "empty.csv", "t.h5"],
        ["train", "--data", "empty.csv", "--target", "price"],
    ):
        status, _, err = command(*argv)
        assert (status, err.count("\n")) == (2, 1)
        assert "empty.csv is empty, expected a table" in err
