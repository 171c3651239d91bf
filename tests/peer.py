"""A scripted TCP server, for answers and faults that a real server does not produce on demand."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ssl import SSLContext

type Talk = Callable[[socket.socket], None]


class Peer:
    """The peer's address, and the number of connections that it has accepted."""

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0


@contextmanager
def peer(*talks: Talk, tls: SSLContext | None = None) -> Iterator[Peer]:
    """Run a peer with one of *talks* per connection, the last one for all further connections.

    A talk gets the connected socket, which is closed when it returns or when
    the peer ends.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state = Peer(listener.getsockname()[1])

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                if ending.is_set():
                    connection.close()
                    return
                talk = talks[min(state.connections, len(talks) - 1)]
                state.connections += 1
                thread = threading.Thread(target=handle, args=(talk, connection))
                thread.start()
                threads.append(thread)

        def handle(talk: Talk, connection: socket.socket) -> None:
            with suppress(OSError):  # the client may have closed it; tests assert on the client
                connection.settimeout(10)
                with connection if tls is None else tls.wrap_socket(connection, server_side=True) as ready:
                    connections.append(ready)
                    talk(ready)

        ending = threading.Event()
        connections: list[socket.socket] = []
        threads = [threading.Thread(target=serve)]
        threads[0].start()
        try:
            yield state
        finally:
            ending.set()
            socket.create_connection((state.host, state.port)).close()  # wakes the accept
            threads[0].join()
            for connection in connections:
                with suppress(OSError):  # it may have ended already
                    # not SSLSocket's own, which takes the TLS away from a talk that is still going on
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def request_from(connection: socket.socket) -> bytes:
    """Return the next whole request; empty if the client has closed the connection."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return b""
        data += received
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        received = connection.recv(65536)
        if not received:
            return b""
        body += received
    return head + b"\r\n\r\n" + body


def saying(*answers: bytes) -> Talk:
    """Return a talk that answers each request with the next of *answers*, then closes."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            if not request_from(connection):
                return
            connection.sendall(answer)

    return talk


def always_saying(answer: bytes) -> Talk:
    """Return a talk that answers each request with *answer* until the client closes."""

    def talk(connection: socket.socket) -> None:
        while request_from(connection):
            connection.sendall(answer)

    return talk


def silent(connection: socket.socket) -> None:
    """Read and do not answer, until the client closes."""
    while connection.recv(65536):
        pass
