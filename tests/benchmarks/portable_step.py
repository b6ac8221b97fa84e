"""Compare a training step in portable arithmetic with the same step in fast arithmetic.

    python tests/benchmarks/portable_step.py [--job rotated|adam|products|tutorial]
        [--data photos/] [--json]

`rotated` is the tutorial's network with as many features as examples, 209-20-7-5-1, full batch in
float64: the limit is 3 times the time of `fast`. `adam` is 784-512-256-10 on batches of 128 with
Adam in float32: the limit is 4 times. `products` are matrix products alone, each with the limit of
the prototypes. `tutorial` is the tutorial's whole job, on the photos in `--data` or on drawn cats,
from the start of a process to the saved model: the limit is 3 times again.

What was tried for `rotated`, with times in microseconds on one thread. First on an AMD EPYC with
AVX-512:

- A product of 20 x 209 x 209 (48 in `fast`; the step has two): BLAS alone takes 218 with three
  slices per operand, and 98 to 133 with two. Cutting W into slices adds 20, adding the results 10,
  and the slices of X, which are cut once, 2.
- A small product, e.g. 7 x 20 x 209 (3 in `fast`; the step has nine, 160 in all): 28 as it is now,
  of which 16 multiply and 9 add. Row by row, so that terms stay in the first cache, it takes 33 to
  62; in two halves, 25; with repeated operands, 24, but not for other shapes.
- A product of 7 x 209 x 20: 41, and 70 with the terms of one entry next to each other.
- A sum of 20 x 209: 10 if its rows are transposed first, 33 if not.
- exp of 209 numbers: 17 with constants as arrays without axes, 30 with Python's floats.

Then on a machine without AVX-512, where everything takes 1.7 times as long. The step took 1,360
with whole products of stacked slices; 1,470 in pieces for one thread, which do not wait for a busy
core; and 1,280 in such pieces that leave out the zeros, since the rotated examples are triangular.
Two pieces, and wider or narrower ones, take 1,280 too. For small products, other orders of terms
and NumPy's einsum were not faster.

Four changes then reduced it to 1,040, which is 2.8 times the 370 of `fast`: caching the views of
work arrays, of which a tree of additions needs two per level (85); passing the result of a ufunc as
third argument instead of by keyword (35); sharing one piece of memory between arrays that are not
needed at the same time, so that less leaves the cache (35); and a faster cut of W (30). These did
not help: slices of X that lie together for each piece, or take half of the memory; two products of
slices instead of three, or one that includes zeros; np.dot, which copies parts of matrices; smaller
blocks of terms.

Of the rest, 330 are products of slices, whose 3.5 million multiplications take at least 130, since
BLAS copies X before it multiplies it by so few rows; 90 cut W and dZ; 210 are the nine small
products. If other processes use the caches, everything takes longer, and portable arithmetic most,
since it has more data in them: up to 3.2 times `fast` was measured.
"""

import functools
import itertools
import json
import statistics
import time

import numpy as np
from environment import environment
from processes import costs_of_job
from side_by_side import arguments, compare, costs_of

from pydnn import (
    Batch,
    Key,
    adam,
    dense,
    fast,
    gradient_descent,
    initial_state,
    make_train_step,
    portable,
    relu,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    watch_finite,
)
from pydnn.numerics.portable.cache import unchangeable

# Shape, dtype, and the largest allowed time relative to `fast`.
PRODUCTS = (
    ((128, 784, 256), np.float32, 3.8),
    ((256, 1024, 1024), np.float32, 5.3),
    ((512, 4096, 512), np.float32, 7.6),
    ((20, 12288, 209), np.float32, 15),
    ((20, 209, 209), np.float32, 5),
    ((128, 784, 256), np.float64, 17),
    ((256, 1024, 1024), np.float64, 8.5),
    ((512, 4096, 512), np.float64, 7.0),
    ((20, 12288, 209), np.float64, 14),
    ((20, 209, 209), np.float64, 14),
)


def main():
    parser = arguments(__doc__, blocks=15, steps=40)
    jobs = ["rotated", "adam", "products", "tutorial"]
    parser.add_argument("--job", choices=jobs, default="rotated")
    parser.add_argument("--data", default="drawn-cats", metavar="NAME")
    args = parser.parse_args()
    if args.job == "products":
        products(args)
        return
    if args.job == "tutorial":
        tutorial(args)
        return
    network, loss, optimizer, batch, limit = rotated() if args.job == "rotated" else by_adam()
    start = initial_state(network, optimizer, batch.X.shape[:1], key=Key(1), dtype=batch.X.dtype)
    steps = {
        one.name: make_train_step(network, loss, optimizer, numerics=one).insert_after(
            "update", watch_finite(network, numerics=one)
        )
        for one in (fast, portable)
    }
    named = [(name, costs_of(step, start, batch)) for name, step in steps.items()]
    compare(*named, args, limit=limit, rtol=1e-3 if args.job == "adam" else 1e-9)


def rotated():
    m = 209
    X = unchangeable(np.asfortranarray(np.linalg.qr(Key(1).uniform((2 * m, m)))[1]))
    batch = Batch(X, (Key(2).uniform((1, m)) < 0.35).astype(float))
    layers = itertools.chain(*((dense(units), relu()) for units in (20, 7, 5)))
    optimizer = gradient_descent(learning_rate=0.0075)
    return serial(*layers, dense(1)), sigmoid_cross_entropy(), optimizer, batch, 3


def by_adam():
    X = Key(1).uniform((784, 128)).astype(np.float32)
    batch = Batch(X, Key(2).integers(10, (1, 128)).astype(np.float32))
    network = serial(dense(512), relu(), dense(256), relu(), dense(10))
    return network, softmax_cross_entropy(), adam(), batch, 4


def tutorial(args):
    args.blocks, args.steps = min(args.blocks, 7), 2500

    def costs(count, numerics):
        options = ("--rotate", "--numerics", numerics, "--iterations", str(count))
        return costs_of_job(args.data, *options, threads=1)

    named = [(name, functools.partial(costs, numerics=name)) for name in ("fast", "portable")]
    compare(*named, args, limit=3)


def products(args):
    rows = []
    for (m, k, n), dtype, limit in PRODUCTS:
        a, b = (Key(k).at(name).normal(shape).astype(dtype) for name, shape in
                (("a", (m, k)), ("b", (k, n))))  # fmt: skip
        times = {one.name: [] for one in (fast, portable)}
        for _ in range(args.blocks):
            for one in (fast, portable):
                begin = time.perf_counter()
                one.matmul(a, b)
                times[one.name].append((time.perf_counter() - begin) * 1e6)
        medians = {name: statistics.median(values[1:]) for name, values in times.items()}
        ratio = medians["portable"] / medians["fast"]
        rows.append({"shape": [m, k, n], "dtype": np.dtype(dtype).name, "microseconds": medians,
                     "ratio": ratio, "limit": limit})  # fmt: skip
    if args.json:
        print(json.dumps({"products": rows, "environment": environment()}))
        return
    for row in rows:
        shape = " x ".join(map(str, row["shape"]))
        us = row["microseconds"]
        print(f"{shape:18} {row['dtype']}  {us['fast']:9.1f} us  {us['portable']:9.1f} us  "
              f"ratio {row['ratio']:5.2f}, limit {row['limit']}")  # fmt: skip
    print(environment())


if __name__ == "__main__":
    main()
