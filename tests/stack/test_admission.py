"""Who may come in, on the local stack: an issuer over HTTPS, its keys, and clients that act as browsers."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from app.adapters.clock import SystemClock
from infra.clients import open_browser, open_client
from infra.deploy import GRACE
from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack
from tests.deadline import LONGEST, eventually
from tests.environment import USERS
from tests.lanes import leave_out, missing_commands
from tests.peer import peer, request_from
from tests.tokens import LIFETIME, SigningKey, a_header, ec_key, signed, some_claims

ROOT = Path(__file__).parent.parent.parent
PAGE = "https://dashboards.example.com"
ACCOUNT, REGION = "123456789012", "ap-northeast-2"
LONGEST_CHANCE = 16
"""Characters; a shorter part of a token may be in a log by chance."""


class Issuer:
    """An issuer on loopback that signs with ``key``; ``issued`` are all its tokens."""

    def __init__(self) -> None:
        self.url = ""
        self.key = ec_key("first")
        self.issued: list[str] = []

    def talk(self, connection: socket.socket) -> None:
        """Answer a request for the discovery document or for the keys."""
        request = request_from(connection).decode()
        document: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if "/keys" in request:
            document = {"keys": [self.key.jwk()]}
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    def token(self, *, key: SigningKey | None = None, lifetime: timedelta = LIFETIME, **claims: Any) -> str:
        """A token that ends after *lifetime* and grants one account and one region, with *claims* changed."""
        key = key or self.key
        began = SystemClock().now() + min(lifetime - LIFETIME, timedelta())
        ends = SystemClock().now() + lifetime
        granted: dict[str, Any] = {"sub": "dashboard-7", "accounts": [ACCOUNT], "regions": [REGION]}
        whole = some_claims(began, iss=self.url) | granted | {"exp": int(ends.timestamp())} | claims
        self.issued.append(token := signed(key, a_header(key), whole))
        return token


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def issuer(authority: trustme.CA) -> Iterator[Issuer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    issuer = Issuer()
    with peer(issuer.talk, tls=context) as listening:
        issuer.url = f"https://{listening.host}:{listening.port}"
        yield issuer


@pytest.fixture(scope="module")
def stack(
    issuer: Issuer, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStack]:
    if find_uv() is None:
        leave_out("no uv on this machine")
    bundle = tmp_path_factory.mktemp("authorities") / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    parameters = {
        "Admission": "token",
        "TokenIssuer": issuer.url,
        "TokenAudience": "switchboard",
        "TokenAlgorithm": "ES256",
        "AccountsClaim": "accounts",
        "RegionsClaim": "regions",
        "AllowedOrigins": PAGE,
        "Tickets": "true",
        "SweepMinutes": "30",  # none comes between those of the tests
    }
    with local_stack(parameters=parameters, authorities=bundle) as stack:
        stack.refresh_keys()
        yield stack


@pytest.fixture(autouse=True)
def nobody_is_connected(request: pytest.FixtureRequest) -> None:
    """Each test begins once the connections of the one before are gone."""
    if "stack" in request.fixturenames:
        stack: LocalStack = request.getfixturevalue("stack")
        eventually(lambda: stack.connections() == [])


def a_browser(stack: LocalStack, token: str = "", origin: str = PAGE, **query: str) -> ClientConnection:
    return open_browser(stack.websocket_url, query, origin=origin, token=token)


def an_agent(stack: LocalStack, token: str, **query: str) -> ClientConnection:
    return open_client(stack.websocket_url, query, {"Authorization": f"Bearer {token}"})


def status_of(refused: Callable[[], ClientConnection]) -> int:
    with pytest.raises(InvalidStatus) as refusal, refused():
        pass
    return refusal.value.response.status_code


def rows(stack: LocalStack) -> list[dict[str, Any]]:
    """The items of connections; an earlier test's disconnect may still write a tombstone."""
    return [item for item in stack.items() if "closedAt" not in item]


def only_item(stack: LocalStack) -> dict[str, Any]:
    """The attributes of the one connection, without their types."""
    [connection] = stack.connections()
    [item] = [item for item in stack.items() if item["connectionId"] == {"S": connection.id}]
    return {name: next(iter(typed.values())) for name, typed in item.items()}


def test_a_browsers_token_says_who_it_is_where_it_is_and_how_long(stack: LocalStack, issuer: Issuer) -> None:
    ends = int(SystemClock().now().timestamp()) + 600

    with a_browser(stack, issuer.token(exp=ends)) as browser:
        item = only_item(stack)

    assert browser.subprotocol == "switchboard"
    assert (item["principalId"], item["clientId"]) == ("dashboard-7", "dashboard-7")
    assert (item["account"], item["region"]) == (ACCOUNT, REGION)
    assert item["admittedUntil"] == str(ends * 1000)


def test_an_agent_shows_a_bearer_and_picks_among_what_is_granted(stack: LocalStack, issuer: Issuer) -> None:
    token = issuer.token(accounts=["999999999999", ACCOUNT], regions=["*"])

    with an_agent(stack, token, clientId="dashboard-7/2", account=ACCOUNT, region="sa-east-1") as agent:
        item = only_item(stack)

    assert agent.subprotocol is None
    assert (item["principalId"], item["clientId"]) == ("dashboard-7", "dashboard-7/2")
    assert (item["account"], item["region"]) == (ACCOUNT, "sa-east-1")


@pytest.mark.parametrize(
    ("status", "reason", "attempt"),
    [
        (401, "missing", lambda stack, issuer: a_browser(stack)),
        (401, "malformed", lambda stack, issuer: a_browser(stack, "no-token")),
        (
            401,
            "expired",
            lambda stack, issuer: a_browser(stack, issuer.token(lifetime=timedelta(minutes=-2))),
        ),
        (
            401,
            "signature",
            lambda stack, issuer: a_browser(
                stack, issuer.token(key=ec_key(issuer.key.key_id, owner="somebody else"))
            ),
        ),
        (401, "unknown_key", lambda stack, issuer: a_browser(stack, issuer.token(key=ec_key("another")))),
        (401, "issuer", lambda stack, issuer: a_browser(stack, issuer.token(iss="https://example.com"))),
        (401, "audience", lambda stack, issuer: a_browser(stack, issuer.token(aud="another"))),
        (401, "token_in_query", lambda stack, issuer: a_browser(stack, access_token=issuer.token())),
        (401, "token_in_query", lambda stack, issuer: a_browser(stack, issuer.token(), state=issuer.token())),
        (401, "ticket", lambda stack, issuer: a_browser(stack, ticket="nobody-has-minted-this-one")),
        (403, "account", lambda stack, issuer: a_browser(stack, issuer.token(), account="999999999999")),
        (403, "region", lambda stack, issuer: a_browser(stack, issuer.token(), region="us-east-1")),
        (403, "client", lambda stack, issuer: an_agent(stack, issuer.token(), clientId="dashboard-8")),
        (403, "origin", lambda stack, issuer: a_browser(stack, issuer.token(), "https://example.net")),
        (
            403,
            "origin",
            lambda stack, issuer: a_browser(stack, issuer.token(), "http://dashboards.example.com"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_may_not_come_in_is_refused_and_nothing_is_written(
    stack: LocalStack,
    issuer: Issuer,
    status: int,
    reason: str,
    attempt: Callable[[LocalStack, Issuer], ClientConnection],
) -> None:
    before = rows(stack)
    denied = len(stack.records("handshake.denied"))

    answered = status_of(lambda: attempt(stack, issuer))

    assert answered == status
    assert rows(stack) == before
    assert [it["reason"] for it in stack.records("handshake.denied")[denied:]] == [reason]


def test_a_connection_ends_with_its_token_and_no_other_does(stack: LocalStack, issuer: Issuer) -> None:
    with (
        a_browser(stack, issuer.token(sub="stays")) as stays,
        a_browser(stack, issuer.token(sub="ends", lifetime=GRACE + timedelta(seconds=1))) as ends,
    ):
        connected = {str(it.client_id): it for it in stack.connections()}
        ends_at, began = connected["ends"].admitted_until, connected["ends"].created_at
        assert ends_at is not None
        over_at = max(ends_at, began + GRACE)  # the handshake may have taken long
        eventually(lambda: SystemClock().now() > over_at)
        report = stack.sweep()
        with pytest.raises(ConnectionClosed):
            ends.recv(timeout=60)
        left = [it.client_id for it in stack.connections()]
        assert stays.ping().wait(timeout=60)

    ended = stack.records("connection.ended")
    assert set(connected) == {"stays", "ends"}
    assert (report["admissionEnded"], report["missedDisconnects"]) == (1, 0)
    assert left == ["stays"]
    assert [(it["clientId"], it["reason"]) for it in ended] == [("ends", "token_expired")]
    eventually(
        lambda: connected["ends"].id in [it["connectionId"] for it in stack.records("connection.closed")]
    )


def test_a_ticket_admits_once(stack: LocalStack) -> None:
    minted = subprocess.run(
        [
            sys.executable,
            "-m",
            "app",
            "ticket",
            "--client",
            "guest",
            "--account",
            ACCOUNT,
            "--region",
            REGION,
        ],
        cwd=ROOT,
        env=os.environ | stack.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    ticket = minted.stdout.strip()

    with a_browser(stack, ticket=ticket):
        item = only_item(stack)
        again = status_of(lambda: a_browser(stack, ticket=ticket))
        left = rows(stack)

    assert (item["clientId"], item["account"], item["region"]) == ("guest", ACCOUNT, REGION)
    assert "admittedUntil" not in item
    assert again == HTTPStatus.UNAUTHORIZED
    assert len(left) == 1
    assert stack.records("handshake.denied")[-1]["reason"] == "ticket"


def test_after_a_change_of_keys_only_the_new_one_is_good(stack: LocalStack, issuer: Issuer) -> None:
    old = issuer.token()
    issuer.key = ec_key(f"after {issuer.key.key_id}")

    assert stack.refresh_keys() == [issuer.key.key_id]
    stack.replace("Connect")

    assert status_of(lambda: a_browser(stack, old)) == HTTPStatus.UNAUTHORIZED
    assert stack.records("handshake.denied")[-1]["reason"] == "unknown_key"
    with a_browser(stack, issuer.token(sub="new")):
        assert only_item(stack)["clientId"] == "new"


def test_without_keys_a_token_is_refused_until_they_are_there(stack: LocalStack, issuer: Issuer) -> None:
    stack.dynamodb.delete_item(TableName=stack.environment["KEYS_TABLE"], Key={"issuer": {"S": issuer.url}})
    stack.replace("Connect")

    without = status_of(lambda: a_browser(stack, issuer.token()))
    left = rows(stack)
    stack.refresh_keys()

    assert without == HTTPStatus.SERVICE_UNAVAILABLE
    assert left == []
    assert stack.records("keys.unavailable")[-1]["reason"] == "NeverFetched"
    with a_browser(stack, issuer.token()):
        assert only_item(stack)["clientId"] == "dashboard-7"


def test_no_log_has_any_part_of_a_token(stack: LocalStack, issuer: Issuer) -> None:
    with a_browser(stack, issuer.token()):
        pass
    status_of(lambda: a_browser(stack, issuer.token(lifetime=timedelta(minutes=-2))))
    status_of(lambda: a_browser(stack, access_token=issuer.token()))

    logs = "".join(log.read_text(errors="replace") for log in stack.log.parent.glob("*.log"))
    parts = {
        token[at : at + LONGEST_CHANCE]
        for token in issuer.issued
        for at in range(0, len(token), LONGEST_CHANCE)
    }
    assert "handshake.denied" in logs
    assert [part for part in parts if len(part) == LONGEST_CHANCE and part in logs] == []


@contextmanager
def started(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_demo_of_tokens_succeeds(
    stack: LocalStack,  # so that uv's part is downloaded
    tmp_path: Path,
) -> None:
    if missing := missing_commands("node", "npm"):
        leave_out(missing)
    environ = USERS | {"TMPDIR": str(tmp_path), "UV": find_uv() or ""}

    with started(["make", "demo", "ARGS=--tokens"], environ) as demo:
        output, _ = demo.communicate(timeout=LONGEST)

    assert demo.returncode == 0, output
    assert "no log has any part of a token" in output
    assert output.count("Refused with HTTP 401") == 6
    assert output.count("Refused with HTTP 403") == 2
    assert "admissionEnded=1" in output
    assert list(tmp_path.glob("switchboard-*")) == []


def test_without_node_the_demo_of_tokens_says_what_it_needs(tmp_path: Path) -> None:
    environ = dict(os.environ) | {"PATH": str(tmp_path)}

    with started([sys.executable, "-m", "infra.local", "demo", "--tokens"], environ) as demo:
        output, _ = demo.communicate(timeout=LONGEST)

    assert demo.returncode == 1
    assert "needs Node.js" in output
    assert "Traceback" not in output
