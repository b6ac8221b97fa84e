"""Whole processes: from their start to the trained model, and the memory that they take."""

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

__all__ = ["costs_of_job", "draw_cats", "large_memory", "start_up", "tutorial_memory"]

HERE = Path(__file__).parent


def draw_cats(folder):
    """Draw as many cats and other things as there are photos, in their layout."""
    command = ["-m", "pydnn", "data", "draw", str(folder), "--count", "209", "--test-count", "50"]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def start_up(*, data, threads, blocks):
    """The tutorial's job, from the start of a process to the saved model.

    Returns:
        Seconds by peer, one for each turn; and why others were left out.
    """
    commands, absent = {"pydnn": _train_command(data, "--json")}, {}
    for peer, module in {"PyTorch": "torch", "JAX": "jax"}.items():
        if find_spec(module) is None:
            absent[peer] = f"{module} is not installed: it is of the extra bench"
        else:
            _run(["-c", f"import {module}"], threads)  # brings its files into memory
            commands[peer] = [str(HERE / "peers" / f"tutorial_in_{module}.py"), data, "."]
    seconds, expected = {peer: [] for peer in commands}, None
    for _ in range(blocks):
        for peer, command in commands.items():
            taken, _, output = _run(command, threads)
            costs = json.loads(output)["costs"]
            expected = expected or costs
            if costs_differ(costs, expected, 1e-9):
                raise SystemExit(f"startup: the costs of {peer} are not those of pydnn")
            seconds[peer].append(taken)
    return seconds, absent


def costs_of_job(data, *options, threads):
    """The costs of all steps of `pydnn train`, in a process that saves its model, too."""
    return json.loads(_run(_train_command(data, "--json", *options), threads)[2])["costs"]


def tutorial_memory(*, data, threads):
    """Bytes that `pydnn train` has in memory at most, for the tutorial's job."""
    return _run(_train_command(data, "--quiet"), threads)[1]


def _train_command(data, *options):
    return ["-m", "pydnn", "train", "--data", data, "--run", "run", *options]


def _run(arguments, threads):
    """Run Python in a folder of its own: seconds, bytes at most in memory, and its output."""
    with tempfile.TemporaryDirectory() as folder, threads_in(ENVIRONMENT, threads):
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        output = process.stdout.read()
        # What a process had in memory at most counts from the fork on, so that this one's own
        # size is the least that could be seen: it imports nothing large.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss * 1024, output


# P4's memory


def large_memory(*, threads):
    """Bytes of P4 in pydnn.

    Returns:
        By name: "interpreter", with all that is imported and BLAS awake; "arrays", that there
        must be at once: parameters and velocity before the step and after it, since it changes
        neither, gradients, batch and the activations of hidden layers; "initial state" and
        "training", at most while the one is made and while the other goes on.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with threads_in(os.environ, threads):
        process = context.Process(target=_train_large, args=(theirs,))
        process.start()
        theirs.close()
        found = ours.recv()
        process.join()
    return found


def _train_large(talk):
    import itertools

    import numpy as np
    import toolz
    from peers.with_pydnn import batches_of, loss_of, network_of, optimizer_of
    from works import work_called

    from pydnn import Key, initial_state, make_train_step, scan

    square = np.ones((1024, 1024), np.float32)
    square @ square  # after which BLAS has the work memory that it keeps
    del square
    found = {"interpreter": _most_memory()}
    work = work_called("P4", None)
    sizes = work.sizes
    [batch] = batches_of(work)
    network, optimizer = network_of(work), optimizer_of(work)
    state = initial_state(network, optimizer, sizes[:1], key=Key(1), dtype=work.dtype)
    found["initial state"] = _most_memory()
    Path("/proc/self/clear_refs").write_text("5")  # from here on, at most since now
    train_step = make_train_step(network, loss_of(work), optimizer)
    parameters = state.parameters.vector.nbytes
    stream = scan(train_step, state, itertools.repeat(batch, 4))
    del state  # which the stream holds for as long as it must
    toolz.last(stream)
    found["training"] = _most_memory()
    activations = sum(sizes[1:-1]) * batch.X.shape[1] * batch.X.itemsize
    found["arrays"] = 5 * parameters + batch.X.nbytes + activations
    talk.send(found)


def _most_memory():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
