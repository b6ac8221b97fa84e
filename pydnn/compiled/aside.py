"""Kernels that another process compiles, while NumPy does the work in this one.

Compiling the step of a small network takes as long as ten thousand steps by NumPy. So a process
that trains does not wait for it. If a kernel is neither in memory nor on disk, a second process
compiles it, and the call raises `NotCompiledYet`: NumPy does this work, to the same bits. Once the
kernel is on disk, the next call reads it.

The second process compiles one kernel after the other: each time one that is called while it has
nothing to do. Kernels of whole steps come first, since the kernels of their parts are not needed
afterwards; so do those that decide whether there are such. The process gets a line of JSON for each
kernel, and answers with the line `kept`. Whatever else it prints is not an answer, but the last
line says why it failed. It ends when its standard input is closed, as it is when the process that
trains has ended in whatever way, and after some seconds without a request.

If there can be no such process, e.g. in a program without a Python of its own, or if it fails, this
process compiles its kernels itself, at the first call that needs them.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import types

from pydnn.checks import BadInput
from pydnn.compiled.kernels import (
    comes_first,
    kernel_folder,
    kernel_of_source,
    source_of,
)
from pydnn.engines import COMPILE, NotCompiledYet, compiles_here, note_once, say_compiling
from pydnn.storage.cache import VARIABLE
from pydnn.storage.files import exclusive

__all__ = ["is_awaited", "is_left_to_another", "main", "not_asked_in_vain"]

_IDLE = 10.0  # seconds after which the second process ends, since it takes 150 MB of memory
_FIRST = 1.0  # seconds for which others wait for a kernel that comes first, after it was called
_KEPT = b"kept\n"

_Types = tuple[Any, ...]
_Function = Callable[..., Any]
_Kernel = tuple[_Function, _Types]  # a Python function, and the types of its arguments


class _Failure(Exception):  # noqa: N818
    """Why another process cannot compile."""


class _Another:
    """The process that compiles for this one.

    Attributes:
        lock: Held while the other attributes change.
        process: The process, if it runs.
        talk: The thread that waits for its answer.
        asked: The kernel that it compiles.
        missing: The functions that were called meanwhile with types that are not on disk.
        first: The function to compile before others that was called last, and when.
        kept: The kernels that it has compiled.
        failure: Why it compiles no more, so this process does.
        killed: Whether something killed it, e.g. for want of memory; then nobody compiles.
        ended: Whether this process ends.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.talk: threading.Thread | None = None
        self.asked: _Kernel | None = None
        self.missing: frozenset[_Function] = frozenset()
        self.first: tuple[_Function | None, float] = None, 0.0
        self.kept: frozenset[_Kernel] = frozenset()
        self.failure: str | None = None
        self.killed = False
        self.ended = False

    def compiles(self, kernel: _Kernel) -> bool:
        """Return whether it compiles a kernel, now or when it is asked again.

        Raises:
            RuntimeError: If something killed it.
        """
        if compiles_here():
            return False
        with self.lock:
            if comes_first(kernel[0]):
                self.first = kernel[0], time.monotonic()
            if self.failure is None and self.asked is None:
                first, last = self.first
                if first not in (None, kernel[0]) and time.monotonic() < last + _FIRST:
                    return True
                try:
                    self._ask(kernel)
                except Exception as error:  # e.g. there are too many threads
                    self.asked, self.failure = None, str(error)
            if self.failure is None:
                self.missing |= {kernel[0]}
                return True
        if self.killed:
            raise RuntimeError(f"the process that compiles was killed: {self.failure}")
        if self.failure:
            note_once(f"kernels are compiled where they are needed, because {self.failure}")
        return False

    def _ask(self, kernel: _Kernel) -> None:
        function, types_ = kernel
        if kernel in self.kept:
            raise _Failure(f"{function.__name__} is no longer in {kernel_folder()}")
        name = Path(sys.executable or "").name.lower()
        if getattr(sys, "frozen", False) or not name.startswith(("python", "pypy")):
            raise _Failure("")  # no Python, so it would do something else
        request = json.dumps({"source": source_of(function), "types": [*map(_text_of, types_)]})
        arguments = kernel, request.encode() + b"\n"
        self.asked, self.talk = kernel, threading.Thread(target=self._talk, args=arguments)
        self.talk.daemon = True
        self.talk.start()

    def _talk(self, kernel: _Kernel, request: bytes) -> None:
        failure: str | None = "another process does not compile them"
        try:
            # Once more, since it may just have ended because it was not asked for long.
            if self._answers(request) or self._answers(request):
                failure = None
        except Exception as error:  # e.g. the process cannot start
            failure = str(error)
        with self.lock:
            self.failure = failure
            self.kept |= {kernel}
            self.asked, self.missing = None, frozenset()

    def _answers(self, request: bytes) -> bool:
        """Return whether it has compiled a kernel; False if it ended for want of requests.

        Raises:
            _Failure: If it failed, with the reason.
        """
        with self.lock:
            if self.ended:
                return True
            process = self.process = self.process or _started()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):  # it has ended
            rest = memoryview(request)
            while rest:
                rest = rest[process.stdin.write(rest) :]
        last = b""
        for line in process.stdout:
            if line == _KEPT:
                return True
            last = line.strip() or last
        status = process.wait()
        with self.lock:
            self.process = None
            self.killed = status < 0 and not self.ended
            _close(process)
        if status:
            reason = last.decode(errors="replace")
            raise _Failure(f"another process ended with status {status} ({reason or 'silently'})")
        return False

    def end(self) -> None:
        """End the process."""
        with self.lock:
            self.ended, process = True, self.process
        if process is not None:
            process.kill()
            if self.talk is not None:
                self.talk.join()
            process.wait()
            _close(process)

    def forget(self) -> None:
        """Leave the process to the parent, of which this process is a fork."""
        if self.process is not None:
            _close(self.process)
            self.process.returncode = 0  # or Python would warn that it still runs


def _started() -> subprocess.Popen[bytes]:
    folder = kernel_folder()
    assert folder is not None
    # Not `-m`, which would look for pydnn in the current folder first.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from pydnn.compiled.aside import main; main()"
    )
    environment = {
        **os.environ,
        VARIABLE: str(folder.parent.parent),
        COMPILE: "here",
        "OPENBLAS_NUM_THREADS": "1",  # it multiplies no matrices
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Without buffers, whose locks could be held by another thread when this process forks.
        bufsize=0,
        # Ctrl-C at the terminal is for this process, which then ends the other one.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


_another = _Another()
atexit.register(lambda: _another.end())


def _forget() -> None:
    global _another
    _another.forget()
    _another = _Another()  # with a lock that no thread of the parent holds


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def is_left_to_another(function: Callable[..., Any], types_: _Types) -> bool:
    """Return whether another process compiles a kernel, so that NumPy does the work for now.

    Args:
        function: The Python function of the kernel, which is not on disk.
        types_: The types of its arguments.
    """
    left = _another.compiles((function, types_))
    say_compiling(waits=not left)
    return left


def is_awaited(compiled: Callable[..., Any]) -> bool:
    """Return whether it is useless to call a kernel for now."""
    return bool(_another.missing) and _is_missing(getattr(compiled, "py_func", None))


def not_asked_in_vain(compiled: Any) -> Callable[..., Any]:
    """Return what a kernel calls for types that it does not have in memory.

    It is what numba calls, which takes 100 microseconds to find that the kernel is not on disk. So
    that is not called again before another process has compiled something.
    """
    numbas, function = compiled._compile_for_args, compiled.py_func

    def compile_for(*args: Any, **keywords: Any) -> Any:
        if _is_missing(function):
            raise NotCompiledYet
        return numbas(*args, **keywords)

    return compile_for


def _is_missing(function: Callable[..., Any] | None) -> bool:
    if function is None or function not in _another.missing or compiles_here():
        return False
    if comes_first(function):
        _another.first = function, time.monotonic()
    return True


# What the other process is told

_SINGLE = {str(each): each for each in (*types.number_domain, types.boolean)}


def _text_of(type_: Any) -> Any:
    """Return a type of numba as plain data; raise `_Failure` for one that kernels do not take."""
    plain: Any = None
    if type(type_) is types.Array:
        numbers = str(type_.dtype), type_.ndim, type_.layout
        plain = ["array", *numbers, not type_.mutable, type_.aligned]
    elif isinstance(type_, types.BaseNamedTuple):
        made = type_.instance_class
        plain = ["named", made.__module__, made.__qualname__, *map(_text_of, type_)]
    elif isinstance(type_, types.BaseAnonymousTuple):
        plain = ["tuple", *map(_text_of, type_)]
    elif str(type_) in _SINGLE:
        plain = str(type_)
    if plain is None or _type_of(plain) != type_:
        raise _Failure(f"no text tells the type {type_}")
    return plain


def _type_of(plain: Any) -> Any:
    """Return the type of numba that `_text_of` made plain data of."""
    if isinstance(plain, str):
        return _SINGLE[plain]
    kind, *parts = plain
    if kind == "array":
        dtype, ndim, layout, readonly, aligned = parts
        return types.Array(_SINGLE[dtype], ndim, layout, readonly=readonly, aligned=aligned)
    if kind == "named":
        made = getattr(importlib.import_module(parts[0]), parts[1])
        return types.BaseTuple.from_types([*map(_type_of, parts[2:])], made)
    return types.BaseTuple.from_types([*map(_type_of, parts)])


# The other process


def main() -> None:
    """Compile the kernels that lines on the standard input describe, until it is closed."""
    requests = queue.SimpleQueue[bytes]()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    status = 0
    try:
        while True:
            _compile(requests.get(timeout=_IDLE))
            os.write(1, b"\n" + _KEPT)
    except queue.Empty:
        pass
    except BaseException:
        traceback.print_exc()
        status = 1
    os._exit(status)  # Python would wait for the other thread


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    with open(0, "rb", buffering=0) as lines:
        for line in lines:
            requests.put(line)
    os._exit(0)


def _compile(request: bytes) -> None:
    plain, folder = json.loads(request), kernel_folder()
    if folder is None:
        raise BadInput("there is no folder to keep kernels in.")
    source = plain["source"]
    compiled = kernel_of_source(source)
    path = folder / f"{hashlib.sha256(request).hexdigest()[:24]}.lock"
    with _alone(path):  # of several processes, the first compiles and the others read the kernel
        compiled.compile(tuple(map(_type_of, plain["types"])))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock."""
    while True:
        try:
            with exclusive(path):
                yield
                with contextlib.suppress(OSError):  # Windows keeps files that are open
                    path.unlink()
            return
        except BadInput as error:
            if not isinstance(error.__cause__, (BlockingIOError, PermissionError)):
                raise
            time.sleep(0.05)
