"""The transport over DynamoDB's HTTP API ('DynamoDB low-level API' in its developer guide)."""

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.adapters.dynamodb.direct.answers import (
    PAUSE,
    Failed,
    InvalidSignature,
    read_answer,
)
from app.adapters.dynamodb.direct.connection import Connection, NotAnswered, NotSent
from app.adapters.dynamodb.direct.signing import Credentials, CredentialsSource, Signer
from app.adapters.dynamodb.transport import CREDENTIALS_REFUSED, Answer, ConditionFailed
from app.domain.errors import StorageUnavailable

_TARGET = "DynamoDB_20120810"
_CONTENT_TYPE = "application/x-amz-json-1.0"
_DATE = "%a, %d %b %Y %H:%M:%S GMT"  # RFC 9110, 5.6.7
_MAX_SKEW = 240  # seconds; AWS refuses a signature that is 5 min off
_encode = json.JSONEncoder(separators=(",", ":")).encode


class DirectTransport:
    """Transport over one kept-alive *connection*. One call at a time, as Lambda gives events.

    It makes up to *attempts* attempts, with random pauses between them.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        host: str,
        region: str,
        credentials: CredentialsSource,
        attempts: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._host = host
        self._region = region
        self._credentials = credentials
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._skew = 0.0  # seconds that DynamoDB's clock is ahead of ours
        self._signer = Signer(service="dynamodb", region=region)

    def connect(self) -> bool:
        """Connect ahead of the first request; return whether that worked. The request tries again."""
        try:
            self._connection.open()
        except NotSent:
            return False
        return True

    def close(self) -> None:
        """Close the connection. Another request opens a new one."""
        self._connection.close()

    def suspend(self) -> None:
        """Close the connection and forget the signing key: a copy of this process may be resumed later."""
        self.close()
        self._skew = 0.0
        self._signer = Signer(service="dynamodb", region=self._region)

    resume = connect

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Send *request* and return the answer.

        Raises:
            ConditionFailed: the request's condition is false.
            StorageUnavailable: every attempt failed, or one that must not be repeated.
            DynamoDBRefusal: the request itself is wrong.
        """
        body = _encode(request).encode()
        credentials = self._credentials(None)
        skew = self._skew
        unknown = False  # whether an attempt was sent and not answered
        for left in reversed(range(self._attempts)):
            try:
                answer = self._attempt(operation, body, credentials, skew)
            except ConditionFailed as failure:
                failure.outcome_unknown = unknown
                raise
            except Failed as failure:
                reason = failure.reason
                unknown |= failure.outcome_unknown
                if reason in CREDENTIALS_REFUSED:
                    refused, credentials = credentials, self._credentials(credentials)
                    if credentials == refused:
                        break
                elif not failure.retryable:
                    break
                if left and failure.pause:
                    self._sleep(_random() * failure.pause * 2 ** (self._attempts - left - 1))
            else:
                return Answer(answer, outcome_unknown=unknown)
        raise StorageUnavailable(reason, outcome_unknown=unknown)

    def _attempt(self, operation: str, body: bytes, credentials: Credentials, skew: float) -> dict[str, Any]:
        """Send the request once and return the answer; *skew* is the one with which the call began."""
        try:
            return read_answer(self._connection.exchange(self._signed(operation, body, credentials)))
        except NotSent as error:
            raise Failed(error.reason) from error
        except NotAnswered as error:
            # an idle connection that was closed says nothing of the database
            pause = 0 if error.was_idle else PAUSE
            raise Failed(error.reason, outcome_unknown=True, pause=pause) from error
        except InvalidSignature as refusal:
            if self._skew != skew or not self._corrects_clock(refusal.date):
                raise
            raise Failed(refusal.code, pause=0) from refusal

    def _signed(self, operation: str, body: bytes, credentials: Credentials) -> bytes:
        """Return the whole HTTP request."""
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

    def _corrects_clock(self, date: str) -> bool:
        """Set our clock by DynamoDB's *date*; return whether our clock was the cause of the refusal."""
        try:
            # strptime imports its parser on first use: 30 ms that a function with a right clock never needs
            theirs = datetime.strptime(date, _DATE).replace(tzinfo=UTC)
        except ValueError:
            return False
        ahead = theirs.timestamp() - self._clock()
        if abs(ahead - self._skew) < _MAX_SKEW:
            return False
        self._skew = ahead
        return True


def _random() -> float:
    """Return a number in [0, 1): functions that failed together don't come back together."""
    return int.from_bytes(os.urandom(4)) / 2**32  # the module random costs a start 1 ms
