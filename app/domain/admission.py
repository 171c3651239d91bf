"""Who may come in: origins, what is granted, tickets, and why a handshake is refused."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self

from app.domain.errors import Denied
from app.domain.model import AccountId, ClientId, Handshake, RegionName

ANYTHING = "*"
"""The granted value that stands for every one."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Reason(StrEnum):
    """Why a handshake is refused."""

    MISSING = "missing"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    TYPE = "type"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    LIFETIME = "lifetime"
    TOKEN_IN_QUERY = "token_in_query"  # noqa: S105 - a reason
    TICKET = "ticket"
    ORIGIN = "origin"
    CLIENT = "client"
    ACCOUNT = "account"
    REGION = "region"


class Origin(NamedTuple):
    """A web page's origin (RFC 6454); with *any_subdomain*, those of all subdomains of *host* instead."""

    scheme: str
    host: str
    port: int
    any_subdomain: bool = False

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Return the origin in *text*, such as ``https://*.example.com:8443``.

        Raises:
            ValueError: it is none.
        """
        scheme, separator, authority = text.lower().partition("://")
        host, _, port = authority.rpartition(":")
        if not host or authority.endswith("]"):  # no port; a bracket ends an IPv6 address
            host, port = authority, str(_DEFAULT_PORTS.get(scheme, ""))
        name = host.removeprefix("*.")
        is_number = port.isascii() and port.isdigit() and len(port) <= len("65535")
        if not (separator and scheme and name and is_number) or any(it in name for it in "*/?#@ "):
            raise ValueError(text)
        return cls(scheme, name, int(port), name != host)

    def covers(self, other: Self) -> bool:
        """Return whether *other* is this origin, or one of those that this stands for."""
        same_host = other.host.endswith(f".{self.host}") if self.any_subdomain else other.host == self.host
        return (
            same_host and not other.any_subdomain and (other.scheme, other.port) == (self.scheme, self.port)
        )


class Grant(NamedTuple):
    """What a client may say of itself.

    ``clients`` are names for it besides *principal*. In each of the three,
    ``ANYTHING`` stands for every value, and an empty text for none.
    """

    principal: str
    clients: Sequence[str]
    accounts: Sequence[str]
    regions: Sequence[str]
    until: datetime | None

    def narrowed(self, handshake: Handshake) -> Handshake:
        """Return *handshake* with the values that are granted, where its query may name others.

        Without a ``clientId`` it is the principal. A ``clientId`` may also be a granted
        name and, after a slash, anything. Without an account or a region it is
        the one that is granted, if that is one.

        Raises:
            Denied: a value is not granted.
        """
        query = handshake.query
        granted = {
            "clientId": self._client(query.get("clientId")),
            "account": self._value(query.get("account", ""), self.accounts, Reason.ACCOUNT),
            "region": self._value(query.get("region", ""), self.regions, Reason.REGION),
        }
        return handshake._replace(
            query={**query, **granted}, principal_id=self.principal, admitted_until=self.until
        )

    def _client(self, name: str | None) -> str:
        if name is None:
            return self.principal
        names = (self.principal, *self.clients)
        if ANYTHING in names[1:] or any(it and (name == it or name.startswith(f"{it}/")) for it in names):
            return name
        raise Denied(Reason.CLIENT, self.principal)

    def _value(self, value: str, granted: Sequence[str], reason: Reason) -> str:
        if value in granted or ANYTHING in granted:
            return value
        if not value and len(granted) == 1:
            return granted[0]
        raise Denied(reason, self.principal)


class Ticket(NamedTuple):
    """Admits its holder once, before ``expires_at``, as exactly this client."""

    secret: str
    client_id: ClientId
    account: AccountId
    region: RegionName
    expires_at: datetime

    def grant(self) -> Grant:
        """Return what it grants; the connection then lasts as long as any."""
        return Grant(self.client_id, (), (self.account,), (self.region,), until=None)
