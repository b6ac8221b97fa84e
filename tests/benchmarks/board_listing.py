"""Measure how long the board takes to show 500 runs, for the first time and then again.

    python tests/benchmarks/board_listing.py [--runs N] [--json]

The runs are copies of one, with 20 segments, metrics of a validation part and other file times. The
first time must be at most 2 s, also with --runs 2000, of which the first page shows 500.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from environment import environment

from pydnn import Batch, Key, adam, dense, mini_batches, relu, serial, sigmoid_cross_entropy
from pydnn.board import Board
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.runs import create_run, record

LIMIT = 2.0


def recorded(path):
    X = Key(1).normal((5, 64))
    data = Batch(X, (X[:1] > X[1:2]).astype(float))
    recipe = Recipe(
        data="normal numbers",
        network=serial(dense(4), relu(), dense(1)),
        loss=sigmoid_cross_entropy(),
        optimizer=adam(learning_rate=0.001),
        batches=mini_batches(16),
        iterations=200,
        validation=0.25,
        evaluate_every=10,
    )
    job = prepare(recipe, data)
    with create_run(path, job, data) as recording:
        for _ in record(recording, run(job), every=10):
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        runs = Path(folder)
        recorded(runs / "0001")
        for number in range(2, args.runs + 1):
            shutil.copytree(runs / "0001", runs / f"{number:04}")
        board = Board(runs)
        for _ in range(3):
            begun = time.perf_counter()
            answer = board.answer("/")
            seconds.append(time.perf_counter() - begun)
        unread = answer.content.count(b"not read yet")
    result = {"first": seconds[0], "again": min(seconds[1:]), "unread": unread, "limit": LIMIT}
    if args.json:
        print(json.dumps(result | {"environment": environment()}))
    else:
        print(
            f"{args.runs} runs: {seconds[0]:.2f} s for the first time (limit {LIMIT} s), then "
            f"{result['again']:.2f} s, with {unread} not read yet"
        )


if __name__ == "__main__":
    main()
