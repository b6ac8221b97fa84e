import importlib
import math

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import Key, portable
from pydnn.compiled import portable as forms
from pydnn.compiled.portable import slices
from pydnn.compiled.portable.tiles import LINES, TERMS, WIDE
from pydnn.numerics.portable.cache import unchangeable

products = importlib.import_module("pydnn.numerics.portable.products")

pytestmark = pytest.mark.slow  # compiling takes seconds


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("bits", [44, 57])
@example_count(300, quick=40)
@given(data=st.data())
def test_products_have_the_same_bits(bits, kept, data):
    m, k, n = data.draw(st.tuples(*[st.integers(1, 15)] * 3))
    elements = data.draw(st.sampled_from([numbers(np.float64), st.floats(-2, 2)]))
    a, b = (data.draw(laid_out(np.float64, shape, elements)) for shape in ((m, k), (k, n)))
    b = unchangeable(b) if kept else b
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "FEW", 0)
        patch.setattr(slices, "threads_for", lambda _: 2)
        for _ in range(2):  # the second time the slices of b are kept
            assert_same_bits(
                lambda: portable.matmul(a, b) if bits == 44 else products.precise_product(a, b)
            )


@pytest.mark.parametrize("orders", ["CC", "FF"])
@pytest.mark.parametrize(
    "shape",
    [(LINES + 1, 3, WIDE + 1), (2, 2, 2 * WIDE + 5), (16 * LINES + 3, 2, 3),
     (LINES + 1, TERMS + 5, 3), (2, 1000, 2)],
)  # fmt: skip
def test_products_of_more_than_a_tile_have_the_same_bits(shape, orders, monkeypatch):
    monkeypatch.setattr(products, "FEW", 0)
    m, k, n = shape
    a, b = Key(1).at(m).normal((m, k)), Key(2).at(n).normal((k, n))
    a *= 10.0 ** (20 * (np.arange(m) // LINES % 3))[:, np.newaxis]  # of other sizes in each tile
    a, b = (np.asarray(x, order=order) for x, order in zip((a, b), orders, strict=True))
    done, form = [], forms.by_slices
    monkeypatch.setattr(forms, "by_slices", lambda *args: done.append(form(*args)) or done[-1])
    assert_same_bits(lambda: portable.matmul(a, b))
    assert done == [True]


def test_terms_of_size_one_are_not_left_out(monkeypatch):
    monkeypatch.setattr(products, "FEW", 0)
    b = np.zeros((5, 2 * WIDE))
    b[[0, 4], :WIDE] = b[2, WIDE:] = 1.0
    for some in (b, np.asarray(b, order="F")):
        assert_same_bits(lambda b=some: portable.matmul(Key(1).normal((3, 5)), b))


@pytest.mark.parametrize("turned", [False, True])
def test_terms_that_are_zeros_are_left_out(turned, monkeypatch):
    X = np.triu(Key(1).normal((300, 300)))
    b = unchangeable(X.T if turned else X)
    a = Key(2).normal((20, 300))
    bands = []
    form = slices.product_of_slices
    monkeypatch.setattr(
        slices, "product_of_slices", lambda *args: bands.append(args[-2]) or form(*args)
    )
    assert_same_bits(lambda: portable.matmul(a, b))
    counts = np.diff(bands[0])[:, 0]
    assert counts.sum() < 0.6 * counts.size * 300


@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("shape", [(20, 209, 209), (65, 33, 500), (3, 4097, 5)])
@pytest.mark.parametrize("end", [1.0, 1e300, math.inf, math.nan, 5e-324])
def test_products_by_slices_have_the_same_bits(shape, order, end):
    m, k, n = shape
    a, b = (
        np.asarray(Key(k).at(o).normal(s), order=o)
        for s, o in zip(((m, k), (k, n)), order, strict=True)
    )
    a[-1, -1] = end
    assert_same_bits(lambda: portable.matmul(a, b))
