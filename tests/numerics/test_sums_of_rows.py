"""Sums of matrices that are not in memory, in both arithmetics."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key, fast, portable


@pytest.mark.parametrize("numerics", [fast, portable])
@pytest.mark.parametrize("order", ["C", "F"])
@given(st.integers(1, 700), st.integers(1, 9), st.integers(1, 200))
def test_the_sum_of_rows_in_pieces_has_the_bits_of_the_sum_at_once(
    numerics, order, count, columns, most
):
    matrix = Key(count).normal((count, columns)) * 3.0 ** Key(1).integers(40, (count, 1))
    made = []

    def rows(start, stop):
        made.append(stop - start)
        return matrix[start:stop].copy(order)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("fast", "portable.sums"):
            patch.setattr(sys.modules[f"pydnn.numerics.{module}"], "_NUMBERS_OF_ROWS", most)
        total = numerics.sum_rows(count, rows)
    whole = np.asarray(matrix, order=order)
    assert total.tobytes() == numerics.sum(whole, axis=0).tobytes()
    least = 128 if numerics is fast and (columns == 1 or order == "F") else 2
    assert max(made) <= max(least, most // columns)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("numerics", [fast, portable])
def test_many_rows_are_never_in_memory_at_the_same_time(numerics, order):
    count, columns = 60_000, 40
    matrix = np.asarray(Key(3).normal((count, columns)), order=order)
    total = numerics.sum_rows(count, lambda start, stop: matrix[start:stop].copy(order))
    assert total.tobytes() == numerics.sum(matrix, axis=0).tobytes()
