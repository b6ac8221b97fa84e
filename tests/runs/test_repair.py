"""A run survives the damage or loss of any one file, and goes on to the same bits."""

import os
import shutil
from pathlib import Path

import pytest
from resealing import flip, in_about, resealed
from small_runs import recorded, resumed, small_recipe

from pydnn import BadInput
from pydnn.cli import main
from pydnn.runs import Run, resume_run
from pydnn.runs.folder import end_text
from pydnn.runs.replay import verify
from pydnn.runs.segments import read_segment
from pydnn.storage.files import write_text

OLD = Path(__file__).parents[1] / "old_runs"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of four segments that was resumed once, so that it has two ends."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = small_recipe(folder, evaluate_every=3)
    recorded(folder / "run", recipe, every=4)
    said_to_have_ended(folder / "run")
    return folder / "run"


def said_to_have_ended(run):
    end = run / "end-0000000012.json"
    if not end.exists():
        write_text(end, end_text(Run.open(run).segments[-1], "finished"))


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "model.h5")
        and "set-aside" not in path.parts
    }  # fmt: skip


def flipped(path):
    flip(path, path.stat().st_size // 2)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "a byte": flipped,
    "cut short": cut,
    "emptied": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a directory": directory,
    "a pipe": pipe,
    "of another kind": lambda path: path.write_bytes(b"[1]\n"),
}
SEGMENTS = [f"segments/{n:010}.h5" for n in (0, 4, 8, 12)]
FILES = ["recipe.toml", "environment.json", *SEGMENTS, "end-0000000012.json"]


@pytest.mark.skipif(os.name != "posix", reason="pipes are made")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "stride",
    [pytest.param(1, id="every file", marks=pytest.mark.slow), pytest.param(7, id="one file")],
)
def test_any_one_damaged_file_is_set_aside_and_restored_bit_for_bit(run, whole, damage, stride):
    expected = contents(whole)
    for name in FILES[list(DAMAGES).index(damage) % stride :: stride]:
        DAMAGES[damage](run / name)
        if name.startswith("end") and not os.path.lexists(run / name):
            said_to_have_ended(run)
            continue  # perhaps it never existed
        with pytest.raises(BadInput) as refusal:
            Run.open(run)
        assert "\n" not in str(refusal.value)
        with resume_run(run) as opened:
            assert opened.run.iterations == (8 if name == SEGMENTS[-1] else 12), name
            moved = [fault.path.parent.name for fault in opened.recording.set_aside]
            assert moved in ([], ["set-aside"], ["set-aside"] * 2), name
        if name == SEGMENTS[-1] or name.startswith("end"):  # the training writes these again
            resumed(run, every=4)
            said_to_have_ended(run)
        assert contents(run) == expected, name
        assert Run.open(run).iterations == 12


def test_what_was_restored_is_named(run, capsys):
    flipped(run / "recipe.toml")
    (run / SEGMENTS[0]).unlink()
    with resume_run(run) as opened:
        restored = {path.name for path in opened.recording.restored}
        [fault] = opened.recording.set_aside
    assert restored == {"recipe.toml"} | {Path(SEGMENTS[0]).name}
    assert fault.path == run / "set-aside" / "recipe.toml"
    assert all(verified.mismatch is None for verified in verify(Run.open(run)))


def test_a_recipe_that_somebody_edited_is_replaced_by_the_one_that_was_trained(run):
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("0.01", "0.02"))
    with pytest.raises(BadInput, match=r"recipe\.toml is not the recipe .*: pydnn resume .* rest"):
        Run.open(run)
    resumed(run)
    assert (run / "recipe.toml").read_text() == text


@pytest.mark.slow
def test_a_segment_of_another_run_is_not_accepted(run, whole, tmp_path):
    recorded(tmp_path / "other", small_recipe(whole.parent, seed=4), every=4)
    for name in SEGMENTS:
        shutil.copy(tmp_path / "other" / name, run / name)
        with pytest.raises(BadInput):
            Run.open(run)
        resumed(run, every=4)
        said_to_have_ended(run)
        assert contents(run) == contents(whole), name


def test_a_forged_segment_is_replaced_if_the_next_one_reveals_it(run, whole):
    resealed(run / SEGMENTS[1], in_about(goal=99))
    resumed(run, every=4)
    assert contents(run) == contents(whole)


def test_two_lost_segments_in_a_row_are_computed_again_with_all_after_them(run, whole):
    for name in SEGMENTS[1:3]:
        (run / name).unlink()
    with resume_run(run) as opened:
        assert opened.run.iterations == 0
    resumed(run, every=4)
    assert Run.open(run).fingerprint == Run.open(whole).fingerprint


def test_a_run_of_which_only_its_first_segment_is_there_and_damaged_begins_again(tmp_path):
    recipe = small_recipe(tmp_path)
    state = recorded(tmp_path / "whole", recipe)
    recorded(tmp_path / "run", recipe, steps=4)
    (tmp_path / "run" / SEGMENTS[1]).unlink()
    for path in (tmp_path / "run").glob("end-*"):
        path.unlink()
    flipped(tmp_path / "run" / SEGMENTS[0])
    assert resumed(tmp_path / "run") == state


def test_nothing_is_moved_if_several_segments_are_damaged_and_none_is_intact(run):
    for name in SEGMENTS:
        (run / name).write_bytes(b"")
    before = contents(run)
    with pytest.raises(BadInput, match=r"the seal in .*0000000000.h5 is damaged.*no intact"):
        resumed(run)
    assert contents(run) == before
    assert not (run / "set-aside").exists()


def test_nothing_is_moved_if_the_data_is_refused(run, whole):
    from small_runs import small_data

    flipped(run / SEGMENTS[1])
    with pytest.raises(BadInput, match="differs"):
        resumed(run, data=small_data(2))
    assert not (run / "set-aside").exists()


# Links and pipes instead of folders and of the lock


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are made")
@pytest.mark.parametrize("name", ["set-aside", "segments"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside the run", "elsewhere"])
def test_a_link_in_the_place_of_a_folder_is_refused(run, tmp_path, name, inside):
    aim = run / "aim" if inside else tmp_path / "elsewhere"
    if name == "segments":
        (run / name).rename(aim)
    else:
        aim.mkdir()
        (run / "segments" / "authorized_keys").write_text("x")
    (run / name).symlink_to(aim)
    before = sorted(os.listdir(aim))
    with pytest.raises(BadInput, match=rf"{name} is a link or a file, expected a folder"):
        resumed(run)
    assert sorted(os.listdir(aim)) == before


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are made")
def test_a_lock_that_is_not_a_regular_file_is_refused_at_once(run, tmp_path):
    lock = run / "lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="lock is a symbolic link, expected the file of a lock"):
        resumed(run)
    assert not (tmp_path / "elsewhere").exists()
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(BadInput, match="lock is not a regular file"):
        resumed(run)
    lock.unlink()
    lock.mkdir()
    with pytest.raises(BadInput, match="lock is a directory"):
        resumed(run)
    lock.rmdir()
    assert resumed(run).iteration == 12


@pytest.mark.sampled(3)
@pytest.mark.skipif(os.name != "posix", reason="links are made")
@pytest.mark.parametrize("name", FILES)
def test_a_link_in_the_place_of_a_file_is_moved_and_never_followed(run, tmp_path, name):
    aim = tmp_path / "aim"
    (run / name).rename(aim)
    content = aim.read_bytes()
    (run / name).symlink_to(aim)
    with pytest.raises(BadInput, match="is a symbolic link"):
        Run.open(run)
    resumed(run, every=4)
    assert aim.read_bytes() == content
    assert (run / "set-aside" / Path(name).name).is_symlink()
    assert Run.open(run).iterations == 12


# Runs that pydnn 0.1.0 recorded


@pytest.fixture
def old(tmp_path):
    shutil.copytree(OLD / "cut", tmp_path / "old")
    return tmp_path / "old"


def test_an_old_run_goes_on_without_its_first_segment(old):
    flipped(old / SEGMENTS[0])
    resumed(old, data=str(OLD / "small.h5"))
    restored, first = (read_segment(folder / SEGMENTS[0]) for folder in (old, OLD / "cut"))
    assert restored.fingerprint == first.fingerprint
    assert Run.open(old).iterations == 12


@pytest.mark.parametrize("damage", [Path.unlink, flipped, cut], ids=["missing", "a byte", "cut"])
def test_an_old_run_goes_on_without_its_environment(old, damage):
    damage(old / "environment.json")
    resumed(old, data=str(OLD / "small.h5"))
    again = Run.open(old, data=str(OLD / "small.h5"))
    assert again.iterations == 12
    assert all(verified.mismatch is None for verified in verify(again))


def test_an_old_run_without_its_recipe_is_refused(old, capsys):
    flipped(old / "recipe.toml")
    assert main(["resume", str(old)]) == 2
    assert "recipe.toml" in capsys.readouterr().err


def stray(run):
    name = f"environment-{'0' * 12}.json"
    (run / name).write_text((run / "environment.json").read_text())
    return name


def forged(run):
    (run / "environment.json").write_text("{}")
    return "environment.json"


@pytest.mark.parametrize(
    ("prepare", "restored"), [(stray, False), (forged, True)], ids=["stray", "forged"]
)
def test_only_what_resume_restores_is_said_to_be_restored(run, prepare, restored):
    name = prepare(run)
    does = "restores it" if restored else "moves it to set-aside, and goes on without it"
    with pytest.raises(BadInput, match=rf"{name}.*: pydnn resume \S+ {does}\.$"):
        Run.open(run)
    with resume_run(run) as opened:
        assert (run / name in opened.recording.restored) == restored
        assert [fault.path.name for fault in opened.recording.set_aside] == [name]
    assert Run.open(run).iterations == 12


def test_an_environment_that_a_run_of_0_1_0_does_not_hold_is_not_said_to_be_restored(tmp_path):
    shutil.copytree(OLD / "cut", tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text("{}")
    with pytest.raises(BadInput, match=r"moves it to set-aside, and goes on without it\.$"):
        Run.open(tmp_path / "run")
