"""Time functions of pydnn and of PyTorch in turns, in one process."""

import os
import statistics
import time

from environment import environment

__all__ = ["milliseconds", "with_torch"]

PAUSE = 0.002  # seconds, in which the threads of the other library fall asleep


def with_torch(args):
    """Import PyTorch with `args.threads` threads for all libraries, and print what is measured.

    Nothing may have imported NumPy before, since OpenBLAS reads its number of threads only then.

    Returns:
        The module torch, and the clock: processor time if `args.cpu` is set, else wall time.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    print(f"{environment()}, PyTorch {torch.__version__}, {args.threads} threads")
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
