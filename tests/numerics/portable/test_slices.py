import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key
from pydnn.numerics.portable.slices import budget, cut, slices_of

KS = (1, 2, 3, 64, 100, 209, 512, 513, 784, 1024, 4096, 12288, 16384)


@pytest.mark.parametrize("k", KS)
def test_a_slice_times_a_slice_fits_whatever_the_order(k):
    left, right = budget(k, left=True), budget(k, left=False)
    assert k * 2 ** (left + right) <= 2**53
    assert k * 2 ** (left + right + 1) > 2**52  # at most about one bit is wasted
    for bits, s in ((44, slices_of(k)), (57, slices_of(k, 57))):
        assert s * (right + 1) - 1 >= bits > (s - 1) * (right + 1) - 1


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("signs", ["all", "alternating"])
def test_integers_at_the_edge_of_the_budget_are_summed_exactly(k, signs):
    # Odd, of one sign and as large as possible: random numbers would not show a budget of 2
    # bits too many.
    sign = np.where(np.arange(k) % 2, -1, 1) if signs == "alternating" else np.ones(k, int)
    a = (2 ** budget(k, left=True) - 1 - np.arange(k) % 2 * 2) * sign
    b = 2 ** budget(k, left=False) - 1 - np.arange(k) % 3 * 2
    exact = sum(int(x) * int(y) for x, y in zip(a, b, strict=True))
    rows, columns = np.tile(a.astype(float), (5, 1)), np.tile(b.astype(float), (7, 1)).T
    assert (rows @ columns == exact).all()


def test_worked_slices():
    line = np.array([[1.0, 2.0**-22 + 2.0**-23, -(2.0**-44)] + [0.0] * 206])
    found = cut(line, left=True)
    p = budget(209, left=True)
    assert (p, slices_of(209)) == (23, 2)
    # e is 1, so the first unit is 2**-22. One and a half units are a tie, which goes to 2.
    np.testing.assert_array_equal(found.parts[0, 0, :3], [1.0, 2.0**-21, 0.0])
    np.testing.assert_array_equal(found.parts[1, 0, :3], [0.0, -(2.0**-23), -(2.0**-44)])
    assert found.exponents is None
    assert found.bad is None


@given(st.integers(0, 999), st.integers(1, 700), st.integers(-190, 190), st.booleans())
def test_slices_are_integers_within_the_budget_that_leave_little(seed, k, exponent, left):
    lines = np.ldexp(Key(seed).normal((2, k)), exponent)
    found, p = cut(lines, left=left), budget(k, left=left)
    unit = np.ldexp(1.0, np.frexp(np.abs(lines).max(axis=1, keepdims=True))[1] - p)
    rest = lines
    for part in found.parts:
        whole = part / unit
        assert (whole == np.rint(whole)).all()
        assert (np.abs(whole) <= 2.0**p).all()
        rest = rest - part
        assert (np.abs(rest) <= unit / 2).all()
        unit = unit * 2.0 ** -(p + 1)


def test_lines_out_of_range_are_scaled_and_lines_that_are_not_finite_are_marked():
    lines = np.array([[2.0**300, 1.0], [5e-324, 0.0], [np.nan, 1.0], [0.0, -0.0]])
    found = cut(lines, left=True)
    np.testing.assert_array_equal(found.exponents, [301, -960, 0, 0])
    np.testing.assert_array_equal(found.bad, [False, False, True, False])
    assert np.abs(found.parts).max() <= 1
    assert (found.parts[:, 2:] == 0).all()


def test_zeros_and_usual_lines_need_no_scaling():
    found = cut(np.array([[0.0, 0.0], [3.0, 0.5]]), left=False)
    assert found.exponents is None
    np.testing.assert_array_equal(found.parts.sum(axis=0), [[0, 0], [3, 0.5]])


def test_bands_say_outside_which_range_lines_are_zeros():
    lines = np.zeros((35, 9))
    lines[3, 2] = lines[9, 6] = lines[33, 8] = 1.0
    lines[34, 7] = np.nan
    found = cut(lines, left=False)
    assert found.bands == ((2, 7), (0, 0), (7, 9))
    assert cut(lines, left=False, into="right").bands is None  # it is used only once
