"""Catching up, on everything in memory and a fake courier."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.messages import JsonNotices
from app.domain.catching_up import MAX_TOLD, CatchUpClient, CaughtUp
from app.domain.delivery import Audience, MessageId, Progress, SendResult
from app.domain.errors import NotCaughtUp
from app.domain.history import KEPT_LONGER, NOW, OVERLAP, CatchUp, position
from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.pace import Pace
from tests.builders import NEVER, NOON, a_connection, a_message
from tests.fakes import FakeCatchUps, FakeCourier, FixedClock, MemoryHistory

GRACE = timedelta(seconds=30)
INDEX_LAG = timedelta(seconds=5)
MINUTE = timedelta(minutes=1)
OURS = Audience(account=AccountId("123456789012"))
ID = ConnectionId("c-2")


@dataclass
class Scene:
    """The use case, and all that it uses; a client has come back at noon, five minutes ago."""

    since: str = position(NOON - 10 * MINUTE)
    results: dict[str, Sequence[SendResult]] = field(default_factory=dict)
    kept_for: timedelta = timedelta(minutes=20)
    came_back_at: datetime = NOON
    pace: Pace = field(default_factory=lambda: Pace(10**9))

    def __post_init__(self) -> None:
        self.clock = FixedClock(NOON + timedelta(minutes=5))
        self.table = MemoryConnectionTable()
        self.deliveries = MemoryDeliveries(self.clock)
        self.history = MemoryHistory(self.clock, kept_for=timedelta(hours=1))
        self.courier = FakeCourier(self.clock, self.results)
        self.catch_ups = FakeCatchUps()
        self.connection = self.comes_back()

    def comes_back(self, **changes: Any) -> Connection:
        whole: dict[str, Any] = {
            "id": ID,
            "connected_at": self.came_back_at,
            "created_at": self.came_back_at,
            "since": self.since,
        }
        return self.table.add(a_connection(**whole | changes))

    def was_sent(self, name: str, at: datetime, audience: Audience = OURS, **changes: Any) -> None:
        message = a_message(id=MessageId(name), frame=frame_of(name), **changes)
        self.history.begin(message, audience)
        self.history.finish(message, audience, at)

    def is_being_sent(self, name: str, audience: Audience = OURS) -> None:
        self.history.begin(a_message(id=MessageId(name), frame=frame_of(name)), audience)

    def look(
        self, request: CatchUp | None = None, *, until: datetime = NEVER, unscoped: bool = False
    ) -> CaughtUp:
        use_case = CatchUpClient(
            self.table,
            self.deliveries,
            self.history,
            self.courier,
            JsonNotices(),
            self.catch_ups,
            self.clock,
            self.pace,
            self.kept_for,
            INDEX_LAG,
            GRACE,
            unscoped,
        )
        return use_case(request or CatchUp(ConnectionRef.of(self.connection), self.since), until=until)

    def got(self) -> list[str]:
        """What the client got: the messages' ids, and the types of what has none."""
        frames = map(json.loads, self.courier.frames.get(ID, []))
        return [frame.get("id") or frame["type"] for frame in frames]


def frame_of(name: str) -> bytes:
    return f'{{"id":"{name}","type":"incident.opened"}}'.encode()


def rest_of(done: CaughtUp) -> CatchUp:
    assert done.rest is not None
    return done.rest


def test_what_was_missed_comes_in_the_order_in_which_it_was_delivered() -> None:
    scene = Scene()
    scene.is_being_sent("d")
    for name, minutes in (("b", 3), ("c", 1), ("a", 4)):
        scene.was_sent(name, NOON - minutes * MINUTE)

    done = scene.look()

    assert scene.got() == ["a", "b", "c", "d"]
    assert (done.sent, done.has_gap, done.ended) == (4, False, False)


def test_a_second_look_follows_once_the_index_shows_the_connection() -> None:
    scene = Scene()

    done = scene.look()

    assert scene.catch_ups.requests == [(rest_of(done), INDEX_LAG)]
    assert rest_of(done).is_second
    assert scene.got() == []


def test_after_the_second_look_the_client_is_caught_up_until_its_beginning() -> None:
    scene = Scene()
    began = scene.clock.now()

    done = scene.look(rest_of(scene.look()))

    [notice] = scene.courier.frames[ID]
    assert json.loads(notice) == {"type": "caught_up", "since": position(began)}
    assert done == CaughtUp()


def test_the_second_look_finds_what_the_first_one_could_not_and_repeats_nothing() -> None:
    scene = Scene()
    scene.was_sent("old", NOON)
    scene.was_sent("just-finished", scene.clock.now())
    scene.is_being_sent("under-way")
    second = rest_of(scene.look())
    scene.is_being_sent("new")
    scene.was_sent("under-way", scene.clock.now())
    scene.was_sent("of-a-slow-store", scene.clock.now() - OVERLAP + timedelta(milliseconds=1))

    scene.look(second)

    first_look = ["old", "just-finished", "under-way"]
    assert scene.got() == [*first_look, "of-a-slow-store", "new", "caught_up"]


def test_it_begins_with_the_message_that_the_client_has() -> None:
    scene = Scene(since="last")
    with_last = a_message(id=MessageId("last"))
    scene.clock.advance(-10 * MINUTE)
    scene.deliveries.release(scene.deliveries.claim(with_last, "", until=NOON), Progress(), finished_at=NOON)
    began = scene.clock.now()
    scene.clock.advance(10 * MINUTE)
    scene.was_sent("last", began)
    scene.was_sent("too-old", began - OVERLAP - timedelta(milliseconds=1))
    scene.was_sent("finished-later", began + timedelta(milliseconds=1))
    scene.was_sent("perhaps-later", began - OVERLAP + timedelta(milliseconds=1))

    scene.look()

    assert scene.got() == ["perhaps-later", "finished-later"]


@pytest.mark.parametrize("since", [NOW, position(NOON + timedelta(days=1)), "@9999999999999"])
def test_it_begins_at_the_latest_when_the_client_came_back(since: str) -> None:
    scene = Scene(since=since)
    scene.was_sent("before", NOON - OVERLAP - timedelta(milliseconds=1))
    scene.was_sent("after", NOON + timedelta(milliseconds=1))

    scene.look()

    assert scene.got() == ["after"]


@pytest.mark.parametrize(
    "since", ["never-sent", "@", "@1e3", "@12345678901234", "@-1", "@٣", position(NOON - 16 * MINUTE)]
)
def test_a_gap_comes_first_if_the_history_does_not_reach_back_so_far(since: str) -> None:
    scene = Scene(since=since)
    reach = scene.clock.now() - scene.kept_for
    scene.was_sent("too-old", reach - OVERLAP - timedelta(milliseconds=1))
    scene.was_sent("kept", reach + timedelta(milliseconds=1))

    done = scene.look()

    assert done.has_gap
    assert scene.got() == ["gap", "kept"]
    assert json.loads(scene.courier.frames[ID][0]) == {"type": "gap", "since": since}


def test_no_gap_is_told_to_who_left_just_within_the_history() -> None:
    scene = Scene(since=position(NOON - 15 * MINUTE))
    scene.was_sent("kept", NOON - 14 * MINUTE)

    assert not scene.look().has_gap
    assert scene.got() == ["kept"]


@pytest.mark.parametrize(
    ("connection", "unscoped", "expected"),
    [
        ({}, False, ["everyone", "account", "region", "client", "client-of-account"]),
        (
            {"region": RegionName("")},
            False,
            ["everyone", "account", "region", "other-region", "client", "client-of-account"],
        ),
        ({"client_id": ClientId("wall-1")}, False, ["everyone", "account", "region"]),
        ({"account": AccountId(""), "region": RegionName("")}, False, ["everyone", "client"]),
        (
            {"account": AccountId(""), "region": RegionName("")},
            True,
            ["everyone", "account", "region", "other-region", "other-account", "client", "client-of-account"],
        ),
    ],
)
def test_the_client_gets_what_it_would_be_sent_today(
    connection: dict[str, Any], expected: list[str], *, unscoped: bool
) -> None:
    scene = Scene()
    scene.history = MemoryHistory(scene.clock, kept_for=timedelta(hours=1), unscoped=unscoped)
    scene.table.remove(ID, None)
    scene.connection = scene.comes_back(**connection)
    client = scene.connection.client_id if "client_id" not in connection else ClientId("dashboard-7")
    other = AccountId("999999999999")
    audiences = {
        "everyone": Audience(everyone=True),
        "account": OURS,
        "region": Audience(account=OURS.account, region=RegionName("ap-northeast-2")),
        "other-region": Audience(account=OURS.account, region=RegionName("us-east-1")),
        "other-account": Audience(account=other),
        "client": Audience(client_id=client),
        "client-of-account": Audience(client_id=client, account=OURS.account),
        "client-of-other-account": Audience(client_id=ClientId("wall-1"), account=other),
        "connection": Audience(connection_id=ID),
    }
    for number, (name, audience) in enumerate(audiences.items()):
        scene.was_sent(name, NOON + timedelta(seconds=number), audience)

    scene.look(unscoped=unscoped)

    assert scene.got() == expected


def test_what_has_expired_is_not_sent_any_more() -> None:
    scene = Scene()
    scene.was_sent("expired", NOON, expires_at=scene.clock.now())
    scene.was_sent("not-yet", NOON, expires_at=scene.clock.now() + MINUTE)

    scene.look()

    assert scene.got() == ["not-yet"]


@pytest.mark.parametrize(
    "changes",
    [
        {"connected_at": NOON + timedelta(seconds=1)},
        {"expires_at": NOON},
        {"admitted_until": NOON},
    ],
)
def test_another_connection_or_one_that_is_over_gets_nothing(changes: dict[str, Any]) -> None:
    scene = Scene()
    scene.was_sent("a", NOON)
    scene.table.remove(ID, None)
    request = CatchUp(ConnectionRef.of(scene.connection), scene.since)
    scene.comes_back(**changes)

    assert scene.look(request) == CaughtUp(ended=True)
    assert scene.got() == []
    assert scene.catch_ups.requests == []


def test_a_client_that_has_left_gets_nothing() -> None:
    scene = Scene()
    scene.table.remove(ID, None)

    assert scene.look() == CaughtUp(ended=True)


def test_a_client_whose_handshake_is_pending_gets_it_once_that_is_answered() -> None:
    gone = SendResult.GONE
    scene = Scene(came_back_at=NOON + 5 * MINUTE, results={ID: [gone, gone, gone, SendResult.DELIVERED]})
    scene.was_sent("a", NOON + 4 * MINUTE)

    assert scene.look().sent == 1
    assert scene.got() == ["a"]


def test_a_client_that_is_gone_past_its_grace_has_left() -> None:
    scene = Scene(results={ID: [SendResult.DELIVERED, SendResult.GONE]})
    scene.was_sent("a", NOON)
    scene.was_sent("b", NOON + MINUTE)

    assert scene.look() == CaughtUp(sent=1, ended=True)
    assert scene.catch_ups.requests == []


@pytest.mark.parametrize("result", [SendResult.THROTTLED, SendResult.FAILED, SendResult.UNANSWERED])
def test_what_fails_is_sent_again(result: SendResult) -> None:
    scene = Scene(results={ID: [result, result, result, result, SendResult.DELIVERED]})
    scene.was_sent("a", NOON)
    began = scene.clock.now()

    assert scene.look().sent == 1
    assert scene.got() == ["a"]
    assert scene.clock.now() - began > timedelta(seconds=1)


@pytest.mark.parametrize(
    ("result", "attempts"), [(SendResult.FAILED, 5), (SendResult.UNANSWERED, 5), (SendResult.FORBIDDEN, 1)]
)
def test_what_goes_on_failing_has_to_come_again(result: SendResult, attempts: int) -> None:
    scene = Scene(results={ID: [result]})
    scene.was_sent("a", NOON)

    with pytest.raises(NotCaughtUp, match=result.value):
        scene.look()

    assert len(scene.courier.attempts) == attempts
    assert scene.catch_ups.requests == []


def test_a_client_that_is_slow_to_read_gets_the_rest_later() -> None:
    throttled = SendResult.THROTTLED
    scene = Scene(results={ID: [SendResult.DELIVERED, *[throttled] * 5, SendResult.DELIVERED]})
    scene.was_sent("a", NOON)
    scene.was_sent("b", NOON + MINUTE)

    done = scene.look()
    [(rest, delay)] = scene.catch_ups.requests
    scene.look(rest)

    assert (done.sent, rest.is_second, delay) == (1, False, timedelta(seconds=10))
    assert scene.got() == ["a", "b"]


def test_what_is_too_large_for_the_gateway_does_not_hold_up_the_rest() -> None:
    scene = Scene(results={ID: [SendResult.TOO_LARGE, SendResult.DELIVERED]})
    scene.was_sent("large", NOON)
    scene.was_sent("small", NOON + MINUTE)

    scene.look()

    assert scene.got() == ["small"]


def test_when_the_time_is_up_the_look_goes_on_where_it_was() -> None:
    scene = Scene()
    names = [f"m-{number}" for number in range(30)]
    for number, name in enumerate(names):
        scene.was_sent(name, NOON + timedelta(seconds=number))

    done = scene.look(until=scene.clock.now() + timedelta(milliseconds=100))
    [(rest, delay)] = scene.catch_ups.requests
    scene.look(rest)

    assert 0 < done.sent < len(names)
    assert (rest.is_second, delay) == (False, timedelta())
    assert scene.got() == names


def test_what_was_under_way_when_the_time_was_up_is_not_passed_over_once_it_has_finished() -> None:
    scene = Scene()
    now = scene.clock.now()
    scene.is_being_sent("slow")
    scene.was_sent("fast", now)

    rest = rest_of(scene.look(until=now + timedelta(milliseconds=5)))
    scene.was_sent("slow", now - timedelta(seconds=1))  # by the sender's clock
    scene.look(rest)

    assert scene.got() == ["fast", "slow"]


def test_a_gap_is_told_once_even_if_the_time_is_up() -> None:
    scene = Scene(since="never-sent")
    scene.was_sent("a", NOON)

    rest = rest_of(scene.look(until=scene.clock.now() + timedelta(milliseconds=5)))
    scene.look(rest)

    assert scene.got() == ["gap", "a"]


def test_without_any_time_the_request_goes_back_as_it_is() -> None:
    scene = Scene(since="never-sent")
    request = CatchUp(ConnectionRef.of(scene.connection), scene.since)

    assert scene.look(request, until=scene.clock.now()).rest == request
    assert scene.got() == []


def test_a_request_names_so_many_messages_at_most() -> None:
    scene = Scene()
    names = [MessageId(f"m-{number:03}") for number in range(MAX_TOLD + 2)]
    for name in names:
        scene.was_sent(name, scene.clock.now())

    rest = rest_of(scene.look())

    assert rest.told == tuple(names[2:])


@pytest.mark.parametrize("again_after", [MINUTE, 5 * MINUTE], ids=["long ago", "just now"])
def test_a_message_that_finished_twice_comes_once(again_after: timedelta) -> None:
    scene = Scene()
    scene.was_sent("a", NOON)
    scene.was_sent("a", NOON + again_after)  # by a second worker: just now, so that the second look finds it

    scene.look(rest_of(scene.look()))

    assert scene.got() == ["a", "caught_up"]


def test_a_look_goes_on_behind_those_of_others_after_some_seconds_of_sending() -> None:
    scene = Scene()
    names = [f"m-{number:04}" for number in range(1000)]
    for number, name in enumerate(names):
        scene.was_sent(name, NOON + timedelta(milliseconds=number))
    began = scene.clock.now()

    done = scene.look()

    assert timedelta(seconds=5) <= scene.clock.now() - began < timedelta(seconds=6)
    assert scene.catch_ups.requests == [(rest_of(done), timedelta())]
    assert scene.got() == names[: done.sent]


def test_several_looks_share_the_pace() -> None:
    scene = Scene(pace=Pace(10))
    for number in range(20):
        scene.was_sent(f"m-{number}", NOON + timedelta(milliseconds=number))
    began = scene.clock.now()

    scene.look()

    assert scene.clock.now() - began == pytest.approx(timedelta(seconds=1.9), abs=timedelta(seconds=0.1))


def test_nothing_is_sent_once_the_admission_is_over() -> None:
    scene = Scene(pace=Pace(10))
    scene.table.remove(ID, None)
    scene.connection = scene.comes_back(admitted_until=scene.clock.now() + timedelta(seconds=1))
    for number in range(20):
        scene.was_sent(f"m-{number}", NOON + timedelta(milliseconds=number))

    done = scene.look()

    assert done == CaughtUp(sent=done.sent, ended=True)
    assert 8 <= done.sent <= 11


def test_a_handshake_that_stays_pending_holds_up_nobody_else() -> None:
    scene = Scene(came_back_at=NOON + 5 * MINUTE, results={ID: [SendResult.GONE]})
    scene.was_sent("a", NOON + 4 * MINUTE)
    began = scene.clock.now()

    rest = rest_of(scene.look())

    assert scene.clock.now() - began < timedelta(seconds=6)
    assert scene.catch_ups.requests == [(rest, timedelta(seconds=10))]


def test_a_look_that_comes_when_the_history_is_gone_tells_a_gap() -> None:
    scene = Scene()
    second = rest_of(scene.look())
    scene.clock.advance(scene.kept_for + KEPT_LONGER - OVERLAP)
    assert not scene.look(second).has_gap

    scene.clock.advance(timedelta(milliseconds=1))

    assert scene.look(second).has_gap
    assert scene.got() == ["caught_up", "gap", "caught_up"]
