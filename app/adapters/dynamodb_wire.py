"""What DynamoDB is told and tells, whatever carries it: rows, and what its refusals mean.

A row is a connection, or with ``closedAt`` the mark of one that closed before
it was recorded. Attributes that are unknown are left out. Their names and
types are a contract with tables and readers that exist.

What each call costs, in write units, one per KB that the row has begun (most
rows have less than one), and one more for each index that a row is in, which
is up to two:

=====================================================  =============================
an ``add``                                             1 and the indexes'
an ``add`` in the place of an older row                1 and twice the indexes'
an ``add`` that changes nothing, or is refused         1
a ``remove``                                           1 and the indexes'
a ``remove`` that finds nothing                        1
a ``mark_closed``, which only follows one of those     1
a ``mark_closed`` that takes a row out                 1 and the indexes'
a row that DynamoDB deletes since its time is over     0
=====================================================  =============================
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
    RegionName,
    is_older,
)

type Value = dict[str, Any]
"""A typed value, such as ``{"S": "text"}`` (DynamoDB's API reference, AttributeValue)."""

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""What stands for a time that a row does not tell and a connection must have."""
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)

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
CONDITION_FAILED = "ConditionalCheckFailedException"

_FIRST: Value = {"N": "1"}
_LAST: Value = {"N": "253402300799999"}  # the last millisecond that a calendar has, in 9999
BOUNDS_OF_TIME: dict[str, Value] = {":first": _FIRST, ":last": _LAST}
"""A time that is not a number between these, in milliseconds, is unknown (see ``moment``)."""

# A row of unknown time counts as the same connection.
_NOT_NEWER = "NOT connectedAt >= :newer OR connectedAt > :last"


def key(connection_id: ConnectionId) -> dict[str, Value]:
    """The key of a connection's row."""
    return {"connectionId": {"S": connection_id}}


def indexed_region(region: RegionName) -> str:
    """What ``indexedRegion`` begins with; the connection's id follows.

    With the same text for a whole account, DynamoDB could not split the
    account's part of the index where it has much to write.
    """
    return f"{region or '-'}/"


def addition(connection: Connection) -> dict[str, Any]:
    """PutItem's parameters for an ``add``: in place of nothing, or of an older connection or mark."""
    request: dict[str, Any] = {
        "Item": row_of(connection),
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


def removal(connection_id: ConnectionId, connected_at: datetime | None) -> dict[str, Any]:
    """DeleteItem's parameters for a ``remove``: a connection that is not newer, and never a mark."""
    request: dict[str, Any] = {
        "Key": key(connection_id),
        "ConditionExpression": "attribute_not_exists(closedAt)",
        "ReturnValues": "ALL_OLD",
    }
    if connected_at is not None:
        request["ConditionExpression"] += f" AND ({_NOT_NEWER})"
        request["ExpressionAttributeValues"] = _newer_than(connected_at)
    return request


def closing_mark(
    connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
) -> dict[str, Any]:
    """PutItem's parameters for a ``mark_closed``: in place of whatever is not newer."""
    item = {
        "connectedAt": number(connected_at, MILLISECOND),
        "closedAt": number(closed_at, MILLISECOND),
        "ttl": number(until, SECOND),
    }
    return {
        "Item": key(connection_id) | item,
        "ConditionExpression": _NOT_NEWER,  # where there is no row, it has no connectedAt
        "ExpressionAttributeValues": _newer_than(connected_at),
        "ReturnValues": "ALL_OLD",
    }


def standing(row: Mapping[str, Any], connection: Connection) -> Connection:
    """What *row*, in whose place *connection* could not be put, has of that connection.

    Raises:
        AlreadyClosed: it is a mark, or a newer connection.
    """
    there = connection_in(row)
    if is_mark(row) or is_older(connection.connected_at, there.connected_at):
        raise AlreadyClosed
    return there


def is_mark(row: Mapping[str, Any]) -> bool:
    """Whether *row* stands for a connection that closed before it was recorded."""
    return "closedAt" in row


def unmarked(row: Mapping[str, Any]) -> Connection | None:
    """The connection in *row*; a mark is none."""
    return None if is_mark(row) else connection_in(row)


def row_of(connection: Connection) -> dict[str, Value]:
    """The row of *connection*."""
    row: dict[str, Value] = {
        "connectionId": {"S": connection.id},
        "createdAt": number(connection.created_at, MILLISECOND),
        "ttl": number(connection.expires_at, SECOND),
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
    if connection.client_id != UNKNOWN_CLIENT:
        row["indexedClient"] = {"S": connection.client_id}
    if connection.account:  # the key of an index can't be empty
        row["indexedAccount"] = {"S": connection.account}
        row["indexedRegion"] = {"S": indexed_region(connection.region) + connection.id}
    row.update({name: {"S": text} for name, text in known.items() if text is not None})
    if connection.connected_at is not None:
        row["connectedAt"] = number(connection.connected_at, MILLISECOND)
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
        created_at=moment(row, "createdAt", MILLISECOND) or UNKNOWN_TIME,
        expires_at=moment(row, "ttl", SECOND) or UNKNOWN_TIME,
        user_agent=_text(row, "userAgent"),
        connected_at=moment(row, "connectedAt", MILLISECOND),
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


def moment(row: Mapping[str, Any], name: str, unit: timedelta) -> datetime | None:
    """The time in the attribute *name*, which counts epoch *unit*; ``None`` where there is none.

    A fraction is cut off: Python's ``time.time()`` has one. What is below one
    unit, or past the calendar's end, as microseconds are, is no time.
    """
    text = _typed(row, name, "N", str)
    if text is None:
        return None
    try:
        count = int(text)
    except ValueError:
        count = _whole(text)
    try:
        return UNKNOWN_TIME + count * unit if count > 0 else None
    except OverflowError:
        return None


def _whole(text: str) -> int:
    from decimal import Decimal  # noqa: PLC0415 - no row of ours has a fraction

    try:
        return int(Decimal(text))
    except (ArithmeticError, ValueError):  # moto takes anything for a number, even "NaN"
        return 0


def _newer_than(at: datetime) -> dict[str, Value]:
    return {":newer": number(at, MILLISECOND, plus=1), ":last": _LAST}


def number(at: datetime, unit: timedelta, *, plus: int = 0) -> Value:
    """*at* in whole epoch *unit*, and *plus* so many."""
    return {"N": str((at - UNKNOWN_TIME) // unit + plus)}
