import json
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resealing import reseal

from pydnn import BadInput
from pydnn.storage.checksums import expect_sealed, room_for_seal
from pydnn.storage.hdf5 import open_hdf5, read_array, read_text, write_hdf5

ARRAYS = {
    "parameters": np.arange(24.0),
    "optimizer.0.count": np.int64(7),
    "empty": np.zeros(0),
    "deep/er": np.arange(5, dtype="f4"),
}


def sealed_file(folder, arrays=ARRAYS):
    path = folder / "sealed.h5"
    write_hdf5(path, arrays=arrays, attributes={"format": "of a test"}, sealed=True)
    return path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return sealed_file(tmp_path_factory.mktemp("seals"))


def flip(path, position, bits=0xFF):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def expect_whole(path):
    with path.open("rb") as file:
        expect_sealed(file, str(path))


def refusal(path):
    with pytest.raises(BadInput) as caught:
        expect_whole(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def place_of(path, name):
    with h5py.File(path) as file:
        return file[name].id.get_offset(), file[name].nbytes


def test_a_sealed_file_is_a_valid_hdf5_file(sealed):
    expect_whole(sealed)
    with h5py.File(sealed) as file:
        assert file.userblock_size >= 512
        np.testing.assert_array_equal(file["parameters"], ARRAYS["parameters"])
    with open_hdf5(sealed, sealed=True) as file:
        assert read_text(file, "format", fixed=True) == "of a test"
        assert read_array(file, "deep/er", dtype="f4", shape=(5,))[4] == 4


@pytest.mark.parametrize(
    "stride", [pytest.param(1, id="every byte", marks=pytest.mark.slow), 5], ids=str
)
def test_any_changed_byte_is_noticed(sealed, stride):
    for position in range(0, sealed.stat().st_size, stride):
        bits = 1 << position % 8
        flip(sealed, position, bits)
        message = refusal(sealed)
        flip(sealed, position, bits)
        assert " is damaged: " in message, position
    expect_whole(sealed)


@given(data=st.data(), bits=st.integers(1, 255))
def test_a_changed_byte_in_an_array_names_the_array(sealed, data, bits):
    name = data.draw(st.sampled_from(["parameters", "optimizer.0.count", "deep/er"]))
    start, size = place_of(sealed, name)
    position = data.draw(st.integers(start, start + size - 1))
    flip(sealed, position, bits)
    try:
        assert refusal(sealed).startswith(f"{name} in ")
    finally:
        flip(sealed, position, bits)


@given(data=st.data(), bits=st.integers(1, 255))
def test_a_changed_byte_in_the_text_of_the_seal_names_the_seal(sealed, data, bits):
    with h5py.File(sealed) as file:
        room = file.userblock_size
    position = data.draw(st.integers(64, room - 1))
    flip(sealed, position, bits)
    try:
        assert refusal(sealed).startswith("the seal in ")
    finally:
        flip(sealed, position, bits)


def test_a_file_of_another_length_is_refused_wherever_it_ends(sealed, tmp_path):
    whole, other = sealed.read_bytes(), tmp_path / "other.h5"
    for size in range(0, len(whole), 64):
        other.write_bytes(whole[:size])
        refusal(other)
    for more in (b"\0", b"\0" * 64, whole):
        other.write_bytes(whole + more)
        assert f"the length, {len(whole + more)} bytes instead of {len(whole)}," in refusal(other)


def test_the_length_is_compared_before_anything_is_hashed(sealed, tmp_path):
    """The file claims a tebibyte of zeros, which would take most of an hour to hash."""
    path = tmp_path / "long.h5"
    path.write_bytes(sealed.read_bytes())
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert "the length, 1099511627776 bytes instead of " in refusal(path)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]),
                        min_size=1, max_size=40), unique=True, max_size=40))  # fmt: skip
def test_there_is_room_for_any_names(tmp_path_factory, names):
    names = [f"x{name}" for name in names]  # a name of dots alone is a place, not a name
    path = sealed_file(tmp_path_factory.mktemp("names"), {name: [1.0] for name in names})
    with open_hdf5(path, sealed=True) as file:
        assert set(file) == set(names)
        assert file.userblock_size == room_for_seal(names)


def test_there_is_room_for_many_long_names_and_the_last_one_is_checked(tmp_path):
    names = [f"optimizer.{i}.{'ü' * 50}" for i in range(300)]
    path = sealed_file(tmp_path, {name: np.arange(2.0) for name in names})
    start, _ = place_of(path, names[-1])
    flip(path, start)
    assert refusal(path).startswith(f"{names[-1]} in ")


def test_there_is_room_for_the_largest_numbers():
    # The text of a seal in which every number has as many digits as possible.
    for count in (0, 1, 3, 100):
        names = [f"a{i}" for i in range(count)]
        arrays = {name: (2**63 - 1, 2**63 - 1, 2**32 - 1) for name in names}
        text = json.dumps({"bytes": 2**63 - 1, "room": 2**31, "arrays": arrays})
        assert 64 + 10 + len(text) + 1 <= room_for_seal(names)


STRANGE = {
    "not JSON": (b"{", "the seal"),
    "a list": (b"[]", "the seal"),
    "nothing in it": (b"{}", "the seal"),
    "arrays that are a list": (b'{"bytes": 4096, "arrays": []}', "the seal"),
    "infinity": (b'{"bytes": 1e999, "arrays": {}}', "the seal"),
    "a place of one number": (b'{"bytes": 4096, "arrays": {"a": [1]}}', "the seal"),
    "deep": (b"[" * 4000, "the seal"),
    "another length": (b'{"bytes": 4097, "arrays": {}}', "the length, 4096 bytes instead of 4097,"),
    "another line": (b'{"bytes": 4096, "arrays": {"a\\nb": [0, 0, 1]}}', "the seal"),
    "the same stretch over and over": (
        json.dumps({"bytes": 4096, "arrays": {f"{i}": (0, 999, 0) for i in range(9)}}).encode(),
        "the seal",
    ),
    "the same stretch, and less than nothing": (
        b'{"bytes": 4096, "arrays": {"a": [0, 4096, 0], "b": [0, -4096, 0]}}', "the seal",
    ),
    "more than there is": (b'{"bytes": 4096, "arrays": {"a": [0, 1e18, 1]}}', "the seal"),
    "a place before the file": (b'{"bytes": 4096, "arrays": {"a": [-5, 5, 1]}}', "a"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "what"), STRANGE.values(), ids=STRANGE)
def test_a_strange_seal_is_refused_in_one_line(tmp_path, text, what):
    path = tmp_path / "strange.h5"
    sealed = b"0" * 64 + b" %08x " % zlib.crc32(text) + text + b"\n"
    path.write_bytes(sealed.ljust(4096, b"\0"))
    assert refusal(path).startswith(f"{what} in {path} is damaged: ")


def test_a_file_sealed_by_hand_passes_the_check(tmp_path):
    path = tmp_path / "plain"
    path.write_bytes(bytes(512) + b"data")
    reseal(path, {"data": (512, 4)}, room=512)
    expect_whole(path)
    flip(path, 513)
    assert refusal(path).startswith("data in ")
