"""A table with its stream, for tests that put events into every order: what is written is told, in order."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from app.adapters.dynamodb import DynamoDBConnectionRegistry
from app.adapters.memory_presence import MemoryPresenceStore
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.ports import ConnectionRegistry, ConnectionStore, Gateway
from app.domain.presence import FollowChanges
from app.domain.sweep import Report, SweepConnections
from app.domain.upkeep import Change, Entry, Page, Selection
from tests.builders import NEVER, FixedClock
from tests.stores import REGISTRIES, a_direct_store, a_registry

GRACE = timedelta(seconds=30)


@dataclass
class ToldTable:
    """ConnectionRegistry that notes, as DynamoDB's stream does, what each write changed.

    ``store`` is what the handshakes use, ``registry`` the rest; both are the
    same table.
    """

    store: ConnectionStore
    registry: ConnectionRegistry
    changes: deque[Change] = field(default_factory=deque)

    def add(self, connection: Connection) -> Connection:
        return self._told(connection.id, lambda: self.store.add(connection))

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._told(connection_id, lambda: self.store.remove(connection_id, connected_at))

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        return self._told(
            connection_id,
            lambda: self.store.mark_closed(
                connection_id, connected_at=connected_at, closed_at=closed_at, until=until
            ),
        )

    def forget(self, entry: Entry) -> bool:
        return self._told(_id_of(entry), lambda: self.registry.forget(entry))

    def expire(self, entry: Entry) -> None:
        """What DynamoDB does to a row whose ``ttl`` is past, sooner or later."""
        self._told(_id_of(entry), lambda: self.registry.forget(entry), expired=True)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return self.store.get(connection_id)

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        return self.registry.segment(number, of)

    def page(self, selection: Selection, after: str | None = None) -> Page:
        return self.registry.page(selection, after)

    def entries(self) -> list[Entry]:
        return list(self.registry.segment(0, of=1))

    def connections(self) -> set[ConnectionId]:
        return {entry.id for entry in self.entries() if isinstance(entry, Connection)}

    def _told[T](self, connection_id: ConnectionId, write: Callable[[], T], *, expired: bool = False) -> T:
        before = self._entry(connection_id)
        try:
            return write()
        finally:
            after = self._entry(connection_id)
            if before != after:
                self.changes.append(Change(before, after, expired=expired))

    def _entry(self, connection_id: ConnectionId) -> Entry | None:
        if connection := self.registry.get(connection_id):
            return connection
        return next((entry for entry in self.entries() if _id_of(entry) == connection_id), None)


STORES = (*REGISTRIES, "direct-dynamodb-local")


@contextmanager
def a_told_table(store: str, request: pytest.FixtureRequest) -> Iterator[ToldTable]:
    """An empty table, written by the *store* of that name."""
    if store in REGISTRIES:
        with a_registry(store, request) as registry:
            yield ToldTable(registry, registry)
        return
    name = request.getfixturevalue("table")
    with closing(a_direct_store(request.getfixturevalue("dynamodb_local"), name)) as direct:
        yield ToldTable(direct, DynamoDBConnectionRegistry(request.getfixturevalue("dynamodb"), name))


@dataclass
class Upkeep:
    """What keeps *table* right besides the handshakes themselves: its stream's function, and the sweep."""

    table: ToldTable
    gateway: Gateway
    clock: FixedClock

    def __post_init__(self) -> None:
        presence = MemoryPresenceStore()
        self._follow = FollowChanges(self.table, presence, self.gateway, self.clock, GRACE)
        self._sweep = SweepConnections(
            self.table, self.gateway, self.clock, GRACE, concurrency=1, pace=lambda: None
        )

    def follow(self, most: int) -> None:
        """Have the stream's function follow the oldest changes, *most* of them at most."""
        for _ in range(most):
            if not self.table.changes:
                return
            self._follow(self.table.changes[0], lambda _: None, until=NEVER)
            self.table.changes.popleft()

    def follow_all(self) -> None:
        while self.table.changes:
            self.follow(1)

    def sweep(self) -> Report:
        return self._sweep(segment=0, of=1, until=self.clock.now() + timedelta(hours=1))


def _id_of(entry: Entry) -> ConnectionId:
    return entry.id if isinstance(entry, Connection) else entry.connection_id
