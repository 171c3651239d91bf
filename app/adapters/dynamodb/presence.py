"""The PresenceStore in DynamoDB, in a table of its own, whose stream has the changes of presences."""

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from app.adapters.dynamodb.items import MILLISECOND, SECOND, UNKNOWN_TIME, Value, number
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, RegionName
from app.domain.ports import Clock
from app.domain.presence import LEFT_FOR, Client, Departure, Presence, SessionId

_CLIENT = "client#"
_PRESENCE = "presence"
# A query reads these after the presence: so departures that were just moved are read in one or the other.
_EARLIER = "presence/"
_DEPARTURES = 8  # in the item of a presence; then they go into one beside it
_DIGITS = 15  # of epoch milliseconds, so that texts are in the order of time
_UNKNOWN_AGE = "unknown/"  # comes after every digit
_ATTEMPTS = 20
_MAX_PAUSE = 0.1  # s


class DynamoDBPresenceStore:
    """PresenceStore in the DynamoDB *table*: partition key ``id``, sort key ``part``, TTL ``ttl``.

    A client has an item for its presence: a few of its connections, its session,
    its latest departures, and a version for optimistic locking. It is never deleted
    but by its TTL, a day after it has no session any more. Earlier departures are in
    items beside it. Each further connection of a session has an item in the
    session's own partition, and a connection id that is marked as left has one,
    too, with the time at which its last connection began. Thread-safe.

    Cost in read and write units, however many connections a client has, if the
    item of its presence is under 1 KB and all its items are under 4 KB:

    =======================================================  ====  =====
    ``change``                                               1     1
    ... for each eight departures                            0     1
    ... for each concurrent change                           1     1
    ``change`` that changes nothing                          1     0
    ``add_further``, ``remove_further``, ``mark_left``       0     1
    ``newest_further``, ``has_left``                         1     0
    ``further``, for each 4 KB (about 40 connections)        1     0
    =======================================================  ====  =====
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
        for pause in _pauses():
            item, earlier = self._items_of(client)
            presence = replace(_presence_from(client, item), departures=_departures(item) | earlier)
            changed = step(presence)
            if changed == presence:
                return presence
            try:
                return replace(changed, version=self._replace(item, changed, earlier))
            except ConditionFailed:
                self._pause(pause)
        raise StorageUnavailable("Contended", outcome_unknown=False)

    def add_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._put(_further_key(session, ref) | {"ttl": self._ttl()})

    def remove_further(self, session: SessionId, ref: ConnectionRef) -> None:
        request = {"TableName": self._table, "Key": _further_key(session, ref)}
        self._transport.call("DeleteItem", request)

    def newest_further(self, session: SessionId) -> ConnectionRef | None:
        newest = next(self._query(_further_id(session), Limit=1, ScanIndexForward=False), None)
        return None if newest is None else _ref_from(newest["part"]["S"])

    def further(self, session: SessionId) -> Iterator[ConnectionRef]:
        return (_ref_from(item["part"]["S"]) for item in self._query(_further_id(session)))

    def mark_left(self, ref: ConnectionRef) -> None:
        began = number(ref.began_at, MILLISECOND)
        with suppress(ConditionFailed):  # a newer connection of the id has left
            self._put(
                _left_key(ref) | {"began": began, "ttl": self._ttl()},
                ConditionExpression="attribute_not_exists(began) OR began <= :began",
                ExpressionAttributeValues={":began": began},
            )

    def has_left(self, ref: ConnectionRef) -> bool:
        request = {"TableName": self._table, "Key": _left_key(ref), "ConsistentRead": True}
        item = self._transport.call("GetItem", request).body.get("Item", {})
        return bool(item) and _milliseconds(ref) <= int(item["began"]["N"])

    def _items_of(self, client: Client) -> tuple[Mapping[str, Any], frozenset[Departure]]:
        """Return the item of the client's presence, empty if there is none, and the earlier departures."""
        presence: Mapping[str, Any] = _client_key(client)
        earlier: frozenset[Departure] = frozenset()
        for item in self._query(_client_id(client)):
            if item["part"]["S"] == _PRESENCE:
                presence = item
            elif _second(item["ttl"]) > self._clock.now():  # DynamoDB deletes late
                earlier |= _departures(item)
        return presence, earlier

    def _query(self, partition: str, **options: Any) -> Iterator[Mapping[str, Any]]:
        request = options | {
            "TableName": self._table,
            "KeyConditionExpression": "id = :id",
            "ExpressionAttributeValues": {":id": {"S": partition}},
            "ConsistentRead": True,
        }
        while True:
            body = self._transport.call("Query", request).body
            yield from body["Items"]
            if "LastEvaluatedKey" not in body:
                return
            request["ExclusiveStartKey"] = body["LastEvaluatedKey"]

    def _put(self, item: dict[str, Value], **condition: Any) -> None:
        self._transport.call("PutItem", {"TableName": self._table, "Item": item} | condition)

    def _replace(self, item: Mapping[str, Any], presence: Presence, earlier: frozenset[Departure]) -> str:
        """Replace *item* by that of *presence* without the *earlier* departures, and return its version.

        Raises:
            ConditionFailed: another change came first.
        """
        latest = presence.departures - earlier
        if len(latest) > _DEPARTURES:
            moved = latest & _departures(item)
            part = {"part": {"S": f"{_EARLIER}{item['version']['S']}"}}
            self._put({"id": item["id"]} | part | _left(moved) | {"ttl": self._ttl()})
            latest -= moved
        version = secrets.token_hex(8)  # a counter would repeat a value after the item expired
        attributes = _attributes(replace(presence, departures=latest)) | {"version": {"S": version}}
        if presence.session is None:
            attributes["ttl"] = self._ttl()
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(id)"}
        if "version" in item:
            condition["ConditionExpression"] = "version = :version"
            condition["ExpressionAttributeValues"] = {":version": item["version"]}
        self._put(_client_key(presence.client) | attributes, **condition)
        return version

    def _ttl(self) -> Value:
        return number(self._clock.now() + LEFT_FOR, SECOND)


def presence_from(key: Mapping[str, Any], image: Mapping[str, Any] | None) -> Presence | None:
    """Return the presence in an *image* of the item of that *key*, empty without an image.

    ``None`` if the item is not a presence's. Earlier departures are not in it.
    """
    if key["part"]["S"] != _PRESENCE:
        return None
    client_id, account, region = json.loads(key["id"]["S"].removeprefix(_CLIENT))
    client = Client(ClientId(client_id), AccountId(account), RegionName(region))
    return _presence_from(client, image or {})


def _client_id(client: Client) -> str:
    """Return the partition key of a client's items: JSON, so that different clients have different keys."""
    parts = [client.client_id, client.account, client.region]
    return _CLIENT + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def _client_key(client: Client) -> dict[str, Value]:
    return {"id": {"S": _client_id(client)}, "part": {"S": _PRESENCE}}


def _further_id(session: SessionId) -> str:
    return f"further#{session}"


def _further_key(session: SessionId, ref: ConnectionRef) -> dict[str, Value]:
    """Return the key of a further connection: those that began last sort last, but for unknown ages."""
    age = "" if ref.is_of_known_age else _UNKNOWN_AGE
    part = f"{age}{_milliseconds(ref):0{_DIGITS}}/{ref.connection_id}"
    return {"id": {"S": _further_id(session)}, "part": {"S": part}}


def _left_key(ref: ConnectionRef) -> dict[str, Value]:
    return {"id": {"S": f"left#{ref.connection_id}"}, "part": {"S": "left"}}


def _attributes(presence: Presence) -> dict[str, Value]:
    attributes = _left(presence.departures)
    if presence.connections:
        attributes["connections"] = {"SS": sorted(map(_text, presence.connections))}
    if presence.session is not None:
        attributes["visit"] = {"S": presence.session}
    if presence.has_further:
        attributes["further"] = {"BOOL": True}
    if presence.is_ending:
        attributes["ending"] = {"BOOL": True}
    return attributes


def _left(departures: frozenset[Departure]) -> dict[str, Value]:
    left = {_text(it.ref): number(it.at, SECOND) for it in departures}
    return {"left": {"M": left}} if left else {}


def _departures(item: Mapping[str, Any]) -> frozenset[Departure]:
    left = item.get("left", {}).get("M", {})
    return frozenset(Departure(_ref_of(text), _second(at)) for text, at in left.items())


def _presence_from(client: Client, item: Mapping[str, Any]) -> Presence:
    session = item.get("visit", {}).get("S")
    return Presence(
        client,
        connections=frozenset(map(_ref_of, item.get("connections", {}).get("SS", ()))),
        session=None if session is None else SessionId(session),
        departures=_departures(item),
        has_further="further" in item,
        is_ending="ending" in item,
        version=item.get("version", {}).get("S", ""),
    )


def _text(ref: ConnectionRef) -> str:
    return f"{ref.connection_id}@{_milliseconds(ref)}"


def _ref_of(text: str) -> ConnectionRef:
    connection_id, _, began = text.rpartition("@")
    return _ref(connection_id, began)


def _ref_from(part: str) -> ConnectionRef:
    began, _, connection_id = part.removeprefix(_UNKNOWN_AGE).partition("/")
    return _ref(connection_id, began)


def _ref(connection_id: str, began: str) -> ConnectionRef:
    return ConnectionRef(ConnectionId(connection_id), UNKNOWN_TIME + int(began) * MILLISECOND)


def _milliseconds(ref: ConnectionRef) -> int:
    return (ref.began_at - UNKNOWN_TIME) // MILLISECOND


def _second(value: Mapping[str, str]) -> datetime:
    return UNKNOWN_TIME + int(value["N"]) * SECOND


def _pauses() -> Iterator[float]:
    """Yield a random pause in seconds after each attempt, so that concurrent writers don't collide again."""
    for attempt in range(_ATTEMPTS):
        yield random.uniform(0, min(_MAX_PAUSE, 0.002 * 2**attempt))  # noqa: S311 - not a secret
