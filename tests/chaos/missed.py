"""The comparison of what clients got with what was sent to them while they left and returned."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from app.domain.history import NOW, OVERLAP
from tests.chaos.clients import Client, Run
from tests.chaos.courier import Look
from tests.chaos.functions import KEPT_FOR, Seen
from tests.chaos.simulated import CLOCK_SKEW

NOT_GOT = "messages that they did not get"
MISSED = "without an announced gap"

_EARLIER = OVERLAP + timedelta(seconds=2 * CLOCK_SKEW)
"""How long before a gap's beginning a message may have finished that the client does not have either."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Checks:
    """Adds every difference to the run's outcome."""

    def __init__(self, run: Run, clients: Sequence[Client], seen: Seen) -> None:
        self._run = run
        self._clients = clients
        self._seen = seen

    def check(self) -> None:
        """Check what each client has, once nothing is under way any more, and every look into the history."""
        self._run.outcome.figures.count(NOT_GOT, MISSED, 0)
        for message_id in self._run.sent:
            if message_id not in self._seen.finished:
                self._differs(f"the delivery of {message_id} did not finish")
        for client in self._clients:
            if client.is_caught_up():
                self._check_client(client)
            else:
                self._differs(f"not caught up at the end: {client.plan.client_id}")
        for look in self._seen.looks:
            self._check_gap(look)
            self._check_order(look)

    def _check_client(self, client: Client) -> None:
        for message_id, sent in self._run.sent.items():
            if message_id in client.received or not sent.message.audience.includes(client.plan):
                continue
            finishing = self._seen.finishing[message_id]
            if not finishing or client.came_at is None or finishing[0].began < client.came_at:
                continue
            if any(self._is_in_gap(gap, finishing[-1].at) for gap in client.gaps):
                self._run.outcome.figures.count(NOT_GOT, "in an announced gap")
            elif sent.message.expires_after is not None:
                self._run.outcome.figures.count(NOT_GOT, "that had expired")
            else:
                self._run.outcome.figures.count(NOT_GOT, MISSED)
                times = f"sent {_clock(sent.at)}, finished {_clock(finishing[-1].began)}"
                self._differs(
                    f"{client.plan.client_id} has missed {message_id}, {times}; it had {client.log()}"
                )

    def _is_in_gap(self, gap: Look, finished_at: datetime) -> bool:
        since = self._since(gap)
        begins = since is None or finished_at >= since - _EARLIER
        return begins and finished_at < gap.began - KEPT_FOR

    def _check_gap(self, look: Look) -> None:
        """A gap is announced if, and only if, the history does not reach back to what the client has."""
        if look.request.is_second or look.request.after is not None or not look.frames:
            return
        since = self._since(look)
        is_gap = since is None or since < look.began - KEPT_FOR
        is_announced = look.frames[0].startswith(b'{"type":"gap"')
        if is_gap != is_announced:
            self._differs(f"a gap is {'' if is_announced else 'not '}announced by {look.request}")

    def _check_order(self, look: Look) -> None:
        """What was finished before the look comes in that order."""
        places = []
        for frame in look.frames:
            message_id = json.loads(frame).get("id")
            finishing = self._seen.finishing.get(message_id, [])
            # if it was finished twice, it is in the history twice
            if len(finishing) == 1 and self._seen.finished.get(message_id, look.at) < look.at:
                places.append((finishing[0].at, message_id))
        if any(later < earlier for earlier, later in pairwise(places)):
            self._differs(f"not in order, by {look.request}: {places}")

    def _since(self, look: Look) -> datetime | None:
        """Return until when the client has everything, as the protocol has it."""
        since, created_at = look.request.since, look.created_at
        assert created_at
        if since == NOW:
            return created_at
        at = self._seen.started.get(since)
        if since.startswith("@"):
            at = _EPOCH + timedelta(milliseconds=int(since.removeprefix("@")))
        return at and min(at, created_at)

    def _differs(self, text: str) -> None:
        self._run.outcome.differences.append(text)


def _clock(at: datetime) -> str:
    return at.strftime("%H:%M:%S.%f")[:-3]
