"""Every command that takes a run or a model says what a file of another kind is."""

import json

import h5py
import numpy as np
import pytest
from small_runs import recorded, saved_data, small_recipe

from pydnn.data import drawn_cats, save_catvnoncat
from pydnn.recipes.toml import write_recipe

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(50))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file of every kind, and a run."""
    path = tmp_path_factory.mktemp("kinds")
    recipe = small_recipe(path)
    recorded(path / "run", recipe)
    (path / "model.h5").write_bytes((path / "run" / "model.h5").read_bytes())
    save_catvnoncat(path / "photos", *drawn_cats(1, train_count=2, test_count=1))
    (path / "table.h5").write_bytes((path / saved_data(path)).read_bytes())
    (path / "bare.toml").write_text(write_recipe(recipe))
    with h5py.File(path / "other.h5", "w") as file:
        file["something"] = [1, 2]
    (path / "picture.png").write_bytes(PNG)
    (path / "picture.h5").write_bytes(PNG)
    np.save(path / "array.npy", np.ones(3))
    np.savez(path / "arrays.npz", np.ones(3))
    (path / "some.json").write_text(json.dumps({"a": 1}))
    (path / "words.txt").write_text("some words\n")
    (path / "junk.bin").write_bytes(b"\xfe\xff\x00junk")
    (path / "empty").touch()
    return path


KINDS = {
    "model.h5": "a model",
    "table.h5": "a table of examples",
    "photos/train_catvnoncat.h5": "a file of photos",
    "photos/test_catvnoncat.h5": "a file of photos",
    "run/segments/0000000004.h5": "a segment of a run",
    "run/environment.json": "the environment of a run",
    "run/end-0000000012.json": "the end of a run",
    "bare.toml": "a recipe",
    "other.h5": "an HDF5 file that pydnn did not write",
    "picture.png": "a picture (PNG)",
    "picture.h5": "a picture (PNG)",
    "array.npy": "a NumPy array",
    "arrays.npz": "a ZIP archive",
    "some.json": "a JSON file",
    "words.txt": "a text",
    "junk.bin": "a file of an unknown kind",
    "empty": "an empty file",
}
# A text that may be a damaged recipe is reported as one.
RECIPES = ["a model", "a recipe", "a text", "a file of an unknown kind"]
COMMANDS = {
    "evaluate": (["evaluate", "FILE"], ["a model"]),
    "predict": (["predict", "FILE", "photo.png"], ["a model"]),
    "inspect": (["inspect", "FILE", "--step", "1"], []),
    "replay": (["replay", "FILE"], []),
    "diff, first": (["diff", "FILE", "RUN"], []),
    "diff, second": (["diff", "RUN", "FILE"], []),
    "resume": (["resume", "FILE"], []),
    "prune": (["prune", "FILE"], []),
    "doctor": (["doctor", "FILE"], []),
    "summary": (["summary", "FILE"], RECIPES),
    "train": (["train", "FILE"], RECIPES),
    "sweep": (["sweep", "FILE"], RECIPES),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("file", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_of_another_kind_is_named(folder, command, monkeypatch, name, file):
    (argv, takes), kind, path = COMMANDS[name], KINDS[file], folder / file
    if kind in takes:
        return
    monkeypatch.chdir(folder)
    names = {"FILE": path, "RUN": folder / "run"}
    status, out, err = command(*(names.get(word, word) for word in argv))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{path} is {kind}, expected " in err


def test_a_folder_that_is_neither_run_nor_model_is_named(folder, command):
    status, _, err = command("evaluate", folder / "photos")
    assert status == 2
    assert "photos is a folder without model.h5, expected a run or a model" in err


@pytest.mark.parametrize("cut", [5, 60, 80, 300, 2000])
def test_a_model_that_was_cut_short_is_called_damaged(folder, tmp_path, command, cut):
    (tmp_path / "m.h5").write_bytes((folder / "model.h5").read_bytes()[:cut])
    _, _, err = command("evaluate", tmp_path / "m.h5")
    assert "m.h5 is damaged" in err


def test_a_damaged_model_is_not_read_as_a_recipe(folder, tmp_path, command):
    content = bytearray((folder / "model.h5").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m.h5").write_bytes(content)
    status, _, err = command("summary", tmp_path / "m.h5")
    assert status == 2
    assert "m.h5 is damaged" in err
