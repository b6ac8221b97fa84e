import attrs
import h5py
import numpy as np
import pytest

from pydnn import BadInput
from pydnn.data import (
    ImageSet,
    columns_of,
    drawn_cats,
    load_catvnoncat,
    load_images,
    save_catvnoncat,
    to_batch,
)


def images(count=2, side=2):
    return np.arange(count * side * side * 3, dtype=np.uint8).reshape(count, side, side, 3)


def image_set(count=2, side=2):
    return ImageSet(images(count, side), np.arange(count) % 2)


def test_images_become_columns_from_0_to_1():
    batch = to_batch(ImageSet(np.array([[[[0, 51, 255]]], [[[255, 0, 102]]]], np.uint8), [1, 0]))
    np.testing.assert_array_equal(batch.X, [[0, 1], [0.2, 0], [1, 0.4]])
    np.testing.assert_array_equal(batch.Y, [[1, 0]])
    assert not batch.X.flags.writeable


def test_columns_have_the_bits_of_the_tutorials_expression():
    given = images(4, 8)
    np.testing.assert_array_equal(columns_of(given), given.reshape(4, -1).T / 255.0)
    single = columns_of(given, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, given.reshape(4, -1).T.astype("f4") / np.float32(255))


def test_image_sets_are_values_that_keep_their_own_images():
    mine = images()
    kept = ImageSet(mine, np.array([0, 1]))
    mine[:] = 0
    assert kept == image_set()
    assert kept != ImageSet(images(), np.array([1, 1]))
    assert repr(kept) == (
        "ImageSet(images=uint8 (2, 2, 2, 3), labels=int64 (2,), classes=('non-cat', 'cat'))"
    )
    with pytest.raises(ValueError, match="read-only"):
        kept.images[0] = 0


def test_round_trip_through_files(tmp_path):
    train, test = image_set(3), image_set(2)
    save_catvnoncat(tmp_path / "deep" / "cats", train, test)
    assert load_catvnoncat(tmp_path / "deep" / "cats") == (train, test)
    assert load_images(str(tmp_path / "deep" / "cats")) == (train, test)


def test_the_real_photos(cats_directory):
    train, test = load_catvnoncat(cats_directory)
    assert (len(train), len(test)) == (209, 50)
    assert (int(train.labels.sum()), int(test.labels.sum())) == (72, 33)
    with h5py.File(cats_directory / "test_catvnoncat.h5") as file:
        np.testing.assert_array_equal(test.images, file["test_set_x"][:])


def test_the_drawn_cats_have_the_layout_of_the_real_photos(tmp_path, cats_directory):
    save_catvnoncat(tmp_path, *drawn_cats(3, train_count=4, test_count=2))
    for part in ("train", "test"):
        name = f"{part}_catvnoncat.h5"
        with h5py.File(tmp_path / name) as ours, h5py.File(cats_directory / name) as real:
            assert sorted(ours) == sorted(real)
            for field in ours:
                assert ours[field].dtype == real[field].dtype
                assert ours[field].shape[1:] == real[field].shape[1:]
                assert ours[field].chunks == real[field].chunks


def test_training_and_test_drawings_differ():
    train, test = drawn_cats(1, train_count=3, test_count=3)
    assert train != test
    assert train == drawn_cats(1, train_count=3, test_count=1)[0]
    assert train != drawn_cats(2, train_count=3, test_count=1)[0]


REFUSED = {
    "grey": (lambda: ImageSet(np.ones((2, 2, 2), np.uint8), [0, 1]), "images has shape"),
    "floats": (lambda: ImageSet(np.ones((1, 2, 2, 3)), [0]), "images are float64, expected uint8"),
    "no images": (lambda: ImageSet(images()[:0], np.zeros(0, int)), "there are no images"),
    "too few labels": (
        lambda: ImageSet(images(), [0]),
        r"labels has shape \(1,\), expected \(2,\)",
    ),
    "label": (
        lambda: ImageSet(images(), np.array([0, 7])),
        "label of image 1 is 7, expected 0 or 1",
    ),
    "dtype": (lambda: to_batch(image_set(), dtype=np.int32), "dtype is int32, expected float64"),
    "unknown name": (lambda: load_images("no-such"), "there are no images 'no-such': give 'drawn-"),
    "missing": (lambda: load_catvnoncat("no-such"), "no-such does not exist, expected one with"),
    "a file": (
        lambda: load_catvnoncat(__file__),
        "is not a directory, expected one with train_cat",
    ),
    "seed": (lambda: drawn_cats(-1), "seed is -1"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def remove(path, name):
    with h5py.File(path, "a") as file:
        del file[name]


def put(path, name, value):
    remove(path, name)
    with h5py.File(path, "a") as file:
        file[name] = value


DAMAGE = {
    "no file": (lambda path: path.unlink(), "train_catvnoncat.h5 does not exist"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "not a readable HDF5"),
    "no data set": (lambda path: remove(path, "train_set_y"), "there is no array 'train_set_y'"),
    "labels": (
        lambda path: put(path, "train_set_y", np.array([0, 1, 2])),
        "train_catvnoncat.h5: label of image 2 is 2, expected 0 or 1",
    ),
    "unequal sizes": (
        lambda path: put(path, "train_set_x", images(3, 4)),
        r"differ in size, \(4, 4, 3\) for training and \(2, 2, 3\) for testing",
    ),
    "float images": (
        lambda path: put(path, "train_set_x", images(3) / 255),
        "train_set_x in .* holds float64, expected uint8",
    ),
    "no names": (
        lambda path: put(path, "list_classes", np.array([b"\xff\xfe", b"cat"])),
        "hold .*expected UTF-8: write them again",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused_in_one_line(tmp_path, damage, message):
    save_catvnoncat(tmp_path, image_set(3), image_set(2))
    damage(tmp_path / "train_catvnoncat.h5")
    with pytest.raises(BadInput, match=message) as refusal:
        load_catvnoncat(tmp_path)
    assert "\n" not in str(refusal.value)


def test_files_that_exist_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "test_catvnoncat.h5").write_text("mine")
    with pytest.raises(BadInput, match=r"test_catvnoncat\.h5 exists already"):
        save_catvnoncat(tmp_path, image_set(), image_set())
    assert [path.name for path in tmp_path.iterdir()] == ["test_catvnoncat.h5"]
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot be created .*directory you can write to"):
        save_catvnoncat(tmp_path / "file" / "cats", image_set(), image_set())


def test_a_disk_that_fills_up_between_the_files_leaves_neither(tmp_path, monkeypatch):
    from pydnn.data import image_sets

    whole = image_sets.write_hdf5

    def full(path, **content):
        if path.name.startswith("test"):
            raise BadInput("the disk is full")
        whole(path, **content)

    monkeypatch.setattr(image_sets, "write_hdf5", full)
    with pytest.raises(BadInput, match="the disk is full"):
        save_catvnoncat(tmp_path, image_set(), image_set())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("cat", "non-cat"), ("non-cat", "dog")])
def test_files_that_name_their_classes_differently_are_refused(tmp_path, names):
    train, test = drawn_cats(train_count=4, test_count=2)
    other = attrs.evolve(test, classes=names)
    message = f"non-cat, cat for training and {', '.join(names)} for testing, expected the same"
    with pytest.raises(BadInput, match=message):
        save_catvnoncat(tmp_path, train, other)
    save_catvnoncat(tmp_path, train, test)
    (tmp_path / "test_catvnoncat.h5").unlink()
    (tmp_path / "other").mkdir()
    save_catvnoncat(tmp_path / "other", attrs.evolve(train, classes=names), other)
    (tmp_path / "other" / "test_catvnoncat.h5").rename(tmp_path / "test_catvnoncat.h5")
    with pytest.raises(BadInput, match=message):
        load_catvnoncat(tmp_path)


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(BadInput, match="classes 0 and 1 are both called 'cat', expected two names"):
        attrs.evolve(image_set(), classes=("cat", "cat"))


# Users' own files

OWN = {
    "names as h5py writes texts": ("list_classes", lambda labels: ["non-cat", "cat"]),
    "names that another library writes": (
        "list_classes", lambda labels: np.array(["non-cat", "cat"], h5py.string_dtype("ascii")),
    ),
    "labels in one row": ("train_set_y", lambda labels: labels[np.newaxis]),
    "labels in one column": ("train_set_y", lambda labels: labels[:, np.newaxis]),
    "small labels": ("train_set_y", lambda labels: labels.astype(np.uint8)),
    "labels of 32 bits, big-endian": ("train_set_y", lambda labels: labels.astype(">i4")),
    "large labels": ("train_set_y", lambda labels: labels.astype(np.uint64)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change"), OWN.values(), ids=OWN)
def test_files_of_equal_meaning_are_accepted(tmp_path, name, change):
    save_catvnoncat(tmp_path, ImageSet(images(3), [0, 1, 1]), ImageSet(images(2), [1, 0]))
    expected = load_catvnoncat(tmp_path)
    put(tmp_path / "train_catvnoncat.h5", name, change(np.array([0, 1, 1])))
    assert load_catvnoncat(tmp_path) == expected
    assert expected[0].labels.dtype == np.int64


NOT_LABELS = {
    "two rows": (np.zeros((2, 3), int), r"train_set_y in .* has shape \(2, 3\), expected \(3,\)"),
    "one too many": (np.zeros(4, int), r"train_set_y in .* has shape \(4,\), expected \(3,\)"),
    "floats": (np.zeros(3), "train_set_y in .* holds float64, expected integers"),
    "too large for 64 bits with a sign": (
        np.array([0, 1, 2**64 - 1], np.uint64), "label of image 2 is -1, expected 0 or 1",
    ),
    "one number": (np.array(0), r"train_set_y in .* has shape \(\), expected \(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "message"), NOT_LABELS.values(), ids=NOT_LABELS)
def test_values_that_are_not_labels_are_refused(tmp_path, labels, message):
    save_catvnoncat(tmp_path, ImageSet(images(3), [0, 1, 1]), ImageSet(images(2), [1, 0]))
    put(tmp_path / "train_catvnoncat.h5", "train_set_y", labels)
    with pytest.raises(BadInput, match=message):
        load_catvnoncat(tmp_path)
