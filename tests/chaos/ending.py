"""The end of a run: what the sweep leaves is compared with who is really connected."""

import asyncio
from collections import Counter
from datetime import timedelta

from app.domain.sweep import Report
from tests.chaos.database import Rows, Table
from tests.chaos.figures import Outcome
from tests.chaos.sweeping import GRACE, SEGMENTS, Sweeper
from tests.chaos.truth import Truth

_TRIES = 3  # of a sweep, for a machine that is too busy to answer in time
_PAST_GRACE = GRACE + timedelta(seconds=1)
_PAST_MARKS = timedelta(minutes=11)  # they last for 10 (app/domain/use_cases.py)


class Ending:
    """A full round of sweeps past the grace, and one when the marks' time is over; nothing fails any more."""

    def __init__(self, table: Table, truth: Truth, sweeper: Sweeper, outcome: Outcome) -> None:
        self._table = table
        self._truth = truth
        self._sweeper = sweeper
        self._outcome = outcome

    async def judge(self) -> None:
        """Put every difference into the outcome."""
        swept_before = len(self._sweeper.removed)
        before = await self._rows()
        ghosts = [row for row in before.connections.items() if row not in self._live().items()]
        figures = self._outcome.figures
        figures.count("rows before the last sweep", "live", len(before.connections) - len(ghosts))
        figures.count("rows before the last sweep", "of ghosts", len(ghosts))
        figures.count("rows before the last sweep", "marks", len(before.marks))
        await self._sweep(_PAST_GRACE)
        after = await self._rows()
        self._compare(after)
        await self._sweep(_PAST_MARKS)
        at_last = await self._rows()
        self._compare(at_last)
        self._outcome.differences += [f"a mark is left: {mark}" for mark in sorted(at_last.marks)]
        figures.count("rows at the end", "live", len(at_last.connections))
        figures.count("rows at the end", "marks", len(at_last.marks))
        swept = self._sweeper.removed
        figures.count("swept", "while lifecycles were under way", swept_before)
        figures.count("swept", "in the last round", len(swept) - swept_before)
        for cause, number in Counter(self._cause(row) for row in [*swept[:swept_before], *ghosts]).items():
            figures.count("ghosts by cause", cause, number)

    async def _sweep(self, later: timedelta) -> None:
        for segment in range(SEGMENTS):
            for _ in range(_TRIES):
                report = await asyncio.to_thread(self._sweeper.sweep, segment, later=later)
                self._outcome.figures.count("sweeps at the end", "finished" if _is_whole(report) else "again")
                if _is_whole(report):
                    break
            else:
                self._outcome.differences.append(f"a sweep that nothing hindered did not do all: {report}")

    def _compare(self, rows: Rows) -> None:
        live = self._live()
        self._outcome.differences += [
            f"ghost row: {row[0]}, connectedAt {row[1]} ({self._cause(row)})"
            for row in rows.connections.items()
            if row not in live.items()
        ]
        self._outcome.differences += [
            f"missing row: {self._truth.visits[row]}"
            for row in live.items()
            if row not in rows.connections.items()
        ]

    async def _rows(self) -> Rows:
        return await asyncio.to_thread(self._table.rows)

    def _live(self) -> dict[str, int]:
        return {visit.connection_id: visit.connected_at for visit in self._truth.connected()}

    def _cause(self, row: tuple[str, int]) -> str:
        visit = self._truth.visits[row]
        return "it was none: the client is connected" if self._truth.has(visit) else visit.cause


def _is_whole(report: Report) -> bool:
    unsettled = report.failed + report.not_removed + report.throttled + report.forbidden
    return report.finished and not unsettled
