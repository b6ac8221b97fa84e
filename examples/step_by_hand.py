"""Compose a training step, inspect it, and insert a function of your own.

The data is made here: points in the plane, of class 1 inside a circle and of class 0 outside.
"""

import itertools
import math

import attrs
import toolz

import pydnn as nn
from pydnn.metrics import classes_of
from pydnn.training import trace

key = nn.Key(7)
X = key.at("points").normal((2, 400))
Y = ((X**2).sum(axis=0, keepdims=True) < 1.4).astype(float)
batch = nn.Batch(X, Y)

# A network is a stage made of stages. A network, a loss and an optimizer make a training step.
network = nn.serial(nn.dense(16), nn.relu(), nn.dense(8), nn.relu(), nn.dense(1))
loss = nn.sigmoid_cross_entropy()
optimizer = nn.gradient_descent(learning_rate=0.5)
train_step = nn.make_train_step(network, loss, optimizer)
state = nn.initial_state(network, optimizer, shape_in=(2,), key=key)
print("the step's parts:", ", ".join(train_step.names))


def clip(step):
    """Clip the norm of the gradient at 1: a part is any pure function Step -> Step."""
    norm = math.sqrt((step.grads.vector**2).sum())
    clipped = step.grads.vector / max(1.0, norm)
    return attrs.evolve(step, grads=step.grads.with_vector(clipped))


clipped_step = train_step.insert_after("backward", clip)
print("with one of our own:", ", ".join(clipped_step.names))

# Training is a fold: nothing runs until the stream is consumed, and nothing is changed in place.
stream = nn.scan(clipped_step, state, itertools.repeat(batch, 500))
for _, info in toolz.take_nth(100, stream):
    print(f"iteration {info.iteration:3}  cost {info.cost:.4f}  gradient {info.gradient_norm:.4f}")

trained, _ = toolz.last(nn.scan(clipped_step, state, itertools.repeat(batch, 500)))
probable = loss.predict(nn.output_of(network, trained, X))
print(f"accuracy {nn.accuracy(classes_of(probable), Y):.3f}")

# The first state still exists, so its step can be repeated, here part by part.
for name, step in trace(clipped_step, state, batch):
    filled = vars(step)  # each part fills in the fields it is named after
    print(f"after {name:8}  cost {filled.get('cost')}  gradients {filled.get('grads')}")
