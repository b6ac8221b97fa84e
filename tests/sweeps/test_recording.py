"""A recorded sweep: each training is a run, and a sweep that is started again goes on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from sending import Sending

from pydnn import BadInput, Batch, Key, Run
from pydnn.cli import main
from pydnn.data import DataSet, save_table
from pydnn.recipes.recipe import Recipe
from pydnn.runs.replay import verify
from pydnn.storage.files import exclusive
from pydnn.sweeps import outcomes, run_sweep, sweep
from pydnn.sweeps import recording as recorded_sweeps

X = Key(2).at("X").normal((3, 40))
DATA = DataSet(Batch(X, X[:1] * X[1:2] > 0), Batch(X[:, :9] + 0.1, X[:1, :9] > 0))
RECIPE = Recipe(
    data="points.h5",
    network="serial(dense(4), relu(), dense(1))",
    loss="sigmoid_cross_entropy()",
    optimizer="momentum(learning_rate=0.1)",
    batches="mini_batches(16)",
    iterations=6,
)
RATES = {"optimizer.learning_rate": [0.1, 1e300]}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_table("points.h5", DATA)


def files_in(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def without_reason(outcomes):
    return [attrs.evolve(outcome, why_not_stacked="") for outcome in outcomes]


def test_each_training_is_a_run_with_the_bits_of_the_sweep_alone(tmp_path, command):
    plan = sweep(RECIPE, seeds=2, over=RATES)
    alone = run_sweep(plan)
    found = run_sweep(plan, record="swept")
    assert without_reason(found.outcomes) == without_reason(alone.outcomes)
    assert {o.why_not_stacked for o in found.outcomes} == {"each is recorded as a run"}
    folders = sorted(path for path in Path("swept").iterdir() if path.is_dir())
    assert len(folders) == 4
    assert all(re.fullmatch(r"seed-[12]-[0-9a-f]{12}", path.name) for path in folders)
    for path in folders:
        run = Run.open(path)
        assert all(verified.mismatch is None for verified in verify(run))
        [outcome] = [o for o in found.outcomes if o.recipe == run.recipe]
        assert outcome.costs.tolist() == run.costs.tolist()
        why = run.folder.ends[-1].why
        assert why == ("finished" if outcome.scores else "not finite")
    assert command("evaluate", folders[0])[0] == 0
    assert command("diff", folders[0], folders[1])[0] in (0, 1)
    # Started again, it repeats nothing and writes nothing.
    before, steps, begun = files_in(tmp_path), [], []
    again = run_sweep(plan, record="swept", on_progress=steps.append, on_begin=begun.append)
    assert again == found
    assert (sum(steps), begun) == (plan.steps, [])
    assert files_in(tmp_path) == before


def test_a_sweep_goes_on_with_what_is_interrupted_and_takes_more_seeds():
    class Enough(Exception):  # noqa: N818
        pass

    def stop_at(count):
        taken = []

        def step(number):
            taken.append(number)
            if len(taken) == count:
                raise Enough

        return step

    plan = sweep(attrs.evolve(RECIPE, iterations=40), DATA, seeds=2)
    with pytest.raises(Enough):
        run_sweep(plan, record="swept", on_progress=stop_at(55))
    runs = {path.name[:6]: Run.open(path) for path in Path("swept").glob("seed-*")}
    assert (runs["seed-1"].iterations, 0 < runs["seed-2"].iterations < 40) == (40, True)
    steps = []
    found = run_sweep(plan, record="swept", on_progress=steps.append)
    assert sum(steps) == plan.steps
    assert without_reason(found.outcomes) == without_reason(run_sweep(plan).outcomes)
    begun = []
    more = run_sweep(attrs.evolve(plan, runs=sweep(plan.recipe, DATA, seeds=3).runs),
                     record="swept", on_begin=begun.append)  # fmt: skip
    assert more.outcomes[:2] == found.outcomes
    assert begun == [(2,)]


@pytest.mark.slow
def test_workers_record_where_they_train_and_a_lost_outcome_is_made_again():
    plan = sweep(attrs.evolve(RECIPE, validation=0.2, evaluate_every=2, watch="validation cost",
                              patience=2), folds=2)  # fmt: skip
    found = run_sweep(plan, executor=Sending(), record="swept")
    assert without_reason(found.outcomes) == without_reason(run_sweep(plan).outcomes)
    folders = sorted(Path("swept").glob("seed-1-fold-*-of-2-*"))
    assert len(folders) == 2
    damages = [
        lambda run: (run / "outcome.json").unlink(),
        lambda run: (run / "outcome.json").write_text("{"),
        lambda run: (run / "outcome.json").write_text("[" * 100_000),
        lambda run: (run / "outcome.json").write_text(
            (run / "outcome.json").read_text().replace("accuracy", "accuracies")
        ),
        lambda run: (run / "model.h5").unlink(),
        lambda run: (run / "model.h5").write_bytes(b"none"),
    ]
    before = (folders[0] / "outcome.json").read_text()
    for damage in damages:
        damage(folders[0])
        begun = []
        assert run_sweep(plan, record="swept", on_begin=begun.append) == found
        assert begun == [(0,)]
        assert (folders[0] / "outcome.json").read_text() == before


def test_a_worker_that_does_not_see_the_folder_is_an_error_in_one_line(monkeypatch):
    plan = sweep(RECIPE, DATA)
    executor = Sending()
    started = executor.each

    def elsewhere(tasks):
        tasks = list(tasks)
        Path("swept").rename("moved")
        return started(tasks)

    monkeypatch.setattr(executor, "each", elsewhere)
    with pytest.raises(BadInput, match=r"a worker does not see the folder of the sweep at .*swept"):
        run_sweep(plan, executor=executor, record="swept")


OTHERS = {
    "another recipe": (
        lambda: sweep(attrs.evolve(RECIPE, optimizer="adam()"), DATA),
        r"swept holds a sweep of another recipe \(optimizer is 'momentum\(learning_rate=0.1\)' th",
    ),
    "a field more": (
        lambda: sweep(attrs.evolve(RECIPE, standardize=True), DATA),
        r"another recipe \(standardize is the default there and True here\): give another folder",
    ),
    "other data": (
        lambda: sweep(RECIPE, attrs.evolve(DATA, train=attrs.evolve(DATA.train, X=X + 1))),
        r"swept holds a sweep on other data \(train X differs",
    ),
}


@pytest.mark.parametrize(("other", "message"), OTHERS.values(), ids=OTHERS)
def test_the_folder_of_another_sweep_is_refused_before_training(other, message):
    run_sweep(sweep(RECIPE, DATA), record="swept")
    before = files_in(Path("swept"))
    with pytest.raises(BadInput, match=message):
        run_sweep(other(), record="swept")
    assert files_in(Path("swept")) == before


def test_folders_that_are_no_sweeps_are_refused():
    plan = sweep(RECIPE, DATA)
    Path("mine").mkdir()
    (Path("mine") / "file").touch()
    with pytest.raises(
        BadInput, match=r"mine exists and has no sweep\.toml, expected a new folder"
    ):
        run_sweep(plan, record="mine")
    Path("empty").mkdir()
    run_sweep(plan, record="empty")
    with exclusive(Path("empty/lock")), pytest.raises(BadInput, match="by another process"):
        run_sweep(plan, record="empty")
    (Path("empty") / "sweep.toml").write_text("data = 1")
    with pytest.raises(BadInput, match="another recipe"):
        run_sweep(plan, record="empty")


def test_the_run_of_another_recipe_under_the_name_of_ours_is_refused():
    plan = sweep(RECIPE, DATA, seeds=2)
    run_sweep(plan, record="swept")
    one, two = sorted(Path("swept").glob("seed-*"))
    shutil.rmtree(two)
    one.rename(two)
    with pytest.raises(BadInput, match=r"seed-2-\w+ is the run of another recipe: move it else"):
        run_sweep(plan, record="swept")


def test_two_trainings_of_one_recipe_are_refused_before_the_folder_is_made():
    plan = sweep(RECIPE, DATA, over={"iterations": [4, 6, 4]})
    with pytest.raises(
        BadInput, match=r"two trainings have the same recipe, one with .'iterations"
    ):
        run_sweep(plan, record="swept")
    assert not Path("swept").exists()


def test_what_a_killed_process_left_is_removed_when_the_sweep_goes_on():
    plan = sweep(RECIPE, DATA)
    list(outcomes(plan, record="swept"))
    (Path("swept") / ".seed-9.1-2.part").mkdir()
    (Path("swept") / ".sweep.toml.1-2.part").touch()
    list(outcomes(plan, record="swept"))
    assert not list(Path("swept").glob(".*"))


def test_the_environment_is_measured_once_for_all_trainings(monkeypatch):
    recorded_sweeps._environment.cache_clear()
    measured = []
    current = recorded_sweeps.current_environment

    def measure(numerics, **options):
        measured.append(numerics)
        return current(numerics, **options)

    monkeypatch.setattr(recorded_sweeps, "current_environment", measure)
    run_sweep(sweep(RECIPE, DATA, seeds=3), record="swept")
    assert len(measured) == 1


KILLED = """
import sys
import pydnn.cli
sys.exit(pydnn.cli.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_sweep_that_is_killed_at_any_moment_gives_the_same_table(tmp_path, command):
    from pydnn.recipes.toml import write_recipe

    Path("recipe.toml").write_text(write_recipe(attrs.evolve(RECIPE, iterations=300)))
    argv = ["sweep", "recipe.toml", "--seeds", "3", "--learning-rates", "0.1,0.01",
            "--executor", "processes", "--workers", "2", "--json"]  # fmt: skip
    whole = json.loads(command(*argv)[1])
    key = Key(7).at("moments")
    for turn in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, *argv, "--record", "swept"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1.5 + 2.5 * float(key.at(turn).uniform(1)[0]))
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # its workers end with it
    status, out, _ = command(*argv, "--record", "swept")
    assert status == 0
    result = json.loads(out)
    assert [run["costs"] for run in result["runs"]] == [run["costs"] for run in whole["runs"]]
    assert [run["scores"] for run in result["runs"]] == [run["scores"] for run in whole["runs"]]
    for path in Path("swept").glob("seed-*"):
        assert all(verified.mismatch is None for verified in verify(Run.open(path)))
    assert not list(Path("swept").glob(".*"))
    assert main(["replay", str(path)]) == 0
