"""Reading a recorded sweep: also what failed, goes on or is damaged."""

import shutil

import numpy as np
import pytest

from pydnn import BadInput, Batch, Key
from pydnn.data import DataSet
from pydnn.recipes.recipe import Recipe
from pydnn.reports import report_of_sweep
from pydnn.sweeps import outcomes, run_sweep, sweep
from pydnn.sweeps.recorded import is_sweep, read_sweep, swept_runs

X = Key(2).at("X").normal((3, 40))
DATA = DataSet(Batch(X, X[:1] * X[1:2] > 0), Batch(X[:, :9] + 0.1, X[:1, :9] > 0))
RECIPE = Recipe(
    data="points",
    network="serial(dense(4), relu(), dense(1))",
    loss="sigmoid_cross_entropy()",
    optimizer="momentum(learning_rate=0.1)",
    iterations=6,
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep of which one rate diverges, and its result."""
    path = tmp_path_factory.mktemp("sweeps") / "swept"
    plan = sweep(RECIPE, DATA, seeds=2, over={"optimizer.learning_rate": [0.1, 1e300]})
    return path, run_sweep(plan, record=path)


@pytest.fixture
def copy(swept, tmp_path):
    shutil.copytree(swept[0], tmp_path / "swept")
    return tmp_path / "swept"


def by_name(runs):
    return {run.name: run for run in runs}


def test_a_recorded_sweep_is_read_as_it_was_in_memory(swept):
    path, result = swept
    recipe, runs = read_sweep(path)
    assert is_sweep(path)
    assert recipe == RECIPE
    for here in swept_runs(result):
        [run] = [run for run in runs if run.recipe == here.recipe]
        assert run.scores == here.scores
        assert (run.steps, run.stopped, run.failure) == (here.steps, here.stopped, here.failure)
        assert np.array_equal(run.costs, here.costs)
    assert sorted(bool(run.failure) for run in runs) == [False, False, True, True]
    assert all("stopped being finite" in run.failure for run in runs if run.failure)


def test_a_training_without_an_outcome_says_how_far_it_is(copy):
    [folder, *_] = (run.name for run in read_sweep(copy)[1] if run.scores)
    (copy / folder / "outcome.json").unlink()
    run = by_name(read_sweep(copy)[1])[folder]
    assert not run.finished
    assert run.scores == {}
    assert run.failure == "not finished, after step 6 of 6 (finished)"
    assert len(run.costs) == 6


@pytest.mark.parametrize("name", ["recipe.toml", "outcome.json", "model.h5"])
def test_a_damaged_training_is_named_and_the_others_are_read(copy, name):
    [folder, *_] = (run.name for run in read_sweep(copy)[1] if run.scores)
    (copy / folder / name).write_bytes(b"\xff\x00")
    runs = by_name(read_sweep(copy)[1])
    assert len(runs) == 4
    assert folder in runs[folder].failure
    assert not runs[folder].finished
    assert sum(bool(run.scores) for run in runs.values()) == 1


def test_trainings_that_have_not_begun_are_planned(tmp_path):
    path = tmp_path / "swept"
    plan = sweep(RECIPE, DATA, seeds=3)
    for _ in outcomes(plan, record=path):
        break
    begun, *left = read_sweep(path)[1]
    assert begun.scores
    assert begun.begun
    assert [run.recipe for run in left] == [one.recipe for one in plan.runs[1:]]
    assert not any(run.begun or run.finished or run.failed or run.steps for run in left)
    assert {run.failure for run in left} == {"planned, not begun"}
    text = report_of_sweep(path)
    assert "3 trainings on points: 3 seeds, 2 planned and not begun." in text
    assert all(run.name in text for run in left)
    run_sweep(sweep(RECIPE, DATA, seeds=2), record=path)  # which plans anew
    assert len(read_sweep(path)[1]) == 2


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[" * 100_000, b"\xff", b'["seed-1-0123456789ab"]',
     b'["../other", "iterations = 3"]', b'["seed-1-0123456789ab", 3]',
     b'["seed-%s-0123456789ab", ""]' % (b"1" * 300), b'["seed-1-0123456789ab", "evil = "]',
     b'["seed-1-0123456789ab", "network = \'evil:part()\'"]'],
)  # fmt: skip
def test_a_damaged_plan_plans_less(copy, line):
    known = len(read_sweep(copy)[1])
    with (copy / "planned.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert len(read_sweep(copy)[1]) == known
    (copy / "planned.jsonl").unlink()
    assert len(read_sweep(copy)[1]) == known


def test_other_files_and_folders_are_left_alone(copy):
    (copy / "notes").mkdir()
    (copy / "seed-1-0123456789ab.txt").write_text("mine")
    assert len(read_sweep(copy)[1]) == 4


def test_what_is_not_a_sweep_is_refused(copy, tmp_path):
    with pytest.raises(BadInput, match="expected the folder of a sweep"):
        read_sweep(tmp_path)
    (copy / "planned.jsonl").unlink()
    for entry in copy.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    with pytest.raises(BadInput, match="has no training yet"):
        read_sweep(copy)


def test_a_part_of_ones_own_is_not_imported_for_a_file(copy):
    text = (copy / "sweep.toml").read_text()
    (copy / "sweep.toml").write_text(text.replace('"serial(', '"serial(evil_module:part(), '))
    with pytest.raises(BadInput, match="evil_module"):
        read_sweep(copy)


def test_long_curves_are_thinned_to_steps_that_they_share():
    from pydnn.sweeps.recorded import _thinned

    for n in (0, 1, 400, 401, 100_000):
        at, costs = _thinned(np.arange(n, dtype=float))
        assert len(at) <= 400
        assert np.array_equal(at, costs)
    shorter, longer = (_thinned(np.zeros(n))[0] for n in (1000, 5000))
    assert len(np.intersect1d(shorter, longer)) > 60
