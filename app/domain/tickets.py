"""Tickets, which admit people without an identity provider."""

from datetime import datetime, timedelta
from typing import NamedTuple

from app.domain.admission import Grant
from app.domain.model import AccountId, ClientId, RegionName

MAX_TICKET_LIFETIME = timedelta(seconds=60)
MAX_SKEW = timedelta(seconds=60)
"""How far the clock of who mints a ticket may be ahead of ours."""


class Ticket(NamedTuple):
    """Admits its holder once, before ``expires_at``, as this client of this account and region."""

    secret: str
    client_id: ClientId
    account: AccountId
    region: RegionName
    expires_at: datetime

    def __repr__(self) -> str:
        """Leave out the secret, so that no log has it."""
        return f"Ticket({self.client_id!r}, {self.account!r}, {self.region!r}, {self.expires_at!r})"

    def grant(self) -> Grant:
        """Return what it grants; the connection then lasts as long as any."""
        return Grant(self.client_id, (), (self.account,), (self.region,), until=None)
