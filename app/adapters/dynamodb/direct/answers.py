"""The meaning of an answer to one attempt: success, retryable, or final."""

import json
import zlib
from typing import Any

from app.adapters.dynamodb.direct.http import Response
from app.adapters.dynamodb.transport import (
    CONDITION_FAILED,
    CREDENTIALS_REFUSED,
    THROTTLED,
    ConditionFailed,
)

# HTTP; http.HTTPStatus would cost a start 2 ms
_OK = 200
_REDIRECTION = 300  # and above, no success
_BAD_REQUEST = 400  # every refusal of DynamoDB
_TOO_MANY = 429
_SERVER_ERROR = 500  # and above

_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestInTheFuture"})

PAUSE = 0.025
"""Longest pause before the first retry, in seconds; doubled for each further one, as the SDK does."""
_PAUSE_WHEN_THROTTLED = 0.25  # the SDK's is 1 s, but a person waits for this answer


class Failed(Exception):
    """An attempt that failed, at DynamoDB or at a proxy before it.

    ``outcome_unknown`` is true if it may have been carried out. ``pause`` is the
    longest pause before the next attempt, in seconds.
    """

    def __init__(
        self, reason: str, *, outcome_unknown: bool = False, retryable: bool = True, pause: float = PAUSE
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome_unknown = outcome_unknown
        self.retryable = retryable
        self.pause = pause


class DynamoDBRefusal(Exception):
    """DynamoDB refuses the request itself: the deployment or this code is wrong."""


class InvalidSignature(DynamoDBRefusal):
    """A refusal that our clock may have caused; ``date`` is DynamoDB's time, as HTTP writes it."""

    def __init__(self, code: str, message: str, date: str) -> None:
        super().__init__(message)
        self.code = code
        self.date = date


def read_answer(response: Response) -> dict[str, Any]:
    """Return the JSON object of a successful answer.

    Raises:
        Failed: the attempt failed.
        ConditionFailed: the request's condition is false.
        DynamoDBRefusal: the request itself is wrong.
    """
    status = response.status
    answer = _json_object(response.body)
    if status >= _SERVER_ERROR:
        raise Failed(_code(answer) or str(status), outcome_unknown=True)
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(response.body)):
        raise Failed("CorruptAnswer", outcome_unknown=True)
    if status == _TOO_MANY:
        raise Failed(str(status), pause=_PAUSE_WHEN_THROTTLED)
    # DynamoDB's own answers have a request id. Any other is from a proxy, which may have passed the
    # request on if it reports success.
    is_success = _OK <= status < _REDIRECTION
    if answer is None or "x-amzn-requestid" not in response.headers:
        raise Failed(
            "NotDynamoDB" if is_success else str(status), outcome_unknown=is_success, retryable=False
        )
    code = _code(answer)
    if status == _OK and code is None:
        return answer
    if status != _BAD_REQUEST or code is None:
        raise Failed("NotDynamoDB", outcome_unknown=is_success, retryable=False)
    raise _error_of(code, answer, response.headers.get("date", ""))


def _error_of(code: str, answer: dict[str, Any], date: str) -> Exception:
    """Return the exception for DynamoDB's error *code*."""
    message = f"{code}: {answer.get('message')}"
    if code == CONDITION_FAILED:
        return ConditionFailed(answer.get("Item"), outcome_unknown=False)
    if code in THROTTLED:
        return Failed(code, pause=_PAUSE_WHEN_THROTTLED)
    if code in CREDENTIALS_REFUSED:
        return Failed(code, pause=0)  # others may be accepted
    if code in _SKEWED:
        return InvalidSignature(code, message, date)
    return DynamoDBRefusal(message)


def _code(answer: dict[str, Any] | None) -> str | None:
    """Return the short error name; ``None`` if the answer is no DynamoDB error."""
    kind = (answer or {}).get("__type")
    return kind.rpartition("#")[2] or None if isinstance(kind, str) else None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
