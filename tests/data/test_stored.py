import pickle

import h5py
import numpy as np
import pytest
from helpers import arrays_in, can_be_written_to
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch, read_table
from pydnn.data import Table
from pydnn.data.stored import Stored, StoredArray, as_floats
from pydnn.data.stored_tables import store_table
from pydnn.records import block_size, examples_first, examples_last
from pydnn.storage.chunked import open_chunked

SHAPES = [(7,), (4, 3, 2), (5, 2)]
DTYPES = ["u1", "<i4", "<f4", "<f8", ">f8", ">i2", "<i8"]


def in_file(path, rows, offset=0):
    path.write_bytes(bytes(offset) + rows.tobytes())
    return StoredArray(path, offset, rows.shape, rows.dtype)


def numbers(shape, dtype, seed=1):
    values = np.random.default_rng(seed).integers(0, 200, shape)
    return (values / 7 if "f" in dtype else values).astype(dtype)


def in_memory(X, Y, weights=None, lengths=None, dtype=np.float64):
    """The batch that the same rows give when they are read at once."""
    return Batch(
        examples_last(as_floats(X, dtype)),
        examples_last(as_floats(Y.reshape(len(Y), -1), dtype)),
        None if weights is None else examples_last(as_floats(weights.reshape(-1, 1), dtype)),
        lengths,
    )


def same(ours, theirs):
    for name in ("X", "Y", "weights", "lengths"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if a is None or b is None:
            assert a is b
            continue
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
        assert a.size == 0 or a.strides == b.strides
        assert not can_be_written_to(a) or name == "lengths"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("out", [np.float64, np.float32])
def test_batches_are_those_of_the_same_data_in_memory(tmp_path, dtype, shape, out):
    rows = {
        "X": numbers((9, *shape), dtype),
        "Y": numbers((9,), "u1", 2),
        "weights": numbers((9,), "<f4", 3),
    }
    lengths = np.array([1, 2, 3, 4, 4, 3, 2, 1, 4])
    files = {name: in_file(tmp_path / name, array, 3) for name, array in rows.items()}
    stored = Stored(**files, lengths=lengths, dtype=out)
    batch = in_memory(**rows, lengths=lengths, dtype=out)
    assert (stored.count, stored.shape, stored.label_shape) == (9, shape, (1,))
    assert stored.has_weights
    assert stored.has_lengths
    which = np.array([8, 0, 3, 3, 7])
    for chosen in (slice(2, 6), slice(0, 0), slice(None), which, which.astype(np.uint32)):
        same(stored.take(chosen), batch.take(chosen))
    part = stored.only(np.array([7, 1, 5, 2]))
    assert part.only_rows.dtype == np.uint32
    assert part.count == 4
    same(part.take(slice(1, 3)), batch.take(np.array([1, 5])))
    same(part.only(np.array([3, 0])).in_memory(), batch.take(np.array([2, 7])))
    same(pickle.loads(pickle.dumps(stored)).take(which), batch.take(which))


def test_integers_of_64_bits_become_float64_before_float32():
    # 2**60 + 2**36 + 1 is above the middle of two float32, but float64 cannot hold the last bit.
    wide = np.array([[2**60 + 2**36 + 1]])
    assert as_floats(wide, np.float32)[0, 0] == np.float32(2.0**60 + 2.0**36) == 2.0**60


@given(st.integers(1, 12), st.integers(1, 1 << 20))
def test_blocks_are_all_examples_in_order_and_of_one_size(m, n):
    size = block_size((n,))
    assert size & (size - 1) == 0
    assert size == 1 or size * n <= 1 << 20 < 2 * size * n
    n = 1 << 18  # four in a block
    X = np.broadcast_to(np.arange(m, dtype=np.uint8)[:, np.newaxis], (m, n))
    stored, batch = Stored(X, X[:, 0]), Batch(X.T.astype(np.float32), X[:, :1].T)
    for examples in (stored, batch):
        blocks = list(examples.blocks())
        assert [b.count for b in blocks[:-1]] == [4] * (len(blocks) - 1)
        assert np.concatenate([b.Y[0] for b in blocks]).tolist() == list(range(m))


def test_functions_apply_to_each_batch(tmp_path):
    stored = Stored(in_file(tmp_path / "X", numbers((6, 2), "u1")), np.arange(6.0))
    doubled = stored.then(lambda b: Batch(np.vstack([b.X, b.X]), b.Y, b.Y))
    assert doubled.shape == (4,)
    assert doubled.has_weights
    assert not stored.has_weights
    np.testing.assert_array_equal(doubled.take(np.array([3, 1])).weights, [[3, 1]])


def test_pickles_hold_only_the_place_and_map_again(tmp_path):
    array = in_file(tmp_path / "X", numbers((1000, 100), "<f8"))
    assert array.rows.shape == (1000, 100)
    pickled = pickle.dumps(array)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again == array
    assert np.array_equal(again.rows, array.rows)
    assert not array.rows.flags.writeable


def test_a_file_that_became_shorter_or_vanished_is_refused(tmp_path):
    array = in_file(tmp_path / "X", numbers((10, 4), "u1"))
    (tmp_path / "X").write_bytes(bytes(39))
    with pytest.raises(BadInput, match=r"X has 39 bytes, expected 40 or more"):
        array.take(slice(0, 1))
    (tmp_path / "X").unlink()
    with pytest.raises(BadInput, match="X does not exist"):
        array.take(slice(0, 1))


def test_rows_must_fit_each_other():
    X = np.zeros((4, 2))
    with pytest.raises(BadInput, match=r"Y has shape \(3,\), but X has 4 rows"):
        Stored(X, np.zeros(3))
    with pytest.raises(BadInput, match=r"weights has shape \(5,\), but X has 4 rows"):
        Stored(X, np.zeros(4), np.zeros(5))
    with pytest.raises(BadInput, match=r"X has shape \(4,\), expected \(m, n_x\)"):
        Stored(X[:, 0], np.zeros(4))
    with pytest.raises(BadInput, match="has 8 numbers, expected 12"):
        StoredArray("x", 0, (2, 12), "u1").reshaped(2, 2, 2)


def test_an_empty_part_needs_no_bytes(tmp_path):
    (tmp_path / "X").write_bytes(b"")
    stored = Stored(StoredArray(tmp_path / "X", 0, (0, 3), "<f4"), np.zeros(0))
    assert stored.in_memory().X.shape == (3, 0)
    assert list(stored.blocks()) == []


def test_what_is_gathered_cannot_be_written_to(tmp_path):
    stored = Stored(in_file(tmp_path / "X", numbers((6, 2), "<f8")), np.arange(6.0))
    for which in (slice(1, 3), np.array([2, 0])):
        assert not any(map(can_be_written_to, arrays_in(stored.take(which))))
    assert examples_first(stored.in_memory().X).flags.c_contiguous


def test_rows_far_apart_are_those_of_the_file_in_any_order(tmp_path):
    rows = numbers((3000, 5), "<f8")
    array = in_file(tmp_path / "X", rows, 5)
    for which in ([2999, 0, 1500], [7, 7, 2000], [1, 0], []):
        chosen = np.array(which, np.int64)
        assert array.take(chosen).tobytes() == rows[chosen].tobytes()


BAD_ROWS = [[3, 400], np.array([500]), np.array([0.5]), np.array([[1]]), [-9], 3, "x", None]
BAD_ROWS += [np.array([True, False]), [[1], [2, 3]]]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=repr)
@pytest.mark.parametrize("form", ["mapped", "in memory", "chunked", "some", "table"])
def test_rows_that_do_not_exist_are_refused_in_one_line(tmp_path, form, bad):
    X = numbers((6, 2), "<f8")
    stored = Stored(in_file(tmp_path / "X", X), np.arange(6.0))
    if form == "in memory":
        stored = Stored(X, np.arange(6.0))
    elif form == "chunked":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("X", data=X, chunks=(2, 2))
        stored = Stored(open_chunked(tmp_path / "a.h5", ["X"])["X"], np.arange(6.0))
    elif form == "some":
        stored = stored.only([5, 0, 3])
    elif form == "table":
        store_table(tmp_path / "a.h5", [Table.of({"x": [1, 2, 3]})])
        stored = read_table(tmp_path / "a.h5", mapped=True)
    for function in (stored.take, getattr(stored, "only", stored.take)):
        with pytest.raises(BadInput, match=r"^rows (are|hold) .*, expected") as refusal:
            function(bad)
        assert "\n" not in str(refusal.value)


def test_rows_can_be_named_by_lists(tmp_path):
    stored = Stored(in_file(tmp_path / "X", numbers((6, 2), "<f8")), np.arange(6.0))
    for rows in ([1, 2], [], (4, 4), np.array([3], np.uint64)):
        expected = stored.take(np.array(rows, np.int64))
        assert stored.take(rows) == stored.only(rows).in_memory() == expected
