"""How fast calls may be made: at a set rate, or slower where the other side throttles them; and again."""

import random
from datetime import datetime, timedelta

_BURST = timedelta(milliseconds=50)  # how much unused time is made up for
_WINDOW = timedelta(milliseconds=100)  # over which answers are judged
_TOLERATED = 0.05  # share of throttled answers, beyond the clients' own
_INCREASE = 0.02  # of the highest rate, per window
_LOWEST = 0.02  # of the highest rate
_MOST_CLIENTS = 0.3  # share of clients whose buffers may be full
_SCATTER = 1.4  # between the shares of two windows at the same rate
_FEWEST = 10  # answers in a window, or it goes on
_TOLERANCE_LASTS = 50  # windows, after which the share is judged anew
_SETTLED = 1  # windows after a decrease, whose answers belong to the time before

_PAUSE = timedelta(milliseconds=250)  # before a second attempt, doubled for each further one
_MOST_DOUBLINGS = 5

_SECOND = timedelta(seconds=1)


class Pace:
    """At most *most* calls per second, evenly spaced; ``rate`` is the current limit.

    It follows a limit of the other side by additive increase and multiplicative
    decrease: after 0.1 s in which over 5 % of the answers are throttled, it
    takes off that share, and adds 2 % of *most* otherwise. The answers just after
    a decrease belong to the time before and do not count. A share that does not
    fall after that is not the rate's fault but the clients' (a client's full
    buffer is answered like that, too), and for 5 s only a larger one counts.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.rate = float(most)
        self._calls = self._most_calls()
        self._counted_at: datetime | None = None
        self._window_ends: datetime | None = None
        self._answers = 0
        self._throttled = 0
        self._tolerated = _TOLERATED
        self._share_before = 0.0
        self._since_decrease = _SETTLED + 1

    def take(self, now: datetime) -> bool:
        """Return whether a call may be made *now*; if so, it counts as made."""
        if self._counted_at is None or now < self._counted_at:  # a clock that was set back
            self._counted_at = now
        if now > self._counted_at:
            passed = (now - self._counted_at) / _SECOND
            self._counted_at = now
            self._calls = min(self._calls + passed * self.rate, self._most_calls())
        if self._calls < 1:
            return False
        self._calls -= 1
        return True

    def answered(self, now: datetime, *, throttled: bool) -> None:
        """Count an answer, which came *now*."""
        self._answers += 1
        self._throttled += throttled
        if self._window_ends is None:
            self._window_ends = now + _WINDOW
        if now < self._window_ends or self._answers < _FEWEST:
            return
        self._judge(self._throttled / self._answers)
        self._answers = self._throttled = 0
        self._window_ends = now + _WINDOW

    def _most_calls(self) -> float:
        """Return how many calls may be made at once."""
        return max(1, self.rate * (_BURST / _SECOND))

    def _judge(self, share: float) -> None:
        """Set the rate by the share of throttled answers in a window."""
        if self._since_decrease > _TOLERANCE_LASTS:
            self._tolerated = _TOLERATED
        if self._since_decrease == _SETTLED:
            is_unchanged = share / _SCATTER <= self._share_before <= share * _SCATTER
            clients_own = min(share, _MOST_CLIENTS) if is_unchanged else 0
            self._tolerated = _SCATTER * clients_own + _TOLERATED
        if self._since_decrease >= _SETTLED:
            if share > self._tolerated:
                self.rate = max(self.rate * (1 - share), self.most * _LOWEST, 1)
                self._share_before, self._since_decrease = share, 0
                return
            self.rate = min(self.rate + self.most * _INCREASE, self.most)
        self._since_decrease += 1


def pause_after(attempts: int) -> timedelta:
    """Return a pause after so many attempts; random, or all that failed together would come back together."""
    longest: timedelta = _PAUSE * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - not a secret
