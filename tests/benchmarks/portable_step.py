"""A training step in portable arithmetic against the same step in fast arithmetic.

    python tests/benchmarks/portable_step.py [--job rotated|adam|products|tutorial]
        [--data photos/] [--json]

`rotated` is the tutorial's network on as many features as examples, 209-20-7-5-1, full batch in
float64: at most 3 times the time of `fast` is wanted. `adam` is 784-512-256-10 on batches of 128
with Adam in float32: at most 4 times. `products` are products alone, each with the limit that
the prototypes had. `tutorial` is the whole of the tutorial's job, on the photos in `--data` or
the drawn cats, from the start of a process to the saved model: 3 times again.

What was tried for `rotated`, in microseconds on one thread; first on an AMD EPYC with AVX-512:

- a product of 20 x 209 x 209 (48 in `fast`; the step has two): three slices a side, 218 for BLAS
  alone; two slices, 98 to 133; cutting W into slices adds 20, adding up 10, and the slices of X,
  cut once, 2;
- a small product, e.g. 7 x 20 x 209 (3 in `fast`, of which the step has nine: 160 in all): 28 as it
  stands, of which 16 multiply and 9 add; row by row, so that terms stay in the first cache, 33 to
  62; in two halves, 25; operands repeated first and then multiplied, 24 but not for other shapes;
- 7 x 209 x 20: 41; terms of one place next to each other, 70;
- a sum of 20 x 209: 10 with its lines turned first, 33 as they lie;
- exp of 209: 17 with numbers as arrays of no axes, 30 with Python's.

Then on one without, where all takes 1.7 times as long: of the step's 1,360 whole products of
stacked slices; 1,470 in pieces for one thread, which do not wait where a core is busy; 1,280 in
such pieces, each of the terms alone that are not zeros, since the rotated examples are triangular.
In two pieces, 1,280 as well, and so in wider or narrower ones. Of small products, terms in other
orders and NumPy's einsum gave nothing or took longer.

From there to 1,040, 2.8 times the 370 of `fast`: 85 by remembering the views of work arrays, of
which a tree of additions needs two for each level; 35 by naming the result of a ufunc third, not
by keyword; 35 by one piece of memory for all that is not needed at the same time, so that less is
pushed out of the cache; 30 in cutting W. Nothing came of: slices of X that lie together for each
piece, or take half of the memory; the three products of slices in two, or in one of zeros as well;
np.dot, which copies parts of matrices; smaller blocks of terms.

Of what is left, 330 are products of slices, whose 3.5 million multiplications take 130 at best,
but BLAS copies X before it multiplies it by so few rows; 90 cut W and dZ; 210 are the nine small
products. Where other processes use the caches, all takes longer, and portable arithmetic, which
has more in them, by more: up to 3.2 times `fast` was seen.
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

# Shape, dtype, and the limit of its time in that of `fast`.
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
              f"ratio {row['ratio']:5.2f}, at most {row['limit']} wanted")  # fmt: skip
    print(environment())


if __name__ == "__main__":
    main()
