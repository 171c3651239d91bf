"""Who is present, in this process's memory, for tests and for trying things out."""

from collections.abc import Callable
from threading import Lock

from app.domain.upkeep import Client, ConnectionRef, Presence, parts_of


class MemoryPresenceStore:
    """PresenceStore that lasts as long as its process and is shared with no other."""

    def __init__(self) -> None:
        self._presences: dict[Client, Presence] = {}
        self._left: dict[str, int] = {}
        self._lock = Lock()

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        with self._lock:
            presence = step(self._presences.get(client, Presence()))
            self._presences[client] = presence
            return presence

    def mark_left(self, ref: ConnectionRef) -> None:
        connection_id, began = parts_of(ref)
        with self._lock:
            self._left[connection_id] = max(began, self._left.get(connection_id, began))

    def has_left(self, ref: ConnectionRef) -> bool:
        connection_id, began = parts_of(ref)
        return began <= self._left.get(connection_id, began - 1)
