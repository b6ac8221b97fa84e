"""JAX with optax, compiled: each step with donated arguments, or the whole loop."""

import functools
import itertools

import jax
import numpy as np
import optax
from jax import lax
from jax import numpy as jnp


def a_call_a_step(work):
    optimizer, cost_of, batches = _parts(work)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, X, y):
        return _step(optimizer, cost_of, parameters, state, X, y)

    def begin():
        start = _start(work, optimizer)

        def turn():
            (parameters, state), costs = start, []
            for X, y in itertools.islice(itertools.cycle(batches), work.steps):
                parameters, state, cost = step(parameters, state, X, y)
                costs.append(cost)
            jax.block_until_ready((parameters, state))
            return [float(cost) for cost in costs]

        return turn

    return begin


def whole_loop(work):
    optimizer, cost_of, batches = _parts(work)
    Xs, ys = (jnp.stack(arrays) for arrays in zip(*batches, strict=True))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def loop(parameters, state, Xs, ys):
        def body(carry, k):
            X, y = Xs[k % len(Xs)], ys[k % len(ys)]
            parameters, state, cost = _step(optimizer, cost_of, *carry, X, y)
            return (parameters, state), cost

        return lax.scan(body, (parameters, state), jnp.arange(work.steps))

    def begin():
        start = _start(work, optimizer)

        def turn():
            return jax.block_until_ready(loop(*start, Xs, ys))[1].tolist()

        return turn

    return begin


def _parts(work):
    jax.config.update("jax_enable_x64", work.dtype == np.float64)
    optimizer = {
        "gradient_descent": optax.sgd(work.rate),
        "momentum": optax.sgd(work.rate, momentum=0.9),
        "adam": optax.adam(work.rate),
    }[work.optimizer]

    def cost_of(parameters, X, y):
        *hidden, (W, b) = parameters
        A = X
        for W_hidden, b_hidden in hidden:
            A = jax.nn.relu(A @ W_hidden + b_hidden)
        Z = A @ W + b
        if work.binary:
            return optax.sigmoid_binary_cross_entropy(Z[:, 0], y).mean()
        return optax.softmax_cross_entropy_with_integer_labels(Z, y).mean()

    labels = work.dtype if work.binary else np.int32
    return optimizer, cost_of, [(jnp.array(X.T), jnp.array(y, labels)) for X, y in work.batches]


def _step(optimizer, cost_of, parameters, state, X, y):
    cost, grads = jax.value_and_grad(cost_of)(parameters, X, y)
    updates, state = optimizer.update(grads, state, parameters)
    return optax.apply_updates(parameters, updates), state, cost


def _start(work, optimizer):
    parameters = [(jnp.array(W.T), jnp.array(b[:, 0])) for W, b in work.start()]
    return jax.block_until_ready((parameters, optimizer.init(parameters)))
