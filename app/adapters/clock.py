"""The machine's own clock."""

from datetime import UTC, datetime


class SystemClock:
    """Clock of the operating system; Lambda's hosts synchronise it with Amazon Time Sync."""

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
