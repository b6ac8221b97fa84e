"""Threads, processes, interruptions and lack of memory: the compiled engine corrupts nothing."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

import numba

import pydnn as nn
from pydnn import engines, portable
from pydnn.compiled import kernels
from pydnn.engines import using_engine
from pydnn.jobs.job import prepare, run
from pydnn.runs.state_arrays import state_fingerprint

KEY = nn.Key(1)
BATCH = nn.Batch(KEY.at("X").normal((3, 20)), np.arange(40).reshape(2, 20) % 2.0)


def job(optimizer="momentum(learning_rate=0.1)", **options):
    network = "serial(dense(3), relu, dropout(keep_prob=0.8), dense(2))"
    options = {"numerics": "portable", "iterations": 30} | options
    return prepare(nn.Recipe("points", network, "mean_squared", optimizer, **options), BATCH)


def result(job):
    for state, _ in run(job):  # noqa: B007
        pass
    return state_fingerprint(state)


def in_another_process(answers, optimizer):
    with using_engine("compiled"):
        answers.put(result(job(optimizer)))


OPTIMIZERS = ["momentum(learning_rate=0.1)", "momentum(learning_rate=0.01)", "adam", "lion"]


@pytest.mark.slow
def test_threads_that_train_at_the_same_time_give_the_bits_of_one(monkeypatch):
    jobs = [job(optimizer, dtype=d) for optimizer in OPTIMIZERS for d in ("float32", "float64")]
    with using_engine("numpy"):
        expected = list(map(result, jobs))
    kernels._from_text.cache_clear()  # so that they also compile at the same time
    with using_engine("compiled"), concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(result, jobs * 3)) == expected * 3
        assert engines.engine_in_use() == "compiled"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_goes_on_with_the_kernels_of_its_parent():
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with using_engine("compiled"):
        expected = result(job())
        child = context.Process(target=in_another_process, args=(answers, OPTIMIZERS[0]))
        child.start()
        assert answers.get(timeout=120) == expected
        child.join()
    with using_engine("numpy"):
        assert result(job()) == expected


PROGRAM = """
import sys
from compiled.test_hazards import job, result, using_engine
with using_engine("compiled"):
    print(result(job(iterations=3, numerics="fast")))
"""


@pytest.mark.slow
def test_processes_that_start_with_the_same_empty_cache_do_not_disturb_each_other(tmp_path):
    environment = os.environ | {"PYDNN_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)

    def started():
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    processes = [started(), started(), started()]
    found = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    with using_engine("numpy"):
        assert found == {result(job(iterations=3, numerics="fast")) + "\n"}
    assert {path.suffix for path in (tmp_path / "cache").rglob("*.*")} == {".py", ".nbi", ".nbc"}


@contextlib.contextmanager
def interrupted_after(seconds):
    """Raise KeyboardInterrupt in the block after some time, as Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_an_interruption_at_any_moment_leaves_everything_as_it_was():
    some = job(iterations=200, numerics="portable")
    with using_engine("numpy"):
        expected = [state_fingerprint(state) for state, _ in run(some)]
    with using_engine("compiled"):
        assert result(some) == expected[-1]  # compiles
        for seconds in np.geomspace(1e-4, 0.05, 25):
            states = [some.state]
            with contextlib.suppress(KeyboardInterrupt), interrupted_after(seconds):
                states += [state for state, _ in run(some)]
            for state, info in itertools.islice(run(some), 40):
                assert state_fingerprint(state) == expected[info.iteration]
        assert engines.engine_in_use() == "compiled"


def test_an_interruption_while_a_kernel_is_compiled_or_kept_leaves_it_for_the_next_call(
    monkeypatch,
):
    text = "def loop(a, out):\n    for i in range(out.size):\n        out[i] = a[i] * a[i] + a[i]\n"
    a, out = np.array([1.0, 2.0]), np.empty(2)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    compiled = kernels.kernel_from_text(text)
    for name in ("_load_data", "_save_data"):
        with monkeypatch.context() as patch:
            patch.setattr(f"numba.core.caching.IndexDataCacheFile.{name}", interrupted)
            with contextlib.suppress(KeyboardInterrupt):
                compiled(a, out)
    compiled(a, out)
    assert out.tolist() == [2.0, 6.0]


ON = {
    "exp": lambda: portable.exp(KEY.normal((9, 9))),
    "sums of columns": lambda: portable.sum(KEY.normal((20, 20)), axis=0),
    "sums of rows": lambda: portable.sum(KEY.normal((20, 20)), axis=1),
    "norm": lambda: portable.norm(KEY.normal(99)),
    "product": lambda: portable.matmul(KEY.normal((9, 9)), KEY.normal((9, 9))),
    "large product": lambda: portable.matmul(KEY.normal((30, 99)), KEY.normal((99, 99))),
    "float32": lambda: portable.matmul(*(KEY.normal((9, 9)).astype("f4"),) * 2),
    "large float32": lambda: portable.matmul(*(KEY.normal((99, 99)).astype("f4"),) * 2),
}


@pytest.mark.parametrize("name", ON)
def test_a_kernel_that_runs_out_of_memory_leaves_the_whole_result_to_numpy(name, monkeypatch):
    notes = []

    def failing(*arguments):
        for argument in arguments:
            if isinstance(argument, np.ndarray) and argument.flags.writeable:
                argument.fill(7)
        raise MemoryError("Allocation failed")

    for module in [m for n, m in sys.modules.items() if n.startswith("pydnn.compiled.portable.")]:
        for each, value in list(vars(module).items()):
            if isinstance(value, numba.core.dispatcher.Dispatcher):
                monkeypatch.setattr(module, each, failing)
            elif isinstance(value, dict) and not each.startswith("__"):
                for key, kernel in value.items():
                    if isinstance(kernel, numba.core.dispatcher.Dispatcher):
                        monkeypatch.setitem(value, key, failing)
    monkeypatch.setattr(engines, "_failed", False)
    with using_engine("numpy"):
        expected = ON[name]()
    with using_engine("compiled"), engines.notes_to(notes.append):
        assert np.array_equal(ON[name](), expected)
    assert "MemoryError" in notes[0]
