import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pydnn import BadInput, Batch, Recipe, train
from pydnn.data import (
    DataSet,
    drawn_cats,
    image_folders,
    load_data_set,
    load_image_folder,
    save_catvnoncat,
    save_table,
)
from pydnn.data.image_folders import holds_images, kept_at
from pydnn.data.photos import load_photos
from pydnn.data.sets import images_of
from pydnn.jobs.loading import data_of
from pydnn.long_work import work_shown

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

COLORS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255)}


def picture(path, color="red", size=(12, 9), mode="RGB", **options):
    """Write a picture of one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLORS[color]).convert(mode).save(path, **options)


def folder_of(top, *, parts=("",), classes=("red", "green", "blue"), count=2):
    """A folder with so many pictures for each class."""
    for part in parts:
        for name in classes:
            for number in range(count):
                size = (9 + 4 * number, 12)
                picture(top / part / name / f"{number}.png", name, size)
    return top


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the pictures that are decoded, as they are."""
    decoded = []

    def load(paths, *, size):
        decoded.extend(paths)
        return load_photos(paths, size=size)

    monkeypatch.setattr(image_folders, "load_photos", load)
    return decoded


def test_classes_and_pictures_come_in_the_order_of_their_names(tmp_path):
    folder = folder_of(tmp_path / "photos")
    images = load_image_folder(folder, image_size=(4, 5))
    assert images.train.classes == ("blue", "green", "red")
    np.testing.assert_array_equal(images.train.labels, [0, 0, 1, 1, 2, 2])
    assert images.test is None
    assert images.train.images.shape == (6, 4, 5, 3)
    for label, name in enumerate(images.train.classes):
        assert (images.train.images[images.train.labels == label] == COLORS[name]).all()


def test_each_image_is_the_picture_upright_its_middle_and_resized(tmp_path):
    """Pillow's own functions say what is expected."""
    for name in ("a", "b"):
        for number, (mode, suffix) in enumerate(
            [("RGB", "jpg"), ("L", "png"), ("P", "gif"), ("CMYK", "tiff"), ("RGBA", "webp")]
        ):
            exif = Image.Exif()
            exif[0x0112] = 1 + number
            noise = np.random.default_rng(number).integers(0, 256, (20, 31, 3), np.uint8)
            (tmp_path / name).mkdir(exist_ok=True)
            file = tmp_path / name / f"{number}.{suffix}"
            Image.fromarray(noise).convert(mode).save(file, exif=exif)
    images = load_image_folder(tmp_path, image_size=[8, 6])
    for image, path in zip(images.train.images, sorted(tmp_path.glob("*/*")), strict=True):
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        expected = ImageOps.fit(upright, (6, 8), method=Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(image, np.asarray(expected))


def test_the_order_is_not_that_of_the_system(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "photos", count=3)
    first = load_image_folder(folder, image_size=(4, 4))
    kept_at(folder, (4, 4)).unlink()
    entries = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(list(entries(path))))
    assert load_image_folder(folder, image_size=(4, 4)).fingerprint == first.fingerprint


def test_accents_are_compared_as_they_look(tmp_path):
    # macOS may store the e and its accent apart, which would sort before "ez".
    for name in ("e\u0301", "ez"):
        picture(tmp_path / name / "1.png")
    assert load_image_folder(tmp_path, image_size=(4, 4)).train.classes == ("ez", "é")


def test_a_part_for_testing(tmp_path):
    folder = folder_of(tmp_path / "photos", parts=("train", "test"))
    (folder / "test" / "red" / "1.png").unlink()
    (folder / "README.txt").write_text("not a picture")
    (folder / "train" / "blue" / ".hidden").write_text("")
    (folder / "train" / "blue" / "Thumbs.db").write_text("")
    data = load_data_set(folder, image_size=(4, 4), dtype=np.float32)
    assert data.classes == ("blue", "green", "red")
    assert data.image_shape == (4, 4, 3)
    np.testing.assert_array_equal(data.train.Y, [[0, 0, 1, 1, 2, 2]])
    np.testing.assert_array_equal(data.test.Y, [[0, 0, 1, 1, 2]])
    assert data.train.X.dtype == np.float32
    np.testing.assert_array_equal(data.train.X[:3, 0], [0, 0, 1])


def test_a_share_of_each_class_is_drawn_for_testing(tmp_path):
    folder = folder_of(tmp_path / "photos", count=10)
    data = load_data_set(folder, image_size=(4, 4), test=0.2)
    assert np.bincount(data.test.Y[0].astype(int)).tolist() == [2, 2, 2]
    assert np.bincount(data.train.Y[0].astype(int)).tolist() == [8, 8, 8]
    kept = kept_at(folder, (4, 4))
    assert load_data_set(kept, test=0.2) == data
    for label, name in enumerate(data.classes):
        colors = {tuple(column[:3]) for column in data.test.X[:, data.test.Y[0] == label].T}
        assert colors == {tuple(np.array(COLORS[name]) / 255)}


def test_a_share_that_cannot_be_drawn_is_refused(tmp_path):
    parts = folder_of(tmp_path / "parts", parts=("train", "test"))
    with pytest.raises(BadInput, match=r"test is 0\.2, but .*parts has a part for testing"):
        load_data_set(parts, image_size=(4, 4), test=0.2)
    single = folder_of(tmp_path / "single", count=1)
    with pytest.raises(BadInput, match="the class blue has one picture, expected two"):
        load_data_set(single, image_size=(4, 4), test=0.2)
    with pytest.raises(BadInput, match=r"test is .more., but .*single is not a table"):
        load_data_set(single, image_size=(4, 4), test="more")


def test_pictures_are_decoded_once(tmp_path, decoded):
    folder = folder_of(tmp_path / "photos")
    first = load_image_folder(folder, image_size=(4, 4))
    assert len(decoded) == 6
    again = load_image_folder(str(folder) + "/", image_size=(4, 4))
    assert len(decoded) == 6
    assert again.fingerprint == first.fingerprint
    assert again.kept == first.kept == kept_at(folder, (4, 4))


def test_a_decoded_file_can_be_copied_and_given_as_data(tmp_path):
    folder = folder_of(tmp_path / "photos", parts=("train", "test"))
    data = load_data_set(folder, image_size=(4, 4))
    kept = tmp_path / "elsewhere.h5"
    kept.write_bytes(kept_at(folder, (4, 4)).read_bytes())
    assert load_data_set(kept) == data
    assert images_of(kept).fingerprint == load_image_folder(folder, image_size=(4, 4)).fingerprint
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"elsewhere\.h5"):
        load_data_set(kept)


def rewritten(folder):
    status = (folder / "red" / "0.png").stat()
    picture(folder / "red" / "0.png", "blue", (9, 12))
    os.utime(folder / "red" / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))


STALE = {
    "a picture is rewritten": rewritten,
    "a picture is new": lambda folder: picture(folder / "red" / "9.png"),
    "a picture is gone": lambda folder: (folder / "red" / "0.png").unlink(),
    "a picture is renamed": lambda f: (f / "red" / "0.png").rename(f / "red" / "00.png"),
    "a class is renamed": lambda folder: (folder / "red").rename(folder / "rot"),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_pictures_are_decoded_again_when_one_changes(tmp_path, decoded, change):
    folder = folder_of(tmp_path / "photos")
    before = load_image_folder(folder, image_size=(4, 4))
    del decoded[:]
    change(folder)
    after = load_image_folder(folder, image_size=(4, 4))
    assert len(decoded) == len(after.train)
    same_place = before.kept == after.kept
    assert same_place  # one file a folder and size, however often it changes


def test_a_picture_of_the_same_length_is_noticed_by_its_time(tmp_path):
    folder = folder_of(tmp_path / "photos")
    path = folder / "red" / "a.bmp"
    picture(path, "red")
    first, length = load_image_folder(folder, image_size=(4, 4)), path.stat().st_size
    picture(path, "green")
    os.utime(path, ns=(0, 10**18))
    assert path.stat().st_size == length
    assert load_image_folder(folder, image_size=(4, 4)).fingerprint != first.fingerprint


def test_another_size_is_another_decoded_file(tmp_path, decoded):
    folder = folder_of(tmp_path / "photos")
    assert load_image_folder(folder).train.images.shape == (6, 64, 64, 3)
    assert load_image_folder(folder, image_size=(4, 8)).train.images.shape == (6, 4, 8, 3)
    assert load_image_folder(folder).train.images.shape == (6, 64, 64, 3)
    assert len(decoded) == 12


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_decoded_file_is_made_again(tmp_path, decoded, damage):
    folder = folder_of(tmp_path / "photos")
    first = load_image_folder(folder, image_size=(4, 4))
    content = first.kept.read_bytes()
    first.kept.write_bytes(content[:-1] + b"x" if damage is None else damage)
    again = load_image_folder(folder, image_size=(4, 4))
    assert len(decoded) == 12
    assert again.fingerprint == first.fingerprint
    assert again.kept.read_bytes() == content


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "file"))
    images = load_image_folder(folder_of(tmp_path / "photos"), image_size=(4, 4))
    assert images.kept is None
    assert "cannot be kept, so it is decoded each time" in images.notes[0]


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "photos")

    def load(paths, *, size):
        picture(folder / "red" / "new.png")
        return load_photos(paths, size=size)

    monkeypatch.setattr(image_folders, "load_photos", load)
    with pytest.raises(BadInput, match="photos changed while it was read"):
        load_image_folder(folder, image_size=(4, 4))
    assert not kept_at(folder, (4, 4)).exists()


# Pictures that cannot be read


def bomb(path):
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))


def unreadable(folder):
    """Put three files into the folder that are no pictures that can be read."""
    (folder / "blue" / "notes.txt").write_text("hello")
    bomb(folder / "green" / "bomb.png")
    content = (folder / "red" / "0.png").read_bytes()
    (folder / "red" / "cut.png").write_bytes(content[:40])
    return folder


def test_pictures_that_cannot_be_read_are_listed(tmp_path):
    folder = unreadable(folder_of(tmp_path / "photos"))
    with pytest.raises(BadInput) as refusal:
        load_image_folder(folder, image_size=(4, 4))
    text = str(refusal.value)
    assert text.startswith(f"3 of 9 pictures in {folder} cannot be read (blue/notes.txt is ")
    assert "; green/bomb.png has " in text
    assert "; red/cut.png " in text
    assert "--skip-unreadable" in text
    assert "\n" not in text


def test_a_message_about_many_says_what_lists_them_all(tmp_path, command):
    folder = folder_of(tmp_path / "photos")
    for number in range(9):
        (folder / "red" / f"x{number}.jpg").write_text("hello")
    with pytest.raises(BadInput, match=r"9 of 15 .*x4\.jpg .*; and 4 more, which pydnn data info"):
        load_image_folder(folder)
    status, _, err = command("data", "info", folder, "--skip-unreadable")
    assert status == 0
    assert [line.split("/")[-1].split()[0] for line in err.splitlines()[1:]] == [
        f"x{number}.jpg" for number in range(9)
    ]


def test_they_are_left_out_and_counted_on_demand(tmp_path, decoded):
    folder = unreadable(folder_of(tmp_path / "photos"))
    images = load_image_folder(folder, image_size=(4, 4), skip_unreadable=True)
    assert images.notes == (f"3 pictures of {folder} cannot be read and are left out",)
    assert [text.split()[0] for text in images.skipped] == [
        "blue/notes.txt", "green/bomb.png", "red/cut.png",
    ]  # fmt: skip
    np.testing.assert_array_equal(images.train.labels, [0, 0, 1, 1, 2, 2])
    del decoded[:]
    with pytest.raises(BadInput, match="3 of 9 pictures"):
        load_image_folder(folder, image_size=(4, 4))
    assert decoded == []


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path):
    folder = folder_of(tmp_path / "photos", count=1)
    (folder / "green" / "0.png").write_text("hello")
    with pytest.raises(BadInput, match=r"no picture of the class green in .* can be read"):
        load_image_folder(folder, skip_unreadable=True)
    for name in ("red", "blue"):
        (folder / name / "0.png").write_text("hello")
    with pytest.raises(BadInput, match="3 of 3 pictures"):
        load_image_folder(folder, skip_unreadable=True)


def test_a_missing_pillow_is_not_an_unreadable_picture(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "photos")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(BadInput, match="needs PIL"):
        load_image_folder(folder, image_size=(4, 4), skip_unreadable=True)


# Folders that are laid out otherwise


def one_class(folder):
    picture(folder / "red" / "0.png")


def no_class(folder):
    folder.mkdir()


def loose(folder):
    folder_of(folder)
    picture(folder / "0.JPG")


def nested(folder):
    folder_of(folder)
    picture(folder / "red" / "dark" / "0.png")


def empty_class(folder):
    folder_of(folder)
    (folder / "white").mkdir()


def unknown_class(folder):
    folder_of(folder, parts=("train", "test"))
    picture(folder / "test" / "white" / "0.png")


def beside(folder):
    folder_of(folder, parts=("train", "val"))


LAID_OUT_OTHERWISE = {
    "one class": (one_class, "photos has one class, red, expected two or more"),
    "no class": (no_class, "photos has no folders of classes"),
    "a loose picture": (loose, r"0\.JPG is in no class"),
    "a folder in a class": (nested, "dark is a folder in a class"),
    "a class without pictures": (empty_class, "the class white in .* has no picture"),
    "a class for testing alone": (unknown_class, "the class white in .*test is not in .*train"),
    "a folder beside the parts": (beside, "photos has train and also val"),
}


@pytest.mark.parametrize(("make", "message"), LAID_OUT_OTHERWISE.values(), ids=LAID_OUT_OTHERWISE)
def test_a_folder_laid_out_otherwise_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "photos")
    with pytest.raises(BadInput, match=message) as refusal:
        load_data_set(tmp_path / "photos")
    assert "\n" not in str(refusal.value)


def test_missing_permissions_are_one_line(tmp_path, monkeypatch):
    def iterdir(path):
        if path.name == "red":
            raise PermissionError(13, "Permission denied", str(path))
        return entries(path)

    entries, folder = Path.iterdir, folder_of(tmp_path / "photos")
    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(BadInput, match=r"red cannot be read \(Permission denied\)"):
        load_data_set(folder)


@pytest.mark.parametrize("size", [0, "64", (64,), (64, 0), (64, 5000), (64, 64, 3), (6.5, 6)])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(BadInput, match="image_size is"):
        load_image_folder(tmp_path, image_size=size)
    with pytest.raises(BadInput, match="image_size is"):
        Recipe("x", "dense(1)", "mean_squared()", "adam()", iterations=1, image_size=size)


# In recipes and on the command line

RECIPE = """
data = "photos"
network = "dense(3)"
loss = "softmax_cross_entropy"
optimizer = "adam(learning_rate=0.1)"
iterations = 40
image_size = [6, 5]
"""


def test_a_recipe_says_how_pictures_are_read(tmp_path, monkeypatch, command):
    folder = unreadable(folder_of(tmp_path / "photos", count=4))
    monkeypatch.chdir(tmp_path)
    Path("photos.toml").write_text(RECIPE)
    status, _, err = command("train", "photos.toml", "--quiet")
    assert (status, err.count("\n")) == (2, 1)
    assert "3 of 15 pictures in photos cannot be read" in err
    assert not Path("runs").exists()
    status, out, err = command("train", "photos.toml", "--skip-unreadable")
    assert status == 0
    assert "3 pictures of photos cannot be read and are left out" in err
    assert "train accuracy 1.0000 (12 of 12 right)" in out
    assert command("replay", "runs/0001")[0] == 0
    assert command("evaluate", "runs/0001")[1].startswith("train accuracy 1.0000 (12 of 12 right)")
    picture(tmp_path / "mine.gif", "green", (50, 70), "P")
    assert command("predict", "runs/0001", "mine.gif")[1].startswith("green (")
    (folder / "red" / "0.png").unlink()
    status, _, err = command("replay", "runs/0001")
    assert status == 1
    assert "train X differs" in err


def test_without_a_recipe_the_network_gets_an_output_for_each_class(tmp_path, monkeypatch, command):
    folder_of(tmp_path / "photos", parts=("train", "test"))
    monkeypatch.chdir(tmp_path)
    size = ["--image-size", "6,6"]
    status, out, err = command("train", "--data", "photos", *size, "--iterations", 5)
    assert (status, err) == (0, "")
    assert "training on 6 images of photos, to be tested on 6" in out
    text = Path("runs/0001/recipe.toml").read_text()
    assert "dense(3, " in text
    assert 'loss = "softmax_cross_entropy' in text
    assert "image_size = [6, 6]" in text
    assert command("predict", "runs/0001", "photos/test/red/0.png", "--json")[0] == 0
    layers = json.loads(command("summary", "--data", "photos", *size, "--json")[1])["layers"]
    assert layers[-1]["outputs"] == 3
    status, out, _ = command("data", "info", "photos", *size)
    assert "train  6 images of 6 x 6 pixels: 2 blue, 2 green, 2 red" in out
    assert f"decoded in {kept_at(Path('photos'), (6, 6))}" in out
    assert command("data", "show", "photos", *size, "--png", "sheet.png", "--count", 3)[0] == 0
    assert command("train", "--data", "photos", "--image-size", "6x6")[0] == 2


def test_a_share_for_testing_is_recorded_and_not_drawn_of_other_data(
    tmp_path, monkeypatch, command
):
    folder_of(tmp_path / "photos", count=5)
    folder_of(tmp_path / "others", count=1)
    monkeypatch.chdir(tmp_path)
    Path("photos.toml").write_text(RECIPE)
    status, out, _ = command("train", "photos.toml", "--test", "0.2")
    assert (status, "on 12 images of photos, to be tested on 3" in out) == (0, True)
    assert command("replay", "runs/0001")[0] == 0
    assert "(3 of 3 right)" in command("evaluate", "runs/0001")[1].splitlines()[1]
    lines = command("evaluate", "runs/0001", "--data", "others")[1].splitlines()
    assert [line.partition(" right")[0] for line in lines] == ["train accuracy 1.0000 (3 of 3"]


def test_training_in_python_names_the_classes(tmp_path):
    folder = folder_of(tmp_path / "photos")
    recipe = Recipe(
        str(folder),
        "dense(3)",
        "softmax_cross_entropy()",
        "adam(learning_rate=0.1)",
        iterations=20,
        image_size=(4, 4),
    )
    model = train(recipe).model
    assert model.classes == ("blue", "green", "red")
    assert model.image_shape == (4, 4, 3)


def test_a_size_in_a_recipe_for_images_of_another_size_is_refused(tmp_path):
    save_catvnoncat(tmp_path / "cats", *drawn_cats(train_count=2, test_count=1))
    recipe = Recipe(
        str(tmp_path / "cats"), "dense(1)", "sigmoid_cross_entropy()", "adam()", iterations=1,
        image_size=(32, 32),
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"image_size is 32 x 32, but .*cats has images"):
        data_of(recipe)


def test_a_table_is_not_a_file_of_decoded_pictures(tmp_path):
    batch = Batch(np.zeros((2, 3)), np.zeros((1, 3)))
    save_table(tmp_path / "table.h5", DataSet(batch, batch))
    assert not holds_images(tmp_path / "table.h5")


LOAD = """
import sys
from pydnn.data import load_image_folder
print(load_image_folder(sys.argv[1], image_size=(8, 8)).fingerprint)
"""


@pytest.mark.slow
def test_processes_that_decode_a_folder_at_the_same_time_all_get_it(tmp_path):
    folder = folder_of(tmp_path / "photos", count=60)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(folder)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert printed == {load_image_folder(folder, image_size=(8, 8)).fingerprint + "\n"}
    assert len(list(kept_at(folder, (8, 8)).parent.glob("*.part"))) == 0


def test_decoding_many_pictures_shows_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folders, "_MANY", 8)
    folder = folder_of(tmp_path / "photos", parts=["train", "test"])
    (folder / "train" / "red" / "2.png").write_bytes(b"no picture")
    steps = []
    with work_shown(lambda *step: steps.append(step)):
        load_image_folder(folder, image_size=(4, 5), skip_unreadable=True)
        total = steps[-1][-1]
        assert sorted(set(steps)) == [("decoding", done, total) for done in range(total + 1)]
        assert steps == sorted(steps)
        steps.clear()
        load_image_folder(folder, image_size=(4, 5), skip_unreadable=True)  # decoded already
        load_image_folder(folder_of(tmp_path / "few"), image_size=(4, 5))
    assert steps == []
