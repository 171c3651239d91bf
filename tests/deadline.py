"""Wait for a condition."""

import time
from collections.abc import Callable
from datetime import timedelta


def eventually(is_true: Callable[[], bool], *, within: timedelta = timedelta(seconds=10)) -> None:
    """Check again and again until *is_true*.

    Raises:
        TimeoutError: it was not true *within* the time.
    """
    deadline = time.monotonic() + within.total_seconds()
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{is_true} was not true within {within}")
        time.sleep(0.05)  # between two checks
