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
    # The last two blocks have one number each with a root above 5, and none further out.
    last = np.full(keys._AT_ONCE * 5 - 2 * bits.size, 1 << 63, np.uint64)
    last[[-1 - keys._AT_ONCE, -1]] = 55_000 << 12, 5_000 << 12
    bits = np.concatenate([bits, ~bits, last])

    def fill(low, high, start, out):
        out[:] = bits[start : start + out.size]

    monkeypatch.setattr(np.random, "Philox", lambda key: Raw(bits))
    source = getattr(keys._fill_normal, "py_func", keys._fill_normal)  # itself if not compiled
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


def test_orders_of_few_are_the_same():
    for count in range(1, 40):  # some numbers of the rounds are just beyond the count
        for seed in range(4):
            assert_same_bits(lambda c=count, s=seed: Key(s).permuted(c, np.arange(c)))


@np.errstate(over="ignore")  # where Python executes the kernels
def test_the_numbers_of_a_form_are_its_own_work():
    # NumPy does with the same result what a form leaves to it.
    drawn, order = np.full(9, np.nan), np.full(9, -1)
    for form in (keys.uniform, keys.normal):
        drawn[:] = np.nan
        assert form(2**70 + 5, drawn)
        assert np.isfinite(drawn).all()
    bits = np.zeros(9, np.uint64)
    assert keys.bits(5, bits)
    assert bits.all()
    assert keys.order_of(bits, order)
    assert (bits[order] == np.sort(bits)).all()
    assert keys.permuted(9, (3, 3), bits[:4], np.arange(9, dtype=np.uint64), order)
    assert (np.sort(order) == np.arange(9)).all()


@np.errstate(over="ignore")
def test_threads_share_out_many_numbers(monkeypatch):
    parts = []
    monkeypatch.setattr(keys, "worker_threads", lambda: 3)
    monkeypatch.setattr(keys, "_WORTH_A_THREAD", 40)

    def share_out(fill, count, threads):
        parts.append((count, threads))
        for part in range(count):
            fill(part)

    monkeypatch.setattr(keys, "share_out", share_out)
    for size in (39, 40):
        assert keys.uniform(5, np.empty(size))
        which = np.arange(size, dtype=np.uint64)
        secrets = which[:4]
        assert keys.permuted(size, (7, 7), secrets, which, np.empty(size, np.int64))
    assert parts == [(1, 1), (1, 1), (3, 3), (3, 3)]


def test_a_permutation_in_several_ranges_is_the_same(monkeypatch):
    monkeypatch.setattr("pydnn.keys._SORTED_AT_ONCE", 1000)
    assert_same_bits(lambda: Key(3).permutation(70_000, dtype=np.uint32))


@example_count(200, quick=60)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3).map(lambda n: n << 62), max_size=50))
def test_equal_bits_keep_their_order(numbers):
    bits = np.array(numbers, np.uint64)
    assert_same_bits(lambda: _order_of(bits))
    assert_same_bits(lambda: _order_of(np.tile(bits, 40)))
