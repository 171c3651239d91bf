"""Who may come in: origins, which token counts, what a grant leaves of a query, and tickets."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionTable
from app.domain.admission import Grant, Origin, Reason
from app.domain.admitting import RestrictedAdmission, TokenGrants
from app.domain.errors import Denied, InvalidHandshake
from app.domain.handshakes import OpenConnection
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, Handshake, RegionName, clean
from app.domain.operations import MintTicket
from app.domain.tickets import MAX_TICKET_LIFETIME, Ticket
from app.domain.tokens import VerifiedToken
from tests.builders import NOON, a_handshake
from tests.fakes import FakeTickets, FixedClock
from tests.thoroughness import examples
from tests.tokens import PRINCIPAL, FakeTokens, some_claims, some_rules

ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"
REGION, OTHER_REGION = "eu-central-1", "ap-northeast-2"
TOKEN = "eyJh.eyJz.c2ln"
SECRET = "c2VjcmV0"


def a_grant(**changes: Any) -> Grant:
    whole: dict[str, Any] = {
        "principal": PRINCIPAL,
        "clients": (),
        "accounts": (ACCOUNT,),
        "regions": (REGION,),
        "until": NOON + timedelta(hours=1),
    }
    return Grant(**whole | changes)


def a_ticket(**changes: Any) -> Ticket:
    whole: dict[str, Any] = {
        "secret": SECRET,
        "client_id": ClientId("wall-1"),
        "account": AccountId(ACCOUNT),
        "region": RegionName(REGION),
        "expires_at": NOON + timedelta(seconds=60),
    }
    return Ticket(**whole | changes)


def reason_of(admission: RestrictedAdmission, handshake: Handshake) -> str:
    """Why *handshake* is refused."""
    with pytest.raises(Denied) as refused:
        admission.admit(handshake, NOON)
    return refused.value.reason


def is_unspent(tickets: FakeTickets) -> bool:
    """Whether the ticket can still be redeemed."""
    return tickets.redeem(SECRET, NOON) == a_ticket().grant()


# Origins


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", ("https", "app.example.com", 443, False)),
        ("HTTPS://App.Example.COM", ("https", "app.example.com", 443, False)),
        ("https://app.example.com:8443", ("https", "app.example.com", 8443, False)),
        ("http://localhost", ("http", "localhost", 80, False)),
        ("http://localhost:3000", ("http", "localhost", 3000, False)),
        ("http://127.0.0.1:80", ("http", "127.0.0.1", 80, False)),
        ("https://[2001:DB8::1]", ("https", "[2001:db8::1]", 443, False)),
        ("https://[2001:db8::1]:8443", ("https", "[2001:db8::1]", 8443, False)),
        ("https://*.example.com", ("https", "example.com", 443, True)),
        ("https://*.example.com:8443", ("https", "example.com", 8443, True)),
        ("https://xn--bcher-kva.example", ("https", "xn--bcher-kva.example", 443, False)),
        ("chrome-extension://abcdefgh:1", ("chrome-extension", "abcdefgh", 1, False)),
    ],
)
def test_an_origin_has_a_scheme_a_host_and_a_port(text: str, origin: tuple[str, str, int, bool]) -> None:
    parsed = Origin.parsed(text)

    assert (parsed.scheme, parsed.host, parsed.port, parsed.any_subdomain) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "app.example.com",
        "app.example.com:443",
        "https:",
        "https:app.example.com",
        "https://",
        "://app.example.com:443",
        "file://",
        "chrome-extension://abcdefgh",
        "https://app.example.com/",
        "https://app.example.com:443/",
        "https://app.example.com/path",
        "https://app.example.com?",
        "https://app.example.com#",
        "https://user@app.example.com",
        "https://user:word@app.example.com",
        "https://app.example.com@evil.example",
        "https://app.example.com:",
        "https://app.example.com:x",
        "https://app.example.com:-1",
        "https://app.example.com:+1",
        "https://app.example.com: 443",
        "https://app.example.com:443443",
        "https://app.example.com:٤٤٣",
        "https://app.example.com https://evil.example",
        "https://app.example.com, https://evil.example",
        "https://аpp.example.com",  # a Cyrillic letter
        "https://\u212aiosk.example.com",  # the sign of Kelvin, whose lower case is a k
        "https://evil.example\\.example.com",
        "https://evil.example\x00.example.com",
        "https://evil:1.example.com:443",
        "https://.example.com",
        "https://:443",
        "https://app.example.com:0",
        "https://app.example.com:65536",
        "https://[::1",
        "https://a]",
        "https://*",
        "https://*.",
        "https://*app.example.com",
        "https://app.*.com",
        "https://*.*.example.com",
        "https://https://app.example.com",
        "*",
        "*://app.example.com",
    ],
)
def test_anything_else_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the caller's
        Origin.parsed(text)


@pytest.mark.parametrize(
    ("allowed", "origin", "covers"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "https://app.example.com:443", True),
        ("https://app.example.com:443", "https://app.example.com", True),
        ("http://app.example.com", "http://app.example.com:80", True),
        ("https://app.example.com", "https://APP.example.com", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "http://app.example.com:443", False),
        ("https://app.example.com", "https://app.example.com:80", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://example.com", False),
        ("https://app.example.com", "https://www.app.example.com", False),
        ("https://app.example.com", "https://app.example.com.", False),
        ("https://app.example.com", "https://app.example.com.evil.example", False),
        ("https://app.example.com", "https://app-example.com", False),
        ("https://app.example.com", "https://appxexample.com", False),
        ("https://app.example.com", "https://*.example.com", False),
        ("https://[::1]", "https://[::1]:443", True),
        ("https://[::1]", "https://[::2]", False),
        ("https://*.example.com", "https://app.example.com", True),
        ("https://*.example.com", "https://a.b.example.com:443", True),
        ("https://*.example.com:8443", "https://app.example.com:8443", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evilexample.com", False),
        ("https://*.example.com", "https://example.com.evil.example", False),
        ("https://*.example.com", "https://app.example.com:8443", False),
        ("https://*.example.com", "http://app.example.com", False),
        ("https://*.example.com", "https://*.example.com", False),
        ("https://*.example.com", "https://*.app.example.com", False),
    ],
)
def test_an_origin_covers_itself_or_all_subdomains(*, allowed: str, origin: str, covers: bool) -> None:
    assert Origin.parsed(allowed).covers(Origin.parsed(origin)) is covers


labels = st.text("abc1-", min_size=1, max_size=3)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
origins = st.builds(
    lambda scheme, host, port: f"{scheme}://{host}{port}",
    st.sampled_from(["http", "https"]),
    hosts | st.sampled_from(["[::1]", "[2001:db8::1]"]),
    st.just("") | st.sampled_from([80, 443, 3000]).map(":{}".format),
)


def by_urllib(origin: str) -> tuple[str, str | None, int]:
    """The parts of *origin*, by another judge."""
    parts = urlsplit(origin)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


@given(allowed=origins, origin=origins)
def test_an_origin_covers_those_that_are_the_same_for_urllib(allowed: str, origin: str) -> None:
    assert Origin.parsed(allowed).covers(Origin.parsed(origin)) is (by_urllib(allowed) == by_urllib(origin))


@given(scheme=st.sampled_from(["http", "https"]), parent=hosts, host=hosts)
def test_a_star_covers_those_whose_last_labels_are_the_same(scheme: str, parent: str, host: str) -> None:
    labels, of_parent = host.split("."), parent.split(".")
    is_below = len(labels) > len(of_parent) and labels[-len(of_parent) :] == of_parent

    assert Origin.parsed(f"{scheme}://*.{parent}").covers(Origin.parsed(f"{scheme}://{host}")) is is_below


@given(text=st.text() | st.text("htps:/*.[]@0123", max_size=20).map("https://{}".format))
def test_any_text_is_an_origin_or_none(text: str) -> None:
    try:
        origin = Origin.parsed(text)
    except ValueError:
        return

    assert origin.scheme
    assert origin.host
    assert not set(origin.host) & set("/?#@ *")
    assert 0 <= origin.port <= 99999


APP = "https://app.example.com"


@pytest.mark.parametrize("given_origins", [[], [APP], ["https://a.b.example.org"]])
def test_a_handshake_from_an_allowed_origin_or_from_none_is_admitted_as_it_is(
    given_origins: list[str],
) -> None:
    admission = RestrictedAdmission([APP, "https://*.example.org"])
    handshake = a_handshake(headers={"origin": given_origins}, query={"clientId": "anyone"})

    assert admission.admit(handshake, NOON) == handshake
    assert admission.admit(a_handshake(), NOON) == a_handshake()


@pytest.mark.parametrize(
    "given_origins",
    [
        ["https://evil.example"],
        ["null"],
        [""],
        [f"{APP}/"],
        [APP, APP],
        [APP, "https://evil.example"],
        ["https://*.example.org"],
        ["https://example.org"],
        ["several"],
    ],
)
def test_a_handshake_from_another_origin_is_refused(given_origins: list[str]) -> None:
    admission = RestrictedAdmission([APP, "https://*.example.org"])

    assert reason_of(admission, a_handshake(headers={"origin": given_origins})) == Reason.ORIGIN


def test_without_a_list_every_origin_is_good() -> None:
    handshake = a_handshake(headers={"origin": ["null", "https://evil.example"]})

    assert RestrictedAdmission().admit(handshake, NOON) == handshake


def test_a_list_with_what_is_no_origin_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="app.example.com"):
        RestrictedAdmission(["app.example.com"])


def test_the_origin_is_checked_before_the_token() -> None:
    tokens = FakeTokens({TOKEN: a_grant()})
    tickets = FakeTickets(a_ticket())
    admission = RestrictedAdmission([APP], tokens, tickets)
    foreign = {"origin": ["https://evil.example"]}

    assert reason_of(admission, a_handshake(headers=foreign | bearer(TOKEN))) == Reason.ORIGIN
    assert reason_of(admission, a_handshake(headers=foreign, query={"ticket": SECRET})) == Reason.ORIGIN
    assert tokens.asked == []
    assert is_unspent(tickets)


# Which token counts


def bearer(token: str, scheme: str = "Bearer") -> dict[str, list[str]]:
    return {"authorization": [f"{scheme} {token}"]}


def protocols(*offers: str) -> dict[str, list[str]]:
    return {"sec-websocket-protocol": list(offers)}


@pytest.fixture
def tokens() -> FakeTokens:
    return FakeTokens({TOKEN: a_grant()})


@pytest.fixture
def tickets() -> FakeTickets:
    return FakeTickets(a_ticket())


@pytest.fixture
def admission(tokens: FakeTokens, tickets: FakeTickets) -> RestrictedAdmission:
    return RestrictedAdmission((), tokens, tickets)


@pytest.mark.parametrize(
    "headers",
    [
        bearer(TOKEN),
        bearer(TOKEN, "bearer"),
        bearer(TOKEN, "BEARER"),
        bearer(f"  {TOKEN} "),
        protocols(f"switchboard, {TOKEN}"),
        protocols(f"switchboard,{TOKEN}"),
        protocols("switchboard", TOKEN),
        protocols(f" ,switchboard , {TOKEN},"),
        bearer(TOKEN) | protocols("switchboard"),
        bearer(TOKEN) | protocols("graphql-ws, v2"),
    ],
)
def test_a_token_is_shown_as_a_bearer_or_as_the_second_subprotocol(
    admission: RestrictedAdmission, tokens: FakeTokens, headers: Mapping[str, Sequence[str]]
) -> None:
    admitted = admission.admit(a_handshake(headers=headers), NOON)

    assert tokens.asked == [(TOKEN, NOON)]
    assert admitted.principal_id == PRINCIPAL
    assert admitted.admitted_until == NOON + timedelta(hours=1)
    assert admitted.query == {"clientId": PRINCIPAL, "account": ACCOUNT, "region": REGION}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": []},
        protocols("switchboard"),
        protocols(TOKEN),
        protocols(f"{TOKEN}, switchboard"),
        protocols(f"graphql-ws, {TOKEN}"),
        protocols(f"Switchboard, {TOKEN}"),
        {"x-authorization": [f"Bearer {TOKEN}"]},
        {"cookie": [f"token={TOKEN}"]},
    ],
)
def test_a_token_that_is_not_in_its_place_is_missing(
    admission: RestrictedAdmission, tokens: FakeTokens, headers: Mapping[str, Sequence[str]]
) -> None:
    assert reason_of(admission, a_handshake(headers=headers)) == Reason.MISSING
    assert tokens.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        bearer(TOKEN, "Basic"),
        bearer(TOKEN, "DPoP"),
        bearer(TOKEN, "Bearers"),
        bearer(TOKEN, ""),
        {"authorization": [TOKEN]},
        {"authorization": [""]},
        {"authorization": [f"Bearer\t{TOKEN}"]},
        {"authorization": [f"Bearer {TOKEN}", f"Bearer {TOKEN}"]},
        {"authorization": [f"Bearer {TOKEN}", "Basic YTpi"]},
        bearer(TOKEN) | protocols(f"switchboard, {TOKEN}"),
        protocols(f"switchboard, {TOKEN}, {TOKEN}"),
        protocols(f"switchboard, {TOKEN}, graphql-ws"),
    ],
)
def test_several_tokens_and_other_schemes_are_refused(
    admission: RestrictedAdmission, tokens: FakeTokens, headers: Mapping[str, Sequence[str]]
) -> None:
    assert reason_of(admission, a_handshake(headers=headers)) == Reason.MALFORMED
    assert tokens.asked == []


@pytest.mark.parametrize("headers", [bearer(""), bearer(f"{TOKEN} {TOKEN}"), {"authorization": ["Bearer"]}])
def test_what_is_no_token_is_refused_as_one(
    admission: RestrictedAdmission, headers: Mapping[str, Sequence[str]]
) -> None:
    assert reason_of(admission, a_handshake(headers=headers)) == Reason.MALFORMED


@pytest.mark.parametrize(
    "query",
    [
        {"token": "x"},
        {"access_token": "x"},
        {"id_token": "x"},
        {"jwt": "x"},
        {"Authorization": "Bearer x"},
        {"bearer": "x"},
        {"TOKEN": "x"},
        {"clientId": TOKEN},
        {"appVersion": TOKEN},
        {"anything": "eyJ.."},
        {"anything": f"ewog{'A' * 58}.e30.c2ln"},  # '{\\n ' in Base64
    ],
)
@pytest.mark.parametrize("headers", [{}, bearer(TOKEN)])
def test_a_token_in_the_query_is_refused_by_its_name_or_its_shape(
    admission: RestrictedAdmission,
    tokens: FakeTokens,
    tickets: FakeTickets,
    query: Mapping[str, str],
    headers: Mapping[str, Sequence[str]],
) -> None:
    handshake = a_handshake(headers=headers, query={"ticket": SECRET, **query})

    assert reason_of(admission, handshake) == Reason.TOKEN_IN_QUERY
    assert tokens.asked == []
    assert is_unspent(tickets)


@pytest.mark.parametrize("value", ["eyJ", "eyJ.x", "eyJ.x.y.z", "a.b.c", "EYJ.x.y"])
def test_a_value_of_another_shape_is_no_token(admission: RestrictedAdmission, value: str) -> None:
    admitted = admission.admit(a_handshake(headers=bearer(TOKEN), query={"appVersion": value}), NOON)

    assert admitted.query["appVersion"] == value


def test_a_ticket_admits_its_client_once(admission: RestrictedAdmission) -> None:
    handshake = a_handshake(query={"ticket": SECRET})

    admitted = admission.admit(handshake, NOON)

    assert (admitted.principal_id, admitted.admitted_until) == ("wall-1", None)
    assert {**admitted.query} == {"clientId": "wall-1", "account": ACCOUNT, "region": REGION}
    assert reason_of(admission, handshake) == Reason.TICKET


@pytest.mark.parametrize("secret", ["other", SECRET.lower(), f"{SECRET} "])
def test_an_unknown_ticket_is_refused(admission: RestrictedAdmission, secret: str) -> None:
    assert reason_of(admission, a_handshake(query={"ticket": secret})) == Reason.TICKET


def test_a_ticket_does_not_admit_another_client(admission: RestrictedAdmission) -> None:
    handshake = a_handshake(query={"ticket": SECRET, "clientId": "wall-2"})

    assert reason_of(admission, handshake) == Reason.CLIENT


@pytest.mark.parametrize("headers", [bearer(TOKEN), protocols(f"switchboard, {TOKEN}"), bearer("x")])
def test_a_ticket_and_a_token_together_are_refused(
    admission: RestrictedAdmission,
    tokens: FakeTokens,
    tickets: FakeTickets,
    headers: Mapping[str, Sequence[str]],
) -> None:
    handshake = a_handshake(headers=headers, query={"ticket": SECRET})

    assert reason_of(admission, handshake) == Reason.MALFORMED
    assert tokens.asked == []
    assert is_unspent(tickets)


def test_without_tickets_a_ticket_is_missing_a_token(tokens: FakeTokens) -> None:
    admission = RestrictedAdmission((), tokens)

    assert reason_of(admission, a_handshake(query={"ticket": SECRET})) == Reason.MISSING


def test_without_tokens_a_token_is_missing_a_ticket(tickets: FakeTickets) -> None:
    admission = RestrictedAdmission((), tickets=tickets)

    assert reason_of(admission, a_handshake(headers=bearer(TOKEN))) == Reason.MISSING


@pytest.mark.parametrize(
    "handshake",
    [
        a_handshake(headers={"origin": ["https://evil.example"]} | bearer(TOKEN)),
        a_handshake(),
        a_handshake(headers=bearer("other")),
        a_handshake(headers=bearer(TOKEN), query={"clientId": "somebody-else"}),
        a_handshake(headers=bearer(TOKEN), query={"account": OTHER_ACCOUNT}),
        a_handshake(headers=bearer(TOKEN), query={"region": OTHER_REGION}),
        a_handshake(query={"token": TOKEN}),
        a_handshake(query={"ticket": "other"}),
    ],
)
def test_a_refusal_stores_nothing_and_says_where_it_came_from(
    tokens: FakeTokens, tickets: FakeTickets, handshake: Handshake
) -> None:
    store = MemoryConnectionTable()
    open_connection = OpenConnection(
        FixedClock(),
        PeerFirstIpResolver(),
        RestrictedAdmission([APP], tokens, tickets),
        store,
        lifetime=timedelta(hours=24),
    )

    with pytest.raises(Denied) as refused:
        open_connection(handshake)

    assert refused.value.source_ip == "203.0.113.24"
    assert store.get(ConnectionId("c-1")) is None


class FakeSignatures:
    """Signatures that hold for everything but an empty text."""

    def verify(self, token: str, at: datetime) -> VerifiedToken:
        if not token:
            raise Denied(Reason.SIGNATURE)
        return VerifiedToken({}, some_claims(sub=token))


def test_a_token_is_granted_by_its_claims_once_its_signature_holds() -> None:
    token_grants = TokenGrants(FakeSignatures(), some_rules())

    assert token_grants.grant("user-7", NOON).principal == "user-7"
    with pytest.raises(Denied, match="signature"):
        token_grants.grant("", NOON)
    with pytest.raises(Denied, match="expired"):
        token_grants.grant("user-7", NOON + timedelta(days=1))


# What a grant leaves of a query


def narrowed(grant: Grant, **query: str) -> tuple[str, str, str]:
    """The client, the account and the region that are left of *query*."""
    admitted = grant.narrowed(a_handshake(query=query)).query
    return admitted["clientId"], admitted["account"], admitted["region"]


def refusal(grant: Grant, **query: str) -> tuple[str, str | None]:
    """Why *query* is refused, and whose it is."""
    with pytest.raises(Denied) as refused:
        grant.narrowed(a_handshake(query=query))
    return refused.value.reason, refused.value.principal


def test_an_empty_query_gets_the_principal_and_the_only_values() -> None:
    assert narrowed(a_grant()) == (PRINCIPAL, ACCOUNT, REGION)


def test_the_rest_of_a_handshake_stays() -> None:
    handshake = a_handshake(query={"appVersion": "2.7"}, user_agent="Mozilla/5.0", principal_id="claimed")

    admitted = a_grant().narrowed(handshake)

    assert admitted.query["appVersion"] == "2.7"
    assert admitted.principal_id == PRINCIPAL
    assert admitted._replace(query={}, principal_id=None, admitted_until=None) == handshake._replace(
        query={}, principal_id=None
    )


@pytest.mark.parametrize(
    "name",
    [PRINCIPAL, f"{PRINCIPAL}/tab-1", f"{PRINCIPAL}/", f"{PRINCIPAL}//", "desk", "desk/1", "the/desk/1"],
)
def test_a_client_is_the_principal_or_a_granted_name_or_below_it(name: str) -> None:
    assert narrowed(a_grant(clients=("desk", "the/desk")), clientId=name)[0] == name


@pytest.mark.parametrize(
    "name",
    ["user", "user-421", "user-42-", "USER-42", "/user-42", "x/user-42", "desk1", "the", "*", "", "/", "/x"],
)
def test_any_other_client_is_refused(name: str) -> None:
    assert refusal(a_grant(clients=("desk", "the/desk", "")), clientId=name) == (Reason.CLIENT, PRINCIPAL)


def test_a_star_among_the_clients_grants_every_name() -> None:
    assert narrowed(a_grant(clients=("*",)), clientId="anyone")[0] == "anyone"
    assert narrowed(a_grant(clients=("*",)))[0] == PRINCIPAL


def test_a_principal_that_is_a_star_grants_no_other_name() -> None:
    star = a_grant(principal="*")

    assert narrowed(star)[0] == "*"
    assert narrowed(star, clientId="*/1")[0] == "*/1"
    assert refusal(star, clientId="anyone") == (Reason.CLIENT, "*")


@pytest.mark.parametrize(
    ("accounts", "asked", "account"),
    [
        ((ACCOUNT,), "", ACCOUNT),
        ((ACCOUNT,), ACCOUNT, ACCOUNT),
        ((ACCOUNT, OTHER_ACCOUNT), OTHER_ACCOUNT, OTHER_ACCOUNT),
        (("",), "", ""),
        (("", ACCOUNT), "", ""),
        (("*",), ACCOUNT, ACCOUNT),
        (("*",), "", ""),
        ((ACCOUNT, "*"), OTHER_ACCOUNT, OTHER_ACCOUNT),
        ((ACCOUNT, "*"), "", ""),
    ],
)
def test_an_account_that_is_granted(accounts: tuple[str, ...], asked: str, account: str) -> None:
    query = {"account": asked} if asked else {}

    assert narrowed(a_grant(accounts=accounts), **query)[1] == account


@pytest.mark.parametrize(
    ("accounts", "asked"),
    [
        ((ACCOUNT,), OTHER_ACCOUNT),
        ((ACCOUNT,), ACCOUNT[:-1]),
        ((ACCOUNT,), f"{ACCOUNT},{OTHER_ACCOUNT}"),
        ((ACCOUNT,), "*"),
        (("",), ACCOUNT),
        ((), ACCOUNT),
        ((), ""),
        ((ACCOUNT, OTHER_ACCOUNT), ""),
    ],
)
def test_an_account_that_is_not_granted(accounts: tuple[str, ...], asked: str) -> None:
    query = {"account": asked} if asked else {}

    assert refusal(a_grant(accounts=accounts), **query) == (Reason.ACCOUNT, PRINCIPAL)


@pytest.mark.parametrize(
    ("regions", "asked"),
    [((REGION,), OTHER_REGION), ((REGION, OTHER_REGION), ""), ((), ""), (("",), REGION), ((REGION,), "eu-*")],
)
def test_a_region_that_is_not_granted(regions: tuple[str, ...], asked: str) -> None:
    query = {"region": asked} if asked else {}

    assert refusal(a_grant(regions=regions), **query) == (Reason.REGION, PRINCIPAL)


def test_a_region_that_is_granted() -> None:
    assert narrowed(a_grant(regions=(REGION, OTHER_REGION)), region=OTHER_REGION)[2] == OTHER_REGION
    assert narrowed(a_grant(regions=("*",)), region=OTHER_REGION)[2] == OTHER_REGION


# A few values, so that a query often asks for what is granted or for what looks like it.
NAMES = ("a", "ab", "a/b", "b", "*", "", "unknown")
ACCOUNTS = (ACCOUNT, OTHER_ACCOUNT, "*", "", f"{ACCOUNT}*", "12")
REGIONS = (REGION, OTHER_REGION, "*", "", "eu-*", "eu")


def some_of(values: Sequence[str]) -> st.SearchStrategy[Sequence[str]]:
    """Up to two of *values*, or any texts."""
    few = [(), *((it,) for it in values), *permutations(values, 2)]
    return st.sampled_from(few) | st.lists(st.text(max_size=4), max_size=3)


grants = st.builds(
    Grant,
    principal=st.sampled_from(NAMES) | st.text(max_size=4),
    clients=some_of(NAMES),
    accounts=some_of(ACCOUNTS),
    regions=some_of(REGIONS),
    until=st.sampled_from([None, NOON]),
)
asked_names = [f"{one}{between}{other}" for one in NAMES for between in ("", "/") for other in NAMES]
queries = st.fixed_dictionaries(
    {},
    optional={
        "clientId": st.sampled_from(asked_names) | st.text(max_size=6),
        "account": st.sampled_from(ACCOUNTS) | st.text(max_size=3),
        "region": st.sampled_from(REGIONS) | st.text(max_size=3),
        "ClientId": st.sampled_from(NAMES),
        "accounts": st.sampled_from(ACCOUNTS),
    },
)


def recorded(grant: Grant, query: Mapping[str, str]) -> Connection | None:
    """The connection that is recorded of *query*; ``None`` if it is refused."""
    try:
        admitted = grant.narrowed(a_handshake(query=query))
        return Connection.opened(admitted, source_ip="", at=NOON, until=NOON)
    except (Denied, InvalidHandshake):
        return None


def is_within(grant: Grant, connection: Connection) -> bool:
    """Whether *connection* has only what is granted; another way to put it than the domain's."""
    names = {name for name in (grant.principal, *grant.clients) if name}
    beginnings = {connection.client_id[:i] for i, it in enumerate(connection.client_id) if it == "/"}
    return (
        ("*" in grant.clients or bool(names & {connection.client_id, *beginnings}))
        and bool({connection.account, "*"} & {*grant.accounts})
        and bool({connection.region, "*"} & {*grant.regions})
    )


@settings(max_examples=examples(400), suppress_health_check=list(HealthCheck))
@given(many=st.lists(st.tuples(grants, queries), min_size=25, max_size=25))  # 10,000 in CI
def test_whatever_the_query_is_what_is_recorded_is_within_the_grant(
    many: list[tuple[Grant, dict[str, str]]],
) -> None:
    for grant, query in many:
        connection = recorded(grant, query)

        if connection is not None:
            assert is_within(grant, connection)
            assert connection.principal_id == clean(grant.principal)
            assert connection.admitted_until == grant.until
            assert connection.client_id == query.get("clientId", grant.principal)


@given(
    clients=st.lists(st.text("ab/", min_size=1, max_size=4), max_size=2),
    accounts=st.lists(st.sampled_from([ACCOUNT, OTHER_ACCOUNT, ""]), min_size=1),
    regions=st.lists(st.sampled_from([REGION, OTHER_REGION, ""]), min_size=1),
    data=st.data(),
)
def test_whatever_is_granted_can_be_had(
    clients: list[str], accounts: list[str], regions: list[str], data: st.DataObject
) -> None:
    grant = a_grant(clients=clients, accounts=accounts, regions=regions)
    name = data.draw(st.sampled_from([grant.principal, *clients]))
    below = data.draw(st.just("") | st.text("ab/", max_size=3).map("/{}".format))
    query = {
        "clientId": name + below,
        "account": data.draw(st.sampled_from(accounts)),
        "region": data.draw(st.sampled_from(regions)),
    }

    connection = recorded(grant, {name: value for name, value in query.items() if value})

    assert connection is not None
    assert connection.client_id == query["clientId"]


# Tickets


def mint(tickets: FakeTickets, lifetime: timedelta, **changes: str) -> Ticket:
    mint_ticket = MintTicket(tickets, FixedClock(), lambda: "secret-1")
    whole = {"client": "wall-1", "account": ACCOUNT, "region": REGION}
    return mint_ticket(**whole | changes, lifetime=lifetime)


def test_a_new_ticket_is_kept() -> None:
    tickets = FakeTickets()

    ticket = mint(tickets, timedelta(seconds=30))

    assert ticket == a_ticket(secret="secret-1", expires_at=NOON + timedelta(seconds=30))
    assert tickets.added == [ticket]


def test_a_ticket_is_good_for_a_minute_at_most() -> None:
    assert timedelta(seconds=60) == MAX_TICKET_LIFETIME
    assert mint(FakeTickets(), timedelta(hours=1)).expires_at == NOON + MAX_TICKET_LIFETIME


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client": ""}, "clientId"),
        ({"client": "x" * 129}, "clientId"),
        ({"account": "12"}, "account"),
        ({"account": "*"}, "account"),
        ({"region": "Frankfurt"}, "region"),
    ],
)
def test_a_ticket_for_what_breaks_its_rule_is_not_made(changes: dict[str, str], field: str) -> None:
    tickets = FakeTickets()

    with pytest.raises(InvalidHandshake, match=field):
        mint(tickets, timedelta(seconds=30), **changes)

    assert tickets.added == []


def test_a_ticket_grants_its_client_its_account_and_its_region_for_as_long_as_any() -> None:
    assert a_ticket().grant() == Grant("wall-1", (), (ACCOUNT,), (REGION,), until=None)


def test_a_ticket_does_not_show_its_secret() -> None:
    assert SECRET not in repr(a_ticket())
    assert SECRET not in str(a_ticket())


def test_a_ticket_without_account_and_region_grants_no_other() -> None:
    grant = a_ticket(account="", region="").grant()

    assert narrowed(grant) == ("wall-1", "", "")
    assert refusal(grant, account=ACCOUNT) == (Reason.ACCOUNT, "wall-1")
