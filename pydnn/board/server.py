"""The server of the board: on this machine alone, for reading alone.

Any page in a browser can send requests to a server on the same machine. So each request must name
this server as its host, which stops pages of others that let their name point here, and one that
comes from another page gets only the list. Only GET and HEAD are answered, and no answer changes a
file or depends on more than the runs below the folder.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs

from pydnn.board.frame import query_of
from pydnn.board.heads import Catalog
from pydnn.board.pages import compare_page, list_page, problem_page, run_page, step_page
from pydnn.checks import BadInput, first_line, path_of, printable
from pydnn.runs.run import Run

__all__ = ["Board", "make_server"]

_HOST = "127.0.0.1"
_IDLE = 30.0  # seconds that a connection may wait for the next request, or take an answer
_HEAD = 5.0  # seconds from the first byte of a request to the end of its head
_MOST_WAITING = 64  # connections without a whole request; of more, the oldest ones are closed
_MOST_ANSWERED = 64  # requests at the same time
_OF_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report has its style in the file, and needs nothing else.
_OF_REPORTS = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HERE = Path(__file__).parent
_FILES = {
    "/board.js": ("text/javascript; charset=utf-8", (_HERE / "board.js",)),
    "/board.css": (
        "text/css; charset=utf-8",
        (_HERE.parent / "reports" / "report.css", _HERE / "board.css"),
    ),
}
_HTML = "text/html; charset=utf-8"

Query = Mapping[str, Sequence[str]]


@attrs.frozen
class Answer:
    """What a request gets: the status, the kind of the content, its bytes and its policy."""

    status: HTTPStatus
    kind: str
    content: bytes
    policy: str = _OF_PAGES


class Board:
    """The pages of the runs below a folder, by address.

    Attributes:
        catalog: The runs.
        data: Another place of the data of all runs; None for the recorded one.
        allow: The names of the modules outside pydnn that may be imported for recipes.
    """

    def __init__(self, root: Path, *, data: str | None = None, allow: Sequence[str] = ()) -> None:
        """Begin with no run read.

        Args:
            root: The folder.
            data: Another place of the data of all runs.
            allow: Modules that may be imported for recipes, for reports and steps.

        Raises:
            BadInput: If there is no such folder.
        """
        root = path_of(root)
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise BadInput(
                f"{root} {what}, expected a folder of runs: train with --run {root}/0001, or name "
                "another folder."
            )
        self.catalog, self.data, self.allow = Catalog(root), data, tuple(allow)
        self._computing = threading.Lock()  # one report or step at a time
        self._pages: Mapping[str, Callable[[Query], str]] = {
            "/": lambda query: list_page(self.catalog, query),
            "/run": lambda query: run_page(self.catalog, _one(query, "run"), query),
            "/compare": lambda query: compare_page(self.catalog, query.get("run", [])),
            "/step": self._step,
        }

    def answer(self, target: str) -> Answer:
        """The answer to the request for an address; an error is an answer, too.

        Args:
            target: The address without the host, e.g. "/run?run=0001".
        """
        try:
            parts = _parts(target)
            if parts.path in _FILES:
                kind, files = _FILES[parts.path]
                return Answer(HTTPStatus.OK, kind, b"".join(file.read_bytes() for file in files))
            query = query_of(parts.query)
            if parts.path == "/report":
                return Answer(HTTPStatus.OK, _HTML, self._report(query).encode(), _OF_REPORTS)
            if parts.path not in self._pages:
                message = f"there is no page {parts.path}: go back to the list."
                return _page(problem_page(message), HTTPStatus.NOT_FOUND)
            return _page(self._pages[parts.path](query))
        except BadInput as error:
            return _page(problem_page(str(error)), HTTPStatus.BAD_REQUEST)
        except Exception as error:  # whatever is in a file of a stranger must not end the board
            message = f"{type(error).__name__}: {first_line(error)}"
            return _page(problem_page(message), HTTPStatus.INTERNAL_SERVER_ERROR)

    def _open(self, name: str) -> Run:
        found = self.catalog.found(name)
        return Run.open(found.path, data=self.data, allow=self.allow)

    def _step(self, query: Query) -> str:
        name, text = _one(query, "run"), _one(query, "step")
        if not (text.isascii() and text.isdigit() and len(text) < 17):
            raise BadInput(f"step is {text!r}, expected the number of a step: write it in digits.")
        with self._computing:
            return step_page(self._open(name), name, int(text))

    def _report(self, query: Query) -> str:
        from pydnn import reports  # here, since few requests need them

        if "sweep" in query:
            sweep = self.catalog.sweep(_one(query, "sweep"))
            with self._computing:
                return reports.report_of_sweep(sweep, allow=self.allow)
        names = list(dict.fromkeys(query.get("run", [])))
        if not names:
            raise BadInput("no run is selected, expected one or more: go back and select runs.")
        with self._computing:
            runs = [self._open(name) for name in names]
            one = len(runs) == 1
            return reports.report_of_run(runs[0]) if one else reports.report_of_runs(runs)


def _parts(target: str) -> SplitResult:
    try:
        return urlsplit(target)
    except ValueError as error:  # e.g. of the host in http://[/
        raise BadInput(f"the address is not understood ({error}): go back to the list.") from error


def _one(query: Query, name: str) -> str:
    values = query.get(name, [])
    if len(values) != 1:
        raise BadInput(
            f"the address has {len(values)} values of {name}, expected one: go back to the list."
        )
    return values[0]


def _page(text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, _HTML, text.encode("utf-8", "backslashreplace"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection that waits must not keep the process
    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers have one port
    board: Board

    def __init__(self, *args: Any, **options: Any) -> None:
        self.room = threading.BoundedSemaphore(_MOST_ANSWERED)
        self._waiting: dict[socket.socket, None] = {}  # in the order in which they began to wait
        self._lock = threading.Lock()
        super().__init__(*args, **options)

    @contextlib.contextmanager
    def waiting(self, connection: socket.socket) -> Iterator[None]:
        """Let a connection wait for a request, or be closed if too many connections do."""
        with self._lock:
            self._waiting[connection] = None
            if len(self._waiting) > _MOST_WAITING:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                with contextlib.suppress(OSError):  # the client has gone already
                    oldest.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore what happens to one connection, e.g. a browser that goes away."""


class _Incoming(io.RawIOBase):
    """The bytes of a connection; whoever reads them waits until a deadline, not for each byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pydnn-board"
    sys_version = ""
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = self._buffered = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        with contextlib.ExitStack() as self._wait:
            self._wait.enter_context(self.server.waiting(self.connection))
            self._incoming.until = time.monotonic() + _IDLE
            try:
                self._buffered.peek(1)
            except TimeoutError:
                self.close_connection = True
                return
            self._incoming.until = time.monotonic() + _HEAD
            super().handle_one_request()

    def parse_request(self) -> bool:
        whole = super().parse_request()
        self._wait.close()
        self.connection.settimeout(_IDLE)
        return whole

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # nobody reads the body, which must not be a request
        refusal = self._refusal()
        if refusal is None:
            with self.server.room:
                answer = self.server.board.answer(self.path)
            self._send(answer)
        else:
            self._send(_page(problem_page(refusal), HTTPStatus.FORBIDDEN))

    do_HEAD = do_GET

    def _refusal(self) -> str | None:
        """Why this request gets no page; None if it gets one."""
        port = self.server.server_address[1]
        own = {f"{name}:{port}" for name in (_HOST, "localhost")}
        own |= {_HOST, "localhost"} if port == 80 else set()
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].strip().lower() not in own:
            return f"the request names another host, expected {_HOST}:{port}: open that address."
        # Browsers say where a request comes from. A link on another page may lead to the list.
        site = self.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and self.path.partition("?")[0] != "/":
            return "the request comes from another page: open the list and go from there."
        return None

    def _send(self, answer: Answer) -> None:
        content = answer.content
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", answer.policy)
        self.send_header("Content-Type", answer.kind)
        if len(content) > 4096 and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not understood, or of another method, in one line."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # what the base class says of other methods
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "the board answers GET and HEAD alone."
        text = printable(message or HTTPStatus(code).phrase) + "\n"
        self.close_connection = True  # there may be a body, which nobody reads
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Security-Policy", _OF_PAGES)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing to the terminal for each request."""


@contextlib.contextmanager
def make_server(board: Board, *, port: int = 0) -> Iterator[_Server]:
    """A server of a board on the loopback address, whose `serve_forever` answers requests.

    Args:
        board: The board.
        port: The port; 0 for one that is free.

    Raises:
        BadInput: If another program has the port, or it may not be used.
    """
    try:
        server = _Server((_HOST, port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadInput(
            f"port {port} cannot be used ({reason}): choose another with --port, or --port 0 for "
            "any that is free."
        ) from error
    server.board = board
    with server:
        yield server
