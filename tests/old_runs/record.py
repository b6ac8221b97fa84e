"""Records the runs of this folder: call it with the pydnn whose runs are to be kept.

    PYTHONPATH=<a checkout of that version> python record.py /tmp/old_runs

All are in portable arithmetic, so that every machine repeats them to the bit.
"""

import itertools
import os
import sys
from pathlib import Path

import attrs
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
    momentum,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.cli import main
from pydnn.data import DataSet, load_table, save_table
from pydnn.recipes import Recipe, prepare, run, write_recipe
from pydnn.runs import create_run, record


def small():
    """40 examples of two classes, 5 features each."""
    X = Key(1).at("X").normal((5, 40))
    Y = (X[:1] + X[1:2] * X[2:3] > 0).astype(float)
    return DataSet(Batch(X, Y), Batch(X[:, :10], Y[:, :10]))


def wide():
    """8 examples of 60 features, which are worth rotating."""
    X = Key(1).at("X").normal((60, 8))
    return DataSet(Batch(X, [[0, 1] * 4]), Batch(X[:, :4], [[0, 1] * 2]))


def narrow():
    """The small examples with features that vary in their last bits, by 1e-170, and by 1e200."""
    data = small()
    X = data.train.X.copy()
    X[2] = 1e6 + X[2] * 2.0**-30
    X[3] *= 1e-170
    X[4] *= 1e200
    return DataSet(Batch(X, data.train.Y), Batch(X[:, :10], data.train.Y[:, :10]))


CUT = Recipe(
    data="small.h5",
    network=describe(serial(dense(4), batch_norm(), relu(), dropout(keep_prob=0.8), dense(1))),
    loss=describe(sigmoid_cross_entropy()),
    optimizer=describe(adam(learning_rate=0.01)),
    batches=describe(mini_batches(16)),
    iterations=12,
    seed=3,
    numerics="portable",
)
NARROW = attrs.evolve(CUT, data="narrow.h5", standardize=True)
STOPPED = attrs.evolve(
    CUT,
    optimizer=describe(adam(learning_rate=0.3)),
    iterations=60,
    validation=0.3,
    evaluate_every=2,
    watch="validation cost",
    patience=8,
)
ROTATED = Recipe(
    data="wide.h5",
    network=describe(serial(dense(3), relu(), dense(1))),
    loss=describe(sigmoid_cross_entropy()),
    optimizer=describe(momentum(learning_rate=0.05)),
    iterations=40,
    rotate=True,
    numerics="portable",
)


# Weights from one stream: 0.1.0 drew those of "tutorial()" from seed 1, whatever the run's seed.
STREAMED = attrs.evolve(ROTATED, weights={"tutorial": {}}, iterations=8, seed=2)
STATED = attrs.evolve(STREAMED, weights={"tutorial": {"seed": 2}})


def record_all(folder):
    folder.mkdir()
    os.chdir(folder)
    save_table(Path("small.h5"), small())
    save_table(Path("wide.h5"), wide())
    save_table(Path("narrow.h5"), narrow())
    for name, recipe in (("stopped", STOPPED), ("rotated", ROTATED)):
        Path("recipe.toml").write_text(write_recipe(recipe))
        # At most four segments a second are written by default.
        main(["train", "recipe.toml", "--run", name, "--checkpoint-every", "15"])
    for name, recipe, steps, every in (
        ("cut", CUT, 9, 4),
        ("narrow", NARROW, 8, 4),
        ("streamed", STREAMED, 8, 8),
        ("stated", STATED, 8, 8),
    ):
        data = load_table(recipe.data)
        job = prepare(recipe, data.train)
        with create_run(name, job, data) as recording:
            toolz.last(record(recording, itertools.islice(run(job), steps), every=every))
    Path("recipe.toml").unlink()


if __name__ == "__main__":
    record_all(Path(sys.argv[1]))
