import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Key, fast, portable
from pydnn.data import Stored
from pydnn.jobs.standardization import fit_standardization, fit_standardization_over


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


# Examples in files


@pytest.mark.parametrize("numerics", [fast, portable])
@pytest.mark.parametrize("shape", [(1,), (2,), (700,), (4, 3, 2), (5, 3)])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("at_once", [0, 1 << 24])
def test_examples_in_files_give_the_bits_of_the_same_ones_in_memory(
    numerics, shape, dtype, at_once, monkeypatch
):
    module = sys.modules["pydnn.jobs.standardization"]
    monkeypatch.setattr(module, "MOST_AT_ONCE", at_once)
    monkeypatch.setattr("pydnn.records._NUMBERS_IN_A_BLOCK", 300)
    for name in ("fast", "portable.sums"):
        monkeypatch.setattr(sys.modules[f"pydnn.numerics.{name}"], "_NUMBERS_OF_ROWS", 3000)
    X = (np.random.default_rng(1).normal(size=(150, *shape)) * 30 + 100).astype(dtype)
    out = np.float32 if dtype == "f4" else np.float64
    lengths = np.arange(150) % shape[0] + 1 if len(shape) == 2 else None
    stored = Stored(X, np.zeros(150), None, lengths, dtype=out)
    batch = stored.in_memory()
    fitted = fit_standardization(batch.X, numerics=numerics, lengths=batch.lengths)
    over = fit_standardization_over(stored, numerics=numerics)
    for name in ("mean", "deviation"):
        assert getattr(over, name).tobytes() == getattr(fitted, name).tobytes()
    if lengths is None:
        features = np.moveaxis(batch.X, -2, 0).reshape(batch.X.shape[-2], -1).astype(float)
        np.testing.assert_allclose(over.mean[:, 0], features.mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(over.deviation[:, 0], features.std(axis=1), rtol=1e-12)


def test_examples_in_files_are_refused_as_those_in_memory():
    X = np.array([[0.0, 1.0], [1e-310, 2.0]])
    with pytest.raises(BadInput, match=r"feature 0 goes from 0.0 to 1e-310, a spread too small"):
        fit_standardization_over(Stored(X, np.zeros(2)))
    with pytest.raises(BadInput, match="each step is one id"):
        fit_standardization_over(Stored(X, np.zeros(2), None, np.array([1, 2])))
