"""Connections in this process's memory, for tests and for trying things out."""

from collections.abc import Iterator
from datetime import datetime
from threading import Lock
from zlib import crc32

from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed, is_older
from app.domain.upkeep import Entry, InvalidSelection, Page, Selection, Tombstone


class MemoryConnectionStore:
    """ConnectionRegistry that lasts as long as its process and is shared with no other."""

    def __init__(self, *, page_size: int = 100) -> None:
        self._entries: dict[ConnectionId, Entry] = {}
        self._lock = Lock()
        self._page_size = page_size

    def add(self, connection: Connection) -> Connection:
        with self._lock:
            there = self._entries.get(connection.id)
            if there is None or is_older(there.connected_at, connection.connected_at):
                self._entries[connection.id] = connection
                return connection
        if isinstance(there, Tombstone) or is_older(connection.connected_at, there.connected_at):
            raise AlreadyClosed
        return there

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        with self._lock:
            there = self.get(connection_id)
            if there is None or is_older(connected_at, there.connected_at):
                return Removed(None)
            del self._entries[connection_id]
            return Removed(there)

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        with self._lock:
            there = self._entries.get(connection_id)
            if there is not None and is_older(connected_at, there.connected_at):
                return Removed(None)
            mark = Tombstone(connection_id, connected_at, closed_at, until.replace(microsecond=0))
            self._entries[connection_id] = mark
            return Removed(there if isinstance(there, Connection) else None)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        there = self._entries.get(connection_id)
        return there if isinstance(there, Connection) else None

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        with self._lock:
            entries = list(self._entries.items())
        return (entry for name, entry in entries if crc32(name.encode()) % of == number)

    def page(self, selection: Selection, after: str | None = None) -> Page:
        with self._lock:
            connections = [it for it in self._entries.values() if isinstance(it, Connection)]
        chosen = sorted((it for it in connections if selection.holds(it)), key=lambda it: it.id)
        place = f"{selection} after "
        if after is not None and not after.startswith(place):
            raise InvalidSelection("That is not where a page of this selection ended.")
        rest = [it for it in chosen if after is None or it.id > after.removeprefix(place)]
        here = tuple(rest[: self._page_size])
        return Page(here, next=f"{place}{here[-1].id}" if len(rest) > len(here) else None)

    def forget(self, entry: Entry) -> bool:
        with self._lock:
            connection_id = entry.id if isinstance(entry, Connection) else entry.connection_id
            there = self._entries.get(connection_id)
            if there is None or _identity(there) != _identity(entry):
                return False
            del self._entries[connection_id]
            return True


def _identity(entry: Entry) -> tuple[datetime | None, datetime]:
    """What tells an entry from any other that its id has had."""
    if isinstance(entry, Tombstone):
        return entry.connected_at, entry.closed_at
    return entry.connected_at, entry.created_at
