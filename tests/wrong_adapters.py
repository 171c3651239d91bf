"""Storage adapters with one mistake each, to show that the contract tests find it.

Each is named by its path, as in ``make contract STORE=tests.wrong_adapters:RemovesByIdAlone``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import chain
from time import sleep

from app.adapters.memory import MemoryConnectionTable
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone
from app.domain.selection import Page, Selection
from tests.builders import a_bare_connection


class Wrong(MemoryConnectionTable):
    """The right adapter, as a factory of itself."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self.page_size = 100

    @property
    def page_size(self) -> int:
        return self._page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._page_size = size


class RemovesByIdAlone(Wrong):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return super().remove(connection_id, None)


class ReplacesNewerConnections(Wrong):
    def add(self, connection: Connection) -> Connection:
        self._entries[connection.id] = connection
        return connection


class RevivesAfterATombstone(Wrong):
    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self.remove(tombstone.connection_id, tombstone.connected_at)


class BuriesNewerConnections(Wrong):
    def tombstone(self, tombstone: Tombstone) -> Removed:
        removed = Removed(self.get(tombstone.connection_id))
        self._entries[tombstone.connection_id] = tombstone
        return removed


class RaisesForAnUnknownId(Wrong):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        if connection_id not in self._entries:
            raise KeyError(connection_id)
        return super().remove(connection_id, connected_at)


class RemovesTombstones(Wrong):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        if isinstance(self._entries.get(connection_id), Tombstone):
            del self._entries[connection_id]
        return super().remove(connection_id, connected_at)


class LosesAttributes(Wrong):
    def add(self, connection: Connection) -> Connection:
        return super().add(replace(connection, attributes={}))


class LosesConcurrentWrites(Wrong):
    def add(self, connection: Connection) -> Connection:
        before = dict(self._entries)
        stored = super().add(connection)
        sleep(0.001)  # in which another thread may write
        self._entries = before | {connection.id: stored}
        return stored


class ListsTombstones(Wrong):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        dead = [entry for entry in self._entries.values() if isinstance(entry, Tombstone)]
        ghosts = [replace(page.connections[0], id=it.connection_id) for it in dead if page.connections]
        return Page((*page.connections, *ghosts), page.next)


class PagesThatOverlap(Wrong):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        if after is None:
            return page
        before = super().page(selection)
        return Page((*before.connections[-1:], *page.connections), page.next)


class PagesThatSkip(Wrong):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        return page if after is None else Page(page.connections[1:], page.next)


class SegmentsThatOverlap(Wrong):
    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        further = super().scan((segment + 1) % of, of) if of > 1 else ()
        return chain(super().scan(segment, of), further)


class DeletesWhateverHasTheId(Wrong):
    def delete_exact(self, entry: Entry) -> bool:
        connection_id = entry.id if isinstance(entry, Connection) else entry.connection_id
        return self._entries.pop(connection_id, None) is not None


class TakesAnyToken(Wrong):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        is_ours = after is None or after.startswith(f"{selection} after ")
        return super().page(selection, after if is_ours else None)


class FindsTombstones(Wrong):
    def get(self, connection_id: ConnectionId) -> Connection | None:
        entry = self._entries.get(connection_id)
        if isinstance(entry, Tombstone):
            return replace(a_bare_connection(), id=connection_id)
        return entry


def not_empty(environ: Mapping[str, str]) -> MemoryConnectionTable:
    """Return an adapter that has something from before, as a shared storage may."""
    adapter = Wrong(environ)
    adapter.add(a_bare_connection())
    return adapter


class _Resettable(Wrong):
    def reset(self) -> None:
        self._entries.clear()


def resettable(environ: Mapping[str, str]) -> MemoryConnectionTable:
    """Return an adapter that has something from before, and can be emptied."""
    adapter = _Resettable(environ)
    adapter.add(a_bare_connection())
    return adapter
