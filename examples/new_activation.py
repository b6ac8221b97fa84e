"""A new activation in ten lines, with its check, and a network that trains with it.

Softsign is A = Z / (1 + |Z|), whose slope is (1 - |A|)^2. (Turian, Bergstra and Bengio, 2009.)
"""

import itertools

import numpy as np
import toolz

import pydnn as nn
from pydnn.testing import assert_stage


@nn.described("stage")
def softsign():
    """A = Z / (1 + |Z|), from -1 to 1."""
    return nn.elementwise(
        "softsign",
        forward=lambda Z, numerics: Z / (1 + np.abs(Z)),
        backward=lambda dA, Z, A, numerics: dA * (1 - np.abs(A)) ** 2,
    )


# The check tries all laws of stages; one compares the slope in `backward` with finite differences.
# The second call checks Z = 0: |Z| has a corner there, but softsign does not.
stage = softsign()
print(assert_stage(stage))
assert_stage(stage, A_prev=np.zeros((1, 3)))

# It is a stage like any other: pydnn can build it again from its description ...
print("built again from its description:", nn.build(stage.description).name)

# ... and networks train with it, here on one period of a sine wave.
X = np.linspace(-1, 1, 64)[np.newaxis]
batch = nn.Batch(X, np.sin(np.pi * X))
network, optimizer = nn.serial(nn.dense(16), softsign(), nn.dense(1)), nn.adam(learning_rate=0.02)
train_step = nn.make_train_step(network, nn.mean_squared(), optimizer)
state = nn.initial_state(network, optimizer, shape_in=(1,), key=nn.Key(3))
costs = [info.cost for _, info in nn.scan(train_step, state, itertools.repeat(batch, 500))]
print(f"cost {costs[0]:.4f} before training, {toolz.last(costs):.5f} after it")
