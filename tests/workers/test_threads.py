import threading
import time

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.workers import Spec, Task, threads
from pydnn.workers.tasks import Kind


@pytest.fixture
def doing(monkeypatch):
    """Let the task "echo" call another function."""

    def change(function):
        kind = Kind(lambda spec: None, lambda prepared, arguments: function(**arguments))
        monkeypatch.setattr("pydnn.workers.tasks.ECHO", kind)

    return change


def tasks(count):
    return [Task("echo", Spec(), {"n": n}) for n in range(count)]


def test_results_come_in_the_order_of_the_tasks_whoever_is_faster(doing):
    doing(lambda n: time.sleep(0.02 * (n == 0)) or {"n": n})
    with threads(3) as executor:
        assert [result["n"] for result in executor.map(tasks(7))] == list(range(7))
        assert sorted((k, result["n"]) for k, result in executor.each(tasks(7))) == [
            (k, k) for k in range(7)
        ]


def test_several_tasks_run_at_the_same_time(doing):
    both = threading.Barrier(2, timeout=30)
    doing(lambda n: {"n": both.wait()})
    with threads(2) as executor:
        assert len(executor.map(tasks(2))) == 2
        assert len(list(executor.each(tasks(2)))) == 2


def test_the_error_of_the_first_task_that_fails_is_raised_and_no_task_begins_after_it(doing):
    begun = []

    def fail(n):
        begun.append(n)
        raise BadInput(f"task {n} is bad.")

    doing(fail)
    with threads(1) as executor:
        with pytest.raises(BadInput, match="task 0 is bad"):
            executor.map(tasks(5))
        assert begun == [0]
        with pytest.raises(BadInput, match="task 0 is bad"):
            list(executor.each(tasks(5)))


def test_a_stream_that_is_closed_ends_its_running_tasks(doing):
    first, ended = threading.Event(), threading.Event()

    def endless(n):
        if n == 0:
            first.wait()
            return {"n": n}
        try:
            first.set()
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    doing(endless)
    with threads(2) as executor:
        stream = executor.each(tasks(2))
        assert next(stream)[0] == 0
        stream.close()
        assert ended.is_set()


def test_the_error_state_of_numpy_is_that_of_the_caller(doing):
    both = threading.Barrier(2, timeout=30)
    doing(lambda n: both.wait() * 0 or {"over": np.geterr()["over"]})
    with threads(2) as executor, np.errstate(over="raise"):
        assert executor.map(tasks(2)) == [{"over": "raise"}] * 2


@pytest.mark.parametrize("count", [0, -1, 1.5, 257, "2"])
def test_a_wrong_number_of_workers_is_refused(count):
    with pytest.raises(BadInput, match="workers"):
        threads(count)


def test_a_closed_executor_is_refused():
    executor = threads(2)
    executor.close()
    with pytest.raises(BadInput, match="closed"):
        executor.map(tasks(2))
