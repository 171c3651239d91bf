"""Which connections are really open, as the gateway knows it; the table is compared with this."""

import time
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HANDSHAKE = 4.0
"""Seconds until the gateway gives up a handshake; API Gateway's are 29 (its integration time-out)."""

type Status = int | None
"""The status of a call's answer; ``None`` if its worker was killed."""


@dataclass(slots=True)
class ActualConnection:
    """A connection's real history; ``connected_at`` is the gateway's, in epoch milliseconds."""

    connection_id: str
    connected_at: int
    began: float = field(default_factory=time.monotonic)
    answer: Status = None
    timed_out: bool = False
    closed: bool = False
    disconnects: list[Status] = field(default_factory=list)
    disconnect_dropped: bool = False
    connect_repeated: bool = False

    @property
    def cause(self) -> str:
        """Why its item, if there is one, is a ghost."""
        refused = self.answer != HTTPStatus.OK or self.timed_out
        if refused and not self.closed:
            return f"the handshake was refused ({_name(self.answer)}), but its item was written"
        if self.disconnect_dropped:
            return "its $disconnect was dropped"
        if HTTPStatus.OK not in self.disconnects:
            return f"its $disconnect failed ({_name(self.disconnects[0])})"
        if self.connect_repeated:
            return "its $connect was repeated after its $disconnect"
        return "a late write of its $connect"


class Truth:
    """The open connections by the gateway. Several threads read it, one changes it."""

    def __init__(self) -> None:
        self.connections: dict[tuple[str, int], ActualConnection] = {}
        self._connected: dict[str, ActualConnection] = {}
        self._last: dict[str, int] = {}

    def begin(self, connection_id: str) -> ActualConnection:
        """Return a new connection of that id, later than any before; its handshake is pending."""
        connected_at = max(time.time_ns() // 1_000_000, self._last.get(connection_id, 0) + 1)
        self._last[connection_id] = connected_at
        connection = ActualConnection(connection_id, connected_at)
        self.connections[connection_id, connected_at] = connection
        return connection

    def record_answer(self, connection: ActualConnection, status: Status) -> None:
        """Record the answer: the connection opens on a 200 in time, unless the client has closed it."""
        connection.answer = status
        connection.timed_out = time.monotonic() - connection.began > MAX_HANDSHAKE
        if status == HTTPStatus.OK and not connection.timed_out and not connection.closed:
            self._connected[connection.connection_id] = connection

    def close(self, connection: ActualConnection) -> None:
        connection.closed = True
        if self.is_open(connection):
            del self._connected[connection.connection_id]

    def is_open(self, connection: ActualConnection) -> bool:
        return self._connected.get(connection.connection_id) is connection

    def is_connected(self, connection_id: str) -> bool:
        return connection_id in self._connected

    def connected(self) -> list[ActualConnection]:
        return list(self._connected.values())


def _name(status: Status) -> str:
    return "worker killed" if status is None else str(status)
