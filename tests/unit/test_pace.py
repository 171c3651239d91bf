"""The pace, on a clock of its own."""

from app.adapters.pace import SteadyPace


class Watch:
    """A clock that moves while somebody sleeps, and otherwise where it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_turns_come_evenly_from_the_first_on() -> None:
    watch = Watch()
    pace = SteadyPace(4, now=watch, sleep=watch.sleep)

    turns = []
    for _ in range(5):
        pace()
        turns.append(watch.now)

    assert turns == [100.0, 100.25, 100.5, 100.75, 101.0]


def test_who_comes_late_does_not_wait_and_gets_no_turns_on_top() -> None:
    watch = Watch()
    pace = SteadyPace(4, now=watch, sleep=watch.sleep)
    pace()
    watch.now = 105.1

    turns = []
    for _ in range(3):
        pace()
        turns.append(watch.now)

    assert turns == [105.1, 105.35, 105.6]


def test_who_sleeps_too_long_delays_nobody_after() -> None:
    watch = Watch()
    pace = SteadyPace(4, now=watch, sleep=lambda seconds: watch.sleep(seconds + 0.0625))

    turns = []
    for _ in range(4):
        pace()
        turns.append(watch.now)

    assert turns == [100.0, 100.3125, 100.5625, 100.8125]
