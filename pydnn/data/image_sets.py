"""Sets of labeled images: the tutorial's HDF5 files, and conversion to batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pydnn.checks import MOST_SEED, AnyPath, BadInput, expect_count, expect_shape, path_of
from pydnn.data.drawn_cats import TEST_COUNT, TRAIN_COUNT, draw_cats
from pydnn.keys import Key
from pydnn.records import AnyArray, Batch, FloatArray, as_array, freeze, keep_readonly
from pydnn.storage.hdf5 import open_hdf5, read_array, read_names, write_hdf5

__all__ = [
    "CLASSES",
    "ImageSet",
    "columns_of",
    "drawn_cats",
    "holds_catvnoncat",
    "load_catvnoncat",
    "save_catvnoncat",
    "to_batch",
]

CLASSES = ("non-cat", "cat")
DRAWN = "drawn-cats"
_FILES = {"train": "train_catvnoncat.h5", "test": "test_catvnoncat.h5"}
_same = attrs.cmp_using(eq=np.array_equal)


def _own(value: ArrayLike) -> AnyArray:
    """A read-only copy, or the array itself if it is read-only already."""
    array = as_array(value)
    return array if not array.flags.writeable else freeze(array.copy())


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _shape(array: AnyArray) -> str:
    return f"{array.dtype} {array.shape}"


@keep_readonly
@attrs.frozen(unsafe_hash=False)
class ImageSet:
    """Labeled images of two classes, as in the tutorial's files.

    Attributes:
        images: Pixels, uint8, shape (m, height, width, 3).
        labels: The numbers of their classes, int64, shape (m,).
        classes: The names of the classes, two or more, from class 0 on.

    Raises:
        BadInput: If the arrays do not fit each other, or a label is the number of no class.

    Example:
        >>> images = np.zeros((2, 64, 64, 3), np.uint8)
        >>> len(ImageSet(images, np.array([0, 1])))
        2
    """

    images: NDArray[np.uint8] = attrs.field(converter=_own, eq=_same, repr=_shape)
    labels: NDArray[np.int64] = attrs.field(converter=_own, eq=_same, repr=_shape)
    classes: tuple[str, ...] = attrs.field(default=CLASSES, converter=_names)

    def __attrs_post_init__(self) -> None:
        expect_shape("images", self.images, ("m", "height", "width", 3), hint="give color images")
        if self.images.dtype != np.uint8:
            raise BadInput(f"images are {self.images.dtype}, expected uint8: give 0 to 255.")
        if self.images.size == 0:
            raise BadInput("there are no images, expected one or more: give some data.")
        expect_shape("labels", self.labels, (len(self.images),), hint="give one label per image")
        if len(self.classes) < 2:
            raise BadInput(
                f"classes are {self.classes!r}, expected two names or more: name each class."
            )
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if wrong.size:
            first, last = int(wrong[0]), len(self.classes) - 1
            expected = "0 or 1" if last == 1 else f"0 to {last}"
            raise BadInput(
                f"label of image {first} is {self.labels[first]}, expected {expected}: recode it."
            )
        expect_different_names(self.classes)

    def __len__(self) -> int:
        return len(self.images)


def expect_different_names(classes: Sequence[str]) -> None:
    """Refuse two classes with the same name: results could not distinguish them."""
    for number, name in enumerate(classes):
        if (first := classes.index(name)) != number:
            raise BadInput(
                f"classes {first} and {number} are both called {name!r}, expected two names: "
                "rename one."
            )


def columns_of(images: NDArray[np.uint8], *, dtype: DTypeLike = np.float64) -> FloatArray:
    """Flatten images (m, height, width, 3) to columns (height * width * 3, m), scaled to 0 to 1.

    Args:
        images: Pixels, uint8.
        dtype: The dtype of the result.

    Example:
        >>> columns_of(np.full((2, 64, 64, 3), 255, np.uint8)).shape
        (12288, 2)
    """
    images = as_array(images)
    columns = images.reshape(len(images), -1).T
    return freeze(columns.astype(dtype) / np.dtype(dtype).type(255))


def to_batch(image_set: ImageSet, *, dtype: DTypeLike = np.float64) -> Batch:
    """Convert all images to a batch: X (n_x, m) from 0 to 1, and Y (1, m).

    Raises:
        BadInput: If `dtype` is neither float64 nor float32.

    Example:
        >>> train, test = drawn_cats(train_count=2, test_count=1)
        >>> to_batch(train).X.shape
        (12288, 2)
    """
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise BadInput(f"dtype is {np.dtype(dtype)}, expected float64 or float32: choose one.")
    Y = freeze(image_set.labels[np.newaxis].astype(dtype))
    return Batch(columns_of(image_set.images, dtype=dtype), Y)


def load_catvnoncat(directory: AnyPath) -> tuple[ImageSet, ImageSet]:
    """Read the tutorial's photos, train_catvnoncat.h5 and test_catvnoncat.h5.

    Args:
        directory: The directory of the two files.

    Returns:
        The training images, 209 of (64, 64, 3) in the original files, and the test images, 50.

    Raises:
        BadInput: If the directory or a file is missing or damaged, an array in it is missing or
            has another type, or the two files differ in the size of images or in their classes.
    """
    folder = path_of(directory)
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {what}, expected one with {' and '.join(_FILES.values())}.")
    train, test = (_read(folder / file, part) for part, file in _FILES.items())
    if train.images.shape[1:] != test.images.shape[1:]:
        raise BadInput(
            f"images in {folder} differ in size, {train.images.shape[1:]} for training and "
            f"{test.images.shape[1:]} for testing: resize one set."
        )
    _expect_same_classes(folder, train, test)
    return train, test


def _expect_same_classes(folder: Path, train: ImageSet, test: ImageSet) -> None:
    """Refuse two sets in which the same label stands for different classes."""
    if train.classes != test.classes:
        ours, theirs = (", ".join(images.classes) for images in (train, test))
        raise BadInput(
            f"classes 0 and 1 in {folder} are {ours} for training and {theirs} for testing, "
            "expected the same: give both sets the same names in the same order."
        )


def save_catvnoncat(directory: AnyPath, train: ImageSet, test: ImageSet) -> None:
    """Write two image sets as the files that `load_catvnoncat` reads.

    Args:
        directory: The directory, which is created if necessary.
        train: The training images.
        test: The test images.

    Raises:
        BadInput: If one of the files exists already, the directory cannot be written, or the sets
            name their classes differently, or more than two; then neither file is left.

    Example:
        >>> save_catvnoncat("photos", *drawn_cats(train_count=2, test_count=1))
        >>> [len(images) for images in load_catvnoncat("photos")]
        [2, 1]
    """
    folder = path_of(directory)
    if (count := len(train.classes)) != 2:
        raise BadInput(f"there are {count} classes, but these files hold two: use save_table.")
    _expect_same_classes(folder, train, test)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be created ({error.strerror}): choose a directory you can write to."
        ) from error
    paths = {part: folder / file for part, file in _FILES.items()}
    for path in paths.values():
        if path.exists():
            raise BadInput(f"{path} exists already, expected none: choose another directory.")
    written = []
    try:
        for part, images in (("train", train), ("test", test)):
            _write(paths[part], part, images)
            written.append(paths[part])
    except BaseException:
        with contextlib.suppress(OSError):
            for path in written:
                path.unlink()
            if is_new:
                folder.rmdir()
        raise


def drawn_cats(
    seed: int = 1, *, train_count: int = TRAIN_COUNT, test_count: int = TEST_COUNT
) -> tuple[ImageSet, ImageSet]:
    """Draw cats and other things: one image set for training and one for testing.

    Args:
        seed: The seed; another one draws other images.
        train_count: The number of training images.
        test_count: The number of test images.

    Raises:
        BadInput: If a count is below 1, the seed is negative, or memory is too small.

    Example:
        >>> train, test = drawn_cats(train_count=4, test_count=2)
        >>> train.images.shape, train.labels.tolist()
        ((4, 64, 64, 3), [1, 0, 0, 0])
    """
    expect_count("seed", seed, least=0, most=MOST_SEED, hint="another seed draws other images")
    key = Key(seed)
    counts = {"train": train_count, "test": test_count}
    train, test = (ImageSet(*draw_cats(key.at(part), count)) for part, count in counts.items())
    return train, test


def holds_catvnoncat(folder: Path) -> bool:
    """Whether a folder has one of the tutorial's two files, or both."""
    return any((folder / file).exists() for file in _FILES.values())


def _read(path: Path, part: str) -> ImageSet:
    with open_hdf5(path) as file:
        images = read_array(
            file, f"{part}_set_x", dtype=np.uint8, shape=("m", "height", "width", 3)
        )
        labels = read_array(file, f"{part}_set_y", dtype=np.integer, shape=None)
        # The original course stores labels as one row, so people save them in that shape too.
        if labels.shape not in ((1, len(images)), (len(images), 1)):
            where = f"{part}_set_y in {path}"
            expect_shape(where, labels, (len(images),), hint="give one label per image")
        zero, one = read_names(file, "list_classes", count=2)
    try:
        return ImageSet(freeze(images), freeze(labels.ravel().astype(np.int64)), (zero, one))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _write(path: Path, part: str, image_set: ImageSet) -> None:
    names = np.array([name.encode() for name in image_set.classes])
    arrays: dict[str, AnyArray] = {
        f"{part}_set_x": image_set.images,
        f"{part}_set_y": image_set.labels,
        "list_classes": names,
    }
    write_hdf5(path, arrays=arrays)
