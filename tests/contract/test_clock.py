"""The promises of Clock, for the real one and the fake."""

from datetime import UTC, datetime, timedelta

import pytest

from app.adapters.clock import SystemClock
from app.domain.ports import Clock
from tests.fakes import FixedClock

CLOCKS = [SystemClock(), FixedClock()]


@pytest.mark.parametrize("clock", CLOCKS, ids=["system", "fixed"])
def test_the_time_is_aware_in_utc_and_in_whole_milliseconds(clock: Clock) -> None:
    times = [clock.now() for _ in range(50)]  # some of them would have microseconds by chance

    assert all(time.tzinfo is UTC for time in times)
    assert all(time.microsecond % 1000 == 0 for time in times)


@pytest.mark.parametrize("clock", CLOCKS, ids=["system", "fixed"])
def test_the_time_does_not_go_back(clock: Clock) -> None:
    assert clock.now() <= clock.now()


def test_the_system_clock_tells_the_current_time_without_its_microseconds() -> None:
    millisecond = timedelta(milliseconds=1)

    before, now, after = datetime.now(UTC), SystemClock().now(), datetime.now(UTC)

    assert before - millisecond < now <= after


def test_the_fixed_clock_is_advanced() -> None:
    clock = FixedClock()
    before = clock.now()

    clock.advance(timedelta(seconds=5))

    assert clock.now() - before == timedelta(seconds=5)
