"""The keys function's Lambda handler: the log record and the result of each refresh."""

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest

from app.domain.errors import IssuerUnavailable, StorageUnavailable
from app.domain.keys import RefreshKeys
from app.domain.tokens import Key, KeySet
from app.entrypoints.keys import KeysHandler
from tests.builders import NOON, Invocation
from tests.fakes import FakeKeyStore, FixedClock

KEYS = {"k-2": {"kty": "RSA", "n": "modulus-2", "e": "AQAB"}, "k-1": {"kty": "RSA", "n": "n", "e": "AQAB"}}
EARLIER = KeySet({"k-0": {"kty": "RSA", "n": "n", "e": "AQAB"}}, NOON - timedelta(minutes=5))


class OneIssuer:
    """Issuer with KEYS, or one that can't be asked because of *error*."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def keys(self) -> Mapping[str, Key]:
        if self._error is not None:
            raise self._error
        return KEYS


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


@pytest.fixture
def store() -> FakeKeyStore:
    return FakeKeyStore(EARLIER)


def a_handler(store: FakeKeyStore, error: Exception | None = None) -> KeysHandler:
    return KeysHandler(RefreshKeys(OneIssuer(error), store, FixedClock()))


def test_a_refresh_keeps_the_keys_and_logs_their_ids(
    store: FakeKeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    result = a_handler(store)({"source": "aws.scheduler"}, Invocation())

    assert store.issued == KeySet(KEYS, NOON)
    assert result == {"event": "keys.refreshed", "keyIds": ["k-1", "k-2"]}
    (record,) = caplog.records
    assert (record.name, record.levelname, record.message) == ("switchboard", "INFO", "keys refreshed")
    assert {name: vars(record)[name] for name in result} == result


def test_the_record_has_nothing_else_of_the_keys(
    store: FakeKeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    a_handler(store)({}, Invocation())

    assert "modulus-2" not in str(vars(caplog.records[0]))


def test_an_issuer_that_can_not_be_asked_is_an_error_and_the_earlier_keys_stay(
    store: FakeKeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    result = a_handler(store, IssuerUnavailable("TimedOut"))({}, Invocation())

    assert store.issued == EARLIER
    assert result == {"event": "keys.not_refreshed", "reason": "TimedOut"}
    (record,) = caplog.records
    assert (record.levelname, record.message, record.exc_info) == ("ERROR", "keys not refreshed", None)
    assert {name: vars(record)[name] for name in result} == result


def test_a_store_that_does_not_confirm_is_an_error(
    store: FakeKeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = StorageUnavailable("ThrottlingException", outcome_unknown=False)

    result = a_handler(store)({}, Invocation())

    assert result == {"event": "keys.not_refreshed", "reason": "ThrottlingException"}
    assert vars(caplog.records[0])["reason"] == "ThrottlingException"


def test_a_bug_is_raised(store: FakeKeyStore) -> None:
    bug = RuntimeError("a bug")

    with pytest.raises(RuntimeError) as raised:
        a_handler(store, bug)({}, Invocation())

    assert raised.value is bug


@pytest.mark.parametrize("event", [None, [], "now", {"force": True}])
def test_whatever_the_event_says_the_keys_are_refreshed(store: FakeKeyStore, event: object) -> None:
    assert a_handler(store)(event, None)["event"] == "keys.refreshed"
