import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn import Key, engines
from pydnn.compiled.portable import elementary, forms, nearest, products, slices, sums
from pydnn.numerics.portable.slices import LEAST_PLAIN, MOST_PLAIN, USUAL_BITS, plan

# NumPy does with the same result what a form leaves to it. So only the form itself tells that it
# does something.


def by_slices(a, b, out):
    k = len(b)
    plans = plan(k, True, USUAL_BITS), plan(k, False, USUAL_BITS)
    return slices.by_slices(a, b, plans, (LEAST_PLAIN, MOST_PLAIN), out)


# form: (the function, the dtype, whether it has a right operand)
FORMS = {
    "sums of rows": (lambda a, b, out: sums.tree_sum(a, 1, out[:, :1]), "f8", False),
    "trees": (products.by_tree, "f8", True),
    "small products": (nearest.small_product, "f4", True),
    "large products": (lambda a, b, out: nearest.large_product(a, b, [], out), "f4", True),
    "slices": (by_slices, "f8", True),
}
OTHERS = {
    "of another dtype": lambda array: array.astype(np.float16),
    "of another machine": lambda array: array.astype(array.dtype.newbyteorder()),
    "parts of rows": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
}


def operands(name):
    """Return both operands of a form, and room for its result."""
    _, dtype, _ = FORMS[name]
    a, b = (Key(4).at(i).normal(shape).astype(dtype) for i, shape in enumerate([(8, 20), (20, 9)]))
    return a, b, np.full((8, 1 if name == "sums of rows" else 9), np.nan, dtype)


@np.errstate(all="ignore")  # where Python executes the kernels, with numbers that nobody reads
@pytest.mark.slow  # since compiling takes seconds
@pytest.mark.parametrize("orders", ["CC", "FF", "CF", "FC"])
@pytest.mark.parametrize("name", FORMS)
def test_forms_take_matrices_in_either_order(name, orders):
    form, _, has_right = FORMS[name]
    a, b, out = operands(name)
    assert form(*(np.asarray(x, order=o) for x, o in zip((a, b), orders, strict=True)), out)
    expected = a @ b if has_right else a.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", FORMS)
def test_other_operands_are_left_to_numpy(name, other):
    form, _, has_right = FORMS[name]
    a, b, out = operands(name)
    assert not form(OTHERS[other](a), b, out)
    assert not (has_right and form(a, OTHERS[other](b), out))
    assert np.isnan(out).all()
    assert not engines._failed


@pytest.mark.parametrize("name", FORMS)
def test_a_result_that_is_part_of_another_array_is_left_to_numpy(name):
    form, _, _ = FORMS[name]
    a, b, out = operands(name)
    out = np.repeat(out, 2, axis=1)[:, ::2]
    if name == "sums of rows":
        out = np.repeat(out, 2, axis=0)[::2]
    assert not form(a, b, out)
    assert np.isnan(out).all()
    assert not engines._failed


def test_vectors_of_other_numbers_and_few_numbers_are_left_to_numpy():
    total, y = np.full((), np.nan), np.full(100, np.nan)
    numbers = np.ones(100)
    for x in (OTHERS["of another machine"](numbers), numbers.astype(np.float16)):
        assert not elementary.of_each("exp", x, y)
        assert not sums.total_of(x, False, total)
    assert not sums.total_of(numbers[::2], False, total)
    assert not sums.total_of(numbers[: sums._WORTH_A_CALL - 1], False, total)
    parts = np.full((2, 3), np.nan)
    assert not sums.sums_between(np.ones((2, 40, 3), np.float16), parts)
    assert not sums.sums_between(np.ones((2, 3, 40)).swapaxes(1, 2), parts)
    assert np.isnan(parts).all()
    out = np.full((3, 2), np.nan)
    assert not products.by_tree(np.ones((3, 4)), np.ones((4, 2)), out)
    for untouched in (total, y, out):
        assert np.isnan(untouched).all()


@pytest.mark.slow
def test_vectors_are_filled():
    total, y = np.full((), np.nan), np.full(100, np.nan)
    assert elementary.of_each("log1p", np.ones(100), y)
    assert sums.total_of(np.full(100, 2.0), False, total)
    assert (y == y[0]).all()
    assert total == 200.0
    assert sums.total_of(np.full(100, 2.0), True, total)
    assert total == 400.0
    parts = np.full((2, 3), np.nan)
    assert sums.sums_between(np.ones((2, 40, 3)), parts)
    assert (parts == 40).all()


def test_a_form_that_fails_leaves_its_work_and_all_that_follows_to_numpy(monkeypatch):
    def fails():
        raise RuntimeError("no room")

    monkeypatch.setattr(engines, "_failed", False)
    with pytest.warns(RuntimeWarning, match="failed .RuntimeError: no room., so NumPy does"):
        assert not forms.or_numpy(fails)()
    assert engines._failed
