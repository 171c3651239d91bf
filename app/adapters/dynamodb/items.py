"""Items: a connection or a tombstone as a DynamoDB item, and the conditional writes of the table.

An item with ``closedAt`` is a tombstone. Unknown attributes are left out. The
attributes' names and types are public: other programs read the table.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.errors import AlreadyClosed
from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    Entry,
    RegionName,
    Tombstone,
    is_older,
)

type Value = dict[str, Any]
"""A typed value, such as ``{"S": "text"}`` (DynamoDB's API reference, AttributeValue)."""

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for an unknown time that a connection must have."""
UNSCOPED = "-"
"""Stands for no account in ``indexedAccount``."""
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)

# A time outside these bounds, in epoch milliseconds, is unknown (see ``time_from``).
_FIRST: Value = {"N": "1"}
_LAST: Value = {"N": "253402300799999"}  # the last millisecond of the year 9999

# An item with an unknown time counts as the same connection.
_NOT_NEWER = "NOT connectedAt >= :newer OR connectedAt > :last"


def key(connection_id: ConnectionId) -> dict[str, Value]:
    """Return the primary key of a connection's item."""
    return {"connectionId": {"S": connection_id}}


def indexed_region(region: RegionName) -> str:
    """Return the beginning of ``indexedRegion``; the connection's id follows.

    The id makes the sort key unique, so that DynamoDB can split an account's
    part of the index under load.
    """
    return f"{region or '-'}/"


def put_if_newer(connection: Connection, *, index_unscoped: bool = False) -> dict[str, Any]:
    """Return the PutItem request that adds *connection* if there is nothing, or something older."""
    request: dict[str, Any] = {
        "Item": item_of(connection, index_unscoped=index_unscoped),
        "ConditionExpression": "attribute_not_exists(connectionId)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if connection.connected_at is not None:
        request["ConditionExpression"] += " OR (connectedAt >= :first AND connectedAt < :connectedAt)"
        request["ExpressionAttributeValues"] = {
            ":first": _FIRST,
            ":connectedAt": number(connection.connected_at, MILLISECOND),
        }
    return request


def delete_if_not_newer(connection_id: ConnectionId, connected_at: datetime | None) -> dict[str, Any]:
    """Return the DeleteItem request for the connection of *connected_at* or an older one, no tombstone."""
    request: dict[str, Any] = {
        "Key": key(connection_id),
        "ConditionExpression": "attribute_not_exists(closedAt)",
        "ReturnValues": "ALL_OLD",
    }
    if connected_at is not None:
        request["ConditionExpression"] += f" AND ({_NOT_NEWER})"
        request["ExpressionAttributeValues"] = _newer_than(connected_at)
    return request


def put_tombstone(tombstone: Tombstone) -> dict[str, Any]:
    """Return the PutItem request that writes *tombstone* unless there is something newer."""
    if tombstone.connected_at is None:
        raise ValueError("A tombstone is written for a connection of a known time.")
    item = {
        "connectedAt": number(tombstone.connected_at, MILLISECOND),
        "closedAt": number(tombstone.closed_at, MILLISECOND),
        "ttl": number(tombstone.expires_at, SECOND),
    }
    return {
        "Item": key(tombstone.connection_id) | item,
        "ConditionExpression": _NOT_NEWER,  # true if there is no item: it has no connectedAt
        "ExpressionAttributeValues": _newer_than(tombstone.connected_at),
        "ReturnValues": "ALL_OLD",
    }


def delete_exact(entry: Entry) -> dict[str, Any]:
    """Return the DeleteItem request for exactly *entry*, not for anything else that had its id.

    The item's times have to be those that were read, apart from a fraction of
    a millisecond. An unknown time has to be unknown still.
    """
    times = {"connectedAt": entry.connected_at}
    if isinstance(entry, Tombstone):
        connection_id, condition = entry.connection_id, "attribute_exists(closedAt)"
        times["closedAt"] = entry.closed_at
    else:
        connection_id, condition = entry.id, "attribute_not_exists(closedAt)"
        times["createdAt"] = entry.created_at
    values: dict[str, Value] = {}
    for name, at in times.items():
        if at is None or at == UNKNOWN_TIME:
            condition += f" AND NOT {name} BETWEEN :first AND :last"
            values |= {":first": _FIRST, ":last": _LAST}
        else:
            condition += f" AND {name} >= :{name} AND {name} < :after_{name}"
            values[f":{name}"] = number(at, MILLISECOND)
            values[f":after_{name}"] = number(at, MILLISECOND, plus=1)
    return {
        "Key": key(connection_id),
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_OLD",
    }


def existing_or_raise(item: Mapping[str, Any], connection: Connection) -> Connection:
    """Return what *item* has of *connection*, which could not be put in its place.

    Raises:
        AlreadyClosed: the item is a tombstone, or a newer connection.
    """
    existing = connection_from(item)
    if is_tombstone(item) or is_older(connection.connected_at, existing.connected_at):
        raise AlreadyClosed
    return existing


def is_tombstone(item: Mapping[str, Any]) -> bool:
    """Return whether *item* is a tombstone."""
    return "closedAt" in item


def connection_or_none(item: Mapping[str, Any]) -> Connection | None:
    """Return the connection in *item*; ``None`` for a tombstone."""
    return None if is_tombstone(item) else connection_from(item)


def item_of(connection: Connection, *, index_unscoped: bool = False) -> dict[str, Value]:
    """Return the item of *connection*; *index_unscoped* puts it into the index without an account, too."""
    item: dict[str, Value] = {
        "connectionId": {"S": connection.id},
        "createdAt": number(connection.created_at, MILLISECOND),
        "ttl": number(connection.expires_at, SECOND),
        "clientId": {"S": connection.client_id},
        "account": {"S": connection.account},
        "region": {"S": connection.region},
        "sourceIp": {"S": connection.source_ip},
    }
    optional = {
        "userAgent": connection.user_agent,
        "apiId": connection.api_id,
        "domainName": connection.domain_name,
        "stage": connection.stage,
        "principalId": connection.principal_id,
        "since": connection.since,
    }
    if connection.client_id != UNKNOWN_CLIENT:
        item["indexedClient"] = {"S": connection.client_id}
    if connection.account or index_unscoped:  # an index key can't be empty
        item["indexedAccount"] = {"S": connection.account or UNSCOPED}
        item["indexedRegion"] = {"S": indexed_region(connection.region) + connection.id}
    item.update({name: {"S": text} for name, text in optional.items() if text is not None})
    if connection.connected_at is not None:
        item["connectedAt"] = number(connection.connected_at, MILLISECOND)
    if connection.admitted_until is not None:
        item["admittedUntil"] = number(connection.admitted_until, MILLISECOND)
    if connection.attributes:
        item["attributes"] = {"M": {name: {"S": text} for name, text in connection.attributes.items()}}
    return item


def entry_from(item: Mapping[str, Any]) -> Entry:
    """Return the connection or the tombstone in *item*; tolerant like ``connection_from``."""
    if not is_tombstone(item):
        return connection_from(item)
    return Tombstone(
        ConnectionId(item["connectionId"]["S"]),
        time_from(item, "connectedAt", MILLISECOND),
        time_from(item, "closedAt", MILLISECOND) or UNKNOWN_TIME,
        time_from(item, "ttl", SECOND) or UNKNOWN_TIME,
    )


def connection_from(item: Mapping[str, Any]) -> Connection:
    """Return the connection in *item*.

    Other programs may write items, too. An attribute that is missing or has a
    wrong type or value (a ``ttl`` in milliseconds, say) is unknown; an unknown
    time that a connection must have is 1970.
    """
    attributes = _typed(item, "attributes", "M", dict) or {}
    return Connection(
        id=ConnectionId(item["connectionId"]["S"]),
        client_id=ClientId(_text(item, "clientId") or UNKNOWN_CLIENT),
        account=AccountId(_text(item, "account") or ""),
        region=RegionName(_text(item, "region") or ""),
        source_ip=_text(item, "sourceIp") or "",
        created_at=time_from(item, "createdAt", MILLISECOND) or UNKNOWN_TIME,
        expires_at=time_from(item, "ttl", SECOND) or UNKNOWN_TIME,
        user_agent=_text(item, "userAgent"),
        connected_at=time_from(item, "connectedAt", MILLISECOND),
        api_id=_text(item, "apiId"),
        domain_name=_text(item, "domainName"),
        stage=_text(item, "stage"),
        principal_id=_text(item, "principalId"),
        attributes={name: text for name in attributes if (text := _text(attributes, name)) is not None},
        admitted_until=time_from(item, "admittedUntil", MILLISECOND),
        since=_text(item, "since"),
    )


def time_from(item: Mapping[str, Any], name: str, unit: timedelta) -> datetime | None:
    """Return the time in the attribute *name*, a count of *unit* since the epoch; ``None`` if unknown.

    A fraction is cut off: Python's ``time.time()`` has one. A value below one
    unit or after the year 9999 (microseconds, say) is unknown.
    """
    text = _typed(item, name, "N", str)
    if text is None:
        return None
    try:
        count = int(text) if text.isdigit() else _whole(text)
        return UNKNOWN_TIME + count * unit if count > 0 else None
    except (OverflowError, ValueError):  # ValueError: moto takes anything for a number, even "NaN"
        return None


def number(at: datetime, unit: timedelta, *, plus: int = 0) -> Value:
    """Return *at* as a count of *unit* since the epoch, plus so many."""
    return {"N": str((at - UNKNOWN_TIME) // unit + plus)}


def _newer_than(at: datetime) -> dict[str, Value]:
    return {":newer": number(at, MILLISECOND, plus=1), ":last": _LAST}


def _whole(text: str) -> int:
    """Return the number in *text* without its fraction."""
    whole, _, fraction = text.partition(".")
    if fraction.isdigit():
        return int(whole)
    return int(float(text))  # moto keeps an exponent; DynamoDB writes times without one


def _text(item: Mapping[str, Any], name: str) -> str | None:
    return _typed(item, name, "S", str)


def _typed[T](item: Mapping[str, Any], name: str, kind: str, type_: type[T]) -> T | None:
    value = item.get(name)
    inner = value.get(kind) if isinstance(value, dict) else None
    return inner if isinstance(inner, type_) else None
