import json
import os
import re
import shutil

import attrs
import h5py
import numpy as np
import pytest
from resealing import flip, in_about, replaced, resealed
from small_runs import recorded, resumed, small_data, small_recipe

from pydnn import BadInput, describe, full_batch
from pydnn.runs import Run
from pydnn.runs.folder import free_name, read_folder, sha256_of
from pydnn.runs.segments import read_segment


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, and others that each differ from it in one respect."""
    folder = tmp_path_factory.mktemp("folders")
    recipe = small_recipe(folder)
    recorded(folder / "run", recipe)
    recorded(folder / "another seed", attrs.evolve(recipe, seed=4))
    recorded(folder / "another interval", recipe, every=2)
    X = small_data().train.X
    data = attrs.evolve(small_data(), train=attrs.evolve(small_data().train, X=X[:, ::-1]))
    recorded(folder / "other data", recipe, data)
    recorded(folder / "other batches", attrs.evolve(recipe, batches=describe(full_batch())))
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def refusal(run):
    with pytest.raises(BadInput) as caught:
        Run.open(run)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
    return str(caught.value)


def test_a_sound_folder_is_read(run):
    folder = read_folder(run)
    assert [segment.iteration for segment in folder.segments] == [0, 4, 8, 12]
    assert [(end.iteration, end.why) for end in folder.ends] == [(12, "finished")]
    assert (folder.faults, folder.left_behind) == ((), ())
    assert folder.segments[0].before == sha256_of((run / "recipe.toml").read_text())
    for before, after in zip(folder.segments, folder.segments[1:], strict=False):
        assert after.before == before.fingerprint


def test_a_half_written_file_is_not_a_fault(run):
    for place in (run, run / "segments"):
        (place / ".0000000016.h5.1-2.part").touch()
    folder = read_folder(run)
    assert folder.faults == ()
    assert len(folder.left_behind) == 2


# Segments


def segment(run, iteration):
    return run / "segments" / f"{iteration:010}.h5"


def removed(*iterations):
    def change(run, made):
        for iteration in iterations:
            segment(run, iteration).unlink()

    return change


def swapped(run, made):
    a, b, c = segment(run, 4), segment(run, 8), run / "c"
    a.rename(c), b.rename(a), c.rename(b)


def copied(iteration, name):
    return lambda run, made: shutil.copy(segment(run, iteration), run / "segments" / name)


def taken_from(other, iteration):
    return lambda run, made: shutil.copy(segment(made / other, iteration), segment(run, iteration))


def all_taken_from(other):
    def change(run, made):
        shutil.rmtree(run / "segments")
        shutil.copytree(made / other / "segments", run / "segments")

    return change


def sealed_again(iteration, edit):
    return lambda run, made: resealed(segment(run, iteration), edit)


def put(name, content):
    def change(run, made):
        (run / name).unlink(missing_ok=True)
        (run / name).write_bytes(content)

    return change


def folder_instead(name):
    def change(run, made):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return change


def no_segments(run, made):
    shutil.rmtree(run / "segments")


def empty_segments(run, made):
    no_segments(run, made)
    (run / "segments").mkdir()


def a_file_for_segments(run, made):
    no_segments(run, made)
    (run / "segments").touch()


def linked(name, target):
    def change(run, made):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)

    return change


FOUR, EIGHT = "0000000004.h5", "0000000008.h5"
OTHER = "is not the fingerprint of"
CHANGED = r"recipe\.toml is not the recipe that the segments .* hold: pydnn resume .* restores it"
NOW = r"is not the present recipe\.toml"
LINK = rf"{EIGHT} is a symbolic link, expected an HDF5 file"
SEGMENTS = {
    "the first removed": (removed(0), r"0000000000\.h5, the first segment, is missing"),
    "one in the middle removed": (removed(8), rf"before in .*12\.h5 {OTHER} {FOUR}, the one bef"),
    "the last removed": (removed(12), r"0000000012\.h5 is missing or does not match end-"),
    "all removed": (removed(0, 4, 8, 12), r"0000000000\.h5, the first segment, is missing"),
    "two swapped": (swapped, rf"iteration in .*{FOUR} is 8, expected the one in its name"),
    "one twice": (copied(4, "0000000005.h5"), r"iteration in .*05\.h5 is 4, expected the one"),
    "one twice, in more digits": (
        copied(4, "00000000004.h5"), r"iteration in .*00000000004\.h5 is 4, expected the one",
    ),
    "one twice, in other digits": (copied(0, "\u0660" * 10 + ".h5"), r"is not a segment: move it"),
    "one of another seed": (taken_from("another seed", 8), rf"recipe in .*{EIGHT} {NOW}"),
    "one of other data": (taken_from("other data", 8), rf"recipe in .*{EIGHT} {NOW}"),
    "one of another interval": (
        taken_from("another interval", 8), rf"before in .*{EIGHT} {OTHER} {FOUR}",
    ),
    "the last of another interval": (
        taken_from("another interval", 12), rf"before in .*12\.h5 {OTHER} {EIGHT}",
    ),
    "the last of another seed": (
        taken_from("another seed", 12), rf"recipe in .*12\.h5 {NOW}",
    ),
    "the first of another seed": (
        taken_from("another seed", 0), rf"recipe in .*00\.h5 {NOW}",
    ),
    "all of another seed": (all_taken_from("another seed"), CHANGED),
    "all of other data": (all_taken_from("other data"), CHANGED),
    "all of other batches": (all_taken_from("other batches"), CHANGED),
    "all of another interval": (
        all_taken_from("another interval"), r"12\.h5 is missing or does not match end-",
    ),
    "one more between": (
        lambda run, made: shutil.copy(segment(made / "another interval", 2), segment(run, 2)),
        rf"before in .*{FOUR} {OTHER} 0000000002\.h5, the one before it",
    ),
    "a goal that was changed": (sealed_again(4, in_about(goal=13)), rf"{EIGHT} {OTHER} {FOUR}"),
    "another goal in the last": (
        sealed_again(12, in_about(goal=13)), r"12\.h5 is missing or does not match end-",
    ),
    "another start": (sealed_again(8, in_about(start=3)), rf"before in .*{EIGHT} {OTHER} {FOUR}"),
    "another key": (
        sealed_again(12, in_about(seed=4)), r"key in .*12\.h5 is not that of the seed in recipe",
    ),
    "a key with a path": (sealed_again(12, in_about(key=["a"])), r"key in .*12\.h5 is not that of"),
    "another environment": (
        sealed_again(12, in_about(environment="0" * 64)), r"environment in .*12\.h5 is not that",
    ),
    "an empty file": (put(f"segments/{EIGHT}", b""), rf"the seal in .*{EIGHT} is damaged"),
    "a text": (put(f"segments/{EIGHT}", b"x" * 999), rf"the seal in .*{EIGHT} is damaged"),
    "a folder": (folder_instead(f"segments/{EIGHT}"), rf"{EIGHT} is a directory, expected an HDF5"),
    "a link to nothing": (linked(f"segments/{EIGHT}", "gone"), LINK),
    "a link to itself": (linked(f"segments/{EIGHT}", EIGHT), LINK),
    "a device": (linked(f"segments/{EIGHT}", "/dev/zero"), LINK),
    "something else": (put("segments/notes.txt", b""), r"notes\.txt is not a segment: move it"),
    "a name of two lines": (put("segments/a\nb.h5", b""), r"a\\nb\.h5 is not a segment"),
    "a name that drives a terminal": (put("segments/\x1b[2J", b""), r"x1b\[2J is not a segment"),
    "no folder": (no_segments, r"segments cannot be read \(No such file or directory\)"),
    "an empty folder of them": (empty_segments, r"0000000000\.h5, the first segment, is missing"),
    "a file for the folder": (a_file_for_segments, r"segments is a link or a file, expected a fol"),
}  # fmt: skip

RECIPE, ENVIRONMENT, END = "recipe.toml", "environment.json", "end-0000000012.json"
STRAY = "environment-0123456789ab.json"


def edited(name, old, new):
    def change(run, made):
        text = (run / name).read_text()
        assert re.search(old, text)
        (run / name).write_text(re.sub(old, new, text, count=1))

    return change


def appended(name, text):
    return lambda run, made: put(name, (run / name).read_bytes() + text)(run, made)


def moved(name, to):
    return lambda run, made: (run / name).rename(run / to)


def another_end(**changes):
    def change(run, made):
        plain = {k: v for k, v in json.loads((run / END).read_text()).items() if k != "sha256"}
        plain |= changes
        text = json.dumps(plain | {"sha256": sha256_of(json.dumps(plain))}) + "\n"
        (run / END).write_text(text)

    return change


def a_pipe_for(name):
    def change(run, made):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


RESTORES = r"recipe\.toml .*: pydnn resume .* restores it"
NO_END = "does not say where the training ended"
TEXTS = {
    "recipe: emptied": (put(RECIPE, b""), CHANGED),
    "recipe: removed": (lambda run, made: (run / RECIPE).unlink(), RESTORES),
    "recipe: a folder": (folder_instead(RECIPE), RESTORES),
    "recipe: a pipe": (a_pipe_for(RECIPE), RESTORES),
    "recipe: no utf-8": (put(RECIPE, b"\xff"), r"recipe\.toml is not a UTF-8 text"),
    "recipe: too long": (put(RECIPE, b"#" * (2 << 20)), r"recipe\.toml has 2097152 bytes"),
    "recipe: no TOML": (put(RECIPE, b"["), CHANGED),
    "recipe: deep": (put(RECIPE, b"a = " + b"[" * 50_000), CHANGED),
    "recipe: a comment": (appended(RECIPE, b"# more\n"), CHANGED),
    "recipe: a blank line": (appended(RECIPE, b"\n"), CHANGED),
    "recipe: another seed": (edited(RECIPE, "seed = 3", "seed = 4"), CHANGED),
    "recipe: another rate": (edited(RECIPE, r"0\.01", "0.02"), CHANGED),
    "recipe: other data": (edited(RECIPE, "sha256 = \"[0-9a-f]{3}", 'sha256 = "000'), CHANGED),
    "recipe: huge layers": (edited(RECIPE, r"dense\(4\)", "dense(1000000000)"), CHANGED),
    "recipe: endless data": (
        edited(RECIPE, r"shape = \[5, 40\]", "shape = [99999999999, 40]"), CHANGED,
    ),
    "recipe: of another run": (
        lambda run, made: shutil.copy(made / "another seed" / RECIPE, run / RECIPE), CHANGED,
    ),
    "environment: emptied": (put(ENVIRONMENT, b""), r"environment\.json is damaged"),
    "environment: removed": (
        lambda run, made: (run / ENVIRONMENT).unlink(),
        r"environment\.json is missing: pydnn resume .* restores it",
    ),
    "environment: a folder": (folder_instead(ENVIRONMENT), r"environment\.json is a directory"),
    "environment: a pipe": (a_pipe_for(ENVIRONMENT), r"environment\.json is not a regular file"),
    "environment: a device": (linked(ENVIRONMENT, "/dev/zero"), r"environment\.json is a symbol"),
    "environment: a space": (
        appended(ENVIRONMENT, b" "), r"environment\.json is not the environment of any segment",
    ),
    "environment: another": (
        edited(ENVIRONMENT, '"fast"', '"slow"'), r"environment\.json is not the environment of any",
    ),
    "environment: deep": (put(ENVIRONMENT, b"[" * 50_000), r"environment\.json is damaged"),
    "environment: under another name": (
        lambda run, made: shutil.copy(run / ENVIRONMENT, run / STRAY),
        rf"{STRAY[:-5]}\.json does not match the hash in its name",
    ),
    "end: emptied": (put(END, b""), r"end-0000000012\.json is damaged"),
    "end: a folder": (folder_instead(END), r"end-0000000012\.json is a directory"),
    "end: a pipe": (a_pipe_for(END), r"end-0000000012\.json is not a regular file"),
    "end: no JSON": (put(END, b"{"), r"end-0000000012\.json is damaged"),
    "end: a list": (put(END, b"[]"), NO_END),
    "end: deep": (put(END, b"[" * 50_000), r"end-0000000012\.json is damaged"),
    "end: another name": (moved(END, "end-0000000008.json"), NO_END),
    "end: of another step": (another_end(iteration=8), NO_END),
    "end: of a truth": (
        lambda run, made: (
            another_end(iteration=True)(run, made), moved(END, "end-0000000001.json")(run, made)
        ),
        NO_END,
    ),
    "end: of two lines": (another_end(why="a\nb"), NO_END),
    "end: why is a number": (another_end(why=3), NO_END),
    "end: another fingerprint": (
        another_end(fingerprint="0" * 64), r"12\.h5 is missing or does not match end-",
    ),
    "end: another reason": (
        edited(END, "finished", "finishes"), r"sha256 in .*end-0000000012\.json is not that of its",
    ),
    "end: another blank": (
        edited(END, " ", "  "), r"sha256 in .*end-0000000012\.json is not that of its text",
    ),
    "end: of a step that is not there": (
        lambda run, made: moved(END, "end-0000000016.json")(run, made), NO_END,
    ),
}  # fmt: skip
CHANGES = {f"segments: {name}": case for name, case in SEGMENTS.items()} | TEXTS


@pytest.mark.sampled(3)
@pytest.mark.skipif(os.name != "posix", reason="links, pipes and names are made")
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_changed_folder_is_refused_in_one_line(run, made, change, message):
    change(run, made)
    assert re.search(message, refusal(run))


def test_an_end_that_is_removed_was_perhaps_never_there(run):
    (run / END).unlink()
    assert Run.open(run).iterations == 12


@pytest.mark.parametrize("name", [RECIPE, ENVIRONMENT, END])
@pytest.mark.parametrize(
    "stride", [pytest.param(1, id="every byte", marks=pytest.mark.slow), 83], ids=str
)
def test_any_changed_byte_of_a_text_is_noticed(run, name, stride):
    path = run / name
    for position in range(0, path.stat().st_size, stride):
        for bits in (1, position * 37 % 255 + 1):
            flip(path, position, bits)
            assert re.search(rf"{name}|0000000000\.h5", refusal(run)), position
            flip(path, position, bits)
    assert Run.open(run).iterations == 12


@pytest.mark.parametrize("name", [RECIPE, ENVIRONMENT, END])
@pytest.mark.parametrize(
    "stride", [pytest.param(1, id="every byte", marks=pytest.mark.slow), 64], ids=str
)
def test_a_truncated_text_is_noticed(run, name, stride):
    path = run / name
    whole = path.read_bytes()
    for size in range(0, len(whole), stride):
        path.write_bytes(whole[:size])
        refusal(run)


def test_every_byte_of_every_segment_is_looked_at_when_a_run_is_opened(run):
    for iteration in (0, 4, 8, 12):
        path = segment(run, iteration)
        for position in (0, 70, 600, path.stat().st_size - 1):
            flip(path, position)
            assert f"{path} is damaged" in refusal(run)
            flip(path, position)


def test_a_state_that_a_stranger_sealed_is_refused_when_it_is_first_used(run):
    (run / END).unlink()
    path = segment(run, 12)
    with h5py.File(path) as file:
        parameters = file["parameters"][...]
    resealed(path, replaced("parameters", np.roll(parameters, 1)))
    opened = Run.open(run)
    with pytest.raises(BadInput, match=r"state in .*12\.h5 does not match its fingerprint"):
        opened.parameters()
    assert opened.parameters(8).vector.shape == parameters.shape
    resealed(path, replaced("cost", np.zeros(4)))
    with pytest.raises(BadInput, match=r"rows in .*12\.h5 do not match their fingerprint"):
        opened.costs  # noqa: B018


def test_a_segment_of_an_old_version_of_the_run_is_refused(made, tmp_path):
    recorded(tmp_path / "run", small_recipe(made), steps=6)
    old = {path.name: path.read_bytes() for path in (tmp_path / "run" / "segments").iterdir()}
    segment(tmp_path / "run", 6).write_bytes(b"")
    resumed(tmp_path / "run", iterations=20, every=2)  # from step 4 on, with another goal
    path = segment(tmp_path / "run", 6)
    new = path.read_bytes()
    assert read_segment(path).state_sha256
    path.write_bytes(old[path.name])
    message = r"before in .*08\.h5 is not the fingerprint of 0000000006\.h5, the one before it"
    assert re.search(message, refusal(tmp_path / "run"))
    path.write_bytes(new)
    assert Run.open(tmp_path / "run").goal == 20


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "does not exist, expected the folder of a run"),
        (lambda path: path.touch(), "is an empty file, expected the folder of a run"),
        (lambda path: path.mkdir(), r"has no recipe\.toml, expected the folder of a run"),
    ],
    ids=["nothing", "a file", "an empty folder"],
)
def test_anything_but_the_folder_of_a_run_is_refused(tmp_path, prepare, message):
    prepare(tmp_path / "run")
    assert re.search(message, refusal(tmp_path / "run"))


def test_a_free_name_has_a_number_where_others_are_taken(tmp_path):
    paths = []
    for _ in range(3):
        paths.append(free_name(tmp_path, "a.h5"))
        paths[-1].touch()
    assert [path.name for path in paths] == ["a.h5", "a.h5.2", "a.h5.3"]


FILES = {
    RECIPE: CHANGED,
    ENVIRONMENT: r"environment\.json is damaged .*: pydnn resume .* restores it",
    END: r"end-0000000012\.json is damaged",
}


@pytest.mark.parametrize(("name", "message"), FILES.items(), ids=FILES)
def test_a_byte_order_mark_in_a_file_of_a_run_is_a_change(run, name, message):
    (run / name).write_bytes(b"\xef\xbb\xbf" + (run / name).read_bytes())
    assert re.search(message, refusal(run))


@pytest.mark.parametrize("recipe", [RECIPE, ENVIRONMENT])
def test_resume_takes_a_byte_order_mark_away_again(run, recipe):
    text = (run / recipe).read_bytes()
    (run / recipe).write_bytes(b"\xef\xbb\xbf" + text)
    (run / END).unlink()
    resumed(run)
    assert (run / recipe).read_bytes() == text


@pytest.mark.skipif(os.name != "posix", reason="links are made")
@pytest.mark.parametrize(
    "name", [RECIPE, ENVIRONMENT, END, *(f"segments/{n:010}.h5" for n in (0, 8))]
)
def test_a_link_to_an_equal_file_is_refused_by_name(run, tmp_path, name):
    outside = tmp_path / "outside"
    (run / name).rename(outside)
    (run / name).symlink_to(outside)
    assert f"{run / name} is a symbolic link" in refusal(run)
