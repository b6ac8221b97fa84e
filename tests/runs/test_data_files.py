"""Data in files has the fingerprints of the same data in memory, and may not change meanwhile."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import Batch, Table
from pydnn.checks import BadInput
from pydnn.data import Stored, read_table, store_table
from pydnn.data.stored_tables import open_stored_table
from pydnn.long_work import work_shown
from pydnn.runs import data_files
from pydnn.runs.data_files import DataFiles, sha256_of_blocks
from pydnn.runs.provenance import _pins_of
from pydnn.storage.mapped import open_stored

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
DTYPES = st.sampled_from(["u1", "<i2", "<f4", ">f8", "<i8"])


def in_file(path, array):
    np.save(path, array)
    return open_stored(path)["X"]


@given(
    X=SHAPES.flatmap(lambda shape: hnp.arrays("i1", shape)),
    stored=DTYPES,
    dtypes=st.sampled_from([("f8", "f8"), ("f4", "f4"), ("f8", "f4")]),
    weights=st.booleans(),
)
@settings(max_examples=12)
def test_hashes_of_blocks_are_those_of_the_data_in_memory(
    tmp_path_factory, X, stored, dtypes, weights
):
    folder = tmp_path_factory.mktemp("pins")
    examples = Stored(
        in_file(folder / "X.npy", np.abs(X.astype(int)).astype(stored)),
        np.arange(len(X)),
        np.ones(len(X)) if weights else None,
        dtype=dtypes[0],
    )
    parts = examples, examples.only(np.arange(len(X))[::-1])
    for one in parts:
        assert _pins_of("train", one, dtypes[1]) == _pins_of("train", one.in_memory(), dtypes[1])


def test_sequences_have_the_hashes_of_their_lengths(tmp_path):
    X = np.arange(24.0).reshape(4, 3, 2)
    examples = Stored(in_file(tmp_path / "X.npy", X), np.zeros(4), lengths=np.array([1, 3, 2, 3]))
    assert _pins_of("test", examples, "f8") == _pins_of("test", examples.in_memory(), "f8")


def test_a_stored_table_has_the_hashes_of_the_table(tmp_path):
    columns = {"x": [1.5, None, 3, 4], "city": ["Rome", None, "Oslo", "Rome"], "y": [1, 2, 3, 4]}
    store_table(tmp_path / "t.h5", [Table.of(columns)])
    stored = open_stored_table(tmp_path / "t.h5").examples("y")
    memory = read_table(tmp_path / "t.h5").examples("y")
    assert _pins_of("train", stored, "f8") == _pins_of("train", memory, "f8")


def test_numbers_that_are_nan_are_refused(tmp_path):
    examples = Stored(in_file(tmp_path / "X.npy", np.array([[1.0], [np.nan]])), np.zeros(2))
    with pytest.raises(BadInput, match="train X holds nan, which has no fingerprint"):
        sha256_of_blocks("train", examples, "f8")


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "_LEAST", 1)
    examples = Stored(in_file(tmp_path / "X.npy", np.arange(40).reshape(10, 4)), np.arange(10))
    os.utime(tmp_path / "X.npy", (1, 1))  # not just written
    return examples


def test_hashes_are_computed_once_and_shown_while_they_are(examples):
    shown = []
    with work_shown(lambda *progress: shown.append(progress)):
        first = sha256_of_blocks("train", examples, "f8")
        assert shown == [("hashing", 10, 10)]
        assert sha256_of_blocks("train", examples, "f8") == first
        assert len(shown) == 1
        others = [
            sha256_of_blocks("test", examples, "f8"),
            sha256_of_blocks("train", examples, "f4"),
            sha256_of_blocks("train", examples.only(np.arange(9)), "f8"),
            sha256_of_blocks("train", examples.then(doubled), "f8"),
        ]
    assert len(shown) == 5
    assert len({other["X"] for other in [first, *others]}) == 5


def doubled(batch):
    return Batch(batch.X * 2, batch.Y)


def watched(examples):
    hashes = {"train": sha256_of_blocks("train", examples, "f8")}
    return DataFiles.with_hashes({"train": examples}, hashes, "float64")


def test_a_file_with_another_time_and_the_same_bytes_is_hashed_again_once(examples, tmp_path):
    files, shown = watched(examples), []
    with work_shown(lambda *progress: shown.append(progress)):
        files.expect_unchanged()
        assert shown == []
        os.utime(tmp_path / "X.npy", (2, 2))
        files.expect_unchanged()
        files.expect_unchanged()
    assert len(shown) == 1


@pytest.mark.parametrize("how", ["written", "replaced", "removed", "shorter"])
def test_a_file_that_changed_is_named(examples, tmp_path, how):
    files, path = watched(examples), tmp_path / "X.npy"
    content = path.read_bytes()
    if how == "written":
        with path.open("r+b") as file:
            file.seek(-8, 2)
            file.write(b"\1")
        os.utime(path, (3, 3))
    elif how == "shorter":
        path.write_bytes(content[:-8])
    else:
        path.unlink()
    if how == "replaced":
        np.save(path, np.zeros((10, 4), int))
    for _ in range(2):
        with pytest.raises(BadInput, match=r"X\.npy changed .*during the training") as refusal:
            files.expect_unchanged()
        assert "\n" not in str(refusal.value)


def test_a_file_that_changes_while_it_is_hashed_is_refused(examples, tmp_path):
    def change(*_):
        os.utime(tmp_path / "X.npy", (4, 4))

    with (
        work_shown(change),
        pytest.raises(BadInput, match=r"X\.npy has changed while it was hashed"),
    ):
        sha256_of_blocks("train", examples, "f8")


def test_data_in_memory_has_no_files():
    files = DataFiles.with_hashes({"train": Batch([[1.0]], [[1.0]])}, {}, "float64")
    assert not files.states
    files.expect_unchanged()
