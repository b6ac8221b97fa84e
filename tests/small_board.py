"""Boards for tests, each served over a real socket of this machine and asked by a client."""

import contextlib
import http.client
import threading

import attrs

from pydnn.board import Board, make_server

# The name of a folder. On a page, in an address and in a terminal it must stay a text.
HOSTILE = "<script>alert(1)<\u2215script> \"x\" 'y' & \x1b[31m %2f ..;a=b#c?d"


@attrs.frozen
class Reply:
    status: int
    headers: dict
    text: str


@attrs.frozen
class Client:
    """Asks a board over a socket."""

    port: int

    def ask(self, target, *, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, headers=named)
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read().decode())


@contextlib.contextmanager
def served(folder, **options):
    """A client of a board that ends with the block."""
    with make_server(Board(folder, **options)) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        try:
            yield Client(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
