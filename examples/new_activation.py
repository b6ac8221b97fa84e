"""A new activation in ten lines, with its check, and a network that is trained with it.

Softsign is A = Z / (1 + |Z|), whose slope is (1 - |A|)^2. (Turian, Bergstra and Bengio, 2009.)
"""

import itertools

import numpy as np
import toolz

from pydnn import (
    Batch,
    Context,
    Key,
    adam,
    build,
    dense,
    described,
    elementwise,
    initial_state,
    make_train_step,
    mean_squared,
    scan,
    serial,
)


@described("stage")
def softsign():
    """A = Z / (1 + |Z|), from -1 to 1."""
    return elementwise(
        "softsign",
        forward=lambda Z, numerics: Z / (1 + np.abs(Z)),
        backward=lambda dA, Z, A, numerics: dA * (1 - np.abs(A)) ** 2,
    )


# The check: the slope that `backward` says against the one that is measured on both sides of Z.
stage, h = softsign(), 1e-6
Z = np.linspace(-3, 3, 10)[np.newaxis]  # 0 is not among them, where |Z| has a corner
values = {shift: stage.forward((), Z + shift, Context())[0] for shift in (-h, h)}
measured = (values[h] - values[-h]) / (2 * h)
said, _ = stage.backward((), stage.forward((), Z, Context())[1], np.ones_like(Z))
print(f"largest difference between slopes: {np.abs(said - measured).max():.1e}")
assert np.allclose(said, measured, rtol=0, atol=1e-8)

# It is a stage like any other: it has a description, from which it can be built again ...
print("built again from its description:", build(stage.description).name)

# ... and networks train with it, here on one period of a sine.
X = np.linspace(-1, 1, 64)[np.newaxis]
batch = Batch(X, np.sin(np.pi * X))
network, optimizer = serial(dense(16), softsign(), dense(1)), adam(learning_rate=0.02)
train_step = make_train_step(network, mean_squared(), optimizer)
state = initial_state(network, optimizer, shape_in=(1,), key=Key(3))
costs = [info.cost for _, info in scan(train_step, state, itertools.repeat(batch, 500))]
print(f"cost {costs[0]:.4f} before training, {toolz.last(costs):.6f} after it")
