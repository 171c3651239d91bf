"""The History in DynamoDB, in a table of its own."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.adapters.dynamodb.items import MILLISECOND, SECOND, UNKNOWN_TIME, Value, number, time_from
from app.adapters.dynamodb.transport import Transport
from app.domain.delivery import Audience, Message, MessageId
from app.domain.history import KEPT_LONGER, UNDER_WAY_FOR, KeptMessage, Place, Scope, scopes_of
from app.domain.model import AccountId, ClientId, RegionName
from app.domain.ports import Clock

_UNDER_WAY = "under way/"
_FINISHED = "finished/"
_DIGITS = 15  # of epoch milliseconds, so that texts are in the order of time


class DynamoDBHistory:
    """History in the DynamoDB *table*: partition key ``scope``, sort key ``position``, TTL ``ttl``.

    Thread-safe. A message is an item in each of its scopes: one, or two if it is to
    an account and connections without an account get it (*unscoped*). ``begin`` costs a
    write unit per KB of the item, ``finish`` two: it writes the item under its new
    position before it deletes the old one, so that a reader finds one of them at
    any time. Reads are consistent, and cost one read unit per 4 KB.
    """

    def __init__(
        self, transport: Transport, table: str, *, clock: Clock, kept_for: timedelta, unscoped: bool = False
    ) -> None:
        self._transport = transport
        self._table = table
        self._clock = clock
        self._kept_for = kept_for + KEPT_LONGER
        self._unscoped = unscoped

    def begin(self, message: Message, audience: Audience) -> None:
        ttl = self._clock.now() + UNDER_WAY_FOR
        for scope in scopes_of(audience, unscoped=self._unscoped):
            self._put(_key(scope, _UNDER_WAY + message.id), message, audience, ttl)

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        for scope in scopes_of(audience, unscoped=self._unscoped):
            finished = _key(scope, _position(Place(at, message.id)))
            self._put(finished, message, audience, at + self._kept_for)
            request = {"TableName": self._table, "Key": _key(scope, _UNDER_WAY + message.id)}
            self._transport.call("DeleteItem", request)

    def under_way(self, scope: Scope) -> Iterator[KeptMessage]:
        for item in self._items("begins_with(#position, :first)", scope, {":first": {"S": _UNDER_WAY}}):
            yield _message_from(item, item["position"]["S"].removeprefix(_UNDER_WAY))

    def finished(self, scope: Scope, after: Place) -> Iterator[tuple[Place, KeptMessage]]:
        # '0' follows '/', so nothing else is between the two
        bounds = {":first": {"S": _position(after)}, ":last": {"S": _FINISHED.replace("/", "0")}}
        for item in self._items("#position BETWEEN :first AND :last", scope, bounds):
            place = _place_from(item)
            if place > after:
                yield place, _message_from(item, place.message_id)

    def _put(self, key: dict[str, Value], message: Message, audience: Audience, ttl: datetime) -> None:
        item = key | {
            "audience": _value_of(audience),
            "frame": {"S": message.frame.decode()},
            "ttl": number(ttl, SECOND),
        }
        if message.expires_at is not None:
            item["expiresAt"] = number(message.expires_at, MILLISECOND)
        self._transport.call("PutItem", {"TableName": self._table, "Item": item})

    def _items(self, condition: str, scope: Scope, values: dict[str, Value]) -> Iterator[Mapping[str, Any]]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": f"#scope = :scope AND {condition}",
            "ExpressionAttributeNames": {"#scope": "scope", "#position": "position"},
            "ExpressionAttributeValues": values | {":scope": {"S": scope}},
            "ConsistentRead": True,
        }
        while True:
            body = self._transport.call("Query", request).body
            now = self._clock.now()
            for item in body["Items"]:
                if (time_from(item, "ttl", SECOND) or UNKNOWN_TIME) > now:  # DynamoDB deletes late
                    yield item
            if "LastEvaluatedKey" not in body:
                return
            request["ExclusiveStartKey"] = body["LastEvaluatedKey"]


def _key(scope: Scope, position: str) -> dict[str, Value]:
    return {"scope": {"S": scope}, "position": {"S": position}}


def _position(place: Place) -> str:
    milliseconds = (place.finished_at - UNKNOWN_TIME) // MILLISECOND
    return f"{_FINISHED}{milliseconds:0{_DIGITS}}/{place.message_id}"


def _place_from(item: Mapping[str, Any]) -> Place:
    milliseconds, _, message_id = item["position"]["S"].removeprefix(_FINISHED).partition("/")
    return Place(UNKNOWN_TIME + int(milliseconds) * MILLISECOND, MessageId(message_id))


def _value_of(audience: Audience) -> Value:
    if audience.everyone:
        return {"M": {"everyone": {"BOOL": True}}}
    texts = {"account": audience.account, "region": audience.region, "client": audience.client_id}
    return {"M": {name: {"S": text} for name, text in texts.items() if text is not None}}


def _message_from(item: Mapping[str, Any], message_id: str) -> KeptMessage:
    fields = item["audience"]["M"]
    texts = {name: value["S"] for name, value in fields.items() if "S" in value}
    audience = Audience(
        account=AccountId(texts["account"]) if "account" in texts else None,
        region=RegionName(texts["region"]) if "region" in texts else None,
        client_id=ClientId(texts["client"]) if "client" in texts else None,
        everyone="everyone" in fields,
    )
    return KeptMessage(
        MessageId(message_id),
        item["frame"]["S"].encode(),
        audience,
        time_from(item, "expiresAt", MILLISECOND),
    )
