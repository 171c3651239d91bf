"""A table with its stream, for tests that put events into every order."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from app.adapters.memory import MemoryPresenceStore
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone
from app.domain.operations import EvictConnection
from app.domain.ports import Gateway
from app.domain.sessions import Sessions
from app.domain.sweep import Report, SweepConnections
from app.domain.tracking import Change, TrackPresence
from tests import stores
from tests.builders import NEVER
from tests.fakes import FixedClock, InlineWorkers, RecordingPublisher
from tests.stores import Storage, a_storage

GRACE = timedelta(seconds=30)


@dataclass
class StreamedTable(Storage):
    """Storage that records what each write changed, as DynamoDB's stream does."""

    changes: deque[Change] = field(default_factory=deque)

    def add(self, connection: Connection) -> Connection:
        return self._recorded(connection.id, lambda: self.store.add(connection))

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._recorded(connection_id, lambda: self.store.remove(connection_id, connected_at))

    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self._recorded(tombstone.connection_id, lambda: self.store.tombstone(tombstone))

    def delete_exact(self, entry: Entry) -> bool:
        return self._recorded(_id_of(entry), lambda: self.table.delete_exact(entry))

    def expire(self, entry: Entry) -> None:
        """Delete *entry* as DynamoDB does some time after its ``ttl``."""
        self._recorded(_id_of(entry), lambda: self.table.delete_exact(entry), expired=True)

    def entries(self) -> list[Entry]:
        return list(self.scan(0, of=1))

    def connections(self) -> set[ConnectionId]:
        return {entry.id for entry in self.entries() if isinstance(entry, Connection)}

    def _recorded[T](
        self, connection_id: ConnectionId, write: Callable[[], T], *, expired: bool = False
    ) -> T:
        before = self._entry(connection_id)
        try:
            return write()
        finally:
            after = self._entry(connection_id)
            if before != after:
                self.changes.append(Change(before, after, expired=expired))

    def _entry(self, connection_id: ConnectionId) -> Entry | None:
        if connection := self.table.get(connection_id):
            return connection
        return next((entry for entry in self.entries() if _id_of(entry) == connection_id), None)


STORES = tuple(name for name in stores.STORES if name != "dynamodb-moto")
"""All adapters; of the direct transport, one database is enough for so many orders."""


@contextmanager
def a_streamed_table(store: str, request: pytest.FixtureRequest) -> Iterator[StreamedTable]:
    """Yield an empty table with its stream, on the adapter of that name."""
    with a_storage(store, request) as storage:
        yield StreamedTable(storage.store, storage.table)


@dataclass
class Operations:
    """The stream's function and the sweep, on *table*."""

    table: StreamedTable
    gateway: Gateway
    clock: FixedClock

    def __post_init__(self) -> None:
        workers = InlineWorkers()
        self._track = TrackPresence(
            self.table,
            Sessions(MemoryPresenceStore(), self.clock),
            RecordingPublisher(),
            EvictConnection(self.table, self.gateway, self.clock, GRACE),
            self.clock,
            workers,
        )
        self._sweep = SweepConnections(
            self.table, self.gateway, self.clock, workers, GRACE, 10**9, RecordingPublisher()
        )

    def track(self, most: int) -> None:
        """Have the stream's function process the oldest changes, *most* of them at most."""
        for _ in range(most):
            if not self.table.changes:
                return
            self._track(self.table.changes[0], until=NEVER)
            self.table.changes.popleft()

    def track_all(self) -> None:
        while self.table.changes:
            self.track(1)

    def sweep(self) -> Report:
        return self._sweep(segment=0, of=1, until=self.clock.now() + timedelta(hours=1))


def _id_of(entry: Entry) -> ConnectionId:
    return entry.id if isinstance(entry, Connection) else entry.connection_id
