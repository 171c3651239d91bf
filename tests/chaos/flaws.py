"""Parts with a mistake that a store or a sweep could have, to show that a run finds it out."""

from datetime import datetime
from enum import StrEnum

from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.ports import ConnectionStore, Gateway
from app.domain.upkeep import Answer


class Flaw(StrEnum):
    """The mistakes that there are to try."""

    REMOVES_BY_ID = "removes-by-id"
    ADDS_HOPEFULLY = "adds-hopefully"
    EVICTS_ON_DOUBT = "evicts-on-doubt"
    KEEPS_THE_GONE = "keeps-the-gone"


def with_flaw(store: ConnectionStore, flaw: str) -> ConnectionStore:
    """*store*, or where *flaw* is one of a store, that with it."""
    match flaw:
        case Flaw.REMOVES_BY_ID:
            return _RemovesById(store)
        case Flaw.ADDS_HOPEFULLY:
            return _AddsHopefully(store)
    return store


def gateway_with_flaw(gateway: Gateway, flaw: str) -> Gateway:
    """*gateway*, or where *flaw* is one of a sweep, one that makes it do that."""
    match flaw:
        case Flaw.EVICTS_ON_DOUBT:
            doubts = (Answer.FORBIDDEN, Answer.THROTTLED, Answer.FAILED)
            return _Misheard(gateway, dict.fromkeys(doubts, Answer.GONE))
        case Flaw.KEEPS_THE_GONE:
            return _Misheard(gateway, {Answer.GONE: Answer.ALIVE})
    return gateway


class _Store:
    def __init__(self, store: ConnectionStore) -> None:
        self._store = store

    def add(self, connection: Connection) -> Connection:
        return self._store.add(connection)

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._store.remove(connection_id, connected_at)

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        return self._store.mark_closed(
            connection_id, connected_at=connected_at, closed_at=closed_at, until=until
        )

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return self._store.get(connection_id)


class _RemovesById(_Store):
    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._store.remove(connection_id, None)


class _AddsHopefully(_Store):
    def add(self, connection: Connection) -> Connection:
        try:
            return self._store.add(connection)
        except StorageUnavailable:
            return connection


class _Misheard:
    def __init__(self, gateway: Gateway, heard: dict[Answer, Answer]) -> None:
        self._gateway = gateway
        self._heard = heard

    def ask(self, connection: Connection) -> Answer:
        answer = self._gateway.ask(connection)
        return self._heard.get(answer, answer)

    def close(self, connection: Connection) -> Answer:
        return self._gateway.close(connection)
