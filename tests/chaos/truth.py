"""Who is really connected, as the gateway knows it; what the table holds is compared with this."""

import time
from dataclasses import dataclass, field
from http import HTTPStatus

HANDSHAKE_TAKES = 4.0
"""Seconds until the gateway gives a handshake up; API Gateway's are 29 (its integration time-out)."""

type Status = int | None
"""What a call was answered with; ``None`` where its worker was killed."""


@dataclass(slots=True)
class Visit:
    """A connection as it went: ``connected_at`` is the gateway's, in epoch milliseconds."""

    connection_id: str
    connected_at: int
    began: float = field(default_factory=time.monotonic)
    answer: Status = None
    gave_up: bool = False
    left: bool = False
    disconnects: list[Status] = field(default_factory=list)
    is_dropped: bool = False
    came_again: bool = False

    @property
    def cause(self) -> str:
        """Why its row, if there is one, is a ghost's."""
        refused = self.answer != HTTPStatus.OK or self.gave_up
        if refused and not self.left:
            return f"the handshake was refused ({_told(self.answer)}), its write was not"
        if self.is_dropped:
            return "its $disconnect never came"
        if HTTPStatus.OK not in self.disconnects:
            return f"its $disconnect failed ({_told(self.disconnects[0])})"
        if self.came_again:
            return "its $connect came again after its $disconnect"
        return "a late write of its $connect"


class Truth:
    """The gateway's own knowledge; read from several threads, changed by one."""

    def __init__(self) -> None:
        self.visits: dict[tuple[str, int], Visit] = {}
        self._connected: dict[str, Visit] = {}
        self._last: dict[str, int] = {}

    def begins(self, connection_id: str) -> Visit:
        """A handshake: a new connection of that id, later than any before."""
        connected_at = max(time.time_ns() // 1_000_000, self._last.get(connection_id, 0) + 1)
        self._last[connection_id] = connected_at
        visit = Visit(connection_id, connected_at)
        self.visits[connection_id, connected_at] = visit
        return visit

    def answered(self, visit: Visit, status: Status) -> None:
        """Only 200 makes a client connected: in time, and where it has not left meanwhile."""
        visit.answer = status
        visit.gave_up = time.monotonic() - visit.began > HANDSHAKE_TAKES
        if status == HTTPStatus.OK and not visit.gave_up and not visit.left:
            self._connected[visit.connection_id] = visit

    def leaves(self, visit: Visit) -> None:
        visit.left = True
        if self.has(visit):
            del self._connected[visit.connection_id]

    def has(self, visit: Visit) -> bool:
        return self._connected.get(visit.connection_id) is visit

    def is_connected(self, connection_id: str) -> bool:
        return connection_id in self._connected

    def connected(self) -> list[Visit]:
        return list(self._connected.values())


def _told(status: Status) -> str:
    return "worker killed" if status is None else str(status)
