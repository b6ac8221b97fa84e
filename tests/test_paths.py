"""Every function and command that takes a path takes it in every form."""

import json
import os
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image
from small_runs import saved_data, small_data, small_recipe

from pydnn.cli import main
from pydnn.data import (
    drawn_cats,
    lasting_name,
    load_catvnoncat,
    load_data_set,
    load_photo,
    load_table,
    save_catvnoncat,
    save_sheet,
    save_table,
)
from pydnn.jobs.job import prepare
from pydnn.jobs.model import load_model
from pydnn.plots import expect_plottable, save_plot
from pydnn.runs import Run, create_run, resume_run
from pydnn.runs.inspect import read_tensors, write_tensors


class MyPath:
    def __init__(self, text):
        self.text = text

    def __fspath__(self):
        return self.text


FORMS = {
    "text": str,
    "a Path": Path,
    "a path of another kind": lambda path: MyPath(str(path)),
    "from home, as text": lambda path: f"~/{path.name}",
    "from home": lambda path: Path("~", path.name),
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run that is trained to its end, and the model in it."""
    folder = tmp_path_factory.mktemp("home")
    recipe = folder / "recipe.toml"
    data = saved_data(folder)
    recipe.write_text(
        f"data = {json.dumps(data)}\nnetwork = 'serial(dense(3), relu, dense(1))'\n"
        "loss = 'sigmoid_cross_entropy'\noptimizer = 'gradient_descent(learning_rate=0.1)'\n"
        "iterations = 4\n",
        encoding="utf-8",
    )
    for run in ("run", "other"):
        assert main(["train", str(recipe), "--run", str(folder / run), "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path)


def fresh(home, ending=""):
    """A name in the home folder that is not taken."""
    return home / f"new-{len(os.listdir(home))}{ending}"


def test_models_are_saved_and_loaded(home, form):
    model = load_model(home / "run" / "model.h5")
    path = fresh(home, ".h5")
    model.save(form(path))
    assert load_model(form(path)).recipe == load_model(path).recipe


def test_tables_are_saved_and_loaded(home, form):
    path = fresh(home, ".h5")
    save_table(form(path), small_data())
    np.testing.assert_array_equal(load_table(form(path)).train.X, load_table(path).train.X)
    np.testing.assert_array_equal(load_data_set(form(path)).train.X, load_table(path).train.X)
    assert lasting_name(form(path)) == str(path.resolve())


def test_images_are_saved_and_loaded(home, form):
    folder, sheet, photo = fresh(home), fresh(home, ".s.png"), fresh(home, ".p.png")
    save_catvnoncat(form(folder), *drawn_cats(1, train_count=2, test_count=1))
    assert len(load_catvnoncat(form(folder))[0]) == 2
    assert len(load_data_set(form(folder)).train.X) == 64 * 64 * 3
    save_sheet(form(sheet), Image.new("RGB", (2, 2)))
    Image.new("RGB", (8, 8), "red").save(photo)
    assert load_photo(form(photo), size=(4, 4)).shape == (4, 4, 3)
    assert sheet.is_file()


def test_plots_are_saved(home, form):
    path = fresh(home, ".png")
    expect_plottable(form(path))
    from matplotlib.figure import Figure  # late, since it takes long to import

    save_plot(Figure(), form(path))
    assert path.is_file()


def test_runs_are_created_opened_and_resumed(home, form):
    path, data = fresh(home), small_data()
    recipe = small_recipe(home)
    with create_run(form(path), prepare(recipe, data.train), data):
        pass
    assert Run.open(form(path)).iterations == 0
    with resume_run(form(path)) as resumed:
        assert resumed.run.iterations == 0


def test_tensors_are_written_and_read(home, form):
    path = fresh(home, ".h5")
    write_tensors(form(path), [])
    assert read_tensors(form(path)) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["run", "run/model.h5", "~/run", "~/run/model.h5"])
@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "RUN"],
        ["summary", "RUN"],
        ["replay", "RUN"],
        ["inspect", "RUN", "--step", "1"],
        ["diff", "RUN", "~/other/model.h5"],
        ["doctor", "RUN"],
        ["resume", "RUN", "--quiet"],
        ["train", "RUN", "--iterations", "2", "--quiet", "--no-record"],
    ],
    ids=lambda argv: argv[0],
)
def test_a_run_is_named_by_its_folder_or_by_the_model_in_it(home, capsys, argv, name):
    path = name if name.startswith("~") else str(home / name)
    assert main([path if part == "RUN" else part for part in argv]) == 0, capsys.readouterr()


@pytest.mark.parametrize("argv", [["evaluate"], ["summary"], ["predict", "RUN", "no.png"]])
def test_a_model_without_a_run_is_named_by_its_file(home, tmp_path, capsys, argv):
    load_model(home / "run" / "model.h5").save("alone.h5")
    status = main([argv[0], "alone.h5", *argv[2:]])
    err = capsys.readouterr().err
    assert status == (2 if argv[0] == "predict" else 0)
    assert "model.h5/model.h5" not in err


def test_evaluate_says_how_to_name_data_that_has_moved(home, tmp_path, capsys):
    model = load_model(home / "run" / "model.h5")
    gone = attrs.evolve(model, recipe=attrs.evolve(model.recipe, data="gone.h5"))
    gone.save("alone.h5")
    assert main(["evaluate", "alone.h5"]) == 2
    err = capsys.readouterr().err
    assert "there is no data set 'gone.h5'" in err
    assert "or give its place with --data" in err
    assert main(["evaluate", "alone.h5", "--data", saved_data(home)]) == 0
    assert main(["evaluate", "alone.h5", "--data", "gone-too.h5"]) == 2
    assert "--data" not in capsys.readouterr().err


def test_a_folder_that_is_neither_a_run_nor_a_recipe_is_refused(tmp_path, capsys):
    for command in ("summary", "train"):
        assert main([command, str(tmp_path)]) == 2
        assert "is a folder without recipe.toml" in capsys.readouterr().err
