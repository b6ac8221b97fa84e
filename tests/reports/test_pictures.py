import io

import numpy as np
import pytest

from pydnn.reports.pictures import picture, png


@pytest.mark.parametrize("shape", [(2, 3, 3), (4, 5), (200, 150, 3)])
def test_a_png_holds_its_pixels(shape):
    image = pytest.importorskip("PIL.Image")
    pixels = (np.arange(np.prod(shape)) % 256).astype(np.uint8).reshape(shape)
    read = np.asarray(image.open(io.BytesIO(png(pixels))))
    assert np.array_equal(read, pixels)


def test_a_picture_says_what_it_shows_and_is_small():
    shown = picture(np.linspace(0, 2, 300 * 400 * 3).reshape(300, 400, 3), 'a "cat"')
    assert 'alt="a &quot;cat&quot;"' in shown
    assert 'width="80" height="60"' in shown


def test_a_number_of_one_is_white_and_one_of_zero_is_black():
    from base64 import b64decode

    image = pytest.importorskip("PIL.Image")
    [text] = [part for part in picture([[0.0, 1.0]], "two").split('"') if "base64," in part]
    pixels = image.open(io.BytesIO(b64decode(text.partition("base64,")[2])))
    assert np.asarray(pixels).tolist() == [[0, 255]]
