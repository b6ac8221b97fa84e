"""The training step, composed of forward, cost, backward and update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np
from numpy.typing import DTypeLike

from pydnn.augmentation import Augmentation, augmented
from pydnn.checks import BadInput, expect_count, expect_shape
from pydnn.engines import settle
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics import Numerics, empty, fast
from pydnn.numerics.underflow import bare
from pydnn.optimizers.base import GradientTransformation, moved, updated
from pydnn.parameters import NO_PARAMS, Packed, kernel_of, matrix_of, pack
from pydnn.penalties import Penalty
from pydnn.records import FloatArray, IntArray, freeze, scalar
from pydnn.stages.base import (
    Context,
    Shape,
    Stage,
    Statistics,
    expect_takes_lengths,
    gradients_layouts,
    into,
)
from pydnn.stages.initializers import WeightStream
from pydnn.training.pipeline import (
    Part,
    Shard,
    Step,
    StepInfo,
    TrainState,
    TrainStep,
    lighter,
    made_again_by,
    own,
)
from pydnn.training.shards import Sharding, expect_shardable

if TYPE_CHECKING:
    from pydnn.workers.interface import Executor

__all__ = ["Evaluable", "initial_state", "make_train_step", "output_of", "step_context"]


class Evaluable(Protocol):
    """A record with which a network can be evaluated, e.g. a `TrainState` or a `Model`."""

    @property
    def parameters(self) -> Packed:
        """The parameters of all stages."""

    @property
    def statistics(self) -> Packed:
        """The running statistics of all stages; empty if no stage keeps any."""


@np.errstate(under="ignore")
def initial_state(
    network: Stage,
    optimizer: GradientTransformation,
    shape_in: Shape,
    *,
    key: Key,
    dtype: DTypeLike = np.float64,
    weights: WeightStream | None = None,
    numerics: Numerics = fast,
) -> TrainState:
    """The state from which training starts.

    Args:
        network: The network.
        optimizer: The optimizer.
        shape_in: The shape of one example, e.g. (12288,).
        key: The training's key, from which all its randomness derives.
        dtype: The dtype of the parameters, float64 or float32. float32 gives the same numbers,
            rounded.
        weights: The stream that draws the weights of all layers; None if each layer draws its
            own.
        numerics: The arithmetic of `weights`.

    Raises:
        BadInput: If `dtype` is neither of these; or if the stages do not fit each other, naming the
            stage.

    Example:
        >>> state = initial_state(nn.dense(2), nn.adam(), (3,), key=nn.Key(1))
        >>> state.parameters["W"].shape
        (2, 3)
    """
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise BadInput(f"dtype is {np.dtype(dtype)}, expected float64 or float32: choose one.")
    tree, _ = network.init(key.at("init"), shape_in)
    parameters = pack(tree, dtype=dtype)
    if weights is not None:
        parameters = _with_weights(parameters, weights, key, numerics)
    gathered = network.statistics.init(parameters.tree) if network.statistics else NO_PARAMS
    statistics = pack(gathered, dtype=dtype)
    return TrainState(0, parameters, optimizer.init(parameters), key, statistics)


def step_context(
    key: Key, iteration: int, numerics: Numerics = fast, *, shard: Shard | None = None
) -> Context:
    """The context of a network's forward pass in the training step of an iteration.

    Args:
        key: The training's key.
        iteration: The number of the step, from 0.
        numerics: The arithmetic.
        shard: The shard of the batch; None for the whole batch.

    Example:
        >>> step_context(nn.Key(1), 3).training
        True
    """
    return Context(training=True, key=_key(key, iteration, shard), numerics=numerics)


def _key(key: Key, iteration: int, shard: Shard | None) -> Key:
    """The key of everything random in a step, or in one shard of it."""
    if shard is None:
        return key.at("step", iteration)
    return key.at("step", iteration, "shard", shard.number)


def make_train_step(
    network: Stage,
    loss: Loss,
    optimizer: GradientTransformation,
    *,
    penalties: Sequence[Penalty] = (),
    augment: Sequence[Augmentation] = (),
    numerics: Numerics = fast,
    shards: int = 1,
    executor: Executor | None = None,
) -> TrainStep:
    """Compose forward, cost, backward and update into one pure training step.

    With augmentations, a part *augment* before forward changes the examples of the batch. With
    penalties, a part *penalties* after backward adds them to the cost and the gradients. If
    the network keeps statistics, a part *gather* before update renews them.

    With shards, a part *gradients* cuts the batch, applies the parts augment, forward, cost,
    backward and gather to each shard, and adds the gradients in a fixed tree. These parts are
    inside it, and can be replaced, removed and inserted by name as before. To look at one of them,
    use `trace(step, state, batch, shard=0)`.

    The step does not stop at numbers that are infinite or NaN. To stop there with an error that
    names the place, as jobs from `prepare` do, insert `watch_finite`:

        step = make_train_step(network, loss, optimizer)
        step = step.insert_after("update", watch_finite(network))

    Args:
        network: The network.
        loss: The loss.
        optimizer: The optimizer.
        penalties: The penalties to add to the cost.
        augment: The random changes of the examples.
        numerics: The arithmetic.
        shards: The number of shards that each batch is cut into. It changes the last bits of the
            gradients, and every random choice inside the network, but nothing else.
        executor: Who computes the shards, e.g. `nn.workers.processes(4)`; by default the thread
            that calls the step. No bit depends on it.

    Returns:
        A function `(TrainState, Batch) -> (TrainState, StepInfo)` whose parts can be listed,
        replaced and inserted by name.

    Raises:
        BadInput: If there are shards, and a stage or the loss does not allow them.

    Example:
        >>> network = nn.dense(1, initializer=nn.constant(0.0))
        >>> optimizer = nn.gradient_descent(learning_rate=0.5)
        >>> step = make_train_step(network, nn.mean_squared(), optimizer)
        >>> state = nn.initial_state(network, optimizer, (1,), key=nn.Key(1))
        >>> state, info = step(state, nn.Batch([[1.0, 2.0]], [[3.0, 5.0]]))
        >>> info.cost, state.parameters["W"], state.parameters["b"]
        (17.0, array([[6.5]]), array([[4.]]))
        >>> make_train_step(network, nn.mean_squared(), optimizer, shards=2)
        TrainStep(gradients(forward, cost, backward), update)
    """
    shards = expect_count("shards", shards, hint="give the number of parts of each batch")
    sharded = shards > 1
    if sharded:
        expect_shardable(network, loss)
    settle()
    # `TrainStep` ignores underflow for the whole step, so the functions inside need not, and are
    # called without the wrapper that does.
    keyless = Context(training=True, numerics=numerics)
    network_forward, loss_function = bare(network.forward), bare(loss.function)
    network_backward = into(network)
    carries = network.statistics is not None and network.statistics.read_in_training
    grads_layout = gradients_layouts(network)

    @own(gives=["AL", "cache"])
    def forward(step: Step) -> Step:
        state = step.state
        # A key takes time to derive, so only networks that draw random numbers get one.
        drawing = network.random
        context = keyless
        if drawing:
            context = step_context(state.key, state.iteration, numerics, shard=step.shard)
        lengths = step.batch.lengths
        if lengths is not None or carries:
            if lengths is not None:
                expect_takes_lengths(network)
            context = Context(True, context.key, numerics, state.statistics.tree or None, lengths)
        AL, cache = network_forward(state.parameters.tree, step.batch.X, context)
        return step.with_fields(AL=AL, cache=cache)

    @own(needs=["AL"], gives=["cost", "dAL"])
    def cost(step: Step) -> Step:
        batch = step.batch
        lengths = batch.lengths
        context = keyless if lengths is None else attrs.evolve(keyless, lengths=lengths)
        cost, dAL = loss_function(step.AL, batch.Y, batch.weights, context)
        if sharded and step.shard is not None:
            share = step.shard.share
            cost, dAL = cost * share, freeze(dAL * scalar(share, dAL.dtype))
        return step.with_fields(cost=cost, dAL=dAL)

    @own(needs=["cache", "dAL"], gives=["grads"])
    def backward(step: Step) -> Step:
        parameters = step.state.parameters
        before = parameters.vector
        vector = empty(before.size, before.dtype)
        out = parameters.layout.views(vector)
        # Stages write gradients straight into the vector, without a copy each. False: nobody
        # needs the gradient of the examples, which would cost a product as large as dW.
        network_backward(parameters.tree, step.cache, step.dAL, out, False)
        return step.with_fields(grads=grads_layout(parameters.layout).packed(freeze(vector)))

    @own(
        needs=["cost", "grads"],
        gives=["updates", "after", "info"],
        isotropic=optimizer.isotropic,
    )
    @lighter("updates", function=lambda step: done(step, *moved(optimizer, *operands(step))))
    def update(step: Step) -> Step:
        updates, vector, optimizer_state = updated(optimizer, *operands(step))
        return done(step.with_fields(updates=updates), vector, optimizer_state)

    def operands(step: Step) -> tuple[FloatArray, Any, Packed, Context]:
        state = step.state
        context = keyless
        if optimizer.random:
            key = state.key.at("step", state.iteration, "update")
            context = Context(training=True, key=key, numerics=numerics)
        return step.grads.vector, state.optimizer_state, state.parameters, context

    def done(step: Step, vector: FloatArray, optimizer_state: Any) -> Step:
        state = step.state
        after = TrainState(
            state.iteration + 1,
            state.parameters.layout.packed(vector),
            optimizer_state,
            state.key,
            step.statistics if "statistics" in step.__dict__ else state.statistics,
        )
        observed = optimizer.observe(optimizer_state)
        norm = numerics.norm(step.grads.vector)
        return step.with_fields(
            after=after, info=StepInfo(state.iteration, step.cost, norm, observed)
        )

    remember = made_again_by(
        make_train_step,
        network,
        loss,
        optimizer,
        penalties=tuple(penalties),
        augment=tuple(augment),
        numerics=numerics,
        shards=shards,
    )
    computed = [*([_augment(tuple(augment))] if augment else []), forward, cost, backward]
    then = [_penalties(penalties, numerics)] if penalties else []
    if network.statistics is not None:  # what a shard saw is gathered with its own gradient
        gather = _gather(network.statistics, only_finite=optimizer.tolerates_nonfinite)
        (computed if sharded else then).append(gather)
    first = tuple(map(remember, computed))
    if sharded:
        sharding = Sharding(network, loss, optimizer, tuple(augment), numerics, shards, executor)
        first = (sharding.part(first),)
    return TrainStep((*first, *map(remember, (*then, update))))


def _augment(augmentations: tuple[Augmentation, ...]) -> Part:
    def augment(step: Step) -> Step:
        state = step.state
        key = _key(state.key, state.iteration, step.shard).at("augment")
        return step.with_fields(batch=augmented(augmentations, key, step.batch))

    return own(isotropic=False)(augment)


def _penalties(terms: Sequence[Penalty], numerics: Numerics) -> Part:
    def penalties(step: Step) -> Step:
        cost, vector = step.cost, step.grads.vector
        for term in terms:
            share, gradient = bare(term.function)(step.state.parameters, step.batch.count, numerics)
            cost, vector = cost + share, vector + gradient
        return step.with_fields(cost=cost, grads=step.grads.with_vector(freeze(vector)))

    needs = ["cost", "grads"]
    isotropic = all(term.isotropic for term in terms)
    return own(needs=needs, gives=needs, isotropic=isotropic)(penalties)


def _gather(kept: Statistics, *, only_finite: bool) -> Part:
    def gather(step: Step) -> Step:
        before = step.state.statistics
        after = before.with_tree(bare(kept.absorb)(before.tree, step.cache))
        # If training continues after a bad batch, its NaN would stay in running means forever.
        bad = only_finite and not np.isfinite(after.vector).all()
        return step.with_fields(statistics=before if bad else after)

    return own(needs=["cache"], gives=["statistics"])(gather)


def output_of(
    network: Stage,
    state: Evaluable,
    X: FloatArray,
    *,
    lengths: IntArray | None = None,
    numerics: Numerics = fast,
) -> FloatArray:
    """The network's output AL (n_out, m) for inputs X (n_x, m), outside of training.

    Args:
        network: The network.
        state: A record of the network's parameters and statistics, e.g. a `TrainState` or a
            `Model`.
        X: The network inputs, with the examples along the last axis.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.
        numerics: The arithmetic.

    Raises:
        BadInput: If `state` is a record of parameters alone, or a stage refuses X.

    Example:
        >>> network = nn.serial(nn.dense(1, initializer=nn.constant(2.0)), nn.relu())
        >>> state = nn.initial_state(network, nn.adam(), (1,), key=nn.Key(1))
        >>> output_of(network, state, np.array([[-1.0, 3.0]]))
        array([[0., 6.]])
    """
    if isinstance(state, Packed):
        raise BadInput(
            "output_of got parameters alone, expected a state, with parameters and statistics: "
            "give the state itself."
        )
    if lengths is not None:
        expect_takes_lengths(network)
    if not X.shape[-1]:  # stages may count on an example: one of zeros gives the shape for none
        one = np.zeros((*X.shape[:-1], 1), X.dtype)
        return output_of(network, state, one, numerics=numerics)[..., :0]
    statistics = state.statistics.tree or None
    context = Context(numerics=numerics, statistics=statistics, lengths=lengths)
    return network.forward(state.parameters.tree, X, context)[0]


def _with_weights(
    parameters: Packed, weights: WeightStream, key: Key, numerics: Numerics
) -> Packed:
    """The parameters with the weights of all layers drawn from one stream, in layer order."""
    slots = [slot for slot in parameters.layout.slots if slot.weights]
    vector = parameters.vector.copy()
    shapes = [matrix_of(slot.shape) for slot in slots]
    drawn = weights.draw(shapes, numerics, key=key)
    for slot, shape, W in zip(slots, shapes, drawn, strict=True):
        expect_shape(slot.name, W, shape, hint="draw one array per shape")
        vector[slot.start : slot.stop] = kernel_of(W, slot.shape).ravel()
    return parameters.layout.packed(freeze(vector))
