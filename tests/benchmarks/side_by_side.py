"""Time two ways to take the same steps, in turns in one process."""

import argparse
import json
import statistics
import time

import numpy as np
from environment import environment


def arguments(description, *, blocks, steps):
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=blocks, help="number of turns of each")
    parser.add_argument("--steps", type=int, default=steps, help="number of steps per turn")
    parser.add_argument("--json", action="store_true")
    return parser


def costs_of(train_step, start, batch):
    """Return a function `(count) -> costs` that takes steps from `start`, all on one batch."""

    def costs(count):
        state, all_costs = start, []
        for _ in range(count):
            state, info = train_step(state, batch)
            all_costs.append(info.cost)
        return all_costs

    return costs


def compare(peer, ours, args, *, limit, rtol=1e-9, **others):
    """Check that `peer` and `ours`, each (name, count -> costs), agree; then time and print both.

    The result is the median of the ratios of neighboring turns.
    """
    runs = dict([peer, ours])
    costs = [run(args.steps) for run in runs.values()]  # which also warms both up
    np.testing.assert_allclose(*costs, rtol=rtol)

    times = {name: [] for name in runs}
    for _ in range(args.blocks):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(args.steps)
            times[name].append((time.perf_counter() - begin) / args.steps * 1e6)
    ratios = [b / a for a, b in zip(times[peer[0]], times[ours[0]], strict=True)]
    result = {
        "microseconds": {name: statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "limit": limit,
        **others,
        "environment": environment(),
    }
    print(json.dumps(result) if args.json else _in_words(result))


def _in_words(result):
    rows = [f"{name:12} {us:9.1f} us a step" for name, us in result["microseconds"].items()]
    low, high = result["ratio_range"]
    rows.append(
        f"ratio        {result['ratio']:9.3f} (from {low:.3f} to {high:.3f}), "
        f"limit {result['limit']}"
    )
    return "\n".join([*rows, result["environment"]])
