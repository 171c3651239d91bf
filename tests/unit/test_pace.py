"""The pace: a set rate, which follows a limit of the other side."""

from collections import deque
from datetime import timedelta

import pytest

from app.domain.pace import Pace
from tests.builders import NOON

MILLISECOND = timedelta(milliseconds=1)
LATENCY = 10 * MILLISECOND


def calls_within(pace: Pace, milliseconds: int) -> int:
    """How many calls *pace* allows in that time, if as many as it allows are made."""
    made = 0
    for tick in range(milliseconds):
        while pace.take(NOON + tick * MILLISECOND):
            made += 1
    return made


def test_as_many_calls_are_allowed_as_the_rate_says() -> None:
    assert calls_within(Pace(1000), 10_000) == pytest.approx(10_000, rel=0.01)


def test_calls_are_evenly_spaced() -> None:
    pace = Pace(1000)
    calls_within(pace, 100)

    made = [calls for tick in range(100, 200) if (calls := _at_once(pace, tick))]

    assert made == [1] * 100


def test_unused_time_is_made_up_for_but_not_without_end() -> None:
    pace = Pace(1000)
    calls_within(pace, 10)

    assert _at_once(pace, 60_000) == 50


def test_one_call_is_allowed_at_once_however_low_the_rate_is() -> None:
    pace = Pace(1)

    assert _at_once(pace, 0) == 1
    assert _at_once(pace, 999) == 0
    assert _at_once(pace, 1000) == 1


def test_a_clock_that_is_set_back_costs_no_more_than_the_time_it_took() -> None:
    pace = Pace(1000)
    calls_within(pace, 1000)

    assert not pace.take(NOON - timedelta(hours=1))
    assert pace.take(NOON - timedelta(hours=1) + 2 * MILLISECOND)


def test_answers_that_are_not_throttled_leave_the_rate_as_it_is() -> None:
    pace = Pace(1000)

    _answer(pace, seconds=2, throttled=0.0)

    assert pace.rate == 1000


def test_few_throttled_answers_leave_the_rate_as_it_is() -> None:
    pace = Pace(1000)

    _answer(pace, seconds=2, throttled=0.04)

    assert pace.rate == 1000


def test_the_rate_falls_by_the_share_of_throttled_answers() -> None:
    pace = Pace(1000)

    _answer(pace, seconds=0.15, throttled=0.5)

    assert pace.rate == pytest.approx(500, rel=0.1)


def test_the_rate_rises_again_step_by_step_and_never_beyond_the_set_one() -> None:
    pace = Pace(1000)
    _answer(pace, seconds=0.15, throttled=0.5)
    low = pace.rate

    _answer(pace, seconds=1, throttled=0.0, start=0.15)
    risen = pace.rate
    _answer(pace, seconds=10, throttled=0.0, start=1.15)

    assert low < risen < 1000
    assert pace.rate == 1000


def test_clients_whose_buffers_are_full_do_not_keep_the_rate_down() -> None:
    """A share of throttled answers that does not fall with the rate is the clients' own."""
    pace = Pace(1000)

    rates = []
    for start in range(100):
        _answer(pace, seconds=0.1, throttled=0.2, start=start / 10)
        rates.append(pace.rate)

    assert sum(rates) / len(rates) > 900
    assert max(rates[50:]) == 1000


def test_what_was_taken_for_the_clients_own_is_judged_anew() -> None:
    """After a message to many slow clients, the next one follows the account's limit."""
    pace = Pace(1000)
    _answer(pace, seconds=10, throttled=0.3)

    _answer(pace, seconds=6, throttled=0.3, start=10)
    lowest = 1000.0
    for start in range(10):
        _answer(pace, seconds=0.5, throttled=0.3, start=16 + start / 2)
        lowest = min(lowest, pace.rate)

    assert lowest < 800


def test_some_calls_are_allowed_even_if_all_are_throttled() -> None:
    pace = Pace(1000)

    for start in range(0, 100, 2):
        _answer(pace, seconds=0.2, throttled=1.0, start=start)
        assert pace.rate >= 20


@pytest.mark.parametrize("limit", [300, 1000, 3000])
@pytest.mark.parametrize(("times", "most_throttled"), [(2, 0.1), (20, 0.3)])
@pytest.mark.parametrize("burst", [0.05, 0.5])
def test_it_follows_the_limit_of_the_other_side(
    limit: int, times: int, most_throttled: float, burst: float
) -> None:
    """Most of it is used, and few answers are throttled; more if the set rate is far higher."""
    pace = Pace(times * limit)
    tokens = limit * burst
    under_way: deque[tuple[timedelta, bool]] = deque()
    accepted = throttled = 0
    for tick in range(20_000):
        at = tick * MILLISECOND
        tokens = min(tokens + limit / 1000, limit * burst)
        while under_way and under_way[0][0] <= at:
            _, refused = under_way.popleft()
            pace.answered(NOON + at, throttled=refused)
        while pace.take(NOON + at):
            refused = tokens < 1
            tokens -= not refused
            accepted += not refused
            throttled += refused
            under_way.append((at + LATENCY, refused))

    assert accepted / 20 >= 0.9 * limit
    assert throttled / (accepted + throttled) <= most_throttled


def _at_once(pace: Pace, tick: int) -> int:
    made = 0
    while pace.take(NOON + tick * MILLISECOND):
        made += 1
    return made


def _answer(pace: Pace, *, seconds: float, throttled: float, start: float = 0) -> None:
    """Answer 1,000 calls per second, that share of them throttled."""
    for tick in range(round(seconds * 1000)):
        now = NOON + timedelta(seconds=start) + tick * MILLISECOND
        pace.answered(now, throttled=int((tick + 1) * throttled) > int(tick * throttled))
