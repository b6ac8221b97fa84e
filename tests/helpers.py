"""What several test modules share."""

import sys

import attrs
import numpy as np
from hypothesis import settings

THOROUGH = settings.default.max_examples >= 100  # under the profile of that name


def example_count(count):
    """Settings of a property: `count` examples in the thorough run, and a quarter by default."""
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))


def arrays_in(value):
    """Every array in a result, however deep in tuples and records."""
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
    """Whether an array, or one that it is a view of, takes writes."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return False


def refuse(*_, **__):
    raise AssertionError("this takes time, and was not to be called")


class Watched(np.ndarray):
    """An array that writes down what NumPy is asked to do with it."""

    def dot(self, other, out=None):
        CALLS.append(("dot", self, other))
        return np.asarray(self).dot(np.asarray(other), out)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        CALLS.append((ufunc.__name__, *inputs))
        return getattr(ufunc, method)(*map(np.asarray, inputs), **options)


CALLS = []


def python_calls(function, *arguments):
    """How many functions written in Python run during a call: its overhead beside NumPy's work."""
    count = 0

    def counting(frame, event, argument):
        nonlocal count
        count += event == "call"

    function(*arguments)  # once before, for what is imported or remembered
    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return count


def calls(function, *arrays, **options):
    """What a function has NumPy do with its arrays: the name, and the arrays, of each call."""
    CALLS.clear()
    function(*(array.view(Watched) for array in arrays), **options)
    return list(CALLS)
