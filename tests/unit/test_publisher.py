"""Domain events as log records."""

import logging

import pytest

from app.domain.events import Ended
from app.entrypoints.publisher import LogPublisher
from tests.builders import a_connection


def test_a_connection_whose_admission_was_over_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        LogPublisher().publish(Ended(a_connection()))

    [record] = caplog.records
    logged = vars(record)
    assert (record.levelname, record.getMessage()) == ("INFO", "connection ended")
    assert {name: logged[name] for name in ("event", "connectionId", "clientId", "reason")} == {
        "event": "connection.ended",
        "connectionId": "c-1",
        "clientId": "dashboard-7",
        "reason": "token_expired",
    }
    assert (logged["account"], logged["region"]) == ("123456789012", "ap-northeast-2")
