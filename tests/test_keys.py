import tracemalloc

import numpy as np
import pytest
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st

from pydnn.checks import BadInput
from pydnn.keys import Key, _order_of

BITS = [18332982602184924535, 1249765648965839948, 8703047534229634734]
NORMALS = ["0x1.404ff67fb4719p+1", "-0x1.7e258f15f2d54p+0", "-0x1.21d87b92bdf5cp-4"]

paths = st.lists(st.integers(0, 9) | texts(max_size=3), max_size=3).map(tuple)


def test_draws_are_the_same_on_every_machine():
    assert Key(1).bits(3).tolist() == BITS
    assert [x.hex() for x in Key(1).normal(3)] == NORMALS


@given(paths, paths)
def test_different_paths_give_different_draws(one, other):
    same = Key(1, one).bits(2).tolist() == Key(1, other).bits(2).tolist()
    assert same == (one == other)


def test_a_number_and_its_text_are_different_addresses():
    assert Key(0).at(1).bits() != Key(0).at("1").bits()


def test_draws_depend_on_nothing_but_the_key():
    key = Key(3).at("dropout", 2)
    first = key.uniform(5)
    np.random.RandomState(0).rand(7)
    key.at("elsewhere").normal(100)
    np.testing.assert_array_equal(first, key.uniform(5))
    np.testing.assert_array_equal(first[:3], key.uniform(3))


def test_normals_and_uniforms_have_their_moments():
    z, u = Key(5).normal(200_000), Key(6).uniform(200_000, low=2, high=4)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert abs(u.mean() - 3) < 0.01
    assert u.min() >= 2
    assert u.max() < 4


@given(st.integers(0, 200), st.integers(0, 5))
def test_permutations_are_permutations(count, seed):
    assert sorted(Key(seed).permutation(count)) == list(range(count))


def test_integers_stay_below_and_come_equally_often():
    counts = np.bincount(Key(2).integers(5, 50_000))
    assert len(counts) == 5
    assert np.abs(counts / 10_000 - 1).max() < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Key(-1), "seed is -1, expected an integer of at least 0"),
        (lambda: Key(-(10**5000)), "seed is an integer of 16,610 bits, expected an integer of at"),
        (lambda: Key(10**5000), "seed is an integer of 16,610 bits, expected at most"),
        (lambda: Key(1 << 1024), "seed is an integer of 1,025 bits, expected at most"),
        (lambda: Key(1.5), "seed is 1.5"),
        (lambda: Key(True), "seed is True"),
        (lambda: Key(np.int64(-3)), r"seed is np.int64\(-3\)"),
        (lambda: Key(np.float64(3)), "seed is np.float64"),
        (lambda: Key(1).at(np.True_), "key path holds True"),
        (lambda: Key(1, "init"), "key path holds 'init'"),
        (lambda: Key(1).at("a", 2.0), "key path holds 2.0, expected names and integers"),
    ],
)
def test_a_key_of_anything_but_names_and_integers_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.int16])
def test_integers_of_numpy_address_the_same_draws(integer):
    assert Key(integer(3)) == Key(3)
    assert Key(3, ("a", integer(4))) == Key(3).at("a", integer(4)) == Key(3).at("a", 4)
    drawn = Key(integer(3)).at(integer(4)).normal(integer(5))
    np.testing.assert_array_equal(drawn, Key(3).at(4).normal(5))
    np.testing.assert_array_equal(Key(1).permutation(integer(5)), Key(1).permutation(5))


def test_many_numbers_are_drawn_without_much_more_memory_than_they_take():
    tracemalloc.start()
    for draw in (Key(1).normal, Key(1).uniform):
        tracemalloc.reset_peak()
        drawn = draw(1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2 * drawn.nbytes
        del drawn
    tracemalloc.stop()


@given(st.integers(0, 3000), st.integers(1, 60))
def test_a_permutation_is_the_stable_order_of_its_bits_however_many_are_sorted_at_once(
    count, at_once
):
    key = Key(count, ("order",))
    expected = np.argsort(key.bits(count), kind="stable")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydnn.keys._SORTED_AT_ONCE", at_once * 50)
        patch.setattr("pydnn.keys._AT_ONCE", 64)
        patch.setattr("pydnn.keys._FEW", 2)
        for dtype in (np.int64, np.uint32):
            order = key.permutation(count, dtype=dtype)
            assert order.dtype == dtype
            np.testing.assert_array_equal(order, expected)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=300), st.integers(0, 63))
def test_equal_bits_and_equal_first_bits_keep_their_order(values, shift):
    bits = np.array(values, np.uint64) << np.uint64(shift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydnn.keys._FEW", 2)
        np.testing.assert_array_equal(_order_of(bits), np.argsort(bits, kind="stable"))


@given(st.integers(1, 5000), st.integers(0, 5))
def test_entries_computed_one_by_one_form_a_permutation(count, seed):
    key = Key(seed)
    order = key.permuted(count, np.arange(count))
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    which = np.array([count - 1, 0, count // 2], np.uint32)  # any entries, in any order
    np.testing.assert_array_equal(key.permuted(count, which), order[which])


def test_entries_of_a_permutation_of_many_are_below_its_count_and_spread_out():
    count, which = 2**40 + 12345, np.arange(20_000)
    entries = Key(1).permuted(count, which)
    assert entries.min() >= 0
    assert entries.max() < count
    assert len(np.unique(entries)) == len(which)
    shares = np.histogram(entries, bins=10, range=(0, count))[0] / len(which)
    assert np.abs(shares - 0.1).max() < 0.015  # 7 deviations
    assert np.abs(np.corrcoef(entries[:-1], entries[1:])[0, 1]) < 0.05
    assert (Key(2).permuted(count, which) != entries).all()


def test_small_permutations_are_drawn_evenly():
    orders = [tuple(Key(seed).permuted(4, np.arange(4))) for seed in range(1200)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.abs(counts - 50).max() < 42  # 6 deviations
