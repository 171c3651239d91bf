"""What the use cases need of the world outside, as promises that adapters keep."""

from datetime import datetime
from typing import Protocol

from app.domain.model import Connection, ConnectionId, Handshake, Removed


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """The current time: aware, in UTC, in whole milliseconds."""


class IpResolver(Protocol):
    """The rule by which a client's address is told from what the gateway and proxies say."""

    def resolve(self, handshake: Handshake) -> str:
        """The client's address in its canonical text form (RFC 5952 for IPv6), or empty if there is none.

        Never anything that is not an IP address, whatever the handshake says.
        """


class ConnectionStore(Protocol):
    """The set of open connections. Every adapter passes tests/contract."""

    def add(self, connection: Connection) -> Connection:
        """Remember *connection*; where its id is known already, the first one stays as it is.

        Returns what is in the store then: *connection*, or that first one.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def remove(self, connection_id: ConnectionId) -> Removed:
        """Forget a connection and tell what was known of it; an unknown id is no error.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def get(self, connection_id: ConnectionId) -> Connection | None:
        """What is known of a connection, every earlier ``add`` and ``remove`` included.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
