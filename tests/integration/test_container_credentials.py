"""Credentials of the container endpoint, over real sockets: when they are fetched, and what is refused."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from botocore.utils import ContainerMetadataFetcher
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.dynamodb.direct.connection import Connection
from app.adapters.dynamodb.direct.container_credentials import (
    ContainerCredentials,
    _credentials_in,
    _NoCredentials,
)
from app.adapters.dynamodb.direct.signing import Credentials
from app.domain.errors import StorageUnavailable
from tests.builders import NOON
from tests.credentials_endpoint import LIFETIME, TOKEN, CredentialsEndpoint, credentials_endpoint
from tests.fakes import FixedClock
from tests.integration.test_direct_transport import a_server_context, bundle_of
from tests.peer import always_saying, peer, silent

SECOND = timedelta(seconds=1)
REFRESHED_AFTER = LIFETIME - timedelta(minutes=10)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def endpoint(clock: FixedClock) -> Iterator[CredentialsEndpoint]:
    with credentials_endpoint() as endpoint:
        endpoint.now = NOON
        yield endpoint


def patient(host: str, port: int, **options: Any) -> Connection:
    """A connection with time for the tests' own endpoints to answer on a busy machine."""
    return Connection(host, port, **options | {"connect_timeout": 30, "read_timeout": 30})


@pytest.fixture
def credentials(endpoint: CredentialsEndpoint, clock: FixedClock) -> ContainerCredentials:
    return ContainerCredentials(endpoint.environ(), lambda: clock.now().timestamp(), patient)


def at(clock: FixedClock, time: datetime) -> None:
    clock.advance(time - clock.now())


def refusal(credentials: ContainerCredentials) -> str:
    """Why there are no credentials."""
    with pytest.raises(StorageUnavailable) as raised:
        credentials()
    assert not raised.value.outcome_unknown
    assert raised.value.__cause__ is None
    return raised.value.reason.removeprefix("CredentialRetrievalError: ")


def refusal_by(**environ: str) -> str:
    return refusal(ContainerCredentials(environ, connection=patient))


# ---- When they are fetched


def test_the_credentials_are_those_of_the_endpoint(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials
) -> None:
    assert credentials() == Credentials("AKID1", "s3cr3t", "s3ss10n")
    assert endpoint.requests[0]["authorization"] == TOKEN


def test_they_are_fetched_again_ten_minutes_before_they_expire(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    keys = []
    for after in (timedelta(), REFRESHED_AFTER - SECOND, REFRESHED_AFTER):
        at(clock, NOON + after)
        keys.append(credentials().access_key)

    assert keys == ["AKID1", "AKID1", "AKID2"]


def test_kept_credentials_serve_while_the_endpoint_fails_and_it_is_asked_every_ten_seconds(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    credentials()
    endpoint.fault = (500, b"")
    endpoint.requests.clear()
    at(clock, NOON + REFRESHED_AFTER)

    keys = set()
    while clock.now() < NOON + LIFETIME:
        keys.add(credentials().access_key)
        clock.advance(SECOND)

    assert keys == {"AKID1"}
    assert len(endpoint.requests) == 60  # in ten minutes


def test_expired_credentials_are_not_used_and_each_call_asks_for_others(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    credentials()
    endpoint.fault = (500, b"")
    at(clock, NOON + LIFETIME)
    refusals = [refusal(credentials), refusal(credentials)]
    endpoint.fault = None
    endpoint.now = clock.now()

    assert refusals == ["500", "500"]
    assert credentials().access_key == "AKID4"


def test_credentials_that_expire_within_ten_minutes_are_not_fetched_for_each_call(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    endpoint.lifetime = timedelta(minutes=5)
    for _ in range(10):
        credentials()
        clock.advance(SECOND)
    fetched = len(endpoint.requests)
    credentials()

    assert fetched == 1
    assert len(endpoint.requests) == 2


def test_credentials_that_have_expired_when_they_come_are_refused(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials
) -> None:
    endpoint.lifetime = timedelta()

    assert refusal(credentials) == "Expired"


def test_those_that_dynamodb_refuses_are_fetched_again_every_ten_seconds_at_most(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    first = credentials()
    keys = []
    for _ in range(21):
        keys.append(credentials(first).access_key)
        clock.advance(SECOND)
    second = credentials()
    third = credentials(second)

    assert keys == ["AKID1"] * 10 + ["AKID2"] * 11
    assert (second.access_key, third.access_key) == ("AKID2", "AKID3")
    assert len(endpoint.requests) == 3


def test_those_that_dynamodb_refuses_are_returned_if_there_are_no_others(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, clock: FixedClock
) -> None:
    first = credentials()
    endpoint.fault = (500, b"")
    again = []
    for after in (10 * SECOND, LIFETIME):
        at(clock, NOON + after)
        again.append(credentials(first))

    assert again == [first, first]
    assert len(endpoint.requests) == 3


def test_after_a_restore_the_first_call_has_new_credentials_without_a_fetch(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials
) -> None:
    credentials()
    credentials.suspend()
    forgotten = vars(credentials).copy()
    resumed = credentials.resume()
    endpoint.fault = (500, b"")

    assert resumed
    assert "s3cr3t" not in repr(forgotten.values())
    assert credentials().access_key == "AKID2"


def test_an_endpoint_that_fails_at_a_restore_is_asked_again_by_the_first_call(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials
) -> None:
    endpoint.fault = (500, b"")
    resumed = credentials.resume()
    endpoint.fault = None

    assert not resumed
    assert credentials().access_key == "AKID2"


# ---- Where the endpoint may be

URIS = [
    "http://localhost:9001/credentials",
    "http://127.0.0.1/credentials",
    "http://127.1.2.3:80/",
    "http://[::1]:9001/credentials?role=1",
    "http://169.254.170.2/v2",
    "http://169.254.170.23/v1/credentials",
    "http://[fd00:ec2::23]/v1",
    "https://credentials.example.com/role",
    "http://169.254.169.254/latest/meta-data",
    "http://credentials.example.com/",
    "http://localhost.example.com/",
    "http://10.0.0.1/",
    "http://[fe80::1]/",
    "http://0.0.0.0/",
]


@pytest.mark.parametrize("uri", URIS)
def test_without_tls_the_endpoint_is_where_botocore_lets_it_be(uri: str) -> None:
    def look_up(*_: object, **__: object) -> list[object]:
        raise OSError

    fetcher: Any = ContainerMetadataFetcher()
    try:
        fetcher._validate_allowed_url(uri)  # noqa: SLF001 - there is no public way to ask
        allowed = True
    except ValueError:
        allowed = False
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}
    asked = ContainerCredentials(environ, connection=partial(Connection, look_up=look_up))

    assert refusal(asked) == ("EndpointConnectionError" if allowed else "HostNotAllowed")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "credentials",
        "ftp://localhost/",
        "http://",
        "http://localhost:port/",
        "http://user@localhost/",
        "http://localhost/a b",
        "http://localhost/\r\nx-more: 1",
        "https://bücher.example.com/",
    ],
)
def test_a_malformed_uri_is_not_asked(uri: str) -> None:
    assert refusal_by(AWS_CONTAINER_CREDENTIALS_FULL_URI=uri) == "NoUri"


def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    another_folder = tmp_path / "other"
    another_folder.mkdir()
    body = json.dumps(CredentialsEndpoint().credentials()).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with peer(always_saying(answer), tls=a_server_context(authority)) as server:
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"https://127.0.0.1:{server.port}/"}
        trusting = environ | {"AWS_CA_BUNDLE": bundle_of(authority, tmp_path)}
        found = ContainerCredentials(trusting, connection=patient)()
        refused = refusal_by(**environ | {"AWS_CA_BUNDLE": bundle_of(other, another_folder)})

    assert found.access_key == "AKID1"
    assert refused.startswith("SSLError: ")


# ---- The token


def test_a_token_that_would_add_a_header_is_not_sent(endpoint: CredentialsEndpoint) -> None:
    environ = endpoint.environ() | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "t\r\nx-more: 1"}

    assert refusal_by(**environ) == "NoToken"
    assert endpoint.requests == []


def test_without_a_token_no_header_is_sent(endpoint: CredentialsEndpoint) -> None:
    environ = endpoint.environ() | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": ""}
    endpoint.fault = (200, b"{}")

    assert refusal_by(**environ) == "NoCredentials"
    assert "authorization" not in endpoint.requests[0]


# ---- What it answers


@pytest.mark.parametrize("status", [301, 403, 404, 500])
def test_another_status_is_the_reason(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, status: int
) -> None:
    endpoint.fault = (status, json.dumps(endpoint.credentials()).encode())

    assert refusal(credentials) == str(status)


@pytest.mark.parametrize(
    "changes",
    [
        {"AccessKeyId": ""},
        {"SecretAccessKey": 7},
        {"Token": None},
        {"Token": "t\r\nx-more: 1"},
        {"Expiration": "tomorrow"},
        {"Expiration": "2126-11-21T12:00:00"},  # of which zone?
        {"Expiration": 4950000000},
    ],
)
def test_an_answer_without_usable_credentials_is_refused(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, changes: dict[str, Any]
) -> None:
    endpoint.fault = (200, json.dumps(endpoint.credentials(**changes)).encode())

    assert refusal(credentials) == "NoCredentials"


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_other_answer_is_no_credentials(body: bytes) -> None:
    with pytest.raises(_NoCredentials):
        _credentials_in(body)


def test_an_endpoint_that_does_not_answer_is_left_after_a_second() -> None:
    time_outs = []

    def connection(host: str, port: int, **others: Any) -> Connection:
        time_outs.append((others["connect_timeout"], others["read_timeout"]))
        return Connection(host, port, **others)

    with peer(silent) as server:
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/"}
        reason = refusal(ContainerCredentials(environ, connection=connection))

    assert reason == "ReadTimeoutError"
    assert time_outs == [(1, 1)]


def test_an_answer_without_an_end_is_not_read_to_its_end() -> None:
    with peer(always_saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n{")) as server:
        uri = f"http://127.0.0.1:{server.port}/"

        assert refusal_by(AWS_CONTAINER_CREDENTIALS_FULL_URI=uri) == "MalformedResponse"


def test_nothing_of_the_credentials_is_shown(
    endpoint: CredentialsEndpoint, credentials: ContainerCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="switchboard"):
        found = credentials()
        endpoint.fault = (500, b'{"SecretAccessKey": "s3cr3t"}')
        credentials.suspend()
        with suppress(StorageUnavailable):
            credentials()
    shown = f"{credentials!r} {found!r} {caplog.text}"

    assert not any(secret in shown for secret in ("s3cr3t", "s3ss10n", TOKEN))
