"""The matrix products of a step alone, each in its fastest layout: the lower bound on time."""

import functools
import itertools
import time

import numpy as np
from works import product_shapes


def alone(work):
    m = work.batches[0][0].shape[1]
    products = [fastest(shape, work.dtype) for shape in product_shapes(work.sizes, m)]

    def turn():
        for _ in range(work.steps):
            for product in products:
                product()
        return []  # no costs

    return lambda: turn


@functools.cache
def fastest(shape, dtype):
    """Return the fastest function for the product (n, k) by (k, p)."""
    return min(ways_to(shape, dtype), key=lambda way: min(_seconds(way) for _ in range(3)))


def ways_to(shape, dtype):
    """Return the eight ways to multiply: each factor and the result in C or Fortran order."""
    n, k, p = shape
    random = np.random.default_rng(0)
    A, B = random.standard_normal((n, k), dtype), random.standard_normal((k, p), dtype)
    ways = []
    for order_a, order_b, order_c in itertools.product("CF", repeat=3):
        a = np.asarray(A, order=order_a)
        b = np.asarray(B, order=order_b)
        if order_c == "C":
            ways.append(functools.partial(np.matmul, a, b, out=np.zeros((n, p), dtype)))
        else:
            ways.append(functools.partial(np.matmul, b.T, a.T, out=np.zeros((p, n), dtype)))
    return ways


def _seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
