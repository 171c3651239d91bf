"""The issuer's keys: kept where handshakes read them, and how long they are good."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.domain.errors import KeysUnavailable, StorageUnavailable
from app.domain.tokens import KeySet

if TYPE_CHECKING:
    from app.domain.ports import Clock, Issuer, KeyStore
    from app.domain.tokens import Key

REFRESH_EVERY = timedelta(minutes=5)
"""How often the keys are fetched, as in the template's schedule."""
READ_EVERY = timedelta(seconds=30)
"""The shortest interval of two reads: tokens with invented key ids must not cause more."""
GOOD_FOR = timedelta(hours=1)
"""How long keys are used after they were fetched: the issuer may be down that long."""


class KeySetCache:
    """The keys that handshakes use: a copy of what *store* has.

    The copy is read again once newer keys should be there, and for a key that it lacks,
    but never within READ_EVERY. As long as there is no copy, each token reads the store,
    so that the first keys are used as soon as they are there.
    """

    def __init__(self, store: "KeyStore", clock: "Clock") -> None:
        self._store = store
        self._clock = clock
        self.suspend()

    def suspend(self) -> None:
        """Forget the copy."""
        self._issued: KeySet | None = None
        self._read_at: datetime | None = None

    def __call__(self, key_id: str, at: datetime) -> "Key | None":
        """Return the key of *key_id*, or ``None`` if the issuer has none.

        Raises:
            KeysUnavailable: the keys can't be read, or are older than GOOD_FOR.
        """
        issued = self._issued
        if issued is None or self._is_due(issued, key_id, at):
            issued = self.read(at)
        if at - issued.fetched_at >= GOOD_FOR:
            raise KeysUnavailable("TooOld")
        return issued.keys.get(key_id)

    def resume(self) -> bool:
        """Read the keys ahead of the next token; return whether that worked. The token tries again."""
        try:
            self.read(self._clock.now())
        except Exception:  # noqa: BLE001 - a restore must not end here; a bug is met and logged by the token
            return False
        return True

    def _is_due(self, issued: KeySet, key_id: str, at: datetime) -> bool:
        if self._read_at is not None and timedelta() <= at - self._read_at < READ_EVERY:
            return False
        return key_id not in issued.keys or at - issued.fetched_at >= REFRESH_EVERY

    def read(self, at: datetime) -> KeySet:
        """Read the keys and return them; if that fails, the copy.

        Raises:
            KeysUnavailable: it fails, and there is no copy.
        """
        self._read_at = at
        try:
            issued = self._store.load() or self._issued
        except StorageUnavailable as error:
            if self._issued is None:
                raise KeysUnavailable(error.reason) from error
            return self._issued
        if issued is None:
            raise KeysUnavailable("NeverFetched")
        self._issued = issued
        return issued


def cached_keys(store: "KeyStore", clock: "Clock") -> KeySetCache:
    """Return a cache that has read the keys of *store*; where that fails, the first token tries again."""
    cache = KeySetCache(store, clock)
    with suppress(KeysUnavailable):
        cache.read(clock.now())
    return cache


class RefreshKeys:
    """Fetch the issuer's keys, and keep them where handshakes read them."""

    def __init__(self, issuer: "Issuer", store: "KeyStore", clock: "Clock") -> None:
        self._issuer = issuer
        self._store = store
        self._clock = clock

    def __call__(self) -> KeySet:
        """Return the keys that are kept now.

        Raises:
            IssuerUnavailable: they could not be fetched, or none is usable; the earlier ones are kept.
            StorageUnavailable: the store did not confirm in time.
        """
        at = self._clock.now()  # before: keys are never taken for newer than they are
        issued = KeySet(self._issuer.keys(), at)
        self._store.save(issued)
        return issued
