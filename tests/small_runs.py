"""Small runs for tests, each recorded in well under a second."""

import itertools

import attrs
import numpy as np
import toolz

from pydnn import (
    Batch,
    Key,
    adam,
    batch_norm,
    dense,
    describe,
    dropout,
    mini_batches,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import DataSet, save_table
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.records import freeze
from pydnn.runs import create_run, record, resume_run

NETWORK = serial(dense(4), batch_norm(), relu(), dropout(keep_prob=0.8), dense(1))


def small_data(key=1, *, m=40):
    """Return a data set of two classes with 5 features per example."""
    X = Key(key).at("X").normal((5, m))
    Y = (X[:1] + X[1:2] * X[2:3] > 0).astype(float)
    return DataSet(Batch(X, Y), Batch(X[:, : m // 4], Y[:, : m // 4]))


def saved_data(folder, key=1):
    """Return the path of a file that holds `small_data`."""
    path = folder / f"data-{key}.h5"
    if not path.exists():
        save_table(path, small_data(key))
    return str(path)


def small_recipe(folder, **changes):
    """Return a recipe with every kind of state: mini-batches, dropout, batch_norm and Adam."""
    recipe = Recipe(
        data=saved_data(folder),
        network=describe(NETWORK),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(adam(learning_rate=0.01)),
        batches=describe(mini_batches(16)),
        iterations=12,
        seed=3,
    )
    return attrs.evolve(recipe, **changes)


def recorded(path, recipe, data=None, *, every=4, steps=None, change=None):
    """Record a run at `path`, and return the state at its end.

    Args:
        path: The folder of the run.
        recipe: The recipe of the job.
        data: The data set; by default `small_data()`.
        every: Number of steps per segment.
        steps: Number of steps before the run is interrupted; None records the whole run.
        change: Function that changes the train_step before training.
    """
    data = small_data() if data is None else data
    job = prepare(recipe, data.train)
    with create_run(path, job, data) as recording:
        if change is not None:  # which the recorded recipe does not mention
            job = attrs.evolve(job, train_step=change(job.train_step))
        stream = record(recording, itertools.islice(run(job), steps), every=every)
        return toolz.last(stream)[0]


def resumed(path, *, every=3, steps=None, **options):
    """Resume the run at `path` for `steps` steps, or to its end, and return its last state."""
    with resume_run(path, **options) as resumption:
        stream = run(resumption.job, watched=resumption.watched)
        stream = record(resumption.recording, itertools.islice(stream, steps), every=every)
        return toolz.last([(resumption.job.state, None), *stream])[0]


def flipping(step, name="0/W", index=(1, 2), bit=0):
    """Return a change of a train_step that flips one bit of one weight after step `step`."""

    def flip(record):
        if record.info.iteration != step:
            return record
        parameters = record.after.parameters
        vector = parameters.vector.copy()
        slot = parameters.layout.slot(name)
        place = slot.start + int(np.ravel_multi_index(index, slot.shape))
        words = vector.view(f"u{vector.itemsize}")
        words[place] ^= words.dtype.type(1 << bit)
        after = attrs.evolve(record.after, parameters=parameters.with_vector(freeze(vector)))
        return record.with_fields(after=after)

    return lambda train_step: train_step.insert_after("update", flip)
