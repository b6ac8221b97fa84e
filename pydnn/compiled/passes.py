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
    factors: FloatArray | None,
) -> tuple[FloatArray, ...] | None:
    """Do the same as `pydnn.optimizers.fused.carried_out`; None if there is no compiled form.

    Args:
        pending: The update, whose kernel is compilable.
        vectors: All vectors to read.
        results: The number of vectors to fill.
        move: Whether the last of them gets the sums of parameters and updates.
        factors: A factor for each number, instead of the factor of `pending`.
    """
    by_number = factors is not None
    if factors is not None:
        vectors = (factors, *vectors)
    truths = tuple(vector.dtype == np.bool_ for vector in vectors)
    dtype, count = vectors[0].dtype, len(pending.numbers)
    loop = _loop(pending.kernel, dtype, count, truths, results, move, by_number)
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
    truths = (False, False, *[True] * len(pending.read), *[False] * len(pending.before))
    results = 2 + len(pending.before)
    return _loop(pending.kernel, dtype, len(pending.numbers), truths, results, True, False)


@functools.lru_cache(maxsize=256)
def _loop(
    kernel: Callable[..., None],
    dtype: AnyDType,
    count: int,
    truths: tuple[bool, ...],
    results: int,
    move: bool,
    by_number: bool,
) -> Loop | None:
    numbers = [f"n{i}" for i in range(count)]
    operands = ["g", "p", *(f"x{i}" for i in range(len(truths) - 2 - by_number))]
    (operands if by_number else numbers).insert(0, "factor")
    made = ["u", *(f"y{i}" for i in range(results - 1 - move)), *["moved"] * move]

    def function(*symbols: Any) -> None:
        scalars, others = symbols[: len(numbers)], symbols[len(numbers) :]
        if by_number:
            kernel(others[0], *scalars, *others[1:])
        elif move:
            kernel(*scalars, *others[:-1])
            np.add(others[1], others[len(operands)], others[-1])
        else:
            kernel(*scalars, *others)

    return loop_of(function, dtype, numbers=numbers, operands=operands, results=made, truths=truths)
