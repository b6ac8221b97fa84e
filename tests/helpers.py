"""What several test modules share."""

import attrs
import numpy as np


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


def numeric_gradient(function, x, step=1e-6):
    """Central differences of a function of one float64 array, entry by entry."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def assert_gradients_match(analytic, numeric, name):
    """Each array against its own scale, so that a small array's error cannot hide."""
    scale = max(np.abs(numeric).max(initial=0.0), 1e-8)
    assert analytic.shape == numeric.shape, name
    assert np.abs(analytic - numeric).max(initial=0.0) <= 1e-7 * scale, name
