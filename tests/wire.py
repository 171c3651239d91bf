"""A TCP proxy to a WebSocket server that can be cut, as a network that fails: without close frames."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, for 0 s


class Wire:
    """The proxy, and its URL."""

    def __init__(self, url: str, listener: socket.socket) -> None:
        server = urlsplit(url)
        self.url = server._replace(netloc=f"{_HOST}:{listener.getsockname()[1]}").geturl()
        self._server = (server.hostname, server.port)
        self._listener = listener
        self._is_cut = False
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def cut(self) -> None:
        """Reset all connections, and any new one."""
        with self._lock:
            self._is_cut = True
            for end in self._ends:
                with suppress(OSError):  # the other side has closed it
                    end.shutdown(socket.SHUT_RD)  # wakes its thread, which closes it

    def mend(self) -> None:
        """Forward again."""
        with self._lock:
            self._is_cut = False

    def serve(self) -> None:
        """Forward connections until the listener is shut down."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._run(self._forward, client)

    def join(self) -> None:
        """Wait for all connections to end."""
        for thread in self._threads:
            thread.join()

    def _run(self, target: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments)
        thread.start()
        self._threads.append(thread)
        return thread

    def _forward(self, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            with self._lock:
                if self._is_cut:
                    return
                self._ends |= {client, server}
            answers = self._run(_copy, server, client)
            _copy(client, server)
            answers.join()
            with self._lock:
                self._ends -= {client, server}


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy until either side ends, and end both."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RD)


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """Run a proxy to the server of *url* during a block."""
    with socket.create_server((_HOST, 0)) as listener:
        wire = Wire(url, listener)
        serving = threading.Thread(target=wire.serve)
        serving.start()
        try:
            yield wire
        finally:
            wire.cut()
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
            serving.join()
            wire.join()
