"""The number of threads that BLAS may use, changed while a program runs.

The last bits of large products depend on it. Where several workers compute parts of one result,
each uses one thread, so that no bit depends on how many workers there are.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from pydnn.processors import THREADS_OF_OPENBLAS

__all__ = ["NAMES", "THREADS", "blas_libraries", "blas_threads", "using_blas_threads"]

# The environment variables that set the number when a program starts.
THREADS = (
    *THREADS_OF_OPENBLAS,
    "OPENBLAS_DEFAULT_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "MKL_NUM_THREADS",
    "MKL_DOMAIN_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# The names that OpenBLAS gives its functions, with and without 64-bit integers. NumPy's own builds
# have a prefix, so that they do not mix with an OpenBLAS of another package.
NAMES = [
    f"{prefix}openblas_{{}}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "", "_64")
]


def blas_threads() -> int | None:
    """The number of threads that NumPy's BLAS may use now; None if that cannot be found out.

    It can be found out, and changed, for OpenBLAS, which NumPy's own packages bring for Linux and
    Windows. Otherwise set e.g. MKL_NUM_THREADS=1 before the program starts.
    """
    functions = _functions()
    return None if functions is None else int(functions[0]())


@contextlib.contextmanager
def using_blas_threads(count: int) -> Iterator[None]:
    """A context in which BLAS uses `count` threads, where that can be changed.

    The number belongs to the whole process. Contexts may overlap in several threads: the number of
    the one that was entered last holds, and the first number returns after all of them.

    Example:
        >>> before = blas_threads()
        >>> with using_blas_threads(1):
        ...     inside = blas_threads()
        >>> inside in (1, None), blas_threads() == before
        (True, True)
    """
    functions = _functions()
    if functions is None:
        yield
        return
    get, change = functions
    entry = object()
    with _lock:
        if not _entered:
            _first.append(int(get()))
        _entered.append((entry, count))
        with undisturbed():
            change(count)
    try:
        yield
    finally:
        with _lock:
            _entered[:] = [pair for pair in _entered if pair[0] is not entry]
            with undisturbed():
                change(_entered[-1][1] if _entered else _first.pop())


# A context in which threads of `pydnn.compiled.team`, if there are any, multiply nothing: OpenBLAS
# frees the memory that they use for it when the number changes.
undisturbed: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

_lock = threading.Lock()
_entered: list[tuple[object, int]] = []  # the contexts entered and not left yet
_first: list[int] = []  # the number before the first of them


@functools.cache
def _functions() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The functions of NumPy's OpenBLAS that get and set the number; None without OpenBLAS."""
    for library in blas_libraries():
        for name in NAMES:
            with contextlib.suppress(AttributeError):
                get, change = (
                    getattr(library, name.format(f"{verb}_num_threads")) for verb in ("get", "set")
                )
                get.restype, change.argtypes, change.restype = ctypes.c_int, [ctypes.c_int], None
                return get, change
    return None


def blas_libraries() -> Iterator[ctypes.CDLL]:
    """Yield libraries in which the functions of NumPy's BLAS can be found by their names."""
    # A look-up in NumPy's extension also finds the names of the libraries that it is linked with,
    # except on Windows, where the library lies beside the package.
    module = importlib.import_module("numpy._core._multiarray_umath")
    paths = [Path(str(module.__file__))]
    if os.name == "nt":
        paths += sorted(Path(np.__file__).parent.with_name("numpy.libs").glob("*openblas*.dll"))
    for path in paths:
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(str(path))
