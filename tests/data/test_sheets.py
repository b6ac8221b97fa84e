import numpy as np
import pytest

from pydnn import BadInput
from pydnn.data import ImageSet, contact_sheet, drawn_cats, save_sheet

Image = pytest.importorskip("PIL.Image")


def test_a_sheet_shows_each_image_in_its_place_with_its_label(tmp_path):
    colours = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
    images = np.broadcast_to(colours[:, None, None], (3, 8, 8, 3))
    sheet = contact_sheet(ImageSet(images, np.array([0, 1, 0])), count=3, columns=2)
    cell = 96 + 16, 96 + 18 + 16
    assert sheet.size == (2 * cell[0], 2 * cell[1])
    for i, colour in enumerate(colours):
        x, y = (i % 2) * cell[0] + 56, (i // 2) * cell[1] + 56
        assert sheet.getpixel((x, y)) == tuple(colour)
    pixels = np.asarray(sheet)
    assert (pixels[104:130, :112] < 100).any()  # the label under the first one
    assert (pixels[130:, 112:] == 255).all()  # no fourth image
    save_sheet(tmp_path / "sheet.png", sheet)
    with Image.open(tmp_path / "sheet.png") as saved:
        assert saved.size == sheet.size


def test_no_more_images_are_shown_than_there_are():
    train, _ = drawn_cats(train_count=2, test_count=1)
    assert contact_sheet(train, count=60).size == (2 * 112, 130)


def test_a_sheet_of_no_images_is_refused():
    train, _ = drawn_cats(train_count=1, test_count=1)
    with pytest.raises(BadInput, match="count is 0"):
        contact_sheet(train, count=0)
