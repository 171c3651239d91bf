"""The handshake in infra/asyncapi.yaml is the one of the code: what is accepted, and each refusal."""

import ast
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionTable
from app.domain import model
from app.domain.admission import TICKET, Grant, Reason
from app.domain.admitting import _TOKEN_PARAMETERS, RestrictedAdmission
from app.domain.errors import (
    AlreadyClosed,
    Denied,
    InvalidHandshake,
    KeysUnavailable,
    StorageUnavailable,
    SwitchboardError,
)
from app.domain.handshakes import CloseConnection, OpenConnection
from app.domain.history import NOW
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.ports import ConnectionStore
from app.domain.tickets import Ticket
from app.entrypoints.events import Response, handshake
from app.entrypoints.routes import Routes
from tests.asyncapi import Json, faults, part
from tests.builders import NOON, a_connect_event, a_handshake
from tests.fakes import FakeTickets, FixedClock
from tests.tokens import REASONS, FakeTokens

BINDING = part("channels/connection/bindings/ws")
ACCEPTED = BINDING["x-handshake-accepted"]["examples"]
REFUSALS: list[dict[str, Json]] = BINDING["x-handshake-refusals"]
OURS = [it for it in REFUSALS if it["by"] == "$connect"]
QUERY = part("components/schemas/handshakeQuery")
HEADERS = part("components/schemas/handshakeHeaders/properties")

ORIGIN = "https://app.example.com"
ATTRIBUTE = "appVersion"
GRANTED = ClientId("wall-3"), AccountId("123456789012"), RegionName("eu-central-1")
"""What the description says of TOKEN and TICKET."""


class Recording(dict[str, Any]):
    """A mapping that records the names which are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[object] = set()

    def get(self, name: object, default: object = None) -> Any:
        self.names.add(name)
        return default

    def __contains__(self, name: object) -> bool:
        self.names.add(name)
        return False


class Raising(MemoryConnectionTable):
    """A store that raises an error for each connection that is added."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def add(self, connection: Connection) -> Connection:
        raise self._error


def opening(
    admission: str = "open", store: ConnectionStore | None = None, attributes: tuple[str, ...] = (ATTRIBUTE,)
) -> OpenConnection:
    client, account, region = GRANTED
    tokens = FakeTokens({"TOKEN": Grant(client, (), (account,), (region,), None)})
    tickets = FakeTickets(Ticket("TICKET", client, account, region, NOON + timedelta(minutes=1)))
    shown: dict[str, dict[str, Any]] = {
        "open": {},
        "token": {"tokens": tokens},
        "ticket": {"tickets": tickets},
    }
    return OpenConnection(
        FixedClock(),
        PeerFirstIpResolver(),
        RestrictedAdmission([ORIGIN], **shown[admission]),
        store or MemoryConnectionTable(),
        lifetime=timedelta(hours=24),
        attribute_names=attributes,
    )


def an_event_of(given: Mapping[str, Json]) -> dict[str, Any]:
    """Return the event of a documented example."""
    event = a_connect_event(**given["query"])
    event["headers"] = given.get("headers", {})
    event["multiValueHeaders"] = {name: [value] for name, value in event["headers"].items()}
    return event


def answer(given: Mapping[str, Json], store: ConnectionStore | None = None) -> Response:
    store = store or MemoryConnectionTable()
    routes = Routes(opening(given["admission"], store), CloseConnection(FixedClock(), store))
    return routes.connect(an_event_of(given), None)


def raised_by(act: Callable[[], object]) -> SwitchboardError:
    with pytest.raises(SwitchboardError) as caught:
        act()
    return caught.value


def documented(refusal: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    return [dict(it) for it in refusal.get(key, ())]


def refused_examples() -> Iterator[Any]:
    for refusal in OURS:
        for number, given_ in enumerate(documented(refusal, "examples")):
            yield pytest.param(refusal, given_, id=f"{refusal['status']}-{number}")


def says(refusal: Mapping[str, Json], response: Response) -> bool:
    """Return whether *refusal* describes *response*."""
    place = f"channels/connection/bindings/ws/x-handshake-refusals/{REFUSALS.index(dict(refusal))}/body"
    return refusal["status"] == response["statusCode"] and not faults(place, response["body"])


@pytest.mark.parametrize("given_", ACCEPTED)
def test_each_accepted_example_is_accepted_and_stored_as_it_says(given_: dict[str, Json]) -> None:
    store = MemoryConnectionTable()

    response = answer(given_, store)

    stored = store.get(ConnectionId("c-1"))
    assert stored is not None
    facts = {"clientId": stored.client_id, "account": stored.account, "region": stored.region}
    facts |= {} if stored.since is None else {"since": stored.since}
    assert facts | dict(stored.attributes) == given_["stored"]
    assert response["statusCode"] == 200
    assert response.get("headers", {}).get("Sec-WebSocket-Protocol") == given_.get("protocol")
    assert faults("components/schemas/handshakeQuery", given_["query"]) == []
    assert faults("components/schemas/handshakeHeaders", given_.get("headers", {})) == []
    assert set(given_.get("headers", {})) <= set(HEADERS)


@pytest.mark.parametrize(("refusal", "given_"), [*refused_examples()])
def test_each_refused_example_is_refused_with_that_status_body_and_reason(
    refusal: dict[str, Json], given_: dict[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = answer(given_)

    [record] = caplog.records
    assert says(refusal, response)
    assert vars(record).get("reason") == given_.get("reason")
    if "body" in given_:
        assert response["body"] == given_["body"]
    else:
        assert given_["reason"] in refusal["reasons"]


def test_each_kind_of_400_has_an_example_and_a_sentence() -> None:
    [refusal] = [it for it in OURS if it["status"] == 400]
    given_ = refusal["examples"]
    errors = [raised_by(partial(opening(), handshake(an_event_of(it)))) for it in given_]

    assert {error_place(it) for it in errors} == places_that_raise(InvalidHandshake, model)
    assert [str(it) for it in errors] == [it["body"] for it in given_]
    assert refusal["body"]["anyOf"][0]["enum"] == [str(it) for it in errors if ATTRIBUTE not in str(it)]
    assert all(isinstance(it, InvalidHandshake) for it in errors)


def error_place(error: BaseException) -> int:
    """Return the line on which *error* was raised."""
    line = traceback.extract_tb(error.__traceback__)[-1].lineno
    assert line is not None
    return line


def places_that_raise(kind: type[Exception], module: Any) -> set[int]:
    """Return the lines of *module* that raise an error of that *kind*."""
    tree = ast.parse(Path(module.__file__).read_text())
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == kind.__name__
    }


def test_every_reason_of_a_refusal_is_documented_at_its_status() -> None:
    by_status = {it["status"]: set(it["reasons"]) for it in OURS if "reasons" in it}
    found: dict[int, set[str]] = {}
    for reason in REASONS:
        found.setdefault(
            answer({"admission": "open", "query": {}}, Raising(Denied(reason)))["statusCode"], set()
        ).add(reason)

    assert by_status == found


def test_every_error_has_an_answer_that_is_documented_and_every_answer_an_error() -> None:
    errors: list[Exception] = [
        InvalidHandshake("region", "must be empty or the name of an AWS region"),
        *(Denied(reason) for reason in REASONS),
        KeysUnavailable("TooOld"),
        AlreadyClosed(),
        StorageUnavailable("ThrottlingException", outcome_unknown=False),
        KeyError("a bug"),
    ]
    others = set(SwitchboardError.__subclasses__()) - {type(it) for it in errors}
    errors += [kind("no error of a handshake") for kind in others]
    answers = [answer({"admission": "open", "query": {}}, Raising(it)) for it in errors]

    assert [it for it in answers if not any(says(refusal, it) for refusal in OURS)] == []
    assert [it for it in OURS if not any(says(it, response) for response in answers)] == []
    assert {it["body"] for it in answers if it["statusCode"] == 503} == set(
        next(it for it in OURS if it["status"] == 503)["body"]["enum"]
    )


def test_each_refusal_has_the_form_that_is_documented() -> None:
    wrong = [faults("components/schemas/handshakeRefusal", it) for it in REFUSALS]

    assert not any(wrong)
    assert all(("body" in it) == (it in OURS) for it in REFUSALS)


def test_every_parameter_and_header_that_is_read_is_documented_and_no_other() -> None:
    query, headers = Recording(), Recording()
    raised_by(lambda: opening("token")(a_handshake(query={}, headers=headers, peer_address=None)))
    opening(attributes=())(a_handshake(query=query, headers=Recording()))

    assert query.names | {TICKET} == set(QUERY["properties"])
    assert headers.names | {"user-agent"} == {name.lower() for name in HEADERS}


@pytest.mark.parametrize("admission", ["token", "ticket"])
@pytest.mark.parametrize("name", QUERY["x-refused-names"])
def test_a_parameter_that_names_a_token_is_refused(admission: str, name: str) -> None:
    error = raised_by(lambda: opening(admission)(a_handshake(query={name.title(): "x"})))

    assert isinstance(error, Denied)
    assert error.reason == Reason.TOKEN_IN_QUERY
    assert set(QUERY["x-refused-names"]) == _TOKEN_PARAMETERS


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=260)
ACCOUNTS = st.from_regex(r"[0-9]{11,13}", fullmatch=True)
REGIONS = st.from_regex(r"[a-z]{1,3}-[a-z]{1,3}-[0-9]{1,3}", fullmatch=True)


@given(name=st.sampled_from(["clientId", "account", "region", "since"]), text=TEXTS | ACCOUNTS | REGIONS)
@example(name="clientId", text="x" * 128)
@example(name="clientId", text="x" * 129)
@example(name="since", text="é" * 128)
@example(name="since", text="é" * 129)
def test_a_query_is_accepted_exactly_if_its_schema_says_so(name: str, text: str) -> None:
    query = {name: text}

    status = answer({"admission": "open", "query": query})["statusCode"]

    assert (faults("components/schemas/handshakeQuery", query) == []) == (status == 200)


@given(text=TEXTS)
@example(text="x" * 256)
@example(text="x" * 257)
def test_an_attribute_is_accepted_exactly_if_its_schema_says_so(text: str) -> None:
    query = {ATTRIBUTE: text}
    schema = "components/schemas/handshakeQuery/x-client-attributes"

    status = answer({"admission": "open", "query": query})["statusCode"]

    assert (faults(schema, query) == []) == (status == 200)


def test_the_numbers_and_names_are_the_domains() -> None:
    assert QUERY["x-client-attributes"]["maxProperties"] == model.MAX_ATTRIBUTES
    assert QUERY["properties"]["clientId"]["default"] == model.UNKNOWN_CLIENT
    assert HEADERS["User-Agent"]["x-stored-characters"] == model.MAX_USER_AGENT
    assert model.PROTOCOL in HEADERS["Sec-WebSocket-Protocol"]["examples"]
    assert NOW in QUERY["properties"]["since"]["examples"]
    assert part("components/securitySchemes/ticket/name") == TICKET


def test_a_user_agent_is_never_refused() -> None:
    long = "x" * (model.MAX_USER_AGENT + 1)

    opened = opening()(a_handshake(user_agent=f"\x07{long}"))

    assert opened.connection.user_agent == long[: HEADERS["User-Agent"]["x-stored-characters"]]
