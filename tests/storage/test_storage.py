import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import BadInput
from pydnn.storage.files import (
    exclusive,
    make_folder,
    open_regular,
    read_small_text,
    write_atomically,
    write_text,
)
from pydnn.storage.hdf5 import holds, open_hdf5, read_array, read_names, read_text, write_hdf5

posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and links are made")


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
            BadInput, match=r"there is no attribute 'not' in .*: did you mean 'note'"
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


def endless_chunk(file):
    """Three numbers in a chunk that claims a gibibyte, in a file of about 100 bytes."""
    options = {"chunks": (1 << 27,), "maxshape": (None,), "compression": "gzip"}
    dataset = file.create_dataset("a", shape=(3,), dtype="f8", **options)
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(24)))


def wrapped_claim(file):
    """2**33 by 2**31 + 1 numbers; in integers of 64 bits, the product wraps to 2**33."""
    file.create_dataset("a", shape=(1 << 33, (1 << 31) + 1), dtype="f8", chunks=(1 << 9, 1 << 9))


STRANGERS = {
    "missing": (lambda f: f.create_dataset("b", data=[1.0]), "there is no array 'a'"),
    "soft link": (set_link(h5py.SoftLink("/b")), "a in .* is a link, expected the data itself"),
    "external link": (set_link(h5py.ExternalLink("b.h5", "/b")), "a in .* is a link"),
    "group": (lambda f: f.create_group("a"), "a in .* is not an array"),
    "virtual": (virtual, "a in .* is kept in other files"),
    "external storage": (
        lambda f: f.create_dataset("a", (3,), "f8", external=[("/etc/hostname", 0, 24)]),
        "a in .* is kept in other files",
    ),
    "huge, never written": (unwritten_claim, r"a in .* has shape|claims 8796093022208 bytes"),
    "huge in chunks": (chunked_claim, "a in .* claims 8796093022208 bytes, but the file holds 0"),
    "a chunk far larger than itself": (
        endless_chunk, "a in .* claims 1073741824 bytes, but the file holds [0-9]{2}:"
    ),
    "more numbers than 64 bits can count": (
        wrapped_claim, "a in .* claims 147573952658395889664 bytes, but the file holds 0"
    ),
    "records": (lambda f: f.create_dataset("a", (3,), "f8,i4"), "a in .* holds .*, expected floa"),
    "a dtype": (lambda f: f.__setitem__("a", np.dtype("f8")), "a in .* is not an array"),
    "link to itself": (set_link(h5py.SoftLink("/a")), "a in .* is a link"),
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
    shape = {"wrapped_claim": ("n", "m"), "endless_chunk": (3,)}.get(
        fill.__name__, ("n",) if "claims" in message else (3,)
    )
    with pytest.raises(BadInput, match=message) as refusal:
        read(path, shape=shape)
    assert "\n" not in str(refusal.value)


def test_a_claim_larger_than_the_file_itself_is_refused(tmp_path):
    path = make(tmp_path / "claim.h5", lambda file: file.create_dataset("a", data=np.zeros(37)))
    content = path.read_bytes()
    # The shape, the largest shape and the number of stored bytes all claim the same size.
    for number in (37, 37 * 8):
        content = content.replace(
            number.to_bytes(8, "little"), (number << 40).to_bytes(8, "little")
        )
    path.write_bytes(content)
    with pytest.raises(
        BadInput, match=r"a in .* (claims 325455441821696 bytes|is damaged .*invalid dataset size)"
    ):
        read(path, shape=("n",))


def test_whether_there_is_something_of_a_name_is_known_without_following_it(tmp_path):
    path = make(tmp_path / "nested.h5", nest)
    with open_hdf5(path) as file:
        assert all(holds(file, name) for name in ("outside", "nowhere", "loop", "array"))
        assert not holds(file, "a")


SHAPES = [(), (3,), (0,), (2, 3), (2, 0, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_array_of_any_shape_can_be_asked_for(tmp_path, shape):
    path = make(tmp_path / "a.h5", lambda file: file.create_dataset("a", data=np.ones(shape)))
    assert read(path, shape=None).shape == shape


def names_in(path, count="count"):
    with open_hdf5(path) as file:
        return read_names(file, "names", count=count)


NAMES = [
    ["non-cat", "cat"],
    ["ü", ""],
    ["猫" * 300, "x"],
    ["a"],
    [f"class {i}" for i in range(500)],
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("how", ["by default", "fixed", "as NumPy texts", "ASCII", "in chunks"])
def test_names_are_read_however_h5py_writes_them(tmp_path, names, how):
    encoded = np.array([name.encode() for name in names])
    if how == "ASCII" and not all(map(str.isascii, names)):
        return
    values, options = {
        "by default": (names, {}),
        "fixed": (encoded, {}),
        "as NumPy texts": (np.array(names, object), {"dtype": h5py.string_dtype()}),
        "ASCII": (np.array(names, object), {"dtype": h5py.string_dtype("ascii")}),
        "in chunks": (encoded, {"chunks": (1,), "compression": "gzip"}),
    }[how]
    path = make(tmp_path / "a.h5", lambda f: f.create_dataset("names", data=values, **options))
    assert names_in(path) == names
    assert names_in(path, len(names)) == names
    with pytest.raises(BadInput, match=r"names in .* has shape .*: give one name per class"):
        names_in(path, len(names) + 1)


NOT_NAMES = {
    "numbers": (lambda f: f.__setitem__("names", [1, 2]), "holds int64, expected names"),
    "one": (lambda f: f.__setitem__("names", "cat"), r"has shape \(\), expected \(count,\)"),
    "a group": (lambda f: f.create_group("names"), "is not an array"),
    "nothing": (lambda f: f.__setitem__("name", 1), "did you mean 'name'"),
    "empty": (lambda f: f.__setitem__("names", h5py.Empty("S3")), "is empty"),
    "not UTF-8": (lambda f: f.__setitem__("names", [b"\xff"]), "expected UTF-8: write them again"),
    "endless": (lambda f: f.__setitem__("names", ["x" * 2000]), "claims 2000 bytes, expected at"),
    "varying size in chunks": (
        lambda f: f.create_dataset("names", data=["a", "b"], chunks=(1,)), "not in one block",
    ),
    "varying lists of numbers": (
        lambda f: f.create_dataset("names", (2,), h5py.vlen_dtype("i4")), "expected names",
    ),
    "an external link": (
        lambda f: f.__setitem__("names", h5py.ExternalLink("pipe", "x")), "is a link, expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fill", "message"), NOT_NAMES.values(), ids=NOT_NAMES)
def test_anything_but_a_list_of_names_is_refused(tmp_path, fill, message):
    path = make(tmp_path / "a.h5", fill)
    with pytest.raises(BadInput, match=rf"names.*{message}") as refusal:
        names_in(path)
    assert "\n" not in str(refusal.value)


def test_chunks_can_be_refused_altogether(tmp_path):
    options = {"chunks": (2,), "compression": "gzip"}
    path = make(tmp_path / "a.h5", lambda f: f.create_dataset("a", data=np.arange(3.0), **options))
    assert read(path).tolist() == [0, 1, 2]
    with open_hdf5(path) as file, pytest.raises(BadInput, match=r"a in .* is in chunks, expected"):
        read_array(file, "a", dtype="f8", shape=(3,), compressed=False)


def nest(file):
    file["group/a"] = np.arange(3.0)
    file["linked"] = h5py.SoftLink("/group")
    file["outside"] = h5py.ExternalLink("other.h5", "/group")
    file["nowhere"] = h5py.SoftLink("/nothing")
    file["loop"] = h5py.SoftLink("/loop")
    file["group/self"] = file["group"]
    file["array"] = np.zeros(3)
    file["type"] = np.dtype("f8")


NESTED = {
    "linked/a": "linked/a in .* is a link, expected the data itself",
    "outside/a": "outside/a in .* is a link, expected the data itself",
    "nowhere/a": "nowhere/a in .* is a link",
    "loop/a": "loop/a in .* is a link",
    "array/a": "array/a in .* is not in a group, expected one",
    "type/a": "type/a in .* is not in a group, expected one",
    "group/b": "there is no array 'b'",
    "grop/a": "there is no array 'grop' in .*: did you mean 'group'",
    "group": "group in .* is not an array",
    "group//a": "there is no array ''",
    "/group/a": "there is no array ''",
    "group/../array": r"there is no array '\.\.'",
    "": "there is no array ''",
}


@pytest.mark.parametrize(("name", "message"), NESTED.items(), ids=NESTED)
def test_links_on_the_way_to_a_name_are_refused(tmp_path, name, message):
    path = make(tmp_path / "nested.h5", nest)
    with pytest.raises(BadInput, match=message) as refusal:
        read(path, name=name)
    assert "\n" not in str(refusal.value)


def test_names_in_groups_lead_to_arrays(tmp_path):
    path = make(tmp_path / "nested.h5", nest)
    for name in ("group/a", "group/self/a", "group/self/self/self/a"):
        assert read(path, name=name).tolist() == [0, 1, 2]
    write_hdf5(tmp_path / "written.h5", arrays={"x/y/a": [0.0, 1, 2], "x/a": [3.0, 4, 5]})
    assert read(tmp_path / "written.h5", name="x/y/a").tolist() == [0, 1, 2]
    assert read(tmp_path / "written.h5", name="x/a").tolist() == [3, 4, 5]


TEXTS = {
    "a number": (lambda f: f.attrs.create("a", 3), "attribute a in .* is not a text of fixed size"),
    "several": (lambda f: f.attrs.create("a", ["x", "y"]), "a in .* is not a single short text"),
    "no dataspace": (lambda f: f.attrs.create("a", h5py.Empty("S3")), "is not a single short text"),
    "not UTF-8": (
        lambda f: f.attrs.create("a", np.bytes_(b"\xff")),
        "attribute a in .* is damaged",
    ),
    "missing": (lambda f: None, "there is no attribute 'a'"),
    "a reference": (
        lambda f: f.attrs.create("a", f.ref, dtype=h5py.ref_dtype),
        "is not a text of fixed size",
    ),
}


@pytest.mark.parametrize(("fill", "message"), TEXTS.values(), ids=TEXTS)
def test_anything_but_a_text_is_refused(tmp_path, fill, message):
    path = make(tmp_path / "file.h5", fill)
    with open_hdf5(path) as file, pytest.raises(BadInput, match=message):
        read_text(file, "a")


LENGTHS = [0, 1, 59_998, 60_000, 60_002, 1 << 20]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_texts_of_any_length_are_read_as_they_were_written(tmp_path, length, sealed):
    text = "ü" * (length // 2) + "x" * (length % 2)
    arrays = {"a": np.arange(3.0)}
    write_hdf5(tmp_path / "a.h5", arrays=arrays, attributes={"note": text}, sealed=sealed)
    with open_hdf5(tmp_path / "a.h5", sealed=sealed) as file:
        assert read_text(file, "note") == text
        assert read_array(file, "a", dtype="f8", shape=(3,)).tolist() == [0, 1, 2]


def test_a_text_of_more_than_a_mebibyte_is_refused(tmp_path):
    text = "ü" * (1 << 19) + "x"
    with pytest.raises(BadInput, match=r"^note has 1048577 bytes, expected at most 1048576: short"):
        write_hdf5(tmp_path / "b.h5", arrays={}, attributes={"note": text}, sealed=True)
    assert not (tmp_path / "b.h5").exists()


def test_texts_of_varying_size_are_refused_unless_they_are_asked_for(tmp_path):
    path = make(tmp_path / "a.h5", lambda file: file.attrs.create("note", "hello"))
    with (
        open_hdf5(path) as file,
        pytest.raises(BadInput, match=r"note in .* is not a text of fixed"),
    ):
        read_text(file, "note")
    with open_hdf5(path) as file:
        assert read_text(file, "note", fixed=False) == "hello"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "does not exist, expected an HDF5 file"),
        (lambda path: path.mkdir(), "is a directory, expected an HDF5 file"),
        (lambda path: path.write_text("not HDF5"), "is not a readable HDF5 file"),
        (lambda path: path.touch(), "is not a readable HDF5 file"),
    ],
)
def test_anything_but_an_hdf5_file_is_refused(tmp_path, prepare, message):
    prepare(tmp_path / "file.h5")
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "file.h5")


def outcome(path):
    """The bytes of the array, or the refusal; any other error fails the test."""
    try:
        return read(path).tobytes()
    except BadInput as refusal:
        return refusal


def test_a_truncated_file_is_refused_wherever_it_ends(good, tmp_path):
    whole, cut = good.read_bytes(), tmp_path / "cut.h5"
    for size in range(0, len(whole), 64):
        cut.write_bytes(whole[:size])
        assert isinstance(outcome(cut), BadInput), size


@pytest.mark.parametrize(
    "stride", [pytest.param(1, id="every byte", marks=pytest.mark.slow), 7], ids=str
)
def test_a_damaged_byte_ends_in_one_line_or_in_numbers_of_the_right_shape(good, tmp_path, stride):
    whole, damaged = good.read_bytes(), tmp_path / "damaged.h5"
    refused = 0
    for position in range(0, len(whole), stride):
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        damaged.write_bytes(flipped)
        result = outcome(damaged)
        refused += isinstance(result, BadInput)
        assert "\n" not in str(result) if isinstance(result, BadInput) else len(result) == 24
    assert refused > 50 / stride


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


# Disks whose files have one name only


NO_LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EINVAL, errno.EMLINK]


@pytest.fixture
def no_links(monkeypatch):
    def forbid(code=errno.EPERM):
        def link(*paths, **options):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", link)

    return forbid


@pytest.mark.parametrize("code", NO_LINKS)
def test_files_are_written_where_none_can_have_two_names(tmp_path, no_links, code):
    no_links(code)
    write_hdf5(tmp_path / "a.h5", arrays={"a": np.arange(3.0)})
    assert read(tmp_path / "a.h5").tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ["a.h5"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_existing_file_is_kept_where_none_can_have_two_names(good, no_links):
    no_links()
    before = good.read_bytes()
    with pytest.raises(BadInput, match=r"good\.h5 exists already, expected a new name"):
        write_hdf5(good, arrays={"a": [1.0]})
    assert good.read_bytes() == before
    assert os.listdir(good.parent) == ["good.h5"]


@posix
def test_a_link_to_nothing_is_kept_where_none_can_have_two_names(tmp_path, no_links):
    no_links()
    (tmp_path / "a").symlink_to("gone")
    with pytest.raises(BadInput, match="exists already"):
        write_text(tmp_path / "a", "x")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").is_symlink()


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch, no_links):
    no_links()

    def fail(*paths, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(BadInput, match=r"a cannot be written \(Input/output error\): choose"):
        write_text(tmp_path / "a", "x")
    assert os.listdir(tmp_path) == []


def test_one_of_several_writers_wins_on_a_disk_without_hard_links(tmp_path, no_links):
    no_links()
    results = []

    def attempt(number):
        try:
            write_text(tmp_path / "a", f"writer {number}" * 1000)
            results.append(number)
        except BadInput:
            results.append(None)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (number for number in results if number is not None)
    assert (tmp_path / "a").read_text() == f"writer {winner}" * 1000
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_full_disk_leaves_the_old_file_and_nothing_of_the_new_one(tmp_path, replace):
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


# Texts


def test_a_small_text_is_read_as_it_was_written(tmp_path):
    text = "a\r\nb\n\ufeffü\0" * 1000
    write_text(tmp_path / "a", text)
    assert read_small_text(tmp_path / "a") == text
    (tmp_path / "most").write_bytes(b"x" * (1 << 20))
    assert len(read_small_text(tmp_path / "most")) == 1 << 20


NOT_TEXTS = {
    "missing": (lambda path: None, "does not exist, expected a short text: check the path"),
    "a folder": (
        lambda path: path.mkdir(),
        "is a directory, expected a short text: check the path",
    ),
    "too long": (
        lambda path: path.write_bytes(b"x" * ((1 << 20) + 1)),
        "has 1048577 bytes, expected a short text of at most 1048576",
    ),
    "not UTF-8": (
        lambda path: path.write_bytes(b"a\xff"),
        r"is not a UTF-8 text \('utf-8' codec can't",
    ),
    "half a letter": (lambda path: path.write_bytes("ü".encode()[:1]), "is not a UTF-8 text"),
    "endless": (
        lambda path: path.symlink_to("/dev/zero"),
        "is not a regular file, expected a short text",
    ),
    "a pipe that nobody writes to": (
        lambda path: os.mkfifo(path),
        "is not a regular file, expected a short",
    ),
}


@posix
@pytest.mark.parametrize(("make", "message"), NOT_TEXTS.values(), ids=NOT_TEXTS)
def test_anything_but_a_small_text_is_refused(tmp_path, make, message):
    make(tmp_path / "text")
    with pytest.raises(BadInput, match=f"text {message}") as refusal:
        read_small_text(tmp_path / "text")
    assert "\n" not in str(refusal.value)


def test_a_byte_order_mark_is_not_a_letter_of_the_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfiterations = 3\r\n")
    assert read_small_text(tmp_path / "a") == "iterations = 3\r\n"
    (tmp_path / "b").write_bytes("a\ufeffb".encode())
    assert read_small_text(tmp_path / "b") == "a\ufeffb"


# Regular files


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # whose name may not be long


def link_to(target):
    def make(path):
        (path.parent / "folder").mkdir()
        os.mkfifo(path.parent / "pipe")
        path.symlink_to(target)

    return make


NOT_REGULAR = {
    "a pipe": (lambda path: os.mkfifo(path), "is not a regular file"),
    "a socket": (make_socket, "is not a regular file"),
    "a folder": (lambda path: path.mkdir(), "is a directory"),
    "a link to a pipe": (link_to("pipe"), "is not a regular file"),
    "a link to a device": (link_to("/dev/zero"), "is not a regular file"),
    "a link to a folder": (link_to("folder"), "is a directory"),
    "a link to nothing": (link_to("nothing"), "does not exist"),
    "a link to itself": (link_to("file"), r"cannot be read \(Too many levels"),
    "a link to a terminal": (link_to("/dev/tty"), "is not a regular file"),
}
READERS = {
    "text": read_small_text,
    "HDF5": lambda path: open_hdf5(path).__enter__(),
    "sealed HDF5": lambda path: open_hdf5(path, sealed=True).__enter__(),
}


@posix
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("make", "message"), NOT_REGULAR.values(), ids=NOT_REGULAR)
def test_every_reader_refuses_what_is_not_a_regular_file(tmp_path, make, message, reader):
    make(tmp_path / "file")
    with pytest.raises(BadInput, match=rf"file {message}.*: check the path\.$") as refusal:
        reader(tmp_path / "file")
    assert "\n" not in str(refusal.value)


def opened(path, **options):
    with open_regular(path, what="a test's file", **options) as file:
        return file.read()


@posix
def test_links_are_followed_or_refused(tmp_path, good):
    (tmp_path / "text").write_text("x")
    (tmp_path / "link").symlink_to("text")
    (tmp_path / "link.h5").symlink_to("good.h5")
    assert opened(tmp_path / "link") == b"x"
    assert opened(tmp_path / "text", links=False) == b"x"
    refused = pytest.raises(BadInput, match=r"is a symbolic link, expected .*: check the path\.$")
    for read_link in (
        lambda: opened(tmp_path / "link", links=False),
        lambda: read_small_text(tmp_path / "link", links=False),
        lambda: open_hdf5(tmp_path / "link.h5", links=False).__enter__(),
    ):
        with refused:
            read_link()


@posix
@pytest.mark.parametrize("intruder", ["pipe", "link", "link to a pipe"])
@pytest.mark.parametrize("links", [True, False])
def test_what_takes_a_file_s_name_after_the_check_is_refused(
    tmp_path, monkeypatch, intruder, links
):
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").write_text("y")
    os.mkfifo(tmp_path / "pipe")
    plain = os.open

    def swap(path, flags, *rest):
        os.unlink(path)
        if intruder == "pipe":
            os.mkfifo(path)
        else:
            os.symlink("other" if intruder == "link" else "pipe", path)
        return plain(path, flags, *rest)

    monkeypatch.setattr(os, "open", swap)
    if intruder == "link" and links:
        assert opened(tmp_path / "file") == b"y"
    else:
        with pytest.raises(BadInput, match=r"file (is not a regular file|cannot be read)"):
            opened(tmp_path / "file", links=links)


def test_a_system_without_the_flags_refuses_links_as_well(tmp_path, monkeypatch):
    for flag in ("O_NOFOLLOW", "O_NONBLOCK"):
        monkeypatch.delattr(os, flag, raising=False)
    (tmp_path / "text").write_text("x")
    (tmp_path / "link").symlink_to("text")
    assert opened(tmp_path / "text", links=False) == b"x"
    with pytest.raises(BadInput, match="link is a symbolic link"):
        opened(tmp_path / "link", links=False)


@posix
def test_sizes_must_be_plausible(tmp_path):
    (tmp_path / "text").write_bytes(b"12345")
    assert opened(tmp_path / "text", most=5) == b"12345"
    with pytest.raises(BadInput, match="text has 5 bytes, expected a test's file of at most 4:"):
        opened(tmp_path / "text", most=4)
    with (tmp_path / "hole").open("wb") as hole:
        hole.write(b"x" * 5000)
        hole.flush()
        os.fsync(hole.fileno())
        hole.truncate(1 << 43)
    if 0 < (tmp_path / "hole").stat().st_blocks < 100:
        for reader in (opened, *READERS.values()):
            with pytest.raises(BadInput, match=r"hole (claims|has) 8796093022208 bytes"):
                reader(tmp_path / "hole")


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(BadInput, match=r"cannot be read \(embedded null byte\): check the path"):
        opened(Path("a\0b"))


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    write_hdf5(path, arrays={"a": np.arange(1e5)})
    with open_hdf5(path) as file:
        os.truncate(path, 5000)
        with pytest.raises(BadInput, match=r"a in .* is damaged \(the file ends too early"):
            read_array(file, "a", dtype="f8", shape=(10**5,))


# Folders


def fill(folder):
    write_text(folder / "a", "x")
    (folder / "b").mkdir()
    write_text(folder / "b" / "c", "y")


def test_a_folder_is_made_with_all_that_is_in_it(tmp_path):
    make_folder(tmp_path / "deep" / "er" / "new", fill)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"deep/er/new/a", "deep/er/new/b/c"}
    assert os.listdir(tmp_path / "deep" / "er") == ["new"]


def make_link(path):
    path.symlink_to("nowhere")


TAKEN = {
    "a file": lambda path: path.write_text("old"),
    "a folder": lambda path: (path.mkdir(), (path / "old").touch()),
    "an empty folder": lambda path: path.mkdir(),
    "a link to nothing": make_link,
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_has_the_name_of_a_new_folder_is_kept(tmp_path, make, when):
    path = tmp_path / "taken"

    def filling(folder):
        fill(folder)
        if when == "meanwhile":
            make(path)

    if when == "before":
        make(path)
    if make is TAKEN["an empty folder"]:
        make_folder(path, filling)  # an empty one has nothing to lose
        assert sorted(os.listdir(path)) == ["a", "b"]
        return
    with pytest.raises(
        BadInput, match=r"taken (exists already, expected a new name|cannot be made)"
    ):
        make_folder(path, filling)
    assert os.listdir(tmp_path) == ["taken"]
    assert path.is_symlink() or path.is_file() or os.listdir(path) in ([], ["old"])


FAILURES = {
    "bad input about a file": (
        BadInput("{} is bad: try again."),
        BadInput,
        r"^/.*/new is bad: try",
    ),
    "a full disk": (
        OSError(errno.ENOSPC, "No space left"),
        BadInput,
        r"new cannot be made \(No spa",
    ),
    "a mistake": (ZeroDivisionError("x"), ZeroDivisionError, "x"),
    "an interruption": (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
}


@pytest.mark.parametrize(("error", "kind", "message"), FAILURES.values(), ids=FAILURES)
def test_a_folder_that_cannot_be_filled_leaves_nothing(tmp_path, error, kind, message):
    def failing(folder):
        fill(folder)
        raise type(error)(str(error).format(folder)) if isinstance(error, BadInput) else error

    with pytest.raises(kind, match=message):
        make_folder(tmp_path / "new", failing)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_flushed_leaves_nothing(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    def filling(folder):
        fill(folder)
        monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(BadInput, match=r"new cannot be made \(Input/output error\)"):
        make_folder(tmp_path / "new", filling)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_made_nowhere_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"new cannot be made \(.*\): choose "):
        make_folder(tmp_path / "file" / "new", fill)


# One writer at a time


def test_two_handles_of_one_process_exclude_each_other(tmp_path):
    with exclusive(tmp_path / "lock"):
        with pytest.raises(BadInput, match="is being written by another process: wait until"):
            exclusive(tmp_path / "lock").__enter__()
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_bytes() == b""


HOLDER = """
import sys
from pathlib import Path
from pydnn.storage.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["in good order", "killed"])
def test_what_another_process_holds_is_refused_until_it_has_ended(tmp_path, end):
    lock = tmp_path / "lock"
    arguments = [sys.executable, "-c", HOLDER, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match="is being written by another process"):
            exclusive(lock).__enter__()
        if end == "killed":
            holder.kill()
        else:
            holder.stdin.write("\n")
            holder.stdin.flush()
        holder.wait()
        with exclusive(lock):
            pass


def test_a_lock_is_released_by_an_error_and_kept_from_other_threads(tmp_path):
    lock, outcomes = tmp_path / "lock", []

    def attempt():
        try:
            with exclusive(lock):
                outcomes.append("held")
        except BadInput:
            outcomes.append("refused")

    def interrupted():
        with exclusive(lock):
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    attempt()
    assert outcomes == ["refused", "held"]


def test_a_lock_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"lock cannot be written \(No such file or directory\)"):
        exclusive(tmp_path / "nowhere" / "lock").__enter__()
    fcntl = pytest.importorskip("fcntl")

    def fail(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(BadInput, match=r"lock cannot be locked \(No locks available\): choose"):
        exclusive(tmp_path / "lock").__enter__()


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_folder_is_not_a_name_for_a_new_file(path):
    with pytest.raises(BadInput, match="is a folder, expected the name of a file in it"):
        write_text(Path(path), "hello")


def test_a_file_that_somebody_reads_is_replaced_a_moment_later(tmp_path, monkeypatch):
    path, plain, attempts = tmp_path / "file", Path.replace, []

    def busy(temporary, target):  # as on Windows
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(errno.EACCES, "in use")
        return plain(temporary, target)

    path.write_text("old")
    monkeypatch.setattr("pydnn.storage.files._PAUSES", (0.0,) * 2)
    monkeypatch.setattr(Path, "replace", busy)
    write_atomically(path, lambda new: new.write_text("new"), replace=True)
    assert (path.read_text(), attempts) == ("new", [path] * 3)
    attempts.clear()
    monkeypatch.setattr("pydnn.storage.files._PAUSES", (0.0,))
    with pytest.raises(BadInput, match="cannot be written"):
        write_atomically(path, lambda new: new.write_text("newer"), replace=True)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]
