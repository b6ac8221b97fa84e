"""The fold, and functions from stream to stream.

A stream yields (state, info) after every step, and runs only as far as it is consumed. A
progress bar is not a callback here, and stopping is not a flag: each is a function that takes a
stream and gives one, so that they can be put in any order:

    toolz.pipe(
        scan(train_step, state, batches),
        partial(measure, every=100, function=evaluate),
        partial(stop_early, watch="validation cost", patience=1000),
        partial(best, watch="validation cost"),
    )

Streams only go forward: the step of iteration k comes after that of k - 1, once.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Protocol, TextIO, TypeAlias, TypeVar

import toolz

from pydnn.checks import expect_count, fixed, import_extra
from pydnn.records import Batch
from pydnn.training.pipeline import StepInfo, TrainState

__all__ = ["Log", "Measure", "Stream", "logged", "progress", "scan", "tee", "thin"]

_Info = TypeVar("_Info")

Stream: TypeAlias = Iterator[tuple[TrainState, StepInfo]]
Measure: TypeAlias = Callable[[TrainState], Mapping[str, float]]


def scan(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, _Info]],
    state: TrainState,
    batches: Iterable[Batch],
) -> Iterator[tuple[TrainState, _Info]]:
    """Fold the pure `train_step` over `batches`, yielding each (state, info) as it is made.

    For full-batch training, `batches` is `itertools.repeat(batch, iterations)`.
    """
    start: Any = (state, None)
    # Not toolz's, which would hold on to the first state until the last has come.
    pairs = itertools.accumulate(batches, lambda pair, b: train_step(pair[0], b), initial=start)
    del state, start
    yield from toolz.drop(1, pairs)  # the first pair is the start, which has no info yet


# Looking


def progress(stream: Stream, *, total: int, file: TextIO | None = None) -> Stream:
    """Show a bar with the current cost while `stream` is consumed, and hand its pairs on.

    Args:
        stream: What is watched.
        total: Steps to come.
        file: Where the bar is drawn; the standard error stream by default.

    Raises:
        MissingExtra: If tqdm, from the extra `progress`, is not installed.
    """
    tqdm = import_extra("tqdm", extra="progress", purpose="the progress bar")
    with tqdm.tqdm(total=total, unit="it", file=file or sys.stderr, leave=False) as bar:
        for state, info in stream:
            # Drawn with the bar's own next update, at most ten times a second.
            bar.set_postfix_str(f"cost {fixed(info.cost, 6)}", refresh=False)
            bar.update()
            yield state, info


def tee(stream: Stream, *, to: Callable[[TrainState, StepInfo], object]) -> Stream:
    """Show every pair to the function `to` before handing it on."""
    for state, info in stream:
        to(state, info)
        yield state, info


class Log(Protocol):
    """Where the numbers of steps are written, one step after the other."""

    def write(self, info: StepInfo) -> None:
        """Write the numbers of one step."""

    def close(self) -> None:
        """Write what is still in memory, and close the file."""


def logged(stream: Stream, log: Log) -> Generator[tuple[TrainState, StepInfo], None, None]:
    """Write every step to a log before its pair is handed on, and close the log at the end."""
    with contextlib.ExitStack() as stack:
        # A stream that nobody consumes any more must end first, in whatever way this one ends.
        stack.callback(log.close)
        stack.callback(getattr(stream, "close", lambda: None))
        for pair in stream:
            log.write(pair[1])
            yield pair


def thin(stream: Stream, *, every: int) -> Stream:
    """Hand on the first pair, every one that comes `every` steps after it, and the last one."""
    every = expect_count("every", every, hint="give a number of steps")
    return _thinned(stream, every)


def _thinned(stream: Stream, every: int) -> Stream:
    held: list[tuple[TrainState, StepInfo]] = []  # the latest pair, while it is not handed on
    for i, pair in enumerate(stream):
        held = [pair]
        if i % every == 0:
            held = []
            yield pair
    yield from held
