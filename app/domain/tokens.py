"""Tokens: what one has to say of itself (RFC 7519, RFC 8725, RFC 9068), what it grants, and keys."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from app.domain.admission import WILDCARD, Grant, Reason
from app.domain.errors import Denied, InvalidHandshake
from app.domain.model import account_id, client_id, region_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEEWAY = timedelta(seconds=60)
"""How far the issuer's clock and ours may differ."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253370764799  # of the year 9998: there is room for a leeway
_TYPES = {"access": ("jwt", "at+jwt"), "id": ("jwt",)}
"""The ``typ`` that each type of token may have (RFC 9068, 2.1); it may also have none."""

type Key = Mapping[str, str]
"""A public key as a JWK (RFC 7517), with what its kind needs and nothing else."""


class KeySet(NamedTuple):
    """The keys of an issuer by their ids, and when they were fetched from it."""

    keys: Mapping[str, Key]
    fetched_at: datetime


class VerifiedToken:
    """A token whose signature holds: its header and its claims, as JSON has them."""

    def __init__(self, header: Mapping[str, object], claims: Mapping[str, object]) -> None:
        self.header = header
        self.claims = claims


class TokenRules:
    """What a token must say. Whatever it lacks is refused.

    *type* is ``access`` or ``id``. The claims named by *accounts_claim* and
    *regions_claim* have the granted values, as a list, or as a text with commas or
    spaces between them; the one of *clients_claim* has names for the client, as a
    list or one text. Without a claim, the empty value is granted.

    But only ``WILDCARD`` in a claim grants everything. With *unscoped_sees_all* no account
    means all of them; and no region means all of an account's, which is granted
    only if no claim is named for regions.
    """

    def __init__(  # noqa: PLR0913 - the settings of tokens
        self,
        *,
        issuer: str,
        audiences: Sequence[str],
        type: str,  # noqa: A002 - the field's word
        max_lifetime: timedelta,
        clients_claim: str = "",
        accounts_claim: str = "",
        regions_claim: str = "",
        unscoped_sees_all: bool = False,
    ) -> None:
        self.issuer = issuer
        self.audiences = audiences
        self.type = type
        self.max_lifetime = max_lifetime
        self.clients_claim = clients_claim
        self.accounts_claim = accounts_claim
        self.regions_claim = regions_claim
        self.unscoped_sees_all = unscoped_sees_all

    def grant(self, token: VerifiedToken, at: datetime) -> Grant:
        """Return what *token* grants.

        Raises:
            Denied: it says something that it must not, or lacks something.
        """
        claims = token.claims
        principal = _principal(claims)
        try:
            if (reason := next(self._faults(token, at), None)) is not None:
                raise Denied(reason, principal)
            if principal is None:
                raise Denied(Reason.MALFORMED)
            accounts = self._accounts(claims)
            return Grant(
                principal,
                clients=_granted(claims, self.clients_claim, client_id, (), splits=False),
                accounts=accounts,
                regions=self._regions(claims, accounts),
                until=_until(claims, at),
            )
        except _WrongType:
            raise Denied(Reason.MALFORMED, principal) from None

    def _accounts(self, claims: Mapping[str, object]) -> Sequence[str]:
        granted = _granted(claims, self.accounts_claim, account_id, ("",))
        return _without_empty(granted) if self.unscoped_sees_all else granted

    def _regions(self, claims: Mapping[str, object], accounts: Sequence[str]) -> Sequence[str]:
        granted = _granted(claims, self.regions_claim, region_name, ("",))
        return _without_empty(granted) if self.regions_claim and any(accounts) else granted

    def _faults(self, token: VerifiedToken, at: datetime) -> "Iterator[str]":
        claims = token.claims
        if claims.get("iss") != self.issuer:
            yield Reason.ISSUER
        if not self._is_for_us(claims):
            yield Reason.AUDIENCE
        if not self._has_type(token):
            yield Reason.TYPE
        ends, issued, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
        if ends is None or issued is None:
            raise _WrongType
        if at >= ends + LEEWAY:
            yield Reason.EXPIRED
        if issued - LEEWAY > at or (begins is not None and begins - LEEWAY > at):
            yield Reason.NOT_YET
        if ends - issued > self.max_lifetime:
            yield Reason.LIFETIME

    def _is_for_us(self, claims: Mapping[str, object]) -> bool:
        # Cognito's access tokens have a client_id in the place of an audience
        named = claims["client_id"] if _is_cognito_access(claims) else claims.get("aud")
        audiences = named if isinstance(named, list) else [named]
        return all(isinstance(it, str) for it in audiences) and any(it in self.audiences for it in audiences)

    def _has_type(self, token: VerifiedToken) -> bool:
        kind = token.header.get("typ", "jwt")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES[self.type]:
            return False
        return token.claims.get("token_use", self.type) == self.type


class _WrongType(Exception):
    """A claim has a value of a wrong type."""


def _principal(claims: Mapping[str, object]) -> str | None:
    """Return who the token is of, if that can be a client's id; else ``None``."""
    subject = claims.get("sub")
    try:
        return client_id(subject) if isinstance(subject, str) else None
    except InvalidHandshake:
        return None


def _is_cognito_access(claims: Mapping[str, object]) -> bool:
    return claims.get("token_use") == "access" and "aud" not in claims and "client_id" in claims


def _time(claims: Mapping[str, object], name: str) -> datetime | None:
    """Return the time in a NumericDate (RFC 7519, 2), or ``None`` without one."""
    if name not in claims:
        return None
    seconds = claims[name]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LAST_SECOND:
        raise _WrongType
    return _EPOCH + timedelta(milliseconds=int(seconds * 1000))


def _until(claims: Mapping[str, object], at: datetime) -> datetime | None:
    """Return when the token expires; of one that has, the end of the leeway: nobody is admitted in vain."""
    ends = _time(claims, "exp")
    return ends if ends is None or at < ends else ends + LEEWAY


def _without_empty(granted: Sequence[str]) -> Sequence[str]:
    return [it for it in granted if it]


def _granted(
    claims: Mapping[str, object],
    name: str,
    rule: "Callable[[str], str]",
    absent: Sequence[str],
    *,
    splits: bool = True,
) -> Sequence[str]:
    """Return the values in the claim *name* that keep *rule* or are ``WILDCARD``; *absent* without it."""
    claim = claims.get(name) if name else None
    if claim is None:
        return absent
    if isinstance(claim, str):
        claim = claim.replace(",", " ").split() if splits else [claim]
    if not isinstance(claim, list) or not all(isinstance(it, str) for it in claim):
        raise _WrongType
    return [it for it in claim if it == WILDCARD or _keeps(rule, it)]


def _keeps(rule: "Callable[[str], str]", value: str) -> bool:
    try:
        rule(value)
    except InvalidHandshake:
        return False
    return True
