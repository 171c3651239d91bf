"""The domain events that follow from a change of the table."""

from dataclasses import dataclass

from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection
from app.domain.presence import PresenceEvent


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
