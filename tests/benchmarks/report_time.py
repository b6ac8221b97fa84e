"""Measure how long the report of a run of 100,000 steps takes to write, and how large it is.

    python tests/benchmarks/report_time.py [--steps N] [--json]

The run has a tiny network, so that its steps are the work, and noise for all its numbers, so that
no curve is easy to draw: a cost, a norm and a learning rate in each step, and 14 measurements in
every 50th. The report must take at most 5 s and 2 MB.
"""

import argparse
import collections
import json
import tempfile
import time
from pathlib import Path

import attrs
from environment import environment

import pydnn as nn
from pydnn.reports import report_of_run
from pydnn.runs import Run, create_run, record
from pydnn.training import StepInfo

SECONDS, BYTES = 5.0, 2_000_000
METRICS = ("cost", "accuracy", "precision", "recall", "f1", "roc_auc", "log_loss")


def long_run(path, steps, segments=20):
    """Record a run of as many steps, whose numbers are noise, and return its data."""
    X = nn.Key(1).normal((2, 60))
    Y = (X[:1] > 0).astype(float)
    data = nn.data.DataSet(nn.Batch(X[:, :40], Y[:, :40]), nn.Batch(X[:, 40:], Y[:, 40:]))
    recipe = nn.Recipe(
        data="noise",
        network=nn.serial(nn.dense(4), nn.relu(), nn.dense(1)),
        loss=nn.sigmoid_cross_entropy(),
        optimizer=nn.adam(learning_rate=0.01),
        iterations=steps,
        validation=0.2,
        evaluate_every=50,
    )
    job = nn.jobs.prepare(recipe, data)
    noise = nn.Key(2).uniform((3, steps)).tolist()
    measured = {f"{part} {name}": 0.0 for part in ("train", "validation") for name in METRICS}

    def stream():
        for step, (cost, norm, rate) in enumerate(zip(*noise, strict=True)):
            values = {}
            if step % 50 == 49:
                values = {name: cost * i for i, name in enumerate(measured)}
            info = StepInfo(step, cost, norm, {"learning_rate": rate}, values)
            yield attrs.evolve(job.state, iteration=step + 1), info

    with create_run(path, job, data) as recording:
        collections.deque(record(recording, stream(), every=max(1, steps // segments)), maxlen=0)
    return data


def measured(path, data, repeats=3):
    """Return the seconds that it takes to open a run and write its report, and the bytes of it."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        # The states are not those of a training, so that its steps have other bits.
        text = report_of_run(Run.open(path, data=data, anyway=True))
        seconds.append(time.perf_counter() - begin)
    return {"seconds": min(seconds), "bytes": len(text.encode())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "run"
        result = measured(path, long_run(path, args.steps))
    if args.json:
        print(json.dumps({**result, "limits": [SECONDS, BYTES], "environment": environment()}))
        return
    print(f"report of {args.steps:,} steps  {result['seconds']:6.2f} s, limit {SECONDS:g} s")
    print(
        f"{'':{len(f'report of {args.steps:,} steps')}}  {result['bytes']:,} bytes, limit {BYTES:,}"
    )
    print(environment())


if __name__ == "__main__":
    main()
