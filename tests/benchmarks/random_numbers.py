"""Compare random numbers of both engines, in turn, and their bits.

    python tests/benchmarks/random_numbers.py [--blocks 15]

Times are medians, in nanoseconds a number. Measured on an AMD EPYC with AVX2, NumPy and compiled:
normal 66 and 15 on one thread, 8 on two; uniform 6.4 and 5, 2.7; entries of an order 70 and 49, 32.
Measured with AVX-512 on two threads: bits 3.8 and 2.2, an order of 2**20 59 and 25, of 2**13 46 and
14, of which the sort takes 20 and 5. A sort with half the memory, which packs a place into the last
bits of each number as NumPy's form does, takes as long for large orders, and longer for small ones.
"""

import time

import numpy as np
from environment import environment
from side_by_side import arguments

from pydnn import Key
from pydnn.engines import using_engine

COUNT = 1 << 20
PLACES = np.arange(0, 1 << 40, 1 << 20)[: 1 << 18]
DRAWS = {
    "bits": lambda key: key.bits(COUNT),
    "uniform": lambda key: key.uniform(COUNT),
    "normal": lambda key: key.normal(COUNT),
    "order": lambda key: key.permutation(COUNT),
    "order of 2**13": lambda key: key.permutation(1 << 13),
    "32 bits": lambda key: key.bits(32),
    "entries of an order of 2**40": lambda key: key.permuted(1 << 40, PLACES),
}


def main():
    args = arguments(__doc__, blocks=15, steps=1).parse_args()
    for name, draw in DRAWS.items():
        times, results = {"numpy": [], "compiled": []}, {}
        for _ in range(args.blocks + 1):
            for engine, taken in times.items():
                with using_engine(engine):
                    begin = time.perf_counter()
                    results[engine] = draw(Key(1))
                    taken.append((time.perf_counter() - begin) / results[engine].size * 1e9)
        assert results["numpy"].tobytes() == results["compiled"].tobytes()
        numpy, compiled = (np.median(taken[1:]) for taken in times.values())
        print(f"{name:29} {numpy:6.1f} {compiled:6.1f} ns, {numpy / compiled:.1f} times faster")
    print(environment())


if __name__ == "__main__":
    main()
