"""Checks that arrays written block by block are whole, contiguous and aligned, or not there."""

import errno
import os
import threading

import h5py
import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.storage import files
from pydnn.storage.contiguous import Blocks, write_contiguous
from pydnn.storage.hdf5 import open_hdf5, read_array, read_text


def test_arrays_are_contiguous_and_their_texts_are_readable(tmp_path):
    X = np.arange(210, dtype=np.uint8).reshape(70, 3)
    path, long = tmp_path / "rows.h5", "word " * 20_000
    arrays = {
        "X": Blocks((70, 3), "uint8", [X[:4], X[4:]]),
        "Y": Blocks((9,), "f8", [[1, np.nan], [2] * 7]),
    }
    write_contiguous(path, arrays, texts={"short": "word", "long": long}, most=len(long))
    with open_hdf5(path) as file:
        assert (read_text(file, "short"), read_text(file, "long")) == ("word", long)
        np.testing.assert_array_equal(read_array(file, "X", dtype=np.uint8, shape=None), X)
        np.testing.assert_array_equal(
            read_array(file, "Y", dtype=np.float64, shape=None), [1, np.nan, *[2] * 7]
        )
        for name in arrays:
            assert file[name].chunks is None
            assert file[name].id.get_offset() % 64 == 0


def test_an_array_without_rows_is_written(tmp_path):
    write_contiguous(tmp_path / "none.h5", {"X": Blocks((0, 3), "f4", [])}, most=10)
    with h5py.File(tmp_path / "none.h5") as file:
        assert file["X"].shape == (0, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_rows_that_do_not_come_as_promised_leave_no_file(tmp_path, count):
    with pytest.raises(ValueError, match=f"X has {count} rows, expected 2"):
        write_contiguous(
            tmp_path / "a.h5", {"X": Blocks((2, 1), "f4", [np.zeros((count, 1))])}, most=10
        )
    assert not list(tmp_path.iterdir())


def test_a_text_that_is_too_long_leaves_no_file(tmp_path):
    with pytest.raises(BadInput, match="note has 4 bytes, expected at most 3"):
        write_contiguous(tmp_path / "a.h5", {}, texts={"note": "long"}, most=3)
    assert not list(tmp_path.iterdir())


def large(count, size=1 << 20):
    return {"X": Blocks((count, size), "u1", (np.full((1, size), n, "u1") for n in range(count)))}


def test_large_arrays_go_to_the_disk_while_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_FLUSHED", 3 << 20)
    flushed, flush = [], files._flush_now
    monkeypatch.setattr(files, "_flush_now", lambda h: (flushed.append(os.fstat(h)), flush(h)))
    write_contiguous(tmp_path / "a.h5", large(9), most=10)
    assert flushed
    with open_hdf5(tmp_path / "a.h5") as file:
        X = read_array(file, "X", dtype=np.uint8, shape=None)
    assert (np.arange(9)[:, None] == X).all()
    assert not [t for t in threading.enumerate() if t.name.startswith("pydnn-flush")]


def test_a_disk_that_fails_while_an_array_is_written_leaves_no_file(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_FLUSHED", 3 << 20)
    monkeypatch.setattr(files, "_flush_now", fail)
    with pytest.raises(BadInput, match=os.strerror(errno.EIO)):
        write_contiguous(tmp_path / "a.h5", large(9), most=10)
    assert not list(tmp_path.iterdir())
    assert not [t for t in threading.enumerate() if t.name.startswith("pydnn-flush")]
