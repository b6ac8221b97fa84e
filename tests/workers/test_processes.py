"""Worker processes: results in order, whatever happens to a worker, and nothing left behind."""

import os
import signal
import time

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.workers import Spec, Task, processes

BIG = np.arange(10_000.0).reshape(100, 100)
SPEC = Spec(facts={"a": 1}, arrays={"X": BIG})


def tasks(count, **arguments):
    return [Task("echo", SPEC, {"n": n, **arguments}) for n in range(count)]


def pids(executor):
    return [worker._child.process.pid for worker in executor._crew]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.01)):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_tasks_go_through_shared_memory_survive_a_killed_worker_and_end_with_the_executor():
    with processes(1) as executor:
        assert [result["n"] for result in executor.map(tasks(3))] == [0, 1, 2]
        (first,) = pids(executor)
        one = executor.map(tasks(1, X=BIG.T, small=np.arange(2)))[0]
        executor.map(tasks(1, X=BIG.T))  # the first large result comes through the pipe
        two = executor.map(tasks(1, X=BIG.T + 1))[0]
        three = executor.map(tasks(1, X=BIG.T + 2))[0]
        for add, result in enumerate([one, two, three]):  # a later result leaves earlier ones alone
            assert result["X"].tobytes("A") == (BIG.T + (0, 1, 2)[add]).tobytes("A")
            assert result["X"].flags.f_contiguous
            assert not result["X"].flags.writeable
        with pytest.raises(BadInput, match="workers in other processes"):
            executor.map([Task("echo", Spec(live=object()))])
        executor.map([Task("echo", Spec(arrays={"X": BIG}))])
        assert len(executor._specs) == 1  # SPEC alone, the other one is gone with its arrays
        with pytest.raises(BadInput, match="there is no task"):
            executor.map([Task("ecko", SPEC)])
        os.kill(first, signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        assert [result["n"] for result in executor.map(tasks(2))] == [0, 1]
        (second,) = pids(executor)
    assert first != second
    assert not is_alive(first)
    assert not is_alive(second)
    with pytest.raises(BadInput, match="closed"):
        executor.map(tasks(1))


@pytest.mark.parametrize("count", [0, -1, 1.5, 257, "2"])
def test_a_wrong_number_of_workers_is_refused(count):
    with pytest.raises(BadInput, match="workers"):
        processes(count)


def test_parts_without_descriptions_stay_in_this_process():
    with pytest.raises(BadInput, match="no descriptions"):
        Spec(live=object()).expect_sendable()
