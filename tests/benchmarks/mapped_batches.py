"""Time random batches of examples that stay in a file, and of the same ones in memory.

    python tests/benchmarks/mapped_batches.py
    python tests/benchmarks/mapped_batches.py --rows 1000000 --size 64 --dtype float32

Each row has the microseconds of a batch, in turns; the page cache is warm. "rows in memory" are the
bytes of the file in an array, and "floats in memory" what pydnn holds of data that fits.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from pydnn import Batch, Key, mini_batches
from pydnn.data import Stored
from pydnn.records import examples_last
from pydnn.storage.mapped import open_stored


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--turns", type=int, default=7)
    return parser.parse_args()


def kinds(folder, args):
    """Return the same examples in a file, as bytes in memory, and as floats in memory, by name."""
    shape = (args.rows, args.features)
    rows = (Key(1).bits(shape[0] * shape[1] // 8 + 1).view(np.uint8))[: shape[0] * shape[1]]
    rows, labels = rows.reshape(shape), np.arange(args.rows, dtype=np.uint8) % 10
    np.save(folder / "X.npy", rows)
    mapped = Stored(open_stored(folder / "X.npy")["X"], labels, dtype=args.dtype)
    floats = Batch(examples_last(rows.astype(args.dtype)), labels.astype(args.dtype)[np.newaxis])
    return {
        "mapped": mapped,
        "rows in memory": Stored(rows, labels, dtype=args.dtype),
        "floats in memory": floats,
    }


def microseconds(examples, args, turn):
    batching, key = mini_batches(args.size), Key(2)
    batching.at(examples, key, 0)  # draws the order of the epoch
    start = time.perf_counter()
    for k in range(args.batches):
        batching.at(examples, key, (turn * args.batches + k) % batching.per_epoch(args.rows))
    return (time.perf_counter() - start) / args.batches * 1e6


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        every = kinds(Path(folder), args)
        times = {name: [] for name in every}
        for turn in range(args.turns + 1):
            for name, examples in every.items():
                times[name].append(microseconds(examples, args, turn))
        least = {name: min(some[1:]) for name, some in times.items()}  # the first warms the cache
    for name, time_ in least.items():
        speed = least["floats in memory"] / time_
        print(f"{name:18} {time_:8.1f} us  {speed:5.2f} times the speed of floats in memory")


if __name__ == "__main__":
    main()
