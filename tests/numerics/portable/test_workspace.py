import threading

import numpy as np
import pytest

from pydnn import Key
from pydnn.numerics import portable
from pydnn.numerics.portable import workspace
from pydnn.numerics.portable.workspace import BLOCK, floats, of_each_thread, several


@pytest.fixture(autouse=True)
def own_work_arrays(monkeypatch):
    monkeypatch.setattr(workspace, "_own", workspace._Own())


def address(array):
    return array.__array_interface__["data"][0]


def remembered():
    """A function that makes views of one work array, and the list of sizes that it made."""
    made = []

    @of_each_thread
    def views(count):
        made.append(count)
        return floats("a", count)

    return views, made


def test_a_name_is_one_array_in_any_shape():
    first = floats("a", 3, 4)
    assert first.shape == (3, 4)
    assert first.dtype == np.float64
    assert floats("a", 3, 4) is first
    assert address(floats("a", 2, 1, 5)) == address(first) != address(floats("b", 3, 4))
    assert floats("a", 0, 3).shape == (0, 3)


def test_several_arrays_have_one_axis_and_do_not_overlap():
    alone = floats("a", 7)
    first, second, third = several("abc", 7)
    assert first.shape == second.shape == third.shape == (7,)
    assert not any(np.shares_memory(first, other) for other in (second, third, alone))
    assert not np.shares_memory(second, third)
    assert several("abc", 7)[2] is third


def test_an_array_that_grew_leaves_no_smaller_one_behind():
    small, (views, made) = floats("a", BLOCK), remembered()
    assert views(5) is views(5)
    assert made == [5]
    large = floats("a", BLOCK + 1)
    assert not np.shares_memory(small, large)
    assert np.shares_memory(floats("a", BLOCK), large)
    assert np.shares_memory(views(5), large)
    assert made == [5, 5]


def test_a_view_that_makes_its_array_grow_is_remembered():
    views, made = remembered()
    for _ in range(2):
        assert views(3 * BLOCK).size == 3 * BLOCK
    assert made == [3 * BLOCK]


def test_views_of_a_limited_number_of_shapes_are_remembered():
    views, made = remembered()
    for count in range(1000):
        views(count)
    assert len(workspace._own.views[views.__wrapped__]) <= 256
    views(999)
    assert made == list(range(1000))


def test_threads_have_work_arrays_of_their_own():
    a, b = Key(1).normal((9, 300)), Key(2).normal((300, 40))
    expected = portable.exp(portable.matmul(a, b)), portable.sum(a, axis=1)
    wrong, start = [], threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(50):
            found = portable.exp(portable.matmul(a, b)), portable.sum(a, axis=1)
            wrong.extend(not np.array_equal(x, y) for x, y in zip(found, expected, strict=True))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong
    assert not any(wrong)
