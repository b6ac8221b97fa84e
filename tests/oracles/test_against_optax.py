"""Compare optimizers and transformations that PyTorch does not have with optax's."""

import numpy as np
import pytest

from pydnn import (
    Key,
    average_parameters,
    clip_by_global_norm,
    clip_by_value,
    decay_weights,
    gradient_descent,
    lion,
    momentum,
)
from pydnn.optimizers import averaged, chain, descend
from pydnn.parameters import pack
from pydnn.stages.dense import DenseParams

optax = pytest.importorskip("optax", reason="optax is not installed, install the extra bench")
jax = pytest.importorskip("jax")

LR = 0.01
BOTH = ["W", "b"]
PAIRS = {
    "the course's momentum": (
        momentum(learning_rate=LR, averaged=True),
        lambda: optax.chain(optax.ema(0.9, debias=False), optax.scale(-LR)),
    ),
    "lion": (
        lion(learning_rate=LR, weight_decay=0.1, only=BOTH),
        lambda: optax.lion(LR, weight_decay=0.1),
    ),
    "clipping by value": (
        chain(clip_by_value(0.5), descend(LR)), lambda: optax.chain(optax.clip(0.5), optax.sgd(LR)),
    ),
    "clipping by global norm": (
        chain(clip_by_global_norm(2.0), descend(LR)),
        lambda: optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(LR)),
    ),
    "decay": (
        chain(decay_weights(0.3, only=BOTH), descend(LR)),
        lambda: optax.chain(optax.add_decayed_weights(0.3), optax.sgd(LR)),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)
def test_parameters_agree_after_200_steps_of_random_gradients(ours, theirs):
    params = pack((DenseParams(Key(1).normal((3, 4)), Key(2).normal((3, 1))),))
    x, optimizer = jax.numpy.array(params.vector), theirs()
    state, their_state = ours.init(params), optimizer.init(x)
    for i in range(200):
        g = Key(9).at(i).normal(15) * np.exp(np.sin(i / 9))
        updates, state = ours.update(g, state, params)
        params = params.with_vector(params.vector + updates)
        their_updates, their_state = optimizer.update(jax.numpy.array(g), their_state, x)
        x = optax.apply_updates(x, their_updates)
    assert x.dtype == np.float64
    np.testing.assert_allclose(params.vector, np.asarray(x), rtol=1e-12)


def test_averaged_parameters_agree():
    ours = chain(gradient_descent(learning_rate=LR), average_parameters(decay=0.95))
    params = pack((DenseParams(Key(1).normal((3, 4)), Key(2).normal((3, 1))),))
    state, mean = ours.init(params), jax.numpy.array(params.vector)
    for i in range(50):
        updates, state = ours.update(Key(9).at(i).normal(15), state, params)
        params = params.with_vector(params.vector + updates)
        mean = optax.incremental_update(jax.numpy.array(params.vector), mean, 0.05)
    np.testing.assert_allclose(averaged(state, params).vector, np.asarray(mean), rtol=1e-12)
