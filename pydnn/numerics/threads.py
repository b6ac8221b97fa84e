"""Elementwise work on large vectors: block by block, in cache, and on more than one thread.

Every number is worked out by itself, so neither blocks nor threads have a part in any bit.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydnn.numerics.memory import empty
from pydnn.records import FloatArray, freeze

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_blocks", "worker_threads"]

_BLOCK = 1 << 19  # bytes of one operand; with smaller ones, calls take longer than cache saves
# Bytes of one operand. On 2 MB, half a million parameters, a second thread does not pay right
# after a product: those of BLAS still wait there for the next one, on the core that it needs.
_WORTH_A_THREAD = 1 << 24
_MOST_THREADS = 4  # more do not read memory faster

_Kernel = Callable[..., None]


def in_blocks(kernel: _Kernel, *operands: FloatArray, results: int = 1) -> tuple[FloatArray, ...]:
    """New read-only vectors that `kernel` makes of vectors of one size and dtype.

    Args:
        kernel: `(*operands, *results)`: fills the results, number by number, for stretches of all
            of them. It must keep no reference to any.
        operands: Vectors (size,).
        results: How many vectors it fills.
    """
    first = operands[0]
    made = [empty(first.size, first.dtype) for _ in range(results)]
    if first.nbytes <= _BLOCK:
        kernel(*operands, *made)
    else:
        _shared_out(functools.partial(_over, kernel, (*operands, *made)), first)
    return tuple([freeze(vector) for vector in made])


def _shared_out(work: Callable[[int, int], None], first: FloatArray) -> None:
    """Do `work(start, stop)` for all of a vector, a part of it by each thread."""
    threads = worker_threads() if first.nbytes >= _WORTH_A_THREAD else 1
    bounds = [first.size * part // threads for part in range(threads + 1)]
    # NumPy's error state is of a context, and has to be that of whoever asked.
    others = [
        _executor().submit(contextvars.copy_context().run, work, start, stop)
        for start, stop in itertools.pairwise(bounds[1:])
    ]
    try:
        work(0, bounds[1])
    finally:  # nothing may be written any more when the caller goes on, with an error or without
        failed = [error for error in [other.exception() for other in others] if error]
    if failed:
        raise failed[0]


def _over(kernel: _Kernel, vectors: tuple[FloatArray, ...], start: int, stop: int) -> None:
    length = _BLOCK // vectors[0].itemsize
    for begin in range(start, stop, length):
        end = min(begin + length, stop)
        kernel(*[vector[begin:end] for vector in vectors])


@functools.cache
def worker_threads() -> int:
    """How many threads share elementwise work: as many as BLAS is told to have, at most 4."""
    told = [os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")]
    given = next((int(value) for value in told if value.isdecimal() and int(value)), None)
    here = hasattr(os, "sched_getaffinity")
    cores = (len(os.sched_getaffinity(0)) if here else os.cpu_count()) or 1
    return min(given or cores, cores, _MOST_THREADS)


@functools.cache
def _executor() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # here, since small networks need none

    return ThreadPoolExecutor(_MOST_THREADS - 1, thread_name_prefix="pydnn")


if hasattr(os, "register_at_fork"):  # the copy of a process has none of its threads
    os.register_at_fork(after_in_child=_executor.cache_clear)
