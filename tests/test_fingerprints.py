import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pydnn import BadInput
from pydnn.fingerprints import canonical, checksum, fingerprint, same_bits, ulps_apart

ARRAYS = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
)
FLOATS = hnp.arrays(
    st.sampled_from([np.float64, np.float32]), hnp.array_shapes(max_dims=2, max_side=5)
)


def test_a_fingerprint_is_the_sha256_of_name_dtype_shape_and_bytes():
    expected = hashlib.sha256(
        b"1 W f8 2 (1, 2)\n" + np.array([1.5, -2.0], "<f8").tobytes() + b"1 n i8 0 ()\n" + bytes(8)
    )
    assert fingerprint({"W": [[1.5, -2.0]], "n": np.int64(0)}) == expected.hexdigest()


@given(ARRAYS)
def test_memory_order_and_byte_order_do_not_matter(array):
    other = np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
    assert fingerprint({"x": array}, nan=True) == fingerprint({"x": other}, nan=True)


UNLIKE = {
    "another name": {"y": np.zeros(4)},
    "another dtype": {"x": np.zeros(4, np.float32)},
    "another shape": {"x": np.zeros((2, 2))},
    "zero of another sign": {"x": np.array([0.0, -0.0, 0, 0])},
    "cut in two": {"x": np.zeros(2), "x2": np.zeros(2)},
}


@pytest.mark.parametrize("other", UNLIKE.values(), ids=UNLIKE)
def test_different_arrays_have_different_fingerprints(other):
    assert fingerprint({"x": np.zeros(4)}) != fingerprint(other)


def test_nan_is_an_error_or_one_canonical_number():
    nans = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    with pytest.raises(BadInput, match=r"^x holds nan, which has no fingerprint"):
        fingerprint({"x": nans})
    assert fingerprint({"x": nans}, nan=True) == fingerprint({"x": nans[::-1]}, nan=True)
    assert canonical(nans).tobytes() == np.full(2, np.nan).tobytes()
    assert same_bits(nans, nans[::-1]).all()


@given(FLOATS, st.data())
def test_a_checksum_finds_every_single_bit(array, data):
    words = array.view(f"u{array.dtype.itemsize}").copy()
    place = data.draw(st.integers(0, words.size - 1))
    bit = data.draw(st.integers(0, 8 * array.dtype.itemsize - 1))
    words.flat[place] ^= words.dtype.type(1 << bit)
    flipped = words.view(array.dtype)
    assert checksum(flipped) != checksum(array)
    assert checksum(np.asfortranarray(array)) == checksum(array)


def test_a_checksum_notices_swaps_and_changes_that_cancel():
    vector = np.arange(1.0, 20_001.0)
    before = checksum(vector)
    for i, j in [(0, 1), (0, 4096), (5, 4101), (4095, 4096), (19_998, 19_999), (3, 19_999)]:
        swapped, up_and_down = vector.copy(), vector.copy()
        swapped[[i, j]] = swapped[[j, i]]
        up_and_down.view(np.uint64)[[i, j]] += np.array([1, 2**64 - 1], np.uint64)
        assert before not in (checksum(swapped), checksum(up_and_down)), (i, j)


@pytest.mark.parametrize("place", [0, 4095, 4096, 8191, 8192, 9999])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_checksum_finds_the_sign_of_any_number(dtype, place):
    vector = np.ones(10_000, dtype)
    before = checksum(vector)
    vector[place] *= -1
    assert checksum(vector) != before


def test_a_checksum_by_hand():
    words = np.array([3, 5], np.uint64)
    # The first two numbers of splitmix64 from seed 0, the second made odd.
    first, second = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4 | 1
    assert checksum(words.view(np.float64)) == (3 * first + 5 * second) % 2**64


APART = [
    (1.0, np.nextafter(1.0, 2), 1),
    (-1.0, np.nextafter(-1.0, 0), 1),
    (0.0, -0.0, 1),
    (5e-324, -5e-324, 3),
    (1.0, 2.0, 2**52),
    (np.float32(1), np.nextafter(np.float32(1), np.float32(0)), 1),
    (1.5, 1.5, 0),
    (np.nan, 1.0, None),
]


@pytest.mark.parametrize(("a", "b", "ulps"), APART)
def test_distances_in_units_in_the_last_place(a, b, ulps):
    assert ulps_apart(a, b) == ulps
    assert ulps_apart(b, a) == ulps


def test_the_distance_of_arrays_is_the_largest_of_their_entries():
    a = np.array([1.0, 1.0, np.nan])
    b = np.array([1.0, 1.0 + 2**-50, 7.0])
    assert ulps_apart(a, b) == 4
    assert same_bits(a, b).tolist() == [True, False, False]
