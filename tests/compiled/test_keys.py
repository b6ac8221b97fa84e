import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits

from pydnn import Key
from pydnn.compiled import keys
from pydnn.keys import _order_of

pytestmark = pytest.mark.slow  # compiling takes seconds

sizes = st.integers(0, 40) | st.integers(keys._AT_ONCE - 5, 4 * keys._AT_ONCE + 5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
@example_count(60, quick=15)
@given(st.integers(0, 2**70), sizes)
def test_draws_have_the_same_bits(kind, threads, seed, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_WORTH_A_THREAD", 0 if threads > 1 else size + 1)
        patch.setattr(keys, "worker_threads", lambda: threads)
        assert_same_bits(lambda: getattr(Key(seed).at("x"), kind)((size,)))


def test_normals_of_any_bits_have_the_same_bits(monkeypatch):
    # Those near 0 and 1 are in the far tails, where no key of a test comes.
    few = np.arange(300, dtype=np.uint64)
    bits = np.concatenate([few, few << np.uint64(12), few << np.uint64(30), few << np.uint64(55)])
    bits = np.concatenate([bits, ~bits])

    def fill(low, high, start, out):
        out[:] = bits[start : start + out.size]

    monkeypatch.setattr(np.random, "Philox", lambda key: Raw(bits))
    source = keys._fill_normal.py_func
    monkeypatch.setitem(source.__globals__, "_fill_bits", fill)
    monkeypatch.setattr(keys, "_fill_normal", source)
    assert_same_bits(lambda: Key(1).normal((bits.size,)))


class Raw:
    def __init__(self, bits):
        self.bits, self.place = bits, 0

    def random_raw(self, count):
        self.place += count
        return self.bits[self.place - count : self.place]


@pytest.mark.parametrize("threads", [1, 2])
@example_count(60, quick=15)
@given(st.integers(1, 2**62), st.lists(st.integers(0, 2**62), max_size=20))
def test_entries_of_orders_are_the_same(threads, count, places):
    which = np.array(places, np.int64) % count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_WORTH_A_THREAD", 0)
        patch.setattr(keys, "worker_threads", lambda: threads)
        assert_same_bits(lambda: Key(7).permuted(count, which))


@example_count(60, quick=15)
@given(st.integers(0, 2**70), st.integers(0, 3000))
def test_permutations_are_the_same(seed, count):
    assert_same_bits(lambda: Key(seed).permutation(count))
    assert_same_bits(lambda: Key(seed).permuted(count, np.arange(0, count, 3)))


def test_a_permutation_in_several_ranges_is_the_same(monkeypatch):
    monkeypatch.setattr("pydnn.keys._SORTED_AT_ONCE", 1000)
    assert_same_bits(lambda: Key(3).permutation(70_000, dtype=np.uint32))


@example_count(200, quick=60)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3).map(lambda n: n << 62), max_size=50))
def test_equal_bits_keep_their_order(numbers):
    bits = np.array(numbers, np.uint64)
    assert_same_bits(lambda: _order_of(bits))
    assert_same_bits(lambda: _order_of(np.tile(bits, 40)))
