import subprocess
import threading
import warnings
import zlib

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.data import load_photo, photos

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

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


def test_a_picture_is_turned_upright(tmp_path):
    picture = halves(size=(20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    picture.save(tmp_path / "turned.png", exif=exif)
    photo = load_photo(tmp_path / "turned.png", size=(8, 8))
    np.testing.assert_allclose(photo[4, 1], BLUE, atol=12)


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (9, 9), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_photo(tmp_path / "clear.png", size=(4, 4)) == 255).all()


def test_sixteen_bits_of_gray_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((9, 9), 65535 // 2, np.uint16)).save(tmp_path / "grey.png")
    assert (load_photo(tmp_path / "grey.png", size=(4, 4)) == 127).all()


def truncated(path):
    halves(size=(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:200])


REFUSED = {
    "missing": (lambda path: None, "does not exist, expected a picture's file"),
    "directory": (lambda path: path.mkdir(), "is a directory, expected a picture's file"),
    "text": (lambda path: path.write_text("hello"), "is not a picture that pillow can read"),
    "empty": (lambda path: path.touch(), "is not a picture that pillow can read"),
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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # pillow itself refuses twice as many
    with pytest.raises(BadInput, match=r"too many pixels .*limit of 400 pixels.*make it smaller"):
        load_photo(tmp_path / "large.png", size=(8, 8))


# Large pictures


@pytest.mark.slow
def test_a_large_jpeg_is_decoded_at_a_smaller_size(tmp_path):
    """12000 x 9000 pixels, for which pillow warns, and which would take 860 MB."""
    large = Image.new("L", (12000, 9000), 200)
    large.paste(50, (0, 0, 6000, 9000))
    large.save(tmp_path / "large.jpg", quality=20)
    photo = load_photo(tmp_path / "large.jpg", size=(8, 8))
    np.testing.assert_allclose(photo[4, 1], (50, 50, 50), atol=3)
    np.testing.assert_allclose(photo[4, 6], (200, 200, 200), atol=3)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_jpeg_is_reduced_no_more_than_necessary(tmp_path, monkeypatch, scale):
    picture = halves(size=(1600, 800))
    picture.save(tmp_path / "a.jpg")
    most = 8 * (1600 // scale) * (800 // scale)
    monkeypatch.setattr(photos, "_MOST_MEMORY", most)
    path = tmp_path / "a.jpg"
    with path.open("rb") as file, Image.open(path) as opened:
        photos._expect_room(path, opened, file)
        assert opened.size == (1600 // scale, 800 // scale)
    photo = load_photo(tmp_path / "a.jpg", size=(8, 8))
    np.testing.assert_allclose(photo[4, 1], RED, atol=12)
    monkeypatch.setattr(photos, "_MOST_MEMORY", 8 * 200 * 100 - 1)
    with pytest.raises(BadInput, match=r"a\.jpg has 1600 x 800 pixels, which take 160000 bytes"):
        load_photo(tmp_path / "a.jpg", size=(8, 8))


def test_a_jpeg_of_several_scans_counts_at_its_full_size(tmp_path, monkeypatch):
    picture = halves(size=(1600, 800))
    picture.save(tmp_path / "a.jpg", progressive=True)
    picture.save(tmp_path / "b.jpg")
    with (tmp_path / "a.jpg").open("rb") as a, (tmp_path / "b.jpg").open("rb") as b:
        assert (photos._kept_of_jpeg(a), photos._kept_of_jpeg(b)) == (6, 0)
    monkeypatch.setattr(photos, "_MOST_MEMORY", 6 * 1600 * 800)
    with pytest.raises(BadInput, match=r"has 1600 x 800 pixels, .*: make it smaller"):
        load_photo(tmp_path / "a.jpg", size=(8, 8))


def claim(path, picture_format, width, height):
    """Write a picture of a few bytes whose header claims many pixels."""
    Image.new("L", (64, 64)).save(path, format=picture_format)
    whole = path.read_bytes()
    if picture_format == "PNG":
        head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
        whole = whole[:12] + head + zlib.crc32(head).to_bytes(4, "big") + whole[33:]
    else:
        whole = whole[:18] + width.to_bytes(4, "little") + height.to_bytes(4, "little") + whole[26:]
    path.write_bytes(whole)


@pytest.mark.parametrize("picture_format", ["PNG", "BMP"])
def test_memory_is_computed_from_the_header(tmp_path, picture_format):
    claim(tmp_path / "a", picture_format, 12000, 8000)
    with pytest.raises(BadInput, match=r"a has 12000 x 8000 pixels, which take 768000000 bytes"):
        load_photo(tmp_path / "a", size=(8, 8))


@pytest.mark.parametrize("picture_format", ["WEBP", "TIFF", "GIF"])
def test_the_memory_of_decoders_counts(tmp_path, monkeypatch, picture_format):
    halves(size=(100, 100)).save(tmp_path / "a", format=picture_format)
    monkeypatch.setattr(photos, "_MOST_MEMORY", 8 * 100 * 100 + 1)
    with pytest.raises(BadInput, match=r"a has 100 x 100 pixels, which take .*: make it smaller"):
        load_photo(tmp_path / "a", size=(8, 8))


# Formats that pillow hands to other programs, or that are not pictures

OTHER_PROGRAMS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "FITS": b"SIMPLE  =                    T".ljust(80),
}


@pytest.mark.parametrize("start", OTHER_PROGRAMS.values(), ids=OTHER_PROGRAMS)
def test_no_format_is_read_that_needs_another_program(tmp_path, monkeypatch, start):
    def run(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr(subprocess, "Popen", run)
    (tmp_path / "cat.jpg").write_bytes(start.ljust(4000, b"\n"))
    with pytest.raises(BadInput, match=r"cat\.jpg is not a picture that pillow can read"):
        load_photo(tmp_path / "cat.jpg", size=(8, 8))


# Integers and floats

SCALES = {
    "integers to 252": (np.int32, 252, 252),
    "integers to 255": (np.int32, 255, 255),
    "16 bits": (np.int32, 65535, 255),
    "more": (np.int32, 10**6, 255),
    "floats to 1": (np.float32, 1.0, 255),
    "floats to a half": (np.float32, 0.5, 127),
    "floats to 255": (np.float32, 255.0, 255),
    "floats to 252": (np.float32, 252.0, 252),
    "floats beyond": (np.float32, 1e6, 255),
    "floats below": (np.float32, -1.0, 0),
}


@pytest.mark.parametrize(("dtype", "value", "expected"), SCALES.values(), ids=SCALES)
def test_integers_and_floats_are_scaled_by_their_largest_value(tmp_path, dtype, value, expected):
    Image.fromarray(np.full((600, 20), value, dtype)).save(tmp_path / "a.tiff")
    assert (load_photo(tmp_path / "a.tiff", size=(4, 4)) == expected).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path, value):
    pixels = np.ones((600, 20), np.float32)
    pixels[500, 7] = value
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    with pytest.raises(BadInput, match=r"a\.tiff holds NaN or infinity, expected finite"):
        load_photo(tmp_path / "a.tiff", size=(4, 4))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
def test_each_orientation_is_that_of_pillow(tmp_path, orientation, mode):
    corner = Image.new("RGB", (300, 300), "white")
    corner.paste(RED, (0, 0, 200, 100))
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner.convert(mode).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    expected = ImageOps.fit(upright, (6, 6), method=Image.Resampling.LANCZOS)
    assert load_photo(tmp_path / "a.png", size=(6, 6)).tolist() == np.array(expected).tolist()


# Several pictures


def test_several_pictures_come_in_their_order_each_as_if_it_were_alone(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        halves(size=(20 + 9 * number, 30)).save(path)
    paths[5].write_text("hello")
    paths.insert(7, tmp_path / "missing.jpg")
    before = list(warnings.filters)
    loaded = list(photos.load_photos(paths, size=(8, 6)))
    assert warnings.filters == before
    for path, pixels in zip(paths, loaded, strict=True):
        if path.name in ("5.jpg", "missing.jpg"):
            assert isinstance(pixels, BadInput)
            assert path.name in str(pixels)
        else:
            np.testing.assert_array_equal(pixels, load_photo(path, size=(8, 6)))


def test_readers_end_when_nobody_asks_any_more(tmp_path, monkeypatch):
    threads, before = threading.active_count(), list(warnings.filters)
    monkeypatch.setattr(photos, "_photo", lambda path, size: path)
    pixels = photos.load_photos([tmp_path] * 100, size=(8, 6))
    assert next(pixels) == tmp_path
    pixels.close()
    assert (threading.active_count(), warnings.filters) == (threads, before)
    assert list(photos.load_photos([], size=(8, 6))) == []
