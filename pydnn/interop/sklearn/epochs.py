"""A training in whole epochs: a fold over the epochs of the fold over steps.

`fit`, `partial_fit` and a warm start differ only in how many epochs they take and from where, so
that 20 epochs at once, 10 and 10 more, and 20 times one give the same bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from pydnn.numerics.python_floats import sum_in_order
from pydnn.records import Batch
from pydnn.training import TrainState, TrainStep, scan
from pydnn.training.finite import ignoring_overflow
from pydnn.training.streams import Stream

__all__ = ["Epoch", "Reached", "Stopping", "train_epochs"]


@attrs.frozen
class Stopping:
    """When a training ends before its last epoch, in the rule of scikit-learn.

    Attributes:
        patience: Epochs in a row without progress, of which one more ends the training.
        tolerance: By how much a value must be smaller than the least before it to be progress.
        by_score: Whether minus the validation score is watched, and the best state kept, instead
            of the epoch's loss.
    """

    patience: float
    tolerance: float
    by_score: bool

    def goes_on(self, reached: Reached) -> bool:
        """Whether there is still patience for another epoch."""
        return reached.waited <= self.patience


@attrs.frozen(eq=False)
class Epoch:
    """What happened in one epoch, for a reader.

    Attributes:
        costs: The cost of each step.
        loss: Their mean, weighted by the numbers of examples.
        examples: How many examples the steps saw.
        measured: What was measured with the state after the epoch.
    """

    costs: tuple[float, ...]
    loss: float
    examples: int
    measured: Mapping[str, float]


@attrs.frozen(eq=False)
class Reached:
    """Where a training is after whole epochs: all that the next epoch needs.

    Attributes:
        state: The state after the last step.
        epochs: How many epochs led to it.
        best: The state with the least watched value; None before there is one.
        value: That value.
        waited: Epochs in a row without progress.
    """

    state: TrainState
    epochs: int = 0
    best: TrainState | None = None
    value: float = math.inf
    waited: int = 0

    def kept(self, stopping: Stopping) -> TrainState:
        """The state to make a model from."""
        return self.best if stopping.by_score and self.best is not None else self.state

    def after(self, state: TrainState, value: float, stopping: Stopping) -> Reached:
        """Where it is after one more epoch that led to `state`, with this watched value."""
        progress = value <= self.value - stopping.tolerance  # which NaN is not
        better = value < self.value
        return Reached(
            state,
            self.epochs + 1,
            state if better else self.best,
            value if better else self.value,
            0 if progress else self.waited + 1,
        )


def train_epochs(
    train_step: TrainStep,
    reached: Reached,
    batches: Iterable[Batch],
    *,
    per_epoch: int,
    count: int,
    stopping: Stopping,
    measure: Callable[[TrainState], Mapping[str, float]] = lambda state: {},
    through: Callable[[Stream], Stream] = lambda stream: stream,
) -> Iterator[tuple[Reached, Epoch]]:
    """Fold `train_step` over the batches of `count` epochs, yielding after each.

    Args:
        train_step: The step.
        reached: Where the training is.
        batches: Those that come next, without end.
        per_epoch: How many make an epoch.
        count: Epochs to take at most.
        stopping: What is watched. When to end before that is decided by who takes the epochs.
        measure: What is measured of the state after each epoch; "score" if that is watched.
        through: A function from stream to stream, which the steps go through.
    """
    sizes: list[int] = []

    def counted() -> Iterator[Batch]:
        for batch in batches:
            sizes.append(batch.X.shape[-1])
            yield batch

    steps = scan(train_step, reached.state, itertools.islice(counted(), count * per_epoch))
    stream = through(steps)
    for _ in range(count):
        sizes.clear()
        with ignoring_overflow():
            costs, state = [], reached.state
            for state, info in itertools.islice(stream, per_epoch):  # noqa: B007
                costs.append(info.cost)
            measured = measure(state)
        # A mean over examples, of which the last batch may have fewer.
        weighted = sum_in_order(cost * size for cost, size in zip(costs, sizes, strict=True))
        loss = weighted / sum(sizes)
        value = -measured["score"] if stopping.by_score else loss
        reached = reached.after(state, value, stopping)
        yield reached, Epoch(tuple(costs), loss, sum(sizes), measured)
