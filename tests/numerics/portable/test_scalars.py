import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portable_oracles import rounded

from pydnn.numerics.portable.scalars import cosine, power


@given(st.floats(0.5, 1.5), st.integers(0, 400))
def test_whole_powers_are_the_nearest_floats(x, n):
    assert power(x, n) == rounded(Fraction(x) ** n)


@given(st.floats(1e-9, 1e9), st.floats(-8, 8))
def test_powers_agree_with_the_c_library(x, y):
    assert power(x, y) == pytest.approx(math.pow(x, y), rel=1e-15)


@given(st.floats(-7, 7))
def test_cosines_agree_with_the_c_library(x):
    assert cosine(x) == pytest.approx(math.cos(x), rel=1e-15, abs=1e-17)


WORKED = [
    (0.0, 0, 1),
    (0.0, 2.5, 0),
    (0.0, -1, math.inf),
    (1.0, 1e300, 1),
    (4.0, 0.5, 2),
    (2.0, -1074, 5e-324),
    (0.5, 1100, 0),
    (math.inf, 2, math.inf),
    (math.inf, -1, 0),
]


@pytest.mark.parametrize(("x", "y", "expected"), WORKED)
def test_worked_powers(x, y, expected):
    assert power(x, y) == expected


def test_a_power_of_no_number_is_none():
    assert math.isnan(power(math.nan, 2.0))


def test_worked_cosines():
    assert cosine(0.0) == 1
    assert cosine(math.pi) == -1
    assert cosine(math.pi / 3) == 0.5000000000000001
