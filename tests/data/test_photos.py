import numpy as np
import pytest

from pydnn import BadInput
from pydnn.data import load_photo

Image = pytest.importorskip("PIL.Image")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode="RGB", size=(40, 20)):
    """Red to the left, blue to the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "bmp"),
        ("P", "gif"),
        ("RGBA", "png"),
        ("CMYK", "tiff"),
        ("RGB", "jpg"),
    ],
)
def test_pictures_of_any_format_become_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"photo.{suffix}"
    halves(mode).save(path)
    photo = load_photo(path, size=(8, 8))
    assert (photo.shape, photo.dtype) == ((8, 8, 3), np.uint8)
    assert not photo.flags.writeable
    np.testing.assert_allclose(photo[4, 1], RED, atol=12)
    np.testing.assert_allclose(photo[4, 6], BLUE, atol=12)


def test_the_middle_is_kept(tmp_path):
    # 60 x 20 in thirds, red, green, blue: the middle square is the green third.
    picture = halves(size=(60, 20))
    picture.paste((0, 255, 0), (20, 0, 40, 20))
    picture.save(tmp_path / "thirds.png")
    photo = load_photo(tmp_path / "thirds.png", size=(4, 4))
    np.testing.assert_allclose(photo[:, 1:3], np.broadcast_to((0, 255, 0), (4, 2, 3)), atol=20)
    assert (photo[:, 0, 0] < 60).all()


def test_the_cameras_orientation_is_heeded(tmp_path):
    picture = halves(size=(20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    picture.save(tmp_path / "turned.png", exif=exif)
    photo = load_photo(tmp_path / "turned.png", size=(8, 8))
    np.testing.assert_allclose(photo[4, 1], BLUE, atol=12)


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (9, 9), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_photo(tmp_path / "clear.png", size=(4, 4)) == 255).all()


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((9, 9), 65535 // 2, np.uint16)).save(tmp_path / "grey.png")
    assert (load_photo(tmp_path / "grey.png", size=(4, 4)) == 127).all()


def truncated(path):
    halves(size=(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:200])


REFUSED = {
    "missing": (lambda path: None, "does not exist, expected a picture's file"),
    "directory": (lambda path: path.mkdir(), "is a directory, expected a picture's file"),
    "text": (lambda path: path.write_text("hello"), "is no picture that pillow can read"),
    "empty": (lambda path: path.touch(), "is no picture that pillow can read"),
    "truncated": (truncated, "cannot be read as a picture"),
}


@pytest.mark.parametrize(("prepare", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_are_one_line(tmp_path, prepare, message):
    path = tmp_path / "photo.png"
    prepare(path)
    with pytest.raises(BadInput, match=message) as refusal:
        load_photo(path, size=(8, 8))
    assert "\n" not in str(refusal.value)


def test_a_picture_that_looks_like_an_attack_is_refused(tmp_path, monkeypatch):
    halves().save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(BadInput, match=r"as a picture .*exceeds limit of 500 pixels"):
        load_photo(tmp_path / "large.png", size=(8, 8))
