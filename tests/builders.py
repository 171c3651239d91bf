"""Builders of test values: complete by default, so that a test states only what it is about."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.domain.delivery import Message, MessageId
from app.domain.model import (
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    Disconnect,
    Handshake,
    RegionName,
)

NOON = datetime(2126, 11, 21, 12, 0, 0, tzinfo=UTC)
"""The tests' time, a century ahead: DynamoDB Local deletes items whose ``ttl`` is past by the real clock.

A time that is compared with the real clock comes from ``SystemClock`` instead.
"""
NOON_MS = int(NOON.timestamp()) * 1000
"""The same in epoch milliseconds."""

NEVER = datetime.max.replace(tzinfo=UTC)

type Event = dict[str, Any]


class Invocation:
    """Lambda's context of an invocation with that time remaining."""

    def __init__(self, remaining: timedelta = timedelta(minutes=4)) -> None:
        self._remaining = remaining

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining // timedelta(milliseconds=1)


def a_handshake(**changes: Any) -> Handshake:
    return Handshake(**{"connection_id": ConnectionId("c-1"), "peer_address": "203.0.113.24"} | changes)


def a_disconnect(**changes: Any) -> Disconnect:
    return Disconnect(**{"connection_id": ConnectionId("c-1")} | changes)


def a_connection(**changes: Any) -> Connection:
    whole: dict[str, Any] = {
        "id": ConnectionId("c-1"),
        "client_id": ClientId("dashboard-7"),
        "account": AccountId("123456789012"),
        "region": RegionName("ap-northeast-2"),
        "source_ip": "203.0.113.24",
        "created_at": NOON + timedelta(milliseconds=123),
        "expires_at": NOON + timedelta(hours=24),
        "user_agent": "Mozilla/5.0",
        "connected_at": NOON,
        "api_id": "a1b2c3d4e5",
        "domain_name": "ws.example.com",
        "stage": "prod",
        "principal_id": "user-42",
        "attributes": {"appVersion": "2.7"},
        "admitted_until": NOON + timedelta(hours=23),
        "since": "m-0",
    }
    return Connection(**whole | changes)


def a_message(**changes: Any) -> Message:
    whole: dict[str, Any] = {
        "id": MessageId("m-1"),
        "time": NOON,
        "type": "incident.opened",
        "frame": b'{"id":"m-1","time":"2126-11-21T12:00:00.000Z","type":"incident.opened","data":{}}',
        "digest": "0123456789abcdef",
    }
    return Message(**whole | changes)


def a_bare_connection() -> Connection:
    """A connection with only the mandatory attributes."""
    return Connection(
        id=ConnectionId("c-1"),
        client_id=ClientId("unknown"),
        account=AccountId(""),
        region=RegionName(""),
        source_ip="",
        created_at=NOON,
        expires_at=NOON + timedelta(hours=24),
    )


def an_event(name: str) -> Event:
    """A full-size event of tests/events, a new copy each time."""
    event: Event = json.loads((Path(__file__).parent / "events" / f"{name}.json").read_text())
    return event


def a_connect_event(connection_id: str = "c-1", **query: str) -> Event:
    """The browser's ``$connect`` event with another id and query."""
    event = an_event("connect_browser")
    event["requestContext"]["connectionId"] = connection_id
    event["queryStringParameters"] = query
    return event


def a_disconnect_event(connection_id: str = "c-1") -> Event:
    event = an_event("disconnect_client_closed_1005")
    event["requestContext"]["connectionId"] = connection_id
    return event
