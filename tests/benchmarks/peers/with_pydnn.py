"""pydnn as its users write it: `prepare` and `make_train_step`, and the fold `scan`.

It takes part with both engines and both arithmetics. The engine changes no bit.
"""

import itertools
from importlib.util import find_spec

import attrs
import numpy as np

from peers import Absent
from pydnn import (
    Batch,
    Key,
    adam,
    average_pool,
    conv,
    dense,
    fast,
    flatten,
    gradient_descent,
    initial_state,
    lstm,
    make_train_step,
    max_pool,
    momentum,
    portable,
    relu,
    scan,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.engines import using_engine
from pydnn.jobs.job import prepare
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.stages.initializers import zeros

OPTIMIZERS = {"gradient_descent": gradient_descent, "momentum": momentum, "adam": adam}


def fold(work, *, numerics=fast, engine="numpy", stream=scan):
    train_step, start, batches = (_tutorial if work.name == "P1" else _composed)(work, numerics)

    def turn():
        with using_engine(engine):
            taken = [*itertools.islice(itertools.cycle(batches), work.steps)]
            return [info.cost for _, info in stream(train_step, start, taken)]

    return lambda: turn


def compiled(work, **options):
    if find_spec("numba") is None:
        raise Absent("numba is not installed: it is of the extra compiled")
    return fold(work, engine="compiled", **options)


def compiled_a_call_a_step(work):
    return compiled(work, stream=_a_call_a_step)


def portable_fold(work):
    return fold(work, numerics=portable)


def portable_compiled(work):
    return compiled(work, numerics=portable)


def _a_call_a_step(train_step, state, batches):
    for batch in batches:
        state, info = train_step(state, batch)
        yield state, info


def _tutorial(work, numerics):
    [batch] = batches_of(work)
    recipe = attrs.evolve(tutorial_recipe(), numerics=numerics.name, rotate=True)
    job = prepare(recipe, batch)  # the whole job; a turn takes its first steps
    return job.train_step, job.state, [job.data["train"]]


def _composed(work, numerics):
    network = network_of(work, initializer=zeros())
    optimizer = optimizer_of(work)
    train_step = make_train_step(network, loss_of(work), optimizer, numerics=numerics)
    shape = work.batches[0][0].shape[:-1]
    state = initial_state(network, optimizer, shape, key=Key(1), dtype=work.dtype)
    vector = np.concatenate([array.ravel() for layer in work.start() for array in layer])
    start = attrs.evolve(state, parameters=state.parameters.with_vector(vector))
    return train_step, start, batches_of(work)


def network_of(work, **options):
    if work.layers == "lstm":
        return serial(*map(lstm, work.sizes[1:-1]), dense(work.sizes[-1], **options))
    layers = [(dense(units, **options), relu()) for units in work.sizes[1:-1]]
    head = (*itertools.chain(*layers), dense(work.sizes[-1], **options))
    if not work.filters:
        return serial(*head)
    kernels = [conv(count, 3, padding="same", **options) for count in work.filters]
    convolutions = [(kernel, relu(), max_pool(2)) for kernel in kernels]
    return serial(average_pool(2), *itertools.chain(*convolutions), flatten(), *head)


def optimizer_of(work):
    return OPTIMIZERS[work.optimizer](learning_rate=work.rate)


def loss_of(work):
    return sigmoid_cross_entropy() if work.binary else softmax_cross_entropy()


def batches_of(work):
    pairs = ((X, y if y.ndim > 1 else y[np.newaxis]) for X, y in work.batches)
    return [Batch(X, y.astype(X.dtype)) for X, y in pairs]
