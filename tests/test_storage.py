import errno
import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import BadInput
from pydnn.storage import open_hdf5, read_array, read_text, write_atomically, write_hdf5


def read(path, dtype="f8", shape=(3,), name="a"):
    with open_hdf5(path) as file:
        return read_array(file, name, dtype=dtype, shape=shape)


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.h5"
    write_hdf5(path, arrays={"a": np.arange(3.0)}, attributes={"note": "hello"})
    return path


@given(array=hnp.arrays(st.sampled_from(["<f8", ">f8", "<f4", "u1", "<i8"]), hnp.array_shapes()))
def test_round_trip(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("round") / "file.h5"
    write_hdf5(path, arrays={"a": array})
    again = read(path, array.dtype.newbyteorder("="), array.shape)
    np.testing.assert_array_equal(again, array)
    assert again.dtype.isnative


def test_texts_are_read(good):
    with open_hdf5(good) as file:
        assert read_text(file, "note") == "hello"
        with pytest.raises(
            BadInput, match=r"there is no attribute in .* 'not': did you mean 'note'"
        ):
            read_text(file, "not")


def make(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def chunked_claim(file):
    file.create_dataset("a", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,))


def unwritten_claim(file):
    file.create_dataset("a", shape=(1 << 40,), dtype="f8")


def virtual(file):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "a", shape=(3,))
    file.create_virtual_dataset("a", layout)


def set_link(link):
    def fill(file):
        file["b"] = np.zeros(3)
        file["a"] = link

    return fill


STRANGERS = {
    "missing": (lambda f: f.create_dataset("b", data=[1.0]), "there is no data set in .* 'a'"),
    "soft link": (set_link(h5py.SoftLink("/b")), "a in .* is a link, expected the data itself"),
    "external link": (set_link(h5py.ExternalLink("b.h5", "/b")), "a in .* is a link"),
    "group": (lambda f: f.create_group("a"), "a in .* is no array"),
    "virtual": (virtual, "a in .* is kept in other files"),
    "external storage": (
        lambda f: f.create_dataset("a", (3,), "f8", external=[("/etc/hostname", 0, 24)]),
        "a in .* is kept in other files",
    ),
    "huge, never written": (unwritten_claim, r"a in .* has shape|claims 8796093022208 bytes"),
    "huge in chunks": (chunked_claim, "a in .* claims 8796093022208 bytes, but the file holds 0"),
    "integers": (lambda f: f.create_dataset("a", data=[1, 2, 3]), "a in .* holds int64, expected"),
    "texts": (lambda f: f.create_dataset("a", data=["x"] * 3), "a in .* holds object, expected"),
    "references": (
        lambda f: f.create_dataset("a", (3,), h5py.ref_dtype), "a in .* holds object, expected"
    ),
    "no shape": (lambda f: f.create_dataset("a", data=h5py.Empty("f8")), "a in .* is empty"),
    "other shape": (lambda f: f.create_dataset("a", data=np.ones((2, 2))), r"has shape \(2, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize(("fill", "message"), STRANGERS.values(), ids=STRANGERS)
def test_what_strangers_put_into_files_is_refused(tmp_path, fill, message):
    path = make(tmp_path / "strange.h5", fill)
    shape = ("n",) if "claims" in message else (3,)
    with pytest.raises(BadInput, match=message) as refusal:
        read(path, shape=shape)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "does not exist, expected an HDF5 file"),
        (lambda path: path.mkdir(), "is a directory, expected an HDF5 file"),
        (lambda path: path.write_text("not HDF5"), "is no HDF5 file that can be read"),
        (lambda path: path.touch(), "is no HDF5 file that can be read"),
    ],
)
def test_what_is_no_hdf5_file_is_refused(tmp_path, prepare, message):
    prepare(tmp_path / "file.h5")
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "file.h5")


def outcome(path):
    """The bytes that were read, or the refusal; anything else fails the test."""
    try:
        return read(path).tobytes()
    except BadInput as refusal:
        return refusal


def test_a_truncated_file_is_refused_wherever_it_ends(good, tmp_path):
    whole, cut = good.read_bytes(), tmp_path / "cut.h5"
    for size in range(0, len(whole), 64):
        cut.write_bytes(whole[:size])
        assert isinstance(outcome(cut), BadInput), size


def test_a_damaged_byte_ends_in_one_line_or_in_numbers_of_the_right_shape(good, tmp_path):
    whole, damaged = good.read_bytes(), tmp_path / "damaged.h5"
    refused = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        damaged.write_bytes(flipped)
        result = outcome(damaged)
        refused += isinstance(result, BadInput)
        assert "\n" not in str(result) if isinstance(result, BadInput) else len(result) == 24
    assert refused > 50


# Writing


def parts_in(folder):
    return [name for name in os.listdir(folder) if name.endswith(".part")]


def test_an_existing_file_is_refused_and_kept(good):
    before = good.read_bytes()
    with pytest.raises(BadInput, match=r"good\.h5 exists already, expected a new name"):
        write_hdf5(good, arrays={"a": [1.0]})
    assert good.read_bytes() == before
    assert parts_in(good.parent) == []


def test_a_file_can_be_replaced(good):
    write_atomically(good, lambda path: path.write_text("new"), replace=True)
    assert good.read_text() == "new"
    assert parts_in(good.parent) == []


@pytest.mark.parametrize("replace", [True, False])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path, replace):
    path = tmp_path / "file"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        BadInput, match=r"file cannot be written \(No space left on device\): choose"
    ):
        write_atomically(path, write, replace=replace)
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_a_flush_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BadInput, match="Input/output error"):
        write_hdf5(tmp_path / "new.h5", arrays={"a": [1.0]})
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        write_hdf5(tmp_path / "nowhere" / "new.h5", arrays={"a": [1.0]})


def test_files_can_be_read_by_others_as_the_umask_says(good):
    umask = os.umask(0)
    os.umask(umask)
    assert good.stat().st_mode & 0o777 == 0o666 & ~umask
