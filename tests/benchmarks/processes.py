"""Whole processes: their time from the start to the trained model, and their memory."""

import contextlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from import_time import ENVIRONMENT
from turns import costs_differ, threads_in

__all__ = [
    "CACHES",
    "FIRST",
    "costs_of_job",
    "draw_cats",
    "first_steps",
    "large_memory",
    "start_up",
    "sweeps",
    "tutorial_memory",
]

HERE = Path(__file__).parent
CACHES = ("pydnn compiled, cold cache", "pydnn compiled, warm cache")
# Each work whose first step is timed, with an arithmetic and a dtype
FIRST = {
    "P2": ("P2", "fast", "float32"),
    "P3 portable": ("P3", "portable", "float32"),
    "P3 portable, float64": ("P3", "portable", "float64"),
    "P5f32": ("P5f32", "fast", "float32"),
    "P5f32 portable": ("P5f32", "portable", "float32"),
    "P6": ("P6", "fast", "float64"),
}


def draw_cats(folder):
    """Draw as many pictures as there are photos in the real data, in the same layout."""
    command = ["-m", "pydnn", "data", "draw", str(folder), "--count", "209", "--test-count", "50"]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def start_up(*, data, threads, blocks):
    """Time the tutorial's job from the start of a process to the saved model.

    Returns:
        The seconds of each turn by peer, and the reasons why other peers were left out.
    """
    commands, absent = {"pydnn": _train_command(data, "--json")}, {}
    if find_spec("numba") is None:
        absent |= dict.fromkeys(CACHES, "numba is not installed: it is of the extra compiled")
    else:
        commands |= dict.fromkeys(CACHES, _train_command(data, "--json", "--engine", "compiled"))
    for peer, module in {"PyTorch": "torch", "JAX": "jax"}.items():
        if find_spec(module) is None:
            absent[peer] = f"{module} is not installed, install the extra bench"
        else:
            _run(["-c", f"import {module}"], threads)  # loads its files into the file cache
            commands[peer] = [str(HERE / "peers" / f"tutorial_in_{module}.py"), data, "."]
    seconds, expected = {peer: [] for peer in commands}, None
    with tempfile.TemporaryDirectory() as warm:
        for _ in range(blocks):
            for peer, command in commands.items():
                with _cache_of(peer, warm, command, threads) as cache:
                    taken, _, output = _run(command, threads, **cache)
                costs = json.loads(output)["costs"]
                expected = expected or costs
                if costs_differ(costs, expected, 1e-9):
                    raise SystemExit(f"startup: the costs of {peer} are not those of pydnn")
                seconds[peer].append(taken)
    return seconds, absent


@contextlib.contextmanager
def _cache_of(name, warm, command, threads):
    """Give the variables for a run with an empty cache, or with `warm`, which a run has filled."""
    if name == CACHES[1]:
        if not os.listdir(warm):
            _run(command, threads, PYDNN_CACHE=warm, PYDNN_COMPILE="here")
        yield {"PYDNN_CACHE": warm, "PYDNN_COMPILE": "aside"}
        return
    with tempfile.TemporaryDirectory() as cold:
        yield {"PYDNN_CACHE": cold, "PYDNN_COMPILE": "aside"}


TIMED = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
engine, name, numerics, dtype = sys.argv[1:]
from works import work_called
from peers import with_pydnn
import attrs, pydnn
work = work_called(name, None)
start = [[array.astype(dtype) for array in layer] for layer in work.start()]
batches = [(X.astype(dtype), y) for X, y in work.batches]
work = attrs.evolve(work, steps=1, batches=batches, start=lambda: start)
begin = with_pydnn.fold(work, engine=engine, numerics=getattr(pydnn, numerics))
before = time.perf_counter()
begin()()
print(time.perf_counter() - before)
"""


def first_steps(name, *, blocks, threads):
    """Time the first step of a work in a process.

    Args:
        name: The work, one of `FIRST`.
        blocks: The number of processes for each row.
        threads: The number of threads.

    Returns:
        The seconds of each process, by NumPy, and compiled with both kinds of cache.
    """
    compiled = () if find_spec("numba") is None else CACHES
    seconds = {"pydnn": [], **{row: [] for row in compiled}}
    with tempfile.TemporaryDirectory() as warm:
        for _ in range(blocks):
            for row, taken in seconds.items():
                command = ["-c", TIMED, "compiled" if row in CACHES else "numpy", *FIRST[name]]
                with _cache_of(row, warm, command, threads) as cache:
                    taken.append(float(_run(command, threads, **cache)[2]))
    return seconds


def sweeps(*, blocks, threads):
    """Time sweeps with both engines: the seconds of each turn by name and way."""
    command = [str(HERE / "sweep.py"), "--json", "--blocks", str(blocks)]
    return json.loads(_run(command, threads)[2])["seconds"]


def costs_of_job(data, *options, threads):
    """Return the costs of all steps of `pydnn train` in a process that also saves its model."""
    return json.loads(_run(_train_command(data, "--json", *options), threads)[2])["costs"]


def tutorial_memory(*, data, threads):
    """Return the peak memory of `pydnn train` on the tutorial's job, in bytes."""
    return _run(_train_command(data, "--quiet"), threads)[1]


def _train_command(data, *options):
    return ["-m", "pydnn", "train", "--data", data, "--run", "run", *options]


def _run(arguments, threads, **variables):
    """Run Python in a new folder: return its seconds, its peak memory in bytes, its output."""
    with tempfile.TemporaryDirectory() as folder, threads_in(ENVIRONMENT, threads):
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**ENVIRONMENT, **variables},
            stdout=subprocess.PIPE,
        )
        output = process.stdout.read()
        # The peak memory of a process counts from its fork, so it is at least the size of this
        # process, which therefore imports nothing large.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss * 1024, output


# P4's memory


def large_memory(*, threads):
    """Measure the memory of P4 in pydnn.

    Returns:
        Bytes by name. "interpreter" includes all imports and BLAS's work memory. "arrays" are the
        arrays that must exist at the same time: parameters and velocity before and after the step,
        since a step changes neither, gradients, batch and hidden activations. "initial state" and
        "training" are the peaks while the state is made and while training runs.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with threads_in(os.environ, threads):
        process = context.Process(target=_train_large, args=(theirs,))
        process.start()
        theirs.close()
        sizes = ours.recv()
        process.join()
    return sizes


def _train_large(talk):
    import itertools

    import numpy as np
    import toolz
    from peers.with_pydnn import batches_of, loss_of, network_of, optimizer_of
    from works import work_called

    from pydnn import Key, initial_state, make_train_step, scan

    square = np.ones((1024, 1024), np.float32)
    square @ square  # BLAS allocates its work memory at the first product
    del square
    peaks = {"interpreter": _peak_memory()}
    work = work_called("P4", None)
    sizes = work.sizes
    [batch] = batches_of(work)
    network, optimizer = network_of(work), optimizer_of(work)
    state = initial_state(network, optimizer, sizes[:1], key=Key(1), dtype=work.dtype)
    peaks["initial state"] = _peak_memory()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    train_step = make_train_step(network, loss_of(work), optimizer)
    parameters = state.parameters.vector.nbytes
    stream = scan(train_step, state, itertools.repeat(batch, 4))
    del state  # so that only the stream holds it
    toolz.last(stream)
    peaks["training"] = _peak_memory()
    activations = sum(sizes[1:-1]) * batch.X.shape[1] * batch.X.itemsize
    peaks["arrays"] = 5 * parameters + batch.X.nbytes + activations
    talk.send(peaks)


def _peak_memory():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
