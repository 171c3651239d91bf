"""Admission: the check of a handshake's origin, and of the token or the ticket that it shows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.domain.admission import TICKET, Grant, Origin, Reason
from app.domain.errors import Denied
from app.domain.model import PROTOCOL, Handshake

if TYPE_CHECKING:
    from app.domain.ports import Signatures, Tickets, Tokens
    from app.domain.tokens import TokenRules

_TOKEN_PARAMETERS = frozenset({"token", "access_token", "id_token", "jwt", "authorization", "bearer"})
_TOKEN_DOTS = 2
_MIN_TOKEN = 64  # characters; the signature alone has more


class RestrictedAdmission:
    """Admission of those who come from one of *origins* and show a token or a ticket.

    Without *origins*, every origin is good. So is a handshake without an origin: only
    browsers send it. Without *tokens* and *tickets*, nothing has to be shown.
    """

    def __init__(
        self,
        origins: Sequence[str] = (),
        tokens: "Tokens | None" = None,
        tickets: "Tickets | None" = None,
    ) -> None:
        self._origins = [Origin.parsed(text) for text in origins]
        self._tokens = tokens
        self._tickets = tickets

    def admit(self, handshake: Handshake, at: datetime) -> Handshake:
        self._check_origin(handshake.headers.get("origin", ()))
        if self._tokens is None and self._tickets is None:
            return handshake
        return self._grant(handshake, at).narrowed(handshake)

    def _check_origin(self, given: Sequence[str]) -> None:
        if not given or not self._origins:
            return
        try:
            origin = Origin.parsed(given[0] if len(given) == 1 else "several")
        except ValueError:
            raise Denied(Reason.ORIGIN) from None
        if not any(allowed.covers(origin) for allowed in self._origins):
            raise Denied(Reason.ORIGIN, origin=f"{origin.scheme}://{origin.host}:{origin.port}")

    def _grant(self, handshake: Handshake, at: datetime) -> Grant:
        if _has_token(handshake.query):
            raise Denied(Reason.TOKEN_IN_QUERY)
        ticket, token = handshake.query.get(TICKET), _token(handshake)
        if ticket is not None and token is not None:
            raise Denied(Reason.MALFORMED)  # which of them counts?
        if ticket is not None and self._tickets is not None:
            return self._tickets.redeem(ticket, at)
        if token is not None and self._tokens is not None:
            return self._tokens.grant(token, at)
        raise Denied(Reason.MISSING)


class TokenGrants:
    """Tokens whose signature *signatures* check, and whose claims *rules* do."""

    def __init__(self, signatures: "Signatures", rules: "TokenRules") -> None:
        self._signatures = signatures
        self._rules = rules

    def grant(self, token: str, at: datetime) -> Grant:
        return self._rules.grant(self._signatures.verify(token, at), at)


def _token(handshake: Handshake) -> str | None:
    """Return the token that a client shows, as a bearer (RFC 6750, 2.1) or as the second subprotocol.

    A browser can set no header but that of the subprotocols.

    Raises:
        Denied: something is there that is not one token.
    """
    protocols = handshake.offered_protocols()
    tokens = protocols[1:] if protocols[:1] == [PROTOCOL] else []
    for authorization in handshake.headers.get("authorization", ()):
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Denied(Reason.MALFORMED)
        tokens.append(token.strip(" "))
    if len(tokens) > 1:
        raise Denied(Reason.MALFORMED)
    return tokens[0] if tokens else None


def _has_token(query: Mapping[str, str]) -> bool:
    """Return whether a token is in *query*: it would lie in logs and in a browser's history."""
    return any(
        name.lower() in _TOKEN_PARAMETERS or _looks_like_a_token(value) for name, value in query.items()
    )


def _looks_like_a_token(value: str) -> bool:
    if value.count(".") != _TOKEN_DOTS:
        return False
    # '{"' in Base64; whatever follows the brace, the first letter is this one
    return value.startswith("eyJ") or (value.startswith("e") and len(value) >= _MIN_TOKEN)
