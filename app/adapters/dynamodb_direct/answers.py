"""What an answer to one attempt says: that it is done, that it may be tried again, or that it can't be."""

import json
import zlib
from typing import Any

from app.adapters.dynamodb_direct.http import Response
from app.adapters.dynamodb_wire import CONDITION_FAILED, CREDENTIALS_REFUSED, THROTTLED

# HTTP; http.HTTPStatus would cost a start 2 ms
_OK = 200
_REDIRECTION = 300  # and above, no success
_BAD_REQUEST = 400  # all that DynamoDB refuses
_TOO_MANY = 429
_SERVER_FAULT = 500  # and above

_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestInTheFuture"})

PAUSE = 0.025
"""Seconds at most before the first retry, twice that before the next: the SDK's for DynamoDB."""
_PAUSE_WHEN_THROTTLED = 0.25  # likewise; the SDK's is 1, but a person waits for this answer


class Failed(Exception):
    """An attempt that DynamoDB, or whoever stands before it, did not let succeed.

    ``unheard`` is true where it may have been carried out all the same,
    ``pause`` the seconds at most before another.
    """

    def __init__(
        self, reason: str, *, unheard: bool = False, retryable: bool = True, pause: float = PAUSE
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unheard = unheard
        self.retryable = retryable
        self.pause = pause


class ConditionFailed(Exception):
    """What is there does not let the request be carried out: ``row``, where that was asked for."""

    def __init__(self, row: object) -> None:
        super().__init__()
        self.row = row


class DynamoDBRefusal(Exception):
    """DynamoDB refuses a request for what it is: the deployment or this code is wrong."""


class InvalidSignature(DynamoDBRefusal):
    """A refusal for which our clock may be to blame; ``date`` is what DynamoDB's says."""

    def __init__(self, code: str, message: str, date: str) -> None:
        super().__init__(message)
        self.code = code
        self.date = date


def read_answer(response: Response) -> dict[str, Any]:
    """What DynamoDB answers.

    Raises:
        Failed: it is no answer to go by.
        ConditionFailed: the condition of the request failed.
        DynamoDBRefusal: the request can't succeed as it is.
    """
    status = response.status
    answer = _json_object(response.body)
    if status >= _SERVER_FAULT:
        raise Failed(_code(answer) or str(status), unheard=True)
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(response.body)):
        raise Failed("CorruptAnswer", unheard=True)
    if status == _TOO_MANY:
        raise Failed(str(status), pause=_PAUSE_WHEN_THROTTLED)
    # DynamoDB's own answers have a request id. Any other is from somebody in between, who may say what it
    # likes, and may have passed the request on where it says that all is well.
    is_success = _OK <= status < _REDIRECTION
    if answer is None or "x-amzn-requestid" not in response.headers:
        raise Failed("NotDynamoDB" if is_success else str(status), unheard=is_success, retryable=False)
    code = _code(answer)
    if status == _OK and code is None:
        return answer
    if status != _BAD_REQUEST or code is None:
        raise Failed("NotDynamoDB", unheard=is_success, retryable=False)
    raise _meaning_of(code, answer, response.headers.get("date", ""))


def _meaning_of(code: str, answer: dict[str, Any], date: str) -> Exception:
    """What DynamoDB's error *code* is to us."""
    message = f"{code}: {answer.get('message')}"
    if code == CONDITION_FAILED:
        return ConditionFailed(answer.get("Item"))
    if code in THROTTLED:
        return Failed(code, pause=_PAUSE_WHEN_THROTTLED)
    if code in CREDENTIALS_REFUSED:
        return Failed(code, retryable=False)
    if code in _SKEWED:
        return InvalidSignature(code, message, date)
    return DynamoDBRefusal(message)


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
