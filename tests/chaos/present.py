"""The comparison of presence with the connections that are open at the end, and the check of its events."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from app.domain.events import Expired
from app.domain.lifecycle import ConnectionRef
from app.domain.presence import Client, Joined, Left, PresenceEvent, SessionId
from tests.chaos.figures import Outcome
from tests.chaos.functions import Functions

_SECTION = "presence"
_NAMES = {Joined: "joined", Left: "left"}


class PresenceChecks:
    """Adds every difference to the outcome, once nothing is under way any more."""

    def __init__(
        self, outcome: Outcome, functions: Functions, open_: Mapping[Client, Collection[ConnectionRef]]
    ) -> None:
        self._outcome = outcome
        self._functions = functions
        self._open = open_

    def check(self) -> None:
        """Check the table of connections, each client's presence and events, and what has expired."""
        present = {ref for connections in self._open.values() for ref in connections}
        self._compare("the table", self._functions.connections(), present)
        events = self._events()
        for client in {*self._open, *events}:
            session, connections = self._functions.session(client)
            self._compare(f"the presence of {client}", connections, self._open.get(client, ()))
            self._check_sessions(client, events.get(client, ()), session)
        self._check_expired()
        self._count("connections at the end", len(present))

    def _events(self) -> Mapping[Client, Iterable[PresenceEvent]]:
        """Return what was published of each client, without repetitions."""
        events: defaultdict[Client, dict[PresenceEvent, None]] = defaultdict(dict)
        for event in self._functions.seen.published:
            if isinstance(event, Joined | Left):
                is_new = event not in events[event.client]
                self._count(f"{_NAMES[type(event)]}{'' if is_new else ', published again'}")
                events[event.client][event] = None
        return events

    def _compare(self, name: str, found: Iterable[ConnectionRef], expected: Iterable[ConnectionRef]) -> None:
        for ref in set(found) - set(expected):
            self._differs(f"{name} has {ref.connection_id}, which is wrong")
        for ref in set(expected) - set(found):
            self._differs(f"{name} misses {ref.connection_id}")

    def _check_sessions(
        self, client: Client, events: Iterable[PresenceEvent], session: SessionId | None
    ) -> None:
        """Its sessions begin and end in turn, and the last one is that of its presence."""
        current = None
        for event in events:
            is_in_turn = current is None if isinstance(event, Joined) else current == event.session
            if not is_in_turn:
                self._differs(f"not in turn: {client} has {_NAMES[type(event)]} {event.session} in {current}")
            current = event.session if isinstance(event, Joined) else None
        if current != session or (session is None) != (not self._open.get(client)):
            self._differs(f"the session of {client} is {session}, and by its events {current}")

    def _check_expired(self) -> None:
        seen = self._functions.seen
        published = {ConnectionRef.of(it.connection) for it in seen.published if isinstance(it, Expired)}
        self._compare("what was published as expired", published, seen.expired)
        self._count("connections that expired", len(seen.expired))

    def _count(self, name: str, number: int = 1) -> None:
        self._outcome.figures.count(_SECTION, name, number)

    def _differs(self, text: str) -> None:
        self._outcome.differences.append(text)
