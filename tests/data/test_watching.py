"""Files of data that change during a training that is not recorded."""

import os
from functools import partial

import numpy as np
import pytest

from pydnn import BadInput, Batch, Recipe
from pydnn.cli import main
from pydnn.data import load_data_set
from pydnn.data.watching import WatchedFiles, paths_of
from pydnn.jobs import prepare, run, train
from pydnn.runs import create_run, record
from pydnn.sweeps.training import run_stacked
from pydnn.training import tee


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train_X.npy", rng.normal(size=(20, 3)))
    np.save(tmp_path / "train_Y.npy", rng.integers(0, 2, 20))
    np.save(tmp_path / "test_X.npy", rng.normal(size=(5, 3)))
    np.save(tmp_path / "test_Y.npy", rng.integers(0, 2, 5))
    return load_data_set(tmp_path / "train_X.npy", mapped=True)


def recipe(**options):
    batches = "mini_batches(5)"  # 4 steps in an epoch
    options = {"batches": batches, "iterations": 12, **options}
    return Recipe("points", "dense(1)", "sigmoid_cross_entropy()", "adam()", **options)


def touch_at(iteration, path):
    """A function from stream to stream that changes a file after a step."""

    def touch(state, _):
        if state.iteration == iteration:
            os.utime(path, (5, 5))

    return partial(tee, to=touch)


@pytest.mark.parametrize("name", ["train_X", "train_Y", "test_X"])
@pytest.mark.parametrize(
    ("options", "taken"), [({}, 7), ({"evaluate_every": 3}, 5), ({"iterations": 6}, 6)]
)
def test_a_training_ends_at_the_next_look_after_a_file_has_changed(
    data, tmp_path, name, options, taken
):
    path, seen = tmp_path / f"{name}.npy", []

    def through(stream):
        return tee(touch_at(5, path)(stream), to=lambda state, _: seen.append(state.iteration))

    with pytest.raises(BadInput, match=rf"{name}\.npy changed during the training: restore"):
        train(prepare(recipe(**options), data), through=through)
    assert len(seen) == taken


def test_a_change_between_opening_and_training_is_noticed(data, tmp_path):
    os.utime(tmp_path / "train_X.npy", (5, 5))
    with pytest.raises(BadInput, match=r"train_X\.npy changed"):
        train(recipe(), data)
    job = prepare(recipe(), data)
    with (
        pytest.raises(BadInput, match=r"train_X\.npy changed"),
        create_run(tmp_path / "run", job, data),
    ):
        pass


def test_early_stopping_does_not_hide_a_change(data, tmp_path):
    options = {"patience": 1, "watch": "cost", "iterations": 1000, "batches": "mini_batches(5)"}
    with pytest.raises(BadInput, match=r"train_Y\.npy changed"):
        train(prepare(recipe(**options), data), through=touch_at(1, tmp_path / "train_Y.npy"))


def test_a_recorded_training_goes_on_if_the_bytes_are_the_same(data, tmp_path):
    job = prepare(recipe(), data)
    with create_run(tmp_path / "run", job, data) as recording:
        stream = touch_at(5, tmp_path / "train_X.npy")(run(job))
        assert len(list(record(recording, stream))) == 12


def test_a_stack_of_trainings_refuses_files_that_change(data, tmp_path):
    jobs = [prepare(recipe(seed=seed), data) for seed in (1, 2)]

    def touch(_):
        os.utime(tmp_path / "train_X.npy", (5, 5))

    with pytest.raises(BadInput, match=r"train_X\.npy changed"):
        list(run_stacked(jobs, touch))


def test_the_command_line_names_the_file(data, tmp_path, capsys, monkeypatch):
    path = tmp_path / "train_X.npy"
    arguments = ["train", "--data", str(path), "--mapped", "--no-record", "--network", "dense(1)"]
    arguments += ["--loss", "sigmoid_cross_entropy", "--run", str(tmp_path / "run"), "--quiet"]
    from pydnn.cli import training

    reported = training._reported

    def touched(stream, *args, **options):
        return touch_at(2, path)(reported(stream, *args, **options))

    monkeypatch.setattr(training, "_reported", touched)
    assert main([*arguments, "--iterations", "9"]) == 2
    err = capsys.readouterr().err
    assert f"{path} changed during the training" in err
    assert err.count("\n") == 1


def test_data_in_memory_has_no_files():
    batch = Batch([[1.0]], [[1.0]])
    assert paths_of(batch) == []
    files = WatchedFiles.of([batch])
    assert files.states == {}
    files.expect_unchanged()
