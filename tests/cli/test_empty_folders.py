"""The next try uses an empty folder that a killed command left."""

import os
import shutil
from pathlib import Path

import pytest
from small_runs import recorded, resumed, small_recipe

from pydnn import BadInput
from pydnn.cli import main
from pydnn.cli.train import plain_folder
from pydnn.data import drawn_cats, save_catvnoncat
from pydnn.recipes.toml import write_recipe
from pydnn.runs import Run
from pydnn.storage.files import make_folder


@pytest.mark.parametrize("left", [[], [".working"]], ids=["empty", "with the mark of its work"])
def test_an_empty_folder_is_taken_over(tmp_path, left):
    (tmp_path / "best").mkdir()
    for name in left:
        (tmp_path / "best" / name).touch()
    with plain_folder(tmp_path / "best"):
        (tmp_path / "best" / "model.h5").touch()
    assert os.listdir(tmp_path / "best") == ["model.h5"]
    with pytest.raises(BadInput, match="exists already"), plain_folder(tmp_path / "best"):
        pass


def test_a_folder_that_somebody_works_for_is_not(tmp_path):
    with plain_folder(tmp_path / "best"):
        with (
            pytest.raises(BadInput, match="written by another process"),
            plain_folder(tmp_path / "best"),
        ):
            pass
        assert os.listdir(tmp_path / "best") == [".working"]
    assert not (tmp_path / "best").exists()


@pytest.mark.skipif(os.name != "posix", reason="links are made")
def test_a_link_to_an_empty_folder_is_not_taken_over(tmp_path):
    (tmp_path / "aim").mkdir()
    (tmp_path / "best").symlink_to(tmp_path / "aim")
    with pytest.raises(BadInput, match="exists already"), plain_folder(tmp_path / "best"):
        pass
    with pytest.raises(BadInput, match="exists already"):
        make_folder(tmp_path / "best", lambda folder: None)


@pytest.mark.parametrize("left", [[], [".working"]], ids=["empty", "with the mark of its work"])
def test_a_run_is_recorded_in_an_empty_folder(tmp_path, capsys, left):
    (tmp_path / "r.toml").write_text(write_recipe(small_recipe(tmp_path)))
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()
    assert main(["train", str(tmp_path / "r.toml"), "--run", str(tmp_path / "run")]) == 0
    assert f"recorded in {tmp_path / 'run'}, 0." in capsys.readouterr().out
    assert Run.open(tmp_path / "run").iterations == 12


def test_images_that_cannot_be_written_leave_no_folder(tmp_path, monkeypatch):
    from pydnn.data import image_sets

    def full(*args):
        raise BadInput("no room")

    monkeypatch.setattr(image_sets, "_write", full)
    with pytest.raises(BadInput, match="no room"):
        save_catvnoncat(tmp_path / "photos", *drawn_cats(1, train_count=1, test_count=1))
    assert not (tmp_path / "photos").exists()


def test_a_run_without_its_model_says_how_far_it_is(tmp_path, capsys):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    (tmp_path / "run" / "model.h5").unlink()
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "has 12 steps but no model.h5: run pydnn resume" in message
    assert "cut short" not in message


@pytest.mark.skipif(os.name != "posix", reason="pipes and links are made")
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("x")])
def test_what_is_in_the_place_of_a_model_is_set_aside(tmp_path, make):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    model = tmp_path / "run" / "model.h5"
    model.unlink()
    make(model)
    resumed(tmp_path / "run")
    assert model.is_file()
    assert not model.is_symlink()
    assert os.path.lexists(tmp_path / "run" / "set-aside" / "model.h5")
    shutil.rmtree(tmp_path / "run" / "set-aside")
    assert Run.open(tmp_path / "run").iterations == 12
