"""The machine's own clock."""

from datetime import UTC, datetime


class SystemClock:
    """Clock by the operating system; Lambda's hosts keep it in step with Amazon Time Sync."""

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
