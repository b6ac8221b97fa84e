"""Correct stages, losses and optimizers, written plainly, for tests to plant faults in.

Each is one builder, whose source a test edits before running it.
"""

import math

import attrs
import numpy as np

from pydnn import GradientTransformation, Loss, Stage
from pydnn.checks import expect_shape
from pydnn.records import FloatArray, arrays, freeze, readonly
from pydnn.stages import EVALUATION, Statistics
from pydnn.training import Part


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Affine:
    W: FloatArray
    b: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Scale:
    g: FloatArray
    s: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Slope:
    a: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Running:
    mean: FloatArray
    variance: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Recurrence:
    W: FloatArray
    U: FloatArray
    b: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Before:
    a: FloatArray


def affine(units=3):
    def init(key, shape):
        W = key.at("W").normal((units, shape[0]))
        return Affine(W, np.zeros((units, 1))), (units,)

    def forward(params, A_prev, context):
        Z = params.W @ A_prev + params.b
        return freeze(Z), A_prev

    def backward(params, A_prev, dZ):
        dW = dZ @ A_prev.T
        db = dZ.sum(axis=1, keepdims=True)
        dA_prev = params.W.T @ dZ
        return freeze(dA_prev), Affine(freeze(dW), freeze(db))

    return Stage("affine", init, forward, backward)


def rectifier():
    def forward(params, Z, context):
        A = np.maximum(Z, 0)
        return freeze(A), freeze(Z > 0)

    def backward(params, mask, dA):
        dZ = dA * mask
        return freeze(dZ), ()

    return Stage("rectifier", lambda key, shape: ((), shape), forward, backward)


def learned_slope():
    def init(key, shape):
        return Slope(np.full((shape[0], 1), 0.25)), shape

    def forward(params, Z, context):
        A = np.where(Z > 0, Z, params.a * Z)
        return freeze(A), Z

    def backward(params, Z, dA):
        below = Z < 0
        da = (dA * Z * below).sum(axis=1, keepdims=True)
        dZ = np.where(below, params.a * dA, dA)
        return freeze(dZ), Slope(freeze(da))

    return Stage("learned_slope", init, forward, backward)


def largest_of_two():
    def forward(params, Z, context):
        top, low = Z[0::2], Z[1::2]
        A = np.maximum(top, low)
        return freeze(A), freeze(top >= low)

    def backward(params, first, dA):
        dZ = np.empty((2 * len(dA), dA.shape[1]), dA.dtype)
        dZ[0::2] = np.where(first, dA, 0)
        dZ[1::2] = np.where(first, 0, dA)
        return freeze(dZ), ()

    return Stage("largest_of_two", lambda key, shape: ((), (shape[0] // 2,)), forward, backward)


def shares():
    def forward(params, Z, context):
        E = np.exp(Z - Z.max(axis=0))
        A = E / E.sum(axis=0)
        return freeze(A), A

    def backward(params, A, dA):
        dZ = A * (dA - (dA * A).sum(axis=0))
        return freeze(dZ), ()

    return Stage("shares", lambda key, shape: ((), shape), forward, backward)


def drop(keep=0.6):
    def forward(params, A_prev, context):
        if not context.training:
            return freeze(A_prev.copy()), None
        kept = context.key.uniform(A_prev.shape) < keep
        D = (kept / keep).astype(A_prev.dtype)
        return freeze(A_prev * D), freeze(D)

    def backward(params, D, dA):
        dA_prev = dA.copy() if D is None else dA * D
        return freeze(dA_prev), ()

    return Stage("drop", lambda key, shape: ((), shape), forward, backward, random=True)


def normalize(epsilon=1e-3):
    def init(key, shape):
        return Scale(np.ones((shape[0], 1)), np.zeros((shape[0], 1))), shape

    def forward(params, Z, context):
        running = context.statistics
        training = context.training
        mean = Z.mean(axis=1, keepdims=True) if training else running.mean
        variance = Z.var(axis=1, keepdims=True) if training else running.variance
        root = np.sqrt(variance + Z.dtype.type(epsilon))
        N = (Z - mean) / root
        A = params.g * N + params.s
        return freeze(A), (freeze(N), freeze(root), readonly(mean), readonly(variance), training)

    def backward(params, cache, dA):
        N, root, _, _, training = cache
        dg = (dA * N).sum(axis=1, keepdims=True)
        ds = dA.sum(axis=1, keepdims=True)
        dN = dA * params.g
        if training:
            m = N.shape[1]
            dN = (
                dN - dN.sum(axis=1, keepdims=True) / m - N * (dN * N).sum(axis=1, keepdims=True) / m
            )
        dZ = dN / root
        return freeze(dZ), Scale(freeze(dg), freeze(ds))

    def before(params):
        return Running(np.zeros_like(params.g), np.ones_like(params.g))

    def absorb(running, cache):
        _, _, mean, variance, _ = cache
        new_mean = 0.9 * running.mean + 0.1 * mean
        new_variance = 0.9 * running.variance + 0.1 * variance
        return Running(freeze(new_mean), freeze(new_variance))

    return Stage("normalize", init, forward, backward, statistics=Statistics(before, absorb))


def twice():
    """Two drops in sequence, as a user's own combinator."""
    first, second = drop(), drop()

    def forward(params, A, context):
        A, one = first.forward((), A, context.below(0))
        A, two = second.forward((), A, context.below(1))
        return A, (one, two)

    def backward(params, caches, dA):
        one, two = caches
        dA, _ = second.backward((), two, dA)
        dA, _ = first.backward((), one, dA)
        return dA, ((), ())

    return Stage(
        "twice", lambda key, shape: (((), ()), shape), forward, backward, random=True,
        parts=(first, second), rebuild=rebuild_twice,
    )  # fmt: skip


def rebuild_twice(first, second):
    def forward(params, A, context):
        A, one = first.forward((), A, context.below(0))
        A, two = second.forward((), A, context.below(1))
        return A, (one, two)

    return attrs.evolve(twice(), forward=forward, parts=(first, second))


# Stages of sequences (T, n, m)


def slide(filters=2, width=2):
    """A convolution over the steps."""

    def init(key, shape):
        W = key.at("W").normal((filters, width * shape[1]))
        return Affine(W, np.zeros((filters, 1))), (shape[0] - width + 1, filters)

    def forward(params, X, context):
        T = len(X) - width + 1
        rows = np.concatenate([X[k : k + T] for k in range(width)], axis=1)
        Z = params.W @ rows + params.b
        return freeze(Z), freeze(rows)

    def backward(params, rows, dZ):
        T, n, m = len(rows), rows.shape[1] // width, rows.shape[2]
        dW = (dZ @ rows.swapaxes(1, 2)).sum(axis=0)
        db = dZ.sum(axis=(0, 2))[:, np.newaxis]
        drows = params.W.T @ dZ
        dX = np.zeros((T + width - 1, n, m), rows.dtype)
        for k in range(width):
            dX[k : k + T] += drows[:, n * k : n * (k + 1)]
        return freeze(dX), Affine(freeze(dW), freeze(db))

    return Stage("slide", init, forward, backward)


def largest_in_windows(width=3, stride=2):
    """A pool over the steps, whose windows overlap; of equal numbers, the first gets dA."""

    def windows(X):
        last = len(X) - width + 1
        return [X[k : last + k : stride] for k in range(width)]

    def init(key, shape):
        return (), (-(-(shape[0] - width + 1) // stride), shape[1])

    def forward(params, X, context):
        inside = np.stack(windows(X))
        A = inside.max(axis=0)
        return freeze(A), (freeze(inside.argmax(axis=0)), X.shape)

    def backward(params, cache, dA):
        first, shape = cache
        dX = np.zeros(shape, dA.dtype)
        for k, part in enumerate(windows(dX)):
            part += np.where(first == k, dA, 0)
        return freeze(dX), ()

    return Stage("largest_in_windows", init, forward, backward)


def valid_of(T, m, lengths):
    return np.arange(T)[:, np.newaxis] < (np.full(m, T) if lengths is None else lengths)


def recur(units=3):
    """A recurrent stage, from the last valid step to the first."""

    def init(key, shape):
        W = key.at("W").normal((units, shape[1]))
        U = key.at("U").normal((units, units)) / 2
        return Recurrence(W, U, np.zeros((units, 1))), (shape[0], units)

    def forward(params, X, context):
        T, _, m = X.shape
        valid = valid_of(T, m, context.lengths)
        A = np.zeros((T + 1, units, m), X.dtype)
        for t in reversed(range(T)):
            a = np.tanh(params.W @ X[t] + params.U @ A[t + 1] + params.b)
            A[t] = np.where(valid[t], a, 0)
        return freeze(A[:-1].copy()), (X, freeze(A), freeze(valid))

    def backward(params, cache, dA):
        X, A, valid = cache
        dW, dU, db, da = (np.zeros_like(p) for p in (params.W, params.U, params.b, A[0]))
        dX = np.zeros_like(X)
        for t in range(len(X)):
            dz = np.where(valid[t], (dA[t] + da) * (1 - A[t] ** 2), 0)
            dW += dz @ X[t].T
            dU += dz @ A[t + 1].T
            db += dz.sum(axis=1, keepdims=True)
            dX[t] = params.W.T @ dz
            da = params.U.T @ dz
        return freeze(dX), Recurrence(freeze(dW), freeze(dU), freeze(db))

    return Stage("recur", init, forward, backward, lengths="kept")


def mean_of_steps():
    def forward(params, X, context):
        valid = valid_of(len(X), X.shape[-1], context.lengths)
        counts = valid.sum(axis=0).astype(X.dtype)
        A = np.where(valid[:, np.newaxis], X, 0).sum(axis=0) / counts
        return freeze(A), (freeze(valid), freeze(counts))

    def backward(params, cache, dA):
        valid, counts = cache
        dX = np.where(valid[:, np.newaxis], dA / counts, 0)
        return freeze(dX), ()

    return Stage(
        "mean_of_steps", lambda key, shape: ((), shape[1:]), forward, backward, lengths="ended"
    )


def goes_on(examples=5):
    """A sum of the steps that fades, and goes on from batch to batch in training."""

    def init(key, shape):
        return Slope(np.ones((shape[1], 1))), shape

    def forward(params, X, context):
        A = np.empty_like(X)
        a = context.statistics.a if context.training else np.zeros_like(X[0])
        for t in range(len(X)):
            a = 0.5 * a + params.a * X[t]
            A[t] = a
        return freeze(A), (X, freeze(a))

    def backward(params, cache, dA):
        X, _ = cache
        dX, dg, da = np.empty_like(X), np.zeros_like(params.a), np.zeros_like(X[0])
        for t in reversed(range(len(X))):
            da = dA[t] + 0.5 * da
            dX[t] = params.a * da
            dg += (da * X[t]).sum(axis=1, keepdims=True)
        return freeze(dX), Slope(freeze(dg))

    def before(params):
        return Before(np.zeros((len(params.a), examples), params.a.dtype))

    def absorb(state, cache):
        return Before(cache[1])

    statistics = Statistics(before, absorb, read_in_training=True)
    return Stage("goes_on", init, forward, backward, statistics=statistics)


def regression(name, entries):
    """Make a loss of `(AL, Y) -> (losses, slopes)`, with weights and the mean over examples."""

    def function(AL, Y, weights, context):
        expect_shape("Y", Y, AL.shape, hint="give a number for each")
        n, m = AL.shape
        losses, slopes = entries(AL, Y)
        shares = np.ones((1, m), AL.dtype) if weights is None else weights
        shares = shares / (shares.sum() * n)
        return float((losses * shares).sum()), freeze(slopes * shares)

    return Loss(
        name,
        function,
        lambda AL, context=EVALUATION: AL,
        lambda Y, n_out: None,
        lambda n_out: "regression",
    )


def half_squared():
    def entries(AL, Y):
        D = AL - Y
        return 0.5 * D * D, D

    return regression("half_squared", entries)


def log_cosh():
    def entries(AL, Y):
        D = AL - Y
        return np.log(np.cosh(D)), np.tanh(D)

    return regression("log_cosh", entries)


def binary():
    def function(Z, Y, weights, context):
        expect_shape("Y", Y, Z.shape, hint="give a label for each")
        losses = np.maximum(Z, 0) - Z * Y + np.log1p(np.exp(-np.abs(Z)))
        A = 0.5 * (1 + np.tanh(0.5 * Z))
        shares = np.ones((1, Z.shape[1]), Z.dtype) if weights is None else weights
        shares = shares / (shares.sum() * len(Z))
        return float((losses * shares).sum()), freeze((A - Y) * shares)

    return Loss(
        "binary",
        function,
        lambda Z, context=EVALUATION: freeze(0.5 * (1 + np.tanh(0.5 * Z))),
        lambda Y, n_out: None,
        lambda n_out: "two classes" if n_out == 1 else "several labels",
    )


# Optimizers, each with the loop of its paper


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Velocity:
    v: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Moments:
    count: int
    m: FloatArray
    v: FloatArray


def heavy(rate=0.01):
    def init(params):
        return Velocity(np.zeros_like(params.vector))

    def update(grads, state, params, context=None):
        v = state.v * grads.dtype.type(0.9) + grads
        updates = v * grads.dtype.type(-rate)
        return freeze(updates), Velocity(freeze(v))

    return GradientTransformation(init, update, observe=lambda state: {"learning_rate": rate})


def heavy_loop(grads, p):
    v = np.zeros_like(p)
    for g in grads:
        v = 0.9 * v + g
        p = p - 0.01 * v
    return p


def moments(rate=0.01, beta1=0.9, beta2=0.99, epsilon=1e-6):
    def init(params):
        return Moments(0, np.zeros_like(params.vector), np.zeros_like(params.vector))

    def update(grads, state, params, context=None):
        real = grads.dtype.type
        t = state.count + 1
        m = real(beta1) * state.m + real(1 - beta1) * grads
        v = real(beta2) * state.v + real(1 - beta2) * grads * grads
        m_hat = m / real(1 - beta1**t)
        v_hat = v / real(1 - beta2**t)
        updates = real(-rate) * m_hat / (np.sqrt(v_hat) + real(epsilon))
        return freeze(updates), Moments(t, freeze(m), freeze(v))

    return GradientTransformation(init, update, observe=lambda state: {"learning_rate": rate})


def moments_loop(grads, p):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        p = p - 0.01 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6)
    return p


def shorten(limit=1.0):
    def update(grads, state, params, context=None):
        length = float(np.sqrt((grads * grads).sum()))
        factor = min(1.0, limit / length) if length else 1.0
        return freeze(grads * grads.dtype.type(factor)), ()

    return GradientTransformation(lambda params: (), update)


def shorten_loop(grads, p):
    for g in grads:
        p = p + g / max(1.0, math.sqrt(sum(x * x for x in g)))
    return p


# A part of a training step


def clip():
    def function(step):
        vector = np.clip(step.grads.vector, -0.5, 0.5)
        return step.with_fields(grads=step.grads.with_vector(freeze(vector)))

    return Part("clip", function, needs=frozenset(["grads"]), gives=frozenset(["grads"]))
