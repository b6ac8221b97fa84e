"""Contact sheets: one picture of many images with their labels (extra `image`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydnn.checks import AnyPath, BadInput, expect_count, import_extra, path_of
from pydnn.data.image_sets import ImageSet
from pydnn.storage.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["contact_sheet", "save_sheet"]

_SIDE = 96  # pixels of an image's longer side on the sheet
_CAPTION = 18
_GAP = 8
_INK = "#222222"
# A frame color per class, visible at a glance; the ninth class has the first color again.
_EDGES = (
    "#9aa5b1", "#d9822b", "#2b83ba", "#7b3294", "#1a9641", "#d7191c", "#8c510a", "#35978f",
)  # fmt: skip


def contact_sheet(image_set: ImageSet, *, count: int = 60, columns: int = 10) -> Image:
    """Arrange the first `count` images in rows of `columns`, each above the name of its class.

    Args:
        image_set: The images.
        count: The number of images to show, at most.
        columns: The number of images per row, at most.

    Returns:
        A PIL image.

    Raises:
        BadInput: If `count` or `columns` is below 1.
        MissingExtra: If pillow is not installed.
    """
    count = min(expect_count("count", count, hint="show one image or more"), len(image_set))
    columns = min(expect_count("columns", columns, hint="give the sheet one or more"), count)
    image_module = import_extra("PIL.Image", extra="image", purpose="a contact sheet")
    draw_module = import_extra("PIL.ImageDraw", extra="image", purpose="a contact sheet")
    font = import_extra("PIL.ImageFont", extra="image", purpose="a contact sheet").load_default(12)
    width, height = _thumbnail_size(image_set)
    step_x, step_y = width + 2 * _GAP, height + _CAPTION + 2 * _GAP
    rows = -(-count // columns)
    sheet: Image = image_module.new("RGB", (columns * step_x, rows * step_y), "white")
    draw = draw_module.Draw(sheet)
    for i in range(count):
        x, y = (i % columns) * step_x + _GAP, (i // columns) * step_y + _GAP
        label = int(image_set.labels[i])
        edge = _EDGES[label % len(_EDGES)]
        draw.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), fill=edge)
        picture = image_module.fromarray(image_set.images[i])
        sheet.paste(picture.resize((width, height), image_module.Resampling.LANCZOS), (x, y))
        middle = (x + width / 2, y + height + 4)
        draw.text(middle, image_set.classes[label], fill=_INK, font=font, anchor="ma")
    return sheet


def save_sheet(path: AnyPath, sheet: Image) -> None:
    """Write a contact sheet as a PNG file, replacing an existing one.

    Raises:
        BadInput: If the file cannot be written, or its name does not end in .png: a file of
            another kind is never replaced.
    """
    file = path_of(path)
    if file.suffix.lower() != ".png":
        raise BadInput(f"{file} does not end in .png, expected the name of a PNG file: add .png.")
    write_atomically(file, lambda new: sheet.save(new, format="PNG"), replace=True)


def _thumbnail_size(image_set: ImageSet) -> tuple[int, int]:
    height, width = image_set.images.shape[1:3]
    scale = _SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
