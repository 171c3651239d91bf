"""The check of a token's signature (RFC 7515, 5.2), of one algorithm."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from app.adapters.tokens.encoding import Malformed, bytes_in, object_in
from app.adapters.tokens.keys import UnusableKey
from app.domain.admission import Reason
from app.domain.errors import Denied
from app.domain.tokens import Key, VerifiedToken

if TYPE_CHECKING:
    from app.adapters.tokens.algorithm import Algorithm

MAX_TOKEN = 8192
"""Characters in a token. API Gateway takes 10,240 bytes of headers in all (its quotas page)."""

_PARTS = 3


class TokenSignatures:
    """Signatures of one *algorithm*; a token that names another is refused.

    *find_key* returns the key of an id. A key or an address of one in a token's
    header (``jwk``, ``jku``, ``x5u``, ``x5c``) is not looked at.
    """

    def __init__(self, algorithm: "Algorithm", find_key: Callable[[str, datetime], Key | None]) -> None:
        self._algorithm = algorithm
        self._find_key = find_key

    def verify(self, token: str, at: datetime) -> VerifiedToken:
        if len(token) > MAX_TOKEN or len(parts := token.split(".")) != _PARTS:
            raise Denied(Reason.MALFORMED)
        try:
            header = object_in(parts[0])
            if header.get("alg") != self._algorithm.name:
                raise Denied(Reason.ALGORITHM)
            claims, signature = object_in(parts[1]), bytes_in(parts[2])
        except Malformed:
            raise Denied(Reason.MALFORMED) from None  # its causes have parts of the token
        # An extension that has to be understood (RFC 7515, 4.1.11), of which none is; b64 is one (RFC 7797)
        if "crit" in header or "b64" in header:
            raise Denied(Reason.MALFORMED)
        key_id = header.get("kid")
        key = self._find_key(key_id, at) if isinstance(key_id, str) else None
        if key is None:
            raise Denied(Reason.UNKNOWN_KEY)
        try:
            holds = self._algorithm.holds(key, signature, token.rpartition(".")[0].encode())
        except UnusableKey:  # it was fetched for another algorithm
            raise Denied(Reason.UNKNOWN_KEY) from None
        if not holds:
            raise Denied(Reason.SIGNATURE)
        return VerifiedToken(header, claims)
