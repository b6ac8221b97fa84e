"""A cluster of Dask on this machine alone: a scheduler in this process, and worker processes.

pydnn starts the workers in the same way as those of `processes`, instead of letting Dask do it. So
they do not import the main script, which would need a guard; they end with this process, however it
ends; and Ctrl-C reaches this process alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

from pydnn.checks import BadInput, first_line, import_extra
from pydnn.workers import channels
from pydnn.workers.encoding import decoded, encoded
from pydnn.workers.processes import environment

__all__ = ["DaskHere", "distributed_module", "no_warnings", "serve"]

_HERE = "127.0.0.1"  # no other machine can connect
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")
_MOST_LOSSES = 6  # processes in a row of which none joined
_LEAVES = 3.0  # seconds in which connections have to close


class DaskHere:
    """A cluster of Dask on this machine.

    Attributes:
        scheduler_address: The address of its scheduler, which only this machine can reach.
    """

    def __init__(self, count: int) -> None:
        """Start the scheduler and `count` worker processes."""
        try:
            with no_warnings():
                self._cluster = distributed_module().LocalCluster(
                    n_workers=0,
                    host=_HERE,
                    dashboard_address=f"{_HERE}:0",  # for its web server; the default may be taken
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.CRITICAL,
                )
        except Exception as error:
            raise BadInput(
                f"local:{count} did not start ({first_line(error)}), expected a scheduler on "
                f"{_HERE}: allow connections to that address, or use the executor processes."
            ) from error
        self.scheduler_address: str = self._cluster.scheduler_address
        self._losses = 0
        self._children = [self._started() for _ in range(count)]
        self._end = weakref.finalize(self, _end_all, self._children)  # also when the program ends

    def _started(self) -> channels.Child:
        child = channels.Child(f"{__name__}:serve", environment())
        with contextlib.suppress(OSError):  # it has ended already
            child.channel.send(encoded({"scheduler": self.scheduler_address}))
        return child

    def renew(self, *, joined: bool) -> None:
        """Start another process for each that has ended, unless none of many could join.

        Args:
            joined: Whether any worker has joined since the last call.
        """
        self._losses = 0 if joined else self._losses
        for place, child in enumerate(self._children):
            if child.process.poll() is not None and self._losses < _MOST_LOSSES:
                self._losses += 1
                child.kill()  # closes what is left of it
                self._children[place] = self._started()

    def close(self) -> None:
        """End all processes and the scheduler."""
        self._end()
        with contextlib.suppress(Exception), no_warnings():
            self._cluster.close(timeout=_LEAVES)


def _end_all(children: list[channels.Child]) -> None:
    while children:
        children.pop().kill()


def serve(client: channels.Client) -> None:
    """Run a Dask worker with one thread until the client's scheduler ends."""
    message, _ = client.channel.receive()
    address = decoded(message)["scheduler"]
    distributed = distributed_module()
    # Dask would interrupt the computation a hundred times a second to note where it is.
    importlib.import_module("dask").config.set({"distributed.worker.profile.enabled": False})

    async def work() -> None:
        options = {"host": _HERE, "nthreads": 1, "dashboard": False}
        # Dask would pause a worker whose arrays fill its share of the memory.
        async with distributed.Worker(address, memory_limit=0, **options) as worker:
            await worker.finished()

    with contextlib.suppress(Exception), no_warnings():
        asyncio.run(work())


def distributed_module() -> Any:
    """The module `distributed` of Dask, without its log unless the user imported it first.

    Raises:
        MissingExtra: If Dask is not installed.
    """
    purpose = "a cluster of Dask"
    if "distributed" in sys.modules:  # then its log belongs to whoever imported it
        return import_extra("distributed", extra="dask", purpose=purpose)
    config = import_extra("dask", extra="dask", purpose=purpose).config
    silent = dict.fromkeys(_LOGGERS, "critical") | config.get("logging", {})
    with config.set({"logging": silent}):
        return import_extra("distributed", extra="dask", purpose=purpose)


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """A context without warnings, e.g. those of Dask about versions, which pydnn checks itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
