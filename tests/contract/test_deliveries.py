"""What every Deliveries promises, in the same sentences for each; then the items of DynamoDB's."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.memory import MemoryDeliveries
from app.domain.delivery import KEPT_FOR, Delivery, DeliveryReport, MessageId, Outcome, Progress, Retry
from app.domain.errors import AlreadyDelivered, DeliveryClaimed, InvalidMessage
from app.domain.model import ConnectionId
from app.domain.ports import Deliveries
from tests.builders import NOON, a_message
from tests.dynamodb_local import a_client, create_table
from tests.fakes import FixedClock
from tests.integration.faulty_database import faulty_database, forwarding_to, losing_the_answer_of
from tests.stores import moto_client
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AUDIENCE = "account 123456789012"
UNTIL = NOON + timedelta(minutes=2)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
counts = st.integers(0, 10**6)
progresses = st.builds(
    Progress,
    report=st.builds(
        DeliveryReport,
        selected=counts,
        outcomes=st.dictionaries(st.sampled_from(Outcome), counts),
        delays=st.dictionaries(st.integers(0, 200), counts),
    ),
    selection=st.integers(0, 3),
    after=st.none() | names,
    retries=st.lists(
        st.builds(Retry, names.map(ConnectionId), counts, counts, counts, unknown=st.booleans()), max_size=5
    ).map(tuple),
)


@dataclass
class Subject:
    """The adapter under test, with its clock."""

    deliveries: Deliveries
    clock: FixedClock

    def claim(self, *, digest: str = a_message().digest) -> Delivery:
        until = self.clock.now() + timedelta(minutes=2)
        return self.deliveries.claim(a_message(digest=digest), AUDIENCE, until=until)


@pytest.fixture(params=["memory", "dynamodb-boto3-moto", "dynamodb-boto3"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    clock = FixedClock()
    match request.param:
        case "memory":
            yield Subject(MemoryDeliveries(clock), clock)
        case "dynamodb-boto3-moto":
            with mock_aws():
                client = moto_client()
                yield Subject(on_dynamodb(client, clock), clock)
        case _:
            yield Subject(on_dynamodb(request.getfixturevalue("dynamodb"), clock), clock)


def on_dynamodb(client: "DynamoDBClient", clock: FixedClock) -> DynamoDBDeliveries:
    name = create_table(client, "DeliveriesTable")
    return DynamoDBDeliveries(SdkTransport(client), name, clock=clock)


def test_a_message_that_was_never_claimed_is_unknown(subject: Subject) -> None:
    assert subject.deliveries.get(MessageId("m-1")) is None


def test_a_first_claim_begins_the_delivery(subject: Subject) -> None:
    delivery = subject.claim()

    assert delivery.message_id == "m-1"
    assert (delivery.audience, delivery.digest) == (AUDIENCE, a_message().digest)
    assert (delivery.started_at, delivery.finished_at) == (NOON, None)
    assert delivery.progress == Progress()
    assert subject.deliveries.get(MessageId("m-1")) == delivery


def test_nobody_else_can_claim_it_before_its_time(subject: Subject) -> None:
    subject.claim()
    subject.clock.advance(timedelta(minutes=2) - timedelta(milliseconds=1))

    with pytest.raises(DeliveryClaimed):
        subject.claim()


def test_from_its_time_on_somebody_else_goes_on_where_the_last_one_was(subject: Subject) -> None:
    progress = Progress(DeliveryReport(selected=3, outcomes={Outcome.DELIVERED: 3}), 1, "token")
    first = subject.claim()
    subject.deliveries.record(first, progress)
    subject.clock.advance(timedelta(minutes=2))

    second = subject.claim()

    assert second.progress == progress
    assert second.started_at == NOON
    assert second.claim != first.claim


def test_the_one_whose_claim_was_taken_over_can_record_nothing(subject: Subject) -> None:
    first = subject.claim()
    subject.clock.advance(timedelta(minutes=2))
    second = subject.claim()

    with pytest.raises(DeliveryClaimed):
        subject.deliveries.record(first, Progress(selection=1))
    with pytest.raises(DeliveryClaimed):
        subject.deliveries.release(first, Progress(selection=1), subject.clock.now())
    assert subject.deliveries.get(MessageId("m-1")) == second


def test_a_record_leaves_the_claim(subject: Subject) -> None:
    subject.deliveries.record(subject.claim(), Progress(selection=1))

    with pytest.raises(DeliveryClaimed):
        subject.claim()


def test_a_release_lets_somebody_else_go_on_at_once(subject: Subject) -> None:
    progress = Progress(DeliveryReport(selected=1, outcomes={Outcome.LEFT: 1}), 0, "token", (A_RETRY,))
    first = subject.claim()

    released = subject.deliveries.release(first, progress, None)

    assert released == first._replace(progress=progress)
    assert subject.claim().progress == progress


def test_a_delivery_that_is_finished_can_not_be_claimed_again(subject: Subject) -> None:
    progress = Progress(DeliveryReport(selected=1, outcomes={Outcome.DELIVERED: 1}))
    first = subject.claim()
    finished_at = NOON + timedelta(seconds=3)

    released = subject.deliveries.release(first, progress, finished_at)
    subject.clock.advance(timedelta(hours=1))

    with pytest.raises(AlreadyDelivered):
        subject.claim()
    assert released == first._replace(progress=progress, finished_at=finished_at)
    assert subject.deliveries.get(MessageId("m-1")) == released


@pytest.mark.parametrize("finished", [True, False])
def test_an_id_can_not_be_used_for_another_message(subject: Subject, *, finished: bool) -> None:
    first = subject.claim()
    subject.deliveries.release(first, Progress(), NOON if finished else None)

    with pytest.raises(InvalidMessage, match="The id m-1 has been used for another message"):
        subject.claim(digest="another")


def test_messages_are_kept_apart(subject: Subject) -> None:
    subject.claim()
    other = subject.deliveries.claim(a_message(id=MessageId("m-2")), AUDIENCE, until=UNTIL)

    assert subject.deliveries.get(MessageId("m-2")) == other


def test_any_progress_can_be_recorded(subject: Subject, request: pytest.FixtureRequest) -> None:
    adapter = request.node.callspec.params["subject"]
    delivery = subject.claim()

    @settings(
        max_examples=examples(200 if adapter == "memory" else 50), suppress_health_check=list(HealthCheck)
    )
    @given(progress=progresses)
    def check(progress: Progress) -> None:
        subject.deliveries.record(delivery, progress)

        found = subject.deliveries.get(MessageId("m-1"))
        assert found is not None
        assert found.progress == progress

    check()


A_RETRY = Retry(ConnectionId("c 1"), throttled=1, failed=2, young=3, unknown=True)


def test_the_item_says_when_dynamodb_may_delete_it(dynamodb: "DynamoDBClient") -> None:
    clock = FixedClock()
    name = create_table(dynamodb, "DeliveriesTable")
    deliveries = DynamoDBDeliveries(SdkTransport(dynamodb), name, clock=clock)
    delivery = deliveries.claim(a_message(), AUDIENCE, until=UNTIL)
    clock.advance(timedelta(hours=1))
    deliveries.record(delivery, Progress())

    item = dynamodb.get_item(TableName=name, Key={"id": {"S": "m-1"}})["Item"]

    assert item["ttl"] == {"N": str(int((clock.now() + KEPT_FOR).timestamp()))}


def test_a_claim_whose_answer_is_lost_is_still_ones_own(dynamodb_local: str) -> None:
    """The SDK repeats the call, and finds the claim that it had made."""
    with closing(a_client(dynamodb_local)) as direct:
        name = create_table(direct, "DeliveriesTable")
    with (
        faulty_database(losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)) as faulty,
        closing(a_client(faulty.endpoint)) as client,
    ):
        deliveries = DynamoDBDeliveries(SdkTransport(client), name, clock=FixedClock())

        assert deliveries.claim(a_message(), AUDIENCE, until=UNTIL).message_id == "m-1"
