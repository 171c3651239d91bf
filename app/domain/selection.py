"""Which connections to list, and a page of them."""

from dataclasses import dataclass

from app.domain.errors import InvalidSelection
from app.domain.model import AccountId, ClientId, Connection, RegionName


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter on connections; ``None`` matches any value. A region requires its account.

    Raises:
        InvalidSelection: a region without an account.
    """

    account: AccountId | None = None
    region: RegionName | None = None
    client_id: ClientId | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.account is None:
            raise InvalidSelection("A region is looked up within an account: name the account too.")

    def matches(self, connection: Connection) -> bool:
        """Return whether *connection* is selected."""
        return (
            self.account in (None, connection.account)
            and self.region in (None, connection.region)
            and self.client_id in (None, connection.client_id)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A page of connections, and the token of the next page; ``None`` on the last page."""

    connections: tuple[Connection, ...]
    next: str | None = None
