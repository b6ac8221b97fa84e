"""Everything that the command line writes: safe text, to streams of any kind.

Results go to the standard output through `say` and `say_json`, complaints to the standard error
stream through `complain`. Text that is not pydnn's own (names of files, data and classes, keys,
values of the environment) is shown by them and never obeyed.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from pydnn.checks import Json, printable

__all__ = [
    "ReaderGone",
    "complain",
    "flush_results",
    "say",
    "say_json",
    "say_table",
    "undisturbed",
    "usable_streams",
]

_MOST_OF_A_LINE = 10_000  # characters
_MOST_OF_A_CELL = 500


class ReaderGone(BrokenPipeError):  # noqa: N818
    """Nobody reads the results any more, e.g. of `pydnn train | head`."""


def say(*lines: object) -> None:
    """Print results: each of `lines` is one line, whatever it holds; without any, an empty one.

    Raises:
        ReaderGone: If nobody reads them any more.
    """
    with _noticing_that_the_reader_is_gone():
        for line in lines or ("",):
            print(printable(line, most=_MOST_OF_A_LINE))


def say_table(rows: Iterable[Sequence[object]], *, align: str) -> None:
    """Print rows of cells in columns that are two spaces apart.

    Args:
        rows: The cells of each row.
        align: "<" or ">" for each column: where its cells are aligned.

    Raises:
        ReaderGone: If nobody reads them any more.
    """
    table = [[printable(cell, most=_MOST_OF_A_CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True))
        say("  ".join(cells).rstrip())


@contextlib.contextmanager
def _noticing_that_the_reader_is_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone(*error.args) from error


def say_json(results: Json) -> None:
    """Print one JSON object in ASCII. Numbers that JSON has not, NaN and infinity, are null."""
    text = json.dumps(_with_nulls(results), allow_nan=False)
    with _noticing_that_the_reader_is_gone():
        print(text)


def flush_results() -> None:
    """Write what was printed to where it goes.

    Where that fails, it is dropped, since Python would try to write it again at its end.

    Raises:
        ReaderGone: If nobody reads it any more.
        OSError: If it cannot be written, e.g. to a full disk.
    """
    try:
        with _noticing_that_the_reader_is_gone():
            sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        raise


def _with_nulls(value: Json) -> Json:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _with_nulls(v) for name, v in value.items()}
        case list() | tuple():
            return [_with_nulls(v) for v in value]
    return value


def complain(message: object) -> None:
    """Print one line to the standard error stream, if anybody reads it."""
    with contextlib.suppress(OSError, ValueError):  # such as a pipe that is closed
        print(f"pydnn: {printable(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Give the process, while this lasts, standard streams that take any text.

    A stream that is missing, as for a service or after `>&-`, becomes the null device. What a
    stream's encoding cannot express is written as an escape. A warning becomes one line.
    """
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or stream.closed:
                _occupy_standard_handles()
                null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, stream)
                setattr(sys, name, null)
            elif isinstance(stream, io.TextIOWrapper):
                stack.callback(_set_errors, stream, stream.errors)
                _set_errors(stream, "backslashreplace")
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _complain_of
        yield


def _occupy_standard_handles() -> None:
    """Open the null device for each of the handles 0 to 2 that is closed.

    The next file to be opened would get that handle, and with it what a library prints.
    """
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free handle


def _set_errors(stream: io.TextIOWrapper, errors: str | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # of a pipe that is closed
        stream.reconfigure(errors=errors)


def _complain_of(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Arithmetic that leaves the range of numbers and odd text are answered where they matter.
    if not issubclass(category, RuntimeWarning | SyntaxWarning):
        complain(f"{category.__name__}: {message}")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore interruptions while this lasts, such as a second one while the first is answered."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def _discard(stream: TextIO) -> None:
    """Send what `stream` still holds, and all that follows, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
