import json
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput, Batch, Key
from pydnn.jobs import prepare
from pydnn.jobs.rebuilding import rebuilding
from pydnn.optimizers import chain
from pydnn.runs import Run, create_run, record
from pydnn.runs.resume import resume_run
from pydnn.sweeps import run_sweep, sweep

RECIPE = nn.Recipe(
    "drawn",
    nn.serial(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(1)),
    nn.sigmoid_cross_entropy(),
    nn.adam(learning_rate=0.1),
    iterations=6,
)
X = Key(4).normal((3, 12))
BATCH = Batch(X, X[:1] > 0)


@pytest.fixture(scope="module")
def model():
    return nn.train(RECIPE, BATCH).model


@pytest.fixture
def fine_tuning(model, tmp_path):
    model.save(tmp_path / "model.h5")
    return attrs.evolve(RECIPE, start_from=str(tmp_path / "model.h5"), iterations=4)


def test_training_starts_from_the_weights_of_a_model(model, fine_tuning):
    state = prepare(fine_tuning, BATCH).state
    assert state.iteration == 0
    assert state.parameters == model.parameters
    assert state.statistics == model.statistics


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz"])
def test_training_starts_from_the_weights_of_other_files(name, model, fine_tuning, tmp_path):
    model.export(tmp_path / name)
    job = prepare(attrs.evolve(fine_tuning, start_from=str(tmp_path / name)), BATCH)
    assert job.state.parameters == model.parameters


def test_what_the_optimizer_remembers_follows_from_these_weights(fine_tuning, model):
    averaging = chain(nn.adam(), nn.average_parameters(decay=0.5))
    state = prepare(attrs.evolve(fine_tuning, optimizer=averaging), BATCH).state
    assert state.optimizer_state == averaging.init(model.parameters)
    assert state.optimizer_state != averaging.init(prepare(RECIPE, BATCH).state.parameters)


def test_weights_are_converted_to_the_precision_of_the_recipe(fine_tuning, model):
    job = prepare(attrs.evolve(fine_tuning, dtype="float32"), BATCH)
    np.testing.assert_array_equal(
        job.state.parameters.vector, model.parameters.vector.astype(np.float32)
    )


def test_training_goes_on_in_a_rotated_basis_too(tmp_path):
    X = Key(1).normal((50, 5))
    batch = Batch(X, X[:1] > 0)
    plain = attrs.evolve(
        RECIPE, network="serial(dense(3), relu(), dense(1))",
        optimizer="gradient_descent(learning_rate=0.1)",
    )  # fmt: skip
    nn.train(plain, batch).model.save(tmp_path / "model.h5")
    tuned = attrs.evolve(plain, start_from=str(tmp_path / "model.h5"))
    vectors = [
        nn.train(attrs.evolve(tuned, rotate=rotate), batch).model.parameters.vector
        for rotate in (True, False)
    ]
    np.testing.assert_allclose(*vectors, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "nowhere.h5"}, r"start_from: nowhere\.h5 does not exist"),
        ({"network": "dense(1)"}, r"start_from: 0/W of the source has shape \(4, 3\) but W of"),
        ({"start_from": 7}, "start_from is 7, expected a text"),
    ],
)
def test_weights_that_are_missing_or_do_not_fit_are_refused(changes, message, fine_tuning):
    with pytest.raises(BadInput, match=message):
        prepare(attrs.evolve(fine_tuning, **changes), BATCH)


def test_examples_of_another_width_are_refused(fine_tuning):
    with pytest.raises(BadInput, match=r"0/W of the source has shape \(4, 3\) but .* \(4, 2\)"):
        prepare(fine_tuning, Batch(X[:2], X[:1] > 0))


def test_a_sweep_starts_all_its_trainings_from_them(fine_tuning):
    rates = {"optimizer.learning_rate": [0.1, 0.01]}
    outcomes = run_sweep(sweep(fine_tuning, BATCH, over=rates)).outcomes
    for outcome, rate in zip(outcomes, rates["optimizer.learning_rate"], strict=True):
        alone = nn.train(attrs.evolve(fine_tuning, optimizer=nn.adam(learning_rate=rate)), BATCH)
        np.testing.assert_array_equal(outcome.costs, alone.costs)


def test_a_job_is_rebuilt_from_another_folder(fine_tuning, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = prepare(attrs.evolve(fine_tuning, start_from="model.h5"), BATCH)
    again = rebuilding(job)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert again().state == job.state


# Recorded runs


def recorded(recipe, path):
    job = prepare(recipe, BATCH)
    with create_run(path, job, BATCH) as run:
        list(record(run, nn.jobs.run(job), every=2))
    return Run.open(path, data=BATCH)


def test_a_run_keeps_the_weights_from_which_it_started(fine_tuning, model, tmp_path):
    run = recorded(fine_tuning, tmp_path / "run")
    Path(fine_tuning.start_from).unlink()
    again = Run.open(tmp_path / "run", data=BATCH)
    assert again.recipe == fine_tuning
    assert again.job.state.parameters == model.parameters
    assert again.job.recipe.start_from == fine_tuning.start_from
    assert again.state(3) == run.state(3)
    with resume_run(tmp_path / "run", iterations=6, data=BATCH) as resumed:
        list(record(resumed.recording, nn.jobs.run(resumed.job)))
    assert Run.open(tmp_path / "run", data=BATCH).iterations == 6


def test_other_weights_in_a_run_are_refused(fine_tuning, tmp_path):
    recorded(fine_tuning, tmp_path / "run")
    other = nn.train(attrs.evolve(RECIPE, seed=7), BATCH).model
    (tmp_path / "run" / "start.safetensors").unlink()
    run = Run.open(tmp_path / "run", data=BATCH)
    assert run.job.start is not None  # the file that it started from is still there
    other.save(tmp_path / "model.h5", replace=True)
    with pytest.raises(BadInput, match=r"does not hold the weights that .* started from"):
        _ = Run.open(tmp_path / "run", data=BATCH).job


def test_the_command_line_tells_where_weights_of_other_names_go(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nn.data.save_table("data.h5", nn.data.DataSet(BATCH, BATCH))
    Path("recipe.toml").write_text(
        'data = "data.h5"\nnetwork = "serial(dense(2), relu(), dense(1))"\n'
        'loss = "sigmoid_cross_entropy"\noptimizer = "adam"\niterations = 2\n'
        'start_from = "theirs.npz"\n'
    )
    arrays = {"0.weight": X[:2, :3], "0.bias": X[:2, 0], "2.weight": X[:1, :2], "2.bias": X[:1, 0]}
    np.savez("theirs.npz", **arrays)
    status, out, _ = command("train", "recipe.toml", "--no-record")
    assert status == 0
    assert "starting from the weights of theirs.npz\n    source    shape   parameter" in out
    assert "    2.weight  (1, 2)  2/W        (1, 2)\n" in out


def test_the_command_line_fine_tunes_resumes_and_trains_again(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nn.data.save_table("data.h5", nn.data.DataSet(BATCH, BATCH))
    recipe = attrs.evolve(RECIPE, data="data.h5")
    Path("recipe.toml").write_text(nn.recipes.toml.write_recipe(recipe))
    assert command("train", "recipe.toml", "--run", "first")[0] == 0
    tuned = ["--start-from", "first/model.h5", "--iterations", "3"]
    status, out, _ = command("train", "recipe.toml", *tuned, "--run", "second", "--json")
    assert status == 0
    shutil.rmtree("first")
    assert command("replay", "second")[0] == 0
    status, again, _ = command("train", "second", "--run", "third", "--json")
    assert status == 0
    assert json.loads(again)["fingerprint"] == json.loads(out)["fingerprint"]


def test_weights_of_a_table_are_for_columns_of_the_same_names_and_order(tmp_path):
    rows = {"a": [0.0, 1.0, 2.0], "b": [5.0, 7.0, 6.0], "y": [1.0, 2.0, 4.0]}
    recipe = nn.Recipe("t", "dense(1)", "mean_squared()", "adam()", 2, target="y")
    model = nn.train(recipe, rows).model
    model.save(tmp_path / "model.h5")
    model.export(tmp_path / "model.npz")
    further = attrs.evolve(recipe, start_from=str(tmp_path / "model.h5"))
    assert prepare(further, rows).state.parameters == model.parameters
    turned = {name: rows[name] for name in ("b", "a", "y")}
    with pytest.raises(BadInput, match=r"weights for the feature 'a' where this table has 'b'"):
        prepare(further, turned)
    named = attrs.evolve(recipe, start_from=str(tmp_path / "model.npz"))  # it has no names
    assert prepare(named, turned).state.parameters == model.parameters
