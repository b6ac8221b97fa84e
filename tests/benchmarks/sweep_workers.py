"""Times a sweep of 64 runs on one worker and on several, with one thread of BLAS in each.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/sweep_workers.py

Each run takes about a second and is not stacked. Every outcome must have the same bits. The workers
are started before the clock, since a program that sweeps again uses them again.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is loaded

from environment import environment

from pydnn import Batch, Key, dense, relu, serial
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import run_sweep, sweep
from pydnn.workers import processes


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=64, help="number of trainings")
    parser.add_argument("--iterations", type=int, default=600, help="steps of each")
    parser.add_argument("--workers", type=int, default=2, help="number of workers beside one")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    plan = plan_of(args.runs, args.iterations)
    seconds, results = {}, []
    for workers in (1, args.workers):
        with processes(workers) as executor:
            run_sweep(plan_of(workers, 1), executor=executor)  # they join and load pydnn
            begin = time.perf_counter()
            results.append(run_sweep(plan, executor=executor))
            seconds[workers] = time.perf_counter() - begin
    assert results[0] == results[1]
    ratio = seconds[args.workers] / seconds[1]
    if args.json:
        found = {"seconds": seconds, "ratio": ratio, "environment": environment()}
        print(json.dumps(found))
        return
    for workers, taken in seconds.items():
        print(f"{workers} workers: {taken:7.1f} s, {taken / args.runs:.2f} s for each run")
    print(f"ratio {ratio:.2f}")
    print(environment())


def plan_of(runs, iterations):
    X = Key(1).at("X").normal((64, 2000))
    points = Batch(X, X[:1] * X[1:2] > 0)
    recipe = Recipe(
        data="points",
        network=serial(dense(128), relu(), dense(64), relu(), dense(1)),
        loss="sigmoid_cross_entropy()",
        optimizer="adam(learning_rate=0.001)",
        batches="mini_batches(128)",
        iterations=iterations,
    )
    return sweep(recipe, points, seeds=runs, together=False)


if __name__ == "__main__":
    main()
