"""`pydnn doctor` says when one thread of BLAS is faster than several."""

import itertools

import pytest

from pydnn.cli import blas_speed as module
from pydnn.cli.blas_speed import advice, seconds_of_a_product
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({}, ""),
        ({1: 0.001}, ""),
        ({1: 0.001, 2: 0.0006}, ""),
        ({1: 0.001, 2: 0.0012}, ""),  # too little to matter
        ({1: 0.002, 2: 0.003}, "one thread is 1.5 times as fast as 2, because"),
        ({1: 0.001, 16: 0.036}, "one thread is 36.0 times as fast as 16, because"),
    ],
)
def test_fewer_threads_are_advised_where_they_are_faster(seconds, expected):
    assert advice(seconds).startswith(expected)
    assert bool(advice(seconds)) == bool(expected)


def test_a_product_is_timed_with_one_thread_and_with_all(monkeypatch):
    if blas_threads() is None:
        pytest.skip("the number of threads can be changed for OpenBLAS alone")
    used = []
    counted = type("fast", (), {"matmul": staticmethod(lambda W, X: used.append(blas_threads()))})
    monkeypatch.setattr(module, "fast", counted)
    ticks = itertools.count()
    with using_blas_threads(2):
        # A clock that ticks once a call: each product takes one second.
        assert seconds_of_a_product(lambda: float(next(ticks))) == {1: 1.0, 2: 1.0}
    assert used == [1] * 8 + [2] * 8


def test_nothing_is_timed_where_the_number_cannot_be_changed(monkeypatch):
    monkeypatch.setattr(module, "blas_threads", lambda: None)
    assert seconds_of_a_product() == {}
