"""Runs that pydnn 0.1.0 recorded can be opened, replayed and resumed, with the same bits.

`old_runs/record.py` made them, in portable arithmetic.
"""

import json
import shutil
from pathlib import Path

import pytest

from pydnn import BadInput
from pydnn.cli import main
from pydnn.jobs.job import prepare, run
from pydnn.jobs.model import load_model
from pydnn.runs import Run
from pydnn.runs.diff import difference
from pydnn.runs.inspect import look_into
from pydnn.runs.replay import verify
from pydnn.runs.state_arrays import state_fingerprint

KEPT = Path(__file__).parents[1] / "old_runs"
# For each run: its data, its segments, and the fingerprint of its newest state.
RUNS = {
    "streamed": (
        "wide.h5",
        [0, 8],
        "60efce287ef7399f9fbab18f20e17bd76bac09445dd4f45dbdc4f920213c8034",
    ),
    "stated": (
        "wide.h5",
        [0, 8],
        "3c02c125e495dd9948cf61e5c3d443db011b741b6016c4e32014677f784bd35f",
    ),
    "cut": (
        "small.h5",
        [0, 4, 8, 9],
        "5fe13060587d377149abeba69418d4adb7c1be26bf31859c0ecf84a2fb0b360e",
    ),
    # With features that later versions refuse to standardize.
    "narrow": (
        "narrow.h5",
        [0, 4, 8],
        "ab1fd29c56bef7572761f63a916c986fea56788413205e37b35d51cd51ca3848",
    ),
    "stopped": (
        "small.h5",
        [0, 15, 24],
        "fb040e6e6e088892bd04006bbc73dc0f9a386b8315b323f7bee9322d88414f47",
    ),
    "rotated": (
        "wide.h5",
        [0, 15, 30, 40],
        "1d8229c9ebc465a7e3803ab47c759317de6aeab66ee0e82a7a070388e0766e10",
    ),
}


@pytest.fixture(params=RUNS)
def name(request):
    return request.param


def data_of(name):
    return str(KEPT / RUNS[name][0])


@pytest.fixture
def copied(tmp_path):
    """Copies of all runs, for commands that write."""
    shutil.copytree(KEPT, tmp_path / "old")
    return tmp_path / "old"


def test_it_is_opened_and_all_its_bits_come_out_again(name):
    _, iterations, fingerprint = RUNS[name]
    opened = Run.open(KEPT / name, data=data_of(name))
    assert [segment.iteration for segment in opened.segments] == iterations
    assert opened.fingerprint == fingerprint
    assert state_fingerprint(opened.stored(opened.segments[-1])) == fingerprint
    assert [verified.mismatch for verified in verify(opened)] == [None] * len(iterations)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("step", [0, 7])
def test_any_step_of_it_is_looked_into(name, step):
    opened = Run.open(KEPT / name, data=data_of(name))
    record, tensors = look_into(opened, step)
    assert record.info.cost == opened.costs[step]
    assert "forward" in {tensor.part for tensor in tensors}


def test_it_goes_on_to_the_bits_of_a_training_without_a_pause(copied, capsys):
    assert main(["resume", str(copied / "cut"), "--data", str(copied / "small.h5")]) == 0
    opened = Run.open(copied / "cut", data=data_of("cut"))
    assert opened.iterations == 12
    *_, (whole, _) = run(prepare(opened.recipe, opened.data.train))
    assert opened.fingerprint == state_fingerprint(whole)
    assert all(verified.mismatch is None for verified in verify(opened))


def test_features_that_a_new_job_refuses_are_standardized_as_they_were(copied, capsys):
    opened = Run.open(KEPT / "narrow", data=data_of("narrow"))
    assert opened.job.inputs.standardization.deviation[[2, 3], 0].tolist() == [1.0, 1.0]
    with pytest.raises(BadInput, match=r"feature 2 goes from .* a spread too small"):
        prepare(opened.recipe, opened.data.train)
    argv = ["resume", str(copied / "narrow"), "--data", str(copied / "narrow.h5")]
    assert main(argv) == 0
    longer = Run.open(copied / "narrow", data=data_of("narrow"))
    assert longer.iterations == 12
    assert all(verified.mismatch is None for verified in verify(longer))


def test_one_that_has_ended_is_resumed_past_its_end(copied, capsys):
    path = copied / "rotated"
    argv = ["resume", str(path), "--data", str(copied / "wide.h5"), "--iterations", "50"]
    assert main(argv) == 0
    opened = Run.open(path, data=data_of("rotated"))
    assert opened.iterations == 50
    assert all(verified.mismatch is None for verified in verify(opened))


def test_one_that_was_stopped_early_stays_so(copied, capsys):
    path = copied / "stopped"
    assert main(["resume", str(path), "--data", str(copied / "small.h5"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["iterations"], result["kept_iteration"]) == (24, 16)


def test_two_of_them_are_compared(copied):
    a = Run.open(KEPT / "cut", data=data_of("cut"))
    assert difference(a, a).parting is None
    stopped = Run.open(KEPT / "stopped", data=data_of("stopped"))
    assert difference(a, stopped).parting.step == 0


@pytest.mark.parametrize("name", ["stopped", "rotated"])
def test_its_model_still_answers_where_it_is_trusted_without_a_checksum(name, capsys):
    argv = ["evaluate", str(KEPT / name), "--data", data_of(name), "--json"]
    assert main(argv) == 2
    assert "has no checksum, " in capsys.readouterr().err
    assert main([*argv, "--unverified"]) == 0
    expected = {"stopped": 0.9, "rotated": 0.75}[name]
    assert json.loads(capsys.readouterr().out)["test"]["accuracy"] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stopped", "rotated"])
def test_resume_writes_its_model_again_with_a_checksum(name, copied, capsys):
    folder, data = copied / name, str(copied / RUNS[name][0])
    old = load_model(folder / "model.h5", unverified=True)
    assert main(["resume", str(folder), "--data", data, "--quiet"]) == 0
    new = load_model(folder / "model.h5")
    assert new.parameters.vector.tobytes() == old.parameters.vector.tobytes()
    assert new.costs.tobytes() == old.costs.tobytes()
    assert main(["replay", str(folder), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["foreign_model"] is None
