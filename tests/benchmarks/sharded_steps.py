"""Time one training step with shards under several executors, in turns in one process.

For each network and executor it prints the median milliseconds of a step, and how many they are
more than those of the same step in the thread that asks. Less than 0 means that workers gain more
than their messages cost.

    python tests/benchmarks/sharded_steps.py
    python tests/benchmarks/sharded_steps.py --examples 1024 --workers 2 --cluster local:2

Each step has the same bits with every executor, and the benchmark checks that.
"""

import argparse
import contextlib
import statistics
import time

NETWORKS = {  # the sizes of the input and of the layers, by the number of parameters
    337: (12, 24, 1),
    535_818: (784, 512, 256, 10),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=256, help="in a batch")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--networks", type=int, nargs="+", default=list(NETWORKS))
    parser.add_argument("--cluster", help="also time a cluster of Dask, e.g. local:2")
    return parser.parse_args()


def work(sizes, examples, shards):
    """A step with shards, its first state, and a batch."""
    import numpy as np

    import pydnn as nn

    n_x, *units = sizes
    layers = [part for n in units for part in (nn.dense(n), nn.relu())][:-1]
    network, optimizer = nn.serial(*layers), nn.adam()
    loss = nn.sigmoid_cross_entropy() if units[-1] == 1 else nn.softmax_cross_entropy()
    step = nn.make_train_step(network, loss, optimizer, shards=shards)
    state = nn.initial_state(network, optimizer, (n_x,), key=nn.Key(1), dtype=np.float32)
    X = nn.Key(2).normal((n_x, examples)).astype(np.float32)
    Y = (nn.Key(3).uniform((1, examples)) * max(2, units[-1])).astype(int)
    return step, state, nn.Batch(X, Y.astype(np.float32))


def main():
    args = arguments()
    import pydnn as nn

    with contextlib.ExitStack() as stack:
        executors = {
            "here": None,
            f"threads({args.workers})": stack.enter_context(nn.workers.threads(args.workers)),
            f"processes({args.workers})": stack.enter_context(nn.workers.processes(args.workers)),
        }
        if args.cluster:
            executors[args.cluster] = stack.enter_context(nn.workers.dask(args.cluster))
        print("parameters  executor            ms a step   more than here")
        for size in args.networks:
            step, state, batch = work(NETWORKS[size], args.examples, args.shards)
            times = take_turns(step, state, batch, executors, args.turns)
            for name, taken in times.items():
                more = statistics.median(taken) - statistics.median(times["here"])
                print(f"{size:10,}  {name:18}  {statistics.median(taken):9.3f}  {more:15.3f}")


def take_turns(step, state, batch, executors, turns):
    """The milliseconds of each turn with each executor, one after the other in every turn."""
    steps = {name: step.computed_by(executor) for name, executor in executors.items()}
    states = dict.fromkeys(steps, state)
    times = {name: [] for name in steps}
    for turn in range(-5, turns):  # the first turns start workers and share memory
        for name, one in steps.items():
            begin = time.perf_counter()
            states[name], _ = one(states[name], batch)
            if turn >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    vectors = {state.parameters.vector.tobytes() for state in states.values()}
    assert len(vectors) == 1, "the executors have other bits"
    return times


if __name__ == "__main__":
    main()
