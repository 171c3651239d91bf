"""Adapters with a deliberate mistake, to show that a run detects it."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum

from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from app.domain.ports import ConnectionStore, Gateway


class Flaw(StrEnum):
    """The mistakes that a run can try."""

    REMOVES_BY_ID = "removes-by-id"
    CONFIRMS_FAILED_ADD = "confirms-failed-add"
    DELETES_ON_FAILED_PROBE = "deletes-on-failed-probe"
    KEEPS_GONE = "keeps-gone"


def with_flaw(store: ConnectionStore, flaw: str) -> ConnectionStore:
    """Return *store*, with the *flaw* if it is one of a store."""
    match flaw:
        case Flaw.REMOVES_BY_ID:
            return _RemovesById(store)
        case Flaw.CONFIRMS_FAILED_ADD:
            return _ConfirmsFailedAdd(store)
    return store


def gateway_with_flaw(gateway: Gateway, flaw: str) -> Gateway:
    """Return *gateway*, with wrong results if *flaw* is one of a sweep."""
    match flaw:
        case Flaw.DELETES_ON_FAILED_PROBE:
            failures = (ProbeResult.FORBIDDEN, ProbeResult.THROTTLED, ProbeResult.FAILED)
            return _WrongResults(gateway, dict.fromkeys(failures, ProbeResult.GONE))
        case Flaw.KEEPS_GONE:
            return _WrongResults(gateway, {ProbeResult.GONE: ProbeResult.ALIVE})
    return gateway


class _Store:
    def __init__(self, store: ConnectionStore) -> None:
        self._store = store

    def add(self, connection: Connection) -> Connection:
        return self._store.add(connection)

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._store.remove(connection_id, connected_at)

    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self._store.tombstone(tombstone)


class _RemovesById(_Store):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._store.remove(connection_id, None)


class _ConfirmsFailedAdd(_Store):
    def add(self, connection: Connection) -> Connection:
        try:
            return self._store.add(connection)
        except StorageUnavailable:
            return connection


class _WrongResults:
    def __init__(self, gateway: Gateway, replacements: dict[ProbeResult, ProbeResult]) -> None:
        self._gateway = gateway
        self._replacements = replacements

    def probe(self, connections: Iterable[Connection | None]) -> Iterator[tuple[Connection, ProbeResult]]:
        for connection, result in self._gateway.probe(connections):
            yield connection, self._replacements.get(result, result)

    def close(self, connection: Connection) -> ProbeResult:
        return self._gateway.close(connection)
