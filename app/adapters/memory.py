"""Connections, presence and deliveries in this process's memory, for tests and for trying things out."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from threading import Lock
from zlib import crc32

from app.domain.delivery import Delivery, Message, MessageId, Progress
from app.domain.errors import (
    AlreadyClosed,
    AlreadyDelivered,
    DeliveryClaimed,
    InvalidMessage,
    InvalidSelection,
)
from app.domain.lifecycle import ConnectionRef
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone, is_older
from app.domain.ports import Clock
from app.domain.presence import Client, Presence, SessionId
from app.domain.selection import Page, Selection


class MemoryConnectionTable:
    """ConnectionStore and ConnectionTable in one dictionary. Thread-safe."""

    def __init__(self, *, page_size: int = 100) -> None:
        self._entries: dict[ConnectionId, Entry] = {}
        self._lock = Lock()
        self._page_size = page_size

    def add(self, connection: Connection) -> Connection:
        with self._lock:
            existing = self._entries.get(connection.id)
            if existing is None or is_older(existing.connected_at, connection.connected_at):
                self._entries[connection.id] = connection
                return connection
        if isinstance(existing, Tombstone) or is_older(connection.connected_at, existing.connected_at):
            raise AlreadyClosed
        return existing

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        with self._lock:
            existing = self.get(connection_id)
            if existing is None or is_older(connected_at, existing.connected_at):
                return Removed(None)
            del self._entries[connection_id]
            return Removed(existing)

    def tombstone(self, tombstone: Tombstone) -> Removed:
        if tombstone.connected_at is None:
            raise ValueError("A tombstone is written for a connection of a known time.")
        with self._lock:
            existing = self._entries.get(tombstone.connection_id)
            if existing is not None and is_older(tombstone.connected_at, existing.connected_at):
                return Removed(None)
            self._entries[tombstone.connection_id] = tombstone
            return Removed(existing if isinstance(existing, Connection) else None)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        existing = self._entries.get(connection_id)
        return existing if isinstance(existing, Connection) else None

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        with self._lock:
            entries = list(self._entries.items())
        return (entry for name, entry in entries if crc32(name.encode()) % of == segment)

    def page(self, selection: Selection, after: str | None = None) -> Page:
        with self._lock:
            connections = [it for it in self._entries.values() if isinstance(it, Connection)]
        selected = sorted((it for it in connections if selection.matches(it)), key=lambda it: it.id)
        prefix = f"{selection} after "
        if after is not None and not after.startswith(prefix):
            raise InvalidSelection("This is not a page token of this selection.")
        rest = [it for it in selected if after is None or it.id > after.removeprefix(prefix)]
        page = tuple(rest[: self._page_size])
        return Page(page, next=f"{prefix}{page[-1].id}" if len(rest) > len(page) else None)

    def delete_exact(self, entry: Entry) -> bool:
        connection_id = entry.id if isinstance(entry, Connection) else entry.connection_id
        with self._lock:
            existing = self._entries.get(connection_id)
            if existing is None or _identity(existing) != _identity(entry):
                return False
            del self._entries[connection_id]
            return True


class MemoryPresenceStore:
    """PresenceStore in dictionaries. Thread-safe. *changed* gets each change: before, and after."""

    def __init__(self, changed: Callable[[Presence, Presence], object] = lambda *_: None) -> None:
        self._presences: dict[Client, Presence] = {}
        self._further: dict[SessionId, set[ConnectionRef]] = {}
        self._left: dict[ConnectionId, datetime] = {}
        self._changed = changed
        self._versions = count(1)
        self._lock = Lock()

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        while True:
            before = self._presences.get(client, Presence(client))
            after = step(before)
            if after == before:
                return before
            with self._lock:
                if self._presences.get(client, before).version == before.version:
                    after = replace(after, version=str(next(self._versions)))
                    self._presences[client] = after
                    self._changed(before, after)
                    return after

    def add_further(self, session: SessionId, ref: ConnectionRef) -> None:
        with self._lock:
            self._further.setdefault(session, set()).add(ref)

    def remove_further(self, session: SessionId, ref: ConnectionRef) -> None:
        with self._lock:
            self._further.get(session, set()).discard(ref)

    def newest_further(self, session: SessionId) -> ConnectionRef | None:
        return max(self.further(session), key=_by_age, default=None)

    def further(self, session: SessionId) -> Iterator[ConnectionRef]:
        with self._lock:
            return iter(list(self._further.get(session, ())))

    def mark_left(self, ref: ConnectionRef) -> None:
        with self._lock:
            latest = self._left.get(ref.connection_id, ref.began_at)
            self._left[ref.connection_id] = max(ref.began_at, latest)

    def has_left(self, ref: ConnectionRef) -> bool:
        latest = self._left.get(ref.connection_id)
        return latest is not None and ref.began_at <= latest


class MemoryDeliveries:
    """Deliveries in a dictionary. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deliveries: dict[MessageId, Delivery] = {}
        self._claimed_until: dict[MessageId, datetime] = {}
        self._claims = count()
        self._lock = Lock()

    def claim(self, message: Message, audience: str, *, until: datetime) -> Delivery:
        now = self._clock.now()
        with self._lock:
            known = self._deliveries.get(message.id) or Delivery(message.id, audience, message.digest, now)
            if known.digest != message.digest:
                raise InvalidMessage(f"The id {message.id} has been used for another message.")
            if known.finished_at is not None:
                raise AlreadyDelivered
            if self._claimed_until.get(message.id, now) > now:
                raise DeliveryClaimed
            self._claimed_until[message.id] = until
            claimed = known._replace(claim=str(next(self._claims)))
            self._deliveries[message.id] = claimed
            return claimed

    def record(self, delivery: Delivery, progress: Progress) -> None:
        with self._lock:
            self._write(delivery._replace(progress=progress))

    def release(self, delivery: Delivery, progress: Progress, finished_at: datetime | None) -> Delivery:
        released = delivery._replace(progress=progress, finished_at=finished_at)
        with self._lock:
            self._write(released)
            del self._claimed_until[delivery.message_id]
        return released

    def get(self, message_id: MessageId) -> Delivery | None:
        return self._deliveries.get(message_id)

    def _write(self, delivery: Delivery) -> None:
        if self._deliveries[delivery.message_id].claim != delivery.claim:
            raise DeliveryClaimed
        self._deliveries[delivery.message_id] = delivery


def _identity(entry: Entry) -> tuple[type[Entry], datetime | None, datetime]:
    """Return what tells an entry from any other with its id."""
    if isinstance(entry, Tombstone):
        return Tombstone, entry.connected_at, entry.closed_at
    return Connection, entry.connected_at, entry.created_at


def _by_age(ref: ConnectionRef) -> tuple[bool, datetime]:
    return not ref.is_of_known_age, ref.began_at
