"""Work that several threads share: elementwise work on large vectors, in blocks, and other tasks.

Each number is computed independently, so neither blocks nor threads change any bit.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydnn.numerics.memory import empty
from pydnn.processors import usable_cores
from pydnn.records import AnyArray, FloatArray, freeze

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["WORTH_A_THREAD", "in_blocks", "share_out", "shared_out", "worker_threads"]

_BLOCK = 1 << 19  # bytes of one operand; with smaller blocks, calls cost more than cache saves
# Bytes of one operand. On 2 MB, half a million parameters, a second thread gains nothing right
# after a product: the threads of BLAS still wait for the next product, and occupy its core.
WORTH_A_THREAD = 1 << 24
_MOST_THREADS = 4  # more do not read memory faster

_Kernel = Callable[..., None]


def in_blocks(kernel: _Kernel, *operands: AnyArray, results: int = 1) -> tuple[FloatArray, ...]:
    """Return new read-only vectors that `kernel` fills, block by block.

    Args:
        kernel: A function `(*operands, *results)` that gets the same block of every vector, and
            fills those of the results number by number. It must keep no reference to a block.
        operands: Vectors (size,) of one size. The results have the dtype of the first one.
        results: The number of vectors to fill.

    Example:
        >>> total, = in_blocks(np.add, np.ones(3), np.ones(3))
        >>> total
        array([2., 2., 2.])
    """
    first = operands[0]
    made = [empty(first.size, first.dtype) for _ in range(results)]
    if first.nbytes <= _BLOCK:
        kernel(*operands, *made)
    else:
        shared_out(functools.partial(_over, kernel, (*operands, *made)), first)
    return tuple([freeze(vector) for vector in made])


def shared_out(work: Callable[[int, int], None], first: AnyArray) -> None:
    """Call `work(start, stop)` for consecutive parts of a vector, one part on each thread.

    Parts of an array with more axes are those of its first axis. Before several threads begin, this
    one calls `work(0, 0)`, so that work which cannot be done fails before any part of it is done.
    """
    threads = worker_threads() if first.nbytes >= WORTH_A_THREAD else 1
    if threads > 1:
        work(0, 0)
    bounds = [len(first) * part // threads for part in range(threads + 1)]
    share_out(lambda part: work(bounds[part], bounds[part + 1]), threads)


def share_out(work: Callable[[int], None], tasks: int, threads: int | None = None) -> None:
    """Call `work(task)` for each number below `tasks`; each thread takes neighboring ones.

    Args:
        work: The function. No result may depend on which thread called it, or when.
        tasks: The number of tasks.
        threads: How many threads share them, this one included; by default as many as BLAS may
            use, see `worker_threads`.
    """
    threads = min(worker_threads() if threads is None else threads, tasks)
    if threads == 1:
        for task in range(tasks):
            work(task)
        return
    bounds = [tasks * part // threads for part in range(threads + 1)]

    def several(start: int, stop: int) -> None:
        for task in range(start, stop):
            work(task)

    # NumPy keeps its error state in the context, so the other threads run in copies of this one.
    others = [
        _executor().submit(contextvars.copy_context().run, several, start, stop)
        for start, stop in itertools.pairwise(bounds[1:])
    ]
    try:
        several(0, bounds[1])
    finally:  # wait for all threads, even after an error: none may write when the caller goes on
        failed = [error for error in [other.exception() for other in others] if error]
    if failed:
        raise failed[0]


def _over(kernel: _Kernel, vectors: tuple[AnyArray, ...], start: int, stop: int) -> None:
    length = _BLOCK // vectors[0].itemsize
    for begin in range(start, stop, length):
        end = min(begin + length, stop)
        kernel(*[vector[begin:end] for vector in vectors])


@functools.cache
def worker_threads() -> int:
    """Return how many threads share elementwise work: as many as BLAS may use, at most 4."""
    limits = [os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")]
    limit = next((int(value) for value in limits if value.isdecimal() and int(value)), None)
    cores = usable_cores()
    return min(limit or cores, cores, _MOST_THREADS)


@functools.cache
def _executor() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # here, since only large networks need it

    return ThreadPoolExecutor(_MOST_THREADS - 1, thread_name_prefix="pydnn")


if hasattr(os, "register_at_fork"):  # a forked process has no copies of the threads
    os.register_at_fork(after_in_child=_executor.cache_clear)
