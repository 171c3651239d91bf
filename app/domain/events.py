"""The domain events that follow from a change of the table."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection
from app.domain.presence import Joined, Left, PresenceEvent


@dataclass(frozen=True, slots=True)
class Expired:
    """The store deleted the connection after its ``expires_at``: its disconnect was missed."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Replaced:
    """The client has too many connections; this one has ended and is being deleted."""

    connection: Connection
    result: ProbeResult


@dataclass(frozen=True, slots=True)
class NotReplaced:
    """The client has too many connections; this one stays, since nothing proves that it ended."""

    connection: Connection
    result: ProbeResult


@dataclass(frozen=True, slots=True)
class Revived:
    """A late or repeated write brought back a connection that had left; it is deleted again."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection's admission was over; it has been closed and is being deleted."""

    connection: Connection


type Event = PresenceEvent | Expired | Replaced | NotReplaced | Revived | Ended

EVENT_NAMES: Mapping[type[Event], str] = {
    Joined: "presence.joined",
    Left: "presence.left",
    Expired: "connection.expired",
    Replaced: "connection.replaced",
    NotReplaced: "connection.not_replaced",
    Revived: "connection.revived",
    Ended: "connection.ended",
}
"""The name under which each event is published, in the log and elsewhere."""


def facts_of(event: Event) -> dict[str, str]:
    """Return what is published of *event*, by its public names."""
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
