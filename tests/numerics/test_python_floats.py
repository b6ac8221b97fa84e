"""Sums of Python floats do not depend on the version of Python."""

import builtins

from pydnn.numerics.python_floats import sum_in_order

TENTHS = [0.1] * 10


def test_each_addition_is_rounded():
    # By hand: ten times 0.1, each sum rounded to the nearest float; corrected, it would be 1.0.
    assert sum_in_order(TENTHS) == 0.9999999999999999


def test_the_built_in_sum_is_not_asked(monkeypatch):
    monkeypatch.delattr(builtins, "sum")
    assert sum_in_order(iter(TENTHS)) == 0.9999999999999999


def test_no_numbers_add_up_to_zero():
    assert sum_in_order([]) == 0.0
