"""The cross-entropy of classes, as `pydnn.losses.softmax_cross_entropy` computes it."""

from __future__ import annotations

import math

import numpy as np

from pydnn.compiled.fast.dense import ADD
from pydnn.compiled.kernels import kernel
from pydnn.compiled.ufuncs import apply, sum_of
from pydnn.records import FloatArray, IntArray

__all__ = ["EXP", "LOG", "cross_entropy_of_classes"]

EXP, LOG = ADD + 1, ADD + 2  # rows of `calls`
_INF = math.inf


@kernel
def cross_entropy_of_classes(
    logits: FloatArray,
    labels: FloatArray,
    losses: FloatArray,
    slopes: FloatArray,
    terms: FloatArray,
    calls: IntArray,
) -> bool:
    """Fill the losses of examples and their slopes, and return whether they are those of NumPy.

    They are unless a label is not the number of a class, or a logit is infinitely far below the
    largest one, where the NumPy path takes another way.

    Args:
        logits: The numbers of Z (K, m).
        labels: The number of the class of each example (m,).
        losses: The losses (m,).
        slopes: The gradient of their sum, in the order of `logits`.
        terms: Room for as many numbers as there are logits, and 3 m more.
        calls: The functions to call.
    """
    m, number, size = labels.size, logits.dtype.type, logits.size
    add, exp = (calls[ADD, 0], calls[ADD, 1]), (calls[EXP, 0], calls[EXP, 1])
    log = (calls[LOG, 0], calls[LOG, 1])
    shifted, rest = terms[:size], terms[size:]
    largest, total, logarithm = rest[:m], rest[m : 2 * m], rest[2 * m : 3 * m]
    for j in range(m):
        largest[j] = logits[j]
    for start in range(m, size, m):
        Z = logits[start : start + m]
        for j in range(m):
            largest[j] = Z[j] if Z[j] > largest[j] else largest[j]
    plain = True
    for start in range(0, size, m):
        Z, difference = logits[start : start + m], shifted[start : start + m]
        for j in range(m):
            difference[j] = Z[j] - largest[j]
            plain &= difference[j] > -_INF
    if not plain:
        return False
    apply(exp, shifted, 0, slopes, 0, size)
    if m == 1:  # the numbers of a column lie one after the other
        sum_of(add, slopes, 0, size, total, 0)
    else:
        for j in range(m):
            total[j] = slopes[j]
        for start in range(m, size, m):
            row = slopes[start : start + m]
            for j in range(m):
                total[j] = total[j] + row[j]
    apply(log, total, 0, logarithm, 0, m)
    for start in range(0, size, m):
        row = slopes[start : start + m]
        for j in range(m):
            row[j] = row[j] / total[j]
    for j in range(m):
        label = labels[j]
        if not (0 <= label < size // m) or label != np.floor(label):
            return False
        place = int(label) * m + j
        slopes[place] = slopes[place] - number(1.0)
        losses[j] = -(shifted[place] - logarithm[j])
    return True
