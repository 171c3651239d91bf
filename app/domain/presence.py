"""What follows from a change of the list: who is present, what is told of it, which connections go."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event

from app.domain.model import Connection, is_older
from app.domain.ports import Clock, ConnectionRegistry, Gateway, PresenceStore
from app.domain.upkeep import (
    Answer,
    Change,
    Client,
    ConnectionRef,
    Entry,
    Presence,
    Tombstone,
    Turn,
    VisitId,
    is_young,
    parts_of,
    ref_marked,
    ref_of,
)


@dataclass(frozen=True, slots=True)
class Expired:
    """The store forgot the connection, its time being over: nobody had said that it closed."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Joined:
    """The client has a connection and had none before; of one visit it may be told again."""

    client: Client
    visit: VisitId


@dataclass(frozen=True, slots=True)
class Left:
    """The client's last connection is gone; of one visit it may be told again."""

    client: Client
    visit: VisitId


@dataclass(frozen=True, slots=True)
class Replaced:
    """The client connected again, so its older connection was ended and forgotten.

    *answer* is ``CLOSED``, or ``GONE`` where it had ended unnoticed.
    """

    connection: Connection
    answer: Answer


@dataclass(frozen=True, slots=True)
class NotReplaced:
    """The client connected again, and its older connection stays: the gateway did not say that it ended."""

    connection: Connection
    answer: Answer


@dataclass(frozen=True, slots=True)
class Revived:
    """A late or repeated write had brought back a connection that had left; it is forgotten again."""

    connection: Connection


type Fact = Expired | Joined | Left | Replaced | NotReplaced | Revived
type Tell = Callable[[Fact], None]

_VISIT_FACTS: dict[Turn, type[Joined | Left]] = {Turn.JOINED: Joined, Turn.LEFT: Left}


@dataclass(frozen=True, slots=True)
class FollowChanges:
    """Draw the consequences of what became of one id.

    The changes of one id come in their order, those of several ids in any. A
    change may come again, with those of its id that came after it, whatever
    had been done of them: no matter where it stopped, nothing is lost, and no
    visit begins or ends for a second time; where an item was changed in place,
    its visit may be told of again, under the same id.
    """

    registry: ConnectionRegistry
    presence: PresenceStore
    gateway: Gateway
    clock: Clock
    grace: timedelta
    """Of a connection younger than that, ``GONE`` may mean that its handshake is not answered yet."""
    replaces_duplicates: bool = False
    concurrency: int = 1
    """How many connections are closed at once."""

    def __call__(self, change: Change, tell: Tell, *, until: datetime) -> None:
        """Take *change* in, and *tell* each fact that comes of it; from *until* on nothing more is closed.

        Where connections are closed, *tell* may be called by several threads.

        Raises:
            StorageUnavailable: a store did not confirm in time; the change has to come again.
        """
        if isinstance(change.after, Tombstone):
            self._heed_mark(change.after)
        before, after = _connection(change.before), _connection(change.after)
        if before is not None and after is not None and not _is_newer(after, before):
            self._rewritten(before, after, tell)
            return
        if before is not None:
            self._went(before, tell, expired=change.expired)
        if after is not None:
            self._came(after, tell, until)

    def _heed_mark(self, mark: Tombstone) -> None:
        """A connection that closed before it was recorded has left, too, should it be recorded yet.

        Its mark need not be there by then: a newer connection may have had the
        id, and closed, since.
        """
        if ref := ref_marked(mark):
            self.presence.mark_left(ref)

    def _went(self, connection: Connection, tell: Tell, *, expired: bool) -> None:
        ref = ref_of(connection)
        if expired and not self.presence.has_left(ref):
            tell(Expired(connection))
        self.presence.mark_left(ref)  # first, or the next delivery of its coming would begin a visit
        if client := Client.of(connection):
            self._step(client, lambda presence: presence.went(ref), tell)

    def _rewritten(self, before: Connection, after: Connection, tell: Tell) -> None:
        """The item was changed in place: the connection stays, and so does its client, under another ref."""
        old, new = ref_of(before), ref_of(after)
        client = Client.of(before)
        if client is None or old == new:
            return
        if not self._has_left(old, new):
            self._step(client, lambda presence: presence.came(new), tell)
        # It may have left since: the change was followed before, or by another worker, who is ahead.
        if self._has_left(old, new):
            self._step(client, lambda presence: presence.went(old).went(new), tell)

    def _has_left(self, *refs: ConnectionRef) -> bool:
        return any(self.presence.has_left(ref) for ref in refs)

    def _came(self, connection: Connection, tell: Tell, until: datetime) -> None:
        ref = ref_of(connection)
        if self.presence.has_left(ref):
            self._came_too_late(connection, tell)
            return
        client = Client.of(connection)
        if client is None:
            return
        presence = self._step(client, lambda presence: presence.came(ref), tell)
        # Two workers may have the same change, where one that was given up goes on. The other one may have
        # come to the connection's going since we looked.
        if self.presence.has_left(ref):
            self._came_too_late(connection, tell)
        elif self.replaces_duplicates:
            self._replace_older(client, presence.connections, tell, until)

    def _came_too_late(self, connection: Connection, tell: Tell) -> None:
        """A delivery of what had come and gone already, or a dead row that a late write brought back."""
        ref = ref_of(connection)
        if client := Client.of(connection):
            self._step(client, lambda presence: presence.went(ref), tell)
        if self.registry.get(connection.id) == connection:
            tell(Revived(connection))
            self.registry.forget(connection)

    def _step(self, client: Client, step: Callable[[Presence], Presence], tell: Tell) -> Presence:
        """Change the client's presence, tell what has to be told of it, and only then strike that out."""
        presence = self.presence.change(client, step)
        if events := presence.untold:
            for event in events:
                tell(_VISIT_FACTS[event.turn](client, event.visit))
            self.presence.change(client, lambda presence: presence.told(events))
        return presence

    def _replace_older(
        self, client: Client, refs: frozenset[ConnectionRef], tell: Tell, until: datetime
    ) -> None:
        """End all of a client's connections but the newest, several at once.

        Of two that come at once, the later one's presence holds both, which no
        index promises.
        """
        older = sorted(refs, key=_age_order)[:-1]
        if not older:
            return
        failed = Event()

        def replace_one(ref: ConnectionRef) -> None:
            if failed.is_set():  # the change has to come again, and with it this one
                return
            try:
                self._replace(client, ref, tell, until)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(min(self.concurrency, len(older)), thread_name_prefix="replace") as pool:
            closings = [pool.submit(replace_one, ref) for ref in older]
        for closing in closings:
            closing.result()  # raises what was raised there

    def _replace(self, client: Client, ref: ConnectionRef, tell: Tell, until: datetime) -> None:
        connection = self.registry.get(parts_of(ref)[0])
        if connection is None or ref_of(connection) != ref or Client.of(connection) != client:
            return
        is_late = self.clock.now() >= until
        answer = Answer.FAILED if is_late else self.gateway.close(connection)
        if self._has_ended(connection, answer):
            tell(Replaced(connection, answer))  # first: it may come again, but must not be lost
            self.registry.forget(connection)
        else:
            tell(NotReplaced(connection, answer))

    def _has_ended(self, connection: Connection, answer: Answer) -> bool:
        if answer is Answer.GONE:
            return not is_young(connection, self.clock.now(), self.grace)
        return answer is Answer.CLOSED


def _connection(entry: Entry | None) -> Connection | None:
    return entry if isinstance(entry, Connection) else None


def _is_newer(after: Connection, before: Connection) -> bool:
    """Whether *after* is another connection; where a time is unknown, or goes back, it is the same one."""
    return is_older(before.connected_at, after.connected_at)


def _age_order(ref: ConnectionRef) -> tuple[int, ConnectionRef]:
    return parts_of(ref)[1], ref
