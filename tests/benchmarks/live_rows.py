"""Measure which share of a recorded training's time the publishing of live rows takes.

    python tests/benchmarks/live_rows.py [--json]

Three jobs: steps of a tiny network, which are the fastest that there are; the same with the largest
number of measurements; and steps of a network of 786,001 parameters. The time in `LiveWriter` is
added up, and the time of its check in each step, which cannot be measured there, is measured alone.
The share must be at most 1 %.
"""

import argparse
import collections
import json
import tempfile
import time
from pathlib import Path

from environment import environment

from pydnn import Batch, Key, adam, dense, mini_batches, relu, serial, sigmoid_cross_entropy
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.runs import create_run, live, record

LIMIT = 0.01


def job_of(units, features, m, batch, iterations, **changes):
    X = Key(1).normal((features, m))
    data = Batch(X, (X[:1] > X[1:2]).astype(float))
    recipe = Recipe(
        data="normal numbers",
        network=serial(dense(units), relu(), dense(1)),
        loss=sigmoid_cross_entropy(),
        optimizer=adam(learning_rate=0.001),
        batches=mini_batches(batch),
        iterations=iterations,
        **changes,
    )
    return prepare(recipe, data), data


JOBS = {
    "tiny network": lambda: job_of(4, 5, 64, 16, 20_000),
    "tiny network, measured at every step": lambda: job_of(
        4, 5, 64, 16, 4_000, validation=0.25, evaluate_every=1
    ),
    "786,001 parameters": lambda: job_of(1000, 784, 5000, 256, 60),
}


def seconds_of_a_check():
    """The seconds that one comparison with the time of the next writing takes."""
    writer = live.LiveWriter(Path(), now=0.0, in_place=lambda: False)
    writer.due, now, count = 2.0, 1.0, 1_000_000
    begun = time.thread_time()
    for _ in range(count):
        if now >= writer.due:
            raise AssertionError
    return (time.thread_time() - begun) / count


def measured(job, data):
    """Return the seconds of a recorded training, and of its live rows, with their number."""
    spent, calls = 0.0, 0

    def timed(plain):
        def with_time(*args, **options):
            nonlocal spent, calls
            begun = time.thread_time()
            plain(*args, **options)
            spent += time.thread_time() - begun
            calls += 1

        return with_time

    plain = {name: getattr(live.LiveWriter, name) for name in ("publish", "segment_written")}
    for name, method in plain.items():
        setattr(live.LiveWriter, name, timed(method))
    try:
        with (
            tempfile.TemporaryDirectory(dir=".") as folder,
            create_run(Path(folder) / "run", job, data) as recording,
        ):
            begun = time.thread_time()
            collections.deque(record(recording, run(job)), maxlen=0)
            whole = time.thread_time() - begun
    finally:
        for name, method in plain.items():
            setattr(live.LiveWriter, name, method)
    spent += job.recipe.iterations * seconds_of_a_check()
    return {"seconds": whole, "live": spent, "calls": calls, "share": spent / whole}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = {name: measured(*make()) | {"limit": LIMIT} for name, make in JOBS.items()}
    if args.json:
        print(json.dumps(results | {"environment": environment()}))
        return
    for name, one in results.items():
        print(
            f"{name}: {one['seconds']:.2f} s, {1000 * one['live']:.2f} ms for live rows in "
            f"{one['calls']} calls, a share of {one['share']:.3%}, limit {LIMIT:.0%}"
        )


if __name__ == "__main__":
    main()
