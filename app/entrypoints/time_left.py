"""How much time Lambda leaves a function, and what the longest calls take of it."""

from datetime import datetime, timedelta
from typing import Protocol

LONGEST_QUESTION = timedelta(seconds=10)
"""What one call of the gateway may take at worst.

The wait for its turn (a second at the lowest rate), both of the adapter's
time-outs, twice where the first attempt breaks off, and some for what those
don't count: to look the name up, and to try another of its addresses.
"""


class LambdaContext(Protocol):
    """What Lambda tells of an invocation, as far as it is needed here."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops the function."""


def end_of(context: LambdaContext, now: datetime) -> datetime:
    """When Lambda stops the function."""
    return now + timedelta(milliseconds=context.get_remaining_time_in_millis())
