"""Remembered hashes: found under their key alone, and never in the way."""

import json
import os
import time

import pytest

from pydnn.checks import BadInput
from pydnn.storage import remembered
from pydnn.storage.remembered import FileState, key_of, recall, remember, state_of

HASHES = {"X": "1" * 64, "Y": "a" * 64}
OLD = FileState(8, time.time_ns() - 10**10, 3)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.h5").write_bytes(b"numbers")
    return tmp_path / "data" / "a.h5"


def test_hashes_are_found_under_their_key_beside_the_file(path):
    key = key_of([OLD], {"part": "train"})
    assert recall(path, key) is None
    remember(path, key, HASHES, states=[OLD])
    remember(path, "2" * 64, {"X": "3" * 64})
    assert recall(path, key) == HASHES
    assert recall(path, key_of([OLD], {"part": "test"})) is None
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.h5", "a.h5.pydnn-hashes.json"]


@pytest.mark.parametrize("change", [{"size": 9}, {"mtime_ns": 1}, {"inode": 4}])
def test_a_file_in_another_state_has_another_key(change):
    other = {"size": 8, "mtime_ns": 2, "inode": 3}
    assert key_of([FileState(8, 2, 3)], "x") != key_of([FileState(**{**other, **change})], "x")


def test_a_file_that_was_just_written_is_not_remembered(path):
    key = key_of([state_of(path)], "x")
    remember(path, key, HASHES, states=[state_of(path)])
    assert recall(path, key) is None
    os.utime(path, (1, 1))
    remember(path, key, HASHES, states=[state_of(path)])
    assert recall(path, key) == HASHES


def test_the_cache_is_used_where_the_folder_cannot_be_written(path, tmp_path, monkeypatch):
    def refuse(place, write, **options):
        if place.parent == path.parent:
            raise BadInput("read-only")
        return written(place, write, **options)

    written = remembered.write_atomically
    monkeypatch.setattr(remembered, "write_atomically", refuse)
    remember(path, "1" * 64, HASHES)
    assert recall(path, "1" * 64) == HASHES
    assert [p.name for p in path.parent.iterdir()] == ["a.h5"]
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "data" / "a.h5" / "nowhere"))
    remember(path, "2" * 64, HASHES)  # nowhere at all, which harms nobody
    assert recall(path, "2" * 64) is None


def test_only_the_newest_entries_are_kept(path, monkeypatch):
    monkeypatch.setattr(remembered, "_MOST", 4)
    keys = [f"{number:064x}" for number in range(7)]
    for key in keys:
        remember(path, key, HASHES)
    assert [key for key in keys if recall(path, key) is None] == keys[:3]


STRANGE = [
    b"", b"\xff", b"[]", b"{}", b'{"format": 2, "hashes": {}}', b'{"format": 1, "hashes": []}',
    b"[" * 100_000, json.dumps({"format": 1, "hashes": {"1" * 64: {"X": "short"}}}).encode(),
    json.dumps({"format": 1, "hashes": {"1" * 64: ["X"]}}).encode(), b"x" * (1 << 21),
]  # fmt: skip


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_what_a_stranger_left_there_is_ignored_and_replaced(path, content):
    place = path.with_name("a.h5.pydnn-hashes.json")
    place.write_bytes(content)
    assert recall(path, "1" * 64) is None
    remember(path, "1" * 64, HASHES)
    assert recall(path, "1" * 64) == HASHES


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are made")
def test_a_link_or_a_pipe_in_its_place_is_not_followed(path, tmp_path):
    place, elsewhere = path.with_name("a.h5.pydnn-hashes.json"), tmp_path / "elsewhere"
    elsewhere.write_text("keep me")
    place.symlink_to(elsewhere)
    remember(path, "1" * 64, HASHES)
    assert elsewhere.read_text() == "keep me"
    place.unlink()
    os.mkfifo(place)
    assert recall(path, "2" * 64) is None


def test_a_missing_file_has_no_state(tmp_path):
    with pytest.raises(BadInput, match=r"a\.h5 cannot be read \(No such file"):
        state_of(tmp_path / "a.h5")
