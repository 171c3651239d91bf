"""The machine's clock keeps the port's promise."""

from datetime import UTC, datetime

from app.adapters.clock import SystemClock


def test_it_tells_the_time_in_utc_and_whole_milliseconds() -> None:
    before = datetime.now(UTC)
    moments = [SystemClock().now() for _ in range(50)]  # some of them would have other microseconds
    after = datetime.now(UTC)

    assert all(moment.tzinfo is UTC for moment in moments)
    assert all(moment.microsecond % 1000 == 0 for moment in moments)
    assert before.timestamp() - 0.001 <= moments[0].timestamp()
    assert moments[-1] <= after
