"""A person's own pictures, of any size and format, as a network takes them (extra `image`)."""

from __future__ import annotations

import warnings
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

__all__ = ["load_photo"]

_MOST_MEMORY = 300_000_000  # bytes that a picture may take, worked out from its header
# Formats that are read, and how many bytes a pixel takes in their decoders, beside the picture
# itself. Those that pillow hands to another program, such as EPS to Ghostscript, are not here.
_FORMATS = {
    "AVIF": 16, "BMP": 0, "DIB": 0, "GIF": 8, "ICO": 8, "JPEG": 0, "JPEG2000": 24, "PCX": 0,
    "PNG": 0, "PPM": 0, "QOI": 4, "SGI": 4, "TGA": 0, "TIFF": 8, "WEBP": 16,
}  # fmt: skip
_A_PIXEL = 8  # as it is decoded, and once more in RGB
_WHITES = (255.0, 65535.0)  # the ends of the usual scales, and 1 for floats
_ORIENTATION = 0x0112
_STRIP = 256  # rows that are converted at once


def load_photo(path: AnyPath, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a picture, crop its middle to the shape of `size`, and resize it.

    The camera's orientation is heeded, and what is transparent becomes white. Integers of 32 bits
    and floats are scaled such that white is 255, or 1 for floats, or 65535, whichever is the first
    that no pixel exceeds; else the largest pixel is white. A large JPEG is decoded at a half, a
    quarter or an eighth of its size.

    Args:
        path: A file in one of the usual formats, e.g. JPEG, PNG, WEBP, TIFF, GIF or BMP.
        size: Height and width of the result.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        BadInput: If the file is missing, not a picture, damaged, holds NaN or infinity, or would
            take more than 300 MB.
        MissingExtra: If pillow is not installed.
    """
    path = path_of(path)
    image_module = import_extra("PIL.Image", extra="image", purpose="reading a picture")
    image_ops = import_extra("PIL.ImageOps", extra="image", purpose="reading a picture")
    try:
        with open_regular(path, what="a picture's file") as file, warnings.catch_warnings():
            # Of oddities in metadata, and of many pixels, for which there is a limit of our own.
            warnings.simplefilter("ignore")
            picture = _upright(image_module, path, file)
            height, width = size
            method = image_module.Resampling.LANCZOS
            fitted = image_ops.fit(picture, (width, height), method=method)
    except BadInput:
        raise
    except image_module.UnidentifiedImageError as error:
        raise BadInput(f"{path} is no picture that pillow can read: give a photo.") from error
    except image_module.DecompressionBombError as error:
        raise BadInput(
            f"{path} has too many pixels ({first_line(error)}): make it smaller."
        ) from error
    except Exception as error:
        raise BadInput(
            f"{path} cannot be read as a picture ({first_line(error)}): get it again."
        ) from error
    return freeze(np.array(fitted, np.uint8))


def _upright(image_module: ModuleType, path: Path, file: BinaryIO) -> Image:
    """The picture in RGB, over white where it is transparent, turned as the camera was held."""
    image_module.init()  # a pillow may lack some of the formats
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
    del picture  # and its memory
    return rgb if method is None else rgb.transpose(method)


def _expect_room(path: Path, picture: Image, file: BinaryIO) -> None:
    """Refuse a picture that would take too much memory; a JPEG is made smaller first.

    Raises:
        BadInput: With the numbers of pixels and of bytes.
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
    """Bytes a pixel that libjpeg keeps at full size: 0 unless there are several scans."""
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
    """The picture in RGB, over white where it is transparent, a strip at a time to save memory."""
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
    """The value that is white in a picture of more than 8 bits of grey.

    Pillow's own conversion would clip such a picture instead of scaling it.
    """
    if picture.mode.startswith("I;16"):
        return _WHITES[-1]  # the type says so
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
