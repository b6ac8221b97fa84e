"""Regression: predict the progress of diabetes after a year from ten measurements of a patient.

The data comes with scikit-learn. It is small (442 patients) and noisy, so the network must not
overfit: it is small, its weights decay, and training stops early.
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

# Fitted on the training patients only. The network learns standardized targets, and `in_units`
# converts its predictions back to the units of the data.
features, targets = fit_standardization(train.X), fit_standardization(train.Y)


def standardized(batch):
    """Return the same patients with features and targets of mean 0 and standard deviation 1."""
    return attrs.evolve(batch, X=features(batch.X), Y=targets(batch.Y))


def in_units(Z):
    """Return the network's predictions in the units of the data."""
    return Z * targets.deviation + targets.mean


network = nn.serial(nn.dense(8), tanh(), nn.dense(1))
optimizer = nn.adamw(learning_rate=nn.cosine_decay(0.01, steps=3000), weight_decay=0.01)
loss = nn.mean_squared()
train_step = nn.make_train_step(network, loss, optimizer)
state = nn.initial_state(network, optimizer, shape_in=(10,), key=key)
evaluate = nn.evaluation(network, loss, {"validation": standardized(validation)})

best, info = toolz.pipe(
    toolz.take(3000, nn.batches_of(nn.mini_batches(32), standardized(train), key)),
    partial(nn.scan, train_step, state),
    partial(nn.measure, every=10, function=evaluate),
    partial(nn.stop_early, watch="validation cost", patience=500),
    partial(nn.best, watch="validation cost"),
)
print(f"best state: after {best.iteration} iterations, {info.measured}")

baseline = train.Y.mean() + 0 * patients.test.Y
predicted = in_units(nn.output_of(network, best, features(patients.test.X)))
for name, predictions in (("the mean of all", baseline), ("the network", predicted)):
    error = mean_absolute_error(predictions, patients.test.Y)
    r_squared = nn.r_squared(predictions, patients.test.Y)
    print(f"{name:15}  off by {error:5.1f} on average, R squared {r_squared:.3f}")
