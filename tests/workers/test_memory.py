import gc
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from pydnn import BadInput
from pydnn.workers.memory import Arena, Segment, attached, read, room, written

ARRAYS = st.lists(
    st_np.arrays(
        st.sampled_from(["<f4", "<f8", "|u1"]),
        st_np.array_shapes(min_dims=0, min_side=0, max_side=5),
    ),
    max_size=4,
)


@given(ARRAYS, st.booleans())
def test_arrays_come_back_with_their_bytes_and_memory_order(arrays, turned):
    arrays = [array.T if turned else array for array in arrays]
    segment = Segment(room(arrays))
    for array, place in zip(arrays, written(segment.memory, segment.number, arrays), strict=True):
        back = read({segment.number: segment.memory}, place)
        assert (back.dtype, back.shape, back.tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )
        assert back.flags.f_contiguous == array.flags.f_contiguous
        assert not back.flags.writeable


def test_a_segment_is_free_when_no_array_refers_to_it():
    segment = Segment(100)
    assert segment.is_free
    (place,) = written(segment.memory, segment.number, [np.arange(5.0)])
    view = read({segment.number: segment.memory}, place)[1:]
    assert not segment.is_free
    del view
    assert segment.is_free


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has names instead of file descriptors")
def test_another_mapping_sees_the_same_bytes_and_outlives_the_first():
    segment = Segment(100)
    other = attached(os.dup(segment.handle), segment.size, writeable=False)
    written(segment.memory, segment.number, [np.arange(3.0)])
    del segment
    gc.collect()
    assert np.frombuffer(other, count=3).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises((TypeError, ValueError)):
        other[0] = 1


def test_an_arena_grows_and_is_written_again():
    arena = Arena()
    assert arena.write([]) == []
    arena.write([np.zeros(10)])
    first = arena.segment
    arena.write([np.zeros(20)])
    assert arena.segment is first
    arena.write([np.zeros(10_000)])
    assert arena.segment is not first


def test_more_memory_than_there_is_is_refused():
    with pytest.raises(BadInput, match="of memory with this process, but"):
        Segment(1 << 62)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="only Linux shows its shared memory")
def test_no_name_of_shared_memory_is_left_anywhere():
    before = set(os.listdir("/dev/shm"))
    segment = Segment(1 << 20)
    assert set(os.listdir("/dev/shm")) <= before
    assert segment.size >= 1 << 20
