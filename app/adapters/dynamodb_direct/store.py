"""ConnectionStore on DynamoDB's HTTP API ('DynamoDB low-level API' in its developer guide)."""

import json
import time
import zlib
from collections.abc import Callable
from datetime import UTC
from typing import Any

from app.adapters.dynamodb_direct.connection import Connection as HttpConnection
from app.adapters.dynamodb_direct.connection import NotAnswered, NotSent
from app.adapters.dynamodb_direct.http import Response
from app.adapters.dynamodb_direct.signing import Credentials, Signer
from app.adapters.dynamodb_wire import (
    ALREADY_THERE,
    CREDENTIALS_REFUSED,
    ONLY_IF_NEW,
    THROTTLED,
    connection_in,
    key,
    row_of,
)
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId, Removed

_OK, _REDIRECTION, _BAD_REQUEST, _TOO_MANY, _SERVER_FAULT = (
    200,
    300,
    400,
    429,
    500,
)  # HTTP; http.HTTPStatus would cost a start 2 ms

_TARGET = "DynamoDB_20120810"
_CONTENT_TYPE = "application/x-amz-json-1.0"
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestInTheFuture"})
_TOLERATED_SKEW = 240  # seconds; AWS refuses a signature that is 5 min off
_encode = json.JSONEncoder(separators=(",", ":")).encode

_PAUSE = 0.025  # seconds at most before the first retry, twice that before the next: the SDK's for DynamoDB
_PAUSE_WHEN_THROTTLED = 0.25  # likewise; the SDK's is 1, but a person waits for this answer


class DynamoDBRefusal(Exception):
    """DynamoDB refuses a request for what it is: the deployment or this code is wrong."""


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
            self._ask(
                "PutItem",
                Item=row_of(connection),
                ConditionExpression=ONLY_IF_NEW,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except _AlreadyThere as there:
            return _found(there.row, connection.id)
        return connection

    def remove(self, connection_id: ConnectionId) -> Removed:
        answer, unheard = self._ask("DeleteItem", Key=key(connection_id), ReturnValues="ALL_OLD")
        row = answer.get("Attributes")
        return Removed(_found(row, connection_id)) if row else Removed(None, certain=not unheard)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        answer, _ = self._ask("GetItem", Key=key(connection_id), ConsistentRead=True)
        row = answer.get("Item")
        return _found(row, connection_id) if row else None

    def _ask(self, operation: str, **request: Any) -> tuple[dict[str, Any], bool]:
        """DynamoDB's answer, and whether an earlier attempt may have been carried out unheard.

        Raises:
            StorageUnavailable: all attempts were in vain, or one that need not be repeated.
            _AlreadyThere: the row that ONLY_IF_NEW forbids to replace.
            DynamoDBRefusal: the request can't succeed as it is.
        """
        body = _encode({"TableName": self._table} | request).encode()
        credentials = self._credentials()
        skew = self._skew
        unheard = False
        for retry in range(self._attempts):
            pause = _PAUSE
            try:
                response = self._connection.exchange(self._signed(operation, body, credentials))
                return self._answer(response, clock_is_set=self._skew != skew), unheard
            except NotSent as fault:
                reason = fault.reason
            except NotAnswered as fault:
                reason, unheard = fault.reason, True
                if fault.was_idle:
                    continue  # an idle connection that had ended says nothing of the database
            except _Failed as failure:
                reason, unheard, pause = failure.reason, unheard or failure.unheard, failure.pause
                if not failure.retryable:
                    break
            if retry + 1 < self._attempts:
                self._sleep(_random() * pause * 2**retry)
        raise StorageUnavailable(reason, outcome_unknown=unheard)

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

    def _answer(self, response: Response, *, clock_is_set: bool) -> dict[str, Any]:
        """What *response* says.

        Raises:
            _Failed: it is no answer to go by.
            _AlreadyThere: the row that ONLY_IF_NEW forbids to replace.
            DynamoDBRefusal: the request can't succeed as it is.
        """
        status = response.status
        answer = _json_object(response.body)
        if status >= _SERVER_FAULT:
            raise _Failed(_code(answer) or str(status), unheard=True)
        checksum = response.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(response.body)):
            raise _Failed("CorruptAnswer", unheard=True)
        if status == _TOO_MANY:
            raise _Failed(str(status), pause=_PAUSE_WHEN_THROTTLED)
        # DynamoDB's own answers have a request id. Any other is from somebody in between, who may say what it
        # likes, and may have passed the request on where it says that all is well.
        is_success = _OK <= status < _REDIRECTION
        if answer is None or "x-amzn-requestid" not in response.headers:
            raise _Failed("NotDynamoDB" if is_success else str(status), unheard=is_success, retryable=False)
        code = _code(answer)
        if status == _OK and code is None:
            return answer
        if status != _BAD_REQUEST or code is None:
            raise _Failed("NotDynamoDB", unheard=is_success, retryable=False)
        if code in _SKEWED and not clock_is_set and self._has_corrected_its_clock(response):
            raise _Failed(code, pause=0)
        raise _meaning_of(code, answer)

    def _has_corrected_its_clock(self, response: Response) -> bool:
        """Set our clock by DynamoDB's, where it is the clock that made the signature invalid."""
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 40 ms that hardly anybody needs

        try:
            theirs = parsedate_to_datetime(response.headers.get("date", ""))
            ahead = theirs.replace(tzinfo=UTC).timestamp() - self._clock()  # HTTP's dates are in GMT
        except (ValueError, OverflowError):
            return False
        if abs(ahead - self._skew) < _TOLERATED_SKEW:
            return False
        self._skew = ahead
        return True


class _AlreadyThere(Exception):
    def __init__(self, row: object) -> None:
        super().__init__()
        self.row = row


class _Failed(Exception):
    """An attempt that DynamoDB, or whoever stands before it, did not let succeed."""

    def __init__(
        self, reason: str, *, unheard: bool = False, retryable: bool = True, pause: float = _PAUSE
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unheard = unheard
        self.retryable = retryable
        self.pause = pause


def _meaning_of(code: str, answer: dict[str, Any]) -> Exception:
    """What DynamoDB's error *code* is to us."""
    if code == ALREADY_THERE:
        return _AlreadyThere(answer.get("Item"))
    if code in THROTTLED:
        return _Failed(code, pause=_PAUSE_WHEN_THROTTLED)
    if code in CREDENTIALS_REFUSED:
        return _Failed(code, retryable=False)
    return DynamoDBRefusal(f"{code}: {answer.get('message')}")


def _found(row: object, connection_id: ConnectionId) -> Connection:
    """The connection in *row*, which must be that of *connection_id*: the answer to this request."""
    if not isinstance(row, dict) or row.get("connectionId") != {"S": connection_id}:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)
    return connection_in(row)


def _code(answer: dict[str, Any] | None) -> str | None:
    """The short name in a DynamoDB error; ``None`` in what is none."""
    kind = (answer or {}).get("__type")
    return kind.rpartition("#")[2] or None if isinstance(kind, str) else None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _random() -> float:
    from random import random  # noqa: PLC0415 - only a retry needs it

    return random()  # noqa: S311 - so that functions that failed together don't come back together
