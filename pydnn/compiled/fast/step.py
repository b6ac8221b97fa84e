"""Steps in `fast` arithmetic, as `pydnn.compiled.step_text` writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydnn.compiled.arithmetics import TERMS, Arithmetic, Placed
from pydnn.compiled.blas import dot, is_a_product, products_of
from pydnn.compiled.fast.dense import ADD, ONES, PRODUCTS, backward, forward
from pydnn.compiled.fast.losses import EXP, LOG, cross_entropy_of_classes
from pydnn.compiled.kernels import kernel, once_compiled
from pydnn.compiled.memory import to_read
from pydnn.compiled.tracing import Symbol, Untraceable
from pydnn.compiled.ufuncs import apply, loop_of, reduce, sum_of
from pydnn.numerics import fast
from pydnn.numerics.fast import FEW_COLUMNS
from pydnn.numerics.threads import WORTH_A_THREAD
from pydnn.records import AnyDType, FloatArray, IntArray

__all__ = ["in_fast"]

EXPM1, LOG1P, TANH = range(LOG + 1, LOG + 4)  # further rows of `calls`
_CALLED = {np.exp: "EXP", np.log: "LOG", np.expm1: "EXPM1", np.log1p: "LOG1P", np.tanh: "TANH"}
_ROWS = {"EXP": EXP, "LOG": LOG, "EXPM1": EXPM1, "LOG1P": LOG1P, "TANH": TANH}
_ELEMENTWISE = ("erf", "exp", "expm1", "log", "log1p", "logistic", "tanh")


class _Traced:
    """Stands for the arithmetic while a function is traced, and does what it does."""

    def positive_part(self, Z: Symbol) -> Any:
        """Do as the arithmetic does, without asking for the size of Z."""
        return np.maximum(Z, 0)

    def __getattr__(self, name: str) -> Any:
        if name not in _ELEMENTWISE:
            raise Untraceable(f"{name} of the arithmetic")
        return getattr(fast, name)


@kernel
def _call(function: IntArray, x: FloatArray, y: FloatArray) -> None:
    apply((function[0], function[1]), x, 0, y, 0, y.size)


@kernel
def _mean_of(losses: FloatArray, terms: FloatArray, calls: IntArray) -> float:
    sum_of((calls[ADD, 0], calls[ADD, 1]), losses, 0, losses.size, terms, 0)
    mean: float = np.float64(terms[0]) / np.float64(losses.size)
    return mean


@kernel
def _square_of(grads: FloatArray, terms: FloatArray, calls: IntArray) -> float:
    products = (calls[0, 0], calls[0, 1], calls[1, 0], calls[1, 1])
    numbers = to_read(grads)
    dot(products, numbers, 0, False, numbers, 0, False, terms, 0, 1, 1, grads.size)
    return np.float64(terms[0])


@once_compiled
def _calls(dtype: AnyDType) -> IntArray | None:
    products = products_of(dtype)
    if products is None:
        return None
    calls = np.zeros((TANH + 1, 2), np.int64)
    calls[PRODUCTS], calls[PRODUCTS + 1] = products[:2], products[2:]
    for function, row in ((np.add, ADD), *zip(_CALLED, _ROWS.values(), strict=True)):
        loop = loop_of(function, dtype)
        if loop is None:
            return None
        calls[row] = loop
    return calls


@kernel
def _add_row(add: IntArray, row: FloatArray, totals: FloatArray, at: int) -> None:
    """Add the sum of a row to a number, as `np.add.reduce` does with one row after the other."""
    reduce((add[0], add[1]), row, 0, row.size, totals, at)


def _names(dtype: AnyDType) -> dict[str, Any]:
    return {
        **_ROWS,
        "ADD": ADD,
        "add_row": _add_row,
        "FEW_COLUMNS": FEW_COLUMNS,
        "ONES": ONES,
        "backward": backward,
        "call": _call,
        "cross_entropy_of_classes": cross_entropy_of_classes,
        "forward": forward,
        "mean_of": _mean_of,
        "square_of": _square_of,
    }


def _suits(sizes: Sequence[tuple[int, int]], m: int, dtype: AnyDType) -> bool:
    # Whole steps were faster in all sizes below these. On two cores with AVX-512, 20-64-64-3 with
    # Adam on 64 examples took 49 us, and 126 part by part; 784-512-256-10 on 128 examples 2.5 ms,
    # and 2.9; 1000-1000-1000-10 with momentum on 256 examples 16.3 ms, and 17.0.
    most = WORTH_A_THREAD // dtype.itemsize  # larger vectors are updated by several threads
    if sum((n_in + 1) * n_out for n_in, n_out in sizes) >= most:
        return False
    shapes = [
        shape
        for n_in, n_out in sizes
        for shape in ((n_out, m, n_in), (n_out, n_in, m), (n_in, m, n_out))
    ]
    return all(is_a_product(*shape) and shape[0] * shape[1] < most for shape in shapes)


def _places(
    known: IntArray,
    stages: Sequence[Placed],
    m: int,
    most: int,
    count: int,
    start: int,
    dtype: AnyDType,
) -> int:
    known[:, ONES] = start
    known[:, TERMS] = start + FEW_COLUMNS
    end = start + FEW_COLUMNS + max(1, count + 1) * most + 3 * m
    return -(-end * dtype.itemsize // 8)


def _as_vector(X: FloatArray) -> tuple[FloatArray, bool] | None:
    if X.flags.c_contiguous:
        return X.reshape(-1), False
    return (X.T.reshape(-1), True) if X.flags.f_contiguous else None


def _length(square: float, dtype: AnyDType) -> float:
    # Outside of these limits, `fast.norm` divides the vector by its largest number first.
    return math.sqrt(square) if 1e-30 < square < math.inf else math.nan


in_fast = Arithmetic(
    numerics=fast,
    traced=_Traced(),
    called=_CALLED,
    names=_names,
    calls=_calls,
    terms="narrow[last[TERMS] :]",
    before=("narrow[last[ONES] : last[ONES] + FEW_COLUMNS] = 1.0",),
    as_vector=_as_vector,
    suits=_suits,
    places=_places,
    multiplications=2e7,
    adds_rows=True,
    length=_length,
)
