"""Updates of optimizers as one pass over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydnn.compiled.loops import Loop, loop_of, run
from pydnn.engines import is_compilable
from pydnn.optimizers.fused import PendingUpdate
from pydnn.records import AnyArray, AnyDType, FloatArray, freeze

__all__ = ["carried_out", "loop_of_update"]


def carried_out(
    pending: PendingUpdate,
    vectors: Sequence[AnyArray],
    results: int,
    move: bool,
    keep: bool,
    factors: FloatArray | None,
) -> tuple[FloatArray, ...] | None:
    """Do the same as `pydnn.optimizers.fused.carried_out`; None if there is no compiled form.

    Args:
        pending: The update, whose kernel is compilable.
        vectors: All vectors to read.
        results: The number of vectors to fill.
        move: Whether the last of them gets the sums of parameters and updates.
        keep: Whether the first of them gets the updates.
        factors: A factor for each number, instead of the factor of `pending`.
    """
    by_number = factors is not None
    if factors is not None:
        vectors = (factors, *vectors)
    shape = vectors[0].shape
    if any([vector.shape != shape for vector in vectors]):
        return None  # a loop would read beyond the end of a vector, where NumPy raises an error
    dtypes, count = tuple([vector.dtype for vector in vectors]), len(pending.numbers)
    loop = _loop(pending.kernel, dtypes, count, results, move, keep, by_number)
    if loop is None:
        return None
    numbers = pending.numbers if by_number else (pending.factor, *pending.numbers)
    made = run(loop, numbers, vectors, results)
    return None if made is None else tuple([freeze(vector) for vector in made])


def loop_of_update(pending: PendingUpdate, dtype: AnyDType) -> Loop | None:
    """Return the loop of an update that also moves the parameters, e.g. to print its text.

    Args:
        pending: The update.
        dtype: The dtype of the vectors.
    """
    if not is_compilable(pending.kernel):
        return None
    truths = [np.dtype(np.bool_)] * len(pending.read)
    dtypes = (dtype, dtype, *truths, *[dtype] * len(pending.before))
    results = 1 + len(pending.before)
    return _loop(pending.kernel, dtypes, len(pending.numbers), results, True, False, False)


@functools.lru_cache(maxsize=256)
def _loop(
    kernel: Callable[..., None],
    dtypes: tuple[AnyDType, ...],
    count: int,
    results: int,
    move: bool,
    keep: bool,
    by_number: bool,
) -> Loop | None:
    dtype = dtypes[0]
    truths = tuple(each == np.bool_ for each in dtypes)
    if any(each != dtype for each, is_truth in zip(dtypes, truths, strict=True) if not is_truth):
        return None  # NumPy rounds each result to the dtype of its own array
    numbers = [f"n{i}" for i in range(count)]
    operands = ["g", "p", *(f"x{i}" for i in range(len(dtypes) - 2 - by_number))]
    (operands if by_number else numbers).insert(0, "factor")
    made = [*["u"] * keep, *(f"y{i}" for i in range(results - keep - move)), *["moved"] * move]
    u = len(operands)

    def function(*symbols: Any) -> None:
        scalars, others = symbols[: len(numbers)], list(symbols[len(numbers) :])
        if not keep:
            others.insert(u, np.empty_like(others[0]))
        if by_number:
            kernel(others[0], *scalars, *others[1:])
        elif move:
            kernel(*scalars, *others[:-1])
            np.add(others[1], others[u], others[-1])
        else:
            kernel(*scalars, *others)

    return loop_of(function, dtype, numbers=numbers, operands=operands, results=made, truths=truths)
