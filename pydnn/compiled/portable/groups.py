"""Sums of the columns of each group, each rounded once, as `pydnn.numerics.groups` specifies.

A sum of twice the precision and a bound of what it leaves out decide nearly every entry. If one is
in doubt, or a number needs scaling, all are left to the NumPy form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import is_plain, or_numpy, unwritten
from pydnn.compiled.portable.nearest import nearest_of_parts, two_sum
from pydnn.numerics.groups import HUGE
from pydnn.records import FloatArray

__all__ = ["sums_of_groups"]

_HUGE = HUGE


@kernel
def _rounds_to(high: float, low: float, left_out: float) -> bool:
    """Return whether the float64 nearest to high + low is `high`, even with `left_out` more.

    Args:
        high: A rounded sum.
        low: Its exact rounding error.
        left_out: A bound of the magnitude of what else belongs to the sum.
    """
    # Wide enough that rounding the two ends of the interval does no harm.
    margin = max(2.0 * left_out, abs(low) * 2.0**-50)
    inside = high + (low - margin) == high and high + (low + margin) == high
    return left_out == 0.0 or inside


@kernel
def _sum_groups(
    columns: FloatArray, groups: NDArray[np.int64], narrow: bool, out: FloatArray
) -> bool:
    """Fill `out` (count, n) with the sums of groups of `columns` (m, n), and return if all is sure.

    Args:
        columns: One column in each row.
        groups: The group of each column (m,).
        narrow: Whether `out` is float32.
        out: The sums.
    """
    (m, n), count = columns.shape, len(out)
    ends = np.zeros(count + 1, np.int64)
    for group in groups:
        if not 0 <= group < count:
            return False
        ends[group + 1] += 1
    for group in range(count):
        ends[group + 1] += ends[group]
    members, places = np.empty(m, np.int64), ends[:count].copy()
    for j in range(m):
        members[places[groups[j]]] = j
        places[groups[j]] += 1
    high, low, left_out, sure = np.empty(n), np.empty(n), np.empty(n), True
    for group in range(count):
        high[:], low[:], left_out[:] = 0.0, 0.0, 0.0
        for place in range(ends[group], ends[group + 1]):
            column = columns[members[place]]
            for i in range(n):
                number = np.float64(column[i])
                sure &= bool(abs(number) <= _HUGE)  # not `and`, which would be a branch
                high[i], error = two_sum(high[i], number)
                low[i], missed = two_sum(low[i], error)
                left_out[i] += abs(missed)
        for i in range(n):
            if narrow:
                out[group, i], certain = nearest_of_parts(high[i], low[i], left_out[i])
            else:
                total, error = two_sum(high[i], low[i])
                certain = _rounds_to(total, error, left_out[i])
                out[group, i] = total + 0.0
            sure &= certain
    return sure


@or_numpy
def sums_of_groups(a: FloatArray, groups: NDArray[np.intp], out: FloatArray) -> bool:
    """Fill `out` (count, n) with the sums of the columns of each group.

    Args:
        a: Columns (..., n, m).
        groups: The group of each column (..., m).
        out: The sums.
    """
    if not (is_plain(a) and is_plain(out) and out.flags.c_contiguous and a.size):
        return False
    columns = np.ascontiguousarray(np.swapaxes(a, -1, -2)).reshape(-1, a.shape[-2])
    flat = np.ascontiguousarray(groups, np.int64).ravel()
    return _sum_groups(unwritten(columns), unwritten(flat), out.dtype == np.float32, out)
