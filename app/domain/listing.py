"""Reading the list: who is connected now, what is known of one, and ending one by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId
from app.domain.ports import Clock, ConnectionRegistry, Gateway
from app.domain.upkeep import LONGEST_CONNECTION, Answer, Page, Selection, age_of, is_young


@dataclass(frozen=True, slots=True)
class ListConnections:
    """Tell who is connected.

    A connection whose time is over, by its ``expires_at`` or by the gateway's
    longest, is left out, whether or not the store has forgotten it. So is one
    whose age nobody knows: the sweep asks the gateway of it.
    """

    registry: ConnectionRegistry
    clock: Clock

    def __call__(self, selection: Selection, after: str | None = None) -> Page:
        """A part of the list, from the start, or from where the page before ended (its ``next``).

        A page may have few connections, or none, and still a ``next``: what is
        over was counted as it was read. Only one without ``next`` is the last.

        Raises:
            InvalidSelection: *after* is not what a page gave.
            StorageUnavailable: the store did not answer in time.
        """
        page = self.registry.page(selection, after)
        now = self.clock.now()
        return Page(tuple(it for it in page.connections if _is_live(it, now)), page.next)

    def all(self, selection: Selection) -> Iterator[Connection]:
        """Page after page, in the store's order, each fetched when it is come to.

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
    """Tell what is known of one connection; ``None`` where the list does not have it."""

    registry: ConnectionRegistry
    clock: Clock

    def __call__(self, connection_id: ConnectionId) -> Connection | None:
        """The connection, by the list's rule, every earlier write included.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        connection = self.registry.get(connection_id)
        return connection if connection is not None and _is_live(connection, self.clock.now()) else None


@dataclass(frozen=True, slots=True)
class HungUp:
    """What became of a connection that was to be ended: the gateway's answer, and whether its row is gone."""

    connection: Connection
    answer: Answer
    forgotten: bool


@dataclass(frozen=True, slots=True)
class HangUp:
    """End a connection through the gateway, and forget it."""

    registry: ConnectionRegistry
    gateway: Gateway
    clock: Clock
    grace: timedelta

    def find(self, connection_id: ConnectionId) -> Connection | None:
        """What it would end: whatever has the id, its time over or not; ``None`` where nothing has it.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        return self.registry.get(connection_id)

    def __call__(self, connection_id: ConnectionId) -> HungUp | None:
        """End what has the id, and tell what became of it; ``None`` where nothing has it.

        What the gateway ended is forgotten here as well, since its
        ``$disconnect`` may never come; where the store fails to, that, or the
        sweep, is left to do it. What the gateway does not know is forgotten
        unless it is younger than *grace*, for its handshake may not be answered
        yet. On any other answer it stays.

        Raises:
            StorageUnavailable: the store did not answer in time, and nothing was ended.
        """
        connection = self.find(connection_id)
        if connection is None:
            return None
        answer = self.gateway.close(connection)
        if answer is Answer.CLOSED:
            return HungUp(connection, answer, forgotten=self._forget_or_leave(connection))
        if answer is Answer.GONE and not is_young(connection, self.clock.now(), self.grace):
            self.registry.forget(connection)
            return HungUp(connection, answer, forgotten=True)
        return HungUp(connection, answer, forgotten=False)

    def _forget_or_leave(self, connection: Connection) -> bool:
        try:
            self.registry.forget(connection)
        except StorageUnavailable:
            return False
        return True


def _is_live(connection: Connection, now: datetime) -> bool:
    age = age_of(connection, now)
    return now < connection.expires_at and age is not None and age < LONGEST_CONNECTION
