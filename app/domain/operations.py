"""The operators' use cases: list connections, get one, evict one, mint a ticket."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import MAX_CONNECTION_DURATION, ProbeResult, age_of, is_within_grace
from app.domain.model import Connection, ConnectionId, account_id, client_id, region_name
from app.domain.ports import Clock, ConnectionTable, Gateway, TicketStore
from app.domain.selection import Page, Selection
from app.domain.tickets import MAX_TICKET_LIFETIME, Ticket


@dataclass(frozen=True, slots=True)
class ListConnections:
    """List the live connections.

    A connection past its ``expires_at`` or past the platform's longest
    duration is not live, even if the table still has it. Neither is one of
    unknown age: the sweep probes it.
    """

    table: ConnectionTable
    clock: Clock

    def __call__(self, selection: Selection, after: str | None = None) -> Page:
        """Return a page of live connections: the first, or the one *after* a page's ``next``.

        A page may have few connections or none and still a ``next``, since
        connections that are not live are left out. Only the last page has none.

        Raises:
            InvalidSelection: *after* is not the token of a page of this selection.
            StorageUnavailable: the store did not answer in time.
        """
        page = self.table.page(selection, after)
        now = self.clock.now()
        return Page(tuple(it for it in page.connections if _is_live(it, now)), page.next)

    def all(self, selection: Selection) -> Iterator[Connection]:
        """Yield all live connections in the table's order; pages are fetched on demand.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """
        page = self(selection)
        yield from page.connections
        while page.next is not None:
            page = self(selection, page.next)
            yield from page.connections


@dataclass(frozen=True, slots=True)
class GetConnection:
    """Get one live connection."""

    table: ConnectionTable
    clock: Clock

    def __call__(self, connection_id: ConnectionId) -> Connection | None:
        """Return the connection, consistent with every earlier write; ``None`` if it is not live.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        connection = self.table.get(connection_id)
        return connection if connection is not None and _is_live(connection, self.clock.now()) else None


@dataclass(frozen=True, slots=True)
class Eviction:
    """The result of an eviction: the gateway's answer, and what it proves.

    ``ended`` is true if the connection is known to have ended, ``deleted`` if
    its entry was deleted, too.
    """

    connection: Connection
    result: ProbeResult
    ended: bool
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class EvictConnection:
    """Close a connection through the gateway and delete its entry."""

    table: ConnectionTable
    gateway: Gateway
    clock: Clock
    grace: timedelta

    def find(self, connection_id: ConnectionId) -> Connection | None:
        """Return the connection that would be evicted, live or not; ``None`` if there is none.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        return self.table.get(connection_id)

    def close(self, connection: Connection) -> Eviction:
        """Close *connection*, and leave its entry to the caller.

        It has ended if the gateway closed it, or if the gateway does not have
        it and it is past its *grace*. On any other answer it may be open.
        """
        result = self.gateway.close(connection)
        ended = result is ProbeResult.CLOSED or (
            result is ProbeResult.GONE and not is_within_grace(connection, self.clock.now(), self.grace)
        )
        return Eviction(connection, result, ended)

    def __call__(self, connection_id: ConnectionId) -> Eviction | None:
        """Evict the connection; ``None`` if there is none.

        The entry is deleted once the connection has ended, since its
        ``$disconnect`` may never come.

        Raises:
            StorageUnavailable: the store did not answer in time, and nothing was closed.
        """
        connection = self.find(connection_id)
        if connection is None:
            return None
        eviction = self.close(connection)
        if not eviction.ended:
            return eviction
        try:
            self.table.delete_exact(connection)
        except StorageUnavailable:
            if eviction.result is not ProbeResult.CLOSED:
                raise
            return eviction  # its $disconnect or a sweep deletes the entry
        return replace(eviction, deleted=True)


@dataclass(frozen=True, slots=True)
class MintTicket:
    """Mint a ticket. *new_secret* returns 256 random bits, fit for a URL."""

    tickets: TicketStore
    clock: Clock
    new_secret: Callable[[], str]

    def __call__(self, client: str, account: str, region: str, lifetime: timedelta) -> Ticket:
        """Return a new ticket that is good for *lifetime*, at most MAX_TICKET_LIFETIME.

        Raises:
            InvalidHandshake: the client, the account or the region breaks its rule.
            StorageUnavailable: the store did not confirm in time.
        """
        expires_at = self.clock.now() + min(lifetime, MAX_TICKET_LIFETIME)
        ticket = Ticket(
            self.new_secret(), client_id(client), account_id(account), region_name(region), expires_at
        )
        self.tickets.add(ticket)
        return ticket


def _is_live(connection: Connection, now: datetime) -> bool:
    age = age_of(connection, now)
    return now < connection.expires_at and age is not None and age < MAX_CONNECTION_DURATION
