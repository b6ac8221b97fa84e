import functools
import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key
from pydnn.numerics import portable
from pydnn.numerics.portable import elementary
from pydnn.numerics.portable.workspace import BLOCK

INF, NAN, TINY = math.inf, math.nan, 5e-324
ENDS = {
    "exp": [
        (0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN), (-746, 0), (-745.1, TINY),
    ],
    "expm1": [
        (0.0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (NAN, NAN), (-60, -1), (TINY, TINY),
    ],
    "log": [
        (1, 0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (NAN, NAN),
        (TINY, -744.4400719213812),
    ],
    "log1p": [
        (0.0, 0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-2, NAN), (-INF, NAN), (NAN, NAN),
        (-TINY, -TINY),
    ],
    "tanh": [
        (0.0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (22, 1), (-1e300, -1),
        (TINY, TINY),
    ],
    "logistic": [
        (0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (NAN, NAN), (-745, TINY), (1e300, 1),
    ],
    "erf": [(0.0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (6, 1)],
}  # fmt: skip
every = pytest.mark.parametrize("name", ENDS)


def same_bits(a, b):
    np.testing.assert_array_equal(a, b)
    sure = ~np.isnan(b)
    np.testing.assert_array_equal(np.signbit(a)[sure], np.signbit(b)[sure])


@every
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_ends_are_right(name, dtype):
    x, expected = (np.array(column, np.float64) for column in zip(*ENDS[name], strict=True))
    if dtype == np.float32:
        usual = ~np.isin(np.abs(x), [TINY, 1e300]) & (np.abs(expected) != TINY)
        x, expected = x[usual].astype(np.float32), expected[usual].astype(np.float32)
    function = getattr(portable, name)
    given = x.copy()
    found = function(x)
    assert found.dtype == dtype
    same_bits(found, expected)
    same_bits(x, given)
    for i in range(len(x)):  # alone and among others
        same_bits(function(x[i : i + 1]), expected[i : i + 1])


def test_exp_overflows_where_it_must():
    x = np.array([709.782712893384, 709.782712893385, 1e4])
    with np.errstate(over="ignore"):
        found = portable.exp(x)
    assert found[0] == pytest.approx(1.797693134862273e308, rel=1e-12)
    assert (found[1:] == INF).all()
    with np.errstate(over="ignore"):
        assert portable.exp(np.array([89], np.float32))[0] == INF


@every
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_neither_layout_nor_place_nor_neighbors_change_a_bit(name, dtype):
    x = np.abs(Key(1).normal((3, BLOCK)) * 3).astype(dtype)
    function = getattr(portable, name)
    y = function(x)
    assert y.shape == x.shape
    same_bits(function(np.asfortranarray(x)), y)
    same_bits(function(x[:, ::-1])[:, ::-1], y)
    same_bits(function(x.T[5:90].T), y[:, 5:90])
    with np.errstate(invalid="ignore", over="ignore"):
        spoilt = x.copy()
        spoilt[0, 0], spoilt[1, 1], spoilt[2, 2] = NAN, INF, 1e30
        same_bits(function(spoilt)[:, 3:], y[:, 3:])
    assert function(x[0, 0]) == y[0, 0]
    assert function(x[:0]).shape == (0, BLOCK)


# Around every limit by which a function decides whether a block has only usual numbers.
LIMITS = [*np.arange(38, 56, 0.25), *np.arange(698, 750, 0.25)]
LIMITS = np.array([*LIMITS, *(-x for x in LIMITS), *(2.0**-1022 * x for x in (0.5, 0.75, 1, 1.5))])


@every
def test_near_each_limit_a_number_has_the_same_bits_alone_and_among_others(name):
    function = getattr(portable, name)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        alone = [function(np.array([x]))[0] for x in LIMITS]
        by_a_usual_one = [function(np.array([x, 0.5]))[0] for x in LIMITS]
        among_all = function(np.array([*LIMITS, NAN, INF, -INF, 1e300, -1e300]))
    same_bits(np.array(alone), among_all[: len(LIMITS)])
    same_bits(np.array(by_a_usual_one), among_all[: len(LIMITS)])


@given(st.sampled_from(sorted(ENDS)), st.floats(1e-5, 20), st.booleans())
def test_functions_agree_with_the_standard_library(name, x, negative):
    if negative and name not in ("log", "log1p"):
        x = -x
    true = getattr(math, name, lambda v: 1 / (1 + math.exp(-v)))
    assert getattr(portable, name)(np.array([x]))[0] == pytest.approx(true(x), rel=2e-15)


@every
def test_errors_are_within_their_limits(name):
    pytest.importorskip("mpmath")
    from function_errors import FUNCTIONS, errors

    _, limit, ranges = FUNCTIONS[name]
    for draw in ranges:
        worst, wrong = errors(name, draw, 400)
        assert worst <= limit
        assert wrong <= 0.001


def test_a_thread_has_work_arrays_of_its_own():
    from concurrent.futures import ThreadPoolExecutor

    xs = [Key(i).normal(3 * BLOCK) for i in range(8)]
    expected = [portable.tanh(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, y in zip(pool.map(portable.tanh, xs), expected, strict=True):
                same_bits(found, y)


def test_softmax_and_its_logarithm_are_computed_from_these():
    Z = np.array([[1000.0, -1000.0], [999.0, -1001.0]])
    E = portable.exp(Z - Z.max(axis=0))
    total = functools.reduce(np.add, E)
    np.testing.assert_allclose(E / total, [[0.7310585786300049] * 2, [0.2689414213699951] * 2])
    np.testing.assert_allclose(portable.log(total), np.log1p(np.exp(-1)))


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "logistic"])
def test_functions_have_names_and_docstrings(name):
    function = getattr(elementary, name)
    assert function.__name__ == name
    assert list(inspect.signature(function).parameters) == ["x"]
    assert name in inspect.getdoc(function)
