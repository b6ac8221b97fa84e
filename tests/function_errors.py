"""Print the errors of the portable functions against true values from mpmath.

    python tests/function_errors.py [COUNT]

For each function and range it prints the largest error over COUNT float64 arguments (default:
20,000), in units in the last place of the true value, and how many of 1,000 float32 results are not
the nearest float32.
"""

import sys

import mpmath
import numpy as np

from pydnn import Key
from pydnn.numerics import portable

_LARGEST = np.log(np.finfo(np.float64).max)


def _between(low, high):
    return lambda unit: low + (high - low) * unit


def _powers(low, high):
    """Return the map from [0, 1) to 2**low up to 2**high, with equally many in each binade."""
    return lambda unit: np.exp2(low + (high - low) * unit)


# By name: the true function, the bound on the error in ulps, and the ranges of arguments.
FUNCTIONS = {
    "exp": (
        mpmath.exp,
        1.0,
        [
            _between(-745, _LARGEST),
            _between(-1, 1),
            _between(-745.2, -708),
            _between(708, _LARGEST),
        ],
    ),
    "expm1": (mpmath.expm1, 2.0, [_between(-60, _LARGEST), _between(-1, 1), _powers(-1070, -1)]),
    "log": (mpmath.log, 1.0, [_powers(-1074, 1024), _between(0.5, 2), _between(0.999, 1.001)]),
    "log1p": (mpmath.log1p, 1.5, [_powers(-1074, 1024), _between(-0.9999, 1), _between(0, 1)]),
    "tanh": (mpmath.tanh, 2.5, [_between(-25, 25), _between(-1, 1), _powers(-1070, 5)]),
    "logistic": (
        lambda x: 1 / (1 + mpmath.exp(-x)),
        2.5,
        [_between(-745, 40), _between(-1, 1), _between(-745.2, -700)],
    ),
    "erf": (mpmath.erf, 5.0, [_between(-6, 6), _between(-0.5, 0.5), _powers(-1000, 3)]),
}


def errors(name, draw, count):
    """Return the largest error in ulps, and the share of float32 results that are not nearest."""
    true, function = FUNCTIONS[name][0], getattr(portable, name)
    x = draw(Key(count).at(name).uniform(count))
    narrow = np.clip(x, -80, 80).astype(np.float32)  # so that results are in the range of float32
    narrow = narrow[np.abs(narrow) >= np.finfo(np.float32).tiny]
    with mpmath.workprec(120), np.errstate(over="ignore"):
        worst = max(
            float(abs(actual - expected) / _ulp(expected))
            for actual, expected in zip(function(x).tolist(), _true(true, x), strict=True)
        )
        nearest = np.array([_nearest(y) for y in _true(true, narrow)], np.float32)
    wrong = np.count_nonzero(function(narrow) != nearest)
    return worst, wrong / max(1, narrow.size)


def _true(function, x):
    return (function(mpmath.mpf(v)) for v in x.tolist())


def _ulp(y):
    exponent = mpmath.frexp(y)[1] if y else -1074
    return mpmath.ldexp(1, max(exponent - 53, -1074))


def _nearest(y):
    """Return the float32 nearest to an mpmath number that is not a tie."""
    exponent = max(mpmath.frexp(y)[1] - 24, -149) if y else 0
    return float(mpmath.ldexp(mpmath.nint(mpmath.ldexp(y, -exponent)), exponent))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for name, (_, limit, ranges) in FUNCTIONS.items():
        for number, draw in enumerate(ranges):
            worst, wrong = errors(name, draw, count)
            print(f"{name:9} range {number}: {worst:.3f} ulps, allowed {limit}; "
                  f"float32: {1000 * wrong:.2f} of 1,000 not nearest")  # fmt: skip


if __name__ == "__main__":
    main()
