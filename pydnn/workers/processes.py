"""The executor of worker processes on this machine, which share memory with the program.

Parameters, gradients and batches lie in shared memory, so a message holds little more than their
places. A worker that dies is replaced, and its task goes to another one. When the program dies, so
do its workers.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import queue
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydnn.checks import BadInput, Json, expect_count
from pydnn.engines import note_once
from pydnn.free_memory import free_memory
from pydnn.numerics.blas_threads import THREADS, blas_threads
from pydnn.records import AnyArray
from pydnn.workers.channels import Child
from pydnn.workers.encoding import decoded, encoded
from pydnn.workers.failures import as_error
from pydnn.workers.interface import Closing, Result, Spec, Task, by_size
from pydnn.workers.joining import Report, refusal
from pydnn.workers.memory import Arena, Reference, Segment, read
from pydnn.workers.tasks import kind_of

__all__ = ["Processes", "environment", "processes"]

_MOST_LOSSES = 5  # a task that ends so many workers would end all of them
_MOST_WORKERS = 256
_WAKE_UP = 1.0 if os.name == "nt" else None  # seconds; Ctrl-C does not end a longer wait on Windows


class Processes(Closing):
    """Runs tasks in worker processes of this machine; see `Executor`.

    Attributes:
        workers: The number of processes.
    """

    def __init__(self, workers: int) -> None:
        """Start the processes."""
        hint = "give the number of processes"
        self.workers = expect_count("workers", workers, most=_MOST_WORKERS, hint=hint)
        self._events: _Events = queue.SimpleQueue()
        self._crew: list[_Worker] = []
        # The arrays of a spec in shared memory, for as long as somebody refers to the spec.
        self._specs: weakref.WeakKeyDictionary[Spec, tuple[Arena, Json]] = (
            weakref.WeakKeyDictionary()
        )
        self._arena = Arena()
        self._busy = threading.Lock()
        # Also at the end of the program, and when nobody refers to the executor any more.
        self._finish = weakref.finalize(self, _end_all, self._crew, os.getpid())
        self._start()

    def __repr__(self) -> str:
        return f"processes({self.workers})"

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order."""
        shared = [by_size(task.arguments)[0] for task in tasks]
        # The same array may be an argument of several tasks, such as the parameters.
        arrays = {id(array): array for named in shared for array in named.values()}
        places = dict(zip(arrays, self._arena.write(list(arrays.values())), strict=True))
        references = [{name: places[id(array)] for name, array in s.items()} for s in shared]
        results: list[Result] = [{}] * len(tasks)
        errors: dict[int, Exception] = {}
        for number, result in self._finished(zip(tasks, references, strict=True), errors):
            results[number] = result
        if errors:
            raise errors[min(errors)]
        return results

    def each(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished, in whatever order."""
        return self._finished(zip(tasks, itertools.repeat({})), None)

    def keeps(self, size: int) -> bool:
        """Whether to share data of `size` bytes once, instead of a part of it for every step.

        Then the processes gather their examples in parallel. That saves 3 of 7 ms for 256 examples
        of 784 numbers, but takes the memory of the data a second time.
        """
        free = free_memory()
        return free is None or 2 * size <= free

    def close(self) -> None:
        """End the processes."""
        self._finish()

    def _start(self) -> None:
        if not self._finish.alive:
            raise BadInput("the executor of processes is closed: make another one.")
        while len(self._crew) < self.workers:
            self._crew.append(_Worker(self._events))
        for number, worker in enumerate(self._crew):
            if worker.lost:
                self._crew[number] = _Worker(self._events)

    def _finished(
        self,
        tasks: Iterable[tuple[Task, Mapping[str, Reference]]],
        errors: dict[int, Exception] | None,
    ) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished.

        Errors of tasks are collected in `errors`, and after the first one no further task begins.
        If `errors` is None, the first error is raised instead.
        """
        if not self._busy.acquire(blocking=False):
            raise BadInput(
                "the executor is in the middle of other tasks: finish or close their stream first, "
                "or make another executor."
            )
        try:
            waiting = iter(enumerate(tasks))
            given_back: list[_Numbered] = []  # the tasks of lost workers, to be done next
            losses: collections.Counter[int] = collections.Counter()
            self._start()
            while True:
                for worker in self._crew:
                    if worker.task is None and worker.report is not None and not errors:
                        numbered = given_back.pop() if given_back else next(waiting, None)
                        if numbered is None:
                            break
                        self._give(worker, numbered)
                busy = any(worker.task for worker in self._crew)
                if not busy and (errors or not given_back):
                    if errors:
                        return
                    numbered = next(waiting, None)
                    if numbered is None:
                        return
                    given_back.append(numbered)  # for the first worker that joins
                worker, message = self._next_event()
                task = worker.task
                if worker.lost:
                    continue
                if message is None:
                    self._replace(worker, task, losses)
                    if task is not None:
                        given_back.append(task)
                        given_back.sort(key=lambda numbered: -numbered[0])
                    continue
                reply = decoded(message)
                about = reply.pop("")
                assert isinstance(about, Mapping)
                if "report" in about:
                    worker.report = Report.of(about["report"])
                elif task is None:
                    continue
                elif "unknown" in about:
                    self._give(worker, task, with_spec=True)
                elif "error" in about:
                    worker.task = None
                    error = as_error(about["error"])
                    if errors is None:
                        raise error
                    errors[task[0]] = error
                else:
                    worker.task = None
                    yield task[0], worker.result(about, reply)
        finally:
            for worker in self._crew:
                if worker.task is not None:  # whatever it computes, nobody waits for it
                    worker.end()
            self._busy.release()

    def _next_event(self) -> _Event:
        while True:
            try:
                return self._events.get(timeout=_WAKE_UP)
            except queue.Empty:
                continue

    def _replace(
        self, worker: _Worker, task: _Numbered | None, losses: collections.Counter[int]
    ) -> None:
        """Start another worker instead of a lost one, whose task was `task`.

        Raises:
            BadInput: If workers are lost again and again.
        """
        worker.end()
        number = -1 if task is None else task[0]
        losses[number] += 1
        if losses[number] >= _MOST_LOSSES:
            doing = "starting" if task is None else f"doing task {number} ({task[1][0].name})"
            raise BadInput(
                f"{_MOST_LOSSES} worker processes ended while {doing}: free memory, use fewer "
                "workers, or look at what they wrote to the terminal."
            )
        self._start()

    def _give(self, worker: _Worker, numbered: _Numbered, *, with_spec: bool = False) -> None:
        """Send a task to a worker.

        Raises:
            BadInput: If the worker would give other bits, or the task cannot leave this process.
        """
        _, (task, references) = numbered
        spec = task.spec
        spec.expect_sendable()
        worker.expect_same_bits(portable=spec.portable)
        shared, inline, plain = by_size(task.arguments)
        if len(references) < len(shared):
            references = dict(zip(shared, worker.arena.write(list(shared.values())), strict=True))
        about: dict[str, Json] = {
            "task": task.name,
            "spec": spec.digest,
            "arguments": plain,
            "shared": references,
            "engine": task.engine,
            "threads": None if kind_of(task.name).one_thread else blas_threads(),
        }
        segments = [self._arena.segment, worker.arena.segment]
        if with_spec:
            arena, texts = self._placed(spec)
            about["with"] = texts
            segments.append(arena.segment)
        worker.task = numbered
        worker.send(about, inline, [segment for segment in segments if segment is not None])

    def _placed(self, spec: Spec) -> tuple[Arena, Json]:
        """The arrays of a spec in shared memory, and what a message says about the spec."""
        if spec not in self._specs:
            arena = Arena()
            references = arena.write(list(spec.arrays.values()))
            texts = {**spec.texts, "arrays": dict(zip(spec.arrays, references, strict=True))}
            self._specs[spec] = arena, texts
        return self._specs[spec]


def processes(workers: int) -> Processes:
    """An executor of worker processes on this machine; closing it ends them.

    They start at once, and are ready after about the time of `import pydnn`. Each of them computes
    shards with one BLAS thread.

    Args:
        workers: The number of processes, e.g. the number of cores.

    Raises:
        BadInput: If it is not an integer from 1 to 256.

    Example:
        with nn.workers.processes(4) as executor:
            trained = nn.train(recipe, data, executor=executor)
    """
    return Processes(workers)


_Numbered = tuple[int, tuple[Task, Mapping[str, Reference]]]


class _Worker:
    """A worker process, as the program sees it."""

    def __init__(self, events: _Events) -> None:
        self.report: Report | None = None  # until it has joined
        self.task: _Numbered | None = None
        self.lost = False
        self.arena = Arena()  # for arguments that this worker alone receives
        self._refused: dict[bool, str] = {}
        self._wanted = 0  # bytes of the largest result so far
        self._results: list[Segment] = []
        self._attached: dict[int, weakref.ref[Segment]] = {}
        self._child = Child("pydnn.workers.child:main", environment())
        threading.Thread(target=self._listen, args=[events], daemon=True).start()

    def send(
        self, about: dict[str, Json], inline: Mapping[str, AnyArray], segments: list[Segment]
    ) -> None:
        """Send a message, with access to the segments that the worker does not have yet."""
        results = self._room_for_result()
        if results is not None:
            about["results"] = results.number
            segments.append(results)
        gone = [number for number, segment in self._attached.items() if segment() is None]
        for number in gone:
            del self._attached[number]
        new = [segment for segment in segments if segment.number not in self._attached]
        about["forget"] = gone
        about["attach"] = [
            [s.number, s.size, s.handle if isinstance(s.handle, str) else None, s is results]
            for s in new
        ]
        handles = [s.handle for s in new if isinstance(s.handle, int)]
        self._attached |= {segment.number: weakref.ref(segment) for segment in new}
        # If the worker is lost, the thread that listens to it reports that.
        with contextlib.suppress(OSError):
            self._child.channel.send(encoded({"": about, **inline}), handles)

    def expect_same_bits(self, *, portable: bool) -> None:
        """Refuse a worker that would give other bits."""
        why_not = self._refused.get(portable)
        if why_not is None:
            assert self.report is not None
            why_not = refusal("a worker process", self.report, portable=portable)
            self._refused[portable] = why_not
        if why_not:
            raise BadInput(why_not)

    def result(self, about: Mapping[str, Any], inline: Mapping[str, Json | AnyArray]) -> Result:
        """The result in a message; large arrays are views of shared memory."""
        match about:
            case {"result": dict() as plain, "shared": dict() as shared, "wanted": int() as wanted}:
                self._wanted = max(self._wanted, wanted)
                for text in about.get("notes", ()):
                    note_once(str(text))
                memory = {segment.number: segment.memory for segment in self._results}
                arrays = {name: read(memory, place) for name, place in shared.items()}
                return {**plain, **inline, **arrays}
        raise BadInput("a worker sent a message that is not a result: close the executor.")

    def end(self) -> None:
        """End the process, which may have ended already."""
        self.lost = True
        self.task = None
        self._child.kill()

    def _room_for_result(self) -> Segment | None:
        """A segment for the next result, to which no earlier result refers."""
        if not self._wanted:
            return None
        free = [s for s in self._results if s.size >= self._wanted and s.is_free]
        if not free:
            self._results = [s for s in self._results if not s.is_free]
            free = [Segment(self._wanted)]
            self._results += free
        return free[0]

    def _listen(self, events: _Events) -> None:
        try:
            while True:
                events.put((self, self._child.channel.receive()[0]))
        except (OSError, EOFError):
            events.put((self, None))


_Event = tuple[_Worker, bytearray | None]  # None at the end of the worker
_Events = queue.SimpleQueue[_Event]


def _end_all(crew: list[_Worker], owner: int) -> None:
    if os.getpid() == owner:  # not in a forked process, which has a copy of the executor
        for worker in crew:
            worker.end()


def environment() -> dict[str, str]:
    """The environment of a worker process: that of this process, with one BLAS thread."""
    # Several workers share the cores, so more threads would only wait for each other.
    return {**os.environ, **dict.fromkeys(THREADS, "1")}
