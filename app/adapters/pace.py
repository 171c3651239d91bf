"""A pace that any number of threads keep together."""

import time
from collections.abc import Callable
from threading import Lock


class SteadyPace:
    """Returns at most *rate* times a second, evenly: whoever calls waits for a turn.

    Turns that nobody took are not made up for.
    """

    def __init__(
        self,
        rate: int,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / rate
        self._now = now
        self._sleep = sleep
        self._lock = Lock()
        self._next_turn = now()

    def __call__(self) -> None:
        with self._lock:
            now = self._now()
            turn = max(self._next_turn, now)
            self._next_turn = turn + self._gap
        if turn > now:
            self._sleep(turn - now)
