"""Reads a picture of any size and format for a network (extra `image`)."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pydnn.checks import AnyPath, BadInput, first_line, import_extra, path_of
from pydnn.records import freeze
from pydnn.storage.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["load_photo", "load_photos"]

_READERS = 4  # pictures that are decoded at the same time
_WAITING = 16  # of which there are these many, with those that are decoded already

_MOST_MEMORY = 300_000_000  # bytes for one picture, computed from its header before decoding
# The formats that are accepted, with the bytes per pixel that their decoders need in addition to
# the picture. Formats that pillow passes to another program, such as EPS to Ghostscript, are not.
_FORMATS = {
    "AVIF": 16, "BMP": 0, "DIB": 0, "GIF": 8, "ICO": 8, "JPEG": 0, "JPEG2000": 24, "PCX": 0,
    "PNG": 0, "PPM": 0, "QOI": 4, "SGI": 4, "TGA": 0, "TIFF": 8, "WEBP": 16,
}  # fmt: skip
_A_PIXEL = 8  # bytes: 4 as decoded, and 4 as RGB
_WHITES = (255.0, 65535.0)  # white on the usual integer scales; floats may also have white 1
_ORIENTATION = 0x0112
_STRIP = 256  # rows that are converted at a time


def load_photo(path: AnyPath, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a picture, crop it around its center to the proportions of `size`, and resize it.

    The picture is turned upright as its camera recorded, and transparent pixels become white. In
    pictures of 32-bit integers or floats, white is the smallest of 1 (floats only), 255 and 65535
    that no pixel exceeds, or else the largest pixel. A JPEG that is too large is decoded at a
    half, a quarter or an eighth of its size.

    Args:
        path: A file in a usual format, e.g. JPEG, PNG, WEBP, TIFF, GIF or BMP.
        size: The height and width of the result, in pixels.

    Returns:
        The pixels, uint8, shape (height, width, 3).

    Raises:
        BadInput: If the file is missing, damaged or not a picture, holds NaN or infinity, or
            needs more than 300 MB to decode.
        MissingExtra: If pillow is not installed.
    """
    with _quiet():
        return _photo(path_of(path), size)


def load_photos(
    paths: Iterable[Path], *, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8] | BadInput]:
    """Read pictures as `load_photo` does, a few at the same time.

    Returns:
        The pixels of each picture, in their order, or the error that says why it cannot be read.

    Raises:
        MissingExtra: If pillow is not installed.
    """
    from concurrent.futures import (
        Future,
        ThreadPoolExecutor,
    )  # here, since `import pydnn` does without

    import_extra("PIL.Image", extra="image", purpose="reading pictures").init()

    def read(path: Path) -> NDArray[np.uint8] | BadInput:
        try:
            return _photo(path, size)
        except BadInput as error:
            return error

    # Pillow lets go of Python's lock while it decodes. Each picture may take its 300 MB.
    readers = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))
    with _quiet():
        try:
            # Not all of them at once: photos wait in memory until somebody takes them.
            waiting: deque[Future[NDArray[np.uint8] | BadInput]] = deque()
            for path in paths:
                waiting.append(readers.submit(read, path))
                if len(waiting) > _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            readers.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ignore pillow's warnings: of odd metadata, and of many pixels, which `_expect_room` limits.

    Filters are those of the process, so threads must not enter this at the same time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _photo(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    image_module = import_extra("PIL.Image", extra="image", purpose="reading a picture")
    image_ops = import_extra("PIL.ImageOps", extra="image", purpose="reading a picture")
    try:
        with open_regular(path, what="a picture's file") as file:
            picture = _upright(image_module, path, file)
            height, width = size
            method = image_module.Resampling.LANCZOS
            fitted = image_ops.fit(picture, (width, height), method=method)
    except BadInput:
        raise
    except image_module.UnidentifiedImageError as error:
        raise BadInput(f"{path} is not a picture that pillow can read: give a photo.") from error
    except image_module.DecompressionBombError as error:
        raise BadInput(
            f"{path} has too many pixels ({first_line(error)}): make it smaller."
        ) from error
    except Exception as error:
        raise BadInput(
            f"{path} cannot be read as a picture ({first_line(error)}): restore it from a backup."
        ) from error
    return freeze(np.array(fitted, np.uint8))


def _upright(image_module: ModuleType, path: Path, file: BinaryIO) -> Image:
    """The picture in RGB, on a white background, turned upright."""
    image_module.init()  # loads all formats, some of which this pillow may lack
    formats = [name for name in _FORMATS if name in image_module.OPEN]
    with image_module.open(file, formats=formats) as picture:
        _expect_room(path, picture, file)
        picture.load()
        turn = image_module.Transpose
        turns = {
            2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
            6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
        }  # fmt: skip
        method = turns.get(picture.getexif().get(_ORIENTATION))
        rgb = _opaque(image_module, path, picture)
    del picture  # frees its memory before the turned copy is made
    return rgb if method is None else rgb.transpose(method)


def _expect_room(path: Path, picture: Image, file: BinaryIO) -> None:
    """Refuse a picture that needs too much memory; a JPEG is set to decode at a smaller size.

    Raises:
        BadInput: If the picture still needs too much, with its size in pixels and in bytes.
    """
    kept = _kept_of_jpeg(file) if picture.format in ("JPEG", "MPO") else 0
    a_pixel = _A_PIXEL + _FORMATS.get(picture.format or "", 0)
    width, height = picture.size
    for scale in (1, 2, 4, 8) if picture.format in ("JPEG", "MPO") else (1,):
        pixels = -(-width // scale) * -(-height // scale)
        needed = kept * width * height + a_pixel * pixels
        if needed <= _MOST_MEMORY:
            picture.draft(None, (max(1, width // scale), max(1, height // scale)))
            return
    raise BadInput(
        f"{path} has {width} x {height} pixels, which take {needed} bytes, expected at most "
        f"{_MOST_MEMORY}: make it smaller."
    )


def _kept_of_jpeg(file: BinaryIO) -> int:
    """Bytes per pixel that libjpeg keeps at full size: 0 unless the file has several scans."""
    # Walks the segments of the file up to the start of the first scan (marker DA). The frame header
    # (C0, C1, C2 = progressive) has the number of color layers. If a scan does not have all of
    # them, or is progressive, libjpeg keeps 2 bytes for each coefficient of the whole picture.
    place = file.tell()
    file.seek(2)
    layers, progressive, kept = 4, False, 8
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        body = file.read(max(0, int.from_bytes(head[2:], "big") - 2))
        if head[1] in (0xC0, 0xC1, 0xC2) and len(body) > 5:
            layers, progressive = body[5], head[1] == 0xC2
        if head[1] == 0xDA:
            kept = 0 if body[:1] == bytes([layers]) and not progressive else 2 * layers
            break
    file.seek(place)
    return kept


def _opaque(image_module: ModuleType, path: Path, picture: Image) -> Image:
    """The picture in RGB on a white background, converted in strips to save memory."""
    width, height = picture.size
    white = _white(path, picture) if picture.mode.startswith(("I", "F")) else 0.0
    rgb: Image = image_module.new("RGB", (width, height))
    for top in range(0, height, _STRIP):
        box = (0, top, width, min(height, top + _STRIP))
        strip = picture.crop(box)
        if white:
            grey = np.asarray(strip, np.float64)
            strip = image_module.fromarray((grey.clip(0) * (255 / white)).astype(np.uint8))
        elif picture.has_transparency_data:
            behind = image_module.new("RGBA", strip.size, "white")
            strip = image_module.alpha_composite(behind, strip.convert("RGBA"))
        rgb.paste(strip.convert("RGB"), box)
    return rgb


def _white(path: Path, picture: Image) -> float:
    """The value that means white in a grayscale picture of more than 8 bits.

    Pillow's own conversion would clip such a picture instead of scaling it.
    """
    if picture.mode.startswith("I;16"):
        return _WHITES[-1]  # 16-bit integers
    largest = 0.0
    for top in range(0, picture.size[1], _STRIP):
        box = (0, top, picture.size[0], min(picture.size[1], top + _STRIP))
        strip = np.asarray(picture.crop(box), np.float64)
        if not np.isfinite(strip).all():
            raise BadInput(
                f"{path} holds NaN or infinity, expected finite numbers: give another picture."
            )
        largest = max(largest, float(strip.max(initial=0.0)))
    whites = (1.0, *_WHITES) if picture.mode == "F" else _WHITES
    return next((white for white in whites if largest <= white), largest)
