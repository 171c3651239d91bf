"""The time that Lambda leaves an invocation."""

from datetime import datetime, timedelta
from typing import Protocol

LONGEST_GATEWAY_CALL = timedelta(seconds=10)
"""The longest call of the gateway: 3 s, a wait for the rate (1 s at the lowest one), and a reserve."""


class LambdaContext(Protocol):
    """Lambda's context object, as far as it is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda stops the function."""


def deadline_of(context: LambdaContext, now: datetime) -> datetime:
    """Return when Lambda stops the function."""
    return now + timedelta(milliseconds=context.get_remaining_time_in_millis())
