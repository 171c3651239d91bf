"""What one id has in the table: read from a row, and taken out again if it is still the same."""

from collections.abc import Mapping
from typing import Any

from app.adapters.dynamodb_wire import (
    MILLISECOND,
    SECOND,
    UNKNOWN_TIME,
    Value,
    connection_in,
    is_mark,
    key,
    moment,
    number,
)
from app.domain.model import Connection, ConnectionId
from app.domain.upkeep import Entry, Tombstone


def entry_in(row: Mapping[str, Any]) -> Entry:
    """The connection or the mark in *row*; as tolerant as ``connection_in``."""
    if not is_mark(row):
        return connection_in(row)
    return Tombstone(
        ConnectionId(row["connectionId"]["S"]),
        moment(row, "connectedAt", MILLISECOND),
        moment(row, "closedAt", MILLISECOND) or UNKNOWN_TIME,
        moment(row, "ttl", SECOND) or UNKNOWN_TIME,
    )


def oblivion(entry: Entry) -> dict[str, Any]:
    """DeleteItem's parameters for a ``forget``: this very entry and no other that its id has had."""
    connected_at = number(entry.connected_at, MILLISECOND) if entry.connected_at else None
    own: dict[str, Value | None] = {"connectedAt": connected_at}
    if isinstance(entry, Connection):
        connection_id = entry.id
        own["closedAt"] = None
        if entry.created_at != UNKNOWN_TIME:
            own["createdAt"] = number(entry.created_at, MILLISECOND)
    else:
        connection_id = entry.connection_id
        own["closedAt"] = number(entry.closed_at, MILLISECOND)
    request: dict[str, Any] = {
        "Key": key(connection_id),
        "ConditionExpression": " AND ".join(
            f"attribute_not_exists({name})" if value is None else f"{name} = :{name}"
            for name, value in own.items()
        ),
        "ReturnValues": "ALL_OLD",
    }
    if values := {f":{name}": value for name, value in own.items() if value is not None}:
        request["ExpressionAttributeValues"] = values
    return request
