"""The fold, and functions from stream to stream.

A stream yields (state, info) after every step, and runs only as far as it is consumed. A
progress bar is not a callback here, and stopping is not a flag: each is a function that takes a
stream and gives one, so that they can be put in any order:

    toolz.pipe(
        scan(train_step, state, batches),
        partial(measure, every=100, function=evaluate),
        partial(stop_early, watch="validation cost", patience=1000),
        toolz.last,
    )
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO, TypeAlias

import attrs
import numpy as np
import toolz

from pydnn.checks import BadInput, expect_count, expect_real, import_extra
from pydnn.losses import Loss
from pydnn.metrics import METRICS, Metric, score
from pydnn.numerics import Numerics, fast
from pydnn.records import Batch, FloatArray
from pydnn.stages.base import Context, Stage
from pydnn.training.pipeline import StepInfo, TrainState
from pydnn.training.steps import output_of

__all__ = [
    "NOTHING_WATCHED",
    "Measure",
    "Stream",
    "Watched",
    "evaluation",
    "measure",
    "progress",
    "scan",
    "stop_after",
    "stop_at",
    "stop_early",
    "tee",
    "thin",
    "value_of",
    "watched_in",
]

Stream: TypeAlias = Iterator[tuple[TrainState, StepInfo]]
Measure: TypeAlias = Callable[[TrainState], Mapping[str, float]]


def scan(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, StepInfo]],
    state: TrainState,
    batches: Iterable[Batch],
) -> Stream:
    """Fold the pure `train_step` over `batches`, yielding each (state, info) as it is made.

    For full-batch training, `batches` is `itertools.repeat(batch, iterations)`.
    """
    start: tuple[TrainState, StepInfo | None] = (state, None)
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
            bar.set_postfix_str(f"cost {info.cost:.6f}", refresh=False)
            bar.update()
            yield state, info


def tee(stream: Stream, *, to: Callable[[TrainState, StepInfo], object]) -> Stream:
    """Show every pair to the function `to` before handing it on."""
    for state, info in stream:
        to(state, info)
        yield state, info


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


def measure(stream: Stream, *, every: int, function: Measure) -> Stream:
    """Add to `info.measured` what `function` finds with the state after every so many steps.

    Args:
        stream: What is measured.
        every: Steps between two measurements; the first is after so many.
        function: `(state) -> {name: number}`, e.g. an `evaluation`.
    """
    every = expect_count("every", every, hint="give a number of steps")
    return _measured(stream, every, function)


def _measured(stream: Stream, every: int, function: Measure) -> Stream:
    for state, info in stream:
        if state.iteration % every == 0:
            # Another measurement may have been there before.
            measured = {**info.measured, **function(state)}
            info = attrs.evolve(info, measured=measured)
        yield state, info


def evaluation(
    network: Stage,
    loss: Loss,
    data: Mapping[str, Batch],
    *,
    metrics: Mapping[str, Metric] | None = None,
    numerics: Numerics = fast,
) -> Measure:
    """The function from a state to cost and metrics on named data sets, outside of training.

    Args:
        network: What is judged,
        loss: by this loss,
        data: on these data sets, e.g. {"validation": batch}.
        metrics: What is told beside the cost: functions of what the loss predicts, and of
            labels. By default those of the loss's task, as `score` gives them.
        numerics: The arithmetic.

    Returns:
        `(state) -> {"validation cost": …, "validation accuracy": …}`, and so on by data set.
    """

    def evaluate(state: TrainState) -> dict[str, float]:
        found = {}
        for name, batch in data.items():
            AL = output_of(
                network,
                state.parameters,
                batch.X,
                statistics=state.statistics,
                numerics=numerics,
            )
            context = Context(numerics=numerics)
            found[f"{name} cost"] = loss(AL, batch.Y, batch.weights, context)[0]
            predictions = loss.predict(AL, context)
            if metrics is None:
                told = _scores(loss.task(len(AL)), predictions, batch.Y, numerics)
            else:
                told = {m: function(predictions, batch.Y) for m, function in metrics.items()}
            found |= {f"{name} {metric}": value for metric, value in told.items()}
        return found

    return evaluate


def _scores(
    task: str, predictions: FloatArray, Y: FloatArray, numerics: Numerics
) -> dict[str, float]:
    """The scores of a task; all nan where a prediction has left the range of numbers.

    Training may go on from there, so an evaluation on its way must not end it.
    """
    if np.isfinite(predictions).all():
        return score(task, predictions, Y, numerics=numerics)
    return dict.fromkeys(METRICS[task], math.nan)


def value_of(info: StepInfo, name: str) -> float | None:
    """The number called `name` in `info`: "cost", "gradient_norm", or observed or measured.

    None where this step does not have it.
    """
    if name in ("cost", "gradient_norm"):
        return float(getattr(info, name))
    found = info.measured.get(name, info.observed.get(name))
    return None if found is None else float(found)


# Stopping


@attrs.frozen(eq=False)
class Watched:
    """What early stopping has seen of a training so far.

    Attributes:
        best: The pair with the best value; None before there is one.
        lowest: That value, or minus it where higher is better.
        waited: Steps since then.
    """

    best: tuple[TrainState, StepInfo] | None = None
    lowest: float = math.inf
    waited: int = 0


NOTHING_WATCHED = Watched()


def stop_early(
    stream: Stream,
    *,
    watch: str,
    patience: int,
    higher_is_better: bool = False,
    least_change: float = 0.0,
    since: Watched = NOTHING_WATCHED,
) -> Stream:
    """End once the watched value has not been better for `patience` steps.

    However the stream ends, its last pair is the best one again, so that `toolz.last` hands back
    the best state. A value that is not a number is never better.

    Args:
        stream: What is watched.
        watch: Name of the value, as `value_of` takes it.
        patience: Steps without a better value after which it ends.
        higher_is_better: Whether the value is to grow, as an accuracy is.
        least_change: By how much a value must be better than the best one so far.
        since: What was seen before the stream begins, from `watched_in`.

    Raises:
        BadInput: If no step has had the value when patience has run out, or the stream ends.
    """
    patience = expect_count("patience", patience, hint="give a number of steps")
    see = _seeing(watch, higher_is_better, least_change)
    return _stopped_early(stream, watch, patience, see, since)


def watched_in(
    infos: Iterable[StepInfo],
    *,
    watch: str,
    patience: int,
    higher_is_better: bool = False,
    least_change: float = 0.0,
    state_after: Callable[[int], TrainState],
) -> Watched:
    """What `stop_early` has seen of the steps of `infos`, so that it can go on from there.

    Args:
        infos: All steps so far, in their order.
        watch: As `stop_early` takes it, and so
        patience: this,
        higher_is_better: this
        least_change: and this.
        state_after: `(iteration) -> state` after the step of that number; only asked for the best.
    """
    see = _seeing(watch, higher_is_better, least_change)
    nowhere: Any = None
    seen = NOTHING_WATCHED
    for info in infos:
        seen = see(seen, (nowhere, info))
    if seen.best is None:
        return seen
    info = seen.best[1]
    return attrs.evolve(seen, best=(state_after(info.iteration), info))


_See: TypeAlias = Callable[[Watched, tuple[TrainState, StepInfo]], Watched]


def _seeing(watch: str, higher_is_better: bool, least_change: float) -> _See:
    """The function from what was seen, and the next pair, to what is seen then."""
    least_change = expect_real("least_change", least_change, least=0, hint="0 is any change")
    sign = -1.0 if higher_is_better else 1.0

    def see(seen: Watched, pair: tuple[TrainState, StepInfo]) -> Watched:
        value = value_of(pair[1], watch)
        # The value of a step's cost belongs to the parameters before that step; the state after
        # it is what the stream has, one step further down.
        if value is None or not (seen.best is None or sign * value < seen.lowest - least_change):
            return Watched(seen.best, seen.lowest, seen.waited + 1)
        return Watched(pair, sign * value if not math.isnan(value) else math.inf)

    return see


def _stopped_early(stream: Stream, watch: str, patience: int, see: _See, seen: Watched) -> Stream:
    last: tuple[TrainState, StepInfo] | None = None
    # Patience may have run out before: then no step is taken.
    for last in stream if seen.waited < patience else ():
        yield last
        seen = see(seen, last)
        if seen.waited >= patience:
            break
    if seen.best is None and last is not None:
        raise BadInput(_nothing_to_watch(last[1], watch))
    if seen.best is None and seen.waited:
        raise BadInput(
            f"stop_early has nothing to watch: no step has had {watch!r}: watch another."
        )
    if seen.best is not None and seen.best is not last:
        yield seen.best


def _nothing_to_watch(info: StepInfo, watch: str) -> str:
    known = ["cost", "gradient_norm", *info.observed, *info.measured]
    return (
        f"stop_early has patience but nothing to watch: no step had {watch!r}, "
        f"this one has {', '.join(known)}: watch one of these, or put measure before it."
    )


def stop_at(stream: Stream, *, watch: str, target: float, higher_is_better: bool = False) -> Stream:
    """End with the first pair whose watched value is as good as `target`."""
    target = expect_real("target", target, hint="give the value to stop at")
    sign = -1.0 if higher_is_better else 1.0
    return _until(stream, lambda info: _reached(value_of(info, watch), target, sign))


def _reached(value: float | None, target: float, sign: float) -> bool:
    return value is not None and sign * value <= sign * target


def stop_after(
    stream: Stream, *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Stream:
    """End with the first pair that comes `seconds` or more after the stream began to be consumed.

    How many steps that are depends on the machine: a training that must be repeated to the bit
    is repeated by their number.
    """
    seconds = expect_real("seconds", seconds, least=0, hint="give a time in seconds")
    return _timed(stream, seconds, clock)


def _timed(stream: Stream, seconds: float, clock: Callable[[], float]) -> Stream:
    end = clock() + seconds
    yield from _until(stream, lambda info: clock() >= end)


def _until(stream: Stream, done: Callable[[StepInfo], bool]) -> Stream:
    for state, info in stream:
        yield state, info
        if done(info):
            return
