"""`make demo ARGS=--tokens`: clients show a real issuer's tokens, and who may not come in is refused."""

import json
import os
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from app.domain.model import Connection
from infra.clients import open_browser, open_client
from infra.demo import DemoFailure, wait_for
from infra.deploy import GRACE
from infra.issuer import Issuer
from infra.screen import Screen
from infra.stack import LocalStack

PAGE = "https://dashboards.example.com"
FOREIGN_PAGE = "https://dashboards.example.net"
AUDIENCE = "switchboard"

DASHBOARD = {
    "sub": "dashboard-kr",
    "aud": AUDIENCE,
    "accounts": ["111122223333"],
    "regions": ["ap-northeast-2"],
}
AGENT = {"sub": "agent-eu", "aud": AUDIENCE, "accounts": ["222233334444", "333344445555"], "regions": ["*"]}
GUEST = {"client": "guest", "account": "111122223333", "region": "ap-northeast-2"}

_HOUR = timedelta(hours=1)
_EXPIRED = timedelta(minutes=-2)  # by more than clocks may differ
_ROOT = Path(__file__).parent.parent
_CLOSED_WITHIN = 60  # seconds, of a busy machine
_DENIAL = ("reason", "principalId", "sourceIp")  # the principal, if the signature held
_PART = 16  # characters; a shorter part of a token may be in a log by chance

type Query = Mapping[str, str]


def token_parameters(issuer: Issuer) -> dict[str, str]:
    """Return the template's parameters by which the tokens of *issuer* admit to a stack, and tickets, too."""
    return {
        "Admission": "token",
        "TokenIssuer": issuer.url,
        "TokenAudience": AUDIENCE,
        "AccountsClaim": "accounts",
        "RegionsClaim": "regions",
        "AllowedOrigins": PAGE,
        "Tickets": "true",
    }


def token_demo(stack: LocalStack, issuer: Issuer, screen: Screen) -> None:
    """Run all steps, on a stack with ``token_parameters``.

    Raises:
        DemoFailure: a step failed; above all, somebody came in who may not.
    """
    with ExitStack() as clients:
        steps = _Steps(stack, issuer, screen, clients)
        steps.keys_are_fetched()
        good = issuer.token(_HOUR, DASHBOARD)
        steps.is_admitted(
            "A dashboard shows its token as a subprotocol. Its query is empty: the token says who it is",
            ("dashboard-kr", "111122223333", "ap-northeast-2"),
            good,
        )
        steps.is_admitted(
            "An agent shows its token as a bearer. Its query picks one of the accounts that are granted",
            ("agent-eu/7", "333344445555", "sa-east-1"),
            issuer.token(_HOUR, AGENT),
            {"clientId": "agent-eu/7", "account": "333344445555", "region": "sa-east-1"},
            is_browser=False,
        )
        steps.is_refused("A page shows no token", 401, "missing")
        steps.is_refused("A token that has expired", 401, "expired", issuer.token(_EXPIRED, DASHBOARD))
        steps.is_refused("Claims that were changed after they were signed", 401, "signature", _forged(good))
        steps.is_refused("A good token in the query", 401, "token_in_query", query={"token": good})
        steps.is_refused(
            "Another account than the token grants", 403, "account", good, {"account": "444455556666"}
        )
        steps.is_refused(
            "A good token, from a page of another origin", 403, "origin", good, origin=FOREIGN_PAGE
        )
        steps.ticket_admits_once()
        steps.token_runs_out()
        steps.key_is_replaced(good)
        steps.ends()


class _Steps:
    def __init__(self, stack: LocalStack, issuer: Issuer, screen: Screen, clients: ExitStack) -> None:
        self._stack = stack
        self._issuer = issuer
        self._screen = screen
        self._clients = clients
        self._refused = 0
        self._shown: list[str] = []  # besides what the issuer has issued

    def keys_are_fetched(self) -> None:
        self._screen.say(
            "The keys function fetches the issuer's keys over HTTPS; on AWS it runs every 5 minutes"
        )
        self._screen.add(f"It keeps the key {_short(self._fetched_key())}")

    def is_admitted(
        self,
        what: str,
        expected: tuple[str, str, str],
        token: str = "",
        query: Query | None = None,
        *,
        is_browser: bool = True,
    ) -> ClientConnection:
        """Connect as *expected*: a client's id, its account and its region."""
        self._screen.say(what)
        others = {it.id for it in self._stack.connections()}
        client = self._clients.enter_context(self._connected(token, query or {}, PAGE if is_browser else ""))
        connections = self._stack.connections()
        [new] = [it for it in connections if it.id not in others]
        if (new.client_id, new.account, new.region) != expected:
            raise DemoFailure(f"It must be listed as {expected}; it is {new}")
        self._screen.show(connections)
        if token:
            self._screen.add(_admission(new, _claims(token)))
        return client

    def is_refused(  # noqa: PLR0913 - what is shown, and what is answered
        self,
        what: str,
        status: int,
        reason: str,
        token: str = "",
        query: Query | None = None,
        *,
        origin: str = PAGE,
    ) -> None:
        """Connect, and be refused with *status* for *reason*; nothing is written."""
        self._screen.say(what)
        if token:
            self._shown.append(token)
        before = self._stack.connections()
        try:
            with self._connected(token, query or {}, origin):
                raise DemoFailure("A HANDSHAKE THAT MUST BE REFUSED WAS ADMITTED.")
        except InvalidStatus as refusal:
            answered = refusal.response.status_code
        if self._stack.connections() != before:
            raise DemoFailure("A handshake was refused, and the table is another than before.")
        self._refused += 1
        records = self._stack.records("handshake.denied")
        reasons = [record["reason"] for record in records[self._refused - 1 :]]
        if (answered, reasons) != (status, [reason]):
            raise DemoFailure(
                f"It must be refused with {status}, {reason}; it was with {answered}, {reasons}."
            )
        logged = " ".join(f"{name}={records[-1][name]}" for name in _DENIAL if name in records[-1])
        self._screen.add(f"Refused with HTTP {answered}, and nothing is written. The log says: {logged}")

    def ticket_admits_once(self) -> None:
        client, account, region = GUEST.values()
        command = ["ticket", "--client", client, "--account", account, "--region", region]
        self._screen.say(f"A guest has no token, but may get a ticket: python -m app {' '.join(command)}")
        minted = subprocess.run(
            [sys.executable, "-m", "app", *command],
            cwd=_ROOT,
            env=os.environ | self._stack.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if minted.returncode:
            raise DemoFailure(f"There is no ticket: {minted.stderr}")
        ticket = minted.stdout.strip()
        self._shown.append(ticket)
        self._screen.add(f"It prints a ticket, and says: {minted.stderr.strip()}")
        self.is_admitted("The guest shows the ticket", (client, account, region), query={"ticket": ticket})
        self.is_refused("Somebody shows the same ticket again", 401, "ticket", query={"ticket": ticket})

    def token_runs_out(self) -> None:
        """Be admitted with a token that soon runs out, and be disconnected by the sweep after that."""
        token = self._issuer.token(GRACE, DASHBOARD | {"sub": "dashboard-late"})
        client = self.is_admitted(
            f"A dashboard whose token runs out in {GRACE.total_seconds():.0f} seconds",
            ("dashboard-late", "111122223333", "ap-northeast-2"),
            token,
        )
        [late] = [it for it in self._stack.connections() if it.client_id == "dashboard-late"]
        over = max(late.admitted_until or late.created_at, late.created_at + GRACE)
        wait_for(lambda: datetime.now(UTC) > over)

        self._screen.say("It has run out. The next sweep ends the connection")
        others = [it for it in self._stack.connections() if it != late]
        report = self._stack.sweep()
        code = _close_code(client)
        records = self._stack.records("connection.ended")
        self._screen.add(
            f"Its report: admissionEnded={report['admissionEnded']} alive={report['alive']}",
            f"The dashboard sees the close, with code {code}. The log: {records[-1]['reason']}",
        )
        ended = [record["connectionId"] for record in records]
        if (ended, self._stack.connections()) != ([late.id], others):
            raise DemoFailure(f"Only {late.id} must have ended; the log has {ended}.")
        self._screen.show(others)

    def key_is_replaced(self, old: str) -> None:
        """Replace the issuer's key: *old* is a token that the one before signed."""
        self._screen.say("The issuer replaces its key, and the keys function runs again")
        before = self._fetched_key()
        self._issuer.rotate()
        after = self._fetched_key()
        if before == after:
            raise DemoFailure(f"The key is still {before}.")
        self._stack.replace("Connect")
        self._screen.add(
            f"It keeps the key {_short(after)}. $connect reads it at its start, and again within 6 minutes"
        )
        self.is_refused(
            "The first dashboard's token, which the key before has signed", 401, "unknown_key", old
        )
        self.is_admitted(
            "A token that the new key has signed",
            ("dashboard-new", "111122223333", "ap-northeast-2"),
            self._issuer.token(_HOUR, DASHBOARD | {"sub": "dashboard-new"}),
        )

    def ends(self) -> None:
        """Check that the logs have no part of a token or of a ticket."""
        shown = {*self._issuer.issued, *self._shown}
        for log in sorted(self._stack.log.parent.glob("*.log")):
            text = log.read_text(errors="replace")
            if any(token[at : at + _PART] in text for token in shown for at in range(0, len(token), _PART)):
                raise DemoFailure(f"A PART OF A TOKEN IS IN {log.name}.")
        self._screen.say("Nobody came in who may not, and no log has any part of a token")
        self._screen.add(f"Refused: {self._refused}. Tokens and tickets that were looked for: {len(shown)}.")

    def _connected(self, token: str, query: Query, origin: str) -> ClientConnection:
        """Connect as a browser does, or without an *origin* as another program does."""
        if origin:
            return open_browser(self._stack.websocket_url, query, origin=origin, token=token)
        return open_client(self._stack.websocket_url, query, {"Authorization": f"Bearer {token}"})

    def _fetched_key(self) -> str:
        [key] = self._stack.refresh_keys()
        return key


def _admission(connection: Connection, claims: Mapping[str, Any]) -> str:
    """Return what the item says of the token whose *claims* admitted its client, if it is right."""
    admitted = (connection.principal_id, connection.admitted_until)
    if admitted != (claims["sub"], datetime.fromtimestamp(claims["exp"], UTC)):
        raise DemoFailure(f"The item is not of {claims}: it has {admitted}.")
    return f"principalId={connection.principal_id} admittedUntil={connection.admitted_until:%H:%M:%S} UTC"


def _close_code(client: ClientConnection) -> int:
    """Return the code with which the server closes the connection of *client*."""
    try:
        client.recv(timeout=_CLOSED_WITHIN)
    except ConnectionClosed as closed:
        if closed.rcvd is not None:
            return closed.rcvd.code
    except TimeoutError:
        pass
    raise DemoFailure("The client does not see that its connection is closed.")


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


def _forged(token: str) -> str:
    """Return *token* with all accounts in its claims, and the signature that it had."""
    header, _, signature = token.split(".")
    claims = json.dumps(_claims(token) | {"accounts": ["*"]}).encode()
    return ".".join((header, urlsafe_b64encode(claims).rstrip(b"=").decode(), signature))


def _short(key_id: str) -> str:
    return f"{key_id[:8]}…"
