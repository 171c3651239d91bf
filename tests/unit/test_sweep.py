"""The sweep's rules, on a memory of connections and a gateway that says what it is told to."""

import _thread
import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event, Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.memory import MemoryConnectionStore
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId
from app.domain.sweep import Report, SweepConnections, segment_at
from app.domain.upkeep import Answer, Entry, Tombstone
from tests.builders import NOON, FixedClock, a_connection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=30)
LONG_AGO = NOON - timedelta(minutes=10)
LATER = NOON + timedelta(hours=1)
PARTS = (
    *("young", "alive", "removed_by_age", "gone", "throttled", "forbidden", "failed", "not_removed"),
    *("changed_meanwhile", "marks_removed", "marks_kept", "left_for_next_time"),
)
"""What a report divides the scanned entries into."""


class FakeGateway:
    """Gateway that says of each connection what it was told to, and before that does what it was told to."""

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        first: Callable[[Connection], object] = lambda _: None,
    ) -> None:
        self._answers = answers or {}
        self._first = first
        self.asked: list[str] = []

    def ask(self, connection: Connection) -> Answer:
        self.asked.append(connection.id)
        self._first(connection)
        return self._answers.get(connection.id, Answer.ALIVE)

    def close(self, connection: Connection) -> Answer:
        raise NotImplementedError  # a sweep closes nothing


class FaultyRegistry(MemoryConnectionStore):
    """A memory of connections that is unavailable after so many entries, or to forget some."""

    def __init__(self, *, ends_after: int | None = None, keeps: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._ends_after = ends_after
        self._keeps = keeps

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        yield from itertools.islice(super().segment(number, of), self._ends_after)
        if self._ends_after is not None:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    def forget(self, entry: Entry) -> bool:
        if isinstance(entry, Connection) and entry.id in self._keeps:
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)
        return super().forget(entry)


class EndlessRegistry(MemoryConnectionStore):
    """A table without an end, that tells how many of its entries have been fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        for self.fetched in itertools.count(1):
            yield old(f"c-{self.fetched}")


def old(name: str = "c-1", **changes: Any) -> Connection:
    """A connection of an age at which the gateway is asked."""
    return a_connection(
        **{"id": ConnectionId(name), "connected_at": LONG_AGO, "created_at": LONG_AGO} | changes
    )


def of_age(age: timedelta, name: str = "c-1") -> Connection:
    return old(name, connected_at=NOON - age)


def a_mark(registry: MemoryConnectionStore, name: str, until: datetime) -> None:
    registry.mark_closed(ConnectionId(name), connected_at=LONG_AGO, closed_at=LONG_AGO, until=until)


def no_wait() -> None:
    """A pace that keeps nobody waiting."""


def a_sweep(registry: MemoryConnectionStore, gateway: FakeGateway, **changes: Any) -> SweepConnections:
    whole: dict[str, Any] = {"clock": FixedClock(), "grace": GRACE, "concurrency": 4, "pace": no_wait}
    return SweepConnections(registry, gateway, **whole | changes)


def swept(registry: MemoryConnectionStore, gateway: FakeGateway, **changes: Any) -> Report:
    return a_sweep(registry, gateway, **changes)(segment=0, of=1, until=LATER)


def registry_of(*connections: Connection) -> MemoryConnectionStore:
    registry = MemoryConnectionStore()
    fill(registry, *connections)
    return registry


def fill(registry: MemoryConnectionStore, *connections: Connection) -> None:
    for connection in connections:
        registry.add(connection)


def ids(registry: MemoryConnectionStore) -> set[str]:
    return {entry.id for entry in registry.segment(0, 1) if isinstance(entry, Connection)}


def counted(report: Report) -> dict[str, int]:
    """The parts of the report that are not empty."""
    return {name: count for name in PARTS if (count := getattr(report, name))}


def test_a_connection_that_the_gateway_has_no_more_is_removed() -> None:
    registry = registry_of(old("here"), old("gone"))

    report = swept(registry, FakeGateway({"gone": Answer.GONE}))

    assert ids(registry) == {"here"}
    assert counted(report) == {"alive": 1, "gone": 1}
    assert (report.scanned, report.asked, report.open, report.missed) == (2, 2, 1, 1)
    assert report.finished
    assert report.fault is None


@pytest.mark.parametrize("answer", [Answer.THROTTLED, Answer.FORBIDDEN, Answer.FAILED])
def test_what_is_no_word_on_a_connection_removes_nothing(answer: Answer) -> None:
    registry = registry_of(old())

    report = swept(registry, FakeGateway({"c-1": answer}))

    assert ids(registry) == {"c-1"}
    assert counted(report) == {answer.value: 1}
    assert (report.asked, report.open, report.missed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("age", "fate"),
    [
        (timedelta(seconds=-59), "young"),  # clocks differ
        (timedelta(0), "young"),
        (GRACE - timedelta(milliseconds=1), "young"),
        (GRACE, "gone"),
        (timedelta(hours=2, minutes=5), "gone"),
        (timedelta(hours=2, minutes=5, milliseconds=1), "removed_by_age"),
    ],
)
def test_only_between_the_grace_and_the_longest_connection_is_the_gateway_asked(
    age: timedelta, fate: str
) -> None:
    gateway = FakeGateway({"c-1": Answer.GONE})

    report = swept(registry_of(of_age(age)), gateway)

    assert counted(report) == {fate: 1}
    assert report.asked == len(gateway.asked) == (1 if fate == "gone" else 0)


@pytest.mark.parametrize(
    ("connected_at", "created_at", "fate"),
    [
        (NOON, LONG_AGO, "young"),  # the gateway's own time before ours
        (None, NOON, "young"),
        (EPOCH, NOON, "young"),
        (None, NOON - timedelta(hours=3), "removed_by_age"),
    ],
)
def test_the_age_counts_from_the_gateways_time_or_else_from_ours(
    connected_at: datetime | None, created_at: datetime, fate: str
) -> None:
    report = swept(registry_of(old(connected_at=connected_at, created_at=created_at)), FakeGateway())

    assert counted(report) == {fate: 1}


@pytest.mark.parametrize(
    "unlikely",
    [EPOCH, EPOCH + timedelta(milliseconds=NOON.timestamp()), NOON + timedelta(seconds=61)],
    ids=["unknown", "written in seconds", "in the future"],
)
@pytest.mark.parametrize("answer", [Answer.ALIVE, Answer.GONE])
def test_an_age_that_can_not_be_is_no_reason_to_remove_and_none_to_spare(
    unlikely: datetime, answer: Answer
) -> None:
    report = swept(registry_of(old(connected_at=None, created_at=unlikely)), FakeGateway({"c-1": answer}))

    assert counted(report) == {answer.value: 1}


def test_a_mark_stays_for_its_time_and_is_removed_after_it() -> None:
    registry = MemoryConnectionStore()
    a_mark(registry, "young", until=NOON)
    a_mark(registry, "past", until=NOON - timedelta(seconds=1))
    gateway = FakeGateway()

    report = swept(registry, gateway)

    assert [entry.connection_id for entry in registry.segment(0, 1) if isinstance(entry, Tombstone)] == [
        "young"
    ]
    assert counted(report) == {"marks_kept": 1, "marks_removed": 1}
    assert (report.open, report.missed, gateway.asked) == (0, 0, [])


def test_a_connection_that_came_in_its_place_since_the_question_stays() -> None:
    registry = registry_of(old())
    newer = old(connected_at=NOON)

    report = swept(registry, FakeGateway({"c-1": Answer.GONE}, first=lambda _: registry.add(newer)))

    assert registry.get(newer.id) == newer
    assert counted(report) == {"changed_meanwhile": 1}
    assert report.missed == 0


def test_a_connection_that_closed_by_itself_since_the_question_was_not_missed() -> None:
    registry = registry_of(old())
    gateway = FakeGateway({"c-1": Answer.GONE}, first=lambda it: registry.remove(it.id, it.connected_at))

    report = swept(registry, gateway)

    assert counted(report) == {"changed_meanwhile": 1}
    assert report.missed == 0


def test_a_removal_that_the_store_does_not_confirm_is_a_failure_and_the_sweep_goes_on() -> None:
    registry = FaultyRegistry(keeps=frozenset({"stuck", "stuck too"}))
    fill(registry, old("stuck"), of_age(timedelta(days=1), "stuck too"), old("gone"), old("here"))

    report = swept(registry, FakeGateway({"stuck": Answer.GONE, "gone": Answer.GONE}))

    assert ids(registry) == {"stuck", "stuck too", "here"}
    assert counted(report) == {"not_removed": 2, "gone": 1, "alive": 1}
    assert report.finished


@pytest.mark.parametrize("read", [0, 2])
def test_a_store_that_can_not_be_read_on_ends_the_run_with_what_it_has(read: int) -> None:
    registry = FaultyRegistry(ends_after=read)
    fill(registry, old("c-1"), old("c-2"), old("c-3"))

    report = swept(registry, FakeGateway())

    assert counted(report) == ({"alive": read} if read else {})
    assert (report.scanned, report.finished, report.fault) == (read, False, "ThrottlingException")


def test_a_dry_run_asks_and_counts_and_removes_nothing() -> None:
    registry = registry_of(old("here"), old("gone"), of_age(timedelta(days=1), "ancient"))
    a_mark(registry, "past", until=LONG_AGO)
    before = list(registry.segment(0, 1))

    report = a_sweep(registry, FakeGateway({"gone": Answer.GONE}))(segment=0, of=1, until=LATER, dry_run=True)

    assert list(registry.segment(0, 1)) == before
    assert counted(report) == {"alive": 1, "gone": 1, "removed_by_age": 1, "marks_removed": 1}
    assert report.dry_run
    assert (report.asked, report.missed) == (2, 2)


def test_from_its_deadline_on_nothing_is_asked_or_removed() -> None:
    registry = registry_of(old("asked"), old("c-2"), of_age(timedelta(days=1), "ancient"))
    clock = FixedClock()
    gateway = FakeGateway(first=lambda _: clock.advance(timedelta(minutes=1)))

    report = a_sweep(registry, gateway, clock=clock, concurrency=1)(
        segment=0, of=1, until=NOON + timedelta(minutes=1)
    )

    assert gateway.asked == ["asked"]
    assert ids(registry) == {"asked", "c-2", "ancient"}
    assert counted(report) == {"alive": 1, "left_for_next_time": 1}
    assert not report.finished


def test_a_turn_that_comes_after_the_deadline_is_not_taken() -> None:
    clock = FixedClock()
    gateway = FakeGateway()

    report = swept(registry_of(old()), gateway, clock=clock, pace=lambda: clock.advance(timedelta(hours=1)))

    assert gateway.asked == []
    assert counted(report) == {"left_for_next_time": 1}


def test_a_segment_that_ends_with_the_deadline_is_finished() -> None:
    clock = FixedClock()
    gateway = FakeGateway(first=lambda _: clock.advance(timedelta(hours=2)))

    assert swept(registry_of(old()), gateway, clock=clock, concurrency=1).finished


def test_each_question_waits_for_its_turn_and_nothing_else_does() -> None:
    registry = registry_of(
        old("c-1"), old("c-2"), of_age(timedelta(0), "young"), of_age(timedelta(days=1), "ancient")
    )
    a_mark(registry, "past", until=LONG_AGO)
    turns: list[None] = []

    report = swept(registry, FakeGateway(), pace=lambda: turns.append(None))

    assert len(turns) == report.asked == 2


def test_as_many_questions_as_allowed_are_put_at_once_and_never_more() -> None:
    together = Barrier(4, timeout=10)  # passes only where four are there at the same time
    lock, now, most = Lock(), 0, 0

    def meet(_: Connection) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1

    report = swept(
        registry_of(*(old(f"c-{number}") for number in range(40))), FakeGateway(first=meet), concurrency=4
    )

    assert report.alive == 40
    assert most == 4


def test_what_is_held_does_not_grow_with_the_table() -> None:
    registry = EndlessRegistry()
    clock = FixedClock()
    lock, answered, most_held = Lock(), 0, 0

    def look(_: Connection) -> None:
        nonlocal answered, most_held
        with lock:
            most_held = max(most_held, registry.fetched - answered)
            answered += 1
            clock.advance(timedelta(seconds=1))

    report = swept(registry, FakeGateway(first=look), clock=clock, concurrency=4)

    assert report.asked >= 3600
    assert most_held <= 2 * 4


def test_a_bug_comes_to_light_and_no_removal_under_way_is_lost() -> None:
    registry = registry_of(old("bug"), old("gone"), old("never asked"))
    both_asked = Barrier(2, timeout=10)
    raised = Event()

    def first(connection: Connection) -> None:
        both_asked.wait()
        if connection.id == "bug":
            raised.set()
            raise TypeError("a bug")
        raised.wait(10)

    gateway = FakeGateway({"gone": Answer.GONE}, first=first)

    with pytest.raises(TypeError, match="a bug"):
        swept(registry, gateway, concurrency=2)
    assert "gone" not in ids(registry)
    assert "bug" in ids(registry)


def test_a_bug_in_reading_comes_to_light() -> None:
    class BrokenRegistry(MemoryConnectionStore):
        def segment(self, number: int, of: int) -> Iterator[Entry]:
            yield old()
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        swept(BrokenRegistry(), FakeGateway())


def test_an_answer_that_is_none_to_a_question_is_a_bug() -> None:
    with pytest.raises(KeyError):
        swept(registry_of(old()), FakeGateway({"c-1": Answer.CLOSED}))


def test_whoever_interrupts_a_sweep_does_not_wait_for_its_end() -> None:
    interrupt = iter([_thread.interrupt_main])

    with pytest.raises(KeyboardInterrupt):
        swept(EndlessRegistry(), FakeGateway(first=lambda _: next(interrupt, lambda: None)()))


def test_each_segment_is_swept_on_its_own_and_together_they_are_everything() -> None:
    names = {f"c-{number}" for number in range(50)}
    registry = registry_of(*map(old, names))
    gateway = FakeGateway()

    reports = [a_sweep(registry, gateway)(segment=number, of=3, until=LATER) for number in range(3)]

    assert sorted(gateway.asked) == sorted(names)
    assert [(report.segment, report.of) for report in reports] == [(0, 3), (1, 3), (2, 3)]
    assert all(0 < report.scanned < 50 for report in reports)


def test_the_segments_come_round_by_the_clock() -> None:
    every = timedelta(minutes=5)

    turns = [segment_at(NOON + number * every, every, 3) for number in range(4)]

    assert sorted(turns[:3]) == [0, 1, 2]
    assert turns[3] == turns[0]
    assert segment_at(NOON + every - timedelta(milliseconds=1), every, 3) == turns[0]
    assert segment_at(NOON, every, 1) == 0
    hourly = [segment_at(NOON + timedelta(hours=n), timedelta(hours=1), 3) for n in range(3)]
    assert sorted(hourly) == [0, 1, 2]


AGES = st.sampled_from([-120, -1, 0, 29, 30, 600, 7200, 7500, 7501, 90_000])
ROWS = st.lists(
    st.tuples(
        AGES,
        st.sampled_from([it for it in Answer if it is not Answer.CLOSED]),
        st.sampled_from(["", "stuck"]),
    ),
    max_size=20,
)
MARKS = st.lists(st.integers(-2, 2), max_size=5)


@given(rows=ROWS, marks=MARKS, dry_run=st.booleans(), ends_after=st.none() | st.integers(0, 25))
def test_every_entry_is_counted_once_and_none_removed_but_the_dead(
    rows: list[tuple[int, Answer, str]], marks: list[int], *, dry_run: bool, ends_after: int | None
) -> None:
    named = {f"c-{number}": row for number, row in enumerate(rows)}
    registry = FaultyRegistry(
        ends_after=ends_after, keeps=frozenset(name for name, (_, _, stuck) in named.items() if stuck)
    )
    fill(registry, *(of_age(timedelta(seconds=age), name) for name, (age, _, _) in named.items()))
    for number, seconds in enumerate(marks):
        a_mark(registry, f"mark-{number}", until=NOON + timedelta(seconds=seconds))
    gateway = FakeGateway({name: answer for name, (_, answer, _) in named.items()})

    report = a_sweep(registry, gateway, concurrency=2)(segment=0, of=1, until=LATER, dry_run=dry_run)

    assert sum(counted(report).values()) == report.scanned
    assert report.asked == len(gateway.asked) == len(set(gateway.asked))
    assert report.finished == (ends_after is None)
    assert report.scanned == min(len(rows) + len(marks), 99 if ends_after is None else ends_after)
    left = MemoryConnectionStore.segment(registry, 0, 1)
    left_ids = {entry.id if isinstance(entry, Connection) else entry.connection_id for entry in left}
    removed = {*named, *(f"mark-{number}" for number in range(len(marks)))} - left_ids
    assert len(removed) == (0 if dry_run else report.missed + report.marks_removed)
    for name in removed & named.keys():
        age, answer, stuck = named[name]
        assert age > 7500 or (answer is Answer.GONE and not 0 <= age < 30 and age != -1)
        assert not stuck
