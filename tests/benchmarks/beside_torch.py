"""Time functions of pydnn and of PyTorch in turns, in one process."""

import argparse
import contextlib
import os
import statistics
import time

from environment import environment

__all__ = ["arguments", "milliseconds", "with_torch"]

PAUSE = 0.002  # seconds, in which the threads of the other library fall asleep


def arguments(description):
    """Return a parser with the options of all these benchmarks."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", default="numpy", help="numpy or compiled, for pydnn")
    parser.add_argument("--dtype", nargs="+", default=["float64", "float32"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--cpu", action="store_true", help="measure the time of the process")
    return parser


_until_the_end = contextlib.ExitStack()


def with_torch(args):
    """Import PyTorch with `args.threads` threads for all libraries, and print what is measured.

    pydnn uses the engine `args.engine` from then on.

    Nothing may have imported NumPy before, since OpenBLAS reads its number of threads only then.

    Returns:
        The module torch, and the clock: processor time if `args.cpu` is set, else wall time.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import torch

    from pydnn.engines import using_engine

    torch.set_num_threads(args.threads)
    _until_the_end.enter_context(using_engine(args.engine))
    versions = f"{environment()}, PyTorch {torch.__version__}"
    print(f"{versions}, {args.threads} threads, engine {args.engine}")
    return torch, time.process_time if args.cpu else time.perf_counter


def milliseconds(runs, turns, clock):
    """Call functions in turns, and return the least time of each, and the median of each.

    Each is called twice in its turn and timed the second time, with its arrays in cache again and
    its threads awake. A first round is not counted.
    """
    times = [[] for _ in runs]
    for turn in range(-1, turns):
        for run, taken in zip(runs, times, strict=True):
            if clock is time.perf_counter:
                time.sleep(PAUSE)
            run()
            begin = clock()
            run()
            if turn >= 0:
                taken.append(1e3 * (clock() - begin))
    return [min(taken) for taken in times], [statistics.median(taken) for taken in times]
