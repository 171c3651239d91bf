"""The sweep as a Lambda handler: a schedule's event in, the report out, and one log record of it.

The metrics and alarms in infra/template.yaml read the record by its field names.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.ports import Clock
from app.domain.sweep import Outcome, Report, SweepConnections, segment_at
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL, LambdaContext, deadline_of
from app.settings import LONGEST_STORE_CALL, SweepSettings

logger = logging.getLogger("switchboard")

RESERVE = LONGEST_GATEWAY_CALL + 2 * LONGEST_STORE_CALL
"""How long before the function's deadline the sweep begins nothing more.

The last probe and the delete after it may time out, and so may one more read of
the table.
"""

_KEYS = {"scheduledTime", "dryRun", "segment"}


@dataclass(frozen=True, slots=True)
class SweepHandler:
    """Sweeps the segment whose turn it is.

    Optional fields of the event: ``scheduledTime``, the time of the run
    (EventBridge Scheduler's ``<aws.scheduler.scheduled-time>``); ``segment``,
    which segment instead; ``dryRun``, to delete nothing.
    """

    sweep_connections: SweepConnections
    clock: Clock
    settings: SweepSettings

    def __call__(self, event: object, context: LambdaContext) -> dict[str, object]:
        """Sweep, log the report and return it.

        Raises:
            ValueError: the event is malformed; the text is a sentence that says why.
        """
        began = self.clock.now()
        given = _given(event)
        report = self.sweep_connections(
            segment=self._segment(given, began),
            of=self.settings.segments,
            until=deadline_of(context, began) - RESERVE,
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
    """Return the event's fields. An unknown one is refused: it may be a misspelt ``dryRun``."""
    if not isinstance(event, dict):
        raise ValueError("The event must be an object.")  # noqa: TRY004 - the caller sent a wrong value
    if unknown := event.keys() - _KEYS:
        raise ValueError(f"The event may hold {', '.join(sorted(_KEYS))}; not {', '.join(sorted(unknown))}.")
    return event


def _dry_run(given: dict[str, object]) -> bool:
    dry_run = given.get("dryRun", False)
    if not isinstance(dry_run, bool):
        raise ValueError("dryRun must be true or false.")  # noqa: TRY004 - as above
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
        "segment": str(report.segment),  # text, since it is a metric dimension
        "segments": str(report.of),
        "dryRun": report.dry_run,
        "open": report.open,
        "missedDisconnects": report.missed_disconnects,
        "scanned": report.scanned,
        "asked": report.probed,
    }
    facts |= {outcome.value: report.outcomes[outcome] for outcome in Outcome}
    if report.fault is not None:
        facts["reason"] = report.fault
    return facts
