"""Keys: which of those that an issuer publishes (RFC 7517) check signatures of an algorithm."""

from collections.abc import Mapping
from typing import Protocol

from app.domain.tokens import Key


class UnusableKey(ValueError):
    """A key that can't check signatures of the algorithm: malformed, weak, or of another kind."""


class Algorithm(Protocol):
    """An algorithm of signatures (RFC 7518, 3.1).

    ``name`` is what tokens call it, ``members`` are those of its keys.
    """

    name: str
    members: tuple[str, ...]

    def holds(self, key: Key, signature: bytes, signed: bytes) -> bool:
        """Return whether *signature* is that of *signed* by *key*.

        Raises:
            UnusableKey: it can't be checked with this key.
        """

    def check_key(self, key: Key) -> None:
        """Check that ``holds`` can use *key*.

        Raises:
            UnusableKey: it can't.
        """


def usable_key(jwk: Mapping[str, object], algorithm: Algorithm) -> Key:
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
