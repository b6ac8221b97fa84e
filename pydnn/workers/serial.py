"""The executor without other workers: it runs one task after the other in this thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydnn.workers.interface import Closing, Result, Task
from pydnn.workers.tasks import Prepared

__all__ = ["Serial", "serial"]


class Serial(Closing):
    """Runs tasks one after the other, in the thread that asks; see `Executor`."""

    workers = 1

    def __init__(self) -> None:
        """Begin with nothing prepared."""
        self._prepared = Prepared()

    def __repr__(self) -> str:
        return "serial()"

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order."""
        return [self._prepared.run(task) for task in tasks]

    def each(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished."""
        for number, task in enumerate(tasks):
            yield number, self._prepared.run(task)

    def close(self) -> None:
        """Forget what was prepared."""
        self._prepared = Prepared()


def serial() -> Serial:
    """An executor that runs one task after the other, in the thread that asks.

    Example:
        >>> from pydnn.workers import Spec, Task
        >>> with serial() as executor:
        ...     executor.map([Task("echo", Spec(), {"count": n}) for n in range(2)])
        [{'count': 0}, {'count': 1}]
    """
    return Serial()
