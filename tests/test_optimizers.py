"""Optimisers against loops that a reader of the papers would write, and on a bowl."""

import math

import numpy as np
import pytest
from helpers import frozen

from pydnn import (
    BadInput,
    Key,
    adagrad,
    adam,
    adamw,
    amsgrad,
    build,
    describe,
    gradient_descent,
    lion,
    momentum,
    nadam,
    nesterov,
    optimizers,
    rmsprop,
)
from pydnn.packing import pack
from pydnn.stages.dense import DenseParams

STEPS = 50
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
    weights = np.array([1.0, 1, 0, 1, 1, 0])  # which of the parameters are W, and not b
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
every_optimizer = pytest.mark.parametrize("optimizer", [o for o, _ in LOOPS.values()], ids=LOOPS)


def parameters(dtype=np.float64):
    return pack((DenseParams([[1, 2]], [[3]]), DenseParams([[4, -5]], [[0]])), dtype=dtype)


def drive(optimizer, gradients, params, keep=None):
    """Parameters after updates by `gradients`, whatever the parameters; or a list of all states."""
    state = optimizer.init(params)
    states = []
    for g in gradients:
        updates, state = optimizer.update(g, state, params)
        params = params.with_vector(params.vector + updates)
        states.append((params, state))
    return states if keep else params.vector


def gradients(count, seed=0, dtype=np.float64):
    # The scale changes, as in a training: moments that were mixed up would show.
    scales = np.exp(np.sin(np.arange(count) / 5))[:, np.newaxis]
    return [frozen(g) for g in (scales * Key(seed).normal((count, 6))).astype(dtype)]


def test_every_optimizer_is_in_the_table():
    parts = {"heavy_ball", "sign_of_momentum"}  # which are tested in what is made of them
    builders = {
        name
        for name in optimizers.__all__
        if name not in parts and not name.startswith("scale_by_")
    }
    assert {name.partition(",")[0] for name in LOOPS} == builders


@pytest.mark.parametrize(("optimizer", "loop"), LOOPS.values(), ids=LOOPS)
def test_an_optimizer_is_the_loop_that_its_paper_has(optimizer, loop):
    grads, params = gradients(STEPS), parameters()
    np.testing.assert_allclose(
        drive(optimizer, grads, params), loop(grads, params.vector), rtol=1e-13
    )


@every_optimizer
def test_a_bowl_is_descended(optimizer):
    params = parameters()
    state = optimizer.init(params)
    heights = []
    for _ in range(2000):
        heights.append(float(params.vector @ params.vector))
        updates, state = optimizer.update(frozen(2 * params.vector), state, params)
        params = params.with_vector(params.vector + updates)
    assert min(heights) < 0.65 * heights[0]  # AdaGrad, whose steps get short, is at 0.61


@every_optimizer
def test_an_interrupted_descent_goes_on_to_the_same_bits(optimizer):
    grads, params = gradients(20), parameters()
    whole = drive(optimizer, grads, params, keep=True)
    middle, state = whole[9]
    for g in grads[10:]:
        updates, state = optimizer.update(g, state, middle)
        middle = middle.with_vector(middle.vector + updates)
    assert middle.vector.tobytes() == whole[-1][0].vector.tobytes()


@every_optimizer
def test_nothing_is_changed_and_nothing_writable_is_handed_out(optimizer):
    from helpers import arrays_in

    for params, state in drive(optimizer, gradients(3), parameters(), keep=True):
        assert not any(a.flags.writeable for a in arrays_in((params, state)))


@every_optimizer
def test_no_gradient_moves_nothing_from_the_start(optimizer):
    params = pack((DenseParams([[0.0, 0.0]], [[0.0]]),))
    updates, _ = optimizer.update(np.zeros(3), optimizer.init(params), params)
    np.testing.assert_array_equal(updates, 0)


@every_optimizer
def test_float32_stays_float32(optimizer):
    grads, params = gradients(3, dtype=np.float32), parameters(np.float32)
    assert drive(optimizer, grads, params).dtype == np.float32


@every_optimizer
def test_an_optimizer_is_described_and_shows_its_learning_rate(optimizer):
    again = build(describe(optimizer), family="optimizer")
    grads, params = gradients(5), parameters()
    states = drive(again, grads, params, keep=True)
    assert states[-1][0].vector.tobytes() == drive(optimizer, grads, params).tobytes()
    assert again.observe(states[-1][1]) == {"learning_rate": LR}


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, "fast"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(BadInput, match=r"learning_rate is .*: give a step size, e\.g\. 0\.0075"):
        gradient_descent(learning_rate=rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum(learning_rate=1, decay=1), "decay is 1, expected a number below 1"),
        (lambda: adam(beta1=-0.1), r"beta1 is -0\.1, expected a number of at least 0"),
        (lambda: adamw(weight_decay=-1), "rate is -1"),
        (lambda: rmsprop(epsilon=0), "epsilon is 0, expected a number above 0"),
        (lambda: nadam(momentum_decay=-1), "momentum_decay is -1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()
