import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Key, fast, portable
from pydnn.jobs.standardization import fit_standardization


def test_standardized_features_have_mean_0_and_deviation_1():
    X = np.array([[1.0, 3.0], [7.0, 7.0], [0.1, 0.1]])
    fitted = fit_standardization(X)
    np.testing.assert_array_equal(fitted.mean, [[2], [7], [0.1]])
    np.testing.assert_array_equal(fitted.deviation, [[1], [1], [1]])  # constants stay
    np.testing.assert_allclose(fitted(X), [[-1, 1], [0, 0], [0, 0]])
    assert fitted(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(fitted(np.array([[5.0], [8], [0.1]])), [[3], [1], [0]])


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
@pytest.mark.parametrize("power", [-1073, -1000, -600, 0, 600, 1022])
def test_standardization_does_not_depend_on_the_unit(power, numerics):
    X = np.array([[0.5, 0.25, -0.75, 0.5], [-0.5, -0.75, -0.5, -0.75]])
    expected = fit_standardization(X, numerics=numerics)(X)
    scaled = np.ldexp(X, power + 3)[:, :3] if power == -1073 else np.ldexp(X, power)
    if power == -1073:  # no deviation is a normal number
        with pytest.raises(BadInput, match=r"feature 0 goes from .*e-323.* too small"):
            fit_standardization(scaled, numerics=numerics)
        return
    np.testing.assert_array_equal(fit_standardization(scaled, numerics=numerics)(scaled), expected)


@given(st.integers(0, 40), st.integers(2, 30))
def test_the_bits_of_ordinary_features_are_those_of_the_formula(seed, m):
    X = Key(seed).normal((3, m)) * [[1e-3], [1], [1e5]] + [[0], [3], [-1e6]]
    for numerics in (fast, portable):
        mean = numerics.sum(X.T, axis=0).T / m
        deviation = np.sqrt(numerics.sum(((X - mean) ** 2).T, axis=0).T / m)
        fitted = fit_standardization(X, numerics=numerics)
        np.testing.assert_array_equal(fitted.mean, mean)
        np.testing.assert_array_equal(fitted.deviation, deviation)


def test_one_huge_value_is_standardized_as_any_other():
    X = np.array([[1e200, 0, 0, 0]])
    np.testing.assert_allclose(fit_standardization(X)(X), [[3, -1, -1, -1]] / np.sqrt(3))


def test_a_constant_whose_mean_is_rounded_is_still_a_constant():
    X = np.full((1, 1000), 0.1) + np.zeros((1, 1000))
    np.testing.assert_allclose(fit_standardization(X)(X), 0, atol=1e-12)
