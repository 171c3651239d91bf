"""The issuer's keys: how often a handshake reads them, how long they serve, and their refresh."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import IssuerUnavailable, KeysUnavailable, StorageUnavailable
from app.domain.keys import GOOD_FOR, READ_EVERY, REFRESH_EVERY, KeySetCache, RefreshKeys, cached_keys
from app.domain.tokens import Key, KeySet
from tests.builders import NOON
from tests.fakes import FakeKeyStore, FixedClock
from tests.tokens import FakeIssuer

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

OLD: Key = {"kty": "RSA", "n": "old", "e": "AQAB"}
NEW: Key = {"kty": "RSA", "n": "new", "e": "AQAB"}

UNAVAILABLE = StorageUnavailable("TimedOut", outcome_unknown=False)


def issued(fetched_at: datetime = NOON, **keys: Key) -> KeySet:
    return KeySet(keys or {"old": OLD}, fetched_at)


def failure_of(cache: KeySetCache, at: datetime, key_id: str = "old") -> str:
    """Why no key can be had."""
    with pytest.raises(KeysUnavailable) as unavailable:
        cache(key_id, at)
    return unavailable.value.reason


def test_a_key_is_found_by_its_id() -> None:
    cache = cached_keys(FakeKeyStore(issued(old=OLD, new=NEW)), FixedClock())

    assert (cache("old", NOON), cache("new", NOON), cache("other", NOON)) == (OLD, NEW, None)


def test_keys_are_read_at_the_start_and_serve_for_five_minutes() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())

    keys = [cache("old", NOON + n * SECOND) for n in range(300)]

    assert keys == [OLD] * 300
    assert timedelta(minutes=5) == REFRESH_EVERY
    assert store.reads == 1


def test_keys_that_were_fetched_five_minutes_ago_are_read_again() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    store.save(issued(NOON + REFRESH_EVERY, old=NEW))

    before = cache("old", NOON + REFRESH_EVERY - MILLISECOND)
    after = cache("old", NOON + REFRESH_EVERY)

    assert (before, after) == (OLD, NEW)
    assert store.reads == 2


def test_the_age_of_keys_counts_from_when_they_were_fetched() -> None:
    store = FakeKeyStore(issued(NOON - REFRESH_EVERY))
    cache = cached_keys(store, FixedClock())
    store.save(issued(NOON, old=NEW))

    assert cache("old", NOON + READ_EVERY) == NEW


def test_old_keys_are_read_again_every_30_seconds_at_most() -> None:
    store = FakeKeyStore(issued(NOON - REFRESH_EVERY))
    cache = cached_keys(store, FixedClock())

    for n in range(10 * 60):
        cache("old", NOON + n * SECOND)

    assert timedelta(seconds=30) == READ_EVERY
    assert store.reads == 10 * 60 // 30


def test_ten_thousand_unknown_ids_within_30_seconds_are_one_read() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    began = NOON + MINUTE
    reads = store.reads

    keys = [cache(f"unknown-{n}", began + n * READ_EVERY / 10_000) for n in range(10_000)]

    assert keys == [None] * 10_000
    assert store.reads - reads == 1


def test_an_unknown_id_is_read_for_again_after_30_seconds() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    store.save(issued(NOON + SECOND, old=OLD, new=NEW))

    before = cache("new", NOON + READ_EVERY - MILLISECOND)
    after = cache("new", NOON + READ_EVERY)

    assert (before, after) == (None, NEW)
    assert store.reads == 2


def test_a_known_id_is_not_read_for() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())

    cache("unknown", NOON + MINUTE)
    cache("old", NOON + 2 * MINUTE)

    assert store.reads == 2


def test_keys_serve_for_an_hour_after_they_were_fetched_and_not_longer() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock(NOON + 10 * MINUTE))

    assert timedelta(hours=1) == GOOD_FOR
    assert cache("old", NOON + GOOD_FOR - MILLISECOND) == OLD
    assert failure_of(cache, NOON + GOOD_FOR) == "TooOld"
    assert failure_of(cache, NOON + GOOD_FOR, "unknown") == "TooOld"


def test_keys_serve_for_an_hour_while_the_store_is_unavailable_and_not_longer() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock(NOON + MINUTE))
    store.error = UNAVAILABLE

    assert cache("old", NOON + GOOD_FOR - MILLISECOND) == OLD
    assert cache("unknown", NOON + GOOD_FOR - MILLISECOND) is None
    assert failure_of(cache, NOON + GOOD_FOR) == "TooOld"


def test_a_store_that_is_unavailable_is_asked_every_30_seconds_at_most() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    store.error = UNAVAILABLE

    for n in range(5 * 60):
        cache("old", NOON + REFRESH_EVERY + n * SECOND)

    assert store.reads == 1 + 5 * 60 // 30


def test_a_store_without_keys_leaves_the_copy() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    store.issued = None

    assert cache("old", NOON + REFRESH_EVERY) == OLD
    assert store.reads == 2


def test_keys_that_are_too_old_serve_again_once_they_are_refreshed() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    assert failure_of(cache, NOON + GOOD_FOR) == "TooOld"
    store.save(issued(NOON + GOOD_FOR, old=NEW))

    assert failure_of(cache, NOON + GOOD_FOR + READ_EVERY - MILLISECOND) == "TooOld"
    assert cache("old", NOON + GOOD_FOR + READ_EVERY) == NEW


def test_keys_that_were_never_fetched_are_read_for_the_first_token() -> None:
    store = FakeKeyStore()
    cache = cached_keys(store, FixedClock())

    assert failure_of(cache, NOON) == "NeverFetched"
    store.save(issued())
    assert cache("old", NOON + READ_EVERY) == OLD


def test_a_store_that_is_unavailable_at_the_start_is_read_for_the_first_token() -> None:
    store = FakeKeyStore(issued())
    store.error = UNAVAILABLE
    cache = cached_keys(store, FixedClock())

    assert failure_of(cache, NOON) == "TimedOut"
    store.error = None
    assert cache("old", NOON + READ_EVERY) == OLD


@pytest.mark.parametrize("error", [UNAVAILABLE, RuntimeError("AccessDenied")])
def test_an_error_of_the_store_at_a_restore_is_left_to_the_first_token(error: Exception) -> None:
    store = FakeKeyStore(issued())
    cache = KeySetCache(store, FixedClock())
    store.error = error
    without = cache.resume()
    with pytest.raises((KeysUnavailable, RuntimeError)):
        cache("old", NOON)
    store.error = None

    assert not without
    assert cache("old", NOON) == OLD


def test_keys_from_before_a_snapshot_are_not_used_after_it_even_if_there_are_no_others() -> None:
    store = FakeKeyStore(issued())
    cache = cached_keys(store, FixedClock())
    cache.suspend()
    store.error = UNAVAILABLE

    assert not cache.resume()
    assert failure_of(cache, NOON) == "TimedOut"


def test_keys_that_were_read_at_a_restore_serve_the_first_token() -> None:
    store = FakeKeyStore(issued())
    cache = KeySetCache(store, FixedClock())
    resumed = cache.resume()
    store.error = UNAVAILABLE

    assert resumed
    assert cache("old", NOON) == OLD


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 20 * 60),
            st.sampled_from(["old", "new", "unknown"]),
            st.sampled_from(["up", "down", "refreshed"]),
        ),
        max_size=30,
    )
)
def test_no_key_is_used_that_is_an_hour_old_and_no_30_seconds_have_two_reads(
    steps: list[tuple[int, str, str]],
) -> None:
    clock = FixedClock()
    store = FakeKeyStore(issued())
    cache = cached_keys(store, clock)
    fetched_at, read_at = NOON, NOON

    for after, key_id, event in steps:
        clock.advance(after * SECOND)
        at = clock.now()
        store.error = UNAVAILABLE if event == "down" else None
        if event == "refreshed":
            store.save(issued(at, old=OLD))
            fetched_at = at
        reads = store.reads
        is_served = answers(cache, key_id, at)

        assert store.reads - reads <= (at - read_at >= READ_EVERY)
        assert not is_served or at - fetched_at < GOOD_FOR
        read_at = at if store.reads > reads else read_at


def answers(cache: KeySetCache, key_id: str, at: datetime) -> bool:
    try:
        cache(key_id, at)
    except KeysUnavailable:
        return False
    return True


def test_a_refresh_keeps_the_keys_as_fetched_when_it_began() -> None:
    clock, store = FixedClock(), FakeKeyStore()
    issuer = SlowIssuer(clock, {"old": OLD})

    kept = RefreshKeys(issuer, store, clock)()

    assert kept == issued(NOON)
    assert store.issued == kept
    assert clock.now() == NOON + 3 * SECOND


class SlowIssuer(FakeIssuer):
    """Issuer that takes 3 s."""

    def __init__(self, clock: FixedClock, keys: Mapping[str, Key]) -> None:
        super().__init__(keys)
        self._clock = clock

    def keys(self) -> Mapping[str, Key]:
        self._clock.advance(3 * SECOND)
        return super().keys()


def test_a_refresh_that_fails_keeps_the_earlier_keys() -> None:
    clock, store, issuer = FixedClock(), FakeKeyStore(), FakeIssuer({"old": OLD})
    refresh = RefreshKeys(issuer, store, clock)
    refresh()
    clock.advance(REFRESH_EVERY)
    issuer.error = IssuerUnavailable("TimedOut")

    with pytest.raises(IssuerUnavailable, match="TimedOut"):
        refresh()

    assert store.issued == issued(NOON)


def test_a_refresh_whose_keys_can_not_be_kept_fails() -> None:
    store = FakeKeyStore()
    store.error = UNAVAILABLE

    with pytest.raises(StorageUnavailable):
        RefreshKeys(FakeIssuer({"old": OLD}), store, FixedClock())()


@pytest.mark.parametrize("rotated_after", range(0, 300, 7))
@pytest.mark.parametrize("read_after", [0, 1, 29, 299])
def test_a_rotation_is_through_within_six_minutes(rotated_after: int, read_after: int) -> None:
    clock, store, issuer = FixedClock(), FakeKeyStore(), FakeIssuer({"old": OLD})
    refresh = RefreshKeys(issuer, store, clock)
    refresh()
    clock.advance(read_after * SECOND)
    cache = cached_keys(store, clock)
    rotated_at = NOON + rotated_after * SECOND
    old_until = new_from = None

    for second in range(read_after + 1, rotated_after + 6 * 60 + 1):  # a handshake with each key every second
        clock.advance(SECOND)
        at = clock.now()
        if at >= rotated_at:
            issuer.keys_now = {"new": NEW}
        if second % REFRESH_EVERY.seconds == 0:
            refresh()
        if cache("old", at) is not None:
            old_until = at
        if cache("new", at) is not None:
            new_from = new_from or at

    assert new_from is not None
    assert old_until is not None
    assert new_from - rotated_at <= timedelta(minutes=6)
    assert old_until - rotated_at < timedelta(minutes=6)
    assert issuer.requests == 1 + (rotated_after + 6 * 60) // REFRESH_EVERY.seconds


def test_an_idle_environment_refuses_the_old_key_when_it_wakes_up() -> None:
    clock, store, issuer = FixedClock(), FakeKeyStore(), FakeIssuer({"old": OLD})
    refresh = RefreshKeys(issuer, store, clock)
    refresh()
    cache = cached_keys(store, clock)
    issuer.keys_now = {"new": NEW}
    clock.advance(REFRESH_EVERY)
    refresh()

    at = NOON + 6 * MINUTE

    assert cache("old", at) is None
    assert cache("new", at) == NEW
