import json
import os
from datetime import UTC, datetime, timedelta, timezone

import attrs
import numpy as np
import pytest
from small_runs import recorded, small_recipe

from pydnn import BadInput
from pydnn.runs import note_verified, verifications_of, verify
from pydnn.runs.mismatches import Mismatch
from pydnn.runs.run import Run
from pydnn.runs.segments import sha256_of

NOON = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """A run and the results of replaying it."""
    folder = tmp_path_factory.mktemp("replayed")
    recorded(folder / "run", small_recipe(folder))
    run = Run.open(folder / "run")
    return run, list(verify(run))


@pytest.fixture
def run(replayed):
    run, _ = replayed
    yield run
    for path in run.path.glob("verified-*"):
        path.unlink()


@pytest.fixture
def done(replayed):
    return replayed[1]


def test_a_note_says_when_what_and_by_whom(run, done):
    here = run.environment_here
    path = note_verified(run, done, when=NOON, by="4 processes")
    assert path == run.path / "verified-0001.json"
    [one], wrong = verifications_of(run)
    assert wrong == []
    assert (one.when, one.by, one.steps) == ("2026-11-29T12:30:00Z", "4 processes", 12)
    assert (one.ranges, one.iteration, one.same) == (((0, 12),), 12, True)
    assert one.fingerprint == run.segments[-1].fingerprint
    assert one.environment == here


def test_the_time_is_that_of_utc_in_whatever_zone_it_is_given(run, done):
    note_verified(run, done, when=NOON.astimezone(timezone(timedelta(hours=9))))
    assert verifications_of(run)[0][0].when == "2026-11-29T12:30:00Z"


def test_equal_replays_leave_equal_bytes_under_other_names(run, done):
    texts = {note_verified(run, done, when=NOON).read_bytes() for _ in range(3)}
    assert len(texts) == 1
    assert len(verifications_of(run)[0]) == 3


def test_parts_of_a_run_are_noted_as_ranges_of_steps(run, done):
    note_verified(run, [done[0], done[2], done[3]], when=NOON)
    note_verified(run, [done[1], done[3]], when=NOON)
    newest, older = verifications_of(run)[0]
    assert (newest.ranges, newest.steps) == (((0, 4), (8, 12)), 8)
    assert (older.ranges, older.steps) == (((4, 12),), 8)


def test_a_difference_is_noted_in_words_that_can_be_shown(run, done):
    mismatch = Mismatch(3, "observed \x1b[2J", np.float64(1.0), np.float64(1.5))
    note_verified(run, [attrs.evolve(done[0], mismatch=mismatch)], when=NOON)
    note_verified(run, done, when=NOON, difference="model.h5 is another\u202e")
    model, number = verifications_of(run)[0]
    assert not model.same
    assert not number.same
    assert number.difference.startswith("step 3: observed \\x1b[2J differs, recorded 0x1.0")
    assert model.difference == "model.h5 is another\\u202e"


def test_the_oldest_notes_go_when_there_are_more_than_50(run, done, monkeypatch):
    for _ in range(4):
        monkeypatch.setattr("pydnn.runs.verified._MOST", 3)
        note_verified(run, done, when=NOON)
    assert sorted(p.name for p in run.path.glob("verified-*")) == [
        f"verified-000{n}.json" for n in (2, 3, 4)
    ]


def test_nothing_verified_is_nothing_to_note(run):
    with pytest.raises(BadInput, match="no segment was verified"):
        note_verified(run, [], when=NOON)


def changed(path, change):
    """Change what a note says, with or without a new checksum."""
    plain = json.loads(path.read_text())
    del plain["sha256"]
    plain.update(change)
    path.write_text(json.dumps({**plain, "sha256": sha256_of(json.dumps(plain))}) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "does not say what was verified"),
        ({"steps": True}, "does not say what was verified"),
        ({"when": "yesterday"}, "does not say what was verified"),
        ({"by": "\x1b[2J"}, "does not say what was verified"),
        ({"by": "x" * 501}, "does not say what was verified"),
        ({"ranges": [[4, 4]]}, "does not say what was verified"),
        ({"ranges": [[0, 2**63]]}, "does not say what was verified"),
        ({"ranges": [[0, 1]] * 101}, "does not say what was verified"),
        ({"environment": {}}, "has no versions"),
        ({"iteration": 11}, "about other steps"),
        ({"fingerprint": "0" * 64}, "about other steps"),
        ({"more": 1}, "is not that of its text"),
    ],
)
def test_a_note_that_says_something_else_is_refused_and_the_others_stay(run, done, change, message):
    changed(note_verified(run, done, when=NOON), change)
    note_verified(run, done, when=NOON)
    known, [wrong] = verifications_of(run)
    assert len(known) == 1
    assert message in wrong
    assert wrong.isprintable()


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000, b"null", b"1" * 5000])
def test_a_damaged_note_is_refused(run, done, content):
    note_verified(run, done, when=NOON).write_bytes(content)
    known, [wrong] = verifications_of(run)
    assert known == []
    assert "verified-0001.json" in wrong


def test_every_changed_byte_of_a_note_is_noticed(run, done):
    path = note_verified(run, done, when=NOON)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert len(verifications_of(run)[1]) == 1


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no symbolic links")
def test_a_link_is_not_followed(run, done, tmp_path):
    path = note_verified(run, done, when=NOON)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert "symbolic link" in verifications_of(run)[1][0]


def test_notes_change_nothing_else_about_a_run(run, done):
    note_verified(run, done, when=NOON)
    assert Run.open(run.path).fingerprint == run.fingerprint
    assert Run.open(run.path).folder.faults == ()
