"""The Deliveries in DynamoDB, in a table of their own."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.adapters.dynamodb.items import MILLISECOND, SECOND, UNKNOWN_TIME, Value, number, time_from
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.delivery import (
    KEPT_FOR,
    Delivery,
    DeliveryReport,
    Message,
    MessageId,
    Outcome,
    Progress,
    Retry,
)
from app.domain.errors import AlreadyDelivered, DeliveryClaimed, InvalidMessage
from app.domain.model import ConnectionId
from app.domain.ports import Clock


class DynamoDBDeliveries:
    """Deliveries in the DynamoDB *table*, whose partition key is ``id`` and whose TTL is ``ttl``.

    Thread-safe. ``claim``, ``record`` and ``release`` cost a write unit per KB of
    the item, ``get`` one read unit per 4 KB. An item has about half a KB, and
    some 30 bytes for each recipient that is to be tried again.
    """

    def __init__(self, transport: Transport, table: str, *, clock: Clock) -> None:
        self._transport = transport
        self._table = table
        self._clock = clock

    def claim(self, message: Message, audience: str, *, until: datetime) -> Delivery:
        now = self._clock.now()
        values = {
            ":audience": {"S": audience},
            ":claim": {"S": secrets.token_hex(8)},
            ":digest": {"S": message.digest},
            ":now": number(now, MILLISECOND),
            ":until": number(until, MILLISECOND),
        }
        update = (
            "SET audience = :audience, claim = :claim, digest = :digest, claimedUntil = :until, #ttl = :ttl, "
            "startedAt = if_not_exists(startedAt, :now)"
        )
        # one's own claim counts as none: the call may be repeated after an answer was lost
        condition = (
            "attribute_not_exists(id) OR (digest = :digest AND attribute_not_exists(finishedAt) "
            "AND (claimedUntil <= :now OR claim = :claim))"
        )
        try:
            item = self._update(message.id, update, condition, values, now)
        except ConditionFailed as failure:
            raise _refusal(message, failure.item) from None
        return _delivery_from(item)

    def record(self, delivery: Delivery, progress: Progress) -> None:
        self._write(delivery, "SET progress = :progress, #ttl = :ttl", {":progress": _value_of(progress)})

    def release(self, delivery: Delivery, progress: Progress, finished_at: datetime | None) -> Delivery:
        update = "SET progress = :progress, #ttl = :ttl, claimedUntil = :unclaimed"
        values = {":progress": _value_of(progress), ":unclaimed": {"N": "0"}}
        if finished_at is not None:
            update += ", finishedAt = :finishedAt"
            values[":finishedAt"] = number(finished_at, MILLISECOND)
        self._write(delivery, update, values)
        return delivery._replace(progress=progress, finished_at=finished_at)

    def get(self, message_id: MessageId) -> Delivery | None:
        request = {"TableName": self._table, "Key": _key(message_id), "ConsistentRead": True}
        item = self._transport.call("GetItem", request).body.get("Item")
        return _delivery_from(item) if item else None

    def _write(self, delivery: Delivery, update: str, values: dict[str, Value]) -> None:
        values[":claim"] = {"S": delivery.claim}
        try:
            self._update(delivery.message_id, update, "claim = :claim", values, self._clock.now())
        except ConditionFailed:
            raise DeliveryClaimed from None

    def _update(
        self, message_id: MessageId, update: str, condition: str, values: dict[str, Value], now: datetime
    ) -> Mapping[str, Any]:
        """Change the item and return it.

        Raises:
            ConditionFailed: the condition is false; it has the item.
        """
        request = {
            "TableName": self._table,
            "Key": _key(message_id),
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#ttl": "ttl"},  # a reserved word
            "ExpressionAttributeValues": values | {":ttl": number(now + KEPT_FOR, SECOND)},
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        item: Mapping[str, Any] = self._transport.call("UpdateItem", request).body["Attributes"]
        return item


def _key(message_id: MessageId) -> dict[str, Value]:
    return {"id": {"S": message_id}}


def _refusal(message: Message, item: Any) -> Exception:
    """Return why *message* can't be claimed; *item* is what is recorded under its id."""
    if item["digest"]["S"] != message.digest:
        return InvalidMessage(f"The id {message.id} has been used for another message.")
    return AlreadyDelivered() if "finishedAt" in item else DeliveryClaimed()


def _delivery_from(item: Mapping[str, Any]) -> Delivery:
    return Delivery(
        MessageId(item["id"]["S"]),
        item["audience"]["S"],
        item["digest"]["S"],
        time_from(item, "startedAt", MILLISECOND) or UNKNOWN_TIME,
        item["claim"]["S"],
        _progress_from(item["progress"]["M"]) if "progress" in item else Progress(),
        time_from(item, "finishedAt", MILLISECOND),
    )


def _value_of(progress: Progress) -> Value:
    report = progress.report
    fields: dict[str, Value] = {
        "selected": {"N": str(report.selected)},
        "outcomes": {"M": {name.value: {"N": str(number)} for name, number in report.outcomes.items()}},
        "delays": {"M": {str(step): {"N": str(number)} for step, number in report.delays.items()}},
        "selection": {"N": str(progress.selection)},
        "retries": {"L": [{"S": _text_of(retry)} for retry in progress.retries]},
    }
    if progress.after is not None:
        fields["after"] = {"S": progress.after}
    return {"M": fields}


def _progress_from(fields: Mapping[str, Any]) -> Progress:
    report = DeliveryReport(
        selected=int(fields["selected"]["N"]),
        outcomes={Outcome(name): int(value["N"]) for name, value in fields["outcomes"]["M"].items()},
        delays={int(step): int(value["N"]) for step, value in fields["delays"]["M"].items()},
    )
    retries = tuple(_retry_from(value["S"]) for value in fields["retries"]["L"])
    return Progress(report, int(fields["selection"]["N"]), fields.get("after", {}).get("S"), retries)


def _text_of(retry: Retry) -> str:
    return f"{retry.throttled} {retry.failed} {retry.young} {int(retry.unknown)} {retry.connection_id}"


def _retry_from(text: str) -> Retry:
    throttled, failed, young, unknown, connection_id = text.split(" ", 4)
    return Retry(ConnectionId(connection_id), int(throttled), int(failed), int(young), unknown=unknown == "1")
