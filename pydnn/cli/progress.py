"""A progress bar for work other than training steps, such as reading and hashing a large file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from pydnn.checks import install_command
from pydnn.cli.output import complain

__all__ = ["progress_shown"]


@contextlib.contextmanager
def progress_shown() -> Iterator[Callable[[str, int, int], object]]:
    """A context with a function `(what, done, total)` that shows progress.

    On a terminal it shows a bar if tqdm is installed; elsewhere it shows nothing.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    bars: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            end_all()
            bars[what] = _bar(what, total)
        if bars[what] is not None:
            bars[what].update(done - bars[what].n)
        if done >= total:
            end_all()

    def end_all() -> None:
        for bar in bars.values():
            if bar is not None:
                bar.close()
        bars.clear()

    try:
        yield show
    finally:
        end_all()


def _bar(what: str, total: int) -> Any:
    if find_spec("tqdm") is None:
        complain(f"for a progress bar, run {install_command('progress')}")
        return None
    from tqdm import tqdm

    return tqdm(desc=what, total=total, unit="", unit_scale=True, leave=False)
