"""Whom an audience has now, read page by page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from app.domain.delivery import Audience, Progress
from app.domain.model import Connection
from app.domain.ports import Clock, ConnectionTable, RecipientPages


class RecipientsPage(NamedTuple):
    """Recipients, and where those after them begin: see ``Progress``."""

    connections: Sequence[Connection]
    selection: int
    after: str | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class ReadRecipients:
    """Read whom an audience has now."""

    recipients: RecipientPages
    table: ConnectionTable
    clock: Clock
    unscoped: bool = False

    def count(self, audience: Audience) -> int:
        """Return how many recipients *audience* has.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
        return sum(len(page.connections) for page in self.pages(audience, Progress()))

    def pages(self, audience: Audience, progress: Progress) -> Iterator[RecipientsPage]:
        """Yield the pages of recipients from where *progress* is.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """
        if audience.connection_id is not None and not progress.report.selected:
            connection = live(self.table.get(audience.connection_id), self.clock.now())
            yield RecipientsPage([connection] if connection else [], 0, None, is_last=True)
        selections = audience.selections(unscoped=self.unscoped)
        for number in range(progress.selection, len(selections)):
            after = progress.after if number == progress.selection else None
            while True:
                page = self.recipients.page(selections[number], after)
                now = self.clock.now()
                chosen = [
                    it
                    for it in page.connections
                    if live(it, now) and audience.includes(it, unscoped=self.unscoped)
                ]
                after = page.next
                following = number if after else number + 1
                yield RecipientsPage(chosen, following, after, is_last=following == len(selections))
                if after is None:
                    break


def live(connection: Connection | None, now: datetime) -> Connection | None:
    """Return *connection* unless it has expired, or its admission is over."""
    if connection is None or now >= connection.expires_at:
        return None
    is_over = connection.admitted_until is not None and now >= connection.admitted_until
    return None if is_over else connection
