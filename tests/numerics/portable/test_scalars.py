import decimal
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


def test_a_power_of_nan_is_nan():
    assert math.isnan(power(math.nan, 2.0))


def test_worked_cosines():
    assert cosine(0.0) == 1
    assert cosine(math.pi) == -1
    assert cosine(math.pi / 3) == 0.5000000000000001


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=6),
        decimal.Context(prec=1, rounding=decimal.ROUND_UP, Emax=1, Emin=-1),
        decimal.Context(traps=[decimal.FloatOperation]),
        decimal.Context(traps=list(decimal.Context().flags)),
    ],
    ids=["6 digits", "1 digit", "no floats", "all traps"],
)
def test_the_callers_decimal_context_does_not_matter(context):
    power.cache_clear()
    x, y = 0.9, 3.5
    expected = power(x, y), cosine(math.pi / 2), cosine(1.1), power(0.5, -3.0)
    power.cache_clear()
    with decimal.localcontext(context):
        assert (power(x, y), cosine(math.pi / 2), cosine(1.1), power(0.5, -3.0)) == expected


def test_the_cosine_of_the_float_nearest_to_a_right_angle_is_the_nearest_float():
    # With d = pi/2 - math.pi/2 to 40 digits, the cosine is d - d**3 / 6.
    assert cosine(math.pi / 2) == 6.123233995736766035868820147292e-17
