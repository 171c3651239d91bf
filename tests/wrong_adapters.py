"""Storage adapters with one mistake each, to show that the contract tests find it; and right ones.

Each is named by its path, as in ``make contract STORE=tests.wrong_adapters:RemovesByIdAlone``.
"""

import atexit
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, flock
from itertools import chain, cycle
from pathlib import Path
from time import sleep

from app.adapters.memory import MemoryConnectionTable
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone, is_older
from app.domain.selection import Page, Selection
from tests.builders import a_bare_connection

_A_WHILE = 0.05  # seconds, in which another thread or process writes, on a busy machine too


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


class KeepsTheFirstTombstone(Right):
    def tombstone(self, tombstone: Tombstone) -> Removed:
        is_repeated = isinstance(self._entries.get(tombstone.connection_id), Tombstone)
        return Removed(None) if is_repeated else super().tombstone(tombstone)


class ReplacesNewerConnectionsByTombstones(Right):
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
        return super().add(connection._replace(attributes={}))


class LosesConcurrentWrites(Right):
    def delete_exact(self, entry: Entry) -> bool:
        before = dict(self._entries)
        is_deleted = super().delete_exact(entry)
        sleep(_A_WHILE)
        self._entries = {name: it for name, it in before.items() if it != entry}
        return is_deleted


class ListsTombstones(Right):
    def page(self, selection: Selection, after: str | None = None) -> Page:
        page = super().page(selection, after)
        tombstones = [entry for entry in self._entries.values() if isinstance(entry, Tombstone)]
        listed = [page.connections[0]._replace(id=it.connection_id) for it in tombstones if page.connections]
        return Page((*page.connections, *listed), page.next)


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


class SegmentsWithoutEnd(Right):
    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        return cycle(super().scan(segment, of))


class EverythingInOneSegment(Right):
    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        return super().scan(0, of=1) if segment == 0 else iter(())


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
            return a_bare_connection()._replace(id=connection_id)
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
        entry = self._read().get(connection_id)  # not self._entries: another thread may be changing them
        return entry if isinstance(entry, Connection) else None

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
        self._entries = self._read()

    def _read(self) -> dict[ConnectionId, Entry]:
        if not self._file.exists():
            return {}
        entries: dict[ConnectionId, Entry] = pickle.loads(self._file.read_bytes())  # noqa: S301 - the tests' own file
        return entries

    def _save(self) -> None:
        new = self._file.with_suffix(f".{os.getpid()}")
        new.write_bytes(pickle.dumps(self._entries))
        new.rename(self._file)


class LosesWritesOfOtherProcesses(InAFile):
    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._load()
        yield
        sleep(_A_WHILE)
        self._save()


class RemovesInTwoSteps(InAFile):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        existing = self.get(connection_id)
        if existing is None or is_older(connected_at, existing.connected_at):
            return Removed(None)
        sleep(_A_WHILE)
        super().remove(connection_id, None)
        return Removed(existing)


class DeletesInTwoSteps(InAFile):
    def delete_exact(self, entry: Entry) -> bool:
        connection_id = entry.id if isinstance(entry, Connection) else entry.connection_id
        if (existing := self.get(connection_id)) != entry:
            return False
        sleep(_A_WHILE)
        return super().remove(connection_id, None) == Removed(existing)


class AnswersBeforeTheWriteIsDurable(InAFile):
    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        atexit.register(super()._save)

    def _read(self) -> dict[ConnectionId, Entry]:
        return self._entries or super()._read()

    def _save(self) -> None:
        """It is done when the process ends."""


class NotEmpty(Right):
    """It has something from before, as a shared storage may."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.add(a_bare_connection())


class InUse(NotEmpty):
    """The tests would delete what it has."""

    def reset(self) -> None:
        self._entries.clear()


class NotReset(Right):
    """What a test adds stays for the next one."""

    def reset(self) -> None:
        self.add(a_bare_connection())


def at_fault(environ: Mapping[str, str]) -> MemoryConnectionTable:
    raise KeyError(environ["NO_SUCH_SETTING"])


class WithoutPageSize(MemoryConnectionTable):
    """A right adapter whose pages have a size of its own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()

    @property
    def page_size(self) -> int:
        return self._page_size


class HandshakesOnly:
    """A right adapter for the handshakes alone."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        right = Right(environ)
        self.add, self.remove, self.tombstone = right.add, right.remove, right.tombstone


class WithoutDeletes(HandshakesOnly):
    """An adapter with some methods of ConnectionTable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        right = Right(environ)
        self.get, self.scan, self.page = right.get, right.scan, right.page
