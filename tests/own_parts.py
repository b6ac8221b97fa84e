"""Parts in a user's module: all that pydnn knows about them is in the fields of their records."""

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.numerics import fast
from pydnn.optimizers.base import GradientTransformation, chain, descend, number_by_number
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import NO_PARAMS
from pydnn.records import WEIGHTS, FloatArray, arrays, freeze, scalar
from pydnn.stages.base import EVALUATION, Stage, Statistics, elementwise
from pydnn.stages.initializers import xavier_uniform

# Optimizers


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class MeanState:
    """A mean of gradients (size,), after `count` updates."""

    count: int
    mean: FloatArray


@described("optimizer")
def signs_of_mean(*, learning_rate=0.1):
    """Make steps of a fixed size, without using any helper of pydnn."""

    def init(params):
        return MeanState(0, np.zeros_like(params.vector))

    def update(grads, state, params, context=EVALUATION):
        mean = freeze((state.mean * state.count + grads) / grads.dtype.type(state.count + 1))
        updates = freeze(np.sign(mean) * grads.dtype.type(-learning_rate))
        return updates, MeanState(state.count + 1, mean)

    return GradientTransformation(
        init,
        update,
        observe=lambda state: {"learning_rate": learning_rate},
        elementwise=True,
        learning_rate=learning_rate,
        rate_last=True,
    )


@described("optimizer")
def shrunk(*, learning_rate=0.1, share=0.01):
    """Descend along gradients and toward zero: a chain with a fusible part of the user's."""

    def begin(state, dtype, numerics):
        s = scalar(share, dtype)

        def kernel(factor, g, p, u):
            np.multiply(p, s, u)
            u += g
            u *= factor

        return PendingUpdate(kernel, (), lambda: ())

    towards_zero = number_by_number(lambda params: (), begin, isotropic=True)
    return chain(towards_zero, descend(learning_rate))


@described("optimizer")
def rate_in_memory(*, learning_rate=0.1):
    """Use the learning rate twice: as the last factor, and in the state."""

    def update(grads, state, params, context=EVALUATION):
        mean = freeze(state.mean * grads.dtype.type(1 - learning_rate) + grads)
        return mean, MeanState(state.count + 1, mean)

    remembering = GradientTransformation(
        lambda params: MeanState(0, np.zeros_like(params.vector)), update, elementwise=True
    )
    return chain(remembering, descend(learning_rate))


@described("optimizer")
def undeclared(*, learning_rate=0.1):
    """Do the same as `shrunk`, without declaring any flag."""
    declared = shrunk(learning_rate=learning_rate)
    return GradientTransformation(declared.init, declared.update)


@described("optimizer")
def remembering_one_number(*, learning_rate=0.1):
    """Declare elementwise=True, with a state that is not made of vectors (size,)."""

    def update(grads, state, params, context=EVALUATION):
        return freeze(-learning_rate * grads), state

    zero = freeze(np.zeros(1))
    return GradientTransformation(lambda params: (zero,), update, elementwise=True)


# Stages


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Kernel:
    """Weights with another name than W, and a shift with the name W."""

    kernel: FloatArray = attrs.field(metadata=WEIGHTS)
    W: FloatArray


@described("stage", drawn_by=["start"])
def mixing(units, *, start=xavier_uniform()):  # noqa: B008 - frozen
    """Compute W + kernel A_prev."""

    def init(key, shape_in):
        weights = start.draw(key, (units, shape_in[0]))
        return Kernel(weights, np.broadcast_to(0.0, (units, 1))), (units,)

    def forward(params, A_prev, context):
        return freeze(context.numerics.matmul(params.kernel, A_prev) + params.W), A_prev

    def backward(params, A_prev, dA):
        grads = Kernel(fast.matmul(dA, A_prev.T), fast.sum(dA, axis=1))
        return freeze(fast.matmul(params.kernel.T, dA)), grads

    return Stage("mixing", init, forward, backward)


@described("stage")
def cube_root():
    """Compute the cube root of Z, with its slope limited to 1."""
    return elementwise(
        "cube_root",
        lambda Z, numerics: np.cbrt(Z),
        lambda dA, Z, A, numerics: dA / np.maximum(3 * A * A, 1),
    )


@described("stage")
def squared_relu():
    """Compute max(Z, 0) squared, without using any helper of pydnn."""

    def forward(params, Z, context):
        return freeze(np.square(np.maximum(Z, 0))), freeze(np.maximum(Z, 0))

    def backward(params, cache, dA):
        return freeze(dA * cache * 2), NO_PARAMS

    return Stage(
        "squared_relu", lambda key, shape: (NO_PARAMS, shape), forward, backward, elementwise=True
    )


@described("stage")
def mean_of_places():
    """Compute the mean over all places of an image (H, W, C, m), or all steps, for each channel."""

    def forward(params, A_prev, context):
        places = tuple(range(A_prev.ndim - 2))
        return freeze(np.ascontiguousarray(A_prev.mean(axis=places))), A_prev.shape

    def backward(params, shape, dA):
        share = dA.dtype.type(np.prod(shape[:-2]))
        return freeze(np.ascontiguousarray(np.broadcast_to(dA / share, shape))), NO_PARAMS

    return Stage("mean_of_places", lambda key, shape: (NO_PARAMS, shape[-1:]), forward, backward)


@described("stage")
def step_by_step(units, *, start=xavier_uniform()):  # noqa: B008 - frozen
    """Compute W + kernel A_prev at each place or step."""

    def init(key, shape_in):
        weights = start.draw(key, (units, shape_in[-1]))
        return Kernel(weights, np.broadcast_to(0.0, (units, 1))), (*shape_in[:-1], units)

    def forward(params, A_prev, context):
        return freeze(np.ascontiguousarray(params.kernel @ A_prev) + params.W), A_prev

    def backward(params, A_prev, dA):
        steps = tuple(range(dA.ndim - 2))
        weights = np.ascontiguousarray((dA @ A_prev.swapaxes(-1, -2)).sum(axis=steps))
        grads = Kernel(weights, dA.sum(axis=(*steps, -1)).reshape(-1, 1))
        return freeze(np.ascontiguousarray(params.kernel.T @ dA)), grads

    return Stage("step_by_step", init, forward, backward, lengths="kept")


@described("stage")
def last_step():
    """Return the last valid step of each sequence (T, n, m)."""

    def forward(params, A_prev, context):
        T, _, m = A_prev.shape
        last = np.full(m, T - 1) if context.lengths is None else context.lengths - 1
        A = A_prev[last, :, np.arange(m)].T
        return freeze(np.ascontiguousarray(A)), (last, A_prev.shape)

    def backward(params, cache, dA):
        last, shape = cache
        dA_prev = np.zeros(shape, dA.dtype)
        dA_prev[last, :, np.arange(shape[-1])] = dA.T
        return freeze(dA_prev), NO_PARAMS

    return Stage(
        "last_step", lambda key, shape: (NO_PARAMS, shape[1:]), forward, backward, lengths="ended"
    )


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Total:
    """The state that `running_total` carries from batch to batch, (n, m)."""

    total: FloatArray


@described("stage")
def running_total(features, examples):
    """Add up the steps of a sequence, from the total that the batch before ended with."""

    def forward(params, A_prev, context):
        before = 0
        if context.training:
            if A_prev.shape[-1] != examples:
                raise BadInput(f"got {A_prev.shape[-1]} examples, expected {examples}.")
            before = context.statistics.total
        A = freeze(np.cumsum(A_prev, axis=0) + before)
        return A, A[-1]

    def backward(params, cache, dA):
        return freeze(np.cumsum(dA[::-1], axis=0)[::-1].copy()), NO_PARAMS

    statistics = Statistics(
        lambda params: Total(np.zeros((features, examples))),
        lambda before, cache: Total(freeze(cache / 2)),
        read_in_training=True,
    )
    return Stage(
        "running_total",
        lambda key, shape: (NO_PARAMS, shape),
        forward,
        backward,
        statistics=statistics,
        lengths="kept",
    )
