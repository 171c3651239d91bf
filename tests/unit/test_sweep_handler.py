"""The sweep's Lambda handler: the event's fields, the log record and the result."""

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryConnectionTable
from app.adapters.threads import ThreadWorkers
from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId, Entry, Tombstone
from app.domain.sweep import SweepConnections, segment_at
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL
from app.entrypoints.sweep import RESERVE, SweepHandler
from app.settings import LONGEST_STORE_CALL, SweepSettings
from tests.builders import NOON, NOON_MS, Invocation, a_connection
from tests.fakes import FakeGateway, FixedClock, RecordingPublisher

SETTINGS = SweepSettings(segments=3, every=timedelta(minutes=5))
LONG_AGO = NOON - timedelta(minutes=10)
GONE = {"c-1": ProbeResult.GONE}


class OneSegmentTable(MemoryConnectionTable):
    """A table that has all entries in each segment, and records which segment was scanned."""

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        self.scanned = (segment, of)
        return super().scan(0, 1)


class UnreadableTable(MemoryConnectionTable):
    """A table that can't be read."""

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        raise StorageUnavailable("ThrottlingException", outcome_unknown=False)
        yield


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


@pytest.fixture
def table() -> OneSegmentTable:
    return OneSegmentTable()


def an_old_connection(connection_id: str, **changes: Any) -> Connection:
    """A connection of an age at which it is probed."""
    return a_connection(
        **{"id": ConnectionId(connection_id), "connected_at": LONG_AGO, "created_at": LONG_AGO} | changes
    )


def a_handler(table: MemoryConnectionTable, results: Mapping[str, ProbeResult] | None = None) -> SweepHandler:
    """The handler on a gateway with these *results*, each of which takes a second."""
    clock = FixedClock()
    gateway = FakeGateway(results, before=lambda _: clock.advance(timedelta(seconds=1)))
    sweep_connections = SweepConnections(
        table, gateway, clock, ThreadWorkers(1), timedelta(seconds=30), 10**9, RecordingPublisher()
    )
    return SweepHandler(sweep_connections, clock, SETTINGS)


def test_a_sweep_logs_one_record_with_all_counts_and_returns_them(
    table: OneSegmentTable, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        table.add(an_old_connection(f"c-{number}"))
    table.add(an_old_connection("young", connected_at=NOON))
    table.add(an_old_connection("ancient", connected_at=NOON - timedelta(days=1)))
    for name, expires_at in (("past", LONG_AGO), ("kept", NOON + timedelta(minutes=5))):
        table.tombstone(Tombstone(ConnectionId(name), LONG_AGO, LONG_AGO, expires_at))
    results = {
        "c-2": ProbeResult.GONE,
        "c-3": ProbeResult.THROTTLED,
        "c-4": ProbeResult.FORBIDDEN,
        "c-5": ProbeResult.FAILED,
    }

    result = a_handler(table, results)({"segment": 2}, Invocation())

    assert result == {
        "event": "sweep.finished",
        "segment": "2",
        "segments": "3",
        "dryRun": False,
        "open": 6,
        "missedDisconnects": 2,
        "scanned": 10,
        "asked": 6,
        "young": 1,
        "alive": 2,
        "removedByAge": 1,
        "gone": 1,
        "admissionEnded": 0,
        "throttled": 1,
        "forbidden": 1,
        "failed": 1,
        "notRemoved": 0,
        "changedMeanwhile": 0,
        "marksRemoved": 1,
        "marksKept": 1,
        "leftForNextTime": 0,
        "durationMs": 6000,
    }
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert {name: vars(record)[name] for name in result} == result


def test_a_sweep_that_runs_out_of_time_logs_a_warning(
    table: OneSegmentTable, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        table.add(an_old_connection(f"c-{number}"))

    result = a_handler(table)({}, Invocation(RESERVE + timedelta(seconds=2)))

    assert (result["event"], result["scanned"], result["alive"], result["leftForNextTime"]) == (
        *("sweep.unfinished", 3),
        *(2, 1),
    )
    assert caplog.records[0].levelname == "WARNING"
    assert vars(caplog.records[0])["event"] == "sweep.unfinished"


def test_an_invocation_without_the_time_for_one_probe_makes_none(table: OneSegmentTable) -> None:
    table.add(an_old_connection("c-1"))

    result = a_handler(table, GONE)({}, Invocation(RESERVE))

    assert (result["event"], result["asked"]) == ("sweep.unfinished", 0)


def test_a_store_that_can_not_be_read_is_logged_as_an_unfinished_sweep_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = a_handler(UnreadableTable())({}, Invocation())

    assert (result["event"], result["scanned"]) == ("sweep.unfinished", 0)
    assert result["reason"] == "ThrottlingException"
    assert vars(caplog.records[0])["reason"] == "ThrottlingException"


@pytest.mark.parametrize("scheduled_time", ["2126-11-21T12:07:31Z", "2126-11-21T13:07:31.000+01:00"])
def test_the_segment_is_that_of_the_scheduled_time(table: OneSegmentTable, scheduled_time: str) -> None:
    a_handler(table)({"scheduledTime": scheduled_time}, Invocation())

    scheduled = segment_at(NOON + timedelta(minutes=7), SETTINGS.every, 3)
    assert table.scanned == (scheduled, 3)
    assert scheduled != segment_at(NOON, SETTINGS.every, 3)


def test_without_a_scheduled_time_the_segment_is_that_of_the_clock(table: OneSegmentTable) -> None:
    a_handler(table)({}, Invocation())

    assert table.scanned == (segment_at(NOON, SETTINGS.every, 3), 3)


def test_a_dry_run_deletes_nothing_and_is_reported_as_one(table: OneSegmentTable) -> None:
    table.add(an_old_connection("c-1"))

    result = a_handler(table, GONE)({"dryRun": True}, Invocation())

    assert (result["dryRun"], result["gone"]) == (True, 1)
    assert table.get(ConnectionId("c-1")) is not None


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (None, "^The event must be an object.$"),
        ([], "^The event must be an object.$"),
        (
            {"dry_run": True},
            "^The event may hold dryRun, scheduledTime, segment; not dry_run.$",
        ),
        ({"dryRun": "true"}, "^dryRun must be true or false.$"),
        ({"dryRun": 1}, "^dryRun must be true or false.$"),
        ({"segment": 3}, "^segment must be a whole number from 0 to 2.$"),
        ({"segment": -1}, "^segment must be a whole number from 0 to 2.$"),
        ({"segment": "1"}, "^segment must be a whole number from 0 to 2.$"),
        ({"segment": True}, "^segment must be a whole number from 0 to 2.$"),
        ({"scheduledTime": "noon"}, "^scheduledTime must be a time with its zone"),
        ({"scheduledTime": "2126-11-21T12:00:00"}, "^scheduledTime must be a time with its zone"),
        ({"scheduledTime": NOON_MS // 1000}, "^scheduledTime must be a time with its zone"),
    ],
)
def test_a_malformed_event_fails_with_a_sentence_and_nothing_is_swept(
    table: OneSegmentTable, event: object, sentence: str
) -> None:
    table.add(an_old_connection("c-1"))

    with pytest.raises(ValueError, match=sentence):
        a_handler(table, GONE)(event, Invocation())
    assert table.get(ConnectionId("c-1")) is not None


def test_the_reserve_is_enough_for_a_probe_and_a_delete_that_both_time_out() -> None:
    gateway = ManagementApiGateway(region="eu-central-1")
    longest_wait = timedelta(seconds=1)  # the lowest rate is one probe per second

    assert longest_wait + 2 * gateway.longest_call < LONGEST_GATEWAY_CALL
    assert RESERVE >= LONGEST_GATEWAY_CALL + 2 * LONGEST_STORE_CALL
