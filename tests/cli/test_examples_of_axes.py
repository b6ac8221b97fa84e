"""Sequences and images from a file to predictions, as a person at a terminal goes."""

import json

import h5py
import numpy as np
import pytest

from pydnn import Batch, Key
from pydnn.cli import predict
from pydnn.data import DataSet, save_table, stored
from pydnn.jobs.model import load_model

STEPS = """
data = "sequences.h5"
network = "serial(gru(3, output='last'), dense(1))"
loss = "sigmoid_cross_entropy"
optimizer = "adam"
iterations = 4
batches = "mini_batches(8)"
evaluate_every = 2
standardize = true
"""


def sequences(m, key, *, each=False):
    X = Key(key).normal((5, 2, m))
    Y = np.arange(5 * m).reshape(5, m) % 2 if each else np.arange(m)[np.newaxis] % 2
    return Batch(X, Y, None, 1 + np.arange(m) % 5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_table("sequences.h5", DataSet(sequences(20, 1), sequences(7, 2)))
    (tmp_path / "steps.toml").write_text(STEPS)
    each = STEPS.replace("gru(3, output='last')", "gru(3)").replace("sequences", "each")
    (tmp_path / "each.toml").write_text(each)
    save_table("each.h5", DataSet(sequences(20, 1, each=True), sequences(7, 2, each=True)))
    return tmp_path


def test_sequences_are_trained_evaluated_and_predicted(folder, command):
    status, out, err = command("train", "steps.toml", "--run", "run")
    assert (status, "of 7 right" in out) == (0, True), err
    status, out, _ = command("summary", "steps.toml")
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["input", "(5,", "2)"],
        ["0", "gru", *out.splitlines()[2].split()[2:]],
    ]
    rows = json.loads(command("summary", "steps.toml", "--json")[1])["layers"]
    assert [(row["shape"], row["outputs"]) for row in rows] == [([3], 3), ([1], 1)]
    assert json.loads(command("evaluate", "run", "--json")[1])["test"]["accuracy"] <= 1
    for argv in (["replay", "run"], ["resume", "run", "--iterations", "6"]):
        assert command(*argv)[0] == 0
    out = command("inspect", "run", "--step", "1", "--part", "batch")[1]
    assert [row for row in ("5 x 2 x 8", "lengths") if row not in out] == []
    status, _, err = command("export", "run", "model.onnx")
    assert (status, "no input for the lengths of sequences" in err) == (0, True)
    assert command("export", "run", "weights.npz")[2] == ""
    new = sequences(3, 3)
    np.savez("new.npz", X=np.moveaxis(new.X, -1, 0), lengths=new.lengths)
    status, out, _ = command("predict", "run", "new.npz", "--json")
    P = load_model("run").predict_proba(new.X, lengths=new.lengths)
    answers = json.loads(out)["predictions"]
    assert [answer["probability"] for answer in answers] == P.max(axis=0).tolist()
    assert command("predict", "run", "new.npz")[1].splitlines()[2].startswith("example 2: ")


def test_each_step_gets_an_answer(folder, command):
    assert command("train", "each.toml", "--run", "run")[0] == 0
    out = command("evaluate", "run")[1]
    assert f"of {sequences(20, 1).lengths.sum()} right" in out
    new = sequences(3, 3)
    np.savez("new.npz", X=np.moveaxis(new.X, -1, 0), lengths=new.lengths)
    answers = json.loads(command("predict", "run", "new.npz", "--json")[1])["predictions"]
    assert [len(answer["steps"]) for answer in answers] == [1, 2, 3]
    np.save("new.npy", np.moveaxis(new.X, -1, 0))
    assert [line.count(";") for line in command("predict", "run", "new.npy")[1].splitlines()] == [
        4, 4, 4
    ]  # fmt: skip


def test_files_of_other_examples_are_refused_in_one_line(folder, command):
    command("train", "steps.toml", "--run", "run", "--no-record")
    X = np.moveaxis(sequences(3, 3).X, -1, 0)
    np.savez("long.npz", X=X, lengths=[1, 2, 6])
    np.savez("labels.npz", Y=X)
    np.save("number.npy", np.float64(3))
    np.save("channels.npy", X[:, :, :1])
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    for name, message in (
        ("long.npz", "the length of example 2 is 6"),
        ("labels.npz", "labels.npz has Y, expected X"),
        ("number.npy", "expected X with the examples along its first axis"),
        ("channels.npy", "X has shape (5, 1, 3), expected (5, 2, m)"),
        ("objects.npy", "holds Python objects"),
        ("steps.toml", "run was not trained on images or on a table, expected an npy"),
    ):
        status, _, err = command("predict", "run", name)
        assert (status, message in err, err.count("\n")) == (2, True, 1), err


@pytest.mark.parametrize("name", ["sequences.h5", "sequences.npz"])
def test_the_test_part_of_a_data_set_is_predicted(folder, command, monkeypatch, name):
    command("train", "steps.toml", "--run", "run", "--no-record")
    with h5py.File("sequences.h5") as file:
        np.savez("sequences.npz", **{key: file[key][()] for key in file})
    test = sequences(7, 2)
    P = load_model("run").predict_proba(test.X, lengths=test.lengths)
    outs = [command("predict", "run", name, "--json")[1]]
    if name.endswith("h5"):
        outs += [command("predict", "run", name, "--json", f"--{m}mapped")[1] for m in ("", "no-")]
        monkeypatch.setattr(predict, "MOST_INPUTS", 1)
        monkeypatch.setattr(stored, "block_size", lambda shape: 3)
        outs.append(command("predict", "run", name, "--json", "--mapped")[1])
    for out in outs:
        answers = json.loads(out)["predictions"]
        assert [answer["example"] for answer in answers] == list(range(7))
        assert [answer["probability"] for answer in answers] == pytest.approx(P.max(axis=0))


def test_all_examples_of_a_data_set_without_a_test_part_are_predicted(folder, command):
    command("train", "each.toml", "--run", "run", "--no-record")
    whole = sequences(4, 5, each=True)
    save_table("new.h5", DataSet(whole, whole.take(slice(0))))
    answers = json.loads(command("predict", "run", "new.h5", "--mapped", "--json")[1])
    assert [len(answer["steps"]) for answer in answers["predictions"]] == [1, 2, 3, 4]


def test_a_data_set_of_other_examples_is_not_predicted(folder, command):
    command("train", "steps.toml", "--run", "run", "--no-record")
    points = Batch([[1.0, 2.0]], [[0, 1]])
    save_table("points.h5", DataSet(points, points))
    (folder / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n123")
    for names, message in (
        (["points.h5"], "examples have 1 features, but the model takes shape (5, 2)"),
        (["points.h5", "points.h5"], "there are 2 files, expected one of examples"),
        (["damaged.h5"], "damaged.h5 is not a readable HDF5 file"),
    ):
        status, _, err = command("predict", "run", *names)
        assert (status, message in err, err.count("\n")) == (2, True, 1), err


@pytest.mark.slow
def test_each_command_that_loads_data_can_leave_it_in_its_file(folder, command):
    assert command("train", "steps.toml", "--run", "run", "--mapped")[0] == 0
    with h5py.File("sequences.h5") as file, h5py.File("chunks.h5", "w") as chunks:
        for name in file:
            chunks.create_dataset(name, data=file[name][()], compression="gzip")
    for argv in (
        ["evaluate", "run"],
        ["replay", "run"],
        ["resume", "run", "--iterations", "5"],
        ["sweep", "steps.toml", "--seeds", "1"],
        ["predict", "run", "sequences.h5"],
    ):
        status, _, err = command(*argv, "--mapped")
        assert status == 0, err
        other = ["chunks.h5"] if argv[0] == "predict" else ["--data", "chunks.h5"]
        argv = argv[:2] if argv[0] != "sweep" else argv
        status, _, err = command(*argv, *other, "--mapped")
        assert (status, "compressed" in err) == (2, True), err
        assert command(*argv, *other, "--no-mapped")[0] == 0


@pytest.mark.parametrize("network", ["dense(1)", "serial(conv(2, size=1), flatten(), dense(1))"])
def test_the_images_of_a_data_set_are_predicted(folder, command, network):
    def images(m):
        return Batch(Key(m).uniform((12, m)), np.arange(m)[np.newaxis] % 2)

    save_table("images.h5", DataSet(images(8), images(3), (2, 2, 3)))
    text = STEPS.replace("serial(gru(3, output='last'), dense(1))", network)
    (folder / "images.toml").write_text(text.replace("sequences", "images"))
    status, _, err = command("train", "images.toml", "--run", "run", "--no-record")
    assert status == 0, err
    P = load_model("run").predict_proba(images(3).X)
    for mapped in ("--mapped", "--no-mapped"):
        answers = json.loads(command("predict", "run", "images.h5", mapped, "--json")[1])
        probabilities = [answer["probability"] for answer in answers["predictions"]]
        assert probabilities == P.max(axis=0).tolist()
