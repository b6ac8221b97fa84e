"""The executor of threads of this process.

Several threads gain where most time passes in large products, which run without Python's lock.
"""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from pydnn.checks import BadInput, expect_count
from pydnn.workers.interface import Closing, Result, Task
from pydnn.workers.tasks import Prepared

__all__ = ["Threads", "threads"]

_MOST_WORKERS = 256
_Result = TypeVar("_Result")


class Threads(Closing):
    """Runs tasks in threads of this process; see `Executor`.

    Attributes:
        workers: The number of threads.
    """

    def __init__(self, workers: int) -> None:
        """Begin with nothing prepared."""
        hint = "give the number of threads"
        self.workers = expect_count("workers", workers, most=_MOST_WORKERS, hint=hint)
        self._prepared = Prepared()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pydnn worker")
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"threads({self.workers})"

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order."""
        results: list[Result] = [{}] * len(tasks)
        errors: dict[int, Exception] = {}
        numbers = itertools.count()
        stopped = threading.Event()

        def take_turns() -> None:
            while not (errors or stopped.is_set()) and (number := next(numbers)) < len(tasks):
                try:
                    results[number] = self._prepared.run(tasks[number])
                except Exception as error:
                    errors[number] = error

        # The thread that asks is one of them, so that one worker costs no more than no worker.
        others = [
            self._submitted(contextvars.copy_context().run, take_turns)
            for _ in range(min(self.workers, len(tasks)) - 1)
        ]
        try:
            take_turns()
        finally:  # also after Ctrl-C, no thread may still run when the caller goes on
            stopped.set()
            wait(others)
        if errors:
            raise errors[min(errors)]
        return results

    def each(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished, in whatever order."""
        waiting = enumerate(tasks)
        running: dict[Future[Result], int] = {}
        try:
            while True:
                for number, task in itertools.islice(waiting, self.workers - len(running)):
                    context = contextvars.copy_context()
                    running[self._submitted(context.run, self._run, task)] = number
                if not running:
                    return
                done = wait(running, return_when=FIRST_COMPLETED).done
                for future in sorted(done, key=running.__getitem__):
                    yield running.pop(future), future.result()
        finally:
            self._stop()
            wait(running)

    def close(self) -> None:
        """End the threads."""
        self._stop()
        self._pool.shutdown()

    def _submitted(self, function: Callable[..., _Result], *args: object) -> Future[_Result]:
        try:
            return self._pool.submit(function, *args)
        except RuntimeError as error:
            raise BadInput("the executor of threads is closed: make another one.") from error

    def _run(self, task: Task) -> Result:
        own = threading.get_ident()
        with self._lock:
            self._running.add(own)
        try:
            return self._prepared.run(task)
        finally:
            with self._lock:
                self._running.discard(own)

    def _stop(self) -> None:
        """End the running tasks, because nobody waits for their results any more."""
        with self._lock:
            for thread in self._running:
                # Python raises SystemExit in the thread before its next instruction.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(SystemExit)
                )
            self._running.clear()


def threads(workers: int) -> Threads:
    """An executor of threads of this process. One of them is the thread that asks for results.

    Args:
        workers: The number of threads, e.g. the number of cores.

    Raises:
        BadInput: If it is not an integer from 1 to 256.

    Example:
        >>> from pydnn.workers import Spec, Task
        >>> with threads(2) as executor:
        ...     executor.map([Task("echo", Spec(), {"count": n}) for n in range(2)])
        [{'count': 0}, {'count': 1}]
    """
    return Threads(workers)
