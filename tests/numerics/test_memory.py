"""Memory is reused only when nothing refers to it, however an array is kept alive."""

import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import toolz
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    Batch,
    Key,
    adam,
    dense,
    initial_state,
    make_train_step,
    relu,
    scan,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.numerics import memory
from pydnn.numerics.memory import empty, kept_bytes, room_for
from pydnn.records import freeze, readonly
from pydnn.training import tee

LARGE = 1 << 15  # float64 numbers: 256 KiB
F64 = np.dtype(np.float64)


@pytest.fixture(scope="module", autouse=True)
def quick_collection():
    """Exclude what other tests have left from the many garbage collections here."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    memory._free.clear()


def place(array):
    return array.__array_interface__["data"][0]


def filled(value, size=LARGE):
    array = empty(size, F64)
    array.fill(value)
    return array


def test_memory_of_a_dead_array_is_reused():
    first = filled(1)
    where = place(first)
    assert kept_bytes() == 0
    del first
    assert kept_bytes() == LARGE * 8
    assert place(empty((LARGE // 2, 2), F64)) == where
    assert place(empty(LARGE * 2, np.dtype(np.float32))) == where
    assert kept_bytes() == LARGE * 8


@given(st.sampled_from(["float32", "float64"]), st.tuples(st.integers(0, 300), st.integers(1, 300)))
def test_arrays_are_like_those_of_numpy(dtype, shape):
    array = empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    if array.nbytes >= 1 << 16:
        assert place(array) % 64 == 0
    for given_one in (np.ones(shape, dtype), np.ones(shape, dtype, order="F")):
        room = room_for(given_one)
        assert room is None or (room.shape == shape and room.strides == given_one.strides)


def test_small_arrays_are_left_to_malloc():
    for numbers, kept in ((8191, 0), (8192, 8192 * 8)):
        empty(numbers, F64)
        assert kept_bytes() == kept
        assert (room_for(np.empty(numbers)) is None) == (kept == 0)
        memory._free.clear()


def test_room_for_an_array_with_gaps_is_in_c_order():
    assert room_for(np.empty((300, 600))[:, ::2]).flags.c_contiguous


class Interface:
    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


# Ways to keep the memory of an array alive without the array
HOLDERS = {
    "a view": lambda a: a[5:7],
    "a view of a view": lambda a: a[5:].reshape(-1, 1)[::2].T,
    "another shape": lambda a: a.reshape(2, -1),
    "the same, for reading": readonly,
    "other numbers in it": lambda a: a.view(np.int64),
    "a memoryview": memoryview,
    "a buffer": lambda a: np.frombuffer(a),
    "an iterator": lambda a: a.flat,
    "numpy's interface": lambda a: np.asarray(Interface(a)),
    "dlpack": lambda a: np.from_dlpack(a),
    "a ring": lambda a: (lambda ring: ring.append((ring, a)) or ring)([]),
    "a closure": lambda a: lambda: a,
    "a subclass": lambda a: a.view(np.recarray),
    "a masked array": lambda a: np.ma.masked_array(a, copy=False),
    "broadcast": lambda a: np.broadcast_to(a, (3, LARGE)),
    "a window": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3),
    "a generator": lambda a: (x for x in [a]),
}  # fmt: skip


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_with_any_reference_is_not_reused(hold):
    array = filled(7)
    where = place(array)
    held = hold(array)
    del array
    others = [filled(i) for i in range(3)]
    assert where not in map(place, others)
    assert kept_bytes() == 0
    if isinstance(held, np.ndarray):
        assert (held.view(np.ndarray).view(np.float64) == 7).all()
    del held
    gc.collect()
    assert kept_bytes() == LARGE * 8


@given(st.lists(st.integers(1 << 16, 5 << 20), min_size=1, max_size=12))
def test_arrays_lie_apart_and_begin_at_lines_of_the_cache(sizes):
    memory._free.clear()
    arrays = [empty(size, np.dtype(np.uint8)) for size in sizes]
    ranges = sorted((place(a), place(a) + a.size) for a in arrays)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert all(start % 64 == 0 for start, _ in ranges)


def test_nine_arrays_of_one_size_begin_at_nine_places_of_a_page():
    memory._slabs.clear()
    for size in (1 << 18, 1 << 22):
        arrays = [empty(size, np.dtype(np.uint8)) for _ in range(9)]
        assert len({place(a) % 4096 for a in arrays}) == 9


def test_an_array_that_is_kept_does_not_keep_others_from_being_reused():
    kept = filled(7)
    for _ in range(300):  # 75 MiB, which is more than a slab
        filled(1)
    assert kept_bytes() == LARGE * 8
    assert (kept == 7).all()


def test_writing_to_a_new_array_changes_no_old_one():
    kept = [freeze(filled(i)) for i in range(5)]
    for _ in range(20):
        filled(-1)
    for i, array in enumerate(kept):
        assert (array == i).all()


def test_kept_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "_MOST_KEPT", 5 * LARGE * 8)
    arrays = [filled(i) for i in range(9)]
    newest = place(arrays[-1])
    while arrays:
        arrays.pop(0)
    assert kept_bytes() == 5 * LARGE * 8
    assert (
        place(empty(LARGE, F64)) == newest
    )  # the newest is reused first, the oldest is freed first
    monkeypatch.setattr(memory, "_MOST_KEPT", 0)
    filled(1)
    assert kept_bytes() == 0


def test_at_most_768_mebibytes_are_kept():
    for size, kept in ((768 << 20, 768 << 20), ((768 << 20) + 8, 0)):
        empty(size // 8, F64)  # no page of it is ever touched
        assert kept_bytes() == kept
        memory._free.clear()


def test_a_copied_or_unpickled_array_has_memory_of_its_own():
    array = filled(3)
    twin, copy = pickle.loads(pickle.dumps(array)), array.copy()
    array.fill(4)
    assert (twin == 3).all()
    assert (copy == 3).all()


@pytest.mark.slow
def test_an_array_can_die_at_any_time():
    class Ring:
        pass

    for _ in range(50):
        ring = Ring()
        ring.itself, ring.array = ring, filled(1)
        finalizer = weakref.finalize(ring, filled, 2)  # makes an array while another one dies
        del ring
        gc.collect()
        assert not finalizer.alive
    assert kept_bytes() <= 3 * LARGE * 8


def test_threads_never_share_an_array():
    clashes = []

    def work(number):
        for step in range(300):
            arrays = [filled(number * 1000 + step) for _ in range(3)]
            if not all((a == number * 1000 + step).all() for a in arrays):
                clashes.append((number, step))
            if step % 7 == 0:
                gc.collect(0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert clashes == []


def large_training():
    network = serial(dense(64), relu(), dense(1))
    optimizer = adam()
    key = Key(1)
    X = key.at("X").normal((2000, 32))
    batch = Batch(X, X[:1] > 0)
    train_step = make_train_step(network, sigmoid_cross_entropy(), optimizer)
    return train_step, initial_state(network, optimizer, (2000,), key=key), batch


def bits_of(state):
    return state.parameters.vector.tobytes(), state.optimizer_state[0].squares.tobytes()


def test_records_that_a_reader_keeps_never_change():
    train_step, state, batch = large_training()
    expected = []
    for state_now, _ in scan(train_step, state, itertools.repeat(batch, 6)):
        expected.append(bits_of(state_now))  # the state itself is dropped
    kept = [s for s, _ in scan(train_step, state, itertools.repeat(batch, 6))]
    seen = []
    stream = tee(
        scan(train_step, state, itertools.repeat(batch, 6)), to=lambda s, i: seen.append(s)
    )
    toolz.last(stream)
    assert [bits_of(s) for s in kept] == [bits_of(s) for s in seen] == expected
    # A state in the middle leads to the same later states.
    again = [bits_of(s) for s, _ in scan(train_step, kept[2], itertools.repeat(batch, 3))]
    assert again == expected[3:]


def test_a_step_that_fails_does_not_change_the_state():
    train_step, state, batch = large_training()
    before = bits_of(state)
    after = train_step(state, batch)[0]
    for part in train_step.names:

        def fail(step):
            raise KeyError("half-way")

        with pytest.raises(KeyError):
            train_step.insert_after(part, fail)(state, batch)
        assert bits_of(state) == before
        assert bits_of(train_step(state, batch)[0]) == bits_of(after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_ends_quietly_whatever_arrays_it_has():
    program = """
import atexit, numpy as np
from pydnn.numerics import empty
kept = [empty(100_000, np.dtype(float)) for _ in range(4)]
class Late:
    def __init__(self): self.array = empty(100_000, np.dtype(float))
    def __del__(self): self.array = None
late = Late(); late.itself = late
atexit.register(kept.clear)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    "hold", [lambda a: a.base, lambda a: a.base[8:], lambda a: memoryview(a.base)]
)
def test_memory_referred_to_by_a_base_is_not_reused(hold):
    array = empty(1 << 15, np.dtype(np.float64))
    array[:] = 7.0
    held = hold(array)
    before = bytes(held)
    del array
    for _ in range(3):
        other = empty(1 << 15, np.dtype(np.float64))
        other[:] = 8.0
        assert bytes(held) == before
        del other
