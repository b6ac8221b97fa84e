"""pydnn as its users write it: `prepare` and `make_train_step`, and the fold `scan`."""

import itertools

import attrs
import numpy as np

from pydnn import (
    Batch,
    Key,
    adam,
    average_pool,
    conv,
    dense,
    flatten,
    gradient_descent,
    initial_state,
    lstm,
    make_train_step,
    max_pool,
    momentum,
    relu,
    scan,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.jobs.job import prepare
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.stages.initializers import zeros

OPTIMIZERS = {"gradient_descent": gradient_descent, "momentum": momentum, "adam": adam}


def fold(work):
    train_step, start, batches = (_tutorial if work.name == "P1" else _composed)(work)

    def turn():
        stream = scan(train_step, start, itertools.islice(itertools.cycle(batches), work.steps))
        return [info.cost for _, info in stream]

    return lambda: turn


def _tutorial(work):
    [batch] = batches_of(work)
    job = prepare(tutorial_recipe(), batch)  # the whole job; a turn takes its first steps
    return job.train_step, job.state, [job.data["train"]]


def _composed(work):
    network = network_of(work, initializer=zeros())
    optimizer = optimizer_of(work)
    train_step = make_train_step(network, loss_of(work), optimizer)
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
