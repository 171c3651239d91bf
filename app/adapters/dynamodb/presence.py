"""The PresenceStore in DynamoDB, in a table of its own."""

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from app.adapters.dynamodb.items import MILLISECOND, SECOND, UNKNOWN_TIME, Value, number
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ConnectionRef
from app.domain.model import ConnectionId
from app.domain.ports import Clock
from app.domain.presence import Client, Joined, Left, Presence, PresenceEvent, SessionId

_LEFT_TTL = timedelta(days=1)  # how long a stream keeps a record (DynamoDB's developer guide, 'Streams')
_ATTEMPTS = 20
_MAX_PAUSE = 0.1  # s

_KINDS: dict[str, type[PresenceEvent]] = {"joined": Joined, "left": Left}


class DynamoDBPresenceStore:
    """PresenceStore in the DynamoDB *table*, whose partition key is ``id`` and whose TTL is ``ttl``.

    A client has one item: the set of its connections, its session, its outbox,
    and a version for optimistic locking. An empty presence has no item. A
    connection id that has left has an item, too, with the time at which its
    last connection began. Thread-safe.

    Cost in read and write units, for items under 1 KB (about 20 connections);
    each further KB adds one write unit:

    ====================================================  ====  =====
    ``change``                                            1     1
    ``change`` that changes nothing                       1     0
    ... for each concurrent change                        0     1
    ``mark_left``; its expiry by DynamoDB                 0     1
    ``has_left``                                          1     0
    a session of one connection, in all                   6     5
    each further connection of a session                  4     3
    a connection of an unknown client                     1     1
    ====================================================  ====  =====
    """

    def __init__(
        self,
        transport: Transport,
        table: str,
        *,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._table = table
        self._clock = clock
        self._pause = pause

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        key = _client_key(client)
        item = self._get(key)
        for pause in _pauses():
            presence = _presence_from(client, item)
            changed = step(presence)
            if changed == presence:
                return changed
            try:
                self._replace(key, item, changed)
            except ConditionFailed as failure:
                item = failure.item if isinstance(failure.item, dict) else {}
            else:
                return changed
            self._pause(pause)
        raise StorageUnavailable("Contended", outcome_unknown=False)

    def mark_left(self, ref: ConnectionRef) -> None:
        began = number(ref.began_at, MILLISECOND)
        ttl = number(self._clock.now() + _LEFT_TTL, SECOND)
        request = {
            "TableName": self._table,
            "Item": _left_key(ref) | {"began": began, "ttl": ttl},
            "ConditionExpression": "attribute_not_exists(began) OR began <= :began",
            "ExpressionAttributeValues": {":began": began},
        }
        with suppress(ConditionFailed):  # a newer connection of the id has left
            self._transport.call("PutItem", request)

    def has_left(self, ref: ConnectionRef) -> bool:
        item = self._get(_left_key(ref))
        return bool(item) and _milliseconds(ref) <= int(item["began"]["N"])

    def _get(self, key: dict[str, Value]) -> Mapping[str, Any]:
        request = {"TableName": self._table, "Key": key, "ConsistentRead": True}
        item: Mapping[str, Any] = self._transport.call("GetItem", request).body.get("Item", {})
        return item

    def _replace(self, key: dict[str, Value], item: Mapping[str, Any], presence: Presence) -> None:
        """Replace *item* by *presence*; an empty one deletes the item.

        Raises:
            ConditionFailed: another change came first.
        """
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConditionExpression": "attribute_not_exists(id)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if item:
            request["ConditionExpression"] = "version = :version"
            request["ExpressionAttributeValues"] = {":version": item["version"]}
        if presence.is_empty():
            self._transport.call("DeleteItem", request | {"Key": key})
        else:
            self._transport.call("PutItem", request | {"Item": key | _attributes(presence)})


def _client_key(client: Client) -> dict[str, Value]:
    """Return the key of a client's item: JSON, so that different clients have different keys."""
    parts = [client.client_id, client.account, client.region]
    return {"id": {"S": "client#" + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))}}


def _left_key(ref: ConnectionRef) -> dict[str, Value]:
    return {"id": {"S": f"left#{ref.connection_id}"}}


def _attributes(presence: Presence) -> dict[str, Value]:
    # Random: a counter would repeat a value after the item is deleted and created again.
    attributes: dict[str, Value] = {"version": {"S": secrets.token_hex(8)}}
    if presence.connections:
        refs = sorted(f"{ref.connection_id}@{_milliseconds(ref)}" for ref in presence.connections)
        attributes["connections"] = {"SS": refs}
    if presence.session is not None:
        attributes["visit"] = {"S": presence.session}
    if presence.outbox:
        attributes["outbox"] = {"L": [{"S": _event_text(event)} for event in presence.outbox]}
    return attributes


def _presence_from(client: Client, item: Mapping[str, Any]) -> Presence:
    session = item.get("visit", {}).get("S")
    return Presence(
        client,
        connections=frozenset(map(_ref_from, item.get("connections", {}).get("SS", ()))),
        session=None if session is None else SessionId(session),
        outbox=tuple(_event_from(client, text["S"]) for text in item.get("outbox", {}).get("L", ())),
    )


def _ref_from(text: str) -> ConnectionRef:
    connection_id, _, began = text.rpartition("@")
    return ConnectionRef(ConnectionId(connection_id), UNKNOWN_TIME + int(began) * MILLISECOND)


def _milliseconds(ref: ConnectionRef) -> int:
    return (ref.began_at - UNKNOWN_TIME) // MILLISECOND


def _event_text(event: PresenceEvent) -> str:
    kind = next(name for name, class_ in _KINDS.items() if isinstance(event, class_))
    return f"{kind} {event.session}"


def _event_from(client: Client, text: str) -> PresenceEvent:
    kind, _, session = text.partition(" ")
    return _KINDS[kind](client, SessionId(session))


def _pauses() -> Iterator[float]:
    """Yield a random pause in seconds after each attempt, so that concurrent writers don't collide again."""
    for attempt in range(_ATTEMPTS):
        yield random.uniform(0, min(_MAX_PAUSE, 0.002 * 2**attempt))  # noqa: S311 - not a secret
