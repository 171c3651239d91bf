"""Who may come in: origins, what is granted, and why a handshake is refused."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Self

from app.domain.errors import Denied
from app.domain.model import LAST_PORT, ORIGIN, Handshake

TICKET = "ticket"
"""The query parameter of a ticket; none of a connection's attributes has it."""
WILDCARD = "*"
"""The granted value that stands for every one."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Reason:
    """Why a handshake is refused. No StrEnum: a cold start would wait for its definition."""

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


class Origin:
    """A web page's origin (RFC 6454); with *any_subdomain*, those of all subdomains of *host* instead."""

    def __init__(self, scheme: str, host: str, port: int, *, any_subdomain: bool) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.any_subdomain = any_subdomain

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Return the origin in *text*, such as ``https://*.example.com:8443``.

        Raises:
            ValueError: it is none.
        """
        match = re.fullmatch(ORIGIN, text.lower()) if text.isascii() else None
        if match is None:
            raise ValueError(text)
        scheme, subdomains, name, address, port = match.groups()
        number = int(port or _DEFAULT_PORTS.get(scheme, 0))
        if not 0 < number <= LAST_PORT:
            raise ValueError(text)
        return cls(scheme, name or address, number, any_subdomain=subdomains is not None)

    def covers(self, other: Self) -> bool:
        """Return whether *other* is this origin, or one of those that this stands for."""
        same_host = other.host.endswith(f".{self.host}") if self.any_subdomain else other.host == self.host
        return (
            same_host and not other.any_subdomain and (other.scheme, other.port) == (self.scheme, self.port)
        )


class Grant(NamedTuple):
    """What a client may say of itself.

    ``clients`` are names for it besides ``principal``. In ``clients``, ``accounts`` and
    ``regions``, ``WILDCARD`` stands for every value.
    """

    principal: str
    clients: Sequence[str]
    accounts: Sequence[str]
    regions: Sequence[str]
    until: datetime | None

    def narrowed(self, handshake: Handshake) -> Handshake:
        """Return *handshake* with the values that are granted, where its query may name others.

        The ``clientId`` is the principal if it is left out; it may be the principal or
        a granted name, alone or with a slash and anything after it. If an account or a
        region is left out and a single one is granted, that is taken.

        Raises:
            Denied: a value is not granted.
        """
        query = {name: value for name, value in handshake.query.items() if name != TICKET}
        granted = {
            "clientId": self._client(query.get("clientId")),
            "account": self._value(query.get("account", ""), self.accounts, Reason.ACCOUNT),
            "region": self._value(query.get("region", ""), self.regions, Reason.REGION),
        }
        return handshake._replace(
            query=query | granted, principal_id=self.principal, admitted_until=self.until
        )

    def _client(self, name: str | None) -> str:
        if name is None:
            return self.principal
        names = (self.principal, *self.clients)
        if WILDCARD in names[1:] or any(it and (name == it or name.startswith(f"{it}/")) for it in names):
            return name
        raise Denied(Reason.CLIENT, self.principal)

    def _value(self, value: str, granted: Sequence[str], reason: str) -> str:
        if value in granted or WILDCARD in granted:
            return value
        if not value and len(granted) == 1:
            return granted[0]
        raise Denied(reason, self.principal)
