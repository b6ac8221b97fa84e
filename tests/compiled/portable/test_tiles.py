import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from hypothesis.extra.numpy import arrays

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.tiles import (
    LINES,
    TERMS,
    WIDE,
    fill_lengths,
    multiply_block,
    pack,
    pack_in_blocks,
    terms_of_a_block,
)

pytestmark = pytest.mark.slow  # compiling takes seconds


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("turned", [False, True])
@example_count(200, quick=20)
@given(data=st.data())
def test_packed_lines_lie_side_by_side(dtype, turned, data):
    p, q = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    lines = data.draw(arrays(dtype, (p, q), elements=st.floats(width=32)))
    start = data.draw(st.integers(0, p - 1))
    first = data.draw(st.integers(0, q - 1))
    terms, groups = q - first, -(-(p - start) // LINES) + 1
    packed = np.full(groups * LINES * terms, np.nan)
    pack(lines.T.copy() if turned else lines, turned, start, p, first, q, packed)
    expected = np.zeros((groups * LINES, terms))
    expected[: p - start] = lines[start:, first:]
    np.testing.assert_array_equal(packed.reshape(groups, terms, LINES).swapaxes(1, 2),
                                  expected.reshape(groups, LINES, terms))  # fmt: skip


@pytest.mark.parametrize("k", [1, 3, TERMS, TERMS + 1, 3 * TERMS - 1])
@pytest.mark.parametrize(("height", "width"), [(1, WIDE), (LINES, LINES + 1), (3 * LINES - 1, 1)])
def test_products_of_whole_numbers_are_exact(k, height, width):
    lines = -(-height // LINES) * LINES
    a, b = np.zeros((lines, k)), np.arange(k * WIDE).reshape(WIDE, k) * 5 % 17 - 8.0
    a[:height] = np.arange(k * height).reshape(height, k) * 7 % 11 - 5.0
    left, right = np.empty(a.size), np.empty(WIDE + b.size)
    pack_in_blocks(a, False, 0, height, left)
    pack_in_blocks(b.T.copy(), True, 0, WIDE, right[WIDE:])
    product = np.full(lines * WIDE, np.nan)
    multiply_block(left, 0, lines, height, right, WIDE, width, k, 0, k, product, 0)
    expected = a @ b.T
    expected[:, -(-width // LINES) * LINES :] = np.nan  # where nothing is multiplied
    np.testing.assert_array_equal(product.reshape(lines, WIDE), expected)
    lengths = np.empty(lines)
    fill_lengths(left, k, lengths)
    np.testing.assert_allclose(lengths, np.linalg.norm(a, axis=1))


@given(st.integers(1, 10**6))
def test_blocks_of_terms_have_nearly_equal_sizes(k):
    size = terms_of_a_block(k)
    assert size <= TERMS
    assert -(-k // size) == -(-k // TERMS)  # as few blocks as there can be


def test_a_multiplication_may_be_fused_only_in_tiles():
    @kernel
    def multiply_add(x, y, z):
        return x * y + z

    x = 1 + 2.0**-30
    assert multiply_add(x, x, -1.0) == (x * x) - 1.0
