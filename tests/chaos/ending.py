"""The end of a run: after the last sweeps, the table is compared with the truth."""

import asyncio
from collections import Counter
from datetime import timedelta

from app.domain.handshakes import TOMBSTONE_TTL
from app.domain.sweep import Outcome as Swept
from app.domain.sweep import Report
from tests.chaos.database import Items, Table
from tests.chaos.figures import Outcome
from tests.chaos.sweeping import GRACE, SEGMENTS, Sweeper
from tests.chaos.truth import Truth

_TRIES = 3  # of a sweep, since calls time out on a busy machine
_UNSETTLED = (Swept.FAILED, Swept.NOT_REMOVED, Swept.THROTTLED, Swept.FORBIDDEN)
_PAST_GRACE = GRACE + timedelta(seconds=1)
_PAST_TOMBSTONES = TOMBSTONE_TTL + timedelta(minutes=1)


class Ending:
    """A sweep of all segments past the grace, and one when the tombstones have expired; without faults."""

    def __init__(self, table: Table, truth: Truth, sweeper: Sweeper, outcome: Outcome) -> None:
        self._table = table
        self._truth = truth
        self._sweeper = sweeper
        self._outcome = outcome

    async def check(self) -> None:
        """Add every difference to the outcome."""
        swept_before = len(self._sweeper.removed)
        before = await self._items()
        ghosts = [item for item in before.connections.items() if item not in self._live().items()]
        figures = self._outcome.figures
        figures.count("items before the last sweep", "live", len(before.connections) - len(ghosts))
        figures.count("items before the last sweep", "ghosts", len(ghosts))
        figures.count("items before the last sweep", "tombstones", len(before.tombstones))
        await self._sweep(_PAST_GRACE)
        after = await self._items()
        self._compare(after)
        await self._sweep(_PAST_TOMBSTONES)
        final = await self._items()
        self._compare(final)
        self._outcome.differences += [f"a tombstone is left: {it}" for it in sorted(final.tombstones)]
        figures.count("items at the end", "live", len(final.connections))
        figures.count("items at the end", "tombstones", len(final.tombstones))
        swept = self._sweeper.removed
        figures.count("swept", "while lifecycles were under way", swept_before)
        figures.count("swept", "in the last round", len(swept) - swept_before)
        for cause, number in Counter(self._cause(it) for it in [*swept[:swept_before], *ghosts]).items():
            figures.count("ghosts by cause", cause, number)

    async def _sweep(self, later: timedelta) -> None:
        for segment in range(SEGMENTS):
            for _ in range(_TRIES):
                report = await asyncio.to_thread(self._sweeper.sweep, segment, later=later)
                self._outcome.figures.count("sweeps at the end", "finished" if _is_whole(report) else "again")
                if _is_whole(report):
                    break
            else:
                self._outcome.differences.append(
                    f"a sweep without faults did not settle everything: {report}"
                )

    def _compare(self, items: Items) -> None:
        live = self._live()
        self._outcome.differences += [
            f"ghost item: {item[0]}, connectedAt {item[1]} ({self._cause(item)})"
            for item in items.connections.items()
            if item not in live.items()
        ]
        self._outcome.differences += [
            f"missing item: {self._truth.connections[item]}"
            for item in live.items()
            if item not in items.connections.items()
        ]

    async def _items(self) -> Items:
        return await asyncio.to_thread(self._table.items)

    def _live(self) -> dict[str, int]:
        return {it.connection_id: it.connected_at for it in self._truth.connected()}

    def _cause(self, item: tuple[str, int]) -> str:
        connection = self._truth.connections[item]
        return "none: the client is connected" if self._truth.is_open(connection) else connection.cause


def _is_whole(report: Report) -> bool:
    return report.finished and not any(report.outcomes[outcome] for outcome in _UNSETTLED)
