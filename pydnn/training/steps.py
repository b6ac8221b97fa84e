"""The train_step: forward, cost, backward and update, composed."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_shape
from pydnn.initializers import WeightStream
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics import Numerics, fast
from pydnn.optimizers import GradientTransformation
from pydnn.packing import Packed, pack
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Context, Shape, Stage, pull_back
from pydnn.training.pipeline import Step, StepInfo, TrainState, TrainStep, part

__all__ = ["initial_state", "make_train_step", "output_of"]


def initial_state(
    network: Stage,
    optimizer: GradientTransformation,
    shape_in: Shape,
    *,
    key: Key,
    dtype: Any = np.float64,
    weights: WeightStream | None = None,
) -> TrainState:
    """The state from which a training starts.

    Args:
        network: Initialises its parameters for examples of shape `shape_in`, e.g. (12288,).
        optimizer: Initialises its state for these.
        shape_in: Shape of one example.
        key: Where all randomness of the training is addressed.
        dtype: float64, or float32: the same numbers, rounded.
        weights: Draws every W of the network from one stream, instead of layer by layer.

    Raises:
        BadInput: If the stages do not fit each other, naming the one that does not.
    """
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise BadInput(f"dtype is {np.dtype(dtype)}, expected float64 or float32: choose one.")
    tree, _ = network.init(key.at("init"), shape_in)
    parameters = pack(tree, dtype=dtype)
    if weights is not None:
        parameters = _with_weights(parameters, weights)
    return TrainState(0, parameters, optimizer.init(parameters), key)


def make_train_step(
    network: Stage, loss: Loss, optimizer: GradientTransformation, *, numerics: Numerics = fast
) -> TrainStep:
    """Compose forward, cost, backward and update into one pure training step.

    Returns:
        `(TrainState, Batch) -> (TrainState, StepInfo)`, whose four parts can be listed,
        replaced and inserted around by name.
    """

    def context_of(step: Step) -> Context:
        # A stage that draws nothing is not made to pay for a key.
        key = step.state.key.at("step", step.state.iteration) if network.random else None
        return Context(training=True, key=key, numerics=numerics)

    @part(gives=["AL", "cache"])
    def forward(step: Step) -> Step:
        AL, cache = network.forward(step.state.parameters.tree, step.batch.X, context_of(step))
        return attrs.evolve(step, AL=AL, cache=cache)

    @part(needs=["AL"], gives=["cost", "dAL"])
    def cost(step: Step) -> Step:
        cost, dAL = loss(step.AL, step.batch.Y, Context(training=True, numerics=numerics))
        return attrs.evolve(step, cost=cost, dAL=dAL)

    @part(needs=["cache", "dAL"], gives=["grads"])
    def backward(step: Step) -> Step:
        parameters = step.state.parameters
        vector = np.empty_like(parameters.vector)
        _, tree = pull_back(
            network,
            parameters.tree,
            step.cache,
            step.dAL,
            out=parameters.layout.views(vector),
            wants_dA_prev=False,
        )
        return attrs.evolve(step, grads=Packed(freeze(vector), parameters.layout, tree))

    @part(needs=["cost", "grads"], gives=["updates", "after", "info"])
    def update(step: Step) -> Step:
        state = step.state
        context = Context(training=True, key=state.key, numerics=numerics)
        updates, optimizer_state = optimizer.update(
            step.grads.vector, state.optimizer_state, state.parameters, context
        )
        after = TrainState(
            iteration=state.iteration + 1,
            parameters=state.parameters.layout.packed(freeze(state.parameters.vector + updates)),
            optimizer_state=optimizer_state,
            key=state.key,
        )
        info = StepInfo(
            iteration=state.iteration,
            cost=step.cost,
            gradient_norm=numerics.norm(step.grads.vector),
            observed=optimizer.observe(state.optimizer_state),
        )
        return attrs.evolve(step, updates=updates, after=after, info=info)

    return TrainStep((forward, cost, backward, update))


def output_of(
    network: Stage, parameters: Packed, X: FloatArray, *, numerics: Numerics = fast
) -> FloatArray:
    """The network's output AL (n_y, m) for inputs X (n_x, m), outside of training."""
    return network.forward(parameters.tree, X, Context(numerics=numerics))[0]


def _with_weights(parameters: Packed, weights: WeightStream) -> Packed:
    """The same parameters with every W drawn from one stream, in the order of layers."""
    slots = [slot for slot in parameters.layout.slots if slot.name.endswith("W")]
    vector = parameters.vector.copy()
    drawn = weights.draw([slot.shape for slot in slots])
    for slot, W in zip(slots, drawn, strict=True):
        expect_shape(slot.name, W, slot.shape, hint="draw one array for each shape given")
        vector[slot.start : slot.stop] = W.ravel()
    return parameters.layout.packed(freeze(vector))
