"""A worker process: it answers tasks until the program that started it closes the channel."""

from __future__ import annotations

import collections
import contextlib
import mmap
from typing import Any

import attrs
import numpy as np

from pydnn.checks import Json
from pydnn.engines import notes_to, using_engine
from pydnn.numerics.blas_threads import using_blas_threads
from pydnn.workers.channels import Client
from pydnn.workers.encoding import decoded, encoded
from pydnn.workers.failures import as_json
from pydnn.workers.interface import Arguments, Result, Spec, Task, by_size
from pydnn.workers.joining import own_report
from pydnn.workers.memory import attached, read, room, written
from pydnn.workers.tasks import Prepared

__all__ = ["main"]

_MOST_KEPT_SPECS = 4


def main(client: Client) -> None:
    """Answer the tasks of a client until it closes the channel."""
    np.seterr(all="ignore")  # the client looks for numbers that are not finite
    worker = _Worker()
    client.channel.send(encoded({"": {"report": attrs.asdict(own_report())}}))
    with notes_to(worker.notes.append, people=False):
        while True:
            try:
                message, handles = client.channel.receive()
            except (OSError, EOFError):
                return
            values = decoded(message)
            about: Any = values.pop("")
            client.channel.send(worker.answer(about, values, handles))


class _Worker:
    """What a worker keeps between tasks: shared memory, and what it prepared."""

    def __init__(self) -> None:
        self._memory: dict[int, mmap.mmap] = {}
        # By digest: the spec, and the numbers of the segments that hold its arrays.
        self._specs: collections.OrderedDict[str, tuple[Spec, set[int]]] = collections.OrderedDict()
        self._prepared = Prepared(_MOST_KEPT_SPECS)
        self.notes: list[str] = []  # about the engine, which the client has not seen yet

    def answer(
        self, about: dict[str, Any], inline: Arguments, handles: list[int]
    ) -> list[bytes | memoryview]:
        for number in about["forget"]:
            self._forget(number)
        descriptors = iter(handles)
        for number, size, name, writeable in about["attach"]:
            handle = next(descriptors) if name is None else name
            self._memory[number] = attached(handle, size, writeable=writeable)
        digest = about["spec"]
        if "with" in about:
            self._specs[digest] = self._spec(digest, **about["with"])
            while len(self._specs) > _MOST_KEPT_SPECS:
                self._specs.popitem(last=False)
        if digest not in self._specs:
            return encoded({"": {"unknown": digest}})
        self._specs.move_to_end(digest)
        try:
            shared = {name: read(self._memory, place) for name, place in about["shared"].items()}
            arguments = {**about["arguments"], **inline, **shared}
            task = Task(about["task"], self._specs[digest][0], arguments)
            threads = about["threads"]
            blas = using_blas_threads(threads) if threads else contextlib.nullcontext()
            with blas, using_engine(about["engine"]):
                result = self._prepared.run(task)
            return self._message(result, about.get("results"))
        except (Exception, SystemExit) as error:
            return encoded({"": {"error": as_json(error)}})

    def _spec(
        self, digest: str, *, arrays: dict[str, Any], allow: list[str], **texts: Any
    ) -> tuple[Spec, set[int]]:
        placed = {name: read(self._memory, place) for name, place in arrays.items()}
        spec = Spec(**texts, allow=tuple(allow), arrays=placed)
        spec.__dict__["digest"] = digest  # hashing large arrays again would take long
        return spec, {place[0] for place in arrays.values()}

    def _forget(self, number: int) -> None:
        """Let go of a segment, and of what was prepared from the arrays in it."""
        self._memory.pop(number, None)  # the system frees it when no array refers to it
        for digest, (_, segments) in list(self._specs.items()):
            if number in segments:
                del self._specs[digest]
                self._prepared.forget(digest)

    def _message(self, result: Result, number: int | None) -> list[bytes | memoryview]:
        """The message of a result, whose large arrays go to shared memory if they fit."""
        large, inline, plain = by_size(result)
        wanted = room(large.values())
        shared: dict[str, Json] = {}
        if number is not None and wanted <= len(self._memory[number]):
            places = written(self._memory[number], number, large.values())
            shared = dict(zip(large, places, strict=True))
        else:  # "wanted" lets the client make a segment that is large enough for the next result
            inline |= large
        about: dict[str, Json] = {"result": plain, "shared": shared, "wanted": wanted}
        if self.notes:
            about["notes"] = [*self.notes]
            self.notes.clear()
        return encoded({"": about, **inline})
