"""One full-batch step of the tutorial's job: pydnn against the tutorial's own listing.

    python tests/benchmarks/tutorial_step.py [--data DIR] [--json]

Both run in one process, turn by turn in short blocks, after both have been checked to give the
same costs. What counts is the ratio of the medians: pydnn is to take at most 0.6.
"""

import argparse
import json
import statistics
import time

import listing
import numpy as np
from environment import environment

from pydnn.data import load_images, to_batch
from pydnn.recipes import prepare, tutorial_recipe

LIMIT = 0.6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="the real photos; by default 209 drawn cats")
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps in a block")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    batch = batch_of(args.data)

    runs = {"listing": listing_run(batch), "pydnn": pydnn_run(batch)}
    costs = [run(args.steps) for run in runs.values()]  # warms both up, too
    np.testing.assert_allclose(*costs, rtol=1e-9)

    times = {name: [] for name in runs}
    for _ in range(args.blocks):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(args.steps)
            times[name].append((time.perf_counter() - begin) / args.steps * 1e3)
    ratios = [p / t for p, t in zip(times["pydnn"], times["listing"], strict=True)]
    result = {
        "milliseconds": {name: statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "limit": LIMIT,
        "examples": batch.X.shape[1],
        "environment": environment(),
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, milliseconds in result["milliseconds"].items():
        print(f"{name:8} {milliseconds:7.2f} ms a step")
    low, high = result["ratio_range"]
    print(f"ratio    {result['ratio']:7.3f} (from {low:.3f} to {high:.3f}), at most {LIMIT} wanted")
    print(environment())


def batch_of(directory):
    train, _ = load_images(directory or "drawn-cats")
    return to_batch(train)


def listing_run(batch):
    start = listing.initialize_parameters_deep((len(batch.X), 20, 7, 5, 1))

    def costs(count):
        parameters, seen = start, []
        for _ in range(count):
            parameters, cost = listing.step(parameters, batch.X, batch.Y)
            seen.append(cost)
        return seen

    return costs


def pydnn_run(batch):
    job = prepare(tutorial_recipe(), batch)

    def costs(count):
        state, seen = job.state, []
        for _ in range(count):
            state, info = job.train_step(state, batch)
            seen.append(info.cost)
        return seen

    return costs


if __name__ == "__main__":
    main()
