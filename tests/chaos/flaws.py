"""Adapters with a deliberate mistake, to show that a run detects it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.domain.catching_up import CatchUpClient, CaughtUp
from app.domain.delivery import Audience, Message
from app.domain.errors import EventsUnavailable, StorageUnavailable
from app.domain.events import Event
from app.domain.history import CatchUp, KeptMessage, Place, Scope, scopes_for
from app.domain.lifecycle import ConnectionRef, ProbeResult
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from app.domain.ports import CatchUps, Clock, ConnectionStore, EventPublisher, Gateway, History
from app.domain.presence import Client, Presence

_BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC))


class Flaw(StrEnum):
    """The mistakes that a run can try."""

    REMOVES_BY_ID = "removes-by-id"
    CONFIRMS_FAILED_ADD = "confirms-failed-add"
    DELETES_ON_FAILED_PROBE = "deletes-on-failed-probe"
    KEEPS_GONE = "keeps-gone"
    HAS_NO_SECOND_LOOK = "has-no-second-look"
    SAYS_CAUGHT_UP_EARLY = "says-caught-up-early"
    BEGINS_HISTORY_LATE = "begins-history-late"
    READS_FINISHED_FIRST = "reads-finished-first"
    SKIPS_UNDER_WAY = "skips-under-way"
    MOVES_SINCE_EARLY = "moves-since-early"
    FORGETS_WHO_LEFT = "forgets-who-left"
    OVERWRITES_PRESENCE = "overwrites-presence"
    LOSES_EVENTS = "loses-events"


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


def catch_up_with_flaw(catch_up: CatchUpClient, flaw: str) -> CatchUpClient:
    """Return *catch_up*, with the *flaw* if it is one of the looks into the history."""
    match flaw:
        case Flaw.HAS_NO_SECOND_LOOK:
            return _HasNoSecondLook(**_parts(catch_up))
        case Flaw.SAYS_CAUGHT_UP_EARLY:
            return _SaysCaughtUpEarly(**_parts(catch_up))
        case Flaw.READS_FINISHED_FIRST:
            return _ReadsFinishedFirst(**_parts(catch_up))
        case Flaw.SKIPS_UNDER_WAY:
            return replace(catch_up, catch_ups=_SkipsUnderWay(catch_up.catch_ups, catch_up.clock))
    return catch_up


def history_with_flaw(history: History, flaw: str) -> History:
    """Return *history*, with the *flaw* if it is one of when it is written."""
    return _BeginsLate(history) if flaw == Flaw.BEGINS_HISTORY_LATE else history


def presence_store(flaw: str) -> type[DynamoDBPresenceStore]:
    """Return the adapter of presence, with the *flaw* if it is one of that."""
    match flaw:
        case Flaw.FORGETS_WHO_LEFT:
            return _ForgetsWhoLeft
        case Flaw.OVERWRITES_PRESENCE:
            return _OverwritesPresence
    return DynamoDBPresenceStore


def publisher_with_flaw(publisher: EventPublisher, flaw: str) -> EventPublisher:
    """Return *publisher*, with the *flaw* if it is one of when an event counts as published."""
    return _LosesEvents(publisher) if flaw == Flaw.LOSES_EVENTS else publisher


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

    def keep_alive(
        self, connections: Iterable[Connection | None], since: str
    ) -> Iterator[tuple[Connection, ProbeResult]]:
        return self._gateway.keep_alive(connections, since)

    def close(self, connection: Connection) -> ProbeResult:
        return self._gateway.close(connection)


class _HasNoSecondLook(CatchUpClient):
    def __call__(self, request: CatchUp, *, until: datetime) -> CaughtUp:
        return super().__call__(request._replace(is_second=True), until=until)


class _SaysCaughtUpEarly(CatchUpClient):
    """Says so after the first look; the second one comes, and says it again."""

    def __call__(self, request: CatchUp, *, until: datetime) -> CaughtUp:
        done = super().__call__(request._replace(is_second=True), until=until)
        if not (request.is_second or done.ended or done.rest):
            self.catch_ups.put(request._replace(is_second=True), delay=self.index_lag)
        return done


class _SkipsUnderWay:
    """CatchUps whose second looks begin where the first ones have ended."""

    def __init__(self, catch_ups: CatchUps, clock: Clock) -> None:
        self._catch_ups = catch_ups
        self._clock = clock

    def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
        if request.is_second:
            request = request._replace(after=Place(self._clock.now()), told=())
        self._catch_ups.put(request, delay=delay)


class _History:
    """History that has what was finished from an earlier moment, if it is given."""

    def __init__(
        self, history: History, finished: dict[Scope, list[tuple[Place, KeptMessage]]] | None = None
    ) -> None:
        self._history = history
        self._finished = finished

    def begin(self, message: Message, audience: Audience) -> None:
        self._history.begin(message, audience)

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        self._history.finish(message, audience, at)

    def under_way(self, scope: Scope) -> Iterator[KeptMessage]:
        return self._history.under_way(scope)

    def finished(self, scope: Scope, after: Place) -> Iterator[tuple[Place, KeptMessage]]:
        if self._finished is None:
            return self._history.finished(scope, after)
        return (it for it in self._finished[scope] if it[0] > after)


class _BeginsLate(_History):
    """Has a message only when its delivery is finished."""

    def begin(self, message: Message, audience: Audience) -> None:
        pass


class _ReadsFinishedFirst(CatchUpClient):
    """Reads what is finished, and then what is under way."""

    def __call__(self, request: CatchUp, *, until: datetime) -> CaughtUp:
        connection = self.table.get(request.ref.connection_id)
        scopes = scopes_for(connection, unscoped=self.unscoped) if connection else ()
        finished = {scope: list(self.history.finished(scope, _BEGINNING)) for scope in scopes}
        catch_up = CatchUpClient(**_parts(self) | {"history": _History(self.history, finished)})
        return catch_up(request, until=until)


class _ForgetsWhoLeft(DynamoDBPresenceStore):
    def has_left(self, ref: ConnectionRef) -> bool:
        return False


class _OverwritesPresence(DynamoDBPresenceStore):
    """Writes what follows from what it has read, whatever was written since."""

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        changed = step(super().change(client, lambda presence: presence))
        return super().change(client, lambda _: changed)


class _LosesEvents:
    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    def publish(self, event: Event) -> None:
        with suppress(EventsUnavailable):
            self._publisher.publish(event)


def _parts(catch_up: CatchUpClient) -> dict[str, Any]:
    return {it.name: getattr(catch_up, it.name) for it in fields(CatchUpClient)}
