"""Domain events as log records, with an event name and their facts."""

import logging

from app.domain.events import Ended, Event, Expired, NotReplaced, Replaced, Revived
from app.domain.presence import Joined, Left

logger = logging.getLogger("switchboard")

_LOG_RECORDS: dict[type[Event], tuple[int, str, str]] = {
    Joined: (logging.INFO, "presence.joined", "client joined"),
    Left: (logging.INFO, "presence.left", "client left"),
    Replaced: (logging.INFO, "connection.replaced", "connection replaced"),
    Expired: (logging.WARNING, "connection.expired", "connection expired"),
    NotReplaced: (logging.WARNING, "connection.not_replaced", "connection not replaced"),
    Ended: (logging.INFO, "connection.ended", "connection ended"),
    Revived: (logging.WARNING, "connection.revived", "connection revived, and deleted again"),
}


class LogPublisher:
    """EventPublisher that writes a log record."""

    def publish(self, event: Event) -> None:
        level, name, text = _LOG_RECORDS[type(event)]
        logger.log(level, text, extra={"event": name} | _facts(event))


def _facts(event: Event) -> dict[str, str]:
    if isinstance(event, Joined | Left):
        client = event.client
        return {
            "clientId": client.client_id,
            "account": client.account,
            "region": client.region,
            "visitId": event.session,
        }
    connection = event.connection
    facts: dict[str, str] = {
        "connectionId": connection.id,
        "clientId": connection.client_id,
        "account": connection.account,
        "region": connection.region,
    }
    if isinstance(event, Replaced | NotReplaced):
        facts["answer"] = event.result.value
    if isinstance(event, Ended):
        facts["reason"] = "token_expired"
    return facts
