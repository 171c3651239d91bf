"""Connections in this process's memory, for tests and for trying things out."""

from app.domain.model import Connection, ConnectionId, Removed


class MemoryConnectionStore:
    """ConnectionStore that lasts as long as its process and is shared with no other."""

    def __init__(self) -> None:
        self._connections: dict[ConnectionId, Connection] = {}

    def add(self, connection: Connection) -> Connection:
        return self._connections.setdefault(connection.id, connection)

    def remove(self, connection_id: ConnectionId) -> Removed:
        return Removed(self._connections.pop(connection_id, None))

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return self._connections.get(connection_id)
