"""The tasks by name: what a worker prepares for each of them once, and the function that it calls.

A message names a task, and the table here says which function that is. So a message can never make
a worker call anything else.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pydnn.checks import expect_known
from pydnn.numerics.blas_threads import using_blas_threads
from pydnn.workers.interface import Arguments, Result, Spec, Task

__all__ = ["TASKS", "Kind", "Prepared", "kind_of"]


@attrs.frozen
class Kind:
    """The two pure functions behind the name of a task.

    Attributes:
        prepare: Returns what a worker needs for a spec. Each worker calls it once.
        run: Returns the result, from what was prepared and the arguments of one task.
        one_thread: Whether BLAS uses one thread for it. If not, BLAS uses as many threads as in the
            program that asks.
    """

    prepare: Callable[[Spec], Any]
    run: Callable[[Any, Arguments], Result]
    one_thread: bool = False


ECHO = Kind(prepare=lambda spec: None, run=lambda prepared, arguments: arguments)

# Each name stands for a `Kind` in a module, which is imported when the name is used.
TASKS: Mapping[str, str] = {
    "echo": "pydnn.workers.tasks:ECHO",  # its arguments, to measure a connection
    "probe": "pydnn.workers.probing:PROBE",  # another task, with the seconds that it takes
    "product": "pydnn.workers.probing:PRODUCT",  # a product of matrices, to measure a worker
    "segment": "pydnn.runs.segment_tasks:SEGMENT",  # segments of a run, computed again
    "shard": "pydnn.training.shard_tasks:SHARD",  # the gradient of one shard of a batch
    "train": "pydnn.sweeps.tasks:TRAIN",  # trainings of a sweep, alone or in a stack
}


def kind_of(name: str) -> Kind:
    """The two functions of a task.

    Raises:
        BadInput: If there is no such task.

    Example:
        >>> kind_of("echo").run(None, {"count": 3})
        {'count': 3}
    """
    expect_known("task", name, TASKS)
    module, _, place = TASKS[name].partition(":")
    loaded = sys.modules.get(module) or importlib.import_module(module)  # the look-up is faster
    kind: Kind = getattr(loaded, place)
    return kind


class Prepared:
    """What one worker, or all threads of a process, prepared for its latest specs.

    Example:
        >>> from pydnn.workers import Spec, Task
        >>> Prepared().run(Task("echo", Spec(), {"count": 3}))
        {'count': 3}
    """

    def __init__(self, most: int = 4) -> None:
        """Keep what was prepared for the latest `most` pairs of a task and a spec."""
        self._most = most
        self._kept: OrderedDict[tuple[str, object], Any] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, task: Task) -> Result:
        """The result of a task.

        Raises:
            BadInput: If the task refuses its spec or its arguments.
        """
        kind = kind_of(task.name)
        if not kind.one_thread:
            return kind.run(self._of(task, kind), task.arguments)
        with using_blas_threads(1):
            return kind.run(self._of(task, kind), task.arguments)

    def forget(self, digest: str) -> None:
        """Forget what was prepared from the spec of this digest."""
        with self._lock:
            for name in [name for name in self._kept if name[1] == digest]:
                del self._kept[name]

    def _of(self, task: Task, kind: Kind) -> Any:
        spec = task.spec
        if spec.live is not None:
            return spec.live
        name = task.name, spec.digest
        with self._lock:  # threads with the same spec wait until the first one has prepared it
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
            made = self._kept[name] = kind.prepare(spec)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return made
