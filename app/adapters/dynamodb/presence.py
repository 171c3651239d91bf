"""Who is present, in a DynamoDB table of its own, through boto3's low-level client."""

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from app.adapters.dynamodb.client import Attempts, confirm
from app.adapters.dynamodb_wire import SECOND, Value, number
from app.domain.errors import StorageUnavailable
from app.domain.ports import Clock
from app.domain.upkeep import Client, ConnectionRef, Presence, Turn, VisitEvent, VisitId, parts_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MARK_LASTS = timedelta(days=1)  # as long as a stream keeps a change (DynamoDB's developer guide, 'Streams')
_TRIES = 20
_LONGEST_PAUSE = 0.1  # s


class DynamoDBPresenceStore:
    """PresenceStore in the DynamoDB table *table*, whose partition key is ``id`` and whose TTL is ``ttl``.

    A client has one item: the set of its connections, its visit, what is
    untold of it, and a version, the condition under which it is replaced. A
    presence of nothing has no item. An id whose connections have left has one
    too, with when the last of them began, and a ``ttl``. Several threads may
    call it at once.

    What it costs, in units to read and to write, where an item has less than
    1 KB, which is some 20 connections; each further KB is one more to write:

    ====================================================  ====  =====
    ``change``                                            1     1
    ``change`` that changes nothing                       1     0
    ... for each other change that came between           0     1
    ``mark_left``; that DynamoDB deletes the mark later   0     1
    ``has_left``                                          1     0
    a visit of one connection, all in all                 6     5
    each further connection of a visit                    4     3
    a connection of a client that is not known            1     1
    ====================================================  ====  =====
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        *,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._attempts = Attempts(client)
        self._pause = pause

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        key = _key(_client_id(client))
        item = self._get(key)
        for pause in _pauses():
            presence = _presence_in(item)
            changed = step(presence)
            if changed == presence:
                return changed
            refusal = self._replace(key, item, changed)
            if refusal is None:
                return changed
            item = refusal.get("Item", {})
            self._pause(pause)
        raise StorageUnavailable("Contended", outcome_unknown=False)

    def mark_left(self, ref: ConnectionRef) -> None:
        key, began = _mark(ref)
        mark = {"began": {"N": str(began)}, "ttl": number(self._clock.now() + _MARK_LASTS, SECOND)}
        with self._attempts.faults_named(), suppress(self._client.exceptions.ConditionalCheckFailedException):
            confirm(
                self._client.put_item(
                    TableName=self._table,
                    Item=key | mark,
                    ConditionExpression="attribute_not_exists(began) OR began <= :began",
                    ExpressionAttributeValues={":began": mark["began"]},
                )
            )

    def has_left(self, ref: ConnectionRef) -> bool:
        key, began = _mark(ref)
        mark = self._get(key)
        return bool(mark) and began <= int(mark["began"]["N"])

    def _get(self, key: dict[str, Value]) -> Mapping[str, Any]:
        with self._attempts.faults_named():
            answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
            confirm(answer)
        return answer.get("Item", {})

    def _replace(
        self, key: dict[str, Value], item: Mapping[str, Any], presence: Presence
    ) -> Mapping[str, Any] | None:
        """Put *presence* in the place of *item*, or nothing if it is empty; the refusal, if refused."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConditionExpression": "attribute_not_exists(id)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if item:
            request["ConditionExpression"] = "version = :version"
            request["ExpressionAttributeValues"] = {":version": item["version"]}
        with self._attempts.faults_named():
            try:
                if presence == Presence():
                    confirm(self._client.delete_item(**request, Key=key))
                else:
                    confirm(self._client.put_item(**request, Item=key | _attributes(presence)))
            except self._client.exceptions.ConditionalCheckFailedException as refusal:
                return refusal.response
        return None


def _key(text: str) -> dict[str, Value]:
    return {"id": {"S": text}}


def _client_id(client: Client) -> str:
    """JSON, for no three texts may look like another three."""
    parts = [client.client_id, client.account, client.region]
    return "client#" + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def _mark(ref: ConnectionRef) -> tuple[dict[str, Value], int]:
    """The key of the mark, and when the connection began."""
    connection_id, began = parts_of(ref)
    return _key(f"left#{connection_id}"), began


def _attributes(presence: Presence) -> dict[str, Value]:
    # A count would come round to the same number when the item was deleted and made anew in between.
    attributes: dict[str, Value] = {"version": {"S": secrets.token_hex(8)}}
    if presence.connections:
        attributes["connections"] = {"SS": sorted(presence.connections)}
    if presence.visit is not None:
        attributes["visit"] = {"S": presence.visit}
    if presence.untold:
        told_as = [f"{event.turn.value} {event.visit}" for event in presence.untold]
        attributes["untold"] = {"L": [{"S": text} for text in told_as]}
    return attributes


def _presence_in(item: Mapping[str, Any]) -> Presence:
    visit = item.get("visit", {}).get("S")
    return Presence(
        connections=frozenset(map(ConnectionRef, item.get("connections", {}).get("SS", ()))),
        visit=None if visit is None else VisitId(visit),
        untold=tuple(_event_in(text["S"]) for text in item.get("untold", {}).get("L", ())),
    )


def _event_in(text: str) -> VisitEvent:
    turn, _, visit = text.partition(" ")
    return VisitEvent(Turn(turn), VisitId(visit))


def _pauses() -> Iterator[float]:
    """After each try a random pause, in seconds, so that those who met there do not meet again."""
    for tried in range(_TRIES):
        yield random.uniform(0, min(_LONGEST_PAUSE, 0.002 * 2**tried))  # noqa: S311 - no secret is made of it
