"""Small runs for the tests of this folder, made in well under a second."""

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
    """Examples of two classes, 5 features each."""
    X = Key(key).at("X").normal((5, m))
    Y = (X[:1] + X[1:2] * X[2:3] > 0).astype(float)
    return DataSet(Batch(X, Y), Batch(X[:, : m // 4], Y[:, : m // 4]))


def saved_data(folder, key=1):
    """The path of a file that holds them."""
    path = folder / f"data-{key}.h5"
    if not path.exists():
        save_table(path, small_data(key))
    return str(path)


def small_recipe(folder, **changes):
    """Mini-batches, dropout, batch normalisation and Adam: all that a step may remember."""
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
    """Record a run at `path`, or its first so many steps; the state at its end.

    Args:
        path: Its folder.
        recipe: Its job.
        data: By default that of `small_data`.
        every: Steps from one segment to the next.
        steps: How many are taken before it is interrupted.
        change: What the train_step is led through first.
    """
    data = small_data() if data is None else data
    job = prepare(recipe, data.train)
    with create_run(path, job, data) as recording:
        if change is not None:  # which nobody is told of
            job = attrs.evolve(job, train_step=change(job.train_step))
        stream = record(recording, itertools.islice(run(job), steps), every=every)
        return toolz.last(stream)[0]


def resumed(path, *, every=3, steps=None, **options):
    """Resume the run at `path`, or its next so many steps; the state at its end."""
    with resume_run(path, **options) as found:
        stream = run(found.job, watched=found.watched)
        stream = record(found.recording, itertools.islice(stream, steps), every=every)
        return toolz.last([(found.job.state, None), *stream])[0]


def flipping(step, name="0/W", index=(1, 2), bit=0):
    """A change of a train_step that flips one bit of one weight after the step of that number."""

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
