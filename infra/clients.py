"""WebSocket clients, and how one disconnects whose network fails.

``python -m infra.clients URL`` is a client in a process of its own, which can be killed.
"""

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from app.domain.model import PROTOCOL

_LOOK_AGAIN = 0.02  # seconds
_PATIENCE = 29  # seconds, as long as API Gateway waits for the function
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, for 0 s


def messages_of(client: ClientConnection) -> list[dict[str, Any]]:
    """Return the messages that have been sent to *client* since the last call.

    It reads up to the pong, which the emulator sends after them. It looks again and
    again: under faketime(1), a wait with a time-out does not end.
    """
    messages: list[dict[str, Any]] = []
    pong = client.ping()
    while True:
        is_last = pong.is_set()
        try:
            messages.append(json.loads(client.recv(timeout=0)))
        except TimeoutError:
            if is_last:
                return messages
            time.sleep(_LOOK_AGAIN)


def open_client(
    url: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> ClientConnection:
    """Return a connected client for a ``with`` block; at its end it sends a close frame.

    Raises:
        websockets.exceptions.InvalidStatus: its handshake was refused.
    """
    return connect(_with_query(url, query), additional_headers=headers, proxy=None, open_timeout=_PATIENCE)


def open_browser(url: str, query: Mapping[str, str], *, origin: str, token: str = "") -> ClientConnection:
    """Return a client as ``open_client`` does, whose handshake is that of a browser.

    It has the *origin* of a page, and of the headers it can set only that of the
    subprotocols: they have the *token*.

    Raises:
        websockets.exceptions.InvalidStatus: its handshake was refused.
        ConnectionError: no subprotocol was selected; a browser then closes the connection.
    """
    client = connect(
        _with_query(url, query),
        origin=Origin(origin),
        subprotocols=[Subprotocol(PROTOCOL), Subprotocol(token)] if token else None,
        proxy=None,
        open_timeout=_PATIENCE,
    )
    if token and client.subprotocol != PROTOCOL:
        client.close()
        raise ConnectionError(f"The subprotocol {PROTOCOL} was not selected, but {client.subprotocol}.")
    return client


def drop(client: ClientConnection) -> None:
    """Reset the TCP connection of *client*, without a close frame."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.close_socket()
    client.recv_events_thread.join()


@contextmanager
def client_process(url: str, query: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of a connected client; at the end of the block it is killed.

    Raises:
        ConnectionError: its handshake was refused.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "infra.clients", _with_query(url, query)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,  # closes when this process ends, and ends the client
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout  # noqa: S101 - a pipe was asked for
            if not process.stdout.readline():
                raise ConnectionError("The client in a process of its own was refused.")
            yield process
        finally:
            process.kill()


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(query)}" if query else url


if __name__ == "__main__":
    with open_client(sys.argv[1], {}):
        print("connected", flush=True)  # noqa: T201 - the parent process waits for it
        sys.stdin.read()
