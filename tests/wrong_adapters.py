"""Storage adapters with one mistake each, to show that the contract tests find it; and right ones.

Each is named by its path, as in ``make contract STORE=tests.wrong_adapters:RemovesByIdAlone``.
"""

import atexit
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from fcntl import LOCK_EX, flock
from itertools import chain
from pathlib import Path
from time import sleep

from app.adapters.memory import MemoryConnectionTable
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone
from app.domain.selection import Page, Selection
from tests.builders import a_bare_connection


class Right(MemoryConnectionTable):
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


class RemovesByIdAlone(Right):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return super().remove(connection_id, None)


class ReplacesNewerConnections(Right):
    def add(self, connection: Connection) -> Connection:
        self._entries[connection.id] = connection
        return connection


class RevivesAfterATombstone(Right):
    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self.remove(tombstone.connection_id, tombstone.connected_at)


class BuriesNewerConnections(Right):
    def tombstone(self, tombstone: Tombstone) -> Removed:
        removed = Removed(self.get(tombstone.connection_id))
        self._entries[tombstone.connection_id] = tombstone
        return removed


class RaisesForAnUnknownId(Right):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        if connection_id not in self._entries:
            raise KeyError(connection_id)
        return super().remove(connection_id, connected_at)


class RemovesTombstones(Right):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        if isinstance(self._entries.get(connection_id), Tombstone):
            del self._entries[connection_id]
        return super().remove(connection_id, connected_at)


class LosesAttributes(Right):
    def add(self, connection: Connection) -> Connection:
        return super().add(replace(connection, attributes={}))


class LosesConcurrentWrites(Right):
    def delete_exact(self, entry: Entry) -> bool:
        before = dict(self._entries)
        is_deleted = super().delete_exact(entry)
        sleep(0.001)  # in which another thread may write
        self._entries = {name: it for name, it in before.items() if it != entry}
        return is_deleted


class ListsTombstones(Right):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        dead = [entry for entry in self._entries.values() if isinstance(entry, Tombstone)]
        ghosts = [replace(page.connections[0], id=it.connection_id) for it in dead if page.connections]
        return Page((*page.connections, *ghosts), page.next)


class PagesThatOverlap(Right):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        if after is None:
            return page
        before = super().page(selection)
        return Page((*before.connections[-1:], *page.connections), page.next)


class PagesThatSkip(Right):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        return page if after is None else Page(page.connections[1:], page.next)


class SegmentsThatOverlap(Right):
    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        further = super().scan((segment + 1) % of, of) if of > 1 else ()
        return chain(super().scan(segment, of), further)


class DeletesWhateverHasTheId(Right):
    def delete_exact(self, entry: Entry) -> bool:
        connection_id = entry.id if isinstance(entry, Connection) else entry.connection_id
        return self._entries.pop(connection_id, None) is not None


class TakesAnyToken(Right):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        is_ours = after is None or after.startswith(f"{selection} after ")
        return super().page(selection, after if is_ours else None)


class FindsTombstones(Right):
    def get(self, connection_id: ConnectionId) -> Connection | None:
        entry = self._entries.get(connection_id)
        if isinstance(entry, Tombstone):
            return replace(a_bare_connection(), id=connection_id)
        return entry


class InAFile(Right):
    """A right adapter for several processes: its entries are in the file that ``ENTRIES_FILE`` names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self._file = Path(environ["ENTRIES_FILE"])

    def add(self, connection: Connection) -> Connection:
        with self._transaction():
            return super().add(connection)

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        with self._transaction():
            return super().remove(connection_id, connected_at)

    def tombstone(self, tombstone: Tombstone) -> Removed:
        with self._transaction():
            return super().tombstone(tombstone)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        self._load()
        return super().get(connection_id)

    def delete_exact(self, entry: Entry) -> bool:
        with self._transaction():
            return super().delete_exact(entry)

    def reset(self) -> None:
        self._entries.clear()
        self._file.unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._file.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            self._load()
            yield
            self._save()

    def _load(self) -> None:
        if self._file.exists():
            self._entries = pickle.loads(self._file.read_bytes())  # noqa: S301 - the tests' own file

    def _save(self) -> None:
        new = self._file.with_suffix(f".{os.getpid()}")
        new.write_bytes(pickle.dumps(self._entries))
        new.rename(self._file)


class LosesWritesOfOtherProcesses(InAFile):
    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._load()
        yield
        sleep(0.001)  # in which another process may write
        self._save()


class AnswersBeforeTheWriteIsDurable(InAFile):
    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        atexit.register(super()._save)

    def _load(self) -> None:
        if not self._entries:
            super()._load()

    def _save(self) -> None:
        """It is done when the process ends."""


def not_empty(environ: Mapping[str, str]) -> MemoryConnectionTable:
    """Return an adapter that has something from before, as a shared storage may."""
    adapter = Right(environ)
    adapter.add(a_bare_connection())
    return adapter


class WritesAlone:
    """A right adapter for the handshakes alone."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        right = Right(environ)
        self.add, self.remove, self.tombstone = right.add, right.remove, right.tombstone


class WithoutDeletes(WritesAlone):
    """An adapter with some methods of ConnectionTable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        right = Right(environ)
        self.get, self.scan, self.page = right.get, right.scan, right.page
