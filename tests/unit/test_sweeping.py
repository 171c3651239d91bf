"""The sweep's function: what an event asks for, and what the record and the result say."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.adapters.gateway import ManagementApiGateway
from app.adapters.memory import MemoryConnectionStore
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId
from app.domain.sweep import SweepConnections, segment_at
from app.domain.upkeep import Answer, Entry
from app.entrypoints.sweeping import RESERVE, Sweeping
from app.entrypoints.time_left import LONGEST_QUESTION
from app.settings import LONGEST_STORE_CALL, SweepSettings
from tests.builders import NOON, NOON_MS, FixedClock, Invocation, a_connection

SETTINGS = SweepSettings(segments=3, every=timedelta(minutes=5))
LONG_AGO = NOON - timedelta(minutes=10)


class GatewayByName:
    """Gateway whose answer is the connection's client id; each takes a second."""

    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock

    def ask(self, connection: Connection) -> Answer:
        self._clock.advance(timedelta(seconds=1))
        return Answer(connection.client_id)

    def close(self, connection: Connection) -> Answer:
        raise NotImplementedError  # a sweep closes nothing


class OneSegmentRegistry(MemoryConnectionStore):
    """A memory of connections that has all of them in each segment, and remembers which was asked for."""

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        self.asked_for = (number, of)
        return super().segment(0, 1)


class UnreadableRegistry(MemoryConnectionStore):
    """A store that can't be read."""

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        raise StorageUnavailable("ThrottlingException", outcome_unknown=False)
        yield


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


@pytest.fixture
def registry() -> OneSegmentRegistry:
    return OneSegmentRegistry()


def a_row(name: str, answer: str, **changes: Any) -> Connection:
    return a_connection(
        **{"id": ConnectionId(name), "client_id": answer, "connected_at": LONG_AGO, "created_at": LONG_AGO}
        | changes
    )


def sweeping(registry: MemoryConnectionStore) -> Sweeping:
    clock = FixedClock()
    use_case = SweepConnections(
        registry, GatewayByName(clock), clock, timedelta(seconds=30), concurrency=1, pace=lambda: None
    )
    return Sweeping(use_case, clock, SETTINGS)


def test_a_sweep_leaves_one_record_of_all_figures_and_returns_them(
    registry: OneSegmentRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for number, answer in enumerate(["alive", "alive", "gone", "throttled", "forbidden", "failed"]):
        registry.add(a_row(f"c-{number}", answer))
    registry.add(a_row("young", "alive", connected_at=NOON))
    registry.add(a_row("ancient", "alive", connected_at=NOON - timedelta(days=1)))
    for name, until in (("past", LONG_AGO), ("kept", NOON + timedelta(minutes=5))):
        registry.mark_closed(ConnectionId(name), connected_at=LONG_AGO, closed_at=LONG_AGO, until=until)

    told = sweeping(registry)({"segment": 2}, Invocation())

    assert told == {
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
    assert {name: vars(record)[name] for name in told} == told


def test_a_sweep_that_runs_out_of_time_says_so_louder(
    registry: OneSegmentRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        registry.add(a_row(f"c-{number}", "alive"))

    told = sweeping(registry)({}, Invocation(RESERVE + timedelta(seconds=2)))

    assert (told["event"], told["scanned"], told["alive"], told["leftForNextTime"]) == (
        *("sweep.unfinished", 3),
        *(2, 1),
    )
    assert caplog.records[0].levelname == "WARNING"
    assert vars(caplog.records[0])["event"] == "sweep.unfinished"


def test_an_invocation_without_the_time_for_one_question_asks_none(registry: OneSegmentRegistry) -> None:
    registry.add(a_row("c-1", "gone"))

    told = sweeping(registry)({}, Invocation(RESERVE))

    assert (told["event"], told["asked"]) == ("sweep.unfinished", 0)


def test_a_store_that_can_not_be_read_is_an_unfinished_sweep_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = sweeping(UnreadableRegistry())({}, Invocation())

    assert (told["event"], told["scanned"]) == ("sweep.unfinished", 0)
    assert told["reason"] == "ThrottlingException"
    assert vars(caplog.records[0])["reason"] == "ThrottlingException"


@pytest.mark.parametrize("spelt", ["2126-11-21T12:07:31Z", "2126-11-21T13:07:31.000+01:00"])
def test_the_segment_is_that_of_the_time_which_the_schedule_meant(
    registry: OneSegmentRegistry, spelt: str
) -> None:
    sweeping(registry)({"scheduledTime": spelt}, Invocation())

    meant = segment_at(NOON + timedelta(minutes=7), SETTINGS.every, 3)
    assert registry.asked_for == (meant, 3)
    assert meant != segment_at(NOON, SETTINGS.every, 3)


def test_without_a_schedule_the_segment_is_that_of_the_clock(registry: OneSegmentRegistry) -> None:
    sweeping(registry)({}, Invocation())

    assert registry.asked_for == (segment_at(NOON, SETTINGS.every, 3), 3)


def test_a_dry_run_removes_nothing_and_says_what_it_is(registry: OneSegmentRegistry) -> None:
    registry.add(a_row("c-1", "gone"))

    told = sweeping(registry)({"dryRun": True}, Invocation())

    assert (told["dryRun"], told["gone"]) == (True, 1)
    assert registry.get(ConnectionId("c-1")) is not None


@pytest.mark.parametrize(
    ("event", "why"),
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
def test_an_event_that_can_not_be_meant_so_fails_with_a_sentence_and_sweeps_nothing(
    registry: OneSegmentRegistry, event: object, why: str
) -> None:
    registry.add(a_row("c-1", "gone"))

    with pytest.raises(ValueError, match=why):
        sweeping(registry)(event, Invocation())
    assert registry.get(ConnectionId("c-1")) is not None


def test_the_reserve_is_enough_for_a_question_and_a_removal_that_both_time_out() -> None:
    gateway = ManagementApiGateway(region="eu-central-1")
    slowest_turn = timedelta(seconds=1)  # the least rate is one a second

    assert slowest_turn + 2 * gateway.longest_call < LONGEST_QUESTION
    assert RESERVE >= LONGEST_QUESTION + 2 * LONGEST_STORE_CALL
