"""`pydnn replay` checks that the model in a run's folder is the result of the run."""

import contextlib
import importlib
import json
import os
import re
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
from small_runs import flipping, recorded, saved_data, small_recipe

from pydnn import BadInput
from pydnn.cli import main
from pydnn.jobs.model import load_model

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
        result, _, err = command("train", "recipe.toml", "--checkpoint-every", 5, "--run", run)
        assert result == status, err
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
    changed.save(run / "model.h5", replace=True)


def other_state(run):
    model = load_model(run / "model.h5")
    attrs.evolve(model, iteration=10).save(run / "model.h5", replace=True)


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
    "another weight": (other_weight, "is not the result of this run, as one of its parameters"),
    "another state": (other_state, "is not the result of this run, as its number of iterations"),
    "a damaged byte": (damaged, "is damaged"),
    "a link": (linked, "is a symbolic link, expected the model itself"),
    "a folder": (a_folder, "is a directory, expected an HDF5 file"),
}


@pytest.mark.parametrize(("change", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_model_that_is_not_the_run_s_own_is_reported(run, command, change, message):
    change(run)
    status, out, _ = command("replay", run)
    assert status == 1
    assert "all bits of 12 steps are the recorded ones" in out
    assert message in out.splitlines()[-1]


def test_the_model_of_another_run_is_reported(run, trained, command):
    other = trained(recipe=RECIPE.replace("seed = 3", "seed = 4"))
    shutil.copy(other / "model.h5", run / "model.h5")
    status, output = replayed(command, run)
    assert status == 1
    assert "is not the result of this run, as its recipe shows: write it again with" in output
    assert command("resume", run)[0] == 0
    assert replayed(command, run) == (0, None)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_difference_in_a_portable_run_does_not_blame_the_machine(tmp_path, capsys, dtype):
    recipe = small_recipe(tmp_path, numerics="portable", dtype=dtype)
    recorded(tmp_path / "run", recipe, change=flipping(6, bit=20))
    assert main(["replay", str(tmp_path / "run")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    last = out.splitlines()[-1]
    assert last == f"{tmp_path / 'run'} does not repeat: a record or the code has changed"
    assert not re.search(r"BLAS|thread|CPU|this machine", out)
    assert ("of float32) apart" in out) == (dtype == "float32")


def test_an_unsound_process_is_refused_before_anything_is_said(tmp_path, capsys, monkeypatch):
    recorded(tmp_path / "run", small_recipe(tmp_path, numerics="portable"))
    module = importlib.import_module("pydnn.numerics.portable.platform_checks")
    monkeypatch.setattr(module, "pointer_bits", lambda: 32)
    assert main(["replay", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "has 32 bits" in err


@pytest.mark.skipif(os.name != "posix", reason="links are made")
def test_a_link_to_an_equal_model_is_refused_by_name(run, tmp_path, capsys):
    model = run / "model.h5"
    model.rename(tmp_path / "outside.h5")
    model.symlink_to(tmp_path / "outside.h5")
    with pytest.raises(BadInput, match=r"model\.h5 is a symbolic link"):
        load_model(model)
    assert main(["evaluate", str(model)]) == 2
    assert f"{model} is a symbolic link" in capsys.readouterr().err
    assert load_model(tmp_path / "outside.h5") is not None
    (tmp_path / "newest.h5").symlink_to("outside.h5")  # outside of runs, links are allowed
    assert load_model(tmp_path / "newest.h5") is not None


@pytest.mark.skipif(os.name != "posix", reason="links are made")
@pytest.mark.parametrize("argv", [["train", "--no-record"], ["summary"], ["evaluate"]])
def test_a_link_to_an_equal_recipe_is_refused_by_name(run, tmp_path, monkeypatch, capsys, argv):
    monkeypatch.chdir(tmp_path)
    (run / "recipe.toml").rename(tmp_path / "outside.toml")
    (run / "recipe.toml").symlink_to(tmp_path / "outside.toml")
    assert main([*argv, str(run)]) == 2
    assert f"{run / 'recipe.toml'} is a symbolic link" in capsys.readouterr().err


def test_a_replay_leaves_a_note_in_the_run(run, command):
    status, out, _ = command("replay", run, "--json")
    noted = Path(json.loads(out)["noted"])
    assert (status, noted) == (0, run / "verified-0001.json")
    plain = json.loads(noted.read_text())
    assert (plain["by"], plain["steps"], plain["difference"]) == ("this process", 12, "")
    (run / "model.h5").write_bytes(b"another")
    assert command("replay", run, "--segments", "0")[0] == 1
    plain = json.loads((run / "verified-0002.json").read_text())
    assert "model.h5" in plain["difference"]
    assert plain["ranges"] == []


def test_a_run_that_takes_no_note_is_replayed_all_the_same(run, command, monkeypatch):
    def full(path, text):
        raise BadInput(f"{path} cannot be written (full): choose another place.")

    monkeypatch.setattr("pydnn.runs.verified.write_text", full)
    status, out, err = command("replay", run)
    assert status == 0
    assert "all bits of 12 steps" in out
    assert "gets no note of this replay" in err
