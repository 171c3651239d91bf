"""The sweep as a function: a schedule's event in, the figures out, one log record of them.

The alarms and metrics in infra/template.yaml read that record by its names.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.ports import Clock
from app.domain.sweep import Report, SweepConnections, segment_at
from app.entrypoints.time_left import LONGEST_QUESTION, LambdaContext, end_of
from app.settings import LONGEST_STORE_CALL, SweepSettings

logger = logging.getLogger("switchboard")

RESERVE = LONGEST_QUESTION + 2 * LONGEST_STORE_CALL
"""How long before Lambda would stop the function nothing more is begun.

The last thing begun is a question whose answer is followed by a removal: both
may time out. Whoever waited for that to end may read on in the table once
more, before it sees that the time is up. Then the report is still to be
written.
"""

_KEYS = {"scheduledTime", "dryRun", "segment"}


@dataclass(frozen=True, slots=True)
class Sweeping:
    """Sweeps the segment whose turn it is.

    The event may say otherwise: ``scheduledTime``, when the schedule meant
    the run to be (EventBridge Scheduler's ``<aws.scheduler.scheduled-time>``);
    ``segment``, which one; ``dryRun``, that nothing is to be removed.
    """

    sweep_connections: SweepConnections
    clock: Clock
    settings: SweepSettings

    def __call__(self, event: object, context: LambdaContext) -> dict[str, object]:
        """Sweep, write the record, and return what it says.

        Raises:
            ValueError: the event can't be meant so; the text is a sentence that says why.
        """
        began = self.clock.now()
        given = _given(event)
        report = self.sweep_connections(
            segment=self._segment(given, began),
            of=self.settings.segments,
            until=end_of(context, began) - RESERVE,
            dry_run=_dry_run(given),
        )
        facts = _facts(report) | {"durationMs": (self.clock.now() - began) // timedelta(milliseconds=1)}
        if report.finished:
            logger.info("sweep finished", extra=facts)
        else:
            logger.warning("sweep unfinished", extra=facts)
        return facts

    def _segment(self, given: dict[str, object], now: datetime) -> int:
        segment = given.get("segment")
        if segment is None:
            return segment_at(_scheduled(given) or now, self.settings.every, self.settings.segments)
        last = self.settings.segments - 1
        if not isinstance(segment, int) or isinstance(segment, bool) or not 0 <= segment <= last:
            raise ValueError(f"segment must be a whole number from 0 to {last}.")
        return segment


def _given(event: object) -> dict[str, object]:
    """The event's fields: one that nobody knows may be a ``dryRun`` that is spelt otherwise."""
    if not isinstance(event, dict):
        raise ValueError("The event must be an object.")  # noqa: TRY004 - a value, not a type, to whoever sent it
    if unknown := event.keys() - _KEYS:
        raise ValueError(f"The event may hold {', '.join(sorted(_KEYS))}; not {', '.join(sorted(unknown))}.")
    return event


def _dry_run(given: dict[str, object]) -> bool:
    dry_run = given.get("dryRun", False)
    if not isinstance(dry_run, bool):
        raise ValueError("dryRun must be true or false.")  # noqa: TRY004 - likewise
    return dry_run


def _scheduled(given: dict[str, object]) -> datetime | None:
    text = given.get("scheduledTime")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("scheduledTime must be a time with its zone, such as 2026-11-21T12:00:00Z.")
    return moment


def _facts(report: Report) -> dict[str, object]:
    facts: dict[str, object] = {
        "event": "sweep.finished" if report.finished else "sweep.unfinished",
        "segment": str(report.segment),  # as text, since a metric has them as dimensions
        "segments": str(report.of),
        "dryRun": report.dry_run,
        "open": report.open,
        "missedDisconnects": report.missed,
        "scanned": report.scanned,
        "asked": report.asked,
        "young": report.young,
        "alive": report.alive,
        "removedByAge": report.removed_by_age,
        "gone": report.gone,
        "throttled": report.throttled,
        "forbidden": report.forbidden,
        "failed": report.failed,
        "notRemoved": report.not_removed,
        "changedMeanwhile": report.changed_meanwhile,
        "marksRemoved": report.marks_removed,
        "marksKept": report.marks_kept,
        "leftForNextTime": report.left_for_next_time,
    }
    if report.fault is not None:
        facts["reason"] = report.fault
    return facts
