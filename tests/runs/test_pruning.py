"""A pruned run keeps what proves it, and everything still works with it."""

import attrs
import h5py
import numpy as np
import pytest
import toolz
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from resealing import flip, resealed
from small_runs import recorded, resumed, small_data, small_recipe

from pydnn import BadInput
from pydnn.cli import main
from pydnn.jobs.job import prepare, run
from pydnn.runs import Run, create_run, prune, record
from pydnn.runs import run as run_module
from pydnn.runs.diff import difference
from pydnn.runs.folder import read_folder
from pydnn.runs.pruning import size_of, thinned
from pydnn.runs.replay import verify
from pydnn.runs.state_arrays import state_fingerprint


@pytest.fixture
def made(tmp_path):
    """A finished run of seven segments."""
    recorded(tmp_path / "run", small_recipe(tmp_path), every=2)
    return tmp_path / "run"


def stored(path):
    return [s.iteration for s in Run.open(path).segments if s.holds_state()]


@pytest.mark.slow
def test_the_first_and_the_newest_state_stay_and_all_fingerprints(made):
    before = Run.open(made)
    states = [state_fingerprint(state) for state in before.states()]
    size = size_of(made)
    pruned = prune(made)
    assert pruned.dropped == (2, 4, 6, 8, 10)
    assert pruned.kept == (0, 12) == tuple(stored(made))
    assert pruned.size == size_of(made) < size
    after = Run.open(made)
    assert [s.fingerprint for s in after.segments] == [s.fingerprint for s in before.segments]
    assert list(after.infos) == list(before.infos)
    assert [state_fingerprint(state) for state in after.states()] == states
    assert prune(made) == attrs.evolve(pruned, dropped=(), freed=0)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.slow
def test_every_segment_of_it_is_still_verified(made, jobs):
    prune(made, every=3)
    assert stored(made) == [0, 6, 12]
    results = list(verify(Run.open(made), jobs=jobs))
    assert [verified.number for verified in results] == list(range(7))
    assert all(verified.mismatch is None for verified in results)
    [alone] = verify(Run.open(made), [5])
    assert (alone.mismatch, alone.iteration, alone.steps) == (None, 10, 2)


def test_a_wrong_step_is_found_without_the_states_around_it(tmp_path):
    from small_runs import flipping

    recorded(tmp_path / "run", small_recipe(tmp_path), every=2, change=flipping(5))
    prune(tmp_path / "run")
    mismatches = [v.mismatch for v in verify(Run.open(tmp_path / "run"))]
    assert mismatches[:3] == [None] * 3
    assert mismatches[3].step == 5


def test_a_dry_run_changes_nothing(made):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    pruned = prune(made, dry_run=True)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    assert pruned.freed > 0
    assert prune(made).dropped == pruned.dropped


@pytest.mark.slow
def test_it_is_resumed_and_compared_as_before(made, tmp_path):
    recorded(tmp_path / "whole", small_recipe(tmp_path, iterations=18), every=2)
    prune(made)
    resumed(made, iterations=18)
    assert Run.open(made).fingerprint == Run.open(tmp_path / "whole").fingerprint
    assert difference(Run.open(made), Run.open(tmp_path / "whole")).parting is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["0000000000.h5", "0000000006.h5", "0000000012.h5"])
def test_it_outlives_the_loss_of_any_segment(made, name):
    whole = Run.open(made).fingerprint
    prune(made)
    flip(made / "segments" / name, 700)
    resumed(made, every=2)
    assert Run.open(made).fingerprint == whole


def test_a_damaged_run_is_not_pruned(made):
    flip(made / "segments" / "0000000004.h5", 700)
    with pytest.raises(BadInput, match=r"0000000004\.h5 is damaged"):
        prune(made)
    assert not (made / "set-aside").exists()


@pytest.mark.parametrize(("every", "message"), [(0, "every is 0"), ("2", "every is '2'")])
def test_a_number_of_segments_that_is_none_is_refused(made, every, message):
    with pytest.raises(BadInput, match=message):
        prune(made, every=every)


@pytest.mark.slow
def test_the_command_line_says_how_much_it_frees(made, capsys):
    assert main(["prune", str(made), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would drop 5 of 7 states of")
    assert main(["prune", str(made)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("dropped 5 of 7 states of")
    assert "states that are stored: after 0, 12 steps; the run takes 0." in output
    assert main(["replay", str(made)]) == 0
    assert "all bits of 12 steps are the recorded ones" in capsys.readouterr().out


# While a run is recorded


@pytest.mark.slow
def test_a_run_stays_below_its_bytes_and_ends_as_any_other(tmp_path):
    recipe, data = small_recipe(tmp_path, iterations=20), small_data()
    job = prepare(recipe, data.train)
    with create_run(tmp_path / "run", job, data, most=75_000) as recording:
        toolz.last(record(recording, run(job), every=1))
    segments = Run.open(tmp_path / "run").segments
    assert len(segments) == 21
    kept = stored(tmp_path / "run")
    assert kept[-1] == 20
    whole, _ = toolz.last(run(job))
    assert Run.open(tmp_path / "run").fingerprint == state_fingerprint(whole)
    assert all(verified.mismatch is None for verified in verify(Run.open(tmp_path / "run")))


@example_count(60)
@given(st.integers(2, 300), st.integers(2, 12))
def test_states_that_remain_lie_about_evenly(count, most):
    held = []
    for iteration in range(count):
        held = thinned([*held, iteration], lambda: len(alive), lambda i: alive.remove(i),
                       most=most) if (alive := {*held, iteration}) else []  # fmt: skip
    assert held[-1] == count - 1
    assert len(held) == min(count, most)
    gaps = np.diff([0, *held])
    if count > 4 * most > 12:
        assert gaps.max() <= 4 * count / most


def test_the_state_before_a_change_of_the_machine_stays():
    alive = {0, 1, 2, 3}
    held = thinned([0, 1, 2, 3], lambda: len(alive), alive.remove, most=1, staying=[1])
    assert held == [1, 3]


@pytest.mark.slow
def test_it_stays_however_long_the_run_goes_on(tmp_path, monkeypatch):

    recorded(tmp_path / "run", small_recipe(tmp_path), every=1, steps=3)
    here = run_module.current_environment()
    there = attrs.evolve(here, arithmetic={**here.arithmetic, "exp": "0" * 64})
    monkeypatch.setattr(run_module, "current_environment", lambda numerics, **options: there)
    resumed(tmp_path / "run", every=1, anyway=True, most=1)
    held = [
        s.iteration for s in Run.open(tmp_path / "run", anyway=True).segments if s.holds_state()
    ]
    assert held == [3, 12]


def as_group(file):
    del file["parameters"]
    file.create_group("parameters")


def as_type(file):
    del file["parameters"]
    file["parameters"] = np.dtype("f8")


def as_loop(file):
    del file["parameters"]
    file["parameters"] = h5py.SoftLink("parameters")


def as_nothing(file):
    del file["parameters"]
    file["parameters"] = h5py.Empty("f8")


def claiming(file):
    del file["parameters"]
    file.create_dataset("parameters", (1 << 40,), "f8", chunks=(1 << 10,))


@pytest.mark.parametrize("change", [as_group, as_type, as_loop, as_nothing, claiming])
def test_the_state_of_a_forged_segment_takes_no_more_than_its_file(made, change):
    path = made / "segments" / f"{4:010}.h5"
    resealed(path, change)
    [forged] = [s for s in Run.open(made).segments if s.iteration == 4]
    assert 0 <= forged.state_bytes() <= path.stat().st_size


def test_a_damaged_list_of_arrays_is_one_line(made, monkeypatch):
    def damaged(*args, **keywords):
        raise RuntimeError("Unable to get the link\nand more")

    segment = Run.open(made).segments[2]
    monkeypatch.setattr(h5py.File, "get", damaged)
    with pytest.raises(BadInput, match=r"the list of arrays in .* is damaged"):
        segment.state_bytes()


def test_the_folder_knows_which_segments_hold_a_state(made):
    prune(made, every=3)
    folder = Run.open(made).folder
    assert [segment.iteration for segment in folder.holding] == [0, 6, 12]
    assert [folder.nearest_holding(i).iteration for i in (0, 5, 6, 11, 12)] == [0, 0, 6, 6, 12]
    assert folder.segment_at(4).iteration == 4
    assert folder.segment_at(5) is None
    assert folder.staying == {0, 12}
    (made / "segments" / f"{4:010}.h5").unlink()
    broken = read_folder(made)
    assert [segment.iteration for segment in broken.segments] == [0, 2]
    assert [s.iteration for s in broken.whole.segments] == [0, 2, 6, 8, 10, 12]
    assert broken.lost_all_segments is None
