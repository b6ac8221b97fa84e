"""Early stopping, and the best state of a stream."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import attrs

from pydnn.checks import BadInput, expect_count, expect_flag, expect_real
from pydnn.metrics import higher_is_better
from pydnn.training.evaluation import value_of
from pydnn.training.pipeline import StepInfo, TrainState
from pydnn.training.streams import Stream

__all__ = [
    "Watch",
    "Watched",
    "best",
    "stop_after",
    "stop_at",
    "stop_early",
    "watched_in",
    "why_ended",
]


@attrs.frozen
class Watch:
    """A value to watch during training, and when one such value is better than another.

    Attributes:
        name: The name of the value; see `value_of`.
        higher_is_better: Whether a higher value is better, as for accuracy; None to look it up in
            `metrics.higher_is_better`.
        least_change: The least improvement over the best value so far that counts as better.

    Raises:
        BadInput: If it is unknown whether a higher value is better, or `least_change` is negative.

    Example:
        >>> Watch("validation accuracy").better(0.9, best=0.8)
        True
    """

    name: str
    higher_is_better: bool | None = None
    least_change: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", higher_is_better(self.name))
        expect_flag("higher_is_better", self.higher_is_better)
        expect_real("least_change", self.least_change, least=0, hint="0 accepts any improvement")

    def iteration(self, info: StepInfo) -> int:
        """The iteration of the state that the watched value in `info` describes."""
        return info.iteration + (self.name in info.measured)

    def better(self, value: float, best: float) -> bool:
        """Whether `value` is better than the `best` value so far; NaN is never better."""
        sign = -1.0 if self.higher_is_better else 1.0
        return sign * value < (math.inf if math.isnan(best) else sign * best) - self.least_change


@attrs.frozen(eq=False)
class Watched:
    """The best value of a training so far, as a fold over its stream.

    Attributes:
        watch: The value to watch; None if only the last state matters.
        last: The state after the last step; before the first step, the initial state, if known.
        best: The state with the best value, and the info that contains the value. The state is
            None if the stream did not contain it.
        value: The best value; NaN as long as there is none.
        waited: The number of steps since the best value.

    Example:
        >>> watched = Watched(Watch("cost"))
        >>> for i, cost in enumerate([3.0, 1.0, 2.0]):
        ...     watched = watched.after(None, nn.training.StepInfo(i, cost, 1.0))
        >>> watched.value, watched.waited
        (1.0, 1)
    """

    watch: Watch | None
    last: TrainState | None = None
    best: tuple[TrainState | None, StepInfo] | None = None
    value: float = math.nan
    waited: int = 0

    def after(self, state: TrainState | None, info: StepInfo) -> Watched:
        """The record after one more step, which led to `state`."""
        value = None if self.watch is None else value_of(info, self.watch.name)
        if self.watch is None or value is None or not self._better(value):
            return Watched(self.watch, state, self.best, self.value, self.waited + 1)
        return Watched(self.watch, state, (self.described(state, info), info), value)

    def _better(self, value: float) -> bool:
        return self.best is None or (
            self.watch is not None and self.watch.better(value, self.value)
        )

    def described(self, state: TrainState | None, info: StepInfo) -> TrainState | None:
        """The state that the value in `info` describes: `state`, or the one before it."""
        if self.watch is None or self.watch.iteration(info) > info.iteration:
            return state
        # An unmeasured value such as the cost describes the state before the step, which is `last`.
        # A thinned stream does not contain the state before most of its steps.
        known = self.last is not None and self.last.iteration == info.iteration
        return self.last if known else None

    @property
    def kept(self) -> TrainState | None:
        """The best state; the last one if nothing is watched or there is no value yet."""
        return self.last if self.best is None else self.best[0]


def stop_early(
    stream: Stream,
    *,
    watch: str,
    patience: int,
    higher_is_better: bool | None = None,
    least_change: float = 0.0,
    since: Watched | None = None,
    on_watched: Callable[[Watched], object] = lambda watched: None,
) -> Stream:
    """End a stream when the watched value has not improved for `patience` steps.

    The last pair is the last step taken. `best` then gives the best state:

        state, info = toolz.pipe(
            stream,
            partial(stop_early, watch="validation cost", patience=500),
            partial(best, watch="validation cost"),
        )

    Args:
        stream: The steps of a training.
        watch: The name of the value; see `value_of`.
        patience: The number of steps without a better value after which the stream ends.
        higher_is_better: Whether a higher value is better; only needed for a name that
            `metrics.higher_is_better` does not know.
        least_change: The least improvement over the best value so far that counts as better.
        since: The record of the steps before the stream, from `watched_in`.
        on_watched: Called with the record after each step, before the pair is yielded.

    Returns:
        A stream of the same steps, which may end earlier.

    Raises:
        BadInput: If no step has the value when patience runs out or the stream ends, or if it is
            unknown whether a higher value is better.

    Example:
        >>> costs = [3.0, 2.0, 1.0, 5.0, 5.0, 0.5]
        >>> infos = [nn.training.StepInfo(i, cost, 1.0) for i, cost in enumerate(costs)]
        >>> stream = stop_early(((None, info) for info in infos), watch="cost", patience=2)
        >>> [info.cost for state, info in stream]
        [3.0, 2.0, 1.0, 5.0, 5.0]
    """
    patience = expect_count("patience", patience, hint="give a number of steps")
    watched = since or Watched(Watch(watch, higher_is_better, least_change))
    return _stopped_early(stream, watch, patience, watched, on_watched)


def _stopped_early(
    stream: Stream,
    watch: str,
    patience: int,
    watched: Watched,
    on_watched: Callable[[Watched], object],
) -> Stream:
    info: StepInfo | None = None
    # Patience may have run out before the stream begins; then no step is taken.
    for state, info in stream if watched.waited < patience else ():
        watched = watched.after(state, info)
        on_watched(watched)
        yield state, info
        if watched.waited >= patience:
            break
    if watched.best is None and (info is not None or watched.waited):
        raise BadInput(_nothing_to_watch("stop_early", watch, info))


def best(
    stream: Stream,
    *,
    watch: str,
    start: TrainState | None = None,
    higher_is_better: bool | None = None,
    least_change: float = 0.0,
) -> tuple[TrainState, StepInfo]:
    """Consume a stream and return the state with the best watched value, and its info.

    A measured value describes the state after its step. Every other value, such as "cost",
    describes the state before its step, so the best state may be the initial one: pass it as
    `start`.

    Args:
        stream: The steps of a training.
        watch: The name of the value; see `value_of`.
        start: The initial state of the stream; not needed for a measured value.
        higher_is_better: Whether a higher value is better; only needed for a name that
            `metrics.higher_is_better` does not know.
        least_change: The least improvement over the best value so far that counts as better.

    Returns:
        The best state, and the info that contains the best value.

    Raises:
        BadInput: If no step has the value, the stream lacks the state that a value describes, or
            it is unknown whether a higher value is better.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=4)
        >>> job = nn.jobs.prepare(recipe, nn.Batch([[0.0, 1.0]], [[1.0, 3.0]]))
        >>> state, info = best(nn.jobs.run(job), watch="cost", start=job.state)
        >>> state.iteration, info.iteration
        (3, 3)
    """
    watched = Watched(Watch(watch, higher_is_better, least_change), start)
    info: StepInfo | None = None
    for state, info in stream:
        if value_of(info, watch) is not None and watched.described(state, info) is None:
            advice = "thin the stream after best" if watched.last else "give best start=state"
            raise BadInput(
                f"{watch!r} of step {info.iteration} describes the state before that step, which "
                f"the stream does not have: {advice}, or watch a measured value."
            )
        watched = watched.after(state, info)
    if watched.best is None or watched.best[0] is None:
        raise BadInput(_nothing_to_watch("best", watch, info))
    return watched.best[0], watched.best[1]


def watched_in(
    infos: Iterable[StepInfo], *, watch: Watch, state_at: Callable[[int], TrainState]
) -> Watched:
    """The record of early stopping after the steps of `infos`, to continue a training from there.

    Args:
        infos: The infos of all steps so far, in order.
        watch: The value to watch.
        state_at: `(iteration) -> state` after that many steps; called for the best and last state.
    """
    watched = Watched(watch)
    count = 0
    for info in infos:
        count = info.iteration + 1
        watched = watched.after(None, info)
    last = state_at(count)
    if watched.best is None:
        return attrs.evolve(watched, last=last)
    info = watched.best[1]
    return attrs.evolve(watched, last=last, best=(state_at(watch.iteration(info)), info))


def why_ended(*, finished: bool, out_of_patience: bool) -> str:
    """Why a training ended without an error.

    Args:
        finished: Whether all steps were taken.
        out_of_patience: Whether the early stopping of its recipe ended it.

    Returns:
        "finished"; "stopped early"; or "cut short" if whoever took the steps took no more, e.g.
        after a number of seconds.

    Example:
        >>> why_ended(finished=False, out_of_patience=False)
        'cut short'
    """
    if finished:
        return "finished"
    return "stopped early" if out_of_patience else "cut short"


def _nothing_to_watch(name: str, watch: str, info: StepInfo | None) -> str:
    if info is None:
        return f"{name} has nothing to watch: no step has {watch!r}: watch another value."
    known = ["cost", "gradient_norm", *info.observed, *info.measured]
    return (
        f"{name} has nothing to watch: no step had {watch!r}, "
        f"this one has {', '.join(known)}: watch one of these, or put measure before {name}."
    )


def stop_at(
    stream: Stream, *, watch: str, target: float, higher_is_better: bool | None = None
) -> Stream:
    """End a stream with the first state whose watched value is as good as `target`.

    A measured value describes the state after its step. Every other value, such as "cost",
    describes the state before its step. For such a value, the stream holds each pair back for one
    step, and ends with the step that led to the good state; if the initial state is good enough,
    the stream is empty.

    Args:
        stream: The steps of a training.
        watch: The name of the value; see `value_of`.
        target: The value to reach.
        higher_is_better: Whether a higher value is better; only needed for a name that
            `metrics.higher_is_better` does not know.

    Returns:
        A stream of the same steps, which may end earlier.

    Raises:
        BadInput: If `target` is not a finite number, or it is unknown whether a higher value is
            better.

    Example:
        >>> infos = [nn.training.StepInfo(i, 3.0 - i, 1.0) for i in range(3)]
        >>> [info.cost for _, info in stop_at(((None, i) for i in infos), watch="cost", target=1)]
        [3.0, 2.0]
    """
    target = expect_real("target", target, hint="give the value to stop at")
    return _stopped_at(stream, Watch(watch, higher_is_better), target)


def _stopped_at(stream: Stream, watch: Watch, target: float) -> Stream:
    sign = -1.0 if watch.higher_is_better else 1.0
    held: list[tuple[TrainState, StepInfo]] = []  # the latest pair, until its value is known
    try:
        for state, info in stream:
            value = value_of(info, watch.name)
            # NaN compares as False, so it never reaches the target.
            reached = value is not None and sign * value <= sign * target
            measured = watch.iteration(info) > info.iteration
            if reached and not measured:
                break
            yield from held
            held = [(state, info)]
            if value is None or measured:
                held = []
                yield state, info
            if reached:
                break
    except Exception:
        yield from held  # pairs come before the error, e.g. NotFinite, of a later step
        raise
    yield from held


def stop_after(
    stream: Stream, *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Stream:
    """End a stream with the first pair that comes `seconds` or more after its first step began.

    The number of steps depends on the machine. To replay such a training bit for bit, repeat it
    for the same number of steps.

    Args:
        stream: The steps of a training.
        seconds: The time limit, 0 or more.
        clock: The function that returns the time in seconds.

    Returns:
        A stream of the same steps, which may end earlier.

    Raises:
        BadInput: If `seconds` is negative or not a finite number.

    Example:
        >>> ticks = iter([0.0, 1.0, 2.0, 3.0])
        >>> list(stop_after(zip("abcd", "ABCD"), seconds=2, clock=lambda: next(ticks)))
        [('a', 'A'), ('b', 'B')]
    """
    seconds = expect_real("seconds", seconds, least=0, hint="give a time in seconds")
    return _timed(stream, seconds, clock)


def _timed(stream: Stream, seconds: float, clock: Callable[[], float]) -> Stream:
    end = clock() + seconds
    for state, info in stream:
        yield state, info
        if clock() >= end:
            return
