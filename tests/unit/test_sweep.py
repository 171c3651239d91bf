"""The sweep's rules, on a table in memory and a fake gateway."""

import _thread
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.memory import MemoryConnectionTable
from app.adapters.threads import ThreadWorkers
from app.domain.errors import StorageUnavailable
from app.domain.events import Ended
from app.domain.history import position
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId, Entry, Tombstone
from app.domain.sweep import Outcome, Report, SweepConnections, segment_at
from tests.builders import NOON, a_connection
from tests.fakes import DonePending, FakeGateway, FixedClock, InlineWorkers, RecordingPublisher, TickingClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=30)
LONG_AGO = NOON - timedelta(minutes=10)
LATER = NOON + timedelta(hours=1)


class FaultyTable(MemoryConnectionTable):
    """A table whose scan fails after so many entries, and that does not confirm some deletes."""

    def __init__(self, *, ends_after: int | None = None, keeps: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._ends_after = ends_after
        self._keeps = keeps

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        yield from itertools.islice(super().scan(segment, of), self._ends_after)
        if self._ends_after is not None:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    def delete_exact(self, entry: Entry) -> bool:
        if isinstance(entry, Connection) and entry.id in self._keeps:
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)
        return super().delete_exact(entry)


class EndlessTable(MemoryConnectionTable):
    """A table without an end; ``fetched`` is the number of entries that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        for self.fetched in itertools.count(1):
            yield old(f"c-{self.fetched}")


class SlowDeletes:
    """WorkerPool that reads at once; a delete is done once 64 are under way and it is asked about again."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most_under_way = 0

    def start(self, task: Callable[[], Any]) -> "DonePending[Any]":
        pending = DonePending(task)
        if not isinstance(pending.result(), Outcome):
            return pending
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return SlowDelete(self)


class SlowDelete(DonePending[Outcome]):
    """A delete that has been made and is not confirmed yet."""

    def __init__(self, pool: SlowDeletes) -> None:
        super().__init__(lambda: Outcome.REMOVED_BY_AGE)
        self._pool = pool
        self._asked = 0

    def done(self) -> bool:
        self._asked += self._pool.under_way == 64
        return self._asked > 1

    def result(self) -> Outcome:
        self._pool.under_way -= 1
        return super().result()


def old(name: str = "c-1", **changes: Any) -> Connection:
    """A connection of an age at which it is probed."""
    return a_connection(
        **{"id": ConnectionId(name), "connected_at": LONG_AGO, "created_at": LONG_AGO} | changes
    )


def of_age(age: timedelta, name: str = "c-1") -> Connection:
    return old(name, connected_at=NOON - age)


def add_tombstone(table: MemoryConnectionTable, name: str, expires_at: datetime) -> None:
    table.tombstone(
        Tombstone(ConnectionId(name), connected_at=LONG_AGO, closed_at=LONG_AGO, expires_at=expires_at)
    )


def a_sweep(table: MemoryConnectionTable, gateway: FakeGateway, **changes: Any) -> SweepConnections:
    whole: dict[str, Any] = {
        "clock": FixedClock(),
        "workers": ThreadWorkers(4),
        "grace": GRACE,
        "rate": 10**9,
        "publisher": RecordingPublisher(),
    }
    return SweepConnections(table, gateway, **whole | changes)


def swept(table: MemoryConnectionTable, gateway: FakeGateway, **changes: Any) -> Report:
    return a_sweep(table, gateway, **changes)(segment=0, of=1, until=LATER)


def table_of(*connections: Connection) -> MemoryConnectionTable:
    table = MemoryConnectionTable()
    fill(table, *connections)
    return table


def fill(table: MemoryConnectionTable, *connections: Connection) -> None:
    for connection in connections:
        table.add(connection)


def ids(table: MemoryConnectionTable) -> set[str]:
    return {entry.id for entry in table.scan(0, 1) if isinstance(entry, Connection)}


def counted(report: Report) -> dict[Outcome, int]:
    """The outcomes that occurred."""
    return {outcome: count for outcome, count in report.outcomes.items() if count}


def test_a_connection_that_is_gone_is_deleted() -> None:
    table = table_of(old("here"), old("gone"))

    report = swept(table, FakeGateway({"gone": ProbeResult.GONE}))

    assert ids(table) == {"here"}
    assert counted(report) == {Outcome.ALIVE: 1, Outcome.GONE: 1}
    assert (report.scanned, report.probed, report.open, report.missed_disconnects) == (2, 2, 1, 1)
    assert report.finished
    assert report.fault is None


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (ProbeResult.THROTTLED, Outcome.THROTTLED),
        (ProbeResult.FORBIDDEN, Outcome.FORBIDDEN),
        (ProbeResult.FAILED, Outcome.FAILED),
    ],
)
def test_a_probe_without_a_usable_answer_deletes_nothing(result: ProbeResult, outcome: Outcome) -> None:
    table = table_of(old())

    report = swept(table, FakeGateway({"c-1": result}))

    assert ids(table) == {"c-1"}
    assert counted(report) == {outcome: 1}
    assert (report.probed, report.open, report.missed_disconnects) == (1, 1, 0)


@pytest.mark.parametrize(
    ("age", "outcome"),
    [
        (timedelta(seconds=-59), Outcome.YOUNG),  # clocks differ
        (timedelta(0), Outcome.YOUNG),
        (GRACE - timedelta(milliseconds=1), Outcome.YOUNG),
        (GRACE, Outcome.GONE),
        (timedelta(hours=2, minutes=5), Outcome.GONE),
        (timedelta(hours=2, minutes=5, milliseconds=1), Outcome.REMOVED_BY_AGE),
    ],
)
def test_only_a_connection_past_its_grace_and_within_the_longest_duration_is_probed(
    age: timedelta, outcome: Outcome
) -> None:
    gateway = FakeGateway({"c-1": ProbeResult.GONE})

    report = swept(table_of(of_age(age)), gateway)

    assert counted(report) == {outcome: 1}
    assert report.probed == len(gateway.probed) == (1 if outcome is Outcome.GONE else 0)


def test_a_connection_whose_admission_is_over_is_closed_and_deleted() -> None:
    over, running = (
        old("over", admitted_until=NOON),
        old("running", admitted_until=NOON + timedelta(seconds=1)),
    )
    table, gateway, publisher = table_of(over, running), FakeGateway(), RecordingPublisher()

    report = swept(table, gateway, publisher=publisher)

    assert (gateway.closed, gateway.probed) == (["over"], ["running"])
    assert ids(table) == {"running"}
    assert publisher.events == [Ended(over)]
    assert counted(report) == {Outcome.ADMISSION_ENDED: 1, Outcome.ALIVE: 1}
    assert (report.probed, report.open, report.missed_disconnects) == (2, 1, 0)


@pytest.mark.parametrize(
    ("result", "outcome", "stays"),
    [
        (ProbeResult.GONE, Outcome.GONE, False),
        (ProbeResult.THROTTLED, Outcome.THROTTLED, True),
        (ProbeResult.FORBIDDEN, Outcome.FORBIDDEN, True),
        (ProbeResult.FAILED, Outcome.FAILED, True),
    ],
)
def test_a_connection_that_is_not_closed_stays_until_the_next_sweep(
    result: ProbeResult, outcome: Outcome, *, stays: bool
) -> None:
    table, publisher = table_of(old("over", admitted_until=NOON)), RecordingPublisher()

    report = swept(table, FakeGateway({"over": result}), publisher=publisher)

    assert ids(table) == ({"over"} if stays else set())
    assert publisher.events == []
    assert counted(report) == {outcome: 1}
    assert report.probed == 1


def test_a_closed_connection_whose_disconnect_was_as_fast_has_ended_too() -> None:
    table = table_of(old("over", admitted_until=NOON))
    gateway = FakeGateway(before=lambda it: table.remove(it.id, it.connected_at))
    unconfirmed = FaultyTable(keeps=frozenset({"over"}))
    fill(unconfirmed, old("over", admitted_until=NOON))

    assert counted(swept(table, gateway)) == {Outcome.ADMISSION_ENDED: 1}
    assert counted(swept(unconfirmed, FakeGateway())) == {Outcome.ADMISSION_ENDED: 1}


def test_a_closing_that_waited_until_the_time_was_up_is_left_for_the_next_sweep() -> None:
    clock, gateway = FixedClock(), FakeGateway()

    class LateWorkers(InlineWorkers):
        """Workers that are free only when the time is up."""

        def start[T](self, task: Callable[[], T]) -> DonePending[T]:
            if isinstance(task, partial) and task.func.__name__ == "_ended":
                clock.advance(LATER - NOON)
            return super().start(task)

    table = table_of(old("over", admitted_until=NOON))

    report = swept(table, gateway, clock=clock, workers=LateWorkers())

    assert gateway.closed == []
    assert counted(report) == {Outcome.LEFT_FOR_NEXT_TIME: 1}


def test_within_its_grace_no_admission_ends() -> None:
    gateway = FakeGateway()

    report = swept(table_of(old("young", connected_at=NOON, admitted_until=LONG_AGO)), gateway)

    assert gateway.closed == []
    assert counted(report) == {Outcome.YOUNG: 1}


def test_a_dry_run_closes_nothing() -> None:
    gateway = FakeGateway()
    sweep = a_sweep(table_of(old("over", admitted_until=NOON)), gateway)

    report = sweep(segment=0, of=1, until=LATER, dry_run=True)

    assert gateway.closed == []
    assert counted(report) == {Outcome.ADMISSION_ENDED: 1}


@pytest.mark.parametrize(
    ("connected_at", "created_at", "outcome"),
    [
        (NOON, LONG_AGO, Outcome.YOUNG),  # the gateway's own time before ours
        (None, NOON, Outcome.YOUNG),
        (EPOCH, NOON, Outcome.YOUNG),
        (None, NOON - timedelta(hours=3), Outcome.REMOVED_BY_AGE),
    ],
)
def test_the_age_counts_from_the_gateways_time_or_else_from_ours(
    connected_at: datetime | None, created_at: datetime, outcome: Outcome
) -> None:
    report = swept(table_of(old(connected_at=connected_at, created_at=created_at)), FakeGateway())

    assert counted(report) == {outcome: 1}


@pytest.mark.parametrize(
    "unusable",
    [EPOCH, EPOCH + timedelta(milliseconds=NOON.timestamp()), NOON + timedelta(seconds=61)],
    ids=["unknown", "written in seconds", "in the future"],
)
@pytest.mark.parametrize(
    ("result", "outcome"), [(ProbeResult.ALIVE, Outcome.ALIVE), (ProbeResult.GONE, Outcome.GONE)]
)
def test_a_connection_of_unknown_age_is_probed(
    unusable: datetime, result: ProbeResult, outcome: Outcome
) -> None:
    report = swept(table_of(old(connected_at=None, created_at=unusable)), FakeGateway({"c-1": result}))

    assert counted(report) == {outcome: 1}


def test_a_tombstone_is_kept_until_it_expires_and_deleted_after_that() -> None:
    table = MemoryConnectionTable()
    add_tombstone(table, "young", expires_at=NOON)
    add_tombstone(table, "past", expires_at=NOON - timedelta(seconds=1))
    gateway = FakeGateway()

    report = swept(table, gateway)

    assert [entry.connection_id for entry in table.scan(0, 1) if isinstance(entry, Tombstone)] == ["young"]
    assert counted(report) == {Outcome.TOMBSTONE_KEPT: 1, Outcome.TOMBSTONE_REMOVED: 1}
    assert (report.open, report.missed_disconnects, gateway.probed) == (0, 0, [])


def test_a_newer_connection_that_took_the_id_after_the_probe_stays() -> None:
    table = table_of(old())
    newer = old(connected_at=NOON)

    report = swept(table, FakeGateway({"c-1": ProbeResult.GONE}, before=lambda _: table.add(newer)))

    assert table.get(newer.id) == newer
    assert counted(report) == {Outcome.CHANGED_MEANWHILE: 1}
    assert report.missed_disconnects == 0


def test_a_connection_that_closed_by_itself_after_the_probe_is_no_missed_disconnect() -> None:
    table = table_of(old())
    gateway = FakeGateway({"c-1": ProbeResult.GONE}, before=lambda it: table.remove(it.id, it.connected_at))

    report = swept(table, gateway)

    assert counted(report) == {Outcome.CHANGED_MEANWHILE: 1}
    assert report.missed_disconnects == 0


def test_a_delete_that_the_store_does_not_confirm_is_counted_and_the_sweep_goes_on() -> None:
    table = FaultyTable(keeps=frozenset({"stuck", "stuck too"}))
    fill(table, old("stuck"), of_age(timedelta(days=1), "stuck too"), old("gone"), old("here"))

    report = swept(table, FakeGateway({"stuck": ProbeResult.GONE, "gone": ProbeResult.GONE}))

    assert ids(table) == {"stuck", "stuck too", "here"}
    assert counted(report) == {Outcome.NOT_REMOVED: 2, Outcome.GONE: 1, Outcome.ALIVE: 1}
    assert report.finished


@pytest.mark.parametrize("read", [0, 2])
def test_a_store_that_can_not_be_read_ends_the_sweep_and_the_report_has_the_fault(read: int) -> None:
    table = FaultyTable(ends_after=read)
    fill(table, old("c-1"), old("c-2"), old("c-3"))

    report = swept(table, FakeGateway())

    assert counted(report) == ({Outcome.ALIVE: read} if read else {})
    assert (report.scanned, report.finished, report.fault) == (read, False, "ThrottlingException")


def test_a_dry_run_probes_and_counts_and_deletes_nothing() -> None:
    table = table_of(old("here"), old("gone"), of_age(timedelta(days=1), "ancient"))
    add_tombstone(table, "past", expires_at=LONG_AGO)
    before = list(table.scan(0, 1))

    report = a_sweep(table, FakeGateway({"gone": ProbeResult.GONE}))(
        segment=0, of=1, until=LATER, dry_run=True
    )

    assert list(table.scan(0, 1)) == before
    assert counted(report) == {
        Outcome.ALIVE: 1,
        Outcome.GONE: 1,
        Outcome.REMOVED_BY_AGE: 1,
        Outcome.TOMBSTONE_REMOVED: 1,
    }
    assert report.dry_run
    assert (report.probed, report.missed_disconnects) == (2, 2)


def test_from_its_deadline_on_a_sweep_probes_and_deletes_nothing() -> None:
    table = table_of(old("probed"), old("c-2"), of_age(timedelta(days=1), "ancient"))
    clock = FixedClock()
    gateway = FakeGateway(before=lambda _: clock.advance(timedelta(minutes=1)))

    report = a_sweep(table, gateway, clock=clock, workers=ThreadWorkers(1))(
        segment=0, of=1, until=NOON + timedelta(minutes=1)
    )

    assert gateway.probed == ["probed"]
    assert ids(table) == {"probed", "c-2", "ancient"}
    assert counted(report) == {Outcome.ALIVE: 1, Outcome.LEFT_FOR_NEXT_TIME: 1}
    assert not report.finished


def test_a_wait_for_the_rate_limit_that_ends_after_the_deadline_leads_to_no_probe() -> None:
    clock = TickingClock(timedelta(milliseconds=1))
    gateway = FakeGateway()

    report = a_sweep(table_of(old("c-1"), old("c-2")), gateway, clock=clock, rate=1)(
        segment=0, of=1, until=NOON + timedelta(milliseconds=500)
    )

    assert len(gateway.probed) == 1
    assert counted(report) == {Outcome.ALIVE: 1, Outcome.LEFT_FOR_NEXT_TIME: 1}


def test_a_sweep_that_has_scanned_the_segment_by_its_deadline_is_finished() -> None:
    clock = FixedClock()
    gateway = FakeGateway(before=lambda _: clock.advance(timedelta(hours=2)))

    assert swept(table_of(old()), gateway, clock=clock, workers=ThreadWorkers(1)).finished


def test_each_probe_waits_for_the_rate_limit_and_nothing_else_does() -> None:
    table = table_of(
        *(of_age(timedelta(days=1), f"ancient-{number}") for number in range(100)),
        *(old(f"c-{number}") for number in range(5)),
        *(of_age(timedelta(0), f"young-{number}") for number in range(100)),
    )
    add_tombstone(table, "past", expires_at=LONG_AGO)
    clock = TickingClock(timedelta(milliseconds=1))
    times: list[datetime] = []
    gateway = FakeGateway(before=lambda _: times.append(clock.now()))

    swept(table, gateway, clock=clock, rate=2)

    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == [pytest.approx(timedelta(seconds=0.5), abs=timedelta(milliseconds=20))] * 4
    assert times[-1] - NOON < timedelta(seconds=3)


def test_the_number_of_entries_held_does_not_grow_with_the_table() -> None:
    table = EndlessTable()
    clock = FixedClock()
    lock, probed, most_held = Lock(), 0, 0

    def look(_: Connection) -> None:
        nonlocal probed, most_held
        with lock:
            most_held = max(most_held, table.fetched - probed)
            probed += 1
            clock.advance(timedelta(seconds=1))

    report = swept(table, FakeGateway(before=look), clock=clock)

    assert report.probed >= 3600
    assert most_held <= 3 * 256


def test_at_most_64_deletes_are_under_way() -> None:
    workers = SlowDeletes()
    table = table_of(*(of_age(timedelta(hours=3), f"c-{number}") for number in range(200)))

    report = swept(table, FakeGateway(), workers=workers)

    assert workers.most_under_way == 64
    assert counted(report) == {Outcome.REMOVED_BY_AGE: 200}
    assert ids(table) == set()


def test_a_sweep_with_keep_alive_sends_a_frame_in_the_place_of_each_probe() -> None:
    table = table_of(
        old("here"), old("gone"), old("slow"), of_age(timedelta(0), "young"), old("over", admitted_until=NOON)
    )
    gateway = FakeGateway({"gone": ProbeResult.GONE, "slow": ProbeResult.THROTTLED})

    report = swept(table, gateway, keep_alive=True)

    assert sorted(gateway.kept_alive) == ["gone", "here", "slow"]
    assert gateway.positions == [position(NOON)]
    assert (gateway.probed, gateway.closed) == ([], ["over"])
    assert ids(table) == {"here", "slow", "young"}
    assert counted(report) == {
        Outcome.ALIVE: 1,
        Outcome.GONE: 1,
        Outcome.THROTTLED: 1,
        Outcome.YOUNG: 1,
        Outcome.ADMISSION_ENDED: 1,
    }
    assert (report.probed, report.open, report.missed_disconnects) == (4, 3, 1)


def test_a_dry_run_probes_also_with_keep_alive() -> None:
    table, gateway = table_of(old("here"), old("gone")), FakeGateway({"gone": ProbeResult.GONE})

    report = a_sweep(table, gateway, keep_alive=True)(segment=0, of=1, until=LATER, dry_run=True)

    assert (sorted(gateway.probed), gateway.kept_alive) == (["gone", "here"], [])
    assert counted(report) == {Outcome.ALIVE: 1, Outcome.GONE: 1}
    assert ids(table) == {"here", "gone"}


def test_a_bug_ends_the_sweep() -> None:
    gateway = FakeGateway(before=lambda _: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        swept(EndlessTable(), gateway)


def test_a_bug_ends_the_sweep_although_no_further_entry_needs_a_worker() -> None:
    class YoungWithoutEnd(MemoryConnectionTable):
        def scan(self, segment: int, of: int) -> Iterator[Entry]:
            yield old()
            for number in itertools.count():
                yield of_age(timedelta(), f"young-{number}")

    class LateGateway(FakeGateway):
        """Gateway that fails once it has nothing to begin."""

        def probe(self, connections: Iterable[Connection | None]) -> Iterator[tuple[Connection, ProbeResult]]:
            assert list(itertools.islice(filter(None, connections), 1))
            assert next(iter(connections)) is None
            raise TypeError("a bug")
            yield

    with pytest.raises(TypeError, match="a bug"):
        swept(YoungWithoutEnd(), LateGateway())


def test_a_bug_in_a_delete_is_raised() -> None:
    class BrokenTable(MemoryConnectionTable):
        def delete_exact(self, entry: Entry) -> bool:
            raise TypeError("a bug")

    table = BrokenTable()
    fill(table, old())

    with pytest.raises(TypeError, match="a bug"):
        swept(table, FakeGateway({"c-1": ProbeResult.GONE}))


def test_a_bug_in_the_scan_is_raised() -> None:
    class BrokenTable(MemoryConnectionTable):
        def scan(self, segment: int, of: int) -> Iterator[Entry]:
            yield old()
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        swept(BrokenTable(), FakeGateway())


def test_a_result_that_no_probe_can_have_is_a_bug() -> None:
    with pytest.raises(KeyError):
        swept(table_of(old()), FakeGateway({"c-1": ProbeResult.CLOSED}))


def test_an_interrupted_sweep_ends_before_its_scan_does() -> None:
    interrupt = iter([_thread.interrupt_main])

    with pytest.raises(KeyboardInterrupt):
        swept(EndlessTable(), FakeGateway(before=lambda _: next(interrupt, lambda: None)()))


def test_each_segment_is_swept_by_itself_and_together_they_are_the_whole_table() -> None:
    names = {f"c-{number}" for number in range(50)}
    table = table_of(*map(old, names))
    gateway = FakeGateway()

    reports = [a_sweep(table, gateway)(segment=number, of=3, until=LATER) for number in range(3)]

    assert sorted(gateway.probed) == sorted(names)
    assert [(report.segment, report.of) for report in reports] == [(0, 3), (1, 3), (2, 3)]
    assert all(0 < report.scanned < 50 for report in reports)


def test_the_clock_tells_the_segment_whose_turn_it_is() -> None:
    every = timedelta(minutes=5)

    turns = [segment_at(NOON + number * every, every, 3) for number in range(4)]

    assert sorted(turns[:3]) == [0, 1, 2]
    assert turns[3] == turns[0]
    assert segment_at(NOON + every - timedelta(milliseconds=1), every, 3) == turns[0]
    assert segment_at(NOON, every, 1) == 0
    hourly = [segment_at(NOON + timedelta(hours=n), timedelta(hours=1), 3) for n in range(3)]
    assert sorted(hourly) == [0, 1, 2]


AGES = st.sampled_from([-120, -1, 0, 29, 30, 600, 7200, 7500, 7501, 90_000])
CONNECTIONS = st.lists(
    st.tuples(
        AGES,
        st.sampled_from([it for it in ProbeResult if it is not ProbeResult.CLOSED]),
        st.sampled_from(["", "stuck"]),
    ),
    max_size=20,
)
TOMBSTONES = st.lists(st.integers(-2, 2), max_size=5)


@given(
    connections=CONNECTIONS,
    tombstones=TOMBSTONES,
    dry_run=st.booleans(),
    keep_alive=st.booleans(),
    ends_after=st.none() | st.integers(0, 25),
)
def test_every_entry_is_counted_once_and_only_those_of_ended_connections_are_deleted(
    connections: list[tuple[int, ProbeResult, str]],
    tombstones: list[int],
    *,
    dry_run: bool,
    keep_alive: bool,
    ends_after: int | None,
) -> None:
    named = {f"c-{number}": it for number, it in enumerate(connections)}
    table = FaultyTable(
        ends_after=ends_after, keeps=frozenset(name for name, (_, _, stuck) in named.items() if stuck)
    )
    fill(table, *(of_age(timedelta(seconds=age), name) for name, (age, _, _) in named.items()))
    for number, seconds in enumerate(tombstones):
        add_tombstone(table, f"tombstone-{number}", expires_at=NOON + timedelta(seconds=seconds))
    gateway = FakeGateway({name: result for name, (_, result, _) in named.items()})

    sweep = a_sweep(table, gateway, workers=ThreadWorkers(2), keep_alive=keep_alive)
    report = sweep(segment=0, of=1, until=LATER, dry_run=dry_run)

    scanned = min(len(connections) + len(tombstones), 99 if ends_after is None else ends_after)
    assert report.scanned == sum(counted(report).values()) == scanned
    names = gateway.kept_alive if keep_alive and not dry_run else gateway.probed
    assert report.probed == len(names) == len(set(names)) == len(gateway.probed + gateway.kept_alive)
    assert report.finished == (ends_after is None)
    left = MemoryConnectionTable.scan(table, 0, 1)
    left_ids = {entry.id if isinstance(entry, Connection) else entry.connection_id for entry in left}
    deleted = {*named, *(f"tombstone-{number}" for number in range(len(tombstones)))} - left_ids
    expected = report.missed_disconnects + report.outcomes[Outcome.TOMBSTONE_REMOVED]
    assert len(deleted) == (0 if dry_run else expected)
    for name in deleted & named.keys():
        age, result, stuck = named[name]
        assert age > 7500 or (result is ProbeResult.GONE and not 0 <= age < 30 and age != -1)
        assert not stuck
