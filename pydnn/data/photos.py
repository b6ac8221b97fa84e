"""A person's own pictures, of any size and format, as a network takes them (extra `image`)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydnn.checks import AnyPath, BadInput, import_extra, path_of
from pydnn.records import freeze
from pydnn.storage import open_regular

__all__ = ["load_photo"]


def load_photo(path: AnyPath, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a picture, crop its middle to the shape of `size`, and resize it.

    The camera's orientation is heeded, and what is transparent becomes white.

    Args:
        path: A file in any format that pillow reads.
        size: Height and width of the result.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        BadInput: If the file is missing, no picture, damaged, or suspiciously large.
        MissingExtra: If pillow is not installed.
    """
    image_module = import_extra("PIL.Image", extra="image", purpose="reading a picture")
    image_ops = import_extra("PIL.ImageOps", extra="image", purpose="reading a picture")
    try:
        with (
            open_regular(path_of(path), what="a picture's file") as file,
            warnings.catch_warnings(),
        ):
            # Pillow warns of pictures so large that they look like an attack on memory.
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of oddities in metadata
            with image_module.open(file) as picture:
                upright = image_ops.exif_transpose(picture)
                height, width = size
                fitted = image_ops.fit(
                    _opaque(image_module, upright),
                    (width, height),
                    method=image_module.Resampling.LANCZOS,
                )
    except BadInput:
        raise
    except image_module.UnidentifiedImageError as error:
        raise BadInput(f"{path} is no picture that pillow can read: give a photo.") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInput(f"{path} cannot be read as a picture ({reason}): get it again.") from error
    return freeze(np.array(fitted, np.uint8))


def _opaque(image_module: Any, picture: Any) -> Any:
    """The picture in RGB, over white where it is transparent."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        # 16 bits of grey: pillow's own conversion would clip instead of scale.
        grey = np.asarray(picture, np.float64)
        top = max(65535.0 if picture.mode != "F" else 1.0, float(grey.max(initial=0.0)))
        return image_module.fromarray((grey.clip(0) * (255 / top)).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = image_module.new("RGBA", picture.size, "white")
    return image_module.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
