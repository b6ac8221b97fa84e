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
