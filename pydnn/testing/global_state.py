"""Detect and undo changes to global state."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["restored_global_state"]


def _environment() -> Mapping[Any, str | bytes]:
    # The mapping inside holds encoded bytes on POSIX. Copying it takes a microsecond, where
    # decoding every variable took a third of the time of a small stage's laws.
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(environment: Mapping[Any, str | bytes]) -> None:
    os.environ.clear()
    os.environ.update({os.fsdecode(name): os.fsdecode(environment[name]) for name in environment})


# What a pure function must not change: how to read it, and how to set it again.
_STATE: Mapping[str, tuple[Callable[[], object], Callable[..., object]]] = {
    "NumPy's global random state": (np.random.get_state, np.random.set_state),
    "Python's global random state": (random.getstate, random.setstate),
    "NumPy's error state (np.seterr)": (np.geterr, lambda errors: np.seterr(**errors)),
    "NumPy's error callback (np.seterrcall)": (np.geterrcall, np.seterrcall),
    "NumPy's buffer size (np.setbufsize)": (np.getbufsize, np.setbufsize),
    "NumPy's print options": (
        np.get_printoptions,
        lambda printing: np.set_printoptions(**printing),
    ),
    "the environment (os.environ)": (_environment, _set_environment),
    "the working directory": (os.getcwd, os.chdir),
}


@contextlib.contextmanager
def restored_global_state() -> Iterator[Callable[[], list[str]]]:
    """Restore global state when the block ends; the block gets a function that lists its changes.

    Example:
        >>> from pydnn.testing.global_state import restored_global_state
        >>> with restored_global_state() as changes:
        ...     np.random.seed(0)
        ...     print(changes())
        ["changes NumPy's global random state"]
    """
    before = {name: read() for name, (read, _) in _STATE.items()}

    def changes() -> list[str]:
        now = {name: read() for name, (read, _) in _STATE.items()}
        return [f"changes {name}" for name, old in before.items() if not _same(old, now[name])]

    try:
        yield changes
    finally:
        if changes():
            for name, (_, restore) in _STATE.items():
                restore(before[name])


def _same(old: object, new: object) -> bool:
    if isinstance(old, tuple) and any(isinstance(part, np.ndarray) for part in old):
        return isinstance(new, tuple) and all(
            np.array_equal(a, b) for a, b in zip(old, new, strict=True)
        )
    return bool(old == new)
