"""How long tests wait."""

import time
from collections.abc import Callable
from datetime import timedelta

LONGEST = 600
"""Seconds of a command, after which it counts as hung."""


def eventually(is_true: Callable[[], bool], *, within: timedelta = timedelta(seconds=60)) -> None:
    """Check again and again until *is_true*.

    Raises:
        TimeoutError: it was not true *within* the time.
    """
    deadline = time.monotonic() + within.total_seconds()
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{is_true} was not true within {within}")
        time.sleep(0.05)  # between two checks
