"""Folders of pictures, with a folder for each class, as image sets (extra `image`).

    photos/cat/a.jpg, photos/dog/b.png, …                     all for training
    photos/train/cat/a.jpg, …, photos/test/dog/b.png, …       with a part for testing

Every picture is decoded once. The result is kept in a file of pydnn's cache and read from there as
long as the pictures have the same names, sizes and times of change. It is written under a
temporary name and renamed, so of two processes that write it at the same time, each gets what it
decoded, and either file is whole. What identifies the data in a recorded run is the SHA-256 of
the decoded pixels, not the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pydnn.checks import (
    AnyPath,
    BadInput,
    Json,
    expect_count,
    expect_shape,
    path_of,
    printable,
    shown,
)
from pydnn.data.image_sets import ImageSet
from pydnn.data.photos import load_photos
from pydnn.data.stored import Stored
from pydnn.fingerprints import fingerprint
from pydnn.free_memory import free_memory, readable
from pydnn.long_work import report_work
from pydnn.records import AnyArray, Batch, IntArray, freeze
from pydnn.storage.cache import cache_folder
from pydnn.storage.checksums import NotSealed
from pydnn.storage.contiguous import Blocks, write_contiguous
from pydnn.storage.files import LONGEST_TEXT, spool_beside, writing
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, read_text, write_hdf5
from pydnn.storage.mapped import open_stored

__all__ = [
    "IMAGE_SIZE",
    "ImageFolder",
    "holds_images",
    "image_size_of",
    "load_image_folder",
    "load_images_file",
    "map_images_file",
    "store_image_folder",
]

_MOST_SIDE = 4096  # pixels
IMAGE_SIZE = (64, 64)  # a recipe that says nothing means this size, for ever
_FORMAT = "pydnn images 1"
_PARTS = ("train", "test")
_MOST_SKIPPED = 1000  # that a file lists
_NAMED = 5  # unreadable pictures that a message names
_MANY = 200  # pictures that take so long to decode that progress is worth showing
# Names by which a file that lies outside of the classes is taken for a picture.
_ENDINGS = {
    ".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpeg", ".jpg", ".pcx", ".pgm",
    ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp",
}  # fmt: skip
_NOT_DATA = {"thumbs.db", "desktop.ini"}  # what systems leave in folders, beside hidden files


@attrs.frozen(eq=False)
class ImageFolder:
    """What is in a folder of pictures, decoded.

    Attributes:
        train: The images for training.
        test: Those for testing, if there are any.
        skipped: The pictures that cannot be read, each with the reason.
        notes: What a user may want to know of how they were read.
        kept: The file of pydnn's cache that holds what was decoded, if there is one.
    """

    train: ImageSet
    test: ImageSet | None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: Path | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the decoded pixels and of the labels."""
        sets = {"train": self.train, "test": self.test}
        return fingerprint(
            {
                f"{part}_{name}": getattr(images, name)
                for part, images in sets.items()
                if images is not None
                for name in ("images", "labels")
            }
        )


@attrs.frozen
class _Picture:
    """A picture's file, and what changes when somebody writes to it."""

    part: str
    label: int
    path: Path
    size: int
    times: tuple[int, int]


@attrs.frozen
class _Listing:
    folder: Path
    classes: tuple[str, ...]
    pictures: tuple[_Picture, ...]

    def digest(self, size: tuple[int, int]) -> str:
        """A digest of the size, and of each picture's name, place, length and times."""
        rows = [
            [p.part, p.label, os.fsencode(p.path.name).hex(), p.size, *p.times]
            for p in self.pictures
        ]
        text = json.dumps([_FORMAT, list(size), self.classes, rows])
        return hashlib.sha256(text.encode()).hexdigest()


def image_size_of(size: object) -> tuple[int, int]:
    """The height and width that are wanted, by default `IMAGE_SIZE`.

    Raises:
        BadInput: If these are not two integers from 1 to 4096.
    """
    if size is None:
        return IMAGE_SIZE
    hint = "give height and width in pixels, e.g. image_size = [64, 64]"
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise BadInput(f"image_size is {shown(size)}, expected two integers: {hint}.")
    height, width = (expect_count("image_size", n, most=_MOST_SIDE, hint=hint) for n in size)
    return height, width


def load_image_folder(
    folder: AnyPath,
    *,
    image_size: Sequence[int] | None = None,
    skip_unreadable: bool = False,
) -> ImageFolder:
    """Read a folder of pictures, one folder for each class, decoding only what is new.

    Each picture is read as `load_photo` does: turned upright as its camera says, its middle
    cropped to the shape of `image_size`, and resized to it. Classes are numbered in the order of
    their names, and pictures come in the order of theirs, by code points. Hidden files are left
    out.

    Args:
        folder: Has a folder of pictures for each class; or "train", and perhaps "test", which have
            such folders.
        image_size: Height and width of the images, by default 64 and 64.
        skip_unreadable: Whether pictures that cannot be read are left out, instead of refused.

    Raises:
        BadInput: If there are fewer than two classes, a class has no picture, pictures cannot be
            read, something lies where no picture is expected, or a file changes meanwhile.
        MissingExtra: If pillow is not installed, and there are pictures to decode.
    """
    path, size = path_of(folder), image_size_of(image_size)
    listing = _list(path)
    digest = listing.digest(size)
    kept = kept_at(path, size)
    images = _kept(kept, digest)
    notes: list[str] = []
    if images is None:
        images = _decoded(listing, size)
        if _list(path).digest(size) != digest:
            raise BadInput(f"{path} changed while it was read: wait until that has ended.")
        notes += _keep(kept, images, digest)
    if images.skipped:
        _expect_enough(listing, images.train.labels, images.skipped, skip_unreadable)
        notes.append(_note(path, images.skipped))
    return attrs.evolve(images, notes=tuple(notes), kept=kept if kept.is_file() else None)


def _expect_enough(
    listing: _Listing, labels: NDArray[np.int64], skipped: Sequence[str], skip_unreadable: bool
) -> None:
    """Refuse unreadable pictures unless they may be left out and their classes have others."""
    if not skip_unreadable or not len(labels):
        raise BadInput(_refusal(listing.folder, len(listing.pictures), skipped))
    left = np.bincount(labels, minlength=len(listing.classes))
    if not left.all():
        name = listing.classes[int(left.argmin())]
        raise BadInput(
            f"no picture of the class {name} in {listing.folder} can be read: get some again."
        )


def _note(folder: Path, skipped: Sequence[str]) -> str:
    count = len(skipped)
    what = "picture" if count == 1 else "pictures"
    return f"{count} {what} of {folder} cannot be read and {_are(count)} left out"


def store_image_folder(
    folder: AnyPath,
    path: AnyPath,
    *,
    image_size: Sequence[int] | None = None,
    skip_unreadable: bool = False,
    chosen: Callable[[IntArray, Sequence[str]], NDArray[np.bool_]] | None = None,
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> tuple[int, tuple[int, int], tuple[str, ...]]:
    """Decode a folder of pictures into a file that `load_images_file` reads.

    A few pictures are in memory at a time. Until the file is complete, another one beside it takes
    as much space again.

    Args:
        folder: See `load_image_folder`.
        path: The file to write, which must not exist yet.
        image_size: See `load_image_folder`.
        skip_unreadable: See `load_image_folder`.
        chosen: Says, from the labels of all pictures and the names of the classes, which of them
            are for testing; None if the folder itself says so.
        on_progress: Called with "reading" or "writing", the pictures that are done, and of all.

    Returns:
        The number of images, their height and width, and notes for the user.

    Raises:
        BadInput: As `load_image_folder` does; if `chosen` is given though the folder has a part for
            testing; or if the file exists or cannot be written.
        MissingExtra: If pillow is not installed.
    """
    source, path, size = path_of(folder), path_of(path), image_size_of(image_size)
    listing = _list(source)
    has_test = any(picture.part == "test" for picture in listing.pictures)
    if chosen is not None and has_test:
        raise BadInput(f"{source} has a part for testing already: leave test out.")
    skipped: list[str] = []
    parts: list[str] = []
    labels: list[int] = []
    with spool_beside(path) as spool:
        total = len(listing.pictures)

        def report(done: int) -> None:
            on_progress("reading", done, total)

        for picture, photo in _photos(listing, listing.pictures, size, skipped, report):
            with writing(path):
                spool.write(photo.reshape(-1).data)
            parts.append(picture.part)
            labels.append(picture.label)
        if _list(source).digest(size) != listing.digest(size):
            raise BadInput(f"{source} changed while it was read: wait until that has ended.")
        of_test = np.array([part == "test" for part in parts], bool)
        numbers = np.array(labels, np.int64)
        if skipped:
            _expect_enough(listing, numbers[~of_test], skipped, skip_unreadable)
        if chosen is not None:
            of_test = chosen(numbers, listing.classes)
        written = 0

        def images(which: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
            nonlocal written
            bytes_of_one = size[0] * size[1] * 3
            for number in which:
                spool.seek(number * bytes_of_one)
                image = np.frombuffer(spool.read(bytes_of_one), np.uint8)
                yield image.reshape(1, *size, 3)
                written += 1
                on_progress("writing", written, len(numbers))

        names = np.array([name.encode() for name in listing.classes], np.bytes_)
        arrays = {"classes": Blocks(names.shape, names.dtype, [names])}
        for part, which in (("train", np.flatnonzero(~of_test)), ("test", np.flatnonzero(of_test))):
            if len(which):
                arrays[f"{part}_images"] = Blocks((len(which), *size, 3), np.uint8, images(which))
                arrays[f"{part}_labels"] = Blocks((len(which),), np.int64, [numbers[which]])
        about = {"format": _FORMAT, "skipped": json.dumps(skipped[:_MOST_SKIPPED])}
        write_contiguous(path, arrays, texts=about, most=LONGEST_TEXT)
    return len(numbers), size, (_note(source, skipped),) if skipped else ()


def kept_at(folder: Path, size: tuple[int, int]) -> Path:
    """The file in which the decoded pictures of a folder are kept, at that size."""
    place = f"{os.fsencode(folder.resolve()).hex()} {size[0]} {size[1]}"
    name = hashlib.sha256(place.encode()).hexdigest()[:32]
    return cache_folder() / "images" / f"{name}.h5"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _refusal(folder: Path, total: int, skipped: Sequence[str]) -> str:
    named = "; ".join(skipped[:_NAMED])
    more = ""
    if len(skipped) > _NAMED:
        command = "pydnn data info --skip-unreadable"
        more = f"; and {len(skipped) - _NAMED} more, which {command} lists"
    return (
        f"{len(skipped)} of {total} pictures in {folder} cannot be read ({named}{more}): remove "
        "them, or leave them out with --skip-unreadable, in a recipe skip_unreadable = true."
    )


# What is in the folder


def _list(folder: Path) -> _Listing:
    """All pictures, in an order that is the same on every system."""
    inside = _entries(folder)
    folders = {name: path for name, path in inside if path.is_dir()}
    if "train" in folders and any(path.is_dir() for _, path in _entries(folders["train"])):
        if others := sorted(set(folders) - set(_PARTS)):
            raise BadInput(
                f"{folder} has train and also {others[0]}, expected the classes in train: "
                f"move {others[0]} there, or elsewhere."
            )
        parts = {part: _classes_in(folders[part]) for part in _PARTS if part in folders}
    else:
        parts = {"train": _classes_in(folder)}
    classes = tuple(name for name, _ in parts["train"])
    for name in classes:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise BadInput(f"the class {name!r} in {folder} is not Unicode text: rename it.")
    pictures = [
        picture
        for part, found in parts.items()
        for name, path in found
        for picture in _pictures_in(path, part, _label(name, classes, folder))
    ]
    for label, name in enumerate(classes):
        if not any(p.label == label and p.part == "train" for p in pictures):
            raise BadInput(f"the class {name} in {folder} has no picture: add some, or remove it.")
    return _Listing(folder, classes, tuple(pictures))


def _label(name: str, classes: Sequence[str], folder: Path) -> int:
    if name not in classes:
        raise BadInput(
            f"the class {name} in {folder / 'test'} is not in {folder / 'train'}: add it there, or "
            "remove it."
        )
    return classes.index(name)


def _classes_in(folder: Path) -> list[tuple[str, Path]]:
    """The folders of the classes, by name."""
    found = []
    for name, path in _entries(folder):
        if path.is_dir():
            found.append((name, path))
        elif path.suffix.lower() in _ENDINGS:
            raise BadInput(
                f"{path} is in no class, expected pictures in a folder for each class: move it."
            )
    if len(found) < 2:
        what = f"one class, {found[0][0]}," if found else "no folders of classes,"
        raise BadInput(
            f"{folder} has {what} expected two or more: put the pictures of each class into a "
            "folder of its own, which is called as the class is."
        )
    return found


def _pictures_in(folder: Path, part: str, label: int) -> Iterator[_Picture]:
    for _, path in _entries(folder):
        if path.is_dir():
            raise BadInput(
                f"{path} is a folder in a class, expected pictures: move them up, or it elsewhere."
            )
        try:
            status = path.stat()
        except OSError:
            status = path.lstat()  # a link to nothing, of which `load_photo` says so
        yield _Picture(part, label, path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


def _entries(folder: Path) -> list[tuple[str, Path]]:
    """Names and paths of a folder's entries, sorted by name, without hidden ones.

    Some systems store accents apart from their letters: names are composed before they are
    compared, so that the order, and the names of classes, are those of other systems.
    """
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder} cannot be read ({error.strerror}): check the path.") from error
    named = [(unicodedata.normalize("NFC", path.name), path) for path in paths]
    return sorted(
        (name, path)
        for name, path in named
        if not name.startswith(".") and name.lower() not in _NOT_DATA
    )


# Decoding


def _decoded(listing: _Listing, size: tuple[int, int]) -> ImageFolder:
    needed = len(listing.pictures) * size[0] * size[1] * 3
    free = free_memory()
    if free is not None and needed > free:
        raise BadInput(
            f"{len(listing.pictures)} images of {size[0]} x {size[1]} pixels take "
            f"{readable(needed)}, but this machine has {readable(free)} free: give fewer, or a "
            "smaller image_size."
        )
    skipped: list[str] = []
    sets = {
        part: _decoded_part(listing, part, size, skipped)
        for part in _PARTS
        if any(picture.part == part for picture in listing.pictures)
    }
    if not len(sets["train"][0]):  # nothing to make an image set of
        raise BadInput(_refusal(listing.folder, len(listing.pictures), skipped))
    made = {
        part: ImageSet(images, labels, listing.classes)
        for part, (images, labels) in sets.items()
        if len(images)
    }
    return ImageFolder(made["train"], made.get("test"), tuple(skipped))


def _decoded_part(
    listing: _Listing, part: str, size: tuple[int, int], skipped: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images and labels of a part; what cannot be read is added to `skipped`."""
    pictures = [picture for picture in listing.pictures if picture.part == part]
    images = np.empty((len(pictures), *size, 3), np.uint8)
    labels: list[int] = []
    total = len(listing.pictures)
    before = total - len(pictures) if part == _PARTS[-1] else 0

    def report(done: int) -> None:
        if total >= _MANY:
            report_work("decoding", before + done, total)

    for picture, photo in _photos(listing, pictures, size, skipped, report):
        images[len(labels)] = photo
        labels.append(picture.label)
    return freeze(images[: len(labels)]), freeze(np.array(labels, np.int64))


def _photos(
    listing: _Listing,
    pictures: Sequence[_Picture],
    size: tuple[int, int],
    skipped: list[str],
    report: Callable[[int], object],
) -> Iterator[tuple[_Picture, NDArray[np.uint8]]]:
    """Pictures that can be read, decoded; what cannot be read is added to `skipped`.

    `report` is called with the number of pictures before each, and of all in the end.
    """
    photos = load_photos([picture.path for picture in pictures], size=size)
    for done, (picture, photo) in enumerate(zip(pictures, photos, strict=True)):
        report(done)
        if isinstance(photo, BadInput):
            name = printable(picture.path.relative_to(listing.folder).as_posix())
            skipped.append(_reason(name, str(photo).replace(printable(picture.path), name)))
        else:
            yield picture, photo
    report(len(pictures))


def _reason(name: str, message: str) -> str:
    """An error message without its advice, and with the name of the picture in front."""
    what = message.rpartition(": ")[0] or message
    return what if what.startswith(name) else f"{name}: {what}"


# What is kept


def _keep(path: Path, images: ImageFolder, digest: str) -> list[str]:
    """Write decoded images to the cache, and return notes for the user if that fails."""
    arrays: dict[str, NDArray[np.generic]] = {
        "classes": np.array([name.encode() for name in images.train.classes], np.bytes_)
    }
    for part, images_of in (("train", images.train), ("test", images.test)):
        if images_of is not None:
            arrays |= {f"{part}_images": images_of.images, f"{part}_labels": images_of.labels}
    about = {"format": _FORMAT, "pictures": digest, "skipped": json.dumps(images.skipped)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_hdf5(path, arrays=arrays, attributes=about, sealed=True, replace=True)
    except (OSError, BadInput) as error:
        return [f"what was decoded cannot be kept, so it is decoded each time ({error})"]
    return []


def _kept(path: Path, digest: str) -> ImageFolder | None:
    """The images in the cache; None if there are none, or the pictures have changed since."""
    if not path.is_file():
        return None
    with contextlib.suppress(BadInput), open_hdf5(path, sealed=True, links=False) as file:
        if read_text(file, "pictures") == digest:
            return _read(file)
    return None


def holds_images(path: Path) -> bool:
    """Whether a file is one in which decoded pictures are kept."""
    with open_hdf5(path) as file:
        return holds(file, "train_images")


def load_images_file(path: AnyPath) -> ImageFolder:
    """Read decoded images, in a file of pydnn's cache or one that `store_image_folder` wrote.

    Raises:
        BadInput: If it is damaged.
    """
    path = path_of(path)
    try:
        with open_hdf5(path, sealed=True) as file:
            return _read(file)
    except NotSealed:  # it is an imported one, which may be too large to be read as a whole
        with open_hdf5(path) as file:
            return _read(file)


@attrs.frozen
class Pixels:
    """The step from pixels, 0 to 255, to the numbers 0 to 1 that networks meet."""

    name: ClassVar[str] = "pixels"

    def __call__(self, batch: Batch) -> Batch:
        """The batch with X divided by 255."""
        return attrs.evolve(batch, X=freeze(batch.X / batch.X.dtype.type(255)))

    def of_labels(self, batch: Batch) -> Batch:
        """The batch itself, whose labels stay as they are."""
        return batch

    @property
    def plain(self) -> tuple[Json, dict[str, AnyArray]]:
        """Nothing, since all are equal."""
        return None, {}

    @classmethod
    def of_plain(cls, facts: Any, arrays: Mapping[str, AnyArray]) -> Self:
        """The conversion."""
        return cls()


def map_images_file(
    path: AnyPath, *, dtype: DTypeLike
) -> tuple[dict[str, Stored], tuple[int, int, int], tuple[str, ...]]:
    """The images in a file, as examples that stay there; a batch of them is that of `to_batch`.

    Args:
        path: A file that `store_image_folder` wrote, or one of pydnn's cache.
        dtype: The dtype in which they come into memory, float64 or float32.

    Returns:
        The parts "train" and perhaps "test"; the height, width and 3; and the names of the classes.

    Raises:
        BadInput: If it is damaged, or a label is the number of no class.
    """
    path = path_of(path)
    with open_hdf5(path) as file:
        _expect_format(file)
        classes = tuple(read_names(file, "classes"))
        parts = [part for part in _PARTS if holds(file, f"{part}_images")]
    arrays = open_stored(path, [f"{p}_{name}" for p in parts for name in ("images", "labels")])
    examples: dict[str, Stored] = {}
    shape = arrays["train_images"].shape[1:]
    for part in parts:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        hint = "get the file again"
        expect_shape(f"{part}_images in {path}", images.rows, ("m", *shape[:2], 3), hint=hint)
        expect_shape(f"{part}_labels in {path}", labels.rows, images.shape[:1], hint=hint)
        kinds = images.dtype.str, labels.dtype.str, len(images) > 0
        numbers = labels.rows
        if kinds != ("|u1", "<i8", True) or numbers.min() < 0 or numbers.max() >= len(classes):
            raise BadInput(
                f"{part}_labels in {path} do not number {len(classes)} classes, or its images are "
                "not pixels of 0 to 255: get the file again."
            )
        columns = images.reshaped(math.prod(shape))
        examples[part] = Stored(columns, labels, dtype=dtype).then(Pixels())
    return examples, (shape[0], shape[1], 3), classes


def _expect_format(file: h5py.File) -> None:
    if (form := read_text(file, "format")) != _FORMAT:
        raise BadInput(
            f"{file.filename} has format {form!r}, expected {_FORMAT!r}: download or save it again."
        )


def _read(file: h5py.File) -> ImageFolder:
    _expect_format(file)
    classes = tuple(read_names(file, "classes"))
    sets: list[ImageSet | None] = []
    for part in _PARTS:
        if part == "test" and not holds(file, "test_images"):
            sets.append(None)
            continue
        shape = ("m", "height", "width", 3)
        images = read_array(file, f"{part}_images", dtype=np.uint8, shape=shape, compressed=False)
        labels = read_array(
            file, f"{part}_labels", dtype=np.int64, shape=(len(images),), compressed=False
        )
        sets.append(ImageSet(freeze(images), freeze(labels), classes))
    train, test = sets
    assert train is not None
    if test is not None and test.images.shape[1:] != train.images.shape[1:]:
        raise BadInput(f"images in {file.filename} are of unequal size: get the file again.")
    try:
        skipped = json.loads(read_text(file, "skipped"))
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{file.filename} is damaged ({error}): download or save it again."
        ) from error
    if not (isinstance(skipped, list) and all(isinstance(one, str) for one in skipped)):
        raise BadInput(f"{file.filename} is damaged: download or save it again.")
    return ImageFolder(train, test, tuple(skipped))
