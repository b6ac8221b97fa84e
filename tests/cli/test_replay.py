"""`pydnn replay` says whether the model in a run's folder is what the run leads to."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
from small_runs import saved_data

from pydnn.cli import main
from pydnn.runs import load_model, save_model

RECIPE = """
data = "data-1.h5"
network = "serial(dense(4), batch_norm(), relu(), dense(1))"
loss = "sigmoid_cross_entropy()"
optimizer = "adam(learning_rate=0.01)"
batches = "mini_batches(16)"
iterations = 12
seed = 3
standardize = true
"""
MORE = {
    "plain": "",
    "stopped early": 'validation = 0.25\nevaluate_every = 2\npatience = 4\nwatch = "cost"\n',
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a finished run, its recipe and its data."""
    folder = tmp_path_factory.mktemp("made")
    saved_data(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    with contextlib.chdir(folder):
        assert main(["train", "recipe.toml", "--run", "run", "--quiet"]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def trained(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    saved_data(tmp_path)

    def train(run="runs/0001", recipe=RECIPE, status=0):
        Path("recipe.toml").write_text(recipe)
        found, _, err = command("train", "recipe.toml", "--checkpoint-every", 5, "--run", run)
        assert found == status, err
        return Path(run)

    return train


def replayed(command, run):
    status, out, _ = command("replay", run, "--json")
    return status, json.loads(out.splitlines()[-1])["foreign_model"]


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_a_run_s_own_model_passes(trained, command, more):
    assert replayed(command, trained(recipe=RECIPE + more)) == (0, None)


def test_the_model_of_a_training_that_was_gone_on_with_passes(run, command):
    assert command("resume", run, "--iterations", 17)[0] == 0
    assert replayed(command, run) == (0, None)


def test_the_model_of_a_training_that_did_not_stay_finite_passes(trained, command):
    recipe = RECIPE.replace("adam(learning_rate=0.01)", "gradient_descent(learning_rate=1e300)")
    run = trained(recipe=recipe.replace("batch_norm(), ", ""), status=2)
    assert replayed(command, run) == (0, None)


def test_a_run_without_a_model_passes(run, command):
    (run / "model.h5").unlink()
    assert replayed(command, run) == (0, None)


def other_weight(run):
    model = load_model(run / "model.h5")
    vector = model.parameters.vector.copy()
    vector[0] = np.nextafter(vector[0], 9)
    changed = attrs.evolve(model, parameters=model.parameters.with_vector(vector))
    save_model(run / "model.h5", changed, replace=True)


def other_state(run):
    model = load_model(run / "model.h5")
    save_model(run / "model.h5", attrs.evolve(model, iteration=10), replace=True)


def damaged(run):
    whole = bytearray((run / "model.h5").read_bytes())
    whole[-1] ^= 1
    (run / "model.h5").write_bytes(whole)


def linked(run):
    (run / "model.h5").rename(run / "elsewhere")
    os.symlink("elsewhere", run / "model.h5")


def a_folder(run):
    (run / "model.h5").unlink()
    (run / "model.h5").mkdir()


FOREIGN = {
    "another weight": (other_weight, "is not what this run leads to, as one of its parameters"),
    "another state": (other_state, "is not what this run leads to, as its number of iterations"),
    "a damaged byte": (damaged, "is damaged"),
    "a link": (linked, "is a symbolic link, expected the model itself"),
    "a folder": (a_folder, "is a directory, expected an HDF5 file"),
}


@pytest.mark.parametrize(("change", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_model_that_is_not_the_run_s_own_is_told(run, command, change, message):
    change(run)
    status, out, _ = command("replay", run)
    assert status == 1
    assert "all bits of 12 steps are the recorded ones" in out
    assert message in out.splitlines()[-1]


def test_the_model_of_another_run_is_told(run, trained, command):
    other = trained(recipe=RECIPE.replace("seed = 3", "seed = 4"))
    shutil.copy(other / "model.h5", run / "model.h5")
    status, told = replayed(command, run)
    assert status == 1
    assert "is not what this run leads to, as its recipe shows: write it again with" in told
    assert command("resume", run)[0] == 0
    assert replayed(command, run) == (0, None)
