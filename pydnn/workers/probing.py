"""How fast workers and the connection to them are, and from which size of shard they pay off."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.keys import Key
from pydnn.numerics import ARITHMETICS, Numerics
from pydnn.recipes.recipe import DTYPES
from pydnn.records import AnyArray
from pydnn.workers.interface import Arguments, Executor, Result, Spec, Task
from pydnn.workers.tasks import Kind, Prepared

if TYPE_CHECKING:
    from pydnn.jobs.job import Job

__all__ = ["PROBE", "PRODUCT", "Cost", "Speed", "cost_of_shards", "measure_speed"]

_T = TypeVar("_T")

_SIDE = 512  # of the matrices of a product: large enough that only arithmetic counts
_TIMES = 5
_SENT = 1 << 22  # bytes that measure a connection
_LONG = 0.02  # seconds in which a clock and the load of a machine hardly matter
_MOST_EXAMPLES = 4096


def _probe(prepared: tuple[Spec, Prepared], arguments: Arguments) -> Result:
    spec, inner = prepared
    task = Task(str(arguments["task"]), spec, {k: v for k, v in arguments.items() if k != "task"})
    result = inner.run(task)  # the first time, it also prepares
    return {**result, "seconds": min(_timed(lambda: inner.run(task))[0] for _ in range(_TIMES))}


# Runs another task, and adds to its result the seconds that it takes. Unlike all other tasks, it
# reads a clock.
PROBE = Kind(lambda spec: (spec, Prepared()), _probe)


def _product(prepared: None, arguments: Arguments) -> Result:
    numerics: Numerics = ARITHMETICS[str(arguments["numerics"])]
    A = _matrix(str(arguments["dtype"]))
    numerics.matmul(A, A)
    return {}


PRODUCT = Kind(lambda spec: None, _product, one_thread=True)  # of two matrices, 512 by 512


def _matrix(dtype: str) -> Any:
    return Key(0).at("probe").uniform((_SIDE, _SIDE)).astype(DTYPES[dtype])


def _timed(call: Callable[[], _T]) -> tuple[float, _T]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@attrs.frozen
class Speed:
    """How fast workers and the connection to them are.

    Attributes:
        workers: The number of workers.
        round_trip: The seconds that an empty task takes, done by all workers at the same time.
        bytes_per_second: How much this process and all workers together send each other.
        operations_per_second: Floating-point operations of one worker in a product of matrices.
    """

    workers: int
    round_trip: float
    bytes_per_second: float
    operations_per_second: float

    def least_shard(self, cost: Cost) -> float:
        """The size of a shard above which a step is faster with all workers than in one thread.

        With W workers that compute a shard of m examples each, a step takes m times the seconds of
        an example, plus the time in which parameters, gradients and examples of all shards cross
        the connection of this process. One thread takes W m times the seconds of an example.

        Returns:
            The number of examples; infinity if there is no such number.
        """
        W, wire = self.workers, self.bytes_per_second
        gained = (W - 1) * cost.seconds - W * cost.example / wire  # for each example of a shard
        lost = self.round_trip + W * 2 * cost.parameters / wire
        return lost / gained if gained > 0 else math.inf

    def dense(self, itemsize: int) -> Cost:
        """What shards cost with dense layers of many parameters, which need 6 operations each.

        The time of an example and that of the parameters on the wire both grow with the number of
        parameters, so it does not matter how many there are.
        """
        many = 10**9
        return Cost(6 * many / self.operations_per_second, itemsize * many, 0)


@attrs.frozen
class Cost:
    """What shards of a recipe cost.

    Attributes:
        seconds: The seconds that a worker needs for one example.
        parameters: The bytes of the parameters, which are also those of the gradients.
        example: The bytes of one example.
    """

    seconds: float
    parameters: int
    example: int


def measure_speed(executor: Executor, *, numerics: str = "fast", dtype: str = "float64") -> Speed:
    """Measure workers and the connection to them, in about a second.

    Args:
        executor: The executor.
        numerics: The name of the arithmetic.
        dtype: The dtype, "float64" or "float32".

    Raises:
        BadInput: If there are no workers that can compute in this arithmetic.
    """
    workers = max(1, executor.workers)
    spec = Spec(portable=ARITHMETICS[numerics].exact)

    def seconds(array: AnyArray) -> float:
        # Another array for each worker, since an executor may send the same one only once.
        tasks = [Task("echo", spec, {"array": array + i}) for i in range(workers)]
        executor.map(tasks)
        return statistics.median(_timed(lambda: executor.map(tasks))[0] for _ in range(_TIMES))

    round_trip = seconds(np.zeros(1, np.uint8))
    sent = seconds(np.zeros(_SENT, np.uint8))
    asked = {"task": "product", "numerics": numerics, "dtype": dtype}
    (result,) = executor.map([Task("probe", spec, asked)])
    return Speed(
        workers,
        round_trip,
        2 * workers * _SENT / max(sent - round_trip, 1e-9),
        2 * _SIDE**3 / _seconds_in(result),
    )


def cost_of_shards(job: Job, executor: Executor) -> Cost:
    """Measure what shards of a job cost.

    Args:
        job: The job, of a recipe with shards.
        executor: The executor.
    """
    shards = job.recipe.shards
    probing: Any = _Probing(executor, shards)
    step, data = job.train_step.computed_by(probing), job.data["train"]
    m = 8
    while True:
        batch = data.take(np.arange(m * shards) % data.count)
        step(job.state, batch)
        if max(probing.seconds) >= _LONG or m >= _MOST_EXAMPLES:
            break
        m *= 2
    arrays = (batch.X, batch.Y, batch.weights, batch.lengths)
    example = sum(array.nbytes for array in arrays if array is not None) // batch.count
    parameters = job.state.parameters.vector.nbytes + job.state.statistics.vector.nbytes
    return Cost(max(probing.seconds) / m, parameters, example)


class _Probing:
    """An executor that lets workers do every task several times, and notes how long they take."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self.workers = workers
        self.seconds: list[float] = []
        self._executor = executor

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order."""
        probes = []
        for task in tasks:
            task.spec.expect_sendable()
            spec = attrs.evolve(task.spec, live=None)  # which stands for the inner task alone
            probes.append(Task("probe", spec, {**task.arguments, "task": task.name}))
        results = self._executor.map(probes)
        self.seconds = [_seconds_in(result) for result in results]
        return results


def _seconds_in(result: Result) -> float:
    seconds = result["seconds"]
    if not isinstance(seconds, float) or not seconds > 0:
        raise BadInput(f"a worker took {seconds} seconds, expected a positive number: try again.")
    return seconds
