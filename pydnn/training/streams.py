"""The fold over batches, and functions from stream to stream.

A stream yields (state, info) after every step, and takes a step only when it is asked for one. So
progress bars and early stopping are not callbacks and flags, but functions that take a stream and
return one, and they compose:

    toolz.pipe(
        scan(train_step, state, batches),
        partial(measure, every=100, function=evaluate),
        partial(stop_early, watch="validation cost", patience=1000),
        partial(best, watch="validation cost"),
    )

Streams only go forward: iteration k comes right after iteration k - 1, and only once.
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
    *,
    ahead: bool = False,
) -> Iterator[tuple[TrainState, _Info]]:
    """Fold the pure `train_step` over `batches`, yielding (state, info) after every step.

    Args:
        train_step: The step, `(state, batch) -> (state, info)`.
        state: The state from which training starts.
        batches: A batch per step; for full-batch training, `[batch] * iterations`.
        ahead: Whether an iterator may be read some batches ahead of the step. A list, and whatever
            else can be read again, always may. The compiled engine can then take several steps of a
            small network in one call. The stream is the same.

    Returns:
        A lazy stream: a step is taken only when its pair is asked for.

    Example:
        >>> add = lambda total, number: (total + number, f"added {number}")
        >>> list(scan(add, 0, [1, 2, 3]))
        [(1, 'added 1'), (3, 'added 2'), (6, 'added 3')]
    """
    folded = getattr(train_step, "folded", None)
    if folded is not None and (ahead or iter(batches) is not batches):
        yield from folded(state, batches)
        return
    start: Any = (state, None)
    # Not toolz.accumulate, which would keep the first state in memory until the stream ends.
    pairs = itertools.accumulate(batches, lambda pair, b: train_step(pair[0], b), initial=start)
    del state, start
    yield from toolz.drop(1, pairs)  # the first pair is the start, which has no info


def progress(stream: Stream, *, total: int, file: TextIO | None = None) -> Stream:
    """Show a progress bar with the current cost while a stream is consumed.

    Args:
        stream: The steps of a training.
        total: The number of steps in the stream.
        file: The file to draw the bar on; by default the standard error stream.

    Returns:
        A stream of the same steps.

    Raises:
        MissingExtra: If tqdm, from the extra `progress`, is not installed.

    Example:
        >>> import io
        >>> pairs = [("state", nn.training.StepInfo(0, cost=0.5, gradient_norm=2.0))]
        >>> len(list(progress(iter(pairs), total=1, file=io.StringIO())))
        1
    """
    tqdm = import_extra("tqdm", extra="progress", purpose="the progress bar")
    with tqdm.tqdm(total=total, unit="it", file=file or sys.stderr, leave=False) as bar:
        for state, info in stream:
            # Without a refresh, because the bar redraws itself at most ten times a second.
            bar.set_postfix_str(f"cost {fixed(info.cost, 6)}", refresh=False)
            bar.update()
            yield state, info


def tee(stream: Stream, *, to: Callable[[TrainState, StepInfo], object]) -> Stream:
    """Call `to(state, info)` for every pair of a stream before yielding it.

    Example:
        >>> costs = []
        >>> pairs = [("state", nn.training.StepInfo(0, cost=0.5, gradient_norm=2.0))]
        >>> stream = tee(iter(pairs), to=lambda state, info: costs.append(info.cost))
        >>> len(list(stream)), costs
        (1, [0.5])
    """
    for state, info in stream:
        to(state, info)
        yield state, info


class Log(Protocol):
    """A file format for the numbers of each step, e.g. that of TensorBoard."""

    def write(self, info: StepInfo) -> None:
        """Write the numbers of one step."""

    def close(self) -> None:
        """Write what is still buffered, and close the file."""


def logged(stream: Stream, log: Log) -> Generator[tuple[TrainState, StepInfo], None, None]:
    """Write every step to a log before yielding its pair, and close the log at the end.

    Example:
        >>> class Costs:
        ...     def write(self, info):
        ...         print(info.cost)
        ...     def close(self):
        ...         print("closed")
        >>> pairs = [("state", nn.training.StepInfo(0, cost=0.5, gradient_norm=2.0))]
        >>> stream = list(logged(iter(pairs), Costs()))
        0.5
        closed
    """
    with contextlib.ExitStack() as stack:
        # However this stream ends, the inner one must end before the log is closed. The stack
        # calls its functions in reverse order.
        stack.callback(log.close)
        stack.callback(getattr(stream, "close", lambda: None))
        for pair in stream:
            log.write(pair[1])
            yield pair


def thin(stream: Stream, *, every: int) -> Stream:
    """Keep the first pair of a stream, every `every`-th pair after it, and the last one.

    Raises:
        BadInput: If `every` is not an integer of at least 1.

    Example:
        >>> list(thin(iter("abcdef"), every=2))
        ['a', 'c', 'e', 'f']
    """
    every = expect_count("every", every, hint="give a number of steps")
    return _thinned(stream, every)


def _thinned(stream: Stream, every: int) -> Stream:
    held: list[tuple[TrainState, StepInfo]] = []  # the latest pair, until it is yielded
    for i, pair in enumerate(stream):
        held = [pair]
        if i % every == 0:
            held = []
            yield pair
    yield from held
