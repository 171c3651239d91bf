"""ConnectionStore on DynamoDB's HTTP API ('DynamoDB low-level API' in its developer guide)."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from app.adapters.dynamodb_direct.answers import (
    PAUSE,
    ConditionFailed,
    Failed,
    InvalidSignature,
    read_answer,
)
from app.adapters.dynamodb_direct.connection import Connection as HttpConnection
from app.adapters.dynamodb_direct.connection import NotAnswered, NotSent
from app.adapters.dynamodb_direct.signing import Credentials, Signer
from app.adapters.dynamodb_wire import (
    addition,
    closing_mark,
    key,
    removal,
    standing,
    unmarked,
)
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId, Removed

_TARGET = "DynamoDB_20120810"
_CONTENT_TYPE = "application/x-amz-json-1.0"
_TOLERATED_SKEW = 240  # seconds; AWS refuses a signature that is 5 min off
_encode = json.JSONEncoder(separators=(",", ":")).encode


class DirectDynamoDBConnectionStore:
    """ConnectionStore in the DynamoDB table *table*, whose partition key is ``connectionId``.

    A retried write is safe here: an ``add`` that had succeeded finds its own
    row and leaves it, a ``remove`` that had succeeded finds nothing, and says
    that it can't be certain. One call at a time, as Lambda gives an execution
    environment one event at a time.
    """

    def __init__(
        self,
        connection: HttpConnection,
        *,
        host: str,
        region: str,
        table: str,
        credentials: Callable[[], Credentials],
        attempts: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._host = host
        self._table = table
        self._credentials = credentials
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._unheard = (
            False  # whether an attempt of the last call went out and nobody said what became of it
        )
        self._skew = 0.0  # seconds that DynamoDB's clock is ahead of ours
        self._signer = Signer(service="dynamodb", region=region)

    def connect(self) -> None:
        """Connect ahead of the first request; where that fails, the request will tell."""
        try:
            self._connection.open()
        except NotSent:
            return

    def close(self) -> None:
        """End the connection; another request makes another."""
        self._connection.close()

    def add(self, connection: Connection) -> Connection:
        try:
            self._ask("PutItem", addition(connection))
        except ConditionFailed as failure:
            return standing(_row_of(connection.id, failure.row), connection)
        return connection

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._taken_out(connection_id, "DeleteItem", removal(connection_id, connected_at))

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        mark = closing_mark(connection_id, connected_at=connected_at, closed_at=closed_at, until=until)
        return self._taken_out(connection_id, "PutItem", mark)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        answer = self._ask("GetItem", {"Key": key(connection_id), "ConsistentRead": True})
        row = answer.get("Item")
        return unmarked(_row_of(connection_id, row)) if row else None

    def _taken_out(self, connection_id: ConnectionId, operation: str, request: dict[str, Any]) -> Removed:
        try:
            row = self._ask(operation, request).get("Attributes")
        except ConditionFailed:
            row = None
        connection = unmarked(_row_of(connection_id, row)) if row else None
        return Removed(connection, certain=connection is not None or not self._unheard)

    def _ask(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """DynamoDB's answer; it sets whether an earlier attempt may have been carried out unheard.

        Raises:
            StorageUnavailable: all attempts were in vain, or one that need not be repeated.
            ConditionFailed: what is there forbids it.
            DynamoDBRefusal: the request can't succeed as it is.
        """
        body = _encode({"TableName": self._table} | request).encode()
        credentials = self._credentials()
        skew = self._skew
        self._unheard = False
        for retry in range(self._attempts):
            pause = PAUSE
            try:
                response = self._connection.exchange(self._signed(operation, body, credentials))
                return read_answer(response)
            except NotSent as fault:
                reason = fault.reason
            except NotAnswered as fault:
                reason, self._unheard = fault.reason, True
                if fault.was_idle:
                    continue  # an idle connection that had ended says nothing of the database
            except InvalidSignature as refusal:
                if self._skew != skew or not self._has_corrected_its_clock(refusal.date):
                    raise
                reason, pause = refusal.code, 0
            except Failed as failure:
                reason, pause = failure.reason, failure.pause
                self._unheard |= failure.unheard
                if not failure.retryable:
                    break
            if retry + 1 < self._attempts:
                self._sleep(_random() * pause * 2**retry)
        raise StorageUnavailable(reason, outcome_unknown=self._unheard)

    def _signed(self, operation: str, body: bytes, credentials: Credentials) -> bytes:
        """The whole request, to be sent as it is."""
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock() + self._skew))
        headers = [("content-type", _CONTENT_TYPE), ("host", self._host), ("x-amz-date", timestamp)]
        if credentials.session_token:
            headers.append(("x-amz-security-token", credentials.session_token))
        headers.append(("x-amz-target", f"{_TARGET}.{operation}"))
        authorization = self._signer.authorization(headers, body, credentials, timestamp)
        lines = "".join([f"{name}:{value}\r\n" for name, value in headers])
        return (
            f"POST / HTTP/1.1\r\n{lines}authorization:{authorization}\r\n"
            f"user-agent:switchboard\r\ncontent-length:{len(body)}\r\n\r\n"
        ).encode() + body

    def _has_corrected_its_clock(self, date: str) -> bool:
        """Set our clock by DynamoDB's *date*, where it is the clock that made the signature invalid."""
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 40 ms that hardly anybody needs

        try:
            theirs = parsedate_to_datetime(date)
            ahead = theirs.replace(tzinfo=UTC).timestamp() - self._clock()  # HTTP's dates are in GMT
        except (ValueError, OverflowError):
            return False
        if abs(ahead - self._skew) < _TOLERATED_SKEW:
            return False
        self._skew = ahead
        return True


def _row_of(connection_id: ConnectionId, row: object) -> dict[str, Any]:
    """*row*, which must be that of *connection_id*: the answer to this request."""
    if not isinstance(row, dict) or row.get("connectionId") != {"S": connection_id}:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)
    return row


def _random() -> float:
    from random import random  # noqa: PLC0415 - only a retry needs it

    return random()  # noqa: S311 - so that functions that failed together don't come back together
