import io
import itertools
import os
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import BadInput
from pydnn.storage import raw_hdf5
from pydnn.storage.hdf5 import (
    hdf5_in,
    name_blocks,
    open_hdf5,
    read_array,
    read_blocks,
    read_names,
    read_text,
)


def read(path, name="a", dtype=np.number):
    with open_hdf5(path) as file:
        return read_array(file, name, dtype=dtype, shape=None)


def refusal(path, reader=read):
    with pytest.raises(BadInput) as caught:
        reader(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Chunks

COMPRESSED = [{}, {"compression": "gzip"}, {"shuffle": True},
              {"compression": "gzip", "shuffle": True}]  # fmt: skip


@given(
    array=hnp.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", ">f2", "u1", "<i8", ">u4"]),
        hnp.array_shapes(max_dims=3, max_side=7),
    ),
    data=st.data(),
)
def test_chunks_are_read_as_h5py_reads_them(tmp_path_factory, array, data):
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    chunks = tuple(data.draw(st.integers(1, n)) for n in array.shape)
    options = data.draw(st.sampled_from(COMPRESSED))
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=array, chunks=chunks, **options)
    again = read(path)
    assert again.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert again.shape == array.shape


def deflated(path, contents, *, filters=1, shape=(200,), chunks=None, mask=0):
    """A file of one array in chunks, with the given contents by corner."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(chunks or shape)
        for _ in range(filters):
            plist.set_deflate(9)
        space = h5py.h5s.create_simple(shape)
        made = h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F64LE, space, plist)
        for corner, content in contents.items():
            made.write_direct_chunk(corner, content, mask)
    return path


GOOD = zlib.compress(np.arange(200.0).tobytes())
CHUNKS = {
    "8 bytes for 1,600": (
        {(0,): zlib.compress(bytes(8))}, {}, "does not hold the 1600 bytes that it claims",
    ),
    "one byte too few": ({(0,): zlib.compress(bytes(1599))}, {}, "does not hold the 1600 bytes"),
    "one byte too many": ({(0,): zlib.compress(bytes(1601))}, {}, "does not hold the 1600 bytes"),
    "a bomb": ({(0,): zlib.compress(bytes(1 << 20), 9)}, {}, "does not end after the 1600"),
    "two layers": (
        {(0,): zlib.compress(GOOD)}, {"filters": 2}, "compressed by deflate, deflate, expected",
    ),
    "bytes after the end": ({(0,): GOOD + b"more"}, {}, "does not end after the 1600"),
    "half a stream": ({(0,): GOOD[:-10]}, {}, "does not end after the 1600 bytes"),
    "no stream": ({(0,): b"x" * 100}, {}, "cannot be inflated"),
    "nothing": ({}, {}, "claims 1600 bytes, but the file holds 0"),
    "one of two chunks": (
        {(0,): zlib.compress(np.arange(100.0).tobytes())}, {"chunks": (100,)},
        r"the chunk at \(100,\) is not in the file",
    ),
    "a filter that was left out": ({(0,): GOOD}, {"mask": 1}, "does not hold the 1600 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("contents", "options", "message"), CHUNKS.values(), ids=CHUNKS)
def test_a_chunk_holds_what_it_claims(tmp_path, contents, options, message):
    path = deflated(tmp_path / "a.h5", contents, **options)
    with pytest.raises(BadInput, match=rf"a in .*{message}"):
        read(path)


def test_a_chunk_whose_filter_was_left_out_is_read(tmp_path):
    path = deflated(tmp_path / "a.h5", {(0,): np.arange(200.0).tobytes()}, mask=1)
    assert read(path).tolist() == list(range(200))


@pytest.mark.parametrize("options", [{}, COMPRESSED[-1], {"userblock": True}, {"in_memory": True}])
@pytest.mark.parametrize("chunks", [(600, 4, 2), (256, 8, 6)])
def test_tall_chunks_are_read_by_any_number_of_threads(tmp_path, chunks, options):
    options = dict(options)
    path = tmp_path / "a.h5"
    block = {"userblock_size": 512} if options.pop("userblock", False) else {}
    in_memory = options.pop("in_memory", False)
    array = np.arange(1300 * 48, dtype="<u2").reshape(1300, 8, 6)
    with h5py.File(path, "w", **block) as file:
        file.create_dataset("a", data=array, chunks=chunks, **options)
    opened = hdf5_in(io.BytesIO(path.read_bytes()), path) if in_memory else open_hdf5(path)
    with opened as file:
        for readers in (1, 2, 3):
            blocks = list(read_blocks(file, "a", rows=512, readers=readers))
            np.testing.assert_array_equal(np.concatenate(blocks), array)


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("options", COMPRESSED)
def test_a_file_that_ends_before_its_chunks_do_is_refused(tmp_path, options, readers):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.arange(4000.0), chunks=(500,), **options)
    with open_hdf5(path) as file:
        os.truncate(path, path.stat().st_size - 100)  # the end is in the last chunk
        with pytest.raises(BadInput, match=r"a in .* is damaged .*the file ends too early"):
            list(read_blocks(file, "a", rows=4000, readers=readers))


OTHER_FILTERS = {
    "lzf": ({"compression": "lzf"}, "a.h5 is compressed by lzf, expected gzip once"),
    "checksums": ({"fletcher32": True}, "compressed by fletcher32, expected"),
    "scale and offset": ({"scaleoffset": 3}, "compressed by scaleoffset, expected"),
}


@pytest.mark.parametrize(("options", "message"), OTHER_FILTERS.values(), ids=OTHER_FILTERS)
def test_other_filters_are_refused_by_name(tmp_path, options, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=np.arange(200.0), chunks=(50,), **options)
    assert message in refusal(tmp_path / "a.h5")


def test_numbers_of_a_strange_layout_are_refused_in_chunks(tmp_path):
    strange = h5py.h5t.IEEE_F64LE.copy()
    strange.set_ebias(1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3,))
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"a", strange, space, plist).write_direct_chunk((0,), bytes(24))
    assert "format that NumPy does not have, expected" in refusal(tmp_path / "a.h5")


def test_enumerations_in_chunks_are_the_numbers_that_they_are(tmp_path):
    kind = h5py.enum_dtype({"non-cat": 0, "cat": 1}, basetype="i1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=np.array([0, 1, 1], "i1"), dtype=kind, chunks=(2,))
    assert read(tmp_path / "a.h5").tolist() == [0, 1, 1]


# Texts of varying size


def attribute(path):
    with open_hdf5(path) as file:
        return read_text(file, "note", fixed=False)


def names(path):
    with open_hdf5(path) as file:
        return read_names(file, "names")


@given(
    note=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300),
    others=st.integers(0, 20),
    block=st.sampled_from([0, 512, 4096]),
    libver=st.sampled_from(["earliest", "v108"]),
)
def test_texts_are_read_as_h5py_writes_them(tmp_path_factory, note, others, block, libver):
    path = tmp_path_factory.mktemp("texts") / "a.h5"
    with h5py.File(path, "w", userblock_size=block, libver=(libver, "latest")) as file:
        for number in range(others):  # more than one block of attributes
            file.attrs[f"other {number}"] = "x" * 40 * number
        file.attrs["note"] = note
        file["names"] = [note, "", "x" * 1000, note]
    assert names(path) == [note, "", "x" * 1000, note][: len(names(path))] or len(note) > 250
    if libver == "earliest" and not block:
        assert attribute(path) == note


@pytest.mark.slow
@pytest.mark.parametrize("reader", [attribute, names])
def test_a_changed_byte_ends_in_one_line_or_in_a_short_text(tmp_path, reader):
    """HDF5 itself crashes on some of these bytes, and loops forever on others."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["note"] = "hello " * 40
        file["names"] = ["non-cat", "cat"]
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    places = [*range(heap, heap + 400)] if reader is names else [*range(heap, heap + 340)]
    start = whole.index(b"note\0") if reader is attribute else None
    places += range(start, start + 60) if start else []
    damaged = bytearray(whole)
    refusals = []
    for position in places:
        kept, damaged[position] = damaged[position], (0, 1, 0xF0, 0xFF)[position % 4]
        path.write_bytes(damaged)
        damaged[position] = kept
        try:
            text = reader(path)
        except BadInput as error:
            refusals.append(str(error))
        else:
            assert len(text) <= 300
    assert len(refusals) > 30
    assert not any("\n" in line for line in refusals)


def pointing(path, addresses, heaps):
    """A file of names whose references lead to `heaps`, appended at its end."""
    with h5py.File(path, "w") as file:
        file["names"] = ["ab"] * len(addresses)
        start = file["names"].id.get_offset()
    whole = path.read_bytes()
    references = b"".join(
        (2).to_bytes(4, "little") + (len(whole) + at).to_bytes(8, "little") + b"\1\0\0\0"
        for at in addresses
    )
    whole = whole[:start] + references + whole[start + len(references) :]
    path.write_bytes(whole + heaps)
    return path


def heap(size, *objects):
    made = bytearray(b"GCOL\1\0\0\0" + size.to_bytes(8, "little"))
    for number, text in objects:
        made += number.to_bytes(2, "little") + bytes(6) + len(text).to_bytes(8, "little")
        made += text.ljust(-(-len(text) // 8) * 8, b"\0")
    return made


MIB = 1 << 20


def test_a_heap_of_many_texts_is_read_once(tmp_path):
    """It would take minutes to read the whole heap for each name."""
    filling = [(2, b"x" * 1000)] * 8000
    heaps = heap(8 * MIB, *filling, (1, b"ab")).ljust(8 * MIB, b"\0")
    assert set(names(pointing(tmp_path / "a.h5", [0] * 2000, heaps))) == {"ab"}


def test_heaps_that_lie_in_one_another_are_refused(tmp_path):
    inner = [heap(4 * MIB)] * 1000
    path = pointing(tmp_path / "a.h5", range(0, 16_000, 16), b"".join(inner) + bytes(5 * MIB))
    assert "not in its heap" in refusal(path, names)  # of the first one, which is empty
    first = heap(4 * MIB, (1, b"ab"))
    path = pointing(path, range(0, 40_000, 40), first * 1000 + bytes(5 * MIB))
    assert "the heaps of its texts overlap" in refusal(path, names)


def test_texts_are_read_in_blocks_with_few_heaps_in_memory(tmp_path, monkeypatch):
    heaps = [heap(4096, (1, f"{number:02}".encode())).ljust(4096, b"\0") for number in range(30)]
    path = pointing(
        tmp_path / "a.h5", [4096 * (n // 2) for n in range(60)], b"".join(map(bytes, heaps))
    )
    texts = [f"{n // 2:02}" for n in range(60)]
    with h5py.File(tmp_path / "fixed.h5", "w") as file:
        file["names"] = np.array(texts, "S2")
    sizes = []
    heap_at = raw_hdf5._heap
    monkeypatch.setattr(raw_hdf5, "_MOST_KEPT", 5000)
    monkeypatch.setattr(raw_hdf5, "_heap", lambda *a: sizes.append(4096) or heap_at(*a))
    for one in (path, tmp_path / "fixed.h5"):
        with open_hdf5(one) as file:
            blocks = list(name_blocks(file, "names", rows=7))
            assert [len(block) for block in blocks] == [7] * 8 + [4]
            assert list(itertools.chain(*blocks)) == texts
    assert len(sizes) == 30


def test_heaps_are_read_again_at_most_as_often_as_the_file_is_long(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_hdf5, "_MOST_KEPT", 0)
    heaps = heap(4096, (1, b"ab")).ljust(4096, b"\0") * 2
    path = pointing(tmp_path / "a.h5", [0, 4096] * 500, heaps)
    reads = []
    heap_at = raw_hdf5._heap
    monkeypatch.setattr(raw_hdf5, "_heap", lambda *a: reads.append(a[1]) or heap_at(*a))
    assert set(names(path)) == {"ab"}
    assert len(reads) <= 4 + path.stat().st_size // 4096
