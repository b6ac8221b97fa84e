"""Compare a sweep of 32 trainings all at once with the same trainings one after the other.

Both are done by both engines if numba is installed.

    python tests/benchmarks/sweep.py [--json] [--digits]

Both are whole sweeps, from recipes to scores on all data, in turns in one process. All bits of all
costs and parameters are compared before anything is timed. The networks are 2-16-16-1 on batches of
32 in float32, with gradient descent and with Adam, and 64-16-10 on the digits of scikit-learn. With
--digits, which takes minutes, there is also the recipe examples/digits.toml for 60 iterations,
whose layers of 256 units are so large that the sweep trains them one by one anyway.
"""

import argparse
import json
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

import attrs
import numpy as np
from environment import environment

from pydnn import (
    Batch,
    Key,
    adam,
    dense,
    describe,
    gradient_descent,
    mini_batches,
    relu,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.data import load_data_set
from pydnn.engines import using_engine
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import read_recipe
from pydnn.sweeps import run_sweep, sweep

EXAMPLES = Path(__file__).parents[2] / "examples"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=5, help="number of turns of each")
    parser.add_argument("--seeds", type=int, default=32, help="number of trainings in a sweep")
    parser.add_argument("--digits", action="store_true", help="also measure examples/digits.toml")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seconds = {name: compared(*case, args) for name, case in cases(args).items()}
    if args.json:
        print(json.dumps({"seconds": seconds, "environment": environment()}))
        return
    for name, ways in seconds.items():
        print(f"{args.seeds} runs of {name}")
        for way, taken in ways.items():
            ratios = [b / a for a, b in zip(ways["pydnn"], taken, strict=True)]
            print(
                f"  {way:28} {statistics.median(taken):9.2f} s {statistics.median(ratios):9.2f} "
                f"(from {min(ratios):.2f} to {max(ratios):.2f})"
            )
    print(environment())


def cases(args):
    small = recipe(
        serial(dense(16), relu(), dense(16), relu(), dense(1)),
        sigmoid_cross_entropy(),
        gradient_descent(learning_rate=0.1),
        mini_batches(32),
    )
    X = Key(1).at("X").normal((2, 640)).astype(np.float32)
    points = Batch(X, (X[:1] * X[1:] > 0).astype(np.float32))
    digits = load_data_set("digits").train
    layers = recipe(
        serial(dense(16), relu(), dense(10)),
        softmax_cross_entropy(),
        adam(learning_rate=0.002),
        mini_batches(32),
    )
    by_adam = attrs.evolve(small, optimizer=describe(adam(learning_rate=0.01)))
    all_cases = {
        "2-16-16-1, gradient descent": (small, points),
        "2-16-16-1, Adam": (by_adam, points),
        "digits, 64-16-10, Adam": (layers, digits),
    }
    if args.digits:
        example = read_recipe((EXAMPLES / "digits.toml").read_text())
        short = attrs.evolve(example, iterations=60, watch="", patience=0, evaluate_every=0)
        all_cases["digits.toml, 60 iterations"] = (short, digits)
    return all_cases


def recipe(network, loss, optimizer, batches):
    return Recipe(
        data="points",
        network=describe(network),
        loss=describe(loss),
        optimizer=describe(optimizer),
        batches=describe(batches),
        iterations=1000,
        dtype="float32",
    )


def compared(recipe, batch, args):
    """Return the seconds of each turn, by way, after comparing all bits."""
    plans = {
        "": sweep(recipe, batch, seeds=args.seeds),
        ", one by one": sweep(recipe, batch, seeds=args.seeds, together=False),
    }
    engines = {"pydnn": "numpy"} | ({"pydnn compiled": "compiled"} if find_spec("numba") else {})
    ways = {
        f"{name}{how}": (plan, engine)
        for how, plan in plans.items()
        for name, engine in engines.items()
    }
    first, *others = (carried_out(*way).outcomes for way in ways.values())
    for outcomes in others:
        for ours, own in zip(first, outcomes, strict=True):
            assert ours.model.parameters.vector.tobytes() == own.model.parameters.vector.tobytes()
            assert ours.costs.tobytes() == own.costs.tobytes()
            assert ours.scores == own.scores
    times = {name: [] for name in ways}
    for _ in range(args.blocks):
        for name, way in ways.items():
            begin = time.perf_counter()
            carried_out(*way)
            times[name].append(time.perf_counter() - begin)
    return times


def carried_out(plan, engine):
    with using_engine(engine):
        return run_sweep(plan)


if __name__ == "__main__":
    main()
