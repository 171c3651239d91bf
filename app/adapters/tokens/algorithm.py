"""What the check of signatures needs of an algorithm."""

from typing import Protocol

from app.domain.tokens import Key


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
