import pickle
import random

import h5py
import numpy as np
import pytest
from fuzz.crafted import craft_hdf5
from fuzz.damage import damaged_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import BadInput
from pydnn.data import import_data
from pydnn.storage.hdf5 import write_hdf5
from pydnn.storage.mapped import NotMappable, StoredArray, open_stored

DTYPES = st.sampled_from(["u1", "<f4", ">f4", "<f8", ">i8", "<u2", "<f2"])


@settings(max_examples=20)
@given(array=hnp.arrays(DTYPES, hnp.array_shapes(min_side=0)), sealed=st.booleans())
def test_a_mapped_array_has_the_bits_of_the_written_one(tmp_path_factory, array, sealed):
    folder = tmp_path_factory.mktemp("mapped")
    write_hdf5(folder / "a.h5", arrays={"a": array, "deep/b": array}, sealed=sealed)
    np.save(folder / "a.npy", array)
    in_hdf5, in_npy = open_stored(folder / "a.h5"), open_stored(folder / "a.npy")
    assert set(in_hdf5) == {"a", "deep/b"}
    assert set(in_npy) == {"X"}
    for stored in (*in_hdf5.values(), *in_npy.values()):
        np.testing.assert_array_equal(stored.rows, array)
        assert stored.rows.dtype.kind == array.dtype.kind
        assert not stored.rows.flags.writeable


def test_a_stored_array_pickles_as_its_place_and_not_as_its_numbers(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1e5))
    [stored] = open_stored(path).values()
    assert stored == StoredArray(path, 128, (100_000,), np.dtype("f8"))
    assert stored.rows[7] == 7
    pickled = pickle.dumps(stored)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).rows[-1] == 99_999


def test_several_arrays_can_be_named_and_others_left_out(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["names"], file["number"] = np.ones(3), ["x", "y"], 5
        file.create_dataset("chunked", data=np.ones(3), chunks=(1,))
    assert set(open_stored(path, ["a"])) == {"a"}
    with pytest.raises(NotMappable, match=r"chunked in .* is stored in chunks, expected one block"):
        open_stored(path)
    with pytest.raises(BadInput, match=r"there is no array 'b'"):
        open_stored(path, ["b"])


def virtual(file):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "a", shape=(3,))
    file.create_virtual_dataset("a", layout)


def link(link):
    def fill(file):
        file["b"] = np.zeros(3)
        file["a"] = link

    return fill


def compact(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.NATIVE_DOUBLE
    h5py.h5d.create(file.id, b"a", kind, space, plan)


def odd_format(file):
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(20)
    space = h5py.h5s.create_simple((3,))
    h5py.h5d.create(file.id, b"a", kind, space).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.arange(3, dtype=np.int32)
    )


REFUSED = {
    "chunks": (lambda f: f.create_dataset("a", data=np.ones(9), chunks=(3,)), "stored in chunks"),
    "gzip": (lambda f: f.create_dataset("a", data=np.ones(9), compression="gzip"), "compressed"),
    "checksums": (lambda f: f.create_dataset("a", data=np.ones(9), fletcher32=True), "compressed"),
    "virtual": (virtual, "kept in other files"),
    "external storage": (
        lambda f: f.create_dataset("a", (3,), "f8", external=[("/etc/hostname", 0, 24)]),
        "kept in other files",
    ),
    "header": (compact, "stored in the file's header"),
    "truth values": (lambda f: f.create_dataset("a", data=[True]), "holds bool, expected integers"),
    "complex": (lambda f: f.create_dataset("a", data=[1j]), "holds complex128, expected numbers"),
    "texts": (lambda f: f.create_dataset("a", data=["x"]), "holds object, expected"),
    "records": (lambda f: f.create_dataset("a", (3,), "f8,i4"), "holds .*, expected"),
    "a number": (lambda f: f.create_dataset("a", data=1.0), "holds a single float64, expected"),
}  # fmt: skip


@pytest.mark.parametrize(("fill", "message"), REFUSED.values(), ids=REFUSED)
def test_sound_arrays_that_cannot_be_mapped_are_refused_with_what_to_do(tmp_path, fill, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
    with pytest.raises(NotMappable, match=f"a in .* {message}") as refusal:
        open_stored(tmp_path / "a.h5", ["a"])
    copied = {"chunks", "gzip", "checksums", "header", "truth values"}  # what an import takes
    imported = message in [REFUSED[name][1] for name in copied]
    assert ("pydnn data import" in str(refusal.value)) is imported
    assert "\n" not in str(refusal.value)
    if not imported:
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file["labels"] = np.zeros(9)
        with pytest.raises(BadInput):
            import_data(tmp_path / "a.h5", tmp_path / "b.h5", inputs="a", target="labels")


STRANGE = {
    "soft link": (link(h5py.SoftLink("/b")), "is a link"),
    "external link": (link(h5py.ExternalLink("b.h5", "/b")), "is a link"),
    "a group": (lambda f: f.create_group("a"), "is not an array"),
    "no shape": (lambda f: f.create_dataset("a", data=h5py.Empty("f8")), "is empty"),
    "never written": (
        lambda f: f.create_dataset("a", (1 << 40,), "f8"), "claims the shape .* has 0 bytes of it"
    ),
    "a false size in chunks": (
        lambda f: f.create_dataset("a", (1 << 47, 1), "f8", chunks=(1 << 20, 1)), "claims|has "
    ),
    "a format of its own": (odd_format, "in a format that NumPy does not have"),
}  # fmt: skip


@pytest.mark.parametrize(("fill", "message"), STRANGE.values(), ids=STRANGE)
def test_what_strangers_put_into_files_is_refused(tmp_path, fill, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
    with pytest.raises(BadInput, match=f"a in .* {message}") as refusal:
        open_stored(tmp_path / "a.h5", ["a"])
    assert "\n" not in str(refusal.value)


def test_links_are_not_followed_when_all_arrays_are_listed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        link(h5py.ExternalLink("/dev/zero", "/b"))(file)
    assert set(open_stored(tmp_path / "a.h5")) == {"b"}


@pytest.mark.parametrize("shift", [1, 40, -1])
def test_a_place_or_size_beyond_the_file_is_refused(tmp_path, shift):
    path = tmp_path / "a.h5"
    write_hdf5(path, arrays={"a": np.arange(37.0)})
    stored = open_stored(path)["a"]
    content = path.read_bytes()
    offset = stored.offset.to_bytes(8, "little")
    forged = (len(content) if shift == -1 else stored.offset << shift).to_bytes(8, "little")
    assert content.count(offset) == 1
    path.write_bytes(content.replace(offset, forged))
    with pytest.raises(BadInput, match=r"(claims the shape|is damaged)"):
        open_stored(path)
    path.write_bytes(content[: stored.offset + 8])
    with pytest.raises(BadInput, match=r"(claims the shape|not a readable HDF5 file|is damaged)"):
        open_stored(path)


def test_a_file_that_became_shorter_is_refused_when_it_is_mapped(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.ones(100))
    [stored] = open_stored(path).values()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInput, match="has 920 bytes, expected 928 or more"):
        _ = stored.rows


def test_npy_files_in_fortran_order_are_refused_unless_both_orders_are_the_same(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.ones((3, 2))))
    with pytest.raises(NotMappable, match="is in Fortran order, expected one example after"):
        open_stored(tmp_path / "a.npy")
    header = "{'descr': '<f8', 'fortran_order': True, 'shape': (3,), }"
    text = header.ljust(117) + "\n"
    with (tmp_path / "b.npy").open("wb") as file:
        file.write(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode())
        file.write(np.arange(3.0).tobytes())
    assert open_stored(tmp_path / "b.npy")["X"].rows.tolist() == [0, 1, 2]


def test_npy_files_with_objects_or_other_sizes_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(BadInput, match="is not a readable array of numbers"):
        open_stored(path)
    np.save(path, np.ones(3))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(BadInput, match=r"claims the shape \(3,\), but 28 bytes are there"):
        open_stored(path)
    np.save(path, np.ones(3))
    with pytest.raises(BadInput, match="there is no array"):
        open_stored(path, ["Y"])


def opened(path):
    """The arrays of a file, or what is said of it."""
    try:
        return open_stored(path), ""
    except BadInput as error:
        return None, str(error)


@pytest.mark.parametrize("form", ["h5", "npy"])
def test_damaged_files_are_mapped_within_their_bounds_or_refused_in_one_line(tmp_path, form):
    path = tmp_path / f"a.{form}"
    arrays = {"train_X": np.ones((40, 5), np.uint8), "train_Y": np.arange(40.0)}
    if form == "h5":
        write_hdf5(path, arrays=arrays)
    else:
        np.save(path, arrays["train_X"])
    sound = path.read_bytes()
    refused = 0
    for case in range(30):
        rng = random.Random(case)
        path.write_bytes(damaged_bytes(rng, sound) if case % 3 else sound)
        if form == "h5" and case % 3 == 0:
            craft_hdf5(rng, path)
        stored, said = opened(path)
        refused += stored is None
        assert "\n" not in said
        for array in (stored or {}).values():
            assert array.offset + array.nbytes <= path.stat().st_size
            assert array.rows.shape == array.shape
            bytes(array.rows.data if array.rows.size else b"")
    assert 5 < refused < 25
