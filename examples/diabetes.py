"""Regression: how far diabetes has come a year later, from ten measurements of a patient.

The data comes with scikit-learn. It is small, 442 patients, and noisy, so that a network must be
held back: it is small, its weights are decayed, and training stops early.
"""

from functools import partial

import attrs
import toolz

import pydnn as nn
from pydnn.batches import split
from pydnn.data import load_data_set
from pydnn.jobs import fit_standardization
from pydnn.metrics import mean_absolute_error
from pydnn.stages import tanh

key = nn.Key(5)
patients = load_data_set("diabetes")
train, validation = split(patients.train, key.at("split"), share=0.2, stratified=False)

# Fitted on the training part alone; the network learns the targets' distance from their mean, in
# their deviations, and `in_units` brings an answer back to the scale of the data.
features, targets = fit_standardization(train.X), fit_standardization(train.Y)


def standardised(batch):
    """The same patients, with features and targets of mean 0 and deviation 1."""
    return attrs.evolve(batch, X=features(batch.X), Y=targets(batch.Y))


def in_units(Z):
    """The network's answers, on the scale of the data."""
    return Z * targets.deviation + targets.mean


network = nn.serial(nn.dense(8), tanh(), nn.dense(1))
optimizer = nn.adamw(learning_rate=nn.cosine_decay(0.01, steps=3000), weight_decay=0.01)
loss = nn.mean_squared()
train_step = nn.make_train_step(network, loss, optimizer)
state = nn.initial_state(network, optimizer, shape_in=(10,), key=key)
evaluate = nn.evaluation(network, loss, {"validation": standardised(validation)})

kept, info = toolz.pipe(
    toolz.take(3000, nn.batches_of(nn.mini_batches(32), standardised(train), key)),
    partial(nn.scan, train_step, state),
    partial(nn.measure, every=10, function=evaluate),
    partial(nn.stop_early, watch="validation cost", patience=500),
    partial(nn.best, watch="validation cost"),
)
print(f"kept the state after {kept.iteration} iterations, {info.measured}")

guess = train.Y.mean() + 0 * patients.test.Y
answer = in_units(nn.output_of(network, kept, features(patients.test.X)))
for name, predictions in (("the mean of all", guess), ("the network", answer)):
    off = mean_absolute_error(predictions, patients.test.Y)
    share = nn.r_squared(predictions, patients.test.Y)
    print(f"{name:15}  off by {off:5.1f} on average, R squared {share:.3f}")
