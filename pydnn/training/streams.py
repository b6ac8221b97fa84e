"""The fold, and functions from stream to stream.

A stream yields (state, info) after every step, and runs only as far as it is consumed. A
progress bar is not a callback here, and stopping is not a flag: each is a function that takes a
stream and gives one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeAlias

import toolz

from pydnn.checks import import_extra
from pydnn.records import Batch
from pydnn.training.pipeline import StepInfo, TrainState

__all__ = ["Stream", "progress", "scan"]

Stream: TypeAlias = Iterator[tuple[TrainState, StepInfo]]


def scan(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, StepInfo]],
    state: TrainState,
    batches: Iterable[Batch],
) -> Stream:
    """Fold the pure `train_step` over `batches`, yielding each (state, info) as it is made.

    For full-batch training, `batches` is `itertools.repeat(batch, iterations)`.
    """
    start: tuple[TrainState, StepInfo | None] = (state, None)
    pairs = toolz.accumulate(lambda pair, batch: train_step(pair[0], batch), batches, start)
    yield from toolz.drop(1, pairs)  # the first pair is the start, which has no info yet


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
            bar.set_postfix_str(f"cost {info.cost:.6f}", refresh=False)
            bar.update()
            yield state, info
