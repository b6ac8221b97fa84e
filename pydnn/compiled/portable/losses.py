"""The cross-entropy of classes, as `pydnn.losses.softmax_cross_entropy` computes it."""

from __future__ import annotations

import math

import numpy as np

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.elementary import exp, log
from pydnn.compiled.portable.sums import sum_columns
from pydnn.records import FloatArray, IntArray

__all__ = ["cross_entropy_of_classes"]

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
        terms: Not used.
        calls: Not used.
    """
    m, number = labels.size, logits.dtype.type
    K = logits.size // m
    Z, dZ = logits.reshape(K, m), slopes.reshape(K, m)
    largest, total = Z[0].copy(), np.empty(m, Z.dtype)
    for k in range(1, K):
        for j in range(m):
            largest[j] = Z[k, j] if Z[k, j] > largest[j] else largest[j]
    powers, plain = np.empty_like(Z), True
    for k in range(K):
        for j in range(m):
            shifted = Z[k, j] - largest[j]
            plain &= shifted > -_INF
            powers[k, j] = number(exp(np.float64(shifted)))
    if not plain:
        return False
    sum_columns(powers, total)
    for k in range(K):
        for j in range(m):
            dZ[k, j] = powers[k, j] / total[j]
    for j in range(m):
        label = labels[j]
        if not (0 <= label < K) or label != np.floor(label):
            return False
        k = int(label)
        dZ[k, j] = dZ[k, j] - number(1.0)
        losses[j] = -((Z[k, j] - largest[j]) - number(log(np.float64(total[j]))))
    return True
