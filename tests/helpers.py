"""Functions that several test modules share."""

import sys

import attrs
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

THOROUGH = settings.default.max_examples >= 100  # in the profile "thorough"


def example_count(count, *, quick=None):
    """Return settings for `count` examples in the profile "thorough", and fewer by default.

    Args:
        count: The number of examples in the profile "thorough".
        quick: The number by default; a quarter of `count` if it is not set.
    """
    thorough = settings.default.max_examples >= 100
    return settings(max_examples=count if thorough else quick or max(1, count // 4))


def texts(**sizes):
    """Return a strategy of any text, that of `st.text()`.

    That one encodes each of a million letters at first, which takes more than a second in a new
    checkout.
    """
    return st.text(st.characters(exclude_categories=["Cs"]), **sizes)


def arrays_in(value):
    """Yield every array in a result, at any depth of tuples and records."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from arrays_in(getattr(value, field.name))


def frozen(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


def can_be_written_to(array):
    """Return whether an array, or one that it is a view of, can be written to."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return False


def refuse(*_, **__):
    raise AssertionError("this function must not be called")


class Watched(np.ndarray):
    """An array that records the NumPy functions it is passed to."""

    def dot(self, other, out=None):
        CALLS.append(("dot", self, other))
        return np.asarray(self).dot(np.asarray(other), out)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        CALLS.append((ufunc.__name__, *inputs))
        return getattr(ufunc, method)(*map(np.asarray, inputs), **options)


CALLS = []


def python_calls(function, *arguments):
    """Return the number of Python functions called in a call: its overhead besides NumPy."""
    count = 0

    def counting(frame, event, argument):
        nonlocal count
        count += event == "call"

    function(*arguments)  # a first call, which imports modules and fills caches
    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return count


def calls(function, *arrays, **options):
    """Return the NumPy calls of a function on its arrays: the name and the arrays of each."""
    CALLS.clear()
    function(*(array.view(Watched) for array in arrays), **options)
    return list(CALLS)


class IdleEngine:
    """A compiled engine that has no compiled form of anything, so tests need not compile."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **options):
        return None


EXTREMES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e38, -3e38, 5e-324, 1.0, -1.0]


def with_extremes(numbers, dtype, key):
    """Return the numbers in `dtype`, about a tenth of which are infinite, NaN, tiny or zeros."""
    chosen = key.at("extremes").uniform(numbers.shape)
    of = (chosen * 10 * len(EXTREMES)).astype(int)
    numbers = np.where(of < len(EXTREMES), np.take(EXTREMES, of, mode="clip"), numbers)
    with np.errstate(over="ignore", under="ignore"):
        return frozen(numbers.astype(dtype))


def same_bits(a, b):
    """Whether two arrays have equal bits; all NaN are equal, since their payloads may differ."""
    return a.dtype == b.dtype and np.array_equal(
        *(np.where(np.isnan(x), np.nan, x).view(f"u{x.itemsize}") for x in (a, b))
    )
