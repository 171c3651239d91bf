"""The bodies in the queue: our own contract, EventBridge's events, SNS's envelopes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.messages import JsonNotices, message_from
from app.domain.delivery import Audience
from app.domain.errors import InvalidMessage
from app.domain.model import AccountId, ClientId, ConnectionId, RegionName
from tests.builders import NOON

OURS: dict[str, Any] = {
    "id": "m-1",
    "type": "incident.opened",
    "audience": {"account": "123456789012"},
    "data": {"severity": 1},
}
EVENT: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "GuardDuty Finding",
    "source": "aws.guardduty",
    "account": "123456789012",
    "time": "2126-11-21T12:00:01Z",
    "region": "ap-northeast-2",
    "resources": ["arn:aws:ec2:ap-northeast-2:123456789012:instance/i-0abc"],
    "detail": {"severity": 8, "title": "Tür auf"},
}
ENVELOPE: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:ap-northeast-2:123456789012:incidents",
    "Message": json.dumps(OURS),
    "Timestamp": "2126-11-21T12:00:02.345Z",
    "SignatureVersion": "1",
    "Signature": "…",
    "SigningCertURL": "…",
    "UnsubscribeURL": "…",
}


def read(**changes: Any) -> Any:
    return message_from(json.dumps(OURS | changes), NOON)


def test_a_message_of_our_own() -> None:
    message, audience = read()

    assert (message.id, message.type, message.time, message.expires_at) == (
        "m-1",
        "incident.opened",
        NOON,
        None,
    )
    assert audience == Audience(account=AccountId("123456789012"))
    assert message.frame == (
        b'{"id":"m-1","time":"2126-11-21T12:00:00.000Z","type":"incident.opened","data":{"severity":1}}'
    )


def test_a_message_may_expire() -> None:
    message, _ = read(expiresAt="2126-11-21T13:00:00+01:00")

    assert message.expires_at == NOON


@pytest.mark.parametrize(
    ("given", "audience"),
    [
        ({"everyone": True}, Audience(everyone=True)),
        ({"connection": "c-1="}, Audience(connection_id=ConnectionId("c-1="))),
        ({"client": "wall-3"}, Audience(client_id=ClientId("wall-3"))),
        (
            {"client": "wall-3", "account": "123456789012", "region": "eu-central-1"},
            Audience(
                client_id=ClientId("wall-3"),
                account=AccountId("123456789012"),
                region=RegionName("eu-central-1"),
            ),
        ),
        (
            {"account": "123456789012", "region": "eu-central-1"},
            Audience(account=AccountId("123456789012"), region=RegionName("eu-central-1")),
        ),
    ],
)
def test_every_audience_can_be_said(given: dict[str, Any], audience: Audience) -> None:
    assert read(audience=given)[1] == audience


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "The audience must name an account, a client, a connection, or everyone."),
        (None, "The message's audience must be an object."),
        ("everyone", "The message's audience must be an object."),
        ({"everyone": False}, "The audience's everyone must be true, or left out."),
        ({"everyone": 1}, "The audience's everyone must be true, or left out."),
        (
            {"everyone": True, "account": "123456789012"},
            "The audience must name an account, a client, a connection, or everyone.",
        ),
        (
            {"connection": "c-1", "client": "wall-3"},
            "The audience must name an account, a client, a connection, or everyone.",
        ),
        ({"region": "eu-central-1"}, "The audience has a region without its account."),
        ({"client": "wall-3", "region": "eu-central-1"}, "The audience has a region without its account."),
        (
            {"account": "12345"},
            "The audience's account must be empty or an AWS account id of 12 digits.",
        ),
        ({"account": ""}, "The audience's account and region must not be empty: leave them out."),
        (
            {"account": "123456789012", "region": ""},
            "The audience's account and region must not be empty: leave them out.",
        ),
        ({"account": 123456789012}, "The audience's account must be text."),
        ({"client": ""}, "The audience's client must be 1 to 128 characters without control characters."),
        (
            {"connection": "\n"},
            "The audience's connection must be 1 to 128 characters without control characters.",
        ),
        (
            {"Account": "123456789012"},
            "The audience may have account, client, connection, everyone, region, and no other field.",
        ),
    ],
)
def test_an_audience_that_is_none_is_refused_with_a_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        read(audience=given)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": ""}, "The message's id must be 1 to 128 printable characters."),
        ({"id": "x" * 129}, "The message's id must be 1 to 128 printable characters."),
        ({"id": "@17"}, "The message's id must not begin with @, as a position in the history does."),
        ({"id": 7}, "The message's id must be 1 to 128 printable characters."),
        ({"id": "a\nb"}, "The message's id must be 1 to 128 printable characters."),
        ({"type": ""}, "The message's type must be 1 to 256 printable characters."),
        (
            {"expiresAt": "2126-11-21T12:00:00"},
            "The message's expiresAt must be a time with its zone, such as 2026-11-21T12:00:00Z.",
        ),
        (
            {"expiresAt": 1795251600},
            "The message's expiresAt must be a time with its zone, such as 2026-11-21T12:00:00Z.",
        ),
        (
            {"expiresAt": "0001-01-01T00:00:00+10:00"},
            "The message's expiresAt must be a time with its zone, such as 2026-11-21T12:00:00Z.",
        ),
        ({"expires": "soon"}, "A message may have audience, data, expiresAt, id, type, and no other field."),
        ({"\ud800": 1}, "A message may have audience, data, expiresAt, id, type, and no other field."),
        ({"data": float("inf")}, "The message's data has a number that JSON can't carry."),
        ({"data": {"n": float("nan")}}, "The message's data has a number that JSON can't carry."),
    ],
)
def test_a_field_that_is_wrong_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        read(**changes)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("name", ["id", "type", "audience", "data"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    body = {key: value for key, value in OURS.items() if key != name}

    with pytest.raises(InvalidMessage, match=f"The message has no {name}."):
        message_from(json.dumps(body), NOON)


@pytest.mark.parametrize("body", ["", "incident", "[]", "null", "{", '"text"', "[" * 100_000, "1" * 5000])
def test_what_is_no_json_object_is_refused(body: str) -> None:
    with pytest.raises(InvalidMessage, match="The message must be a JSON object"):
        message_from(body, NOON)


def test_however_deep_the_data_is_it_is_read_or_refused() -> None:
    """A little less than json.loads allows is more than json.dumps does."""
    refused = 0
    for depth in range(9000, 10_000):
        body = json.dumps(OURS | {"data": 0})[:-2] + "[" * depth + "]" * depth + "}"
        try:
            message_from(body, NOON)
        except InvalidMessage:
            refused += 1

    assert 0 < refused < 1000


def test_an_event_of_eventbridge_goes_to_its_account_and_region_as_it_is() -> None:
    message, audience = message_from(json.dumps(EVENT), NOON)

    assert audience == Audience(account=AccountId("123456789012"), region=RegionName("ap-northeast-2"))
    assert json.loads(message.frame) == {
        "id": EVENT["id"],
        "time": "2126-11-21T12:00:01.000Z",
        "type": "GuardDuty Finding",
        "data": {"severity": 8, "title": "Tür auf"},
    }
    assert message.time == NOON + timedelta(seconds=1)


def test_an_event_without_a_usable_time_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="The event's time must be a time with its zone"):
        message_from(json.dumps(EVENT | {"time": "yesterday"}), NOON)


@pytest.mark.parametrize("inner", [OURS, EVENT])
def test_an_envelope_of_sns_is_unwrapped(inner: dict[str, Any]) -> None:
    message, _ = message_from(json.dumps(ENVELOPE | {"Message": json.dumps(inner)}), NOON)

    assert message.id == inner["id"]
    seconds = 1 if inner is EVENT else 2.345
    assert message.time == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize("inner", ["Disk full", None, {"id": "m-1"}])
def test_an_envelope_without_a_message_is_refused(inner: Any) -> None:
    with pytest.raises(InvalidMessage, match="The message in the SNS envelope must be a JSON object"):
        message_from(json.dumps(ENVELOPE | {"Message": inner}), NOON)


def test_the_frame_is_utf_8_and_escapes_what_that_can_not_carry() -> None:
    plain, _ = read(data="é")
    escaped, _ = read(data="\ud800")

    assert '"data":"é"}'.encode() in plain.frame
    assert json.loads(escaped.frame)["data"] == "\ud800"


def test_the_time_of_another_zone_is_given_in_utc() -> None:
    message, _ = message_from(
        json.dumps(OURS), datetime(2126, 11, 21, 13, tzinfo=timezone(timedelta(hours=1)))
    )

    assert json.loads(message.frame)["time"] == "2126-11-21T12:00:00.000Z"


def test_the_digest_is_of_what_is_sent_and_to_whom_whenever_it_is_sent() -> None:
    digest = read()[0].digest
    later, _ = message_from(json.dumps(OURS), NOON + timedelta(hours=1))
    in_another_order, _ = read(data=dict(reversed({"a": 1, "severity": 1}.items())))

    assert later.digest == digest
    assert in_another_order.digest == read(data={"a": 1, "severity": 1})[0].digest
    for changes in ({"data": 2}, {"type": "other"}, {"audience": {"everyone": True}}):
        assert read(**changes)[0].digest != digest


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(data=json_values)
def test_clients_get_the_data_that_was_sent(data: Any) -> None:
    message, _ = read(data=data)

    assert json.loads(message.frame)["data"] == data


@given(
    body=json_values
    | st.text().map(lambda text: {**OURS, "id": text})
    | st.dictionaries(st.sampled_from(sorted(OURS)), json_values)
)
def test_any_body_is_read_or_refused_with_a_sentence(body: Any) -> None:
    try:
        message, _ = message_from(json.dumps(body), datetime.now(UTC))
    except InvalidMessage as error:
        refused: str | None = str(error)
    else:
        refused = None

    if refused is None:
        assert json.loads(message.frame)["id"] == body["id"]
    else:
        assert refused.endswith(".")


# ---- What Switchboard itself tells a client


def test_a_gap_names_what_the_client_said() -> None:
    assert JsonNotices().gap("m-41") == b'{"type":"gap","since":"m-41"}'


def test_a_client_that_is_caught_up_is_told_its_position() -> None:
    assert JsonNotices().caught_up("@1764412345678") == b'{"type":"caught_up","since":"@1764412345678"}'


@given(since=st.text(st.characters(exclude_categories=[])))
def test_a_notice_has_no_id_and_any_text_that_a_client_says(since: str) -> None:
    for notice, type_ in ((JsonNotices().gap(since), "gap"), (JsonNotices().caught_up(since), "caught_up")):
        assert json.loads(notice) == {"type": type_, "since": since}
