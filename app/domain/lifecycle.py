"""A connection's age, its identity among all that had its id, and what the gateway says of it."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

from app.domain.model import Connection, ConnectionId, Tombstone

MAX_CONNECTION_DURATION = timedelta(hours=2)
"""How long a WebSocket connection lasts at most (API Gateway's quotas page, 'Connection duration')."""
CLOCK_SKEW = timedelta(minutes=5)
"""Added to that duration before a connection counts as dead, since clocks differ."""

# The day on which WebSocket APIs were released. An earlier time is unusable: an unknown time reads as 1970,
# and so does one written in seconds instead of milliseconds.
_FIRST_DAY = datetime(2018, 12, 18, tzinfo=UTC)
_MAX_LEAD = timedelta(minutes=1)  # of another clock before ours; a time further ahead is unusable


class ProbeResult(StrEnum):
    """What the gateway answers when it is asked about a connection, or asked to close it."""

    ALIVE = "alive"
    CLOSED = "closed"
    GONE = "gone"
    """Not found. Also said of a connection whose handshake is still pending."""
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    """No usable answer, no time left to ask, or the connection's entry does not name its API."""


class ConnectionRef(NamedTuple):
    """One connection among all that ever had its id, told apart by when it began."""

    connection_id: ConnectionId
    began_at: datetime

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Return the ref of *connection*; it begins when it was recorded if the gateway's time is unknown."""
        return cls(connection.id, connection.connected_at or connection.created_at)

    @classmethod
    def of_tombstone(cls, tombstone: Tombstone) -> Self | None:
        """Return the ref of the connection that closed; ``None`` if its beginning is unknown."""
        return cls(tombstone.connection_id, tombstone.connected_at) if tombstone.connected_at else None

    @property
    def is_of_known_age(self) -> bool:
        """Whether ``began_at`` is usable."""
        return self.began_at >= _FIRST_DAY

    def must_have_ended_by(self, later: datetime) -> bool:
        """Return whether it began so long before *later* that it can't be open; false if unknown."""
        return self.is_of_known_age and later - self.began_at > MAX_CONNECTION_DURATION + CLOCK_SKEW


def began_at(connection: Connection) -> datetime | None:
    """Return when *connection* began: the gateway's time, else ours; ``None`` if neither is usable."""
    for began in (connection.connected_at, connection.created_at):
        if began is not None and began >= _FIRST_DAY:
            return began
    return None


def age_of(connection: Connection, now: datetime) -> timedelta | None:
    """Return the age of *connection*; negative if clocks differ, ``None`` if it is unknown."""
    began = began_at(connection)
    return None if began is None else now - began


def grace_ends_at(connection: Connection, grace: timedelta) -> datetime:
    """Return until when ``is_within_grace``, if it is."""
    return max(connection.connected_at or connection.created_at, connection.created_at) + grace


def is_within_grace(connection: Connection, now: datetime, grace: timedelta) -> bool:
    """Return whether the handshake of *connection* may still be pending.

    True if it began, or was recorded, less than *grace* ago. Both count: the
    gateway notes its time before it asks an authorizer, which may take 30 s.
    """
    times = (connection.connected_at, connection.created_at)
    return any(at is not None and -_MAX_LEAD <= now - at < grace for at in times)
