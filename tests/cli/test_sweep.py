"""`pydnn sweep`, as a person and as a program would use it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pydnn import Batch, Key
from pydnn.data import DataSet, save_table
from pydnn.jobs.model import load_model

RECIPE = """
data = "points.h5"
network = "serial(dense(4), relu, dense(1))"
loss = "sigmoid_cross_entropy"
optimizer = "gradient_descent(learning_rate=0.1)"
batches = "mini_batches(16)"
iterations = 15
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = Key(1).at("X").normal((2, 80))
    Y = (X[:1] * X[1:] > 0).astype(float)
    save_table("points.h5", DataSet(Batch(X[:, 20:], Y[:, 20:]), Batch(X[:, :20], Y[:, :20])))
    (tmp_path / "recipe.toml").write_text(RECIPE)


def test_a_sweep_prints_mean_spread_and_the_best(command):
    status, out, err = command("sweep", "recipe.toml", "--seeds", 6, "--validation", 0.25)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["mean", "deviation", "min", "max", "count"]
    scores = [" ".join(line.split()[:2]) for line in lines[1:6]]
    assert scores == [
        "final cost", "validation cost", "train accuracy", "validation accuracy", "test accuracy",
    ]  # fmt: skip
    mean, deviation, least, greatest, runs = map(float, lines[1].split()[2:])
    assert least < mean < greatest
    assert 0 < deviation < greatest - least
    assert runs == 6
    assert lines[7].startswith("best by validation cost 0.")
    assert "6 at the same time" in out


def test_programs_get_every_number_of_every_run(command):
    argv = ["sweep", "recipe.toml", "--seeds", "3,9", "--learning-rates", "0.1,0.01", "--json"]
    status, out, _ = command(*argv, "--penalty-strengths", "0,0.5")
    result = json.loads(out)
    assert status == 0
    assert sorted(result) == ["best", "best_by", "runs", "seconds", "spread"]
    assert [run["seed"] for run in result["runs"]] == [3, 9] * 4
    assert result["runs"][2]["setting"] == {
        "optimizer.learning_rate": 0.1,
        "penalties.strength": 0.5,
    }
    costs = [run["scores"]["train cost"] for run in result["runs"]]
    assert result["best"] == int(np.argmin(costs))
    assert result["best_by"] == "train cost"
    assert all(run["together"] and len(run["costs"]) == 15 for run in result["runs"])
    finals = [run["costs"][-1] for run in result["runs"][:2]]
    spread = result["spread"][0]["scores"]["final cost"]
    assert spread["mean"] == pytest.approx(np.mean(finals))
    assert spread["deviation"] == pytest.approx(np.std(finals, ddof=1))
    # The same numbers as in one training after the other.
    argv += ["--penalty-strengths", "0,0.5", "--one-by-one"]
    apart = json.loads(command(*argv)[1])
    assert [run["costs"] for run in apart["runs"]] == [run["costs"] for run in result["runs"]]
    assert not any(run["together"] for run in apart["runs"])


def test_a_run_of_a_sweep_is_what_train_gives(command):
    swept = json.loads(command("sweep", "recipe.toml", "--seeds", 4, "--json")[1])
    trained = json.loads(command("train", "recipe.toml", "--seed", 3, "--json")[1].splitlines()[-1])
    assert swept["runs"][2]["costs"] == trained["costs"]
    assert swept["runs"][2]["scores"]["test accuracy"] == trained["test_accuracy"]


def test_the_best_model_is_saved_for_the_other_commands(command):
    argv = ["sweep", "recipe.toml", "--seeds", 4, "--standardize", "--best-by", "test accuracy"]
    status, out, _ = command(*argv, "--save-best", "best")
    assert status == 0
    assert out.splitlines()[-1].startswith("model best")
    result = json.loads(command(*argv, "--json")[1])
    best = result["runs"][result["best"]]
    assert best["scores"]["test accuracy"] == max(
        run["scores"]["test accuracy"] for run in result["runs"]
    )
    model = load_model(Path("best/model.h5"))
    assert model.recipe.seed == best["seed"]
    assert model.costs.tolist() == best["costs"]
    status, out, _ = command("evaluate", "best", "--json")
    assert status == 0
    assert json.loads(out)["test"]["accuracy"] == best["scores"]["test accuracy"]


def test_without_a_recipe_the_tutorial_s_job_is_swept(command):
    argv = ["sweep", "--data", "points.h5", "--layers", "3", "--iterations", "4", "--json"]
    first, second = json.loads(command(*argv, "--seeds", 2)[1])["runs"]
    assert first["costs"][0] != second["costs"][0]  # the seed also changes the stream of weights
    alone = json.loads(command("train", *argv[1:], "--seed", 2)[1].splitlines()[-1])
    assert second["costs"] == alone["costs"]


def test_trainings_that_diverge_are_reported_and_left_out(command):
    argv = ["sweep", "recipe.toml", "--seeds", 2, "--learning-rates", "0.1,1e40"]
    status, out, _ = command(*argv, "--dtype", "float32")
    assert status == 0
    assert "optimizer.learning_rate=1e+40  every training diverged" in out
    assert "2 diverged, e.g. seed 1, optimizer.learning_rate=1e+40" in out
    assert "best by train cost 0." in out


@pytest.mark.slow
def test_all_curves_are_drawn(command, tmp_path):
    pytest.importorskip("matplotlib")
    argv = ["sweep", "recipe.toml", "--seeds", 3, "--vary", "optimizer=adam,lion"]
    assert command(*argv, "--plot", "curves.png")[0] == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_folds_give_each_setting_a_mean_and_a_spread(command):
    argv = ["sweep", "recipe.toml", "--learning-rates", "0.1,0.01", "--folds", 3]
    status, out, err = command(*argv, "--watch", "validation cost", "--patience", 9,
                               "--evaluate-every", 3)  # fmt: skip
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines() if "validation cost" in line]
    assert [line[-1] for line in lines[:2]] == ["3", "3"]
    assert re.search(
        r"^best mean validation cost 0\.\d+ \+- \S+ over 3 trainings: optimizer\.", out, re.M
    )
    result = json.loads(command(*argv, "--json")[1])
    assert [run["fold"] for run in result["runs"]] == [[1, 3], [2, 3], [3, 3]] * 2


def test_one_fold_can_be_trained_alone(command):
    swept = json.loads(command("sweep", "recipe.toml", "--folds", 4, "--json")[1])
    argv = ["train", "recipe.toml", "--fold", "2,4", "--json", "--no-record"]
    trained = json.loads(command(*argv)[1].splitlines()[-1])
    assert swept["runs"][1]["costs"] == trained["costs"]
    assert swept["runs"][1]["scores"]["test accuracy"] == trained["test_accuracy"]


def test_a_recorded_sweep_names_its_runs_and_goes_on(command, tmp_path):
    argv = ["sweep", "recipe.toml", "--seeds", 2, "--record", "swept"]
    status, out, err = command(*argv)
    assert (status, err) == (0, "")
    assert "2 one by one: each is recorded as a run" in out
    best = re.search(r"^recorded in swept, the best in (swept/seed-[12]-\w{12})$", out, re.M)[1]
    assert command("replay", best)[0] == 0
    assert command("evaluate", best)[0] == 0
    again = command(*argv)[1]
    assert re.sub(r"in [\d.]+ s", "", again) == re.sub(r"in [\d.]+ s", "", out)
    result = json.loads(command(*argv, "--json")[1])
    assert best in [run["run"] for run in result["runs"]]
    status, out, err = command(*argv, "--optimizer", "adam")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "swept holds a sweep of another recipe (optimizer is 'gradient_descent(" in err


def test_an_interrupted_sweep_says_how_to_go_on(command, monkeypatch):
    from pydnn.sweeps.recording import Recorder

    def interrupted(self, recipe, outcome):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "keep", interrupted)
    status, out, err = command("sweep", "recipe.toml", "--record", "swept")
    assert (status, out) == (130, "")
    assert err == "pydnn: interrupted; the same command goes on with the sweep in swept\n"


def test_workers_do_not_change_the_table(command):
    argv = ["sweep", "recipe.toml", "--seeds", 3, "--json"]
    alone = json.loads(command(*argv)[1])
    for workers in (["--executor", "threads", "--workers", 2], ["--executor", "serial"]):
        there = json.loads(command(*argv, *workers)[1])
        for name in ("runs", "spread", "best"):
            assert there[name] == alone[name]


MISTAKES = {
    "no count": (["--seeds", "many"], "--seeds is 'many', expected a number of seeds"),
    "none": (["--seeds", "0"], "seeds is 0, expected an integer of at least 1"),
    "no values": (["--learning-rates", ""], "values of optimizer.learning_rate: '' lists no"),
    "no rate": (["--learning-rates", "0.1,0"], "learning_rate is 0, expected a number above 0"),
    "no name": (["--vary", "0.1,0.2"], "--vary is '0.1,0.2', expected a name and values"),
    "twice": (["--vary", "dtype='float32'", "--vary", "dtype='float64'"], "dtype is varied twice"),
    "unknown": (["--vary", "optimizer.rate=1"], "there is no option of gradient_descent 'rate'"),
    "unknown score": (["--best-by", "test acuracy"], "did you mean 'test accuracy'?"),
    "unread": (["--vary", "optimizer=adam("], "values of optimizer: 'adam(' cannot be read"),
    "no plot": (["--plot", "curves"], "curves has no extension"),
    "taken": (["--save-best", "recipe.toml"], "recipe.toml exists already"),
    "one fold": (["--folds", "1"], "--folds is 1, expected an integer of at least 2"),
    "many folds": (["--folds", "60"], "examples, expected 60 or more, one for each fold"),
    "fold of folds": (["--folds", "3", "--fold", "1,3"], "--folds and --fold contradict"),
    "share of folds": (["--folds", "3", "--validation", "0.2"], "--folds and --validation contrad"),
    "best fold": (["--folds", "3", "--save-best", "best"], "no training of a fold has all exam"),
    "not a sweep": (["--record", "."], ". exists and has no sweep.toml, expected a new folder"),
    "two kinds of workers": (["--cluster", "local:1", "--workers", "2"], "contradict each other"),
    "lost": (["--learning-rates", "1e300"], "every training diverged"),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_get_one_line_and_status_2(command, argv, message):
    if "--plot" in argv:
        pytest.importorskip("matplotlib")
    status, out, err = command("sweep", "recipe.toml", *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_no_folder_is_left_for_a_model_that_was_not_made(command, tmp_path):
    argv = ["sweep", "recipe.toml", "--learning-rates", "1e300", "--save-best", "best"]
    assert command(*argv)[0] == 2
    assert not (tmp_path / "best").exists()


@pytest.mark.slow
def test_it_runs_in_a_process_of_its_own():
    argv = [sys.executable, "-m", "pydnn", "sweep", "recipe.toml", "--seeds", "5"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "5 at the same time, in stacks of networks of one shape" in done.stdout
    failed = subprocess.run([*argv, "--vary", "x=1"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("pydnn: there is no part of a recipe to vary 'x'")


def test_what_train_says_of_a_job_is_said_once_for_all_runs_of_it(command):
    rate = "gradient_descent(learning_rate=one_cycle(0.1, steps=11))"
    argv = ["recipe.toml", "--optimizer", rate]
    _, _, of_train = command("train", *argv, "--no-record")
    status, out, err = command("sweep", *argv, "--seeds", 3, "--vary", "network.0.units=3,4")
    assert (status, err) == (0, of_train)
    assert err.startswith("pydnn: the schedule ends after 10 of 15 iterations")
    assert "best by" in out


def test_each_setting_has_its_notes_and_json_stays_json(command):
    rate = "gradient_descent(learning_rate=one_cycle(0.1, steps=11))"
    argv = ["recipe.toml", "--optimizer", rate, "--vary", "iterations=10,12,14", "--json"]
    _, out, err = command("sweep", *argv)
    assert [re.search(r"of \d+", line)[0] for line in err.splitlines()] == ["of 12", "of 14"]
    assert len(json.loads(out)["runs"]) == 3


def test_a_folder_for_the_best_run_that_is_taken_is_answered_by_its_own_option(command, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine.txt").touch()
    (tmp_path / "file").touch()
    for folder in ("best", "file/best"):
        status, out, err = command("sweep", "recipe.toml", "--save-best", folder)
        assert (status, out) == (2, "")
        assert "give another --save-best" in err
        assert "--run" not in err
