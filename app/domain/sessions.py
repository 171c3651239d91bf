"""The sessions of clients: who has joined, and who has left, however many connections a client has."""

from dataclasses import dataclass
from datetime import datetime

from app.domain.lifecycle import ConnectionRef
from app.domain.ports import Clock, PresenceStore
from app.domain.presence import Client, Presence, SessionId

ROOM = 8
"""Connections in a presence itself; beside as many departures, its item stays under 1 KB, one write unit."""
ROOM_FOR_DEPARTURES = 56
"""Departures of a day in a presence: with them it is read in 4 KB, one read unit."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Begins a client's session with its first connection, and ends it with the last.

    Idempotent under ordered, at-least-once delivery: the connections of one id
    connect and disconnect in order, those of different ids in any order, and
    each may do so again, together with all that follows for its id. Workers
    may do the same at the same time, and crash at any call.

    A client of ``None`` did not name itself, and has no session. What has left is
    known for ``LEFT_FOR``. Each room is 1 or more.

    A session with further connections ends in three steps, since no store can look
    for them and write at once: it is marked as ending, the store has no further
    connection of it, and it ends if its presence has not changed since the mark.
    Whoever adds a further connection takes the mark away afterwards, and begins
    again if the session is over. So one of the two sees what the other has done.
    """

    store: PresenceStore
    clock: Clock
    room: int = ROOM
    room_for_departures: int = ROOM_FOR_DEPARTURES

    def connect(self, client: Client | None, ref: ConnectionRef) -> bool:
        """Count *ref*; return false, and count nothing, if it has left.

        Nor is it counted if a connection in the presence shows that it must have ended.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        if client is None:
            return not self.store.has_left(ref)
        while True:
            presence = self.store.change(client, lambda it: self._with(it, ref))
            if ref in presence.connections:
                return True
            if presence.must_have_ended(ref):
                return not self.has_left(client, ref)
            session = presence.further_session
            if session is None or presence.has_left(ref):
                return False
            counted = self._connect_further(client, presence, session, ref)
            if counted is not None:
                return counted

    def move(self, client: Client | None, old: ConnectionRef, new: ConnectionRef) -> None:
        """Count *new* in the place of *old*: the same connection, whose time was changed.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        if client is None or old == new:
            return
        if not self._has_left(client, old, new):
            self.connect(client, new)
            session = self._presence(client).further_session
            if session is not None:
                self.store.remove_further(session, old)
        # It may have left meanwhile: this is a repeated change, or another worker is ahead.
        if self._has_left(client, old, new):
            self.disconnect(client, old)
            self.disconnect(client, new)

    def disconnect(self, client: Client | None, ref: ConnectionRef) -> None:
        """Count *ref* no more; it, and every older one of its id, has left.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        if client is None:
            self.store.mark_left(ref)
            return
        now = self.clock.now().replace(microsecond=0)
        presence = self.store.change(client, lambda it: it.disconnected(ref, now, self.room_for_departures))
        if presence.has_left(ref):
            return
        self.store.mark_left(ref)  # first, or a repeated change before this one would count it again
        if presence.further_session is not None:
            self.store.remove_further(presence.further_session, ref)
        presence = self.store.change(client, lambda it: it.without(ref))
        session = presence.further_session
        if session is None or presence.connections:
            return
        if _is_over(self._newest_further(session), ref.began_at):
            self._end(client, session, ref.began_at)

    def has_left(self, client: Client | None, ref: ConnectionRef) -> bool:
        """Return whether the connection, or a newer one of its id, has left.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        return self.store.has_left(ref) or (client is not None and self._presence(client).has_left(ref))

    def connections(self, client: Client) -> frozenset[ConnectionRef]:
        """Return all connections of *client*.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        presence = self._presence(client)
        session = presence.further_session
        return presence.connections.union(() if session is None else self.store.further(session))

    def _presence(self, client: Client) -> Presence:
        return self.store.change(client, lambda it: it)

    def _with(self, presence: Presence, ref: ConnectionRef) -> Presence:
        """Return *presence* with *ref*, unless that is marked as left.

        This is checked between the read and the write of the presence, which
        fails if *ref* has been counted, and has left, in between.
        """
        changed = presence.connected(ref, self.room)
        return presence if ref in changed.connections and self.store.has_left(ref) else changed

    def _connect_further(
        self, client: Client, presence: Presence, session: SessionId, ref: ConnectionRef
    ) -> bool | None:
        """Count *ref* as a further connection; return false if it has left, ``None`` if *session* is over."""
        is_over = not presence.connections and _is_over(self.store.newest_further(session), ref.began_at)
        if is_over and self._end(client, session, ref.began_at):
            return None
        self.store.add_further(session, ref)
        if self.store.change(client, Presence.continued).session != session:
            return None
        # Checked last: another worker with the same change may have processed its disconnect meanwhile.
        if self.store.has_left(ref):
            self.disconnect(client, ref)
            return False
        return True

    def _end(self, client: Client, session: SessionId, at: datetime) -> bool:
        """End *session* if no further connection can be open *at* a time; return whether it is over."""
        ending = self.store.change(client, lambda it: it.ending(session))
        if ending.session != session:
            return True
        if not ending.is_ending or not _is_over(self._newest_further(session), at):
            return False
        after = self.store.change(client, lambda it: it.ended() if it.version == ending.version else it)
        return after.session != session

    def _newest_further(self, session: SessionId) -> ConnectionRef | None:
        """Return the newest further connection that has not left.

        One that has may be there: a worker adds it when another has processed its
        disconnect already, and is stopped before it looks.
        """
        while (newest := self.store.newest_further(session)) is not None and self.store.has_left(newest):
            self.store.remove_further(session, newest)
        return newest

    def _has_left(self, client: Client, *refs: ConnectionRef) -> bool:
        return any(self.has_left(client, ref) for ref in refs)


def _is_over(newest: ConnectionRef | None, at: datetime) -> bool:
    """Return whether none can be open *at* a time, if *newest* is the connection that began last."""
    return newest is None or newest.must_have_ended_by(at)
