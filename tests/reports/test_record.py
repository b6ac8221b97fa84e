import re
import shutil
from datetime import UTC, datetime

import attrs
import pytest

from pydnn.reports.record import what_is_verified
from pydnn.runs import Run, note_verified, verify

NOON = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)


@pytest.fixture
def copy(run, points, tmp_path):
    shutil.copytree(run.path, tmp_path / "copy")
    return Run.open(tmp_path / "copy", data=points)


@pytest.fixture(scope="module")
def done(run):
    return list(verify(run))


def said(run):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", "".join(what_is_verified(run))))


def test_without_a_note_the_report_says_how_to_replay(copy):
    text = said(copy)
    assert "No replay of this run has left a note. pydnn replay computes" in text
    assert copy.fingerprint in text
    assert copy.segments[-1].fingerprint in text


def test_a_replay_of_all_steps_is_said_so(copy, done):
    note_verified(copy, done, when=NOON, by="4 processes")
    text = said(copy)
    assert "All 30 steps have been repeated bit for bit." in text
    assert "2026-11-29 12:30:00 30 (0 to 29) the same bits 4 processes" in text
    assert "as recorded" in text


def test_a_replay_of_some_steps_counts_these_alone(copy, done):
    note_verified(copy, done[1:2], when=NOON)
    steps = done[1].steps
    expected = "All" if steps == copy.iterations else f"{steps} of"
    assert f"{expected} 30 steps have been repeated" in said(copy)


def test_the_initial_state_alone_is_not_a_step(copy, done):
    note_verified(copy, done[:1], when=NOON)
    assert "0 of 30 steps have been repeated" in said(copy)
    assert "the initial state the same bits" in said(copy)


def test_a_difference_comes_first(copy, done):
    note_verified(copy, done, when=NOON, difference="model.h5 is <b>another</b>")
    text = said(copy)
    assert "1 replay found a difference. No step has been repeated." in text
    assert "model.h5 is &lt;b&gt;another" in text


def test_operations_that_were_computed_differently_are_named(copy, done):
    here = copy.environment_here
    other = attrs.evolve(here, arithmetic={**here.arithmetic, "exp": "0" * 64})
    note_verified(copy, done, when=NOON, environment=other)
    assert "exp differ from the recording" in said(copy)


def test_a_damaged_note_is_left_out_with_a_line(copy, done):
    note_verified(copy, done, when=NOON).write_text("{")
    assert "A note of a replay is left out:" in said(copy)
