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

__all__ = ["Watch", "Watched", "best", "stop_after", "stop_at", "stop_early", "watched_in"]


# Watching a value, and stopping


@attrs.frozen
class Watch:
    """A value to watch during a training, and which of two values is the better one.

    Attributes:
        name: Of the value, as `value_of` takes it.
        higher_is_better: Whether the value should grow, as an accuracy should; None where
            `metrics.higher_is_better` knows.
        least_change: By how much a value must be better than the best one before it.
    """

    name: str
    higher_is_better: bool | None = None
    least_change: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", higher_is_better(self.name))
        expect_flag("higher_is_better", self.higher_is_better)
        expect_real("least_change", self.least_change, least=0, hint="0 is any change")

    def iteration(self, info: StepInfo) -> int:
        """The iteration of the state that the value in `info` describes."""
        return info.iteration + (self.name in info.measured)

    def better(self, value: float, best: float) -> bool:
        """Whether `value` is better than the `best` one so far; NaN is never better."""
        sign = -1.0 if self.higher_is_better else 1.0
        return sign * value < (math.inf if math.isnan(best) else sign * best) - self.least_change


@attrs.frozen(eq=False)
class Watched:
    """What was watched in a training so far: a fold over the pairs of its stream.

    Attributes:
        watch: The value; None where only the last state matters.
        last: The state after the last step; before any step, the state that training starts
            from, if it is known.
        best: The state with the best value, and the info that holds this value. The state is
            None if the stream did not contain it.
        value: The best value; NaN before there is one.
        waited: Steps since then.
    """

    watch: Watch | None
    last: TrainState | None = None
    best: tuple[TrainState | None, StepInfo] | None = None
    value: float = math.nan
    waited: int = 0

    def after(self, state: TrainState | None, info: StepInfo) -> Watched:
        """What was watched including the step that led to `state`."""
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
        # A thinned stream lacks the state before most of its steps.
        known = self.last is not None and self.last.iteration == info.iteration
        return self.last if known else None

    @property
    def kept(self) -> TrainState | None:
        """The best state; the last one where nothing is watched or no value was there yet."""
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
    """End once the watched value has not been better for `patience` steps.

    The stream ends with the last step that was taken. For the best state, see `best`:

        state, info = toolz.pipe(
            stream,
            partial(stop_early, watch="validation cost", patience=500),
            partial(best, watch="validation cost"),
        )

    Args:
        stream: The steps of a training.
        watch: Name of the value, as `value_of` takes it.
        patience: Steps without a better value after which the stream ends.
        higher_is_better: Whether the value should grow; only needed for a name that
            `metrics.higher_is_better` does not know.
        least_change: By how much a value must be better than the best one before it.
        since: What was watched before the stream begins, from `watched_in`.
        on_watched: Called with what was watched up to each pair, before the pair is handed on.

    Raises:
        BadInput: If no step has the value when patience runs out or the stream ends, or whether
            higher is better is not known.
    """
    patience = expect_count("patience", patience, hint="give a number of steps")
    seen = since or Watched(Watch(watch, higher_is_better, least_change))
    return _stopped_early(stream, watch, patience, seen, on_watched)


def _stopped_early(
    stream: Stream,
    watch: str,
    patience: int,
    seen: Watched,
    on_watched: Callable[[Watched], object],
) -> Stream:
    info: StepInfo | None = None
    # Patience may have run out before: then no step is taken.
    for state, info in stream if seen.waited < patience else ():
        seen = seen.after(state, info)
        on_watched(seen)
        yield state, info
        if seen.waited >= patience:
            break
    if seen.best is None and (info is not None or seen.waited):
        raise BadInput(_nothing_to_watch("stop_early", watch, info))


def best(
    stream: Stream,
    *,
    watch: str,
    start: TrainState | None = None,
    higher_is_better: bool | None = None,
    least_change: float = 0.0,
) -> tuple[TrainState, StepInfo]:
    """Consume `stream` and return the state with the best watched value, and the info with it.

    A measured value describes the state after its step. Every other value, such as "cost",
    describes the state before its step, so the best state may be the one that training starts
    from: give it as `start`.

    Args:
        stream: The steps of a training.
        watch: Name of the value, as `value_of` takes it.
        start: The state from which the stream starts; not needed for a measured value.
        higher_is_better: Whether the value should grow; only needed for a name that
            `metrics.higher_is_better` does not know.
        least_change: By how much a value must be better than the best one before it.

    Raises:
        BadInput: If no step has the value, the stream lacks a state that a value describes, or
            whether higher is better is not known.
    """
    seen = Watched(Watch(watch, higher_is_better, least_change), start)
    info: StepInfo | None = None
    for state, info in stream:
        if value_of(info, watch) is not None and seen.described(state, info) is None:
            advice = "thin the stream after best" if seen.last else "give best start=state"
            raise BadInput(
                f"{watch!r} of step {info.iteration} describes the state before that step, which "
                f"the stream does not have: {advice}, or watch a measured value."
            )
        seen = seen.after(state, info)
    if seen.best is None or seen.best[0] is None:
        raise BadInput(_nothing_to_watch("best", watch, info))
    return seen.best[0], seen.best[1]


def watched_in(
    infos: Iterable[StepInfo], *, watch: Watch, state_at: Callable[[int], TrainState]
) -> Watched:
    """What was watched in the steps of `infos`, so that a training can go on from there.

    Args:
        infos: All steps so far, in their order.
        watch: The value.
        state_at: `(iteration) -> state` after that many steps; called for the best and the last.
    """
    seen = Watched(watch)
    count = 0
    for info in infos:
        count = info.iteration + 1
        seen = seen.after(None, info)
    last = state_at(count)
    if seen.best is None:
        return attrs.evolve(seen, last=last)
    info = seen.best[1]
    return attrs.evolve(seen, last=last, best=(state_at(watch.iteration(info)), info))


def _nothing_to_watch(name: str, watch: str, info: StepInfo | None) -> str:
    if info is None:
        return f"{name} has nothing to watch: no step has {watch!r}: watch another value."
    known = ["cost", "gradient_norm", *info.observed, *info.measured]
    return (
        f"{name} has nothing to watch: no step had {watch!r}, "
        f"this one has {', '.join(known)}: watch one of these, or put measure before it."
    )


def stop_at(
    stream: Stream, *, watch: str, target: float, higher_is_better: bool | None = None
) -> Stream:
    """End with the first state whose watched value is as good as `target`.

    A measured value describes the state after its step. Every other value, such as "cost",
    describes the state before its step: the stream then lags one step behind, and ends with the
    step that led to this state. It is empty if the state before the first step is good enough.

    Args:
        stream: The steps of a training.
        watch: Name of the value, as `value_of` takes it.
        target: The value to reach.
        higher_is_better: Whether the value should grow; only needed for a name that
            `metrics.higher_is_better` does not know.
    """
    target = expect_real("target", target, hint="give the value to stop at")
    return _stopped_at(stream, Watch(watch, higher_is_better), target)


def _stopped_at(stream: Stream, watch: Watch, target: float) -> Stream:
    sign = -1.0 if watch.higher_is_better else 1.0
    held: list[tuple[TrainState, StepInfo]] = []  # the latest pair, until its value is known
    try:
        for state, info in stream:
            value = value_of(info, watch.name)
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
        yield from held  # an error, such as NotFinite, comes after all pairs before it
        raise
    yield from held


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
    for state, info in stream:
        yield state, info
        if clock() >= end:
            return
