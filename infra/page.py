"""The page of `make run`: who is connected, a form for alerts, dashboards in frames; on loopback alone.

It shows and changes the local stack without a login, so it answers no other
site: neither one whose name leads to 127.0.0.1 (DNS rebinding), nor one that
posts a form across sites.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from flask import Flask, Response, abort, request, send_from_directory
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from app.adapters.messages import message_from
from app.cli.screen import as_json, newest_first
from app.domain.errors import InvalidHandshake, InvalidMessage
from app.domain.model import UNKNOWN_CLIENT, Connection, account_id, client_id, region_name
from infra.stack import LocalStackFailure, Record

SEVERITIES = ("low", "medium", "high", "critical")
MAX_TEXT = 500
"""Characters of an alert's text."""

_HOST = "127.0.0.1"
_HERE = Path(__file__).parent
_MAX_REQUEST = 16 * 1024  # bytes
_LOOK_AGAIN = 0.5  # seconds, as often as the live table of `make run`
_ALERT = {"account", "region", "severity", "text"}


class Stack(Protocol):
    """What the page needs of a local stack."""

    @property
    def websocket_url(self) -> str: ...
    def connections(self) -> list[Connection]: ...
    def send(self, message: Record) -> Record: ...


@contextmanager
def serve_page(stack: Stack) -> Iterator[str]:
    """Serve the page during a block, on a free port, and yield its address."""
    over = threading.Event()
    server = make_server(_HOST, 0, application(stack, over), threaded=True, request_handler=_WithoutAccessLog)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.port}/"
    finally:
        over.set()
        server.shutdown()
        thread.join()


def application(stack: Stack, over: threading.Event) -> Flask:
    """Return the page's WSGI application. Its event streams end once *over* is set."""
    app = Flask(__name__, static_folder=_HERE / "page", static_url_path="")
    _guard(app, stack.websocket_url)
    _answer_errors(app)

    @app.get("/")
    def index() -> Response:
        return app.send_static_file("index.html")

    @app.get("/dashboard.html")
    def dashboard() -> Response:
        client_id(request.args.get("clientId", UNKNOWN_CLIENT))
        account_id(request.args.get("account", ""))
        region_name(request.args.get("region", ""))
        return app.send_static_file("dashboard.html")

    @app.get("/switchboard.js")
    def client() -> Response:
        return send_from_directory(_HERE / "client", "switchboard.js")

    @app.get("/settings")
    def settings() -> Record:
        return {"webSocketUrl": stack.websocket_url}

    @app.get("/connections")
    def connections() -> Response:
        return Response(_lists(stack, over), mimetype="text/event-stream")

    @app.post("/alerts")
    def alert() -> tuple[Record, int]:
        report = stack.send(_message(request.get_json()))
        return {name: report[name] for name in ("selected", "delivered")}, HTTPStatus.ACCEPTED

    return app


def _guard(app: Flask, websocket_url: str) -> None:
    """Let only the page itself use *app*, and the page load nothing from elsewhere."""
    app.config["TRUSTED_HOSTS"] = [_HOST, "localhost"]
    app.config["MAX_CONTENT_LENGTH"] = _MAX_REQUEST
    websocket = urlsplit(websocket_url)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "frame-src": "'self'",
        "connect-src": f"'self' {websocket.scheme}://{websocket.netloc}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }

    @app.before_request
    def refuse_other_sites() -> None:
        is_link = request.headers.get("Sec-Fetch-Mode") == "navigate"
        is_elsewhere = request.headers.get("Sec-Fetch-Site") == "cross-site" and not is_link
        is_sent = request.method == "POST" and request.origin != request.host_url.rstrip("/")
        if is_elsewhere or is_sent:
            abort(HTTPStatus.FORBIDDEN, "Only the page itself may ask.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "; ".join(f"{name} {it}" for name, it in policy.items())
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _answer_errors(app: Flask) -> None:
    """Answer each error with a sentence."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _sentence(error.description or error.name, error.code or HTTPStatus.INTERNAL_SERVER_ERROR)

    @app.errorhandler(InvalidHandshake)
    @app.errorhandler(InvalidMessage)
    def invalid(error: Exception) -> Response:
        return _sentence(str(error), HTTPStatus.BAD_REQUEST)

    @app.errorhandler(LocalStackFailure)
    @app.errorhandler(ClientError)
    @app.errorhandler(BotoCoreError)
    def unavailable(error: Exception) -> Response:
        return _sentence(f"The stack did not do it: {error}", HTTPStatus.BAD_GATEWAY)


class _WithoutAccessLog(WSGIRequestHandler):
    """The live table has the terminal."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _lists(stack: Stack, over: threading.Event) -> Iterator[str]:
    """Yield server-sent events: the list of connections at each change, and else a comment.

    The comment finds out whether the page is still there. After an error the
    stream ends, and the browser asks again.
    """
    before = None
    while not over.is_set():
        try:
            listed = ",".join(as_json(it) for it in newest_first(stack.connections()))
        except (BotoCoreError, ClientError):
            return
        yield ":\n\n" if listed == before else f"data: [{listed}]\n\n"
        before = listed
        time.sleep(_LOOK_AGAIN)


def _message(alert: Any) -> Record:
    """Return the message of an *alert* from the form.

    Raises:
        InvalidMessage: one of its fields is missing or wrong.
    """
    if not isinstance(alert, dict) or alert.keys() != _ALERT:
        raise InvalidMessage(f"An alert has {', '.join(sorted(_ALERT))}, and no other field.")
    text, severity = alert["text"], alert["severity"]
    if not (isinstance(text, str) and text.strip() and len(text) <= MAX_TEXT):
        raise InvalidMessage(f"The text must be 1 to {MAX_TEXT} characters.")
    if severity not in SEVERITIES:
        raise InvalidMessage(f"The severity must be {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}.")
    audience = {"account": alert["account"]} | ({"region": alert["region"]} if alert["region"] else {})
    data = {"text": text.strip(), "severity": severity}
    message = {"id": str(uuid.uuid4()), "type": "alert", "audience": audience, "data": data}
    message_from(json.dumps(message), datetime.now(UTC))  # the rules of the function that will read it
    return message


def _sentence(text: str, status: int) -> Response:
    return Response(text, status, mimetype="text/plain")
