"""API Gateway's WebSocket events as domain values, and its answers.

The shapes are those of AWS's developer guide ('Set up a WebSocket API
integration request') and of captured events. A malformed event, such as a
misrouted test event, gets an answer and no traceback.
"""

from datetime import UTC, datetime, timedelta
from typing import NotRequired, TypedDict, TypeIs

from app.domain.errors import InvalidHandshake
from app.domain.model import PROTOCOL, ConnectionId, Disconnect, Handshake, clean, connection_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Response(TypedDict):
    """The answer of a proxy integration. Any status but 2xx refuses the handshake with that status."""

    statusCode: int
    body: str
    headers: NotRequired[dict[str, str]]


def response(status: int, body: str) -> Response:
    """Return the answer with an HTTP *status* and a plain-text *body*."""
    return {"statusCode": status, "body": body}


def connected(handshake: Handshake) -> Response:
    """Return the answer that completes *handshake*.

    A browser that offers subprotocols closes the connection unless the answer
    has one of them (RFC 6455, 4.1).
    """
    answer = response(200, "connected")
    if PROTOCOL in handshake.offered_protocols():
        answer["headers"] = {"Sec-WebSocket-Protocol": PROTOCOL}
    return answer


def route_key(event: object) -> str | None:
    """Return the event's route, such as ``$connect``."""
    return clean(_text(_context(event), "routeKey"))


def known_connection_id(event: object) -> str | None:
    """Return the connection id as it is, for the log only."""
    return clean(_text(_context(event), "connectionId"))


def handshake(event: object) -> Handshake:
    """Return the handshake in a ``$connect`` event.

    Raises:
        InvalidHandshake: it has no connection id, or its query is no map of text.
    """
    context = _context(event)
    identity = _section(context, "identity")
    headers = _headers(event)
    return Handshake(
        connection_id=_connection_id(context),
        query=_query(event),
        headers=headers,
        peer_address=_text(identity, "sourceIp"),
        user_agent=_text(identity, "userAgent") or next(iter(headers.get("user-agent", ())), None),
        connected_at=_time(context, "connectedAt"),
        api_id=_text(context, "apiId"),
        domain_name=_text(context, "domainName"),
        stage=_text(context, "stage"),
        principal_id=_text(_section(context, "authorizer"), "principalId"),
    )


def disconnect(event: object) -> Disconnect:
    """Return the disconnect in a ``$disconnect`` event; its code and reason may be missing or null.

    Raises:
        InvalidHandshake: it has no connection id.
    """
    context = _context(event)
    code = context.get("disconnectStatusCode")
    return Disconnect(
        connection_id=_connection_id(context),
        connected_at=_time(context, "connectedAt"),
        disconnected_at=_time(context, "requestTimeEpoch"),
        status_code=code if _is_integer(code) else None,
        reason=clean(_text(context, "disconnectReason")),
    )


def _context(event: object) -> dict[str, object]:
    return _section(event, "requestContext")


def _connection_id(context: dict[str, object]) -> ConnectionId:
    text = _text(context, "connectionId")
    if text is None:
        raise InvalidHandshake("requestContext.connectionId", "is missing")
    return connection_id(text)


def _query(event: object) -> dict[str, str]:
    """Return the query without empty values; of a repeated name, the gateway sends the last value."""
    query = event.get("queryStringParameters") if isinstance(event, dict) else None
    if query is None:
        return {}
    if not isinstance(query, dict) or not all(
        value is None or isinstance(value, str) for value in query.values()
    ):
        raise InvalidHandshake("queryStringParameters", "must be a map of text")
    return {name: value for name, value in query.items() if value}


def _headers(event: object) -> dict[str, list[str]]:
    """Return all headers by lower-case name; ``multiValueHeaders`` has every value of a repeated one."""
    headers: dict[str, list[str]] = {}
    for given, values in _section(event, "multiValueHeaders").items():
        if isinstance(values, list):
            name = given.lower()
            texts = [value for value in values if isinstance(value, str)]
            headers[name] = headers[name] + texts if name in headers else texts
    for given, value in _section(event, "headers").items():
        name = given.lower()
        if name not in headers and isinstance(value, str):
            headers[name] = [value]
    return headers


def _section(parent: object, name: str) -> dict[str, object]:
    """Return a map inside a map; empty if it is missing, null or no map."""
    section = parent.get(name) if isinstance(parent, dict) else None
    return section if isinstance(section, dict) else {}


def _text(section: dict[str, object], name: str) -> str | None:
    text = section.get(name)
    return text if isinstance(text, str) and text else None


def _time(section: dict[str, object], name: str) -> datetime | None:
    """Return a time given in epoch milliseconds; ``None`` if it is no time."""
    milliseconds = section.get(name)
    if not _is_integer(milliseconds):
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _is_integer(value: object) -> TypeIs[int]:
    return isinstance(value, int) and not isinstance(value, bool)
