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


def _in_odd_bytes(array):
    room = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    np.copyto(room, array)
    return room


def _within(array, places):
    """Return the numbers of an array as the `places` of a larger one, whose others are NaN."""
    room = np.full([3 * size + 2 for size in array.shape], np.nan, array.dtype)
    view = room[(*[places] * array.ndim, ...)][(*map(slice, array.shape), ...)]
    np.copyto(view, array)
    return view


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


# The same numbers in memory of another form
LAYOUTS = {
    "rows": lambda array: array,
    "columns": lambda array: np.asarray(array, order="F"),
    "read-only": _read_only,
    "one number after a cache line": lambda array: _within(array.ravel(), slice(1, None)).reshape(
        array.shape
    ),
    "at odd bytes": _in_odd_bytes,
    "columns at odd bytes": lambda array: _in_odd_bytes(array.T).T,
    "parts of rows": lambda array: _within(array, slice(1, None)),
    "every other": lambda array: _within(array, slice(1, None, 2)),
    "backwards": lambda array: _within(array, slice(None, None, -1)),
    "of another machine": lambda array: array.astype(array.dtype.newbyteorder()),
}


@st.composite
def laid_out(draw, dtype, shape, elements):
    """Arrays of any layout of memory."""
    array = draw(arrays(dtype, shape, elements=elements))
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](array)


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
