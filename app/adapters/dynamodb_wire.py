"""What DynamoDB is told and tells, whatever carries it: rows, and what its refusals mean.

A row is a connection; attributes that are unknown are left out. Their names
and types are a contract with tables and readers that exist.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    RegionName,
)

type Value = dict[str, Any]
"""A typed value, such as ``{"S": "text"}`` (DynamoDB's API reference, AttributeValue)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)

# The error codes below are those of DynamoDB's developer guide ('Error handling with DynamoDB'). Any other (a
# missing table, a denied action) is a fault of the deployment and reaches the log whole, as bugs do.
THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
CREDENTIALS_REFUSED = frozenset({"ExpiredTokenException", "UnrecognizedClientException"})
ALREADY_THERE = "ConditionalCheckFailedException"

ONLY_IF_NEW = "attribute_not_exists(connectionId)"
"""The condition under which a row is put: a second put of the same id changes nothing, and costs as much."""


def key(connection_id: ConnectionId) -> dict[str, Value]:
    """The key of a connection's row."""
    return {"connectionId": {"S": connection_id}}


def row_of(connection: Connection) -> dict[str, Value]:
    """The row of *connection*."""
    row: dict[str, Value] = {
        "connectionId": {"S": connection.id},
        "createdAt": _number(connection.created_at, _MILLISECOND),
        "ttl": _number(connection.expires_at, _SECOND),
        "clientId": {"S": connection.client_id},
        "account": {"S": connection.account},
        "region": {"S": connection.region},
        "sourceIp": {"S": connection.source_ip},
    }
    known = {
        "userAgent": connection.user_agent,
        "apiId": connection.api_id,
        "domainName": connection.domain_name,
        "stage": connection.stage,
        "principalId": connection.principal_id,
    }
    row.update({name: {"S": text} for name, text in known.items() if text is not None})
    if connection.connected_at is not None:
        row["connectedAt"] = _number(connection.connected_at, _MILLISECOND)
    if connection.attributes:
        row["attributes"] = {"M": {name: {"S": text} for name, text in connection.attributes.items()}}
    return row


def connection_in(row: Mapping[str, Any]) -> Connection:
    """What *row* says.

    Others may write rows too: what is missing there, or is not what it ought
    to be (a ``ttl`` in milliseconds, say), is unknown; an unknown time that a
    connection must have is 1970.
    """
    attributes = _typed(row, "attributes", "M", dict) or {}
    return Connection(
        id=ConnectionId(row["connectionId"]["S"]),
        client_id=ClientId(_text(row, "clientId") or UNKNOWN_CLIENT),
        account=AccountId(_text(row, "account") or ""),
        region=RegionName(_text(row, "region") or ""),
        source_ip=_text(row, "sourceIp") or "",
        created_at=_moment(row, "createdAt", _MILLISECOND) or _EPOCH,
        expires_at=_moment(row, "ttl", _SECOND) or _EPOCH,
        user_agent=_text(row, "userAgent"),
        connected_at=_moment(row, "connectedAt", _MILLISECOND),
        api_id=_text(row, "apiId"),
        domain_name=_text(row, "domainName"),
        stage=_text(row, "stage"),
        principal_id=_text(row, "principalId"),
        attributes={name: text for name in attributes if (text := _text(attributes, name)) is not None},
    )


def _typed[T](row: Mapping[str, Any], name: str, kind: str, type_: type[T]) -> T | None:
    value = row.get(name)
    inner = value.get(kind) if isinstance(value, dict) else None
    return inner if isinstance(inner, type_) else None


def _text(row: Mapping[str, Any], name: str) -> str | None:
    return _typed(row, name, "S", str)


def _moment(row: Mapping[str, Any], name: str, unit: timedelta) -> datetime | None:
    number = _typed(row, name, "N", str)
    if number is None:
        return None
    try:
        return _EPOCH + int(number) * unit
    except (ValueError, OverflowError):  # no whole number, or no time that a calendar has
        return None


def _number(at: datetime, unit: timedelta) -> Value:
    return {"N": str((at - _EPOCH) // unit)}
