import pickle

import h5py
import numpy as np
import pytest

from pydnn import BadInput
from pydnn.storage.chunked import open_chunked

ROWS = np.random.default_rng(1).integers(0, 1000, (50, 6)).astype("<i4")


@pytest.fixture(params=[{}, {"chunks": (7, 4)}, {"chunks": (8, 6), "compression": "gzip"}])
def array(request, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=ROWS, **request.param)
    return open_chunked(tmp_path / "a.h5", ["X"])["X"]


@pytest.mark.parametrize("kept", [1, 1 << 28])
def test_rows_are_those_of_the_file(array, kept, monkeypatch):
    monkeypatch.setattr("pydnn.storage.chunked._BYTES_OF_A_BLOCK", 300)
    monkeypatch.setattr("pydnn.storage.chunked._BYTES_KEPT", kept)

    for numbers in ([], [49, 0, 7, 8, 7], [13, 14, 15]):
        which = np.array(numbers, np.uint32)
        np.testing.assert_array_equal(array.take(which), ROWS[which])
    for some in (slice(None), slice(5, 17), slice(40, 90), slice(3, 3)):
        np.testing.assert_array_equal(array.take(some), ROWS[some])
    assert len(array._kept[1]) == 1 or kept > 1
    images = array.reshaped(3, 2).take(slice(3, 30))
    np.testing.assert_array_equal(images, ROWS[3:30].reshape(-1, 3, 2))
    assert not images.flags.writeable


def test_pickles_hold_only_the_place(array):
    array.take(slice(None))
    pickled = pickle.dumps(array)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again == array
    np.testing.assert_array_equal(again.take(slice(0, 3)), ROWS[:3])


def test_rows_of_another_size_are_refused(array):
    with pytest.raises(BadInput, match="has 5 numbers, expected"):
        array.reshaped(5)


def test_a_file_that_changed_is_refused(array):
    with h5py.File(array.path, "w") as file:
        file.create_dataset("X", data=ROWS[:-1])
    with pytest.raises(BadInput, match=r"X in .* has changed since it was opened"):
        array.take(slice(0, 1))


def test_what_is_not_numbers_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.array([b"a", b"b"])
    with pytest.raises(BadInput, match=r"X in .* holds \|S1, expected rows of numbers"):
        open_chunked(tmp_path / "a.h5", ["X"])
