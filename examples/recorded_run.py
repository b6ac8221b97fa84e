"""Record a run, interrupt and resume it, and turn one of its steps into a unit test.

The data is made here: points in the plane, of class 1 if both coordinates have the same sign.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import toolz

import pydnn as nn
from pydnn.jobs import prepare, run
from pydnn.runs import create_run, record, resume_run, verify

X = nn.Key(1).at("points").normal((2, 200))
data = nn.Batch(X, X[:1] * X[1:] > 0)
recipe = nn.Recipe(
    data="points of one sign",
    network=nn.serial(nn.dense(8), nn.relu(), nn.dense(1)),
    loss=nn.sigmoid_cross_entropy(),
    optimizer=nn.adam(learning_rate=0.02),
    batches=nn.mini_batches(32),
    iterations=300,
)
folder = Path(tempfile.mkdtemp())


def train(name, count):
    """Record the first `count` steps of the job."""
    job = prepare(recipe, data)
    with create_run(folder / name, job, data) as recording:
        toolz.last(record(recording, itertools.islice(run(job), count)))


train("whole", 300)
train("cut", 123)  # in the middle of an epoch

# A run continues where it stopped, and gives the bits that it would have given without the stop.
with resume_run(folder / "cut", data=data) as resumed:
    toolz.last(record(resumed.recording, run(resumed.job, watched=resumed.watched)))

for name in ("whole", "cut"):
    recorded = nn.Run.open(folder / name, data=data)
    print(f"{name:5}  {recorded.iterations} steps, fingerprint {recorded.fingerprint[:16]}")

# Replay computes each segment again from the state before it, and compares all bits.
same = all(segment.mismatch is None for segment in verify(recorded))
print(f"replay: {'every bit is the recorded one' if same else 'some bits differ'}")

# A recorded step is an ordinary record: its values make a unit test, here of the loss.
step = recorded.at(200)
cost, gradient = nn.sigmoid_cross_entropy()(step.AL, step.batch.Y)
np.testing.assert_array_equal(gradient, step.dAL)
print(f"step 200: cost {cost:.6f} of {step.batch.X.shape[1]} examples")
