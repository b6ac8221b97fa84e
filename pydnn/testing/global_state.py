"""What a function of its arguments leaves alone, and how it is found as it was again."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ["kept_world"]


def _set_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


# What a function of its arguments leaves alone: how to read it, and how to set it again.
_WORLD: Mapping[str, tuple[Callable[[], object], Callable[..., object]]] = {
    "NumPy's global random state": (np.random.get_state, np.random.set_state),
    "Python's global random state": (random.getstate, random.setstate),
    "NumPy's error state (np.seterr)": (np.geterr, lambda errors: np.seterr(**errors)),
    "NumPy's error callback (np.seterrcall)": (np.geterrcall, np.seterrcall),
    "NumPy's buffer size (np.setbufsize)": (np.getbufsize, np.setbufsize),
    "NumPy's print options": (
        np.get_printoptions,
        lambda printing: np.set_printoptions(**printing),
    ),
    "the environment (os.environ)": (lambda: dict(os.environ), _set_environment),
    "the working directory": (os.getcwd, os.chdir),
}


@contextlib.contextmanager
def kept_world() -> Iterator[Callable[[], list[str]]]:
    """Gives a function that tells what has been touched of the world, restored afterwards."""
    before = {name: read() for name, (read, _) in _WORLD.items()}

    def touched() -> list[str]:
        now = {name: read() for name, (read, _) in _WORLD.items()}
        return [f"changes {name}" for name, old in before.items() if not _same(old, now[name])]

    try:
        yield touched
    finally:
        if touched():
            for name, (_, restore) in _WORLD.items():
                restore(before[name])


def _same(old: object, new: object) -> bool:
    if isinstance(old, tuple) and any(isinstance(part, np.ndarray) for part in old):
        return isinstance(new, tuple) and all(
            np.array_equal(a, b) for a, b in zip(old, new, strict=True)
        )
    return bool(old == new)
