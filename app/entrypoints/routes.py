"""The routes of the WebSocket API: each answers its event and logs one record of the outcome.

Lambda's JSON log format writes a record's ``extra`` as fields; the metric
filters in infra/template.yaml count records by their ``event``.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from app.domain.errors import AlreadyClosed, Denied, InvalidHandshake, KeysUnavailable, StorageUnavailable
from app.domain.handshakes import CloseConnection, OpenConnection
from app.domain.model import Connection
from app.entrypoints import events
from app.entrypoints.events import Response

logger = logging.getLogger("switchboard")

_NOT_GRANTED = ("origin", "client", "account", "region")
"""The reasons that are a 403; any other is a 401."""


class Routes:
    """The routes that API Gateway calls: a method for each, and one for both.

    A method takes the event and Lambda's context, and always answers: 200, 400
    for an invalid handshake, 401 without a good token, 403 for what is not
    granted, 410 for a client that has left, 503 if the store or the issuer's keys
    are unavailable, 500 for a bug.
    """

    def __init__(self, open_connection: OpenConnection, close_connection: CloseConnection) -> None:
        self._open_connection = open_connection
        self._close_connection = close_connection

    def connect(self, event: object, context: object) -> Response:
        """Answer ``$connect``: 200 ``connected`` once the connection is in the store."""
        return _answer("$connect", event, self._open)

    def disconnect(self, event: object, context: object) -> Response:
        """Answer ``$disconnect``: 200 ``disconnected`` once the connection is not in the store."""
        return _answer("$disconnect", event, self._close)

    def handler(self, event: object, context: object) -> Response:
        """Answer either route, by the event's ``requestContext.routeKey``."""
        match events.route_key(event):
            case "$connect":
                return self.connect(event, context)
            case "$disconnect":
                return self.disconnect(event, context)
            case other:
                return _answer(other, event, _refuse_route)

    def _open(self, event: object) -> Response:
        handshake = events.handshake(event)
        opened = self._open_connection(handshake)
        facts = {
            "event": "connection.opened",
            "connectionId": opened.connection.id,
            "repeated": opened.repeated,
        }
        logger.info("connection opened", extra=facts | _client_facts(opened.connection))
        return events.connected(handshake)

    def _close(self, event: object) -> Response:
        disconnect = events.disconnect(event)
        closed = self._close_connection(disconnect)
        removed, connection = closed.removed, closed.removed.connection
        facts: dict[str, object] = {
            "event": "connection.closed",
            "connectionId": disconnect.connection_id,
            "found": "unknown" if removed.outcome_unknown else connection is not None,
            "disconnectStatusCode": disconnect.status_code,
            "disconnectReason": disconnect.reason,
        }
        if connection is not None:
            facts |= _client_facts(connection)
        if closed.duration is not None:
            facts["durationMs"] = closed.duration // timedelta(milliseconds=1)
        logger.info("connection closed", extra=facts)
        return events.response(200, "disconnected")


def _refuse_route(event: object) -> Response:
    raise InvalidHandshake("requestContext.routeKey", "must be $connect or $disconnect")


def _answer(route: str | None, event: object, act: Callable[[object], Response]) -> Response:
    facts: dict[str, object] = {
        "route": route,
        "connectionId": events.known_connection_id(event),
    }
    try:
        return act(event)
    except InvalidHandshake as error:
        facts |= {"event": "handshake.rejected", "field": error.field}
        logger.warning("handshake rejected", extra=facts)
        return events.response(400, str(error))
    except (Denied, KeysUnavailable) as error:
        return _not_admitted(error, facts)
    except AlreadyClosed:
        facts["event"] = "handshake.too_late"
        logger.warning("handshake too late", extra=facts)
        return events.response(410, "The connection had ended before it was recorded.")
    except StorageUnavailable as error:
        facts |= {
            "event": "store.unavailable",
            "reason": error.reason,
            "write": "unknown" if error.outcome_unknown else "none",
        }
        logger.error("store unavailable", extra=facts)  # noqa: TRY400 - expected, so no traceback
        return events.response(503, "The list of connections is unavailable; try again.")
    except Exception:  # a bug: logged whole, and the client sees nothing of it
        logger.exception("bug", extra=facts | {"event": "bug"})
        return events.response(500, "Internal error.")


def _not_admitted(error: Denied | KeysUnavailable, facts: dict[str, object]) -> Response:
    """Log a refusal and answer it; neither says anything of the token but whose it is, if that is sure."""
    if isinstance(error, KeysUnavailable):
        facts |= {"event": "keys.unavailable", "reason": error.reason}
        logger.error("keys unavailable", extra=facts)
        return events.response(503, "Tokens can't be checked now; try again.")
    facts |= {"event": "handshake.denied", "reason": error.reason, "sourceIp": error.source_ip}
    if error.principal is not None:
        facts["principalId"] = error.principal
    if error.origin is not None:
        facts["origin"] = error.origin
    logger.warning("handshake denied", extra=facts)
    if error.reason in _NOT_GRANTED:
        return events.response(403, "This is not granted.")
    return events.response(401, "A valid token or ticket is required.")


def _client_facts(connection: Connection) -> dict[str, object]:
    return {
        "clientId": connection.client_id,
        "account": connection.account,
        "region": connection.region,
        "sourceIp": connection.source_ip,
        "userAgent": connection.user_agent,
    }
