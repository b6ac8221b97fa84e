import os

import pytest

from pydnn.board.finding import find_runs
from pydnn.sweeps.planned import write_planned

posix = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


def test_runs_and_sweeps_by_hand(tmp_path):
    for name in ("run-10", "run-9", "deep/er/run", "sweep/one", "sweep/two", ".hidden", "plain"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("run-10", "run-9", "deep/er/run", "sweep/one", ".hidden"):
        (tmp_path / name / "recipe.toml").touch()
    (tmp_path / "sweep/two/segments").mkdir()
    (tmp_path / "sweep/sweep.toml").touch()
    (tmp_path / "run-9/inside/segments").mkdir(parents=True)  # what is in a run is no run
    (tmp_path / "file").touch()
    found = find_runs(tmp_path)
    assert [(one.name, one.sweep) for one in found] == [
        ("deep/er/run", ""),
        ("run-9", ""),
        ("run-10", ""),
        ("sweep/one", "sweep"),
        ("sweep/two", "sweep"),
    ]
    assert found[0].path == tmp_path / "deep" / "er" / "run"


def test_the_folder_itself_may_be_a_run_or_a_sweep(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "recipe.toml").touch()
    (tmp_path / "sweep.toml").touch()
    assert [(one.name, one.sweep) for one in find_runs(tmp_path)] == [("one", tmp_path.name)]
    assert [one.name for one in find_runs(tmp_path / "one")] == ["one"]
    assert find_runs(tmp_path / "missing") == []


@posix
def test_links_and_deep_folders_end_the_search(tmp_path):
    (tmp_path / "runs" / "loop").mkdir(parents=True)
    (tmp_path / "runs" / "loop" / "again").symlink_to(tmp_path / "runs")
    deep = tmp_path / "runs"
    for number in range(20):
        deep = deep / str(number)
    deep.mkdir(parents=True)
    (deep / "recipe.toml").touch()
    assert find_runs(tmp_path / "runs") == []


def test_trainings_that_a_sweep_plans_are_found_until_they_have_a_folder(tmp_path):
    names = [f"seed-{seed}-0123456789ab" for seed in (1, 2)]
    (tmp_path / "sweep" / names[0]).mkdir(parents=True)
    (tmp_path / "sweep" / names[0] / "recipe.toml").touch()
    write_planned(tmp_path / "sweep", dict.fromkeys(names, "seed = 1"))
    assert [found.name for found in find_runs(tmp_path)] == [f"sweep/{names[0]}"]  # is no sweep yet
    (tmp_path / "sweep" / "sweep.toml").touch()
    begun, planned = find_runs(tmp_path)
    assert (begun.planned, planned.planned) == ("", "seed = 1")
    assert (planned.name, planned.sweep) == (f"sweep/{names[1]}", "sweep")
    assert planned.path == tmp_path / "sweep" / names[1]
