"""What the tests of compiled forms share."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pydnn import engines

ENDS = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 5e-324, -5e-324, 1e-310, 2.0**-1022]
FLOAT32_ENDS = [x for x in ENDS if x == float(np.float32(x)) or x != x] + [2.0**-149, -(2.0**-130)]


def numbers(dtype, *more):
    """Any floats, and often the ends of their range."""
    width, ends = (64, ENDS) if dtype == np.float64 else (32, FLOAT32_ENDS)
    return (
        st.sampled_from([*ends, *more]) | st.floats(width=width) | st.floats(-50, 50, width=width)
    )


@st.composite
def matrices(draw, dtype, shape, elements):
    """Matrices in either order of memory, some of which begin at an odd place of a cache line."""
    flat = draw(arrays(dtype, shape[0] * shape[1] + 3, elements=elements))
    start = draw(st.integers(0, 3))
    part = flat[start : start + shape[0] * shape[1]]
    return part.reshape(shape) if draw(st.booleans()) else part.reshape(shape[::-1]).T


def assert_same_bits(function, *, any_nan=True):
    """Call a function with both engines, and compare all bits of its result."""
    with np.errstate(all="ignore"):
        with engines.using_engine("numpy"):
            expected = np.asarray(function())
        with engines.using_engine("compiled"):
            result = np.asarray(function())
            assert engines.engine_in_use() == "compiled"  # it did not give up
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    whole = f"u{expected.itemsize}"
    same = np.ascontiguousarray(result).view(whole) == np.ascontiguousarray(expected).view(whole)
    if any_nan:
        same |= np.isnan(result) & np.isnan(expected)
    assert same.all(), (result[~same], expected[~same])
