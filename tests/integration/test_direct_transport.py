"""The direct transport, and the store over it, against peers that behave badly on real sockets."""

import calendar
import os
import resource
import select
import shlex
import signal
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import botocore.session
import pytest
import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.adapters.dynamodb.direct import direct_transport, public_endpoint
from app.adapters.dynamodb.direct.answers import DynamoDBRefusal
from app.adapters.dynamodb.direct.connection import Connection, NotSent, host_and_port
from app.adapters.dynamodb.direct.credentials import credentials_source
from app.adapters.dynamodb.direct.signing import Credentials as OurCredentials
from app.adapters.dynamodb.direct.signing import CredentialsSource
from app.adapters.dynamodb.direct.transport import DirectTransport
from app.adapters.dynamodb.direct.trust import _context, trust_for
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.domain.errors import StorageUnavailable
from app.domain.model import ConnectionId, Removed, Tombstone
from tests.builders import NOON, a_connection
from tests.deadline import eventually
from tests.dynamodb_local import REGION
from tests.peer import Peer, Talk, always_saying, peer, request_from, saying, silent
from tests.thoroughness import examples

C1 = ConnectionId("c-1")
PATIENT = timedelta(seconds=10)
SHORT = timedelta(milliseconds=300)  # for tests that wait for a time-out


def answer(body: bytes = b"{}", status: int = 200, **headers: str) -> bytes:
    """An answer of DynamoDB."""
    own = {
        "x-amzn-requestid": "R1",
        "x-amz-crc32": str(zlib.crc32(body)),
        "content-length": str(len(body)),
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in (own | headers).items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


def refusal(code: str, **headers: str) -> bytes:
    return answer(b'{"__type":"com.amazon.coral.service#%s","message":"no"}' % code.encode(), 400, **headers)


def a_transport(
    server: Peer,
    attempts: int = 1,
    scheme: str = "http",
    timeout: timedelta = PATIENT,
    credentials: CredentialsSource | None = None,
) -> DirectTransport:
    return direct_transport(
        region=REGION,
        endpoint=f"{scheme}://{server.host}:{server.port}",
        connect_timeout=timeout,
        read_timeout=timeout,
        attempts=attempts,
        credentials=credentials,
    )


def a_store(
    server: Peer, attempts: int = 1, scheme: str = "http", timeout: timedelta = PATIENT
) -> DynamoDBConnectionStore:
    return DynamoDBConnectionStore(a_transport(server, attempts, scheme, timeout), "Connections")


def a_store_pausing_with(
    sleep: Callable[[float], None], server: Peer, attempts: int
) -> DynamoDBConnectionStore:
    transport = a_transport(server, attempts)
    transport._sleep = sleep  # noqa: SLF001 - so that the test does not wait for the pauses
    return DynamoDBConnectionStore(transport, "Connections")


def failure_of(store: DynamoDBConnectionStore) -> tuple[str, bool]:
    """The reason of the StorageUnavailable that an ``add`` raises, and whether the outcome is unknown.

    A time-out has to be a ``SHORT`` one.
    """
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as raised:
        store.add(a_connection())
    took = time.monotonic() - began

    if raised.value.reason.endswith("TimeoutError"):
        assert took < 2 * SHORT.total_seconds() + 3  # some seconds for a busy machine
    return raised.value.reason, raised.value.outcome_unknown


def timeout_for(reason: str) -> timedelta:
    """The time-out of a test that expects *reason*: an answer may be late on a busy machine."""
    return SHORT if reason.endswith("TimeoutError") else PATIENT


# ---- One kept-alive connection


def test_it_connects_before_the_first_request() -> None:
    connected = threading.Event()

    def talk(connection: socket.socket) -> None:
        connected.set()
        silent(connection)

    with peer(talk) as server:
        transport = a_transport(server)

        assert connected.wait(timeout=5)
        transport.close()


def test_one_connection_serves_many_requests() -> None:
    with peer(always_saying(answer())) as server:
        store = a_store(server)
        for _ in range(5):
            store.add(a_connection())

    assert server.connections == 1


@pytest.mark.parametrize("announced", ["", "close"])
def test_it_reconnects_to_a_peer_that_closes_between_two_calls(announced: str) -> None:
    closing = saying(answer(connection=announced) if announced else answer())
    with peer(closing, closing, always_saying(answer())) as server:
        store = a_store(server, attempts=2)
        for _ in range(3):
            store.add(a_connection())

    assert server.connections == 3


def test_it_retries_without_a_pause_if_the_peer_closes_a_kept_connection() -> None:
    def closes_at_the_second_request(connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(answer())
        request_from(connection)

    pauses: list[float] = []
    with peer(closes_at_the_second_request, always_saying(answer())) as server:
        store = a_store_pausing_with(pauses.append, server, attempts=2)
        store.add(a_connection())
        store.add(a_connection())

    assert server.connections == 2
    assert pauses == []


def test_it_reconnects_to_a_peer_that_resets_a_kept_connection() -> None:
    reset = threading.Event()

    def answers_once(connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(answer())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        reset.set()

    with peer(answers_once, always_saying(answer())) as server:
        store = a_store(server)
        store.add(a_connection())
        assert reset.wait(timeout=5)
        store.add(a_connection())

    assert server.connections == 2


def test_a_late_answer_is_not_taken_for_the_answer_to_the_next_request() -> None:
    body = b'{"Attributes":{"connectionId":{"S":"of-another-request"}}}'

    def late(connection: socket.socket) -> None:
        request_from(connection)
        request_from(connection)  # returns when the other side has given up
        connection.sendall(answer(body))

    with peer(late, always_saying(answer())) as server:
        transport = a_transport(server, timeout=SHORT)
        store = DynamoDBConnectionStore(transport, "Connections")
        assert failure_of(store) == ("ReadTimeoutError", True)
        transport._connection._read_timeout = PATIENT.total_seconds()  # noqa: SLF001 - this one is answered
        assert store.remove(C1, None) == Removed(None)

    assert server.connections == 2


# ---- What a peer may do instead of answering


def trickle(connection: socket.socket) -> None:
    request_from(connection)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)  # the peer is slow on purpose


def endless(connection: socket.socket) -> None:
    request_from(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Header: and another\r\n" * 100)


def flood(connection: socket.socket) -> None:
    request_from(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1\r\nx\r\n" * 10_000)


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        pytest.param(flood, "ReadTimeoutError", id="endless small chunks"),
        pytest.param(silent, "ReadTimeoutError", id="silence"),
        pytest.param(trickle, "ReadTimeoutError", id="a slow byte at a time"),
        pytest.param(endless, "MalformedResponse", id="endless headers"),
        pytest.param(saying(b""), "ConnectionClosedError", id="nothing"),
        pytest.param(saying(answer()[:-1]), "ConnectionClosedError", id="a truncated body"),
        pytest.param(saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "MalformedResponse", id="another protocol"),
        pytest.param(saying(answer(x_amz_crc32="1")), "CorruptAnswer", id="a wrong checksum"),
        pytest.param(saying(answer(b"<html>")), "NotDynamoDB", id="no JSON"),
        pytest.param(saying(answer(b"[]")), "NotDynamoDB", id="no JSON object"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), "NotDynamoDB", id="no request id"
        ),
    ],
)
def test_without_a_usable_answer_the_outcome_is_unknown(talk: Talk, reason: str) -> None:
    with peer(talk) as server:
        store = a_store(server, timeout=timeout_for(reason))
        assert failure_of(store) == (reason, True)


@pytest.mark.parametrize("status", [302, 403, 407, 413])
def test_a_proxy_that_refuses_has_not_passed_the_request_on(status: int) -> None:
    with peer(saying(answer(b"<html>no</html>", status))) as server:
        store = a_store(server, attempts=3)
        assert failure_of(store) == (str(status), False)

    assert server.connections == 1


EXISTS = b'{"__type":"x#ConditionalCheckFailedException","Item":{"connectionId":{"S":"c-1"}}}'


@pytest.mark.parametrize(
    ("reply", "reason", "unknown"),
    [
        pytest.param(
            b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%s" % (len(EXISTS), EXISTS),
            "400",
            False,
            id="no request id",
        ),
        pytest.param(answer(EXISTS, 302), "NotDynamoDB", False, id="a redirection"),
        pytest.param(answer(EXISTS, 403), "NotDynamoDB", False, id="another status"),
        pytest.param(
            answer(EXISTS.replace(b"c-1", b"c-2"), 400), "NotDynamoDB", True, id="another connection's item"
        ),
        pytest.param(refusal("ConditionalCheckFailedException"), "NotDynamoDB", True, id="no item"),
        pytest.param(
            answer(b'{"__type":"x#ThrottlingException"}'), "NotDynamoDB", True, id="an error with status 200"
        ),
        pytest.param(answer(b"{}", 202), "NotDynamoDB", True, id="status 202"),
        pytest.param(answer(b"{}", 400), "NotDynamoDB", False, id="an error without a name"),
        pytest.param(
            refusal("ThrottlingException", x_amz_crc32="1"), "CorruptAnswer", True, id="a corrupt error"
        ),
    ],
)
def test_only_an_answer_of_dynamodb_to_this_request_counts(
    reply: bytes, reason: str, *, unknown: bool
) -> None:
    with peer(saying(reply)) as server:
        assert failure_of(a_store(server)) == (reason, unknown)


@pytest.mark.parametrize(
    "item",
    [b'{"connectionId":{"S":"c-2"}}', b'["c-1"]', b'{"ttl":{"N":"1"}}'],
    ids=["another connection's", "a list", "no id"],
)
def test_an_item_of_another_connection_does_not_count(item: bytes) -> None:
    with peer(always_saying(answer(b'{"Attributes":%s,"Item":%s}' % (item, item)))) as server:
        store = a_store(server)
        with pytest.raises(StorageUnavailable, match="NotDynamoDB"):
            store.remove(C1, None)
        with pytest.raises(StorageUnavailable, match="NotDynamoDB"):
            store.tombstone(Tombstone(C1, connected_at=NOON, closed_at=NOON, expires_at=NOON))


def test_the_answer_to_an_interrupted_request_is_not_taken_for_the_next() -> None:
    signals: list[int] = []
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(signal_number: int, frame: object) -> None:
        signals.append(signal_number)
        if len(signals) == 1:
            raise KeyboardInterrupt

    def interrupting(connection: socket.socket) -> None:
        request_from(connection)
        # repeated: a signal that comes just before the client blocks in recv does not wake it up
        while not select.select([connection], [], [], 0.05)[0]:
            signal.pthread_kill(main, signal.SIGALRM)
        silent(connection)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with peer(interrupting, always_saying(answer())) as server:
            store = a_store(server)
            with pytest.raises(KeyboardInterrupt):
                store.add(a_connection())
            store.add(a_connection())
    finally:
        signal.signal(signal.SIGALRM, before)

    assert server.connections == 2


@given(sent=st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: answer()[:30] + data))
@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_never_count_as_success_and_never_block(sent: bytes) -> None:
    with peer(saying(sent)) as server:
        store = a_store(server, timeout=SHORT)
        reason, unknown = failure_of(store)

    assert reason
    assert unknown


def test_the_pauses_between_attempts_grow_and_are_random() -> None:
    pauses: list[float] = []
    with peer(always_saying(refusal("ThrottlingException"))) as server:
        store = a_store_pausing_with(pauses.append, server, attempts=4)
        with pytest.raises(StorageUnavailable):
            store.add(a_connection())

    assert len(pauses) == 3
    assert all(0 <= pause <= 0.25 * 2**retry for retry, pause in enumerate(pauses))
    assert len(set(pauses)) == 3


# ---- The clock


def test_a_wrong_clock_is_corrected_by_dynamodbs_date() -> None:
    requests: list[bytes] = []
    an_hour_ahead = formatdate(time.time() + 3600, usegmt=True)

    def talk(connection: socket.socket) -> None:
        for reply in (refusal("InvalidSignatureException", date=an_hour_ahead), answer(), answer()):
            requests.append(request_from(connection))
            connection.sendall(reply)

    with peer(talk) as server:
        store = a_store(server, attempts=2)
        store.add(a_connection())
        store.add(a_connection())

    dates = [signed_at(request) for request in requests]
    assert dates[1] - dates[0] == pytest.approx(3600, abs=5)
    assert dates[2] - dates[1] == pytest.approx(0, abs=5)


def test_a_call_corrects_the_clock_only_once() -> None:
    requests: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        for ahead in (3600, 7200, 10800):
            requests.append(request_from(connection))
            date = formatdate(time.time() + ahead, usegmt=True)
            connection.sendall(refusal("InvalidSignatureException", date=date))

    with peer(talk) as server:
        store = a_store(server, attempts=3)
        with pytest.raises(DynamoDBRefusal):
            store.add(a_connection())

    assert len([request for request in requests if request]) == 2  # the last one is the end of the connection


@pytest.mark.parametrize("date", ["9999 Jan 24:61:99 GMT 99999999999", "", "yesterday", None])
def test_an_invalid_signature_with_a_right_clock_is_a_fault_of_the_deployment(date: str | None) -> None:
    if date is None:
        date = formatdate(time.time(), usegmt=True)  # now, and not at collection time
    with peer(always_saying(refusal("InvalidSignatureException", date=date))) as server:
        store = a_store(server, attempts=3)
        with pytest.raises(DynamoDBRefusal, match="InvalidSignatureException: no"):
            store.add(a_connection())


def signed_at(request: bytes) -> float:
    """The time at which the request was signed."""
    date = request.partition(b"x-amz-date:")[2].partition(b"\r\n")[0].decode()
    return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


# ---- Credentials


def request_with(monkeypatch: pytest.MonkeyPatch, **environ: str) -> bytes:
    """The request that is sent if *environ* says where the credentials are."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    requests: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        while request := request_from(connection):
            requests.append(request)
            connection.sendall(answer())

    with peer(talk) as server:
        store = a_store(server)
        store.add(a_connection())
        store.add(a_connection())
    assert credential(requests[0]) == credential(requests[1])
    return requests[0]


def credential(request: bytes) -> bytes:
    return request.partition(b"Credential=")[2].partition(b"/")[0]


def signature_of(request: bytes) -> str:
    return request.partition(b"Signature=")[2].partition(b"\r\n")[0].decode()


def signature_by_botocore(request: bytes, access_key: str, secret_key: str, token: str | None) -> str:
    """The signature that botocore makes for *request*, as it was received."""
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(":", 1) for line in head.decode().split("\r\n")[1:])
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest("POST", f"https://{headers['host']}/", {name: headers[name] for name in signed}, body)
    again.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials(access_key, secret_key, token), "dynamodb", REGION)
    signature: str = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return signature


def test_the_environments_credentials_are_used_with_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_with(
        monkeypatch, AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="s3cr3t", AWS_SESSION_TOKEN="t0k3n"
    )

    assert b"Credential=AKID/" in request
    assert b"x-amz-security-token:t0k3n\r\n" in request
    assert b"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target," in request
    assert signature_of(request) == signature_by_botocore(request, "AKID", "s3cr3t", "t0k3n")


def test_credentials_from_anywhere_else_are_found_by_the_sdk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = FROMFILE\naws_secret_access_key = s3cr3t\n")

    request = request_with(monkeypatch, AWS_SHARED_CREDENTIALS_FILE=str(file))

    assert b"Credential=FROMFILE/" in request
    assert signature_of(request) == signature_by_botocore(request, "FROMFILE", "s3cr3t", None)
    assert b"x-amz-security-token" not in request


@pytest.mark.parametrize("environ", [{}, {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}])
def test_neither_the_environment_nor_the_sdk_knows_others_for_refused_credentials(
    environ: dict[str, str],
) -> None:
    refused = OurCredentials("AKID", "s3cr3t", None)

    assert credentials_source(environ)(refused) == refused


@pytest.mark.parametrize("text", ["not JSON", '{"Version": 2}'])
def test_a_credential_process_with_unusable_output_raises_storage_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    file, output = tmp_path / "config", tmp_path / "output"
    output.write_text(text)
    file.write_text(f"[default]\ncredential_process = cat {shlex.quote(str(output))}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    with peer(silent) as server:
        reason, unknown = failure_of(a_store(server))

    assert reason in {"JSONDecodeError", "CredentialRetrievalError"}
    assert not unknown


def test_a_credential_process_that_fails_raises_storage_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text("[default]\ncredential_process = false\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    with peer(silent) as server:
        assert failure_of(a_store(server)) == ("CredentialRetrievalError", False)


class SomeCredentials:
    """Credentials with the access keys *keys*: the next one once the one before is refused."""

    def __init__(self, *keys: str) -> None:
        self._left = [OurCredentials(key, f"s3cr3t of {key}", None) for key in keys]

    def __call__(self, refused: OurCredentials | None) -> OurCredentials:
        if refused == self._left[0] and len(self._left) > 1:
            del self._left[0]
        return self._left[0]


REFUSALS = ["ExpiredTokenException", "UnrecognizedClientException"]


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize(
    ("keys", "used"), [(["OLD"], [b"OLD"]), (["OLD", "NEW", "NEWER"], [b"OLD", b"NEW", b"NEWER"])]
)
def test_refused_credentials_are_replaced_at_once_if_there_are_others(
    code: str, keys: list[str], used: list[bytes]
) -> None:
    requests: list[bytes] = []
    pauses: list[float] = []

    def talk(connection: socket.socket) -> None:
        while request := request_from(connection):
            requests.append(request)
            connection.sendall(refusal(code))

    with peer(talk) as server:
        transport = a_transport(server, attempts=3, credentials=SomeCredentials(*keys))
        transport._sleep = pauses.append  # noqa: SLF001 - as above
        store = DynamoDBConnectionStore(transport, "Connections")

        assert failure_of(store) == (code, False)
    assert [credential(request) for request in requests] == used
    assert pauses == []


def test_a_call_succeeds_with_the_credentials_that_replace_refused_ones() -> None:
    with peer(saying(refusal(REFUSALS[0]), answer())) as server:
        store = DynamoDBConnectionStore(
            a_transport(server, attempts=2, credentials=SomeCredentials("OLD", "NEW")), "Connections"
        )
        store.add(a_connection())

    assert server.connections == 1


# ---- Snapshots


def texts_in(value: object) -> set[object]:
    """Return the texts that *value* and its parts hold."""
    if isinstance(value, str | bytes):
        return {value}
    parts = value if isinstance(value, tuple | list) else getattr(value, "__dict__", {}).values()
    return {text for part in parts for text in texts_in(part)}


def test_a_snapshot_has_no_secret_and_no_key_that_is_derived_of_one() -> None:
    with peer(always_saying(answer())) as server:
        transport = a_transport(server, credentials=lambda _: OurCredentials("AKID", "s3cr3t", None))
        DynamoDBConnectionStore(transport, "Connections").add(a_connection())
        secrets = {"s3cr3t", transport._signer._key}  # noqa: SLF001 - a request shows only what it signs
        before = texts_in(transport)
        transport.suspend()

    assert secrets <= before
    assert secrets & texts_in(transport) == set()


def test_a_restore_has_its_own_clock_and_a_connection_before_the_first_call() -> None:
    requests: list[bytes] = []
    an_hour_ahead = formatdate(time.time() + 3600, usegmt=True)
    replies = iter([refusal("InvalidSignatureException", date=an_hour_ahead), answer(), answer()])

    def talk(connection: socket.socket) -> None:
        while request := request_from(connection):
            requests.append(request)
            connection.sendall(next(replies))

    with peer(talk) as server:
        transport = a_transport(server, attempts=2)
        store = DynamoDBConnectionStore(transport, "Connections")
        store.add(a_connection())
        transport.suspend()
        resumed = transport.resume()
        eventually(lambda: server.connections == 2)
        store.add(a_connection())

    dates = [signed_at(request) for request in requests]
    assert resumed
    assert server.connections == 2
    assert [date - dates[0] for date in dates] == pytest.approx([0, 3600, 0], abs=5)


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def a_server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def bundle_of(authority: trustme.CA, directory: Path) -> str:
    path = directory / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_a_certificate_of_a_trusted_authority_is_accepted(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle_of(authority, tmp_path))
    with peer(always_saying(answer()), tls=a_server_context(authority)) as server:
        store = a_store(server, scheme="https")
        store.add(a_connection())
        store.add(a_connection())

    assert server.connections == 1


def test_session_tickets_do_not_end_the_connection(authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=bundle_of(authority, tmp_path))
    with peer(silent, tls=a_server_context(authority)) as server:
        connection = Connection(
            server.host, server.port, connect_timeout=30, read_timeout=1, trust=[lambda: context]
        )
        first = connection.open()
        assert select.select([first], [], [], 5)[0]  # the tickets, and nothing else

        assert connection.open() is first
        connection.close()


def test_a_certificate_of_an_unknown_authority_is_refused(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with peer(always_saying(answer()), tls=a_server_context(authority)) as server:
        reason, unknown = failure_of(a_store(server, scheme="https"))

    assert reason.startswith("SSLError: ")
    assert "issuer" in reason
    assert not unknown


def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle_of(authority, tmp_path))
    with peer(always_saying(answer()), tls=a_server_context(authority, "dynamodb.example.com")) as server:
        reason, unknown = failure_of(a_store(server, scheme="https"))

    assert "not valid for '127.0.0.1'" in reason
    assert not unknown


def test_a_missing_ca_bundle_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    with (
        peer(silent) as server,
        pytest.raises(ValueError, match="^AWS_CA_BUNDLE must name a file of certificates"),
    ):
        a_store(server, scheme="https")


@pytest.mark.parametrize(
    ("talk", "reason"), [(silent, "ConnectTimeoutError"), (saying(b"no TLS here"), "SSLError")]
)
def test_a_peer_without_tls_is_sent_no_request(talk: Talk, reason: str) -> None:
    def greets_or_waits(connection: socket.socket) -> None:
        if talk is not silent:
            connection.sendall(b"220 no TLS here\r\n")
        silent(connection)

    with peer(greets_or_waits) as server:
        store = a_store(server, scheme="https", timeout=timeout_for(reason))
        assert failure_of(store) == (reason, False)


def test_a_certificate_that_amazons_roots_do_not_verify_is_checked_against_the_full_bundle(
    authority: trustme.CA, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    contexts = [
        ssl.create_default_context(cafile=bundle_of(trustme.CA(), other)),
        ssl.create_default_context(cafile=bundle_of(authority, tmp_path)),
    ]
    with peer(always_saying(answer()), tls=a_server_context(authority)) as server:
        connection = Connection(
            server.host,
            server.port,
            connect_timeout=30,
            read_timeout=1,
            trust=[lambda: contexts[0], lambda: contexts[1]],
        )
        connection.open()
        connection.close()
        connection.open()
        connection.close()

    assert server.connections == 3  # refused by the first context, accepted by the second, which is kept


def test_a_certificate_that_no_bundle_verifies_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    untrusting = ssl.create_default_context(cafile=bundle_of(trustme.CA(), tmp_path))
    with peer(always_saying(answer()), tls=a_server_context(authority)) as server:
        connection = Connection(
            server.host,
            server.port,
            connect_timeout=30,
            read_timeout=1,
            trust=[lambda: untrusting, lambda: untrusting],
        )
        with pytest.raises(NotSent, match="SSLError"):
            connection.open()


def serial(authority: trustme.CA) -> str:
    """The serial number of an authority's certificate, as ``ssl`` writes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    (certificate,) = context.get_ca_certs()
    return str(certificate["serialNumber"])


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[trustme.CA]:
    """The only authority that the system trusts."""
    system = trustme.CA()
    directory = tmp_path / "system"
    directory.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", bundle_of(system, directory))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    _context.cache_clear()
    yield system
    _context.cache_clear()


def test_only_the_public_endpoints_of_aws_are_checked_against_amazons_roots(
    authority: trustme.CA, system: trustme.CA, tmp_path: Path
) -> None:
    roots = bundle_of(authority, tmp_path)
    private, other = trustme.CA(), tmp_path / "other"
    other.mkdir()

    nothing: dict[str, str] = {}
    missing, own = str(tmp_path / "missing.pem"), {"AWS_CA_BUNDLE": bundle_of(private, other)}

    def trusted(host: str, environ: dict[str, str], roots: str) -> list[list[str]]:
        contexts = [context() for context in trust_for(host, environ, roots)]
        assert all(it.verify_mode is ssl.CERT_REQUIRED and it.check_hostname for it in contexts)
        assert not any(it.verify_flags & ssl.VERIFY_X509_STRICT for it in contexts)
        return [[str(authority["serialNumber"]) for authority in it.get_ca_certs()] for it in contexts]

    amazons, systems, privates = [serial(authority)], [serial(system)], [serial(private)]
    assert trusted("dynamodb.eu-central-1.amazonaws.com", nothing, roots) == [amazons, systems]
    assert trusted("dynamodb.cn-north-1.amazonaws.com.cn", nothing, roots) == [amazons, systems]
    assert trusted("dynamodb.example.com", nothing, roots) == [systems]
    assert trusted("dynamodb.eu-central-1.amazonaws.com", nothing, missing) == [systems]
    assert trusted("dynamodb.eu-central-1.amazonaws.com", own, roots) == [privates]


# ---- Endpoints


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [("http://localhost:{port}", "localhost:{port}"), ("http://127.0.0.1:{port}/", "127.0.0.1:{port}")],
)
def test_the_signed_host_is_the_one_of_the_endpoint(endpoint: str, host: str) -> None:
    requests: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        requests.append(request_from(connection))
        connection.sendall(answer())

    with peer(talk) as server:
        transport = direct_transport(
            region=REGION,
            endpoint=endpoint.format(port=server.port),
            connect_timeout=PATIENT,
            read_timeout=PATIENT,
            attempts=1,
        )
        DynamoDBConnectionStore(transport, "Connections").add(a_connection())

    assert f"\r\nhost:{host.format(port=server.port)}\r\n".encode() in requests[0]


def test_a_peer_that_accepts_no_connection_was_sent_no_request() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(3):  # the system queues some, whatever the backlog is
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(full.getsockname())

        store = a_store(Peer(full.getsockname()[1]), timeout=SHORT)
        assert failure_of(store) == ("ConnectTimeoutError", False)


def test_an_address_that_does_not_answer_leaves_time_for_the_next_one() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        ExitStack() as waiting,
        peer(always_saying(answer())) as server,
    ):
        for _ in range(3):  # the system queues some, whatever the backlog is
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(full.getsockname())

        def look_up(host: bytes, port: int, **_: object) -> list[tuple[object, ...]]:
            """Two addresses, of which the first does not answer."""
            addresses = [full.getsockname(), (server.host, server.port)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

        connection = Connection("two.example", 80, connect_timeout=0.6, read_timeout=1, look_up=look_up)
        assert connection.open().getpeername() == (server.host, server.port)
        connection.close()


def test_without_a_free_file_descriptor_no_request_is_sent() -> None:
    connection = Connection("127.0.0.1", 9, connect_timeout=1, read_timeout=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.dup(0)
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
    try:
        with pytest.raises(NotSent, match="EndpointConnectionError"):
            connection.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_host_name_without_an_address_is_sent_no_request() -> None:
    def look_up(host: bytes, port: int, **_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    connection = Connection("nowhere.example", 80, connect_timeout=1, read_timeout=1, look_up=look_up)

    with pytest.raises(NotSent, match="EndpointConnectionError"):
        connection.open()


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("dynamodb.example", ("dynamodb.example", 443)),
        ("dynamodb.example:8000", ("dynamodb.example", 8000)),
        ("[::1]", ("::1", 443)),
        ("[::1]:8000", ("::1", 8000)),
    ],
)
def test_an_endpoint_without_a_port_has_the_default_one(authority: str, expected: tuple[str, int]) -> None:
    assert host_and_port(authority, 443) == expected


def test_every_region_has_the_endpoint_that_the_sdk_knows() -> None:
    session = botocore.session.Session()
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("dynamodb", partition)
    ]

    assert len(regions) > 30
    for region in regions:
        assert public_endpoint(region) == session.create_client("dynamodb", region).meta.endpoint_url
