"""The executor on a cluster of Dask: it survives lost workers, and uses those that join later.

Dask places one `Keeper` on each worker and carries messages straight to it. A keeper holds nothing
but what it prepared from specs, so a lost worker loses no state: its tasks go to the others.
The messages are those of `pydnn.workers.encoding`; of pydnn, Dask pickles the name of a class and
nothing else.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import itertools
import queue
import re
import uuid
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs
import numpy as np

from pydnn import __version__
from pydnn.checks import BadInput, Json, expect_real, first_line, printable, shown
from pydnn.engines import using_engine
from pydnn.free_memory import free_memory
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads
from pydnn.numerics.memory import empty
from pydnn.workers.dask_local import DaskHere, distributed_module, no_warnings
from pydnn.workers.encoding import decoded, encoded
from pydnn.workers.failures import NoData, as_error, as_json
from pydnn.workers.interface import Closing, Result, Spec, Task, Value
from pydnn.workers.joining import Report, own_report, refusal
from pydnn.workers.tasks import Prepared, kind_of

__all__ = ["Dask", "Keeper", "dask"]

_T = TypeVar("_T")
_Piece: TypeAlias = "bytes | memoryview"
_Sent: TypeAlias = "bytes | list[_Piece]"  # one piece, or several

# Classes of Dask, which has no complete types.
Client: TypeAlias = Any
Future: TypeAlias = Any

_ANSWERS = 15.0  # seconds in which a scheduler has to answer
_PATIENCE = 30.0  # seconds without any worker until a run ends
_LOOKS = 0.5  # seconds between two looks at which workers there are
_LEAVES = 3.0  # seconds in which connections have to close
_SHORT = 1 << 16  # bytes of a message that are copied to send them as one piece
_QUICK = 0.05  # seconds of an answer, in which a worker need not listen to anyone else
_MOST_LOSSES = 3  # workers that one task may lose
_MOST_SPECS = 4  # that a worker keeps, as many as `Prepared`
_MOST_LOCAL = 256
_ADDRESS = re.compile(r"(?:tcp|tls)://(?:[^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_LOCAL = re.compile(r"local:([0-9]{1,4})")
_EXPECTED = (
    "expected tcp://HOST:PORT or tls://HOST:PORT of a scheduler, local:N for N processes on this "
    "machine, or a dask.distributed.Client"
)


class Keeper:
    """What pydnn keeps on a worker of Dask: specs, and what was prepared from them."""

    def __init__(self) -> None:
        """Begin with nothing prepared."""
        self._prepared = Prepared(_MOST_SPECS)
        self._specs: OrderedDict[str, Spec] = OrderedDict()

    def join(self) -> list[_Piece]:
        """The message that says which bits this worker computes."""
        return encoded({"report": attrs.asdict(own_report())})

    def work(self, *pieces: _Piece) -> _Sent:
        """The message of the results of the tasks in a message, or of why one of them failed.

        No exception leaves it, because Dask would pickle it.
        """
        try:
            with np.errstate(all="ignore"):  # the client looks for numbers that are not finite
                return _packed(self._answer(decoded(_joined(pieces))))
        except (Exception, SystemExit) as error:
            about_files = isinstance(error.__cause__ or error.__context__ or error, OSError)
            return _packed(encoded({"error": as_json(error), "about files": about_files}))

    def _answer(self, message: Mapping[str, Any]) -> list[_Piece]:
        for digest, spec in _specs_in(message):
            self._specs[digest] = spec
            while len(self._specs) > _MOST_SPECS:
                self._specs.popitem(last=False)
        results = []
        asked = zip(message["tasks"], _mappings_in(message), strict=True)
        for (name, digest, threads, engine), arguments in asked:
            if digest not in self._specs:
                return encoded({"unknown": digest})
            self._specs.move_to_end(digest)
            task = Task(name, self._specs[digest], arguments)
            blas = using_blas_threads(threads) if threads else contextlib.nullcontext()
            with blas, using_engine(engine):
                results.append(self._prepared.run(task))
        return encoded(_shared(results))


# Messages. An array that several tasks share is in them once.


def _message_of(tasks: Sequence[Task], specs: Iterable[Spec]) -> list[_Piece]:
    """The message of tasks, with the specs that its receiver does not have yet."""
    values = _shared([task.arguments for task in tasks])
    values["tasks"] = [
        [
            task.name,
            task.spec.digest,
            None if kind_of(task.name).one_thread else blas_threads(),
            task.engine,
        ]
        for task in tasks
    ]
    sent: list[Json] = []
    for number, spec in enumerate(specs):
        spec.expect_sendable()
        sent.append([spec.digest, spec.texts, list(spec.arrays)])
        values |= {f"spec {number} {name}": array for name, array in spec.arrays.items()}
    return encoded({**values, "specs": sent})


def _specs_in(message: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    for number, (digest, texts, names) in enumerate(message["specs"]):
        arrays = {name: message[f"spec {number} {name}"] for name in names}
        spec = Spec(**{**texts, "allow": tuple(texts["allow"])}, arrays=arrays)
        spec.__dict__["digest"] = digest  # hashing large arrays again would take long
        yield digest, spec


def _shared(mappings: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Several mappings from names to JSON or arrays as one, with every array once."""
    places: dict[int, int] = {}  # by identity: the mappings keep their arrays alive
    values: dict[str, Value] = {}
    listed: list[Json] = []
    for mapping in mappings:
        entries: list[Json] = []
        for name, value in mapping.items():
            if isinstance(value, np.ndarray):
                place = places.setdefault(id(value), len(places))
                values[f"array {place}"] = value
                entries.append([name, place, None])
            else:
                entries.append([name, None, value])
        listed.append(entries)
    return {**values, "mappings": listed}


def _mappings_in(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            name: value if place is None else message[f"array {place}"]
            for name, place, value in entries
        }
        for entries in message["mappings"]
    ]


def _packed(pieces: list[_Piece]) -> _Sent:
    """The pieces of a short message as one, since Dask takes 0.2 ms for each."""
    return b"".join(pieces) if pieces and sum(map(len, pieces)) <= _SHORT else pieces


def _joined(pieces: Sequence[_Piece]) -> memoryview:
    """The pieces of a message, one after the other, in memory that is aligned as for NumPy arrays.

    NumPy multiplies arrays at unaligned addresses in another way, which gives other last bits.
    """
    sizes = [memoryview(piece).nbytes for piece in pieces]
    together = empty(-(-sum(sizes) // 8), np.dtype(np.float64)).view(np.uint8)[: sum(sizes)].data
    at = 0
    for piece, size in zip(pieces, sizes, strict=True):
        together[at : at + size] = memoryview(piece).cast("B")
        at += size
    return together


class _Lost(Exception):  # noqa: N818 - named after what happened
    """A worker does not answer any more."""


@attrs.define(eq=False)
class _Member:
    """A worker that has joined.

    Attributes:
        address: Its address.
        keeper: The future of its keeper, which lives as long as this future.
        refusals: Why it may not compute tasks that are portable or not; "" if it may.
        specs: The digests of the specs that it has.
        quick: The digests of the specs for which its last answer took only a moment.
        busy: Whether it works on a task of `each`.
    """

    address: str
    keeper: Future
    refusals: Mapping[bool, str] = attrs.field(factory=dict)
    specs: set[str] = attrs.field(factory=set)
    quick: set[str] = attrs.field(factory=set)
    busy: bool = False


class Dask(Closing):
    """Runs tasks on the workers of a Dask cluster; see `Executor`, and `dask`, which makes it.

    Its coroutines run in the event loop of the client, one at a time, so nothing needs a lock.
    """

    def __init__(
        self,
        client: Client,
        cluster: DaskHere | None,
        name: str,
        *,
        patience: float,
        on_refused: Callable[[str], object],
    ) -> None:
        """Begin to use the workers that `client` reaches."""
        self._client, self._cluster = client, cluster
        self._name, self._patience, self._on_refused = name, patience, on_refused
        self._address: str = client.scheduler.address
        self._loop: asyncio.AbstractEventLoop = client.loop.asyncio_loop
        self._members: dict[str, _Member] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()  # for the thread of the user
        self._closed = False
        self._changed = self._wait_for(_new_event())  # set when a worker joins or is free
        self._watching = self._soon(self._watch())

    def __repr__(self) -> str:
        return f"dask({self._name!r})"

    @property
    def workers(self) -> int:
        """The number of workers that take part now. It changes as some are lost and others join."""
        return len(self._members)

    def keeps(self, size: int) -> bool:
        """Whether each worker should receive data of `size` bytes once, and gather from its copy.

        The workers may share the memory of this machine, so all copies have to fit into half of it.
        """
        free = free_memory()
        return free is None or 2 * size * max(1, self.workers) <= free

    def map(self, tasks: Sequence[Task]) -> list[Result]:
        """The results of all tasks, in their order."""
        return self._wait_for(self._map(tasks))

    def each(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """The number and result of each task as soon as it is finished."""
        coming = enumerate(tasks)
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        running: dict[int, concurrent.futures.Future[Result]] = {}

        def start(number: int, task: Task) -> None:
            running[number] = self._soon(self._alone(task))
            running[number].add_done_callback(lambda done: finished.put(number))

        more = True
        try:
            while more or running:
                while more and len(running) < max(1, self.workers):
                    upcoming = next(coming, None)
                    more = upcoming is not None
                    if upcoming is not None:
                        start(*upcoming)
                self._report_refused()
                with contextlib.suppress(queue.Empty):  # then there may be more workers now
                    number = finished.get(timeout=_LOOKS) if running else None
                    if number is not None:
                        yield number, running.pop(number).result()
        finally:
            for future in running.values():
                future.cancel()

    def wait(self, workers: int = 1) -> None:
        """Wait until this many workers take part, or until `patience` seconds have passed.

        Args:
            workers: The number of workers.

        Raises:
            BadInput: If no worker takes part after `patience` seconds, or the only ones compute
                other bits.
        """
        self._wait_for(self._settled(workers))

    def close(self) -> None:
        """Release the workers. The processes of `local:N` end."""
        if self._closed:
            return
        self._closed = True
        self._watching.cancel()
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_LEAVES)
        with contextlib.suppress(Exception), no_warnings():
            self._client.close(timeout=_LEAVES)
        if self._cluster is not None:
            self._cluster.close()

    # In the user's thread.

    def _soon(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        if self._closed:
            coroutine.close()
            raise BadInput(f"the executor {self!r} is closed, expected an open one: make another.")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        future = self._soon(coroutine)
        try:
            # In short turns, because on Windows Ctrl-C does not interrupt an endless wait.
            while not concurrent.futures.wait([future], timeout=_LOOKS).done:
                pass
            self._report_refused()
            return future.result()
        finally:
            future.cancel()

    def _report_refused(self) -> None:
        """Report workers that were refused since the last call."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._on_refused(self._news.get_nowait())

    # In the loop of the client.

    async def _map(self, tasks: Sequence[Task]) -> list[Result]:
        results: dict[int, Result] = {}
        losses: Counter[int] = Counter()
        portable = all(task.spec.portable for task in tasks)
        while waiting := [number for number in range(len(tasks)) if number not in results]:
            members = (await self._fitting(portable))[: len(waiting)]
            cuts = [len(waiting) * i // len(members) for i in range(len(members) + 1)]
            runs = [waiting[a:b] for a, b in itertools.pairwise(cuts)]
            asked = [
                self._ask(member, [tasks[number] for number in run], alike=True)
                for member, run in zip(members, runs, strict=True)
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for run, answer in zip(runs, answers, strict=True):  # the first error in order
                if not isinstance(answer, BaseException):
                    results |= zip(run, answer, strict=True)
                elif not isinstance(answer, _Lost):
                    raise answer
                else:
                    losses.update(run)
                    if losses[run[0]] >= _MOST_LOSSES:
                        raise _too_many(tasks[run[0]], str(answer))
        return [results[number] for number in range(len(tasks))]

    async def _alone(self, task: Task) -> Result:
        """The result of one task, which has a worker for itself."""
        for _ in range(_MOST_LOSSES):
            member = await self._free(task.spec.portable)
            member.busy = True
            try:
                return (await self._ask(member, [task]))[0]
            except _Lost as lost:
                last = lost
            finally:
                member.busy = False
                self._changed.set()
        raise _too_many(task, str(last))

    async def _free(self, portable: bool) -> _Member:
        while True:
            for member in await self._fitting(portable):
                if not member.busy:
                    return member
            await self._change(None)

    async def _change(self, seconds: float | None) -> None:
        """Wait until a worker has joined or is free, but no longer than this many seconds."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _fitting(self, portable: bool = True, workers: int = 1) -> list[_Member]:
        """The members that compute the right bits, once there are at least `workers` of them.

        After `patience` seconds, fewer are enough.

        Raises:
            BadInput: If all workers were refused, or there was none for `patience` seconds.
        """
        end = self._loop.time() + self._patience
        while True:
            fitting = [m for m in self._members.values() if not m.refusals[portable]]
            left = end - self._loop.time()
            if len(fitting) >= workers or (fitting and left <= 0):
                return fitting
            refused = [m.refusals[portable] for m in self._members.values()]
            refused += self._refused.values()
            if refused and not fitting and not self._joining:
                raise BadInput(refused[0])
            if left <= 0:
                raise BadInput(
                    f"{self._name} had no worker for {self._patience:g} s, expected at least one: "
                    f"start workers, e.g. with: dask worker {self._address} --nthreads 1"
                )
            await self._change(min(left, _LOOKS))

    async def _settled(self, workers: int) -> None:
        """Wait until this many workers take part, and all those that are there now have joined."""
        await self._fitting(workers=workers)
        if self._joining:
            await asyncio.wait([*self._joining.values()], timeout=_ANSWERS)

    async def _ask(
        self, member: _Member, tasks: Sequence[Task], *, alike: bool = False
    ) -> list[Result]:
        """The results of tasks from one worker.

        Args:
            member: The worker.
            tasks: The tasks.
            alike: Whether they take about as long as those before with the same specs.

        Raises:
            _Lost: If the worker does not answer; then it is no member any more.
            BadInput: If a task refuses its spec or arguments.
        """
        specs = {task.spec.digest: task.spec for task in tasks}
        while True:
            missing = [spec for digest, spec in specs.items() if digest not in member.specs]
            began = self._loop.time()
            # Work of a moment would wait longer for a thread of its own, and for the way back.
            here = alike and specs.keys() <= member.quick
            answer = await self._call(member, "work", _message_of(tasks, missing), here=here)
            member.specs |= specs.keys()
            if self._loop.time() - began < _QUICK:
                member.quick |= specs.keys()
            else:
                member.quick -= specs.keys()
            if "unknown" in answer:
                member.specs.discard(str(answer["unknown"]))
            elif "error" in answer:
                error = as_error(answer["error"])  # type: ignore[arg-type]
                if isinstance(error, NoData):
                    raise NoData(f"worker {member.address}: {first_line(error)}")
                if answer["about files"]:
                    raise BadInput(
                        f"worker {member.address}: {first_line(error)}: put files where all "
                        "workers have them under the same path, or read them into memory."
                    ) from error
                raise error
            else:
                return list(_mappings_in(answer))

    async def _call(
        self, member: _Member, function: str, pieces: list[_Piece], *, here: bool = False
    ) -> dict[str, Value]:
        """The answer of a worker's keeper to a message.

        Args:
            member: The worker.
            function: The name of the keeper's function.
            pieces: The message.
            here: Whether the worker computes the answer in the thread in which it listens.
        """
        protocol = importlib.import_module("distributed.protocol")
        sent = _packed(pieces)
        try:
            # As an `Actor` does it, which after a loss would try the same address again.
            answer = await self._client.rpc(member.address).actor_execute(
                actor=member.keeper.key,
                function=function,
                args=[sent] if isinstance(sent, bytes) else [*map(protocol.to_serialize, sent)],
                kwargs={"separate_thread": False} if here else {},
            )
        except (OSError, KeyError) as error:  # it is gone, or another process is at its address
            self._lose(member)
            raise _Lost(member.address) from error
        if answer["status"] != "OK":  # a keeper raises nothing, but its worker is about to end
            self._lose(member)
            raise _Lost(f"{member.address} ({first_line(answer['exception'])})")
        result = answer["result"]
        return decoded(_joined([result] if isinstance(result, bytes) else result))

    async def _watch(self) -> None:
        """Let workers join, and see which ones are gone."""
        while True:
            if self._cluster is not None:
                self._cluster.renew(joined=bool(self._members))
            with contextlib.suppress(OSError, TimeoutError):  # it may answer the next time
                there = await asyncio.wait_for(
                    self._client.scheduler.ncores(workers=None), _ANSWERS
                )
                for address in [*self._refused.keys() - there.keys()]:
                    del self._refused[address]
                for address in [*self._joining.keys() - there.keys()]:
                    self._joining[address].cancel()  # nothing would ever answer it
                for address in [*self._members.keys() - there.keys()]:
                    self._lose(self._members[address])
                known = {*self._members, *self._joining, *self._refused}
                for address in there:
                    if address not in known:
                        self._joining[address] = self._loop.create_task(self._join(address))
            await asyncio.sleep(_LOOKS)

    async def _join(self, address: str) -> None:
        try:
            keeper = self._client.submit(
                Keeper,
                key=f"pydnn-keeper-{uuid.uuid4().hex}",  # named, since Dask would hash the class
                actor=True,
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
            await keeper
            member = _Member(address, keeper)
            report = Report.of((await self._call(member, "join", []))["report"])  # type: ignore[arg-type]
            member.refusals = {
                portable: refusal(f"worker {address}", report, portable=portable)
                for portable in (False, True)
            }
            if member.refusals[False]:
                self._news.put(member.refusals[False])
            self._members[address] = member
        except _Lost:
            pass
        except Exception as error:
            self._refused[address] = (
                f"worker {address} does not take part ({type(error).__name__}: "
                f"{first_line(error)}): install pydnn {__version__} there."
            )
            self._news.put(self._refused[address])
        finally:
            del self._joining[address]
            self._changed.set()

    def _lose(self, member: _Member) -> None:
        if self._members.get(member.address) is member:
            del self._members[member.address]
            member.keeper.release()

    async def _leave(self) -> None:
        for joining in [*self._joining.values()]:
            joining.cancel()
        for member in [*self._members.values()]:
            self._lose(member)


def _too_many(task: Task, last: str) -> BadInput:
    return BadInput(
        f"{_MOST_LOSSES} workers ended while they did the same task ({task.name}), the last one "
        f"was {last}: give workers more memory, or look at what they logged."
    )


async def _new_event() -> asyncio.Event:
    return asyncio.Event()


def dask(
    cluster: Client | str,
    *,
    patience: float = _PATIENCE,
    on_refused: Callable[[str], object] = warnings.warn,
) -> Dask:
    """An executor on a cluster of Dask.

    Args:
        cluster: The address of a scheduler, `tcp://HOST:PORT` or `tls://HOST:PORT`; `local:N` for
            N processes on this machine, which no other machine can reach; or a
            `dask.distributed.Client`, which stays open when the executor closes.
        patience: The seconds without any worker after which a run ends.
        on_refused: Called with one line for each worker that would give other bits or cannot take
            part. The other workers do its work.

    Raises:
        MissingExtra: If Dask is not installed.
        BadInput: If the scheduler does not answer within 15 seconds, or no worker can take part.
    """
    patience = expect_real("patience", patience, positive=True, hint="give a number of seconds")
    name, count = _named(cluster)
    distributed = distributed_module()
    local = DaskHere(count) if count else None
    try:
        client = _own_client(distributed, local.scheduler_address if local else cluster, name)
    except BaseException:
        if local is not None:
            local.close()
        raise
    executor = Dask(client, local, name, patience=patience, on_refused=on_refused)
    try:
        executor.wait(max(1, count))
    except BaseException:
        executor.close()
        raise
    return executor


def _named(cluster: object) -> tuple[str, int]:
    """What messages call a cluster, and the number of processes to start for it."""
    if isinstance(cluster, str):
        local = _LOCAL.fullmatch(cluster)
        count = int(local[1]) if local else 0
        if local and not 1 <= count <= _MOST_LOCAL:
            raise BadInput(f"the cluster is {cluster}, expected 1 to {_MOST_LOCAL} processes.")
        if not local and not _ADDRESS.fullmatch(cluster):
            raise BadInput(f"the cluster is {shown(cluster)}, {_EXPECTED}.")
        return cluster, count
    address = getattr(getattr(cluster, "scheduler", None), "address", None)
    if not isinstance(address, str) or not hasattr(cluster, "security"):
        raise BadInput(f"the cluster is {shown(cluster)}, {_EXPECTED}.")
    if getattr(cluster, "asynchronous", False):
        raise BadInput(
            "the client of Dask is asynchronous, expected an ordinary one: give its scheduler's "
            "address."
        )
    return address, 0


def _own_client(distributed: Any, cluster: Any, name: str) -> Client:
    """A Dask client for pydnn alone, which sends messages straight to the workers."""
    options: dict[str, Any] = {}
    if isinstance(cluster, distributed.Client):
        options = {"security": cluster.security, "loop": cluster.loop}
        cluster = cluster.scheduler.address
    elif isinstance(cluster, str):
        _expect_scheduler(distributed, cluster, None)
    try:
        with no_warnings():  # about other versions, which pydnn judges itself when workers join
            client = distributed.Client(
                cluster,
                timeout=_ANSWERS,
                set_as_default=False,
                direct_to_workers=True,
                name="pydnn",
                **options,
            )
    except Exception as error:
        raise _silent(name, error) from error
    return client


def _expect_scheduler(distributed: Any, address: str, security: Any) -> None:
    """Refuse an address at which no scheduler of Dask answers in time.

    A client would wait forever for an answer of another kind of server.
    """
    options = (security or distributed.Security()).get_connection_args("client")

    async def identity() -> Any:
        async with distributed.core.rpc(
            address, timeout=_ANSWERS, connection_args=options
        ) as scheduler:
            return await scheduler.identity()

    async def in_time() -> Any:
        return await asyncio.wait_for(identity(), _ANSWERS)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # a notebook has a loop in this one
        try:
            server = thread.submit(asyncio.run, in_time()).result()["type"]
        except Exception as error:
            raise _silent(address, error) from error
    if server != "Scheduler":
        raise BadInput(
            f"a {printable(server, most=40)} of Dask answers at {address}, expected a scheduler: "
            "give the address that `dask scheduler` logs."
        )


def _silent(name: str, error: Exception) -> BadInput:
    reason = first_line(error) or type(error).__name__
    return BadInput(
        f"no scheduler of Dask answers at {name} within {_ANSWERS:g} s ({reason}): start one, e.g. "
        "with: dask scheduler --host HOST"
    )
