"""Compare a training step of both arithmetics and engines, in turn, and compare their bits.

    python tests/benchmarks/compiled_portable.py [--job small|rotated|adam] [--blocks 25]

`small` is 2-16-16-1 on a batch of 32 in float32, `rotated` and `adam` are those of
portable_step.py. Unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE. Times are medians of CPU time, in
microseconds, since other processes would count in the time of a clock; so run it with
OPENBLAS_NUM_THREADS=1. Both engines must give the same bits.

Measured on an AMD EPYC with AVX-512 whose two cores were busy with ten other processes, as
multiples of `fast` with NumPy: `small` 10 with NumPy, 2.1 with the compiled functions of portable
arithmetic, and 0.3 with the compiled step.

Measured on an AMD EPYC with AVX2, before all other processes: `rotated` 2.8 with NumPy and 1.6
compiled; `adam` 2.9 and 1.95. With products by BLAS, from widened operands and slices, the compiled
engine took 2.1 and 2.4. Of the 11.4 ms of `adam`, 8.3 are tiles of products, of which float64
products by BLAS alone take 7.9, and float32 products, those of `fast`, 3.6; 0.8 pack operands, and
0.3 find entries without terms.
"""

import argparse
import statistics
import time

import numpy as np
from environment import environment
from portable_step import by_adam, rotated

import pydnn as nn
from pydnn import engines


def small():
    X = nn.Key(1).at("X").normal((2, 32)).astype(np.float32)
    batch = nn.Batch(X, (X[:1] * X[1:] > 0).astype(np.float32))
    network = nn.serial(nn.dense(16), nn.relu(), nn.dense(16), nn.relu(), nn.dense(1))
    optimizer = nn.gradient_descent(learning_rate=0.1)
    return network, nn.sigmoid_cross_entropy(), optimizer, batch, None


JOBS = {"small": (small, 200), "rotated": (rotated, 20), "adam": (by_adam, 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", choices=JOBS, default="small")
    parser.add_argument("--blocks", type=int, default=25)
    args = parser.parse_args()
    make, count = JOBS[args.job]
    network, loss, optimizer, batch, _ = make()
    start = nn.initial_state(
        network, optimizer, batch.X.shape[:1], key=nn.Key(1), dtype=batch.X.dtype
    )
    steps = {
        (numerics.name, engine): nn.make_train_step(network, loss, optimizer, numerics=numerics)
        for numerics in (nn.fast, nn.portable)
        for engine in ("numpy", "compiled")
    }
    times, bits = {name: [] for name in steps}, {}
    for block in range(args.blocks + 1):
        for name, step in steps.items():
            with engines.using_engine(name[1]):
                state, begin = start, time.process_time()
                for _ in range(count):
                    state, _ = step(state, batch)
                taken = (time.process_time() - begin) / count * 1e6
            bits[name] = state.parameters.vector.tobytes()
            if block:  # the first one compiles
                times[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for (numerics, engine), median in medians.items():
        ratio = median / medians["fast", "numpy"]
        print(f"{numerics:9} {engine:9} {median:9.1f} us a step  {ratio:5.2f} times fast")
        assert bits[numerics, engine] == bits[numerics, "numpy"]
    print(environment())


if __name__ == "__main__":
    main()
