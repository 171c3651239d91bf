"""The gateway adapter over real sockets: its requests, their endpoint, and the result of each answer."""

import shlex
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.gateway import ManagementApiGateway
from app.adapters.gateway.endpoints import Endpoints
from app.adapters.threads import ThreadWorkers
from app.domain.delivery import SendResult
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId
from app.domain.sweep import Outcome, SweepConnections
from tests.builders import NOON, a_connection
from tests.fakes import FixedClock, RecordingPublisher
from tests.integration.management_api import (
    STAGE,
    ManagementApi,
    Request,
    Say,
    breaking_off,
    hanging_up,
    management_api,
    refusing,
    saying,
)
from tests.peer import always_saying, peer, request_from
from tests.stores import on_dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

GRACE = timedelta(seconds=30)
REGION = "eu-central-1"
AWS_ID = "JKJcXeXAmPl3AbC="
OWN_DOMAIN = f"a1b2c3d4e5.execute-api.{REGION}.amazonaws.com"

FRAME = '{"id":"m-1","data":"é"}'.encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
GIVES_CREDENTIALS_ONCE = """
import json, pathlib
pathlib.Path(__file__ + ".asked").touch(exist_ok=False)
over = "2020-01-01T00:00:00Z"
print(json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "s", "Expiration": over}))
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def api() -> Iterator[ManagementApi]:
    with management_api() as api:
        yield api


@pytest.fixture
def gateway(api: ManagementApi) -> ManagementApiGateway:
    return a_gateway(endpoint=api.endpoint)


def a_gateway(**changes: Any) -> ManagementApiGateway:
    patient = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(seconds=10)}
    return ManagementApiGateway(**{"region": REGION} | patient | changes)


def probe(gateway: ManagementApiGateway, connection: Connection) -> ProbeResult:
    """The result of a probe of one connection."""
    [(probed, result)] = gateway.probe([connection])
    assert probed is connection
    return result


def called(name: str = AWS_ID, **changes: Any) -> Connection:
    return a_connection(**{"id": ConnectionId(name)} | changes)


def test_a_connection_that_the_gateway_has_is_alive(gateway: ManagementApiGateway) -> None:
    assert probe(gateway, called()) is ProbeResult.ALIVE


KEEP_ALIVE = b'{"type": "keepalive", "since": "@1764412345678"}'


def keep_alive(gateway: ManagementApiGateway, connection: Connection) -> ProbeResult:
    """The result of a keep-alive of one connection."""
    [(called, result)] = gateway.keep_alive([connection], "@1764412345678")
    assert called is connection
    return result


def test_a_keep_alive_is_a_message_to_the_client(gateway: ManagementApiGateway, api: ManagementApi) -> None:
    assert keep_alive(gateway, called()) is ProbeResult.ALIVE
    assert [request.method for request in api.requests] == ["POST"]
    assert api.frames == {AWS_ID: [KEEP_ALIVE]}


def test_closing_a_connection_is_a_delete_request(gateway: ManagementApiGateway, api: ManagementApi) -> None:
    assert gateway.close(called()) is ProbeResult.CLOSED
    assert [request.method for request in api.requests] == ["DELETE"]


@pytest.mark.parametrize(
    ("say", "answer"),
    [
        (refusing(410, "GoneException"), ProbeResult.GONE),
        (refusing(410), ProbeResult.GONE),
        (saying(410, b""), ProbeResult.GONE),
        (refusing(403, "ForbiddenException"), ProbeResult.FORBIDDEN),
        (refusing(401), ProbeResult.FORBIDDEN),
        (refusing(429, "LimitExceededException", Retry_After="30"), ProbeResult.THROTTLED),
        (refusing(404), ProbeResult.FAILED),
        (refusing(400, "BadRequestException"), ProbeResult.FAILED),
        (refusing(500, "InternalServerError"), ProbeResult.FAILED),
        (refusing(503, None, Retry_After="30"), ProbeResult.FAILED),
        (saying(599, b""), ProbeResult.FAILED),
        (saying(302, b"", Location="/elsewhere"), ProbeResult.FAILED),
        (saying(200, b"<html>Log in to the network", Content_Type="text/html"), ProbeResult.ALIVE),
    ],
)
def test_the_status_alone_decides_the_result_and_there_is_no_second_request(
    gateway: ManagementApiGateway, api: ManagementApi, say: Say, answer: ProbeResult
) -> None:
    api.says[AWS_ID] = say

    assert probe(gateway, called()) is answer
    assert len(api.requests) == 1


@pytest.mark.parametrize("say", [hanging_up, breaking_off])
def test_a_request_whose_answer_breaks_off_has_failed_and_is_not_repeated(
    gateway: ManagementApiGateway, api: ManagementApi, say: Say
) -> None:
    api.says[AWS_ID] = say

    assert probe(gateway, called()) is ProbeResult.FAILED
    assert len(api.requests) == 1


def test_a_connection_that_was_kept_and_has_ended_since_costs_no_answer() -> None:
    def answer_once(connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(GONE)
        request_from(connection)

    with peer(answer_once, always_saying(GONE)) as other:
        gateway = a_gateway(endpoint=f"http://{other.host}:{other.port}")

        answers = [probe(gateway, called()) for _ in range(3)]

    assert answers == [ProbeResult.GONE] * 3
    assert other.connections == 2


@pytest.mark.parametrize(
    ("say", "answer"),
    [
        (refusing(410), ProbeResult.GONE),
        (refusing(403), ProbeResult.FORBIDDEN),
        (refusing(429), ProbeResult.THROTTLED),
        (refusing(500), ProbeResult.FAILED),
    ],
)
def test_a_close_that_is_refused_says_why(
    gateway: ManagementApiGateway, api: ManagementApi, say: Say, answer: ProbeResult
) -> None:
    api.says[AWS_ID] = say

    assert gateway.close(called()) is answer


@pytest.mark.parametrize(
    ("say", "answer"),
    [
        (refusing(410), ProbeResult.GONE),
        (refusing(403), ProbeResult.FORBIDDEN),
        (refusing(429), ProbeResult.THROTTLED),
        (refusing(413), ProbeResult.FAILED),
        (refusing(500), ProbeResult.FAILED),
        (hanging_up, ProbeResult.FAILED),
        (breaking_off, ProbeResult.FAILED),
    ],
)
def test_a_keep_alive_that_was_not_sent_says_why_and_is_not_repeated(
    gateway: ManagementApiGateway, api: ManagementApi, say: Say, answer: ProbeResult
) -> None:
    api.says[AWS_ID] = say

    assert keep_alive(gateway, called()) is answer
    assert len(api.requests) == 1


def test_a_keep_alive_that_is_not_answered_has_failed(api: ManagementApi) -> None:
    api.says[AWS_ID] = api.silent
    gateway = a_gateway(endpoint=api.endpoint, timeout=timedelta(milliseconds=300))

    assert keep_alive(gateway, called()) is ProbeResult.FAILED


def test_a_connection_that_was_kept_and_has_ended_since_costs_no_keep_alive() -> None:
    """A sweep's first requests find such connections, and would be those of the same clients each time."""

    def answer_once(connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(OK)
        request_from(connection)

    with peer(answer_once, always_saying(OK)) as other:
        gateway = a_gateway(endpoint=f"http://{other.host}:{other.port}")

        results = [keep_alive(gateway, called()) for _ in range(3)]

    assert results == [ProbeResult.ALIVE] * 3
    assert other.connections == 2


def test_a_gateway_that_says_nothing_in_time_has_failed(api: ManagementApi) -> None:
    api.says[AWS_ID] = api.silent
    gateway = a_gateway(endpoint=api.endpoint, timeout=timedelta(milliseconds=300))
    began = time.monotonic()

    assert probe(gateway, called()) is ProbeResult.FAILED
    assert time.monotonic() - began < 5  # the time-out to connect, which is 10 s, is no part of it


def test_a_host_that_does_not_exist_has_failed_in_time() -> None:
    gateway = a_gateway(endpoint="http://nowhere.invalid", connect_timeout=timedelta(seconds=1))
    began = time.monotonic()

    assert probe(gateway, called()) is ProbeResult.FAILED
    assert time.monotonic() - began < 5  # the look-up of its name is timed, too


def test_the_endpoint_of_an_api_is_worked_out_once() -> None:
    endpoints = Endpoints(REGION, lambda _: "amazonaws.com")

    assert endpoints.find(called("c-1")) is endpoints.find(called("c-2"))


def test_where_nobody_listens_it_has_failed() -> None:
    assert probe(a_gateway(endpoint="http://127.0.0.1:9"), called()) is ProbeResult.FAILED


@pytest.mark.parametrize("name", [AWS_ID, "a/b+c?d#e%20 é", "~._-"])
def test_the_request_is_the_sdks_own_to_the_byte(
    gateway: ManagementApiGateway, api: ManagementApi, name: str
) -> None:
    sdk = boto3.session.Session().client(
        "apigatewaymanagementapi",
        region_name=REGION,
        endpoint_url=api.endpoint,
        config=Config(retries={"total_max_attempts": 1}),
    )
    sdk.get_connection(ConnectionId=name)
    sdk.close()

    probe(gateway, called(name))

    theirs, ours = api.requests
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert ours.connection_id == name
    for request in (theirs, ours):
        assert _signature(request, api.endpoint) in request.headers["Authorization"]


@pytest.mark.parametrize("name", [AWS_ID, "a/b+c?d#e%20 é"])
@pytest.mark.parametrize("token", ["", "token"])
@pytest.mark.parametrize("frame", [FRAME, KEEP_ALIVE], ids=["message", "keep-alive"])
def test_a_message_is_signed_with_its_content_as_the_sdk_signs_it(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, name: str, token: str, frame: bytes
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    gateway = a_gateway(endpoint=api.endpoint)

    if frame is KEEP_ALIVE:
        assert keep_alive(gateway, called(name)) is ProbeResult.ALIVE
    else:
        [(_, result)] = gateway.deliver(frame, [called(name)])
        assert result is SendResult.DELIVERED

    [request] = api.requests
    assert api.frames == {name: [frame]}
    assert request.headers["Content-Type"] == "application/octet-stream"
    assert request.headers["X-Amz-Content-Sha256"] == sha256(frame).hexdigest()
    assert _signature(request, api.endpoint, frame) in request.headers["Authorization"]
    signed = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date"} <= set(signed)
    assert ("x-amz-security-token" in signed) == bool(token)


def test_a_message_is_never_sent_twice_by_itself() -> None:
    """Not even on a kept connection that turns out to be closed, as libcurl does with other requests."""

    def answer_once(connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(OK)
        request_from(connection)

    with peer(answer_once, always_saying(OK)) as other:
        gateway = a_gateway(endpoint=f"http://{other.host}:{other.port}")

        results = [[result for _, result in gateway.deliver(FRAME, [called()])] for _ in range(3)]

    assert results == [[SendResult.DELIVERED], [SendResult.UNANSWERED], [SendResult.DELIVERED]]
    assert other.connections == 2


def test_a_session_token_goes_with_the_request(api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    probe(a_gateway(endpoint=api.endpoint), called())

    assert api.requests[0].headers["X-Amz-Security-Token"] == "token"


def test_a_configured_endpoint_is_used_for_every_connection(
    gateway: ManagementApiGateway, api: ManagementApi
) -> None:
    for connection in (called(), called(api_id=None, domain_name=None, stage=None)):
        assert probe(gateway, connection) is ProbeResult.ALIVE

    assert {request.path for request in api.requests} == {f"{STAGE}/@connections/JKJcXeXAmPl3AbC%3D"}


def test_a_trailing_slash_of_the_endpoint_is_ignored(api: ManagementApi) -> None:
    probe(a_gateway(endpoint=f"{api.endpoint}/"), called())

    assert api.requests[0].path == f"{STAGE}/@connections/JKJcXeXAmPl3AbC%3D"


def test_a_sweep_keeps_every_connection_that_is_open(
    gateway: ManagementApiGateway, api: ManagementApi, dynamodb: "DynamoDBClient", table_name: str
) -> None:
    table = on_dynamodb(SdkTransport(dynamodb), table_name)
    for name in ("here", "gone", "replaced", "forbidden"):
        table.add(called(name))
    newer = called("replaced", connected_at=NOON + timedelta(seconds=1))
    api.says |= {"gone": refusing(410), "forbidden": refusing(403)}

    def gone_and_replaced(request: BaseHTTPRequestHandler) -> None:
        table.add(newer)
        refusing(410)(request)

    api.says["replaced"] = gone_and_replaced
    clock = FixedClock(NOON + timedelta(minutes=10))
    sweep = SweepConnections(table, gateway, clock, ThreadWorkers(4), GRACE, 10**9, RecordingPublisher())

    report = sweep(segment=0, of=1, until=NOON + timedelta(hours=1))

    assert {it.id for it in table.scan(0, 1) if isinstance(it, Connection)} == {
        "here",
        "replaced",
        "forbidden",
    }
    assert table.get(newer.id) == newer
    assert report.outcomes == {
        Outcome.ALIVE: 1,
        Outcome.GONE: 1,
        Outcome.FORBIDDEN: 1,
        Outcome.CHANGED_MEANWHILE: 1,
    }


def test_many_threads_may_close_at_once(gateway: ManagementApiGateway, api: ManagementApi) -> None:
    api.says["c-7"] = refusing(410)
    connections = [called(f"c-{number}") for number in range(200)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(gateway.close, connections))

    assert answers == [ProbeResult.GONE if it.id == "c-7" else ProbeResult.CLOSED for it in connections]


def test_slow_answers_hold_up_nobody_else(api: ManagementApi) -> None:
    api.says["slow"] = api.silent
    gateway = a_gateway(endpoint=api.endpoint, timeout=timedelta(seconds=3), connections=1)

    results = list(gateway.deliver(b"{}", [called("slow"), called("c-1"), called("c-2")]))

    assert [(it.id, result) for it, result in results] == [
        ("c-1", SendResult.DELIVERED),
        ("c-2", SendResult.DELIVERED),
        ("slow", SendResult.UNANSWERED),
    ]


def test_there_are_at_most_twice_as_many_requests_however_slow_they_are(api: ManagementApi) -> None:
    second_came, third_came, third_ended = threading.Event(), threading.Event(), threading.Event()
    too_many: list[bool] = []
    ok = saying(200, b"")

    def first(request: BaseHTTPRequestHandler) -> None:
        second_came.wait()
        time.sleep(1)  # long enough for the second one to count as slow, too
        too_many.append(third_came.is_set())
        ok(request)

    def second(request: BaseHTTPRequestHandler) -> None:
        second_came.set()
        third_ended.wait()
        ok(request)

    def third(request: BaseHTTPRequestHandler) -> None:
        third_came.set()
        ok(request)

    api.says |= {"slow-1": first, "slow-2": second, "c-1": third}
    gateway = a_gateway(endpoint=api.endpoint, connections=1)

    results = []
    try:
        for connection, result in gateway.deliver(b"{}", [called("slow-1"), called("slow-2"), called("c-1")]):
            results.append((connection.id, result))
            if connection.id == "c-1":
                third_ended.set()
    finally:  # if it failed, no thread of the API waits for ever
        second_came.set()
        third_ended.set()

    assert too_many == [False]
    assert results == [(name, SendResult.DELIVERED) for name in ("slow-1", "c-1", "slow-2")]


def test_an_api_per_connection_is_no_trouble() -> None:
    """More of them than are remembered."""
    connections = [called(f"c-{number}", stage="prod/", api_id=f"api{number}") for number in range(200)]

    results = [result for _, result in a_gateway().probe(connections * 2)]

    assert results == [ProbeResult.FAILED] * 400


@pytest.mark.parametrize("secret", ["sécret", "two\r\nlines"])
def test_credentials_that_fit_into_no_header_count_as_none(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    assert probe(a_gateway(endpoint=api.endpoint), called()) is ProbeResult.FORBIDDEN
    assert api.requests == []


def test_without_credentials_no_request_is_sent(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    assert probe(a_gateway(endpoint=api.endpoint), called()) is ProbeResult.FORBIDDEN
    assert api.requests == []


def test_expired_credentials_that_are_not_renewed_count_as_none(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = tmp_path / "once.py"
    once.write_text(GIVES_CREDENTIALS_ONCE)
    config = tmp_path / "config"
    config.write_text(
        f"[default]\ncredential_process = {shlex.quote(sys.executable)} {shlex.quote(str(once))}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    assert probe(a_gateway(endpoint=api.endpoint), called()) is ProbeResult.FORBIDDEN
    assert api.requests == []


class Aws:
    """All of AWS's hosts, behind a proxy on loopback; it records the requests."""

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self.proxy_authorization: list[str] = []
        self.requests: list[tuple[str, str, str]] = []
        """Host, path, and the scope of the signature."""

    def talk(self, connection: socket.socket) -> None:
        head = request_from(connection).decode()
        host = head.split()[1].removesuffix(":443")
        self.proxy_authorization += [
            line for line in head.splitlines() if line.startswith("Proxy-Authorization")
        ]
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self.serve(connection, host)

    def serve(self, connection: socket.socket, host: str = "localhost") -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(tls)
        with tls.wrap_socket(connection, server_side=True) as ready:
            request = request_from(ready).decode()
            if not request:  # under TLS 1.3 the client refuses the certificate after our part is done
                return
            scope = request.partition("Credential=local/")[2].partition(",")[0]
            self.requests.append((host, request.split()[1], scope))
            ready.sendall(GONE)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def aws(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    aws = Aws(authority)
    with peer(aws.talk) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@{proxy.host}:{proxy.port}")
        yield aws


@pytest.mark.parametrize(
    ("changes", "ours", "host", "region"),
    [
        ({"domain_name": OWN_DOMAIN}, "us-east-1", OWN_DOMAIN, REGION),
        (
            {"domain_name": "abc.execute-api.cn-north-1.amazonaws.com.cn"},
            REGION,
            "abc.execute-api.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        ({"domain_name": "ws.example.com"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": f"a1b2c3d4e5.execute-api.{REGION}.api.aws"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": None}, REGION, OWN_DOMAIN, REGION),
        (
            {"domain_name": None},
            "cn-north-1",
            "a1b2c3d4e5.execute-api.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        # of the right shape, and yet no host of AWS's
        ({"domain_name": f"abc.execute-api.{REGION}.evil.example"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": f"abc.execute-api.{REGION}.amazonaws.com.evil.example"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": f"evil.example/{OWN_DOMAIN}"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": f"{OWN_DOMAIN}\n"}, REGION, OWN_DOMAIN, REGION),
        ({"domain_name": "abc.execute-api.eu-central-1.amazonaws.com.cn"}, REGION, OWN_DOMAIN, REGION),
    ],
)
def test_a_request_goes_to_the_connections_own_api(
    aws: Aws, changes: dict[str, Any], ours: str, host: str, region: str
) -> None:
    answer = probe(a_gateway(region=ours), called(**{"region": "ap-northeast-2"} | changes))

    assert answer is ProbeResult.GONE
    ((asked, path, scope),) = aws.requests
    assert (asked, path) == (host, "/prod/@connections/JKJcXeXAmPl3AbC%3D")
    assert scope.split("/")[1:] == [region, "execute-api", "aws4_request"]


def test_each_of_two_apis_gets_the_requests_about_its_connections(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"zyx.execute-api.{REGION}.amazonaws.com"
    with peer(aws.talk, aws.talk) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}:{proxy.port}")
        gateway = a_gateway()

        probe(gateway, called(domain_name=OWN_DOMAIN))
        probe(gateway, called(domain_name=other))

    assert [host for host, _, _ in aws.requests] == [OWN_DOMAIN, other]


def test_the_proxy_gets_its_credentials(aws: Aws) -> None:
    probe(a_gateway(), called())

    assert aws.proxy_authorization == ["Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA=="]


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": None},
        {"stage": "prod/../admin"},
        {"domain_name": None, "api_id": None},
        {"domain_name": "ws.example.com", "api_id": "evil.example/"},
    ],
)
def test_an_item_that_does_not_name_its_api_causes_no_request(aws: Aws, changes: dict[str, Any]) -> None:
    assert probe(a_gateway(), called(**changes)) is ProbeResult.FAILED
    assert aws.requests == []


def test_a_host_with_an_untrusted_certificate_gets_no_request(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(other))

    assert probe(a_gateway(), called()) is ProbeResult.FAILED
    assert aws.requests == []


def test_the_sdks_bundle_is_trusted_by_default(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")

    assert probe(a_gateway(), called()) is ProbeResult.FAILED
    assert aws.requests == []


def test_no_proxy_is_respected(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost")

    with peer(aws.serve) as host:
        answer = probe(a_gateway(endpoint=f"https://localhost:{host.port}/prod"), called())

    assert answer is ProbeResult.GONE
    assert aws.proxy_authorization == []


def test_an_endpoint_without_tls_is_called_without_a_proxy(
    gateway: ManagementApiGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert probe(gateway, called()) is ProbeResult.ALIVE


def test_an_answer_that_is_not_http_is_a_failure() -> None:
    with peer(always_saying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")) as other:
        assert probe(a_gateway(endpoint=f"http://{other.host}:{other.port}"), called()) is ProbeResult.FAILED


def _signature(request: Request, endpoint: str, body: bytes | None = None) -> str:
    """The SDK's signature of the request that came, over the same headers."""
    host = urlsplit(endpoint).netloc
    signer = SigV4Auth(Credentials("local", "local"), "execute-api", REGION)
    signed = AWSRequest(request.method, f"http://{host}{request.path}", data=body)
    signed.context["timestamp"] = request.headers["X-Amz-Date"]
    names = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    for name, value in request.headers.items():
        if name.lower() in names:
            signed.headers[name] = value
    return signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
