"""Your own stage with a bug, the report that finds the bug, and the fix.

The stage is a relu that learns its slope a below 0, one per feature: A = Z above 0, and a Z below.
(He, Zhang, Ren and Sun, Delving deep into rectifiers, 2015.)
"""

import itertools

import attrs
import numpy as np

import pydnn as nn
from pydnn.records import FloatArray, arrays, freeze
from pydnn.testing import BrokenLaw, assert_stage, assert_train_step


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class SlopeParams:
    """Slopes a (n, 1)."""

    a: FloatArray


def learned_slope(pull_back):
    """Make the stage with a function `(a, Z, dA) -> (dZ, da)` as its backward pass."""

    def init(key, shape_in):
        return SlopeParams(np.full((shape_in[0], 1), 0.25)), shape_in

    def forward(params, Z, context):
        return freeze(np.where(Z > 0, Z, params.a * Z)), Z

    def backward(params, Z, dA):
        dZ, da = pull_back(params.a, Z, dA)
        return freeze(dZ), SlopeParams(freeze(da))

    return nn.Stage("learned_slope", init, forward, backward)


# A first attempt with a bug: the loss owns the mean over examples, so np.mean is one too many.
def first_attempt(a, Z, dA):
    """Below 0 the output is a Z, so its derivatives are a and Z."""
    da = np.mean(dA * np.minimum(Z, 0), axis=1, keepdims=True)
    return np.where(Z > 0, dA, a * dA), da


try:
    assert_stage(learned_slope(first_attempt))
except BrokenLaw as error:
    print(error)


# The report says: with 5 examples, the gradient of `a` is a fifth of what it should be; that of the
# input is right; and five examples in one batch give another gradient than one by one.
def fixed(a, Z, dA):
    """Do the same with a sum over examples."""
    da = np.sum(dA * np.minimum(Z, 0), axis=1, keepdims=True)
    return np.where(Z > 0, dA, a * dA), da


stage = learned_slope(fixed)
print("\n", assert_stage(stage), sep="")

# It is right at its corner Z = 0 too, where any slope between those of both sides is right.
assert_stage(stage, A_prev=np.zeros((3, 4)))

# A whole training step can be checked in the same way before training.
X = np.linspace(-1, 1, 64)[np.newaxis]
batch = nn.Batch(X, np.abs(X - 0.3))
network, optimizer = nn.serial(nn.dense(8), stage, nn.dense(1)), nn.adam(learning_rate=0.02)
train_step = nn.make_train_step(network, nn.mean_squared(), optimizer)
state = nn.initial_state(network, optimizer, shape_in=(1,), key=nn.Key(2))
print(f"\n{assert_train_step(train_step, state, batch)}\n")

costs = [info.cost for _, info in nn.scan(train_step, state, itertools.repeat(batch, 400))]
print(f"cost {costs[0]:.4f} before training, {costs[-1]:.5f} after it")
