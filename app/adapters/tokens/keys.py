"""Keys: which of those that an issuer publishes (RFC 7517) check signatures of an algorithm."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.domain.tokens import Key

if TYPE_CHECKING:  # a start does not wait for its definition
    from app.adapters.tokens.algorithm import Algorithm


class UnusableKey(ValueError):
    """A key that can't check signatures of the algorithm: malformed, weak, or of another kind."""


def usable_key(jwk: Mapping[str, object], algorithm: "Algorithm") -> Key:
    """Return of *jwk* what *algorithm* needs.

    Raises:
        UnusableKey: it is for something else than signatures of *algorithm*, or weak.
    """
    operations = jwk.get("key_ops", ["verify"])
    if (
        jwk.get("use", "sig") != "sig"
        or jwk.get("alg", algorithm.name) != algorithm.name
        or not (isinstance(operations, list) and "verify" in operations)
    ):
        raise UnusableKey
    key = {name: text for name in algorithm.members if isinstance(text := jwk.get(name), str)}
    algorithm.check_key(key)
    return key
