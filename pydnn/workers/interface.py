"""What workers do: tasks, the specs that they prepare once, and the executors that run tasks.

A task is the name of a pure function, what to prepare for it, and its arguments. A worker keeps
nothing but what it prepared, which follows from the spec. So tasks of a lost worker can go to any
other one, and no bit depends on who did which task.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, TypeAlias

import attrs
import numpy as np

from pydnn.checks import BadInput, Json
from pydnn.engines import engine_for_workers
from pydnn.records import AnyArray
from pydnn.workers.encoding import encoded

__all__ = ["Arguments", "Closing", "Executor", "Result", "Spec", "Task", "Value"]

Value: TypeAlias = "Json | AnyArray"
Arguments: TypeAlias = Mapping[str, Value]
Result: TypeAlias = Mapping[str, Value]


@attrs.frozen(eq=False, slots=False)
class Spec:
    """What a worker prepares once for many tasks: a recipe with its data, or parts of a step.

    It consists of text, numbers and arrays, so that it can be sent to another process or machine.

    Attributes:
        recipe: The text of a recipe file; "" if `facts` describe the parts.
        place: The path of the data, if the workers can open it; "" if they receive `arrays`.
        facts: Everything else to know, e.g. the pins of the data or the descriptions of parts.
        arrays: The arrays that every worker receives once, e.g. those of the data in memory.
        allow: The user's own modules that a worker may import for the recipe.
        portable: Whether its arithmetic gives the same bits with every processor and NumPy.
        live: What workers in this process use instead of preparing anything. It never leaves the
            process. A spec with `live` and neither a recipe nor facts cannot be sent.
        only_here: What such a spec holds that other processes do not have, in words.

    Example:
        >>> spec = Spec(recipe='network = "dense(1)"', arrays={"X": np.zeros((2, 3))})
        >>> len(spec.digest)
        64
    """

    recipe: str = ""
    place: str = ""
    facts: Mapping[str, Json] = attrs.field(factory=dict)
    arrays: Mapping[str, AnyArray] = attrs.field(
        factory=dict, repr=lambda arrays: str(list(arrays))
    )
    allow: tuple[str, ...] = ()
    portable: bool = False
    live: Any = attrs.field(default=None, repr=False)
    only_here: str = ""

    @property
    def texts(self) -> dict[str, Json]:
        """Everything but the arrays, as JSON."""
        return {
            "recipe": self.recipe,
            "place": self.place,
            "facts": self.facts,
            "allow": self.allow,
            "portable": self.portable,
        }

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the spec, as 64 hexadecimal digits: its name among the workers."""
        digest = hashlib.sha256()
        for piece in encoded({**self.texts, **{f"array {k}": v for k, v in self.arrays.items()}}):
            digest.update(piece)
        return digest.hexdigest()

    def expect_sendable(self) -> None:
        """Refuse a spec that stands only for objects in this process.

        Raises:
            BadInput: If it does.
        """
        if self.live is not None and not (self.recipe or self.facts):
            what = self.only_here or "parts that have no descriptions"
            raise BadInput(
                f"the step has {what}, but workers in other processes know only what a recipe can "
                "say: make it with a builder (see nn.described), or use the executor serial or "
                "threads."
            )


@attrs.frozen(eq=False)
class Task:
    """One call of a pure function by a worker.

    Attributes:
        name: The name of the function in `pydnn.workers.tasks.TASKS`.
        spec: What the worker prepares once for this and other tasks.
        arguments: The arguments of this call: numbers, texts and arrays by name.
        engine: The engine that other processes use for it; by default that of the job at work here.

    Example:
        >>> Task("echo", Spec(), {"count": 3})
        Task(name='echo', arguments={'count': 3})
    """

    name: str
    spec: Spec = attrs.field(repr=False)
    arguments: Arguments = attrs.field(factory=dict)
    engine: str = attrs.field(factory=engine_for_workers, repr=False)


class Executor(Protocol):
    """Something that runs tasks: this thread, threads, processes or a cluster.

    It is a context manager, which closes it at the end.
    """

    @property
    def workers(self) -> int:
        """The number of tasks that run at the same time."""

    def keeps(self, size: int) -> bool:
        """Whether the workers should receive data of `size` bytes once, and gather from it.

        Otherwise each receives its part of every batch.
        """

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order.

        Raises:
            BadInput: If a task refuses its spec or arguments, with the line of that task. If
                several do, it is the line of the first one in order.
        """

    def each(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished, in whatever order.

        Tasks are taken from the iterable when a worker is about to be free.

        Raises:
            BadInput: If a task refuses its spec or arguments, with the line of that task.
        """

    def close(self) -> None:
        """End the workers. Nothing is left of them."""

    def __enter__(self) -> Self:
        """The executor itself."""

    def __exit__(self, *ended: object) -> None:
        """Close the executor."""


class Closing:
    """A base class of executors: leaving their context closes them."""

    def keeps(self, size: int) -> bool:
        """Whether the workers should receive data once; not if they are in this process."""
        return False

    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


INLINE = 1 << 12  # bytes; smaller arrays travel faster inside a message than in shared memory


def by_size(
    values: Arguments,
) -> tuple[dict[str, AnyArray], dict[str, AnyArray], dict[str, Json]]:
    """Split values by name into large arrays, small arrays, and everything else."""
    large: dict[str, AnyArray] = {}
    small: dict[str, AnyArray] = {}
    plain: dict[str, Json] = {}
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            plain[name] = value
        elif value.nbytes > INLINE:
            large[name] = value
        else:
            small[name] = value
    return large, small, plain
