"""What a function of its arguments leaves alone, and how it is found as it was again."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["kept_world"]


@contextlib.contextmanager
def kept_world() -> Iterator[Callable[[], list[str]]]:
    """Gives a function that tells what has been touched of the world, mended afterwards."""
    before = _world()

    def touched() -> list[str]:
        now = _world()
        return [f"changes {name}" for name, old in before.items() if not _same(old, now[name])]

    try:
        yield touched
    finally:
        if touched():
            _mend(before)


def _mend(before: Mapping[str, Any]) -> None:
    numpys, pythons, errors, call, size, printing, environment, directory = before.values()
    np.random.set_state(numpys)  # noqa: NPY002 - as it was found
    random.setstate(pythons)
    np.seterr(**errors)
    np.seterrcall(call)
    np.setbufsize(size)
    np.set_printoptions(**printing)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)


def _world() -> dict[str, Any]:
    """What a function of its arguments leaves alone."""
    state = np.random.get_state()  # noqa: NPY002 - that it is left alone is what is found out
    return {
        "NumPy's global random state": state,
        "Python's global random state": random.getstate(),
        "NumPy's error state (np.seterr)": np.geterr(),
        "NumPy's error callback (np.seterrcall)": np.geterrcall(),
        "NumPy's buffer size (np.setbufsize)": np.getbufsize(),
        "NumPy's print options": np.get_printoptions(),
        "the environment (os.environ)": dict(os.environ),
        "the working directory": os.getcwd(),
    }


def _same(old: object, new: object) -> bool:
    if isinstance(old, tuple) and any(isinstance(part, np.ndarray) for part in old):
        return isinstance(new, tuple) and all(
            np.array_equal(a, b) for a, b in zip(old, new, strict=True)
        )
    return bool(old == new)
