"""WebSocket clients: how one comes, and how one goes whose network fails."""

import socket
import struct
from collections.abc import Mapping
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect

_PATIENCE = 29  # seconds, as long as API Gateway waits for the function
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, for 0 s


def open_client(url: str, query: Mapping[str, str]) -> ClientConnection:
    """A client whose handshake has been answered; ``close()`` makes it leave with a close frame.

    Raises:
        websockets.exceptions.InvalidStatus: its handshake was refused.
    """
    return connect(f"{url}?{urlencode(query)}" if query else url, proxy=None, open_timeout=_PATIENCE)


def drop(client: ClientConnection) -> None:
    """End the TCP connection of *client* by a reset, with no close frame and no goodbye."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.close_socket()
    client.recv_events_thread.join()
