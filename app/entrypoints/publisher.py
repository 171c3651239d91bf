"""Domain events as log records, with an event name and their facts."""

import logging

from app.domain.events import (
    EVENT_NAMES,
    Ended,
    Event,
    Expired,
    NotReplaced,
    Replaced,
    Revived,
    facts_of,
)
from app.domain.presence import Joined, Left

logger = logging.getLogger("switchboard")

_LOG_RECORDS: dict[type[Event], tuple[int, str]] = {
    Joined: (logging.INFO, "client joined"),
    Left: (logging.INFO, "client left"),
    Replaced: (logging.INFO, "connection replaced"),
    Expired: (logging.WARNING, "connection expired"),
    NotReplaced: (logging.WARNING, "connection not replaced"),
    Ended: (logging.INFO, "connection ended"),
    Revived: (logging.WARNING, "connection revived, and deleted again"),
}


class LogPublisher:
    """EventPublisher that writes a log record."""

    def publish(self, event: Event) -> None:
        kind = type(event)
        level, text = _LOG_RECORDS[kind]
        logger.log(level, text, extra={"event": EVENT_NAMES[kind]} | facts_of(event))
