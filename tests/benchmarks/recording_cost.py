"""Measure what recording costs: three jobs, recorded as by `pydnn train` and in memory.

    python tests/benchmarks/recording_cost.py --data photos/ [--json]

The jobs are the tutorial's on the photos, the same in the rotated basis, and 200 steps of Adam on
a network of 786,001 parameters. Each turn is a whole job, so that it includes all one-time costs:
the fingerprints of data and machine, the folder, the last state and the model. Within a turn the
two alternate every few steps, so that other work of the machine slows both. Recording must cost at
most 5 % of a job, except in the rotated basis, where the whole job takes half a second and the
one-time costs dominate.
"""

import argparse
import collections
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import attrs
from environment import environment

from pydnn import (
    Batch,
    Key,
    adam,
    dense,
    mini_batches,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import load_data_set
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.runs import create_run, record

LIMIT = 1.05
PIECES = 20  # alternations per turn
CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}


def tutorial_job(name, *, rotate):
    data = load_data_set(name)
    recipe = attrs.evolve(tutorial_recipe(data=name, iterations=2500), rotate=rotate)
    return prepare(recipe, data.train), data


def adam_job():
    X = Key(1).normal((784, 5000))
    recipe = Recipe(
        data="normal numbers",
        network=serial(dense(1000), relu(), dense(1)),
        loss=sigmoid_cross_entropy(),
        optimizer=adam(learning_rate=0.001),
        batches=mini_batches(256),
        iterations=200,
    )
    data = Batch(X, (X[:1] > X[1:2]).astype(float))
    return prepare(recipe, data), data


def turn(job, data, path, *, plain_first):
    """Return the seconds of the job "in memory" and "recorded", by clock."""
    spent = {way: dict.fromkeys(CLOCKS, 0.0) for way in ("in memory", "recorded")}
    costs = {way: [] for way in spent}
    begun = {}

    def timed(way, act):
        begun.update({name: clock() for name, clock in CLOCKS.items()})
        result = act()
        for name, clock in CLOCKS.items():
            spent[way][name] += clock() - begun[name]
        return result

    def own_time():  # the recorder decides by this clock when to write a segment
        return spent["recorded"]["wall"] + CLOCKS["wall"]() - begun["wall"]

    context = create_run(path, job, data)
    recording = timed("recorded", context.__enter__)
    streams = {"in memory": run(job), "recorded": record(recording, run(job), clock=own_time)}
    count = job.recipe.iterations // PIECES
    order = tuple(streams) if plain_first else tuple(streams)[::-1]
    for way in itertools.chain.from_iterable(itertools.repeat(order, PIECES)):
        piece = itertools.islice(streams[way], count)
        costs[way] += timed(way, lambda piece=piece: [info.cost for _, info in piece])
    for way, stream in streams.items():  # the last segment is written here
        timed(way, lambda stream=stream: collections.deque(stream, maxlen=0))
    timed("recorded", lambda: context.__exit__(None, None, None))
    if costs["in memory"] != costs["recorded"]:
        raise SystemExit("the costs of the recorded job are not those of the job in memory")
    return spent


def measured(job, data, *, blocks):
    """Return the medians of the seconds and of the ratios over the turns, by clock."""
    turns = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for i in range(-1, blocks):  # the first one warms up
            spent = turn(job, data, Path(folder) / f"run{i}", plain_first=i % 2 == 0)
            turns += [spent] if i >= 0 else []
    result = {}
    for clock in CLOCKS:
        ratios = [spent["recorded"][clock] / spent["in memory"][clock] for spent in turns]
        result[clock] = {
            "seconds": {
                way: statistics.median(spent[way][clock] for spent in turns) for way in turns[0]
            },
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=5, help="number of turns per job")
    parser.add_argument("--data", default="drawn-cats", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    jobs = {
        "the tutorial's job": (lambda: tutorial_job(args.data, rotate=False), LIMIT),
        "the same, rotated": (lambda: tutorial_job(args.data, rotate=True), None),
        "Adam, 786,001 parameters": (adam_job, LIMIT),
    }
    results = {}
    for name, (make, limit) in jobs.items():
        results[name] = measured(*make(), blocks=args.blocks) | {"limit": limit}
        if not args.json:
            print(in_words(name, results[name]), flush=True)
    print(json.dumps(results | {"environment": environment()}) if args.json else environment())


def in_words(name, result):
    limit = f", limit {result['limit']}" if result["limit"] else ""
    rows = [name]
    for clock in CLOCKS:
        plain, recorded = result[clock]["seconds"].values()
        low, high = result[clock]["ratio_range"]
        rows.append(
            f"  {clock:4} {plain:7.3f} s in memory, {recorded:7.3f} s recorded, ratio "
            f"{result[clock]['ratio']:.3f} (from {low:.3f} to {high:.3f}){limit}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
