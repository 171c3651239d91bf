"""What one id has in the table: read from a row, and taken out again if it is still the same."""

from collections.abc import Mapping
from typing import Any

from app.adapters.dynamodb_wire import (
    BOUNDS_OF_TIME,
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
    """DeleteItem's parameters for a ``forget``: this very entry and no other that its id has had.

    The row's times have to be those that were read, whatever their fraction,
    and what was unknown has to be unknown still.
    """
    times = {"connectedAt": entry.connected_at}
    if isinstance(entry, Connection):
        connection_id, condition = entry.id, "attribute_not_exists(closedAt)"
        times["createdAt"] = entry.created_at
    else:
        connection_id, condition = entry.connection_id, "attribute_exists(closedAt)"
        times["closedAt"] = entry.closed_at
    values: dict[str, Value] = {}
    for name, at in times.items():
        if at is None or at == UNKNOWN_TIME:
            condition += f" AND NOT {name} BETWEEN :first AND :last"
            values |= BOUNDS_OF_TIME
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
