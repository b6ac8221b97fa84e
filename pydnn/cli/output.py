"""Everything that the command line prints: safe text, to streams of any kind.

Results go to the standard output through `say` and `say_json`, complaints to the standard error
stream through `complain`. These functions escape text that is not pydnn's own (names of files, data
and classes, keys, values of the environment), so that a terminal shows it and never obeys it.
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
    "MOST_OF_DATA",
    "ReaderGone",
    "complain",
    "flush_results",
    "say",
    "say_json",
    "say_table",
    "undisturbed",
    "usable_streams",
]

_MOST_OF_A_LINE = 1_000  # characters
MOST_OF_DATA = 10_000  # characters of a line that programs or people take away
_MOST_OF_A_CELL = 80  # which all cells of its column get; in the last column a line may be longer
_MOST_OF_A_LAST_CELL = 500


class ReaderGone(BrokenPipeError):  # noqa: N818
    """Nobody reads the results any more, as after `pydnn train | head`."""


def say(*lines: object, most: int = _MOST_OF_A_LINE) -> None:
    """Print each of `lines` as one line, whatever it holds; print an empty line if there are none.

    Args:
        lines: What to print.
        most: The largest number of characters of a line; a longer one loses its middle.

    Raises:
        ReaderGone: If nobody reads the results any more.
    """
    with _noticing_that_the_reader_is_gone():
        for line in lines or ("",):
            print(printable(line, most=most))


def say_table(rows: Iterable[Sequence[object]], *, align: str) -> None:
    """Print rows of cells in columns that are two spaces apart.

    Args:
        rows: The cells of each row.
        align: "<" (left) or ">" (right) for each column.

    Raises:
        ReaderGone: If nobody reads the results any more.
    """
    mosts = [_MOST_OF_A_CELL] * (len(align) - 1) + [_MOST_OF_A_LAST_CELL]
    if align.endswith(">"):
        mosts[-1] = _MOST_OF_A_CELL
    table = [
        [printable(cell, most=most) for cell, most in zip(row, mosts, strict=True)] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True))
        say("  ".join(cells).rstrip(), most=MOST_OF_DATA)


@contextlib.contextmanager
def _noticing_that_the_reader_is_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone(*error.args) from error


def say_json(results: Json) -> None:
    """Print one JSON object in ASCII. NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(_with_nulls(results), allow_nan=False)
    with _noticing_that_the_reader_is_gone():
        print(text)


def flush_results() -> None:
    """Flush the standard output.

    If that fails, the rest is dropped, because Python would try to write it again when it ends.

    Raises:
        ReaderGone: If nobody reads the results any more.
        OSError: If they cannot be written, e.g. to a full disk.
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
    with contextlib.suppress(OSError, ValueError):  # e.g. the stream is a closed pipe
        print(f"pydnn: {printable(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Make the standard streams take any text while this context lasts.

    A missing stream, as in a service or after `>&-`, becomes the null device. Characters outside a
    stream's encoding become escapes. A warning becomes one line.
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

    Otherwise the next file to be opened would get that handle, and what libraries print would go
    into the file.
    """
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free handle


def _set_errors(stream: io.TextIOWrapper, errors: str | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # e.g. the stream is a closed pipe
        stream.reconfigure(errors=errors)


def _complain_of(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Overflows and odd text get messages of their own where they matter.
    if not issubclass(category, RuntimeWarning | SyntaxWarning):
        complain(f"{category.__name__}: {message}")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore interruptions in this context, e.g. a second one during the message for the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def _discard(stream: TextIO) -> None:
    """Send to the null device what `stream` has buffered and whatever is written to it later."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
