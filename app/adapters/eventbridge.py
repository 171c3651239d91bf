"""Domain events on a bus of Amazon EventBridge, through the SDK."""

import json
import logging
from datetime import timedelta
from typing import Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.domain.errors import EventsUnavailable
from app.domain.events import EVENT_NAMES, Event, Expired, facts_of
from app.domain.ports import EventPublisher
from app.domain.presence import Joined, Left

SOURCE: Final = "switchboard"
"""The source of each event on the bus."""


class EventBridgePublisher:
    """EventPublisher that puts who joined, left and expired onto a *bus*, and hands on every event to *log*.

    An event is handed on once the bus has taken it. The bus is one of the account,
    in *region*; it has to exist, since EventBridge drops events for any other without
    an error (https://github.com/aws/aws-sdk/issues/186). The *table* of connections
    is part of each event's detail: several stacks may share a bus. Thread-safe.
    """

    def __init__(
        self,
        log: EventPublisher,
        *,
        bus: str,
        table: str,
        region: str,
        connect_timeout: timedelta,
        read_timeout: timedelta,
        attempts: int,
    ) -> None:
        logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it logs where it found credentials
        self._log = log
        self._bus = bus
        self._table = table
        self._client = boto3.session.Session().client(
            "events",
            region_name=region,
            config=Config(
                connect_timeout=connect_timeout.total_seconds(),
                read_timeout=read_timeout.total_seconds(),
                retries={"mode": "standard", "total_max_attempts": attempts},
            ),
        )

    def publish(self, event: Event) -> None:
        if isinstance(event, Joined | Left | Expired):
            # ASCII, with escapes: a JSON parser of any kind reads it
            self._put(EVENT_NAMES[type(event)], json.dumps(facts_of(event) | {"table": self._table}))
        self._log.publish(event)

    def _put(self, name: str, detail: str) -> None:
        try:
            answer = self._client.put_events(
                Entries=[{"EventBusName": self._bus, "Source": SOURCE, "DetailType": name, "Detail": detail}]
            )
        except ClientError as error:
            raise EventsUnavailable(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise EventsUnavailable(type(error).__name__) from error
        [result] = answer.get("Entries") or [{}]  # none: an answer with 200 that is not EventBridge's
        if "EventId" not in result:
            raise EventsUnavailable(result.get("ErrorCode", "NotEventBridge"))
