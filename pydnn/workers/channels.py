"""Channels between a program and its worker processes: messages, and access to shared memory.

On Windows a channel is two pipes. Elsewhere it is one socket, which can also carry the file
descriptors of shared memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from pydnn.workers.encoding import Buffer

__all__ = ["Channel", "Child", "Client"]

_HEAD = struct.Struct("<QI")  # the length of the message, and the number of file descriptors
_MOST_HANDLES = 64
_AT_ONCE = 1 << 16


class Channel:
    """One end of a channel.

    Reading and writing may be done by two threads at the same time. Both raise OSError or EOFError
    if the other end is gone.
    """

    def __init__(self, end: socket.socket | tuple[int, int]) -> None:
        """Use a socket, or the file descriptors of a pipe to read and of one to write."""
        self._end = end

    @classmethod
    def inherited(cls) -> Channel:
        """The channel of a worker, which is its standard input and, on Windows, output.

        Whatever the worker prints from now on goes to its standard error.
        """
        windows = os.name == "nt"
        own = (os.dup(0), os.dup(1)) if windows else socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(own)

    def send(self, pieces: Sequence[Buffer], handles: Sequence[int] = ()) -> None:
        """Send a message, and the file descriptors of shared memory."""
        head = _HEAD.pack(sum(len(piece) for piece in pieces), len(handles))
        # Most messages are short, and one write takes half the time of two.
        whole = b"".join((head, *pieces))
        if isinstance(self._end, tuple):
            view = memoryview(whole)
            while view:
                view = view[os.write(self._end[1], view) :]
            return
        sent = socket.send_fds(self._end, [whole], handles) if handles else 0
        self._end.sendall(memoryview(whole)[sent:])

    def receive(self) -> tuple[bytearray, list[int]]:
        """The next message, and the file descriptors with it."""
        handles: list[int] = []
        if isinstance(self._end, tuple):
            head = self._exactly(_HEAD.size)
        else:
            data, handles, *_ = socket.recv_fds(self._end, _HEAD.size, _MOST_HANDLES)
            if not data:
                raise EOFError
            head = bytearray(data) + self._exactly(_HEAD.size - len(data))
        length, _ = _HEAD.unpack(head)
        return self._exactly(length), handles

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            if isinstance(self._end, tuple):
                part = os.read(self._end[0], min(len(view), _AT_ONCE))
                view[: len(part)] = part
                read = len(part)
            else:
                read = self._end.recv_into(view)
            if not read:
                raise EOFError
            view = view[read:]
        return data

    def close(self) -> None:
        """Close this end, which also ends a read in another thread."""
        with contextlib.suppress(OSError):
            if isinstance(self._end, tuple):
                for end in self._end:
                    os.close(end)
            else:
                with contextlib.suppress(OSError):
                    self._end.shutdown(socket.SHUT_RDWR)
                self._end.close()


class Child:
    """Another Python, which runs a function of pydnn and has a channel to this process.

    Attributes:
        channel: This end of the channel.
        process: The process.
    """

    def __init__(self, function: str, environment: dict[str, str]) -> None:
        """Start a Python that calls `function`, named as module:function, with a `Client`."""
        module, _, name = function.partition(":")
        # The same import path as here, for pydnn and for the user's own modules.
        code = (
            f"import sys; sys.path[:] = {[p for p in sys.path if isinstance(p, str)]!r}\n"
            "from pydnn.workers.channels import Client\n"
            "client = Client(*map(int, sys.argv[1:]))\n"
            f"from {module} import {name}\n"
            f"{name}(client)\n"
        )
        # Without -P it would import from the current folder, where a stranger may have put files.
        command = [sys.executable, "-P", "-c", code, str(os.getpid())]
        self._watched = -1
        if os.name == "nt":
            # In its own group, so that Ctrl-C at a terminal reaches this process alone.
            flags: int = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
            self.process = subprocess.Popen(
                [*command, "-1"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                creationflags=flags,
            )
            read, write = self.process.stdout, self.process.stdin
            assert read is not None
            assert write is not None
            self.channel = Channel((os.dup(read.fileno()), os.dup(write.fileno())))
            read.close()
            write.close()
            return
        ours, theirs = socket.socketpair()
        watching, self._watched = os.pipe()  # the system closes our end, however we end
        try:
            self.process = subprocess.Popen(
                [*command, str(watching)],
                stdin=theirs.fileno(),
                env=environment,
                pass_fds=[watching],
                start_new_session=True,  # for Ctrl-C, as above
            )
        except BaseException:
            ours.close()
            os.close(self._watched)
            raise
        finally:
            theirs.close()
            os.close(watching)
        self.channel = Channel(ours)

    def kill(self) -> None:
        """End the process at once, and wait until it has ended."""
        self.channel.close()
        self.process.kill()
        self.process.wait()
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1


class Client:
    """The process that started this one, from inside a child.

    Attributes:
        channel: The channel to it.
    """

    def __init__(self, process: int, watching: int) -> None:
        """Take over the channel, and end this process as soon as the client has ended.

        Args:
            process: The number of the client's process.
            watching: A file descriptor that is at its end when the client has ended; -1 on Windows.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client handles interruptions
        self.channel = Channel.inherited()
        waiting = (_ended, watching) if watching >= 0 else (_ended_windows, process)
        threading.Thread(target=_end_after, args=waiting, daemon=True).start()


def _end_after(wait: Callable[[int], None], what: int) -> None:
    wait(what)
    os._exit(1)


def _ended(watching: int) -> None:
    os.read(watching, 1)


def _ended_windows(process: int) -> None:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    synchronize, forever = 0x00100000, 0xFFFFFFFF
    handle = kernel.OpenProcess(synchronize, False, process)
    if handle:
        kernel.WaitForSingleObject(handle, forever)
