"""Shards: a batch is cut into a fixed number of parts, and their gradients added in a fixed tree.

Each shard is a pure function of the state, its own examples and its number, so it does not matter
who computes it, or in which order. The number of shards is part of the recipe: it changes the last
bits of a training, and the number of workers does not.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pydnn.augmentation import Augmentation
from pydnn.batches import together
from pydnn.checks import BadInput, expect_count
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics import Numerics
from pydnn.numerics.blas_threads import using_blas_threads
from pydnn.numerics.python_floats import sum_in_order
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.optimizers.base import GradientTransformation
from pydnn.records import Batch, Examples, FloatArray, arrays, freeze, maker_of
from pydnn.stages.base import Shape, Stage, gradients_layouts
from pydnn.training.pipeline import (
    Part,
    Shard,
    Step,
    StepFunction,
    TrainState,
    composed,
    expect_fit,
)
from pydnn.training.selected import Selected

if TYPE_CHECKING:
    from pydnn.workers.interface import Executor

__all__ = [
    "ShardResult",
    "Sharding",
    "add_up",
    "examples_of_shard",
    "expect_shardable",
    "gradient_of_shard",
]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ShardResult:
    """What a shard, or the sum of several, contributes to a step.

    Attributes:
        cost: The cost of the shard's examples times their share in the weight of the batch.
        vector: The gradient of that cost, in the layout of the parameters.
        statistics: The running statistics after the shard; None if the network keeps none.

    Example:
        >>> ShardResult(0.5, np.array([1.0, 2.0]))
        ShardResult(cost=0.5, vector=float64 (2,), statistics=None)
    """

    cost: float
    vector: FloatArray
    statistics: FloatArray | None = None

    @classmethod
    def of(cls, record: Step) -> ShardResult:
        """Return what a shard contributes, from its record after all parts inside *gradients*."""
        statistics = record.statistics.vector if "statistics" in record.__dict__ else None
        return cls(record.cost, record.grads.vector, statistics)

    def __add__(self, other: ShardResult) -> ShardResult:
        mine, its = self.statistics, other.statistics
        return ShardResult(
            self.cost + other.cost,
            freeze(self.vector + other.vector),
            None if mine is None or its is None else freeze(mine + its),
        )


def add_up(results: Iterable[ShardResult]) -> ShardResult:
    """Add results in a fixed tree: (0, 1), (2, 3) and so on, then these sums in the same way.

    An odd one out moves up unchanged. The results may come one by one: of S results, at most
    log2(S) + 2 are in memory at the same time.

    Raises:
        BadInput: If there are no results.

    Example:
        >>> vectors = ([1e16], [1.0], [-1e16])  # ((1e16 + 1) - 1e16), and 1e16 + 1 is 1e16
        >>> add_up(ShardResult(0.0, np.array(vector)) for vector in vectors).vector
        array([0.])
    """
    sums: list[tuple[int, ShardResult]] = []  # the height of each sum in the tree, and the sum
    for result in results:
        height = 0
        while sums and sums[-1][0] == height:
            result = sums.pop()[1] + result
            height += 1
        sums.append((height, result))
    if not sums:
        raise BadInput("there are no results to add, expected one or more: give those of shards.")
    total = sums.pop()[1]
    while sums:
        total = sums.pop()[1] + total
    return total


def gradient_of_shard(
    gradients: Part, state: TrainState, examples: Batch, shard: Shard
) -> ShardResult:
    """Compute the cost and gradient of one shard: a pure function, which any worker can call.

    Args:
        gradients: The part *gradients* of a step, with forward, cost and backward inside it.
        state: The state before the step. No part reads the state of the optimizer.
        examples: The examples of the shard alone, from `examples_of_shard`.
        shard: The number of the shard, and its share in the weight of the batch.

    Raises:
        BadInput: If the part has no parts inside.

    Example:
        >>> network, optimizer = nn.dense(1, initializer=nn.constant(0.0)), nn.adam()
        >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer, shards=2)
        >>> state = nn.initial_state(network, optimizer, (1,), key=nn.Key(1))
        >>> batch = nn.Batch([[1.0, 2.0]], [[3.0, 5.0]])
        >>> second = nn.training.Shard(1, 2, share=0.5)
        >>> gradient_of_shard(step.parts[0], state, examples_of_shard(batch, 1, 2), second).cost
        12.5
    """
    if gradients.inside is None:
        raise BadInput(
            f"part {gradients.name!r} has no parts inside, expected gradients of a step with "
            "shards: give step.parts[0]."
        )
    run = gradients.inside.alone(composed(gradients.parts))
    return ShardResult.of(run(Step(state, examples, shard)))


def examples_of_shard(batch: Batch, shard: int, shards: int) -> Batch:
    """Return the examples of one shard: those from shard m // shards to (shard + 1) m // shards.

    Each example is contiguous in memory, as it is for a worker that received only these examples.
    Another memory order would give other last bits.

    Args:
        batch: The whole batch, of m examples.
        shard: The number of the shard, from 0.
        shards: The number of shards.

    Example:
        >>> batch = nn.Batch([[0, 1, 2, 3, 4]], [[0, 0, 1, 1, 1]])
        >>> [examples_of_shard(batch, shard, 2).X.tolist() for shard in (0, 1)]
        [[[0.0, 1.0]], [[2.0, 3.0, 4.0]]]
    """
    m = batch.X.shape[-1]
    return examples_between(batch, shard * m // shards, (shard + 1) * m // shards)


def examples_between(batch: Batch, start: int, stop: int) -> Batch:
    """Return the examples of a batch from number `start` to `stop`, contiguous in memory."""
    own = slice(start, stop)
    X, Y, weights = (
        None if array is None else freeze(together(array[..., own]))
        for array in (batch.X, batch.Y, batch.weights)
    )
    examples: Batch = _batch(X, Y, weights, None if batch.lengths is None else batch.lengths[own])
    return examples


_batch = maker_of(Batch)  # without checks, because examples of a batch form a batch


@attrs.frozen(eq=False)
class Sharding:
    """What the part *gradients* does with the parts inside it, for each shard of a batch.

    Attributes:
        network: The network.
        loss: The loss.
        optimizer: The optimizer, which says whether statistics may hold NaN.
        augment: The random changes of the examples.
        numerics: The arithmetic.
        shards: The number of shards.
        made: The functions of the parts that `make_train_step` put inside.
        executor: What computes the shards; None for the thread that calls the step. No bit depends
            on it, and a pickled step has no executor.
    """

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    augment: tuple[Augmentation, ...]
    numerics: Numerics
    shards: int
    executor: Executor | None = attrs.field(default=None, repr=False)
    made: list[StepFunction] = attrs.field(init=False, factory=list, repr=False)
    _shapes: dict[Shape, Shape] = attrs.field(init=False, factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (getattr(self, f.name) for f in attrs.fields(Sharding) if f.init)
        return Sharding, tuple(values)[:-1]

    def part(self, parts: tuple[Part, ...]) -> Part:
        """Return the part *gradients*, which applies these parts to each shard."""
        gives = ["cost", "grads"]
        if self.network.statistics is not None:
            gives.append("statistics")
        expect_fit(parts, gives, of="a shard")
        if not self.made:  # the parts that `make_train_step` made
            self.made[:] = [p.function for p in parts]
        results, layout_of = self._results_of(parts), gradients_layouts(self.network)

        def gradients(step: Step) -> Step:
            state, batch = step.state, step.batch
            total = add_up(results(state, batch, self.shares(batch)))
            fields: dict[str, object] = {
                "cost": total.cost,
                "grads": layout_of(state.parameters.layout).packed(total.vector),
                "shards": Records(parts, self, state, batch),
            }
            if total.statistics is not None:
                mean = total.statistics / total.statistics.dtype.type(self.shards)
                fields["statistics"] = state.statistics.with_vector(freeze(mean))
            return step.with_fields(**fields)

        return Part(
            "gradients",
            gradients,
            gives=frozenset([*gives, "shards"]),
            isotropic=all(p.isotropic for p in parts),
            trusted=True,
            rotated=any(p.rotated for p in parts),
            parts=parts,
            inside=self,
        )

    def keeps(self, examples: Examples) -> bool:
        """Return whether those who compute the shards should receive all examples once."""
        if self.executor is None or not self.executor.keeps(0):
            return False
        from pydnn.training.shard_tasks import bytes_once  # only few trainings need workers

        size = bytes_once(examples)
        return size is not None and self.executor.keeps(size)

    def computed_by(self, executor: Executor | None) -> Sharding:
        """Return the same with another executor."""
        sharding = attrs.evolve(self, executor=executor)
        sharding.made[:] = self.made
        return sharding

    def _results_of(
        self, parts: tuple[Part, ...]
    ) -> Callable[[TrainState, Batch, list[float]], Iterable[ShardResult]]:
        """The function that computes the results of all shards, one by one or by the executor."""
        if self.executor is not None:
            from pydnn.training.shard_tasks import results_by  # only few trainings need workers

            return results_by(self.executor, self, parts)
        run = self.alone(composed(parts))
        return lambda state, batch, shares: (
            ShardResult.of(run(self._started(state, batch, s, shares))) for s in range(self.shards)
        )

    def alone(self, function: StepFunction) -> StepFunction:
        """Return the function with one BLAS thread, unless no bit depends on their number."""
        if self.numerics.exact:
            return function

        def in_one_thread(step: Step) -> Step:
            with using_blas_threads(1):
                return function(step)

        return in_one_thread

    @ignoring_underflow
    def started(self, state: TrainState, batch: Batch, shard: int) -> Step:
        """Return the record with which the parts inside begin on one shard of the batch.

        Raises:
            BadInput: If there is no such shard, or the batch has fewer examples than shards.
        """
        hint = "shards are numbered from 0"
        shard = expect_count("shard", shard, least=0, most=self.shards - 1, hint=hint)
        return self._started(state, batch, shard, self.shares(batch))

    def _started(self, state: TrainState, batch: Batch, shard: int, shares: list[float]) -> Step:
        examples = examples_of_shard(batch, shard, self.shards)
        return Step(state, examples, Shard(shard, self.shards, shares[shard]))

    def shares(self, batch: Batch) -> list[float]:
        """Return the share of each shard in the weight of the whole batch.

        If all weights of the batch are 0, all shares are 0.

        Raises:
            BadInput: If the batch has fewer examples than shards.
        """
        m, shape_in = batch.count, batch.shape
        if isinstance(batch, Selected):
            batch = batch.without_inputs()  # the shares need labels and weights, but not X
        if m < self.shards:
            raise BadInput(
                f"a batch has {m} examples, expected one or more for each of {self.shards} shards: "
                "choose fewer shards, larger batches, or keep_last=False."
            )
        weights = self._weights(batch, shape_in)
        total = sum_in_order(weights)
        if batch.weights is not None and not _SMALLEST < total < sys.float_info.max:
            # The sum overflows or is too small to be exact. Only ratios matter, so rescale.
            most = batch.weights.max()
            if most > 0:
                weights = self._weights(attrs.evolve(batch, weights=batch.weights / most), shape_in)
                total = sum_in_order(weights)
        return [weight / total if total else 0.0 for weight in weights]

    def _weights(self, batch: Batch, shape_in: Shape) -> list[float]:
        if shape_in not in self._shapes:
            self._shapes[shape_in] = self.network.init(Key(0), shape_in)[1]
        shape_out = self._shapes[shape_in]
        m = batch.count
        bounds = [shard * m // self.shards for shard in range(self.shards + 1)]
        parts = (batch.take(slice(*ends)) for ends in itertools.pairwise(bounds))
        return [self.loss.weight_of((*shape_out, p.count), p, self.numerics) for p in parts]


@attrs.frozen(eq=False)
class Records(Sequence[Step]):
    """The records of the shards of a step, each computed again when it is asked for."""

    parts: tuple[Part, ...]
    sharding: Sharding
    state: TrainState
    batch: Batch = attrs.field(repr=False)

    def __len__(self) -> int:
        return self.sharding.shards

    def __getitem__(self, shard: int) -> Step:  # type: ignore[override]
        if not 0 <= shard < len(self):
            raise IndexError(shard)
        run = ignoring_underflow(self.sharding.alone(composed(self.parts)))
        return run(self.sharding.started(self.state, self.batch, shard))


_SMALLEST = sys.float_info.min / sys.float_info.epsilon


def expect_shardable(network: Stage, loss: Loss) -> None:
    """Refuse a network or a loss for which shards would not add up to the batch.

    Raises:
        BadInput: If a stage mixes examples and does not say that it may do so per shard, or carries
            a state from batch to batch, or the loss is not a mean over examples.

    Example:
        >>> expect_shardable(nn.serial(nn.dense(3), nn.batch_norm()), nn.mean_squared())
        Traceback (most recent call last):
        pydnn.checks.BadInput: shards do not fit the network: batch_norm mixes all examples ...
    """
    if loss.mixes_examples:
        raise BadInput(
            f"shards do not fit the loss: {loss.name} is not a mean over examples, so the costs of "
            "shards do not add up to that of the batch: leave shards out."
        )
    for stage in _innermost(network):
        if stage.statistics is not None and stage.statistics.read_in_training:
            raise BadInput(
                f"shards do not fit the network: {stage.name} carries a state from batch to batch: "
                "leave shards out."
            )
        if stage.mixes_examples and not stage.per_shard:
            raise BadInput(
                f"shards do not fit the network: {stage.name} mixes all examples of a batch: leave "
                "shards out, or use a stage that does not, e.g. layer_norm() or "
                "batch_norm(per_shard=True), which normalizes each shard."
            )


def _innermost(stage: Stage) -> Iterable[Stage]:
    """The stages of a network, without combinators that only behave like the stages in them."""
    inner = [s for part in stage.parts for s in _innermost(part)]
    mixes = stage.mixes_examples and not any(s.mixes_examples for s in inner)
    yield from ([*inner, stage] if mixes or not inner else inner)
