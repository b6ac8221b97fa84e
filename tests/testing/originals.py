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
