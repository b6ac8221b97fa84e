"""Optimizers as plain loops, written from the papers, each with pydnn's optimizer."""

import numpy as np

from pydnn import (
    adagrad,
    adam,
    adamw,
    amsgrad,
    gradient_descent,
    lion,
    momentum,
    nadam,
    nesterov,
    rmsprop,
)
from pydnn.parameters import pack
from pydnn.stages.dense import DenseParams

LR = 0.01


def descent(grads, p):
    for g in grads:
        p = p - LR * g
    return p


def heavy_ball(grads, p, averaged=False):
    v = np.zeros_like(p)
    for g in grads:
        v = 0.8 * v + (0.2 * g if averaged else g)
        p = p - LR * v
    return p


def looking_ahead(grads, p):
    v = np.zeros_like(p)
    for g in grads:
        v = 0.8 * v + g
        p = p - LR * (0.8 * v + g)
    return p


def summed_squares(grads, p):
    s = np.zeros_like(p)
    for g in grads:
        s = s + g**2
        p = p - LR * g / (np.sqrt(s) + 1e-10)
    return p


def mean_squares(grads, p):
    s = np.zeros_like(p)
    for g in grads:
        s = 0.9 * s + 0.1 * g**2
        p = p - LR * g / (np.sqrt(s) + 1e-8)
    return p


def adams(grads, p, decay=0.0, largest=False):
    m, v, top = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    weights = np.array([1.0, 1, 0, 1, 1, 0])  # 1 for the parameters in W, 0 for those in b
    for t, g in enumerate(grads, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        top = np.maximum(top, v)
        m_hat, v_hat = m / (1 - 0.9**t), (top if largest else v) / (1 - 0.999**t)
        p = p - LR * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * weights * p)
    return p


def nesterovs_adam(grads, p):
    m, v, product = np.zeros_like(p), np.zeros_like(p), 1.0
    for t, g in enumerate(grads, start=1):
        mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
        product *= mu
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        p = p - LR * m_bar / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p


def signs(grads, p):
    m = np.zeros_like(p)
    for g in grads:
        p = p - LR * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    return p


LOOPS = {
    "gradient_descent": (gradient_descent(learning_rate=LR), descent),
    "momentum": (momentum(learning_rate=LR, decay=0.8), heavy_ball),
    "momentum, the course's": (
        momentum(learning_rate=LR, decay=0.8, averaged=True),
        lambda grads, p: heavy_ball(grads, p, averaged=True),
    ),
    "nesterov": (nesterov(learning_rate=LR, decay=0.8), looking_ahead),
    "adagrad": (adagrad(learning_rate=LR), summed_squares),
    "rmsprop": (rmsprop(learning_rate=LR), mean_squares),
    "adam": (adam(learning_rate=LR), adams),
    "amsgrad": (amsgrad(learning_rate=LR), lambda grads, p: adams(grads, p, largest=True)),
    "adamw": (
        adamw(learning_rate=LR, weight_decay=0.1), lambda grads, p: adams(grads, p, decay=0.1),
    ),
    "nadam": (nadam(learning_rate=LR), nesterovs_adam),
    "lion": (lion(learning_rate=LR), signs),
}  # fmt: skip


def parameters():
    return pack((DenseParams([[1, 2]], [[3]]), DenseParams([[4, -5]], [[0]])))
