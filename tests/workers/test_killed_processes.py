"""Worker processes and their program are killed at any moment: no bit changes, nothing is left."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.data.stored import Stored
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.mapped import open_stored
from pydnn.workers import Spec, Task, processes, serial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="it sends signals of POSIX"),
]

POINTS = nn.Batch(
    nn.Key(1).at("X").normal((50, 400)), (nn.Key(1).at("Y").uniform((1, 400)) > 0.5) * 1.0
)
RECIPE = nn.Recipe(
    "points",
    "serial(dense(60), relu(), dropout(keep_prob=0.8), batch_norm(per_shard=true), dense(1))",
    "sigmoid_cross_entropy()",
    "adam()",
    iterations=120,
    batches="mini_batches(150)",
    shards=5,
)


def pids(executor):
    return [worker._child.process.pid for worker in executor._crew]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def expected():
    return state_fingerprint(nn.train(RECIPE, POINTS).last)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_bits_are_those_of_one_thread(count, expected, tmp_path):
    for name in ("X", "Y"):
        np.save(tmp_path / f"{name}.npy", np.ascontiguousarray(getattr(POINTS, name).T))
    stored = Stored(*(open_stored(tmp_path / f"{name}.npy")["X"] for name in ("X", "Y")))
    with processes(count) as executor:
        for data in (POINTS, stored):
            assert state_fingerprint(nn.train(RECIPE, data, executor=executor).last) == expected


def test_workers_that_are_killed_at_random_moments_change_no_bit(expected):
    moments = random.Random(1)
    ended = threading.Event()
    killed = []
    with processes(2) as executor:

        def kill_now_and_then():
            while not ended.wait(moments.uniform(0.2, 1.2) * max(1.0, to_start)):
                pid = moments.choice(pids(executor))
                killed.append(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        job = nn.jobs.prepare(RECIPE, POINTS, executor=executor)
        begin = time.monotonic()
        nn.train(attrs.evolve(job, recipe=attrs.evolve(RECIPE, iterations=2)))
        # On a busy machine, workers that are killed each second would never have started.
        to_start = time.monotonic() - begin
        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            while len(killed) < 5:
                assert state_fingerprint(nn.train(job).last) == expected
        finally:
            ended.set()
            killer.join()
        everybody = {*killed, *pids(executor)}
    assert not any(map(is_alive, everybody))


def test_a_task_that_ends_every_worker_is_given_up_in_one_line():
    with processes(1) as executor:
        executor.map([Task("echo", Spec())])
        ended = threading.Event()

        def kill_always():
            while not ended.wait(0.005):
                for pid in pids(executor):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_always)
        killer.start()
        try:
            with pytest.raises(nn.BadInput, match="5 worker processes ended while") as refused:
                executor.map([Task("echo", Spec())] * 100_000)
        finally:
            ended.set()
            killer.join()
        assert "\n" not in str(refused.value)
        assert executor.map([Task("echo", Spec(), {"n": 1})]) == [{"n": 1}]


def test_results_of_each_come_as_they_are_finished_and_a_closed_stream_ends_the_workers():
    with processes(2) as executor:
        stream = executor.each(Task("echo", Spec(), {"n": n}) for n in range(6))
        first = dict([next(stream)])
        with pytest.raises(nn.BadInput, match="in the middle of other tasks"):
            executor.map([Task("echo", Spec())])
        rest = dict(stream)
        assert {k: result["n"] for k, result in (first | rest).items()} == {n: n for n in range(6)}
        endless = executor.each(Task("echo", Spec(), {"n": n}) for n in range(10**9))
        next(endless)
        endless.close()
        assert executor.map([Task("echo", Spec(), {"n": 7})]) == [{"n": 7}]


SCRIPT = """
import json, sys
import pydnn as nn
from pydnn.workers import processes
executor = processes(2)
points = nn.Batch(nn.Key(1).at("X").normal((50, 400)),
                  (nn.Key(1).at("Y").uniform((1, 400)) > 0.5) * 1.0)
recipe = nn.Recipe(**json.loads(sys.argv[1]))
job = nn.jobs.prepare(recipe, points, executor=executor)
with nn.runs.create_run(sys.argv[2], job, points) as recording:
    stream = nn.runs.record(recording, nn.jobs.run(job), every=5)
    for state, info in stream:
        if info.iteration == 20:
            print([worker._child.process.pid for worker in executor._crew], flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_program_leaves_no_process_and_goes_on_with_another_executor(
    number, tmp_path, expected
):
    before = set(_shared_memory())
    endless = attrs.asdict(attrs.evolve(RECIPE, iterations=100_000))
    command = [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps(endless), tmp_path / "run"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            workers = json.loads(program.stdout.readline())
            assert all(map(is_alive, workers))
            program.send_signal(number)
            _, errors = program.communicate(timeout=60)
        finally:
            program.kill()
    assert wait_for(lambda: not any(map(is_alive, workers)))
    assert set(_shared_memory()) <= before
    assert "resource_tracker" not in errors
    assert "Exception ignored" not in errors
    if number != signal.SIGINT:  # which Python reports with a traceback
        assert errors == ""
    run = nn.Run.open(tmp_path / "run", data=POINTS)
    goal = max(120, run.iterations)
    with (
        serial() as executor,
        nn.runs.resume_run(tmp_path / "run", data=POINTS, iterations=goal) as resumed,
    ):
        job = resumed.job.computed_by(executor)
        stream = nn.runs.record(resumed.recording, nn.jobs.run(job))
        states = {state.iteration: state for state, _ in stream}
    if goal == 120:
        assert state_fingerprint(states[120]) == expected


def _shared_memory():
    folder = Path("/dev/shm")
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
