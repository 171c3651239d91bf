"""Delivering a message, on a table in memory and a fake courier."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.threads import ThreadWorkers
from app.domain.delivery import MAX_FRAME, Audience, Delivery, Message, Outcome, Progress, SendResult
from app.domain.errors import AlreadyDelivered, DeliveryClaimed, InvalidMessage, StorageUnavailable
from app.domain.history import KeptMessage, Place, Scope, scopes_of
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, Entry
from app.domain.pace import Pace
from app.domain.recipients import ReadRecipients
from app.domain.selection import Page, Selection
from app.domain.sending import MAX_FAILED, MAX_THROTTLED, MAX_WAITING, DeliverMessage
from tests.builders import NOON, a_connection, a_message
from tests.fakes import FakeCourier, FixedClock, InlineWorkers, LazyWorkers, MemoryHistory

if TYPE_CHECKING:
    from app.domain.ports import Deliveries, RecipientPages

GRACE = timedelta(seconds=30)
LONG_AGO = NOON - timedelta(minutes=10)
UNTIL = NOON + timedelta(minutes=5)
EVERYONE = Audience(everyone=True)

GONE, THROTTLED, FAILED = SendResult.GONE, SendResult.THROTTLED, SendResult.FAILED
UNANSWERED, DELIVERED = SendResult.UNANSWERED, SendResult.DELIVERED


def old(name: str = "c-1", **changes: Any) -> Connection:
    """A connection past its grace."""
    return a_connection(
        **{"id": ConnectionId(name), "connected_at": LONG_AGO, "created_at": LONG_AGO} | changes
    )


def young(name: str = "c-1") -> Connection:
    return old(name, connected_at=NOON, created_at=NOON)


class PendingHandshakes(FakeCourier):
    """Courier to which some are gone until their handshakes are answered; ``times`` has who got it when."""

    def __init__(self, clock: FixedClock, answered_at: datetime, pending: Collection[str] = ("c-1",)) -> None:
        super().__init__(clock)
        self._time = clock
        self._answered_at = answered_at
        self._pending = pending
        self.times: dict[str, datetime] = {}

    def _send(self, connection: Connection, frame: bytes) -> SendResult:
        if connection.id in self._pending and self._time.now() < self._answered_at:
            self.attempts.append(connection.id)
            return SendResult.GONE
        self.times[connection.id] = self._time.now()
        return super()._send(connection, frame)


@dataclass
class Sender:
    """The use case, and all that it uses."""

    connections: Sequence[Connection] = ()
    results: dict[str, Sequence[SendResult]] = field(default_factory=dict)
    page_size: int = 100
    rate: int = 10**9
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        self.table = MemoryConnectionTable(page_size=self.page_size)
        for connection in self.connections:
            self.table.add(connection)
        self.recipients: RecipientPages = self.table
        self.courier = FakeCourier(self.clock, self.results)
        self.deliveries: Deliveries = MemoryDeliveries(self.clock)

    def use_case(self, **changes: Any) -> DeliverMessage:
        whole: dict[str, Any] = {
            "recipients": self.recipients,
            "table": self.table,
            "courier": self.courier,
            "deliveries": self.deliveries,
            "clock": self.clock,
            "workers": InlineWorkers(),
            "pace": Pace(self.rate),
            "grace": GRACE,
        }
        return DeliverMessage(**whole | changes)

    def deliver(
        self,
        message: Message | None = None,
        audience: Audience = EVERYONE,
        *,
        until: datetime = UNTIL,
        **changes: Any,
    ) -> Delivery:
        return self.use_case(**changes)(
            message or a_message(), audience, until=until, claimed_until=until + timedelta(minutes=1)
        )

    def ids(self) -> set[str]:
        return {entry.id for entry in self.table.scan(0, 1) if isinstance(entry, Connection)}


def outcomes(delivery: Delivery) -> dict[Outcome, int]:
    """The outcomes that occurred; they sum to all that were selected."""
    report = delivery.progress.report
    assert sum(report.outcomes.values()) == report.selected
    return {outcome: count for outcome, count in report.outcomes.items() if count}


def test_everybody_gets_the_frame_once() -> None:
    sender = Sender([old(f"c-{number}") for number in range(5)])

    delivery = sender.deliver()

    assert sender.courier.frames == {f"c-{number}": [a_message().frame] for number in range(5)}
    assert outcomes(delivery) == {Outcome.DELIVERED: 5}
    assert delivery.finished_at is not None


def test_an_audience_of_nobody_is_delivered_to_nobody() -> None:
    delivery = Sender().deliver()

    assert outcomes(delivery) == {}
    assert delivery.finished_at is not None


def test_all_pages_are_read() -> None:
    sender = Sender([old(f"c-{number}") for number in range(50)], page_size=7)

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 50}
    assert len(sender.courier.frames) == 50


def test_only_the_audience_gets_it() -> None:
    sender = Sender([old("theirs", account=AccountId("999999999999")), old("ours")])

    sender.deliver(audience=Audience(account=AccountId("123456789012")))

    assert set(sender.courier.frames) == {"ours"}


def test_one_connection_gets_it() -> None:
    sender = Sender([old("c-1"), old("c-2")])

    delivery = sender.deliver(audience=Audience(connection_id=ConnectionId("c-2")))

    assert set(sender.courier.frames) == {"c-2"}
    assert outcomes(delivery) == {Outcome.DELIVERED: 1}


def test_a_connection_that_is_not_in_the_table_is_nobody() -> None:
    delivery = Sender().deliver(audience=Audience(connection_id=ConnectionId("c-2")))

    assert outcomes(delivery) == {}


def test_one_connection_that_has_expired_gets_nothing() -> None:
    sender = Sender([old(expires_at=NOON)])

    assert outcomes(sender.deliver(audience=Audience(connection_id=ConnectionId("c-1")))) == {}
    assert sender.courier.attempts == []


def test_what_has_expired_gets_nothing() -> None:
    sender = Sender([old("expired", expires_at=NOON), old("here")])

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 1}
    assert set(sender.courier.frames) == {"here"}


def test_a_message_that_is_too_long_is_refused_before_anything_is_read() -> None:
    class Unread(MemoryConnectionTable):
        def page(self, selection: Selection, after: str | None = None) -> Page:
            raise AssertionError

    sender = Sender([old()])
    sender.recipients = Unread()

    with pytest.raises(InvalidMessage, match="131073 bytes as clients get it; 131072 are allowed"):
        sender.deliver(a_message(frame=b"x" * (MAX_FRAME + 1)))
    assert sender.deliveries.get(a_message().id) is None


def test_a_message_as_long_as_the_gateway_takes_is_sent() -> None:
    sender = Sender([old()])

    assert outcomes(sender.deliver(a_message(frame=b"x" * MAX_FRAME))) == {Outcome.DELIVERED: 1}


def test_an_old_connection_that_is_gone_is_evicted() -> None:
    sender = Sender([old("gone"), old("here")], {"gone": [GONE]})

    assert outcomes(sender.deliver()) == {Outcome.GONE: 1, Outcome.DELIVERED: 1}
    assert sender.ids() == {"here"}
    assert sender.courier.attempts.count("gone") == 1


def test_a_newer_connection_with_the_id_of_one_that_is_gone_stays() -> None:
    newer = old("c-1", connected_at=NOON - timedelta(minutes=1), created_at=NOON)
    sender = Sender([old("c-1")], {"c-1": [GONE]})
    read = sender.table.page(Selection())
    sender.table.add(newer)

    class ReadBefore:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            return read

    sender.recipients = ReadBefore()
    sender.deliver()

    assert sender.table.get(newer.id) == newer


def test_a_young_connection_that_is_gone_at_first_is_tried_again() -> None:
    sender = Sender([young()], {"c-1": [GONE, GONE, DELIVERED]})

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 1}
    assert sender.courier.attempts == ["c-1"] * 3


def test_a_young_connection_that_stays_gone_is_kept() -> None:
    sender = Sender([young()], {"c-1": [GONE]})

    assert outcomes(sender.deliver()) == {Outcome.YOUNG_GONE: 1}
    assert sender.ids() == {"c-1"}
    assert GRACE - timedelta(seconds=1) < sender.clock.now() - NOON < GRACE
    assert len(sender.courier.attempts) > 10


@pytest.mark.parametrize("seconds", [0.5, 1, 5, 10, 15, 20, 25, 28, 29, 29.5])
def test_a_handshake_that_is_answered_within_the_grace_gets_the_message(seconds: float) -> None:
    sender = Sender([young()])
    sender.courier = PendingHandshakes(sender.clock, answered_at=NOON + timedelta(seconds=seconds))

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 1}


def test_handshakes_that_are_pending_hold_up_nobody_else() -> None:
    pending = [f"p-{number}" for number in range(2 * MAX_WAITING)]
    names = [f"q-{number}" for number in range(100)]
    sender = Sender([*map(young, pending), *map(old, names)], page_size=10_000)
    sender.courier = PendingHandshakes(
        sender.clock, answered_at=NOON + timedelta(seconds=25), pending=set(pending)
    )

    delivery = sender.deliver()

    assert outcomes(delivery) == {Outcome.DELIVERED: len(pending) + len(names)}
    assert max(sender.courier.times[name] for name in names) - NOON < timedelta(seconds=3)


@pytest.mark.parametrize("result", [SendResult.FORBIDDEN, SendResult.TOO_LARGE])
def test_a_refusal_that_stands_is_not_tried_again(result: SendResult) -> None:
    sender = Sender([old()], {"c-1": [result]})

    assert outcomes(sender.deliver()) == {Outcome(result.value): 1}
    assert sender.courier.attempts == ["c-1"]
    assert sender.ids() == {"c-1"}


@pytest.mark.parametrize(
    ("result", "most", "outcome"),
    [
        (THROTTLED, MAX_THROTTLED, Outcome.THROTTLED),
        (FAILED, MAX_FAILED, Outcome.FAILED),
        (UNANSWERED, MAX_FAILED, Outcome.UNKNOWN),
    ],
)
def test_what_may_pass_is_tried_again_a_few_times(result: SendResult, most: int, outcome: Outcome) -> None:
    sender = Sender(
        [old("never"), old("late")], {"never": [result], "late": [result] * (most - 1) + [DELIVERED]}
    )

    assert outcomes(sender.deliver()) == {outcome: 1, Outcome.DELIVERED: 1}
    assert sender.courier.attempts.count("never") == sender.courier.attempts.count("late") == most
    assert sender.ids() == {"never", "late"}


def test_pauses_between_attempts_grow() -> None:
    sender = Sender([old()], {"c-1": [THROTTLED]})

    sender.deliver()

    # half of 0.25 + 0.5 + 1 + 2 s at least, since they are random
    assert timedelta(seconds=1.8) < sender.clock.now() - NOON < timedelta(seconds=4)


@pytest.mark.parametrize("last", [GONE, SendResult.FORBIDDEN, SendResult.TOO_LARGE, THROTTLED, FAILED])
def test_a_recipient_that_may_have_got_it_is_unknown_whatever_comes_after(last: SendResult) -> None:
    sender = Sender([old()], {"c-1": [UNANSWERED, last]})

    assert outcomes(sender.deliver()) == {Outcome.UNKNOWN: 1}


def test_a_recipient_that_may_have_got_it_and_is_gone_is_evicted() -> None:
    sender = Sender([old()], {"c-1": [UNANSWERED, GONE]})

    sender.deliver()

    assert sender.ids() == set()


def test_an_entry_that_can_not_be_deleted_stays_and_costs_nobody_else() -> None:
    class Stuck(MemoryConnectionTable):
        def delete_exact(self, entry: Entry) -> bool:
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)

    sender = Sender([old("gone"), old("here")], {"gone": [GONE]})

    delivery = sender.deliver(table=Stuck())

    assert outcomes(delivery) == {Outcome.GONE: 1, Outcome.DELIVERED: 1}


def test_a_message_is_sent_at_the_set_rate() -> None:
    sender = Sender([old(f"c-{number}") for number in range(500)], rate=100)

    sender.deliver()

    assert sender.clock.now() - NOON == pytest.approx(timedelta(seconds=5), abs=timedelta(seconds=0.2))


def test_slow_clients_do_not_slow_the_others_down() -> None:
    """A client whose buffer is full is throttled again and again; only its first time steers the pace."""
    names = [f"c-{number}" for number in range(1000)]
    sender = Sender([old(name) for name in names], {name: [THROTTLED] for name in names[::100]}, rate=1000)
    pace = Pace(1000)

    delivery = sender.deliver(pace=pace)

    assert outcomes(delivery) == {Outcome.DELIVERED: 990, Outcome.THROTTLED: 10}
    assert pace.rate == 1000
    delay = delivery.progress.report.percentile(0.99)
    assert delay is not None
    assert delay < timedelta(seconds=1.2)


def test_those_that_wait_are_bounded() -> None:
    """Memory does not grow with the audience, whatever the answers are."""
    names = [f"c-{number}" for number in range(3 * MAX_WAITING)]
    sender = Sender([old(name) for name in names], {name: [FAILED, DELIVERED] for name in names})
    most = 0

    class Watching(MemoryDeliveries):
        def record(self, delivery: Delivery, progress: Any) -> None:
            nonlocal most
            most = max(most, len(progress.retries))
            super().record(delivery, progress)

    sender.deliveries = Watching(sender.clock)

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: len(names)}
    assert 0 < most <= MAX_WAITING + 128


def test_a_message_that_has_expired_is_sent_to_nobody() -> None:
    sender = Sender([old("c-1"), old("c-2")])

    assert outcomes(sender.deliver(a_message(expires_at=NOON))) == {Outcome.EXPIRED: 2}
    assert sender.courier.attempts == []


def test_a_message_that_expires_is_not_tried_again() -> None:
    sender = Sender([old("never"), old("maybe")], {"never": [FAILED], "maybe": [UNANSWERED]})

    delivery = sender.deliver(a_message(expires_at=NOON + timedelta(milliseconds=100)))

    assert outcomes(delivery) == {Outcome.EXPIRED: 1, Outcome.UNKNOWN: 1}
    assert len(sender.courier.attempts) == 2


def test_a_message_is_delivered_once_however_often_it_comes() -> None:
    sender = Sender([old()])
    sender.deliver()

    with pytest.raises(AlreadyDelivered):
        sender.deliver()
    assert sender.courier.attempts == ["c-1"]


def test_a_message_that_is_being_delivered_is_not_delivered_beside_that() -> None:
    sender = Sender([old()])
    sender.deliveries.claim(a_message(), str(EVERYONE), until=UNTIL)

    with pytest.raises(DeliveryClaimed):
        sender.deliver()
    assert sender.courier.attempts == []


def test_an_id_that_was_used_for_another_message_is_refused() -> None:
    sender = Sender([old()])
    sender.deliver()

    with pytest.raises(InvalidMessage, match="The id m-1 has been used for another message"):
        sender.deliver(a_message(digest="another"))


def test_an_invocation_whose_claim_was_taken_over_stops() -> None:
    sender = Sender([old(f"c-{number}") for number in range(30)], page_size=10)

    class TakenOver(MemoryDeliveries):
        def record(self, delivery: Delivery, progress: Any) -> None:
            raise DeliveryClaimed

    sender.deliveries = TakenOver(sender.clock)

    with pytest.raises(DeliveryClaimed):
        sender.deliver()
    assert len(sender.courier.attempts) == 20


def test_what_is_left_when_the_time_is_up_is_sent_by_the_next_invocation() -> None:
    sender = Sender([old(f"c-{number:02}") for number in range(50)], page_size=20, rate=100)

    first = sender.deliver(until=NOON + timedelta(milliseconds=250))
    second = sender.deliver(workers=ThreadWorkers(2))

    assert first.finished_at is None
    assert 0 < outcomes(first)[Outcome.DELIVERED] < 50
    assert outcomes(first)[Outcome.LEFT] > 0
    assert outcomes(second) == {Outcome.DELIVERED: 50}
    assert second.finished_at is not None
    assert sorted(sender.courier.attempts) == sorted(f"c-{number:02}" for number in range(50))


def test_a_delivery_whose_time_is_up_between_two_pages_is_not_finished() -> None:
    sender = Sender([old(f"c-{number}") for number in range(3)], page_size=1)

    class Slow:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            if after is not None:
                sender.clock.advance(timedelta(seconds=1))
            return sender.table.page(selection, after)

    sender.recipients = Slow()

    first = sender.deliver(until=NOON + timedelta(seconds=1.5))
    second = sender.deliver(until=NOON + timedelta(minutes=5))

    assert outcomes(first) == {Outcome.DELIVERED: 1}
    assert first.finished_at is None
    assert outcomes(second) == {Outcome.DELIVERED: 3}


def test_what_was_left_is_left_again_if_there_is_no_time_for_it() -> None:
    sender = Sender([old(f"c-{number:03}") for number in range(120)], rate=100)
    first = sender.deliver(until=NOON + timedelta(milliseconds=100))

    second = sender.deliver(until=sender.clock.now())
    third = sender.deliver()

    assert second.progress.retries == first.progress.retries
    assert second.finished_at is None
    assert outcomes(third) == {Outcome.DELIVERED: 120}
    assert all(len(frames) == 1 for frames in sender.courier.frames.values())


def test_the_workers_are_waited_for_while_answers_are_taken() -> None:
    """For pages, for recipients that were left, for records and for evictions."""
    names = [f"c-{number:02}" for number in range(50)]
    sender = Sender([old(name) for name in names], {name: [GONE] for name in names[:5]}, page_size=9)
    first = sender.deliver(until=NOON + timedelta(milliseconds=20), workers=LazyWorkers(), pace=Pace(200))
    delivery = sender.deliver(workers=LazyWorkers(), pace=Pace(200))

    assert first.progress.retries
    assert outcomes(delivery) == {Outcome.DELIVERED: 45, Outcome.GONE: 5}
    assert sender.ids() == set(names[5:])


def test_what_was_left_is_not_lost_when_the_store_fails() -> None:
    sender = Sender([old(f"c-{number:03}") for number in range(120)], rate=100)
    first = sender.deliver(until=NOON + timedelta(milliseconds=100))
    left = len(first.progress.retries)

    class FailsOnce(MemoryConnectionTable):
        gets = 0

        def get(self, connection_id: ConnectionId) -> Connection | None:
            self.gets += 1
            if self.gets == left - 5:
                raise StorageUnavailable("ThrottlingException", outcome_unknown=False)
            return sender.table.get(connection_id)

    with pytest.raises(StorageUnavailable):
        sender.deliver(table=FailsOnce())

    assert outcomes(sender.deliver(until=sender.clock.now() + timedelta(minutes=5))) == {
        Outcome.DELIVERED: 120
    }
    assert all(len(frames) == 1 for frames in sender.courier.frames.values())


@pytest.mark.parametrize(
    "audience", [Audience(account=AccountId("123456789012")), Audience(client_id=ClientId("dashboard-7"))]
)
def test_what_was_left_to_a_connection_goes_to_no_other_one_that_has_its_id_by_now(
    audience: Audience,
) -> None:
    sender = Sender([old()], {"c-1": [FAILED, DELIVERED]})
    sender.deliver(audience=audience, until=NOON + timedelta(milliseconds=50))
    other = old(account=AccountId("999999999999"), client_id=ClientId("other"), connected_at=NOON)
    sender.table.add(other)

    assert outcomes(sender.deliver(audience=audience)) == {Outcome.GONE: 1}
    assert sender.courier.frames == {}


def test_attempts_go_on_counting_in_the_next_invocation() -> None:
    sender = Sender([old()], {"c-1": [THROTTLED]})
    until = NOON + timedelta(milliseconds=50)
    first = sender.deliver(until=until)

    second = sender.deliver()

    assert outcomes(first) == {Outcome.LEFT: 1}
    assert outcomes(second) == {Outcome.THROTTLED: 1}
    assert len(sender.courier.attempts) == MAX_THROTTLED


@pytest.mark.parametrize(("before", "outcome"), [(FAILED, Outcome.GONE), (UNANSWERED, Outcome.UNKNOWN)])
def test_a_recipient_that_left_between_two_invocations_is_gone(before: SendResult, outcome: Outcome) -> None:
    sender = Sender([old()], {"c-1": [before]})
    sender.deliver(until=NOON + timedelta(milliseconds=50))
    sender.table.remove(ConnectionId("c-1"), LONG_AGO)

    assert outcomes(sender.deliver()) == {outcome: 1}


@dataclass
class Killed(Exception):
    """The process is gone."""


@pytest.mark.parametrize("after", range(0, 60, 7))
def test_a_killed_invocation_is_followed_by_one_that_repeats_two_pages_at_most(after: int) -> None:
    names = [f"c-{number:02}" for number in range(50)]
    sender = Sender([old(name) for name in names], {"c-03": [FAILED, DELIVERED]}, page_size=10)
    settled, under_way = 0, 5
    sender.courier = FakeCourier(sender.clock, sender.results, most=under_way)
    kept = sender.courier.deliver

    def dying(frame: bytes, connections: Any) -> Any:
        nonlocal settled
        for answer in kept(frame, connections):
            if settled == after:
                raise Killed
            settled += 1
            yield answer

    sender.courier.deliver = dying  # type: ignore[method-assign]
    try:
        sender.deliver()
    except Killed:
        sender.courier.deliver = kept  # type: ignore[method-assign]
        sender.clock.advance(timedelta(minutes=10))
        delivery = sender.deliver(until=sender.clock.now() + timedelta(minutes=5))
        assert outcomes(delivery) == {Outcome.DELIVERED: 50}
    assert set(sender.courier.frames) == set(names)
    assert sum(len(frames) - 1 for frames in sender.courier.frames.values()) <= 2 * 10 + under_way


def test_a_recipient_in_flight_when_the_progress_was_recorded_may_have_got_it() -> None:
    """A killed invocation's last record says that those in flight are unknown, until they are delivered."""
    sender = Sender([old(f"c-{number}") for number in range(4)], page_size=2)
    sender.courier = FakeCourier(sender.clock, takes=timedelta(seconds=2))
    recorded: list[Any] = []

    class Watching(MemoryDeliveries):
        def record(self, delivery: Delivery, progress: Any) -> None:
            recorded.append(progress)
            super().record(delivery, progress)

    sender.deliveries = Watching(sender.clock)

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 4}
    assert [retry.unknown for retry in recorded[0].retries] == [True, True]


def test_the_next_page_is_read_while_one_is_being_sent() -> None:
    sender = Sender([old(f"c-{number}") for number in range(4)], page_size=2)
    second_is_read = Event()
    read = sender.table.page

    class Watching:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            if after is not None:
                second_is_read.set()
            return read(selection, after)

    sender.recipients = Watching()
    kept, first = sender.courier.deliver, True

    def waiting(frame: bytes, connections: Any) -> Any:
        nonlocal first
        for answer in kept(frame, connections):
            assert not first or second_is_read.wait(10)
            first = False
            yield answer

    sender.courier.deliver = waiting  # type: ignore[method-assign]

    assert outcomes(sender.deliver(workers=ThreadWorkers(2))) == {Outcome.DELIVERED: 4}


def test_what_an_invocation_was_doing_when_it_failed_is_over_when_it_ends() -> None:
    """The next one uses the same connection to the store."""
    sender = Sender([old(f"c-{number}") for number in range(30)], page_size=10)
    inside, release = Event(), Event()
    read, pages = sender.table.page, 0

    class Slow:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            nonlocal pages
            pages += 1
            if pages == 2:
                inside.set()
                release.wait(10)
                inside.clear()
            return read(selection, after)

    def release_later() -> None:
        sleep(0.2)  # by then, the error is on its way
        release.set()

    class TakenOver(MemoryDeliveries):
        def record(self, delivery: Delivery, progress: Progress) -> None:
            assert inside.wait(10)
            Thread(target=release_later).start()
            raise DeliveryClaimed

    sender.recipients, sender.deliveries = Slow(), TakenOver(sender.clock)

    with pytest.raises(DeliveryClaimed):
        sender.deliver(workers=ThreadWorkers(3))
    assert release.is_set()
    assert not inside.is_set()


def test_what_was_sent_before_the_store_failed_is_not_sent_again() -> None:
    sender = Sender([old(f"c-{number:02}") for number in range(30)], page_size=10)
    read, fails = sender.table.page, True

    class FailsOnce:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            nonlocal fails
            if after is not None and fails:
                fails = False
                raise StorageUnavailable("ThrottlingException", outcome_unknown=False)
            return read(selection, after)

    sender.recipients = FailsOnce()
    with pytest.raises(StorageUnavailable):
        sender.deliver()

    assert outcomes(sender.deliver()) == {Outcome.DELIVERED: 30}
    assert all(len(frames) == 1 for frames in sender.courier.frames.values())


def test_a_kill_while_the_last_ones_are_tried_again_repeats_few() -> None:
    names = [f"c-{number:03}" for number in range(900)]
    results: dict[str, Sequence[SendResult]] = {name: [FAILED, DELIVERED] for name in names}
    sender = Sender([old(name) for name in names], results, page_size=1000)
    kept, settled = sender.courier.deliver, 0

    def dying(frame: bytes, connections: Any) -> Any:
        nonlocal settled
        for answer in kept(frame, connections):
            settled += 1
            if settled == 1700:
                raise Killed
            yield answer

    sender.courier.deliver = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        sender.deliver()
    sender.courier.deliver = kept  # type: ignore[method-assign]
    sender.clock.advance(timedelta(minutes=10))

    assert outcomes(sender.deliver(until=sender.clock.now() + timedelta(minutes=5))) == {
        Outcome.DELIVERED: 900
    }
    assert sum(len(frames) - 1 for frames in sender.courier.frames.values()) <= 200 + 128


def test_a_store_that_does_not_answer_ends_the_invocation() -> None:
    class Unavailable:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    sender = Sender([old()])
    sender.recipients = Unavailable()

    with pytest.raises(StorageUnavailable):
        sender.deliver()


def test_recipients_are_counted_without_a_message() -> None:
    sender = Sender(
        [old(f"c-{number}") for number in range(25)] + [old("expired", expires_at=NOON)], page_size=10
    )

    count = ReadRecipients(sender.table, sender.table, sender.clock).count

    assert count(EVERYONE) == 25
    assert count(Audience(account=AccountId("999999999999"))) == 0
    assert count(Audience(connection_id=ConnectionId("c-1"))) == 1
    assert count(Audience(connection_id=ConnectionId("nobody"))) == 0


# ---- With a history ----------------------------------------------------------------------------------------


class Recorded(MemoryHistory):
    """A history that fails as often as it is told to, and keeps what it was asked for."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(clock, kept_for=timedelta(minutes=15))
        self.calls: list[str] = []
        self.fails = 0

    def begin(self, message: Message, audience: Audience) -> None:
        self._note("begin")
        super().begin(message, audience)

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        self._note("finish")
        super().finish(message, audience, at)

    def all_under_way(self, audience: Audience = EVERYONE) -> list[KeptMessage]:
        return list(self.under_way(_scope(audience)))

    def all_finished(self, audience: Audience = EVERYONE) -> list[tuple[Place, KeptMessage]]:
        return list(self.finished(_scope(audience), Place(LONG_AGO)))

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.fails:
            self.fails -= 1
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)


def _scope(audience: Audience) -> Scope:
    [scope] = scopes_of(audience, unscoped=False)
    return scope


def kept(message: Message, audience: Audience = EVERYONE) -> KeptMessage:
    return KeptMessage(message.id, message.frame, audience, message.expires_at)


@pytest.mark.parametrize("audience", [EVERYONE, Audience(account=AccountId("123456789012"))])
def test_a_message_that_was_delivered_is_in_the_history(audience: Audience) -> None:
    sender = Sender([old()])
    history = Recorded(sender.clock)
    message = a_message(expires_at=NOON + timedelta(minutes=1))

    delivery = sender.deliver(message, audience, history=history)

    assert delivery.finished_at is not None
    assert history.all_under_way(audience) == []
    assert history.all_finished(audience) == [
        (Place(delivery.finished_at, message.id), kept(message, audience))
    ]


def test_a_message_to_nobody_is_in_the_history_for_those_that_come_back() -> None:
    sender = Sender()
    history = Recorded(sender.clock)

    sender.deliver(history=history)

    assert [it for _, it in history.all_finished()] == [kept(a_message())]


def test_a_message_is_in_the_history_before_a_recipient_is_read_and_until_the_delivery_is_finished() -> None:
    sender = Sender([old("c-1"), old("c-2")], page_size=1)
    history, read = Recorded(sender.clock), sender.table.page
    steps: list[tuple[str, int, int]] = []

    def note(step: str) -> None:
        steps.append((step, len(history.all_under_way()), len(history.all_finished())))

    class Watching:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            note("read")
            return read(selection, after)

    class WatchingDeliveries(MemoryDeliveries):
        def release(self, delivery: Delivery, progress: Progress, finished_at: datetime | None) -> Delivery:
            note("release")
            return super().release(delivery, progress, finished_at)

    sender.recipients, sender.deliveries = Watching(), WatchingDeliveries(sender.clock)

    sender.deliver(history=history)

    assert steps == [("read", 1, 0), ("read", 1, 0), ("release", 0, 1)]


def test_a_message_is_under_way_until_all_of_its_audience_has_had_its_turn() -> None:
    sender = Sender([old(f"c-{number:02}") for number in range(50)], rate=100)
    history = Recorded(sender.clock)

    first = sender.deliver(until=NOON + timedelta(milliseconds=250), history=history)
    under_way, finished = history.all_under_way(), history.all_finished()
    second = sender.deliver(history=history)

    assert first.finished_at is None
    assert (under_way, finished) == ([kept(a_message())], [])
    assert second.finished_at is not None
    assert history.all_under_way() == []
    assert [place.finished_at for place, _ in history.all_finished()] == [second.finished_at]
    assert history.calls == ["begin", "begin", "finish"]


def test_a_message_whose_recipients_can_not_be_read_stays_under_way() -> None:
    class Unavailable:
        def page(self, selection: Selection, after: str | None = None) -> Page:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    sender = Sender([old()])
    sender.recipients, history = Unavailable(), Recorded(sender.clock)

    with pytest.raises(StorageUnavailable):
        sender.deliver(history=history)
    assert history.all_under_way() == [kept(a_message())]
    assert history.calls == ["begin"]


def test_a_message_that_does_not_get_into_the_history_is_sent_to_nobody_until_it_does() -> None:
    sender = Sender([old()])
    history = Recorded(sender.clock)
    history.fails = 1

    with pytest.raises(StorageUnavailable, match="ThrottlingException"):
        sender.deliver(history=history)
    attempts = list(sender.courier.attempts)
    delivery = sender.deliver(history=history)

    assert attempts == []
    assert outcomes(delivery) == {Outcome.DELIVERED: 1}
    assert sender.courier.attempts == ["c-1"]


@pytest.mark.parametrize("page_size", [3, 10, 100])
def test_a_message_whose_end_does_not_get_into_the_history_is_not_finished_and_sent_to_nobody_again(
    page_size: int,
) -> None:
    names = [f"c-{number:02}" for number in range(10)]
    sender = Sender([old(name) for name in names], {"c-03": [FAILED, DELIVERED]}, page_size=page_size)

    class FailsOnce(Recorded):
        def finish(self, message: Message, audience: Audience, at: datetime) -> None:
            self.fails = self.calls.count("finish") == 0
            super().finish(message, audience, at)

    history = FailsOnce(sender.clock)

    with pytest.raises(StorageUnavailable, match="ThrottlingException"):
        sender.deliver(history=history)
    unfinished = sender.deliveries.get(a_message().id)
    under_way = history.all_under_way()
    delivery = sender.deliver(history=history)

    assert unfinished is not None
    assert unfinished.finished_at is None
    assert under_way == [kept(a_message())]
    assert outcomes(delivery) == {Outcome.DELIVERED: 10}
    assert {name: len(frames) for name, frames in sender.courier.frames.items()} == dict.fromkeys(names, 1)
    assert history.all_under_way() == []
    assert [place.finished_at for place, _ in history.all_finished()] == [delivery.finished_at]


def test_an_invocation_that_is_killed_before_it_releases_the_delivery_leaves_nothing_under_way() -> None:
    sender = Sender([old()])
    history = Recorded(sender.clock)

    class Dying(MemoryDeliveries):
        def release(self, delivery: Delivery, progress: Progress, finished_at: datetime | None) -> Delivery:
            raise Killed

    mortal, sender.deliveries = sender.deliveries, Dying(sender.clock)
    with pytest.raises(Killed):
        sender.deliver(history=history)
    sender.deliveries = mortal
    sender.clock.advance(timedelta(minutes=10))
    delivery = sender.deliver(until=sender.clock.now() + timedelta(minutes=5), history=history)

    assert history.all_under_way() == []
    assert [it for _, it in history.all_finished()] == [kept(a_message())] * 2
    assert delivery.finished_at is not None


def test_a_message_that_is_not_delivered_now_is_not_begun() -> None:
    sender = Sender([old()])
    history = Recorded(sender.clock)
    with pytest.raises(InvalidMessage):
        sender.deliver(a_message(frame=b"x" * (MAX_FRAME + 1)), history=history)
    sender.deliveries.claim(a_message(), str(EVERYONE), until=UNTIL)
    with pytest.raises(DeliveryClaimed):
        sender.deliver(history=history)
    sender.clock.advance(timedelta(minutes=5))
    sender.deliver(until=UNTIL + timedelta(minutes=5))
    with pytest.raises(AlreadyDelivered):
        sender.deliver(history=history)

    assert history.calls == []


def test_a_message_to_one_connection_is_not_in_the_history() -> None:
    sender = Sender([old()])
    audience = Audience(connection_id=ConnectionId("c-1"))

    assert outcomes(sender.deliver(audience=audience, history=Recorded(sender.clock))) == {
        Outcome.DELIVERED: 1
    }
    assert scopes_of(audience, unscoped=True) == ()


RESULTS = st.lists(st.sampled_from(list(SendResult)), min_size=1, max_size=8)


@given(
    plans=st.lists(st.tuples(RESULTS, st.booleans()), max_size=25),
    page_size=st.integers(1, 10),
    until=st.integers(1, 4000),
)
def test_every_recipient_has_one_outcome_and_none_is_lied_about(
    plans: list[tuple[list[SendResult], bool]], page_size: int, until: int
) -> None:
    named = {f"c-{number:02}": plan for number, plan in enumerate(plans)}
    sender = Sender(
        [young(name) if is_young else old(name) for name, (_, is_young) in named.items()],
        {name: results for name, (results, _) in named.items()},
        page_size=page_size,
    )
    first = sender.deliver(until=NOON + timedelta(milliseconds=until))
    outcomes(first)
    delivery = first if first.finished_at else sender.deliver(until=sender.clock.now() + timedelta(hours=1))

    report = outcomes(delivery)
    assert delivery.progress.report.selected == len(plans)
    assert Outcome.LEFT not in report
    got = {name for name, frames in sender.courier.frames.items() if frames}
    assert report.get(Outcome.DELIVERED, 0) == len(got)
    assert all(len(frames) == 1 for frames in sender.courier.frames.values())
    evicted = named.keys() - sender.ids()
    assert all(GONE in named[name][0] for name in evicted)
    assert len(evicted) >= report.get(Outcome.GONE, 0)
