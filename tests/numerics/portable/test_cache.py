import numpy as np
import pytest

from pydnn import (
    Batch,
    Key,
    dense,
    gradient_descent,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.jobs.job import prepare, run
from pydnn.numerics import portable
from pydnn.numerics.portable import cache as module
from pydnn.numerics.portable.cache import kept, unchangeable
from pydnn.recipes.recipe import Recipe
from pydnn.records import freeze, readonly


@pytest.fixture(autouse=True)
def nothing_kept():
    module._entries.clear()
    yield
    module._entries.clear()


def times_made(array, *, calls=4):
    made = []
    for _ in range(calls):
        kept("test", array, lambda into: made.append(into) or "result")
    return made


def test_results_of_an_unchangeable_array_are_kept_from_its_second_use_on():
    assert times_made(unchangeable(np.ones(3))) == ["right", None]
    assert times_made(unchangeable(np.ones((3, 2))).T) == ["right", None]
    assert times_made(unchangeable(np.ones((3, 2)))[1:]) == ["right", None]


def test_results_of_other_arrays_are_not_kept():
    own = np.ones((3, 2))
    assert times_made(freeze(own.copy())) == ["right"] * 4  # its owner can make it writeable
    assert times_made(freeze(own.copy()).T) == ["right"] * 4
    assert times_made(own) == ["right"] * 4
    assert times_made(readonly(own)) == ["right"] * 4
    assert times_made(readonly(own).T) == ["right"] * 4
    assert times_made(np.frombuffer(bytearray(16))) == ["right"] * 4
    assert times_made(readonly(np.frombuffer(bytearray(16)))) == ["right"] * 4


@pytest.mark.parametrize("view", [lambda X: X, lambda X: X.T, lambda X: X[1:]])
def test_nobody_can_make_an_unchangeable_array_writeable(view):
    data = unchangeable(np.arange(6.0).reshape(3, 2))
    assert data.flags.f_contiguous
    np.testing.assert_array_equal(data, [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(ValueError, match="WRITEABLE"):
        view(data).flags.writeable = True


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_product_of_a_changed_array_is_computed_again(dtype):
    a, X = (Key(i).normal(shape).astype(dtype) for i, shape in ((1, (30, 100)), (2, (100, 90))))
    freeze(X)
    for scale in (1, 2, 4):  # powers of two, so that the product is scaled exactly
        products = [portable.matmul(a, X) for _ in range(3)]
        for product in products:
            np.testing.assert_array_equal(product, scale * portable.matmul(a, X / scale))
        X.flags.writeable = True
        X *= 2
        freeze(X)


@pytest.mark.parametrize("rotate", [False, True])
def test_the_data_of_a_portable_job_are_cached_and_unchangeable(rotate):
    X = Key(1).normal((90, 30))
    recipe = Recipe(
        data="normal numbers",
        network=serial(dense(50), relu(), dense(1)),
        loss=sigmoid_cross_entropy(),
        optimizer=gradient_descent(learning_rate=0.1),
        iterations=3,
        numerics="portable",
        rotate=rotate,
    )
    job = prepare(recipe, Batch(X, (X[:1] > 0).astype(float)))
    with pytest.raises(ValueError, match="WRITEABLE"):
        job.data["train"].X.flags.writeable = True
    list(run(job))
    assert any(entry.result is not None for entry in module._entries.values())


def test_an_array_at_the_address_of_a_dead_one_is_not_mistaken_for_it():
    seen = set()
    for i in range(50):
        array = unchangeable(np.full(1000, float(i)))
        seen.add(array.__array_interface__["data"][0])
        assert [kept("test", array, lambda into, a=array: a[0]) for _ in range(3)] == [i] * 3
        del array
    assert len(seen) < 50  # addresses were reused
    assert not any(entry.result for entry in module._entries.values())  # no result keeps memory


def test_views_of_one_array_have_results_of_their_own():
    def kept_of(view):
        return [kept("test", view, lambda into: (into, view.tolist())) for _ in range(3)]

    def numbered(least):
        return unchangeable(np.arange(least, least + 16.0).reshape(4, 4))

    data, other = numbered(0), numbered(1)
    # Some have one shape but begin elsewhere, and some are as large as the whole.
    rows = [np.broadcast_to(row, (4, 4)) for row in (data[0], data[1])]
    views = [data, data.T, data[1:3], data[2:], *rows, data[::-1], other]
    for view in views:
        found = kept_of(view)
        assert found == [("right", view.tolist()), *[(None, view.tolist())] * 2]


def test_few_results_are_kept_and_arrays_used_once_go_first():
    data = unchangeable(np.ones(3))
    times_made(data)
    others = [unchangeable(np.ones(3)) for _ in range(30)]
    for other in others:
        kept("test", other, lambda into: 0)
    assert len(module._entries) <= 8
    assert times_made(data) == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_with_kept_results_have_the_same_bits(dtype):
    a, X = (Key(i).normal(shape).astype(dtype) for i, shape in ((1, (30, 100)), (2, (100, 90))))
    expected = portable.matmul(a, X), portable.matmul(a[:, :90], X.T)
    frozen = unchangeable(np.asfortranarray(X))
    for _ in range(3):
        np.testing.assert_array_equal(portable.matmul(a, frozen), expected[0])
        np.testing.assert_array_equal(portable.matmul(a[:, :90], frozen.T), expected[1])
    assert sum(entry.result is not None for entry in module._entries.values()) == 2
