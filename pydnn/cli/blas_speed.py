"""How long a product takes with one thread of BLAS, and with all that it may use."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pydnn.numerics import fast
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads

__all__ = ["advice", "seconds_of_a_product"]

_SHAPE = (512, 784, 128)  # of the first layer of a middle network, and a batch
_TIMES = 7
_GAIN = 0.8  # share of the time from which on one thread is worth advising


def seconds_of_a_product(clock: Callable[[], float] = time.perf_counter) -> dict[int, float]:
    """The median seconds of a product, by the number of threads: one, and as many as BLAS may use.

    It is empty if that number cannot be changed, see `blas_threads`.

    Args:
        clock: A function that returns seconds.
    """
    n, k, m = _SHAPE
    W, X = np.ones((n, k), np.float32), np.ones((k, m), np.float32)

    def seconds() -> Iterator[float]:
        fast.matmul(W, X)
        for _ in range(_TIMES):
            start = clock()
            fast.matmul(W, X)
            yield clock() - start

    measured = {}
    most = blas_threads()
    for count in () if most is None else sorted({1, most}):
        with using_blas_threads(count):
            measured[count] = statistics.median(seconds())
    return measured


def advice(seconds: Mapping[int, float]) -> str:
    """What to do if one thread is faster than several; "" if it is not.

    Example:
        >>> advice({1: 0.001, 2: 0.036})[:58]
        'one thread is 36.0 times as fast as 2, because other proce'
        >>> advice({1: 0.001, 2: 0.0006})
        ''
    """
    most = max(seconds, default=1)
    if not seconds or seconds[1] > _GAIN * seconds[most]:
        return ""
    return (
        f"one thread is {seconds[most] / seconds[1]:.1f} times as fast as {most}, because other "
        "processes use the cores: set OPENBLAS_NUM_THREADS=1 while they do (products may have "
        "other bits)"
    )
