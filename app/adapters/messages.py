"""The messages in the queue as domain values: our own contract, EventBridge's events, SNS's envelopes.

And what Switchboard itself tells a client, which has no id.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from app.domain.delivery import Audience, Message, MessageId
from app.domain.errors import InvalidHandshake, InvalidMessage
from app.domain.model import MAX_NAME, account_id, client_id, connection_id, region_name

type Fields = Mapping[str, Any]

_OURS = {"id", "type", "audience", "data", "expiresAt"}
_EVENTBRIDGE = {"version", "id", "detail-type", "source", "account", "time", "region", "detail"}
_SNS = {"Type", "MessageId", "TopicArn", "Message", "Timestamp"}
_AUDIENCE = {"account", "region", "client", "connection", "everyone"}
_MAX_TYPE = 256  # characters


def message_from(body: str, sent_at: datetime) -> tuple[Message, Audience]:
    """Return the message in the *body* of a queue's message, and its audience.

    *sent_at* is when the body was put into the queue: the message's time, unless
    it has one of its own.

    Raises:
        InvalidMessage: it is none of the three kinds, or one of its fields is wrong.
    """
    fields = _object(body, "The message")
    if fields.keys() >= _SNS and fields["Type"] == "Notification":
        sent_at = _time(fields["Timestamp"], "The SNS envelope's Timestamp")
        fields = _object(fields["Message"], "The message in the SNS envelope")
    if fields.keys() >= _EVENTBRIDGE:
        return _from_eventbridge(fields)
    return _from_ours(fields, sent_at)


def message(content: Fields, audience: Audience, time: datetime, expires_at: datetime | None) -> Message:
    """Return the message that has the ``id``, ``type`` and ``data`` of *content*.

    Raises:
        InvalidMessage: the id or the type is empty, too long, or has control characters.
    """
    for field, most in (("id", MAX_NAME), ("type", _MAX_TYPE)):
        text = content[field]
        if not (isinstance(text, str) and 1 <= len(text) <= most and text.isprintable()):
            raise InvalidMessage(f"The message's {field} must be 1 to {most} printable characters.")
    if content["id"].startswith("@"):
        raise InvalidMessage("The message's id must not begin with @, as a position in the history does.")
    name, type_, data = content["id"], content["type"], content["data"]
    moment = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    frame = _encoded({"id": name, "time": moment, "type": type_, "data": data})
    told_apart_by = _encoded([type_, data, str(audience)], sort_keys=True)
    digest = hashlib.sha256(told_apart_by).hexdigest()[:32]
    return Message(MessageId(name), time, type_, frame, digest, expires_at)


class JsonNotices:
    """Notices in JSON."""

    def gap(self, since: str) -> bytes:
        return _encoded({"type": "gap", "since": since})

    def caught_up(self, since: str) -> bytes:
        return _encoded({"type": "caught_up", "since": since})


def audience_from(given: object) -> Audience:
    """Return the audience that *given*, a JSON value, describes.

    Raises:
        InvalidMessage: it does not describe one.
    """
    if not isinstance(given, dict):
        raise InvalidMessage("The message's audience must be an object.")
    if given.keys() - _AUDIENCE:  # not named: a message's content must not get into the log
        raise InvalidMessage(f"The audience may have {', '.join(sorted(_AUDIENCE))}, and no other field.")
    if "everyone" in given and given["everyone"] is not True:
        raise InvalidMessage("The audience's everyone must be true, or left out.")
    texts = {name: value for name, value in given.items() if name != "everyone"}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise InvalidMessage(f"The audience's {name} must be text.")
    try:
        return Audience(
            account=account_id(texts["account"]) if "account" in texts else None,
            region=region_name(texts["region"]) if "region" in texts else None,
            client_id=client_id(texts["client"]) if "client" in texts else None,
            connection_id=connection_id(texts["connection"]) if "connection" in texts else None,
            everyone="everyone" in given,
        )
    except InvalidHandshake as error:
        name = {"clientId": "client", "connectionId": "connection"}.get(error.field, error.field)
        raise InvalidMessage(f"The audience's {name}{str(error).removeprefix(error.field)}") from None


def _from_eventbridge(event: Fields) -> tuple[Message, Audience]:
    """Return an event as the message of its account and region."""
    audience = audience_from({"account": event["account"], "region": event["region"]})
    time = _time(event["time"], "The event's time")
    content = {"id": event["id"], "type": event["detail-type"], "data": event["detail"]}
    return message(content, audience, time, None), audience


def _from_ours(fields: Fields, sent_at: datetime) -> tuple[Message, Audience]:
    if fields.keys() - _OURS:
        raise InvalidMessage(f"A message may have {', '.join(sorted(_OURS))}, and no other field.")
    if missing := _OURS - {"expiresAt"} - fields.keys():
        raise InvalidMessage(f"The message has no {', '.join(sorted(missing))}.")
    audience = audience_from(fields["audience"])
    expires_at = _time(fields["expiresAt"], "The message's expiresAt") if "expiresAt" in fields else None
    return message(fields, audience, sent_at, expires_at), audience


def _object(text: object, what: str) -> Fields:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidMessage(f"{what} must be a JSON object.")
    return value


def _time(text: object, what: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise InvalidMessage(f"{what} must be a time with its zone, such as 2026-11-21T12:00:00Z.")


def _encoded(value: object, *, sort_keys: bool = False) -> bytes:
    """Return *value* as JSON in UTF-8; what UTF-8 can't carry is escaped.

    Raises:
        InvalidMessage: it has a number that JSON can't carry, such as Infinity.
    """
    encode = partial(json.dumps, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    try:
        return encode(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return encode(value).encode()
    except ValueError:
        raise InvalidMessage("The message's data has a number that JSON can't carry.") from None
    except RecursionError:
        raise InvalidMessage("The message's data is nested too deeply.") from None
