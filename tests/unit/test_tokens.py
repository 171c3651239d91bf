"""What a token must say of itself, and what it grants."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.admission import Grant, Reason
from app.domain.errors import Denied
from app.domain.tokens import LEEWAY, TokenRules, VerifiedToken
from tests.builders import NOON
from tests.tokens import AUDIENCE, ISSUER, LIFETIME, PRINCIPAL, seconds, some_claims, some_rules

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"
COGNITO = {"token_use": "access", "client_id": AUDIENCE}


def grant(
    claims: Mapping[str, Any] | None = None,
    rules: TokenRules | None = None,
    *,
    at: datetime = NOON,
    header: Mapping[str, object] | None = None,
    without: Collection[str] = (),
) -> Grant:
    """What a good token with other *claims* grants."""
    token = VerifiedToken({"alg": "RS256", **(header or {})}, some_claims(without=without, **(claims or {})))
    return (rules or some_rules()).grant(token, at)


def refusal(*args: Any, **changes: Any) -> tuple[str, str | None]:
    """Why the token is refused, and whose it is."""
    with pytest.raises(Denied) as refused:
        grant(*args, **changes)
    assert refused.value.args == (refused.value.reason,)
    return refused.value.reason, refused.value.principal


def test_a_good_token_grants_its_subject_until_it_expires() -> None:
    assert grant() == Grant(PRINCIPAL, (), ("",), ("",), until=NOON + LIFETIME)


@pytest.mark.parametrize("issuer", ["https://issuer.example.com", ISSUER.upper(), "", None, 1, [ISSUER]])
def test_a_token_of_another_issuer_is_refused(issuer: object) -> None:
    assert refusal({"iss": issuer}) == (Reason.ISSUER, PRINCIPAL)


def test_a_token_without_an_issuer_is_refused() -> None:
    assert refusal(without={"iss"}) == (Reason.ISSUER, PRINCIPAL)


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE], "second"])
def test_one_of_the_audiences_is_enough(audience: object) -> None:
    assert grant({"aud": audience}, some_rules(audiences=(AUDIENCE, "second"))).principal == PRINCIPAL


@pytest.mark.parametrize(
    "audience",
    [
        "other",
        "",
        "switch",
        f"{AUDIENCE} ",
        f"other {AUDIENCE}",
        AUDIENCE.title(),
        [],
        ["other"],
        [[AUDIENCE]],
        [AUDIENCE, 1],
        [AUDIENCE, None],
        {AUDIENCE: 1},
        None,
        1,
        True,
    ],
)
def test_a_token_for_another_audience_is_refused(audience: object) -> None:
    assert refusal({"aud": audience}) == (Reason.AUDIENCE, PRINCIPAL)


def test_a_token_without_an_audience_is_refused() -> None:
    assert refusal(without={"aud"}) == (Reason.AUDIENCE, PRINCIPAL)


def test_cognitos_access_token_has_a_client_id_in_the_place_of_an_audience() -> None:
    assert grant(COGNITO, without={"aud"}).principal == PRINCIPAL


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (COGNITO | {"client_id": "other"}, Reason.AUDIENCE),
        (COGNITO | {"client_id": None}, Reason.AUDIENCE),
        ({"token_use": "access"}, Reason.AUDIENCE),
        ({"client_id": AUDIENCE}, Reason.AUDIENCE),
        (COGNITO | {"token_use": "id"}, Reason.AUDIENCE),
        (COGNITO | {"aud": "other"}, Reason.AUDIENCE),
        (COGNITO | {"aud": None}, Reason.AUDIENCE),
    ],
)
def test_a_client_id_counts_only_in_cognitos_access_token(claims: dict[str, Any], reason: str) -> None:
    assert refusal(claims, without={"aud"} - claims.keys()) == (reason, PRINCIPAL)


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"])
def test_an_access_token_may_say_so(kind: str) -> None:
    assert grant(header={"typ": kind}).principal == PRINCIPAL


@pytest.mark.parametrize(
    "kind", ["", "id+jwt", "logout+jwt", "dpop+jwt", "application/", "jwt ", None, 1, []]
)
def test_a_token_of_another_type_is_refused(kind: object) -> None:
    assert refusal(header={"typ": kind}) == (Reason.TYPE, PRINCIPAL)


@pytest.mark.parametrize("kind", ["JWT", "application/jwt"])
def test_an_id_token_may_have_the_general_type(kind: str) -> None:
    assert grant(rules=some_rules(type="id"), header={"typ": kind}).principal == PRINCIPAL


def test_an_access_token_is_no_id_token() -> None:
    assert refusal(rules=some_rules(type="id"), header={"typ": "at+jwt"}) == (Reason.TYPE, PRINCIPAL)


@pytest.mark.parametrize("kind", ["access", "id"])
def test_a_token_for_its_use_is_admitted(kind: str) -> None:
    assert grant({"token_use": kind}, some_rules(type=kind)).principal == PRINCIPAL


@pytest.mark.parametrize(("kind", "use"), [("access", "id"), ("id", "access"), ("access", None), ("id", 1)])
def test_a_token_for_another_use_is_refused(kind: str, use: object) -> None:
    assert refusal({"token_use": use}, some_rules(type=kind)) == (Reason.TYPE, PRINCIPAL)


def test_a_token_expires_a_leeway_after_its_end() -> None:
    last = NOON + LIFETIME + LEEWAY - MILLISECOND

    assert timedelta(seconds=60) == LEEWAY
    assert grant(at=NOON + LIFETIME - MILLISECOND).until == NOON + LIFETIME
    assert grant(at=NOON + LIFETIME).until == grant(at=last).until == NOON + LIFETIME + LEEWAY
    assert refusal(at=last + MILLISECOND) == (Reason.EXPIRED, PRINCIPAL)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_begins_a_leeway_before_its_start(claim: str) -> None:
    soon = {claim: seconds(NOON + LEEWAY)}

    assert grant(soon).principal == PRINCIPAL
    assert refusal(soon, at=NOON - MILLISECOND) == (Reason.NOT_YET, PRINCIPAL)
    assert refusal({claim: seconds(NOON + LEEWAY + SECOND)}) == (Reason.NOT_YET, PRINCIPAL)


def test_a_token_lasts_at_most_so_long_from_its_issue() -> None:
    rules = some_rules(max_lifetime=LIFETIME)

    assert grant(rules=rules).until == NOON + LIFETIME
    assert refusal({"exp": seconds(NOON + LIFETIME + SECOND)}, rules) == (Reason.LIFETIME, PRINCIPAL)
    assert refusal({"iat": seconds(NOON - SECOND)}, rules) == (Reason.LIFETIME, PRINCIPAL)


def test_a_token_that_was_issued_in_1970_is_too_long() -> None:
    assert refusal({"iat": 0}) == (Reason.LIFETIME, PRINCIPAL)


def test_a_token_needs_no_start() -> None:
    assert grant(without={"nbf"}).principal == PRINCIPAL


@pytest.mark.parametrize("claim", ["exp", "iat"])  # without either, nobody knows how long it lasts
def test_a_token_without_an_end_or_an_issue_is_refused(claim: str) -> None:
    assert refusal(without={claim}) == (Reason.MALFORMED, PRINCIPAL)


def test_a_time_may_have_a_fraction() -> None:
    assert grant({"exp": seconds(NOON) + 7.25}).until == NOON + timedelta(seconds=7, milliseconds=250)


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        str(seconds(NOON + LIFETIME)),
        "",
        "tomorrow",
        [],
        {},
        -1,
        -0.5,
        253370764800,
        10**400,
        1e300,
        float("inf"),
        float("-inf"),
        float("nan"),
    ],
)
def test_a_time_that_is_none_is_refused(claim: str, value: object) -> None:
    assert refusal({claim: value}) == (Reason.MALFORMED, PRINCIPAL)


def test_the_last_time_is_in_the_year_9998() -> None:
    last = 253370764799

    until = grant({"exp": last, "iat": 0}, some_rules(max_lifetime=timedelta.max)).until

    assert until == datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("subject", [None, "", "x" * 129, "a\x00b", "a\nb", "\ud800", 42, ["user-42"], {}])
def test_a_subject_that_can_not_be_a_clients_id_is_refused(subject: object) -> None:
    assert refusal({"sub": subject}) == (Reason.MALFORMED, None)


def test_a_token_without_a_subject_is_refused() -> None:
    assert refusal(without={"sub"}) == (Reason.MALFORMED, None)


def test_a_subject_may_be_as_long_as_a_clients_id() -> None:
    assert grant({"sub": "x" * 128}).principal == "x" * 128


def test_another_fault_is_named_before_that_of_the_subject() -> None:
    assert refusal({"sub": None, "iss": "https://other.example.com/"}) == (Reason.ISSUER, None)


def test_the_first_fault_is_named() -> None:
    faults: dict[str, Any] = {"iss": "other", "aud": "other", "token_use": "id", "exp": 0}
    reasons = [Reason.ISSUER, Reason.AUDIENCE, Reason.TYPE, Reason.EXPIRED]

    for corrected, reason in enumerate(reasons):
        left = dict(list(faults.items())[corrected:])
        assert refusal(left) == (reason, PRINCIPAL)


LISTS: list[tuple[object, list[str]]] = [
    ([ACCOUNT], [ACCOUNT]),
    ([ACCOUNT, OTHER_ACCOUNT], [ACCOUNT, OTHER_ACCOUNT]),
    (ACCOUNT, [ACCOUNT]),
    (f"{ACCOUNT},{OTHER_ACCOUNT}", [ACCOUNT, OTHER_ACCOUNT]),
    (f"{ACCOUNT} {OTHER_ACCOUNT}", [ACCOUNT, OTHER_ACCOUNT]),
    (f" {ACCOUNT} ,, {OTHER_ACCOUNT},", [ACCOUNT, OTHER_ACCOUNT]),
    ("*", ["*"]),
    (["*"], ["*"]),
    (f"* {ACCOUNT}", ["*", ACCOUNT]),
    ("", []),
    (" , ", []),
    ([], []),
    (["12", ACCOUNT, "12345678901a", f"{ACCOUNT} ", "**", f"{ACCOUNT}*"], [ACCOUNT]),
    ("12 x", []),
    (f"[{ACCOUNT}]", []),
]
WRONG_TYPES = [
    1,
    int(ACCOUNT),
    True,
    False,
    1.5,
    {},
    {ACCOUNT: True},
    [int(ACCOUNT)],
    [ACCOUNT, None],
    [[ACCOUNT]],
]


@pytest.mark.parametrize(("claim", "accounts"), LISTS)
@pytest.mark.parametrize("sees_all", [False, True])
def test_accounts_come_from_their_claim(claim: object, accounts: list[str], *, sees_all: bool) -> None:
    rules = some_rules(accounts_claim="accts", unscoped_sees_all=sees_all)

    assert list(grant({"accts": claim}, rules).accounts) == accounts


@pytest.mark.parametrize(
    ("claim", "regions"),
    [
        (["eu-central-1"], ["eu-central-1"]),
        ("eu-central-1,us-gov-west-1", ["eu-central-1", "us-gov-west-1"]),
        ("eu-central-1 us-gov-west-1", ["eu-central-1", "us-gov-west-1"]),
        ("*", ["*"]),
        ("eu-* EU-CENTRAL-1 eu-central-1", ["eu-central-1"]),
        ([], []),
        ("", []),
    ],
)
def test_regions_come_from_their_claim(claim: object, regions: list[str]) -> None:
    name = "https://example.com/regions"

    assert list(grant({name: claim}, some_rules(regions_claim=name)).regions) == regions


@pytest.mark.parametrize(
    ("claim", "clients"),
    [
        (["desk-1", "desk-2"], ["desk-1", "desk-2"]),
        ("desk-1", ["desk-1"]),
        ("the desk, upstairs", ["the desk, upstairs"]),
        ("*", ["*"]),
        (["desk-1", "", "x" * 129, "a\x00", "\ud800"], ["desk-1"]),
        ("", []),
        ([], []),
    ],
)
def test_names_for_the_client_come_from_their_claim(claim: object, clients: list[str]) -> None:
    assert list(grant({"names": claim}, some_rules(clients_claim="names")).clients) == clients


@pytest.mark.parametrize("setting", ["accounts_claim", "regions_claim", "clients_claim"])
@pytest.mark.parametrize("claim", WRONG_TYPES)
def test_a_claim_of_a_wrong_type_is_refused(setting: str, claim: object) -> None:
    assert refusal({"it": claim}, some_rules(**{setting: "it"})) == (Reason.MALFORMED, PRINCIPAL)


@pytest.mark.parametrize("claims", [{}, {"accts": None, "places": None, "names": None}])
def test_a_claim_that_is_missing_or_null_grants_the_empty_value(claims: dict[str, None]) -> None:
    rules = some_rules(accounts_claim="accts", regions_claim="places", clients_claim="names")

    assert grant(claims, rules) == grant()
    assert (grant().accounts, grant().regions, grant().clients) == (("",), ("",), ())


@pytest.mark.parametrize("name", ["", "accts"])
def test_a_missing_claim_of_accounts_grants_none_where_no_account_means_all(name: str) -> None:
    granted = grant(rules=some_rules(accounts_claim=name, unscoped_sees_all=True))

    assert (granted.accounts, granted.regions) == ([], ("",))


def test_without_its_claim_no_region_of_a_granted_account_is_granted() -> None:
    rules = some_rules(accounts_claim="accounts", regions_claim="regions")

    assert grant({"accounts": ["123456789012"]}, rules=rules).regions == []
    assert grant({"accounts": ["123456789012"], "regions": ["", "eu-west-1"]}, rules=rules).regions == [
        "eu-west-1"
    ]
    assert grant({"accounts": ["123456789012"], "regions": "*"}, rules=rules).regions == ["*"]
    assert grant({}, rules=rules).regions == ("",)  # without an account there is nothing to watch


def test_without_a_claim_for_regions_an_account_is_granted_with_all_of_them() -> None:
    rules = some_rules(accounts_claim="accounts")

    assert grant({"accounts": ["123456789012"], "regions": ["eu-west-1"]}, rules=rules).regions == ("",)


def test_an_empty_account_in_the_claim_does_not_grant_all_where_it_means_all() -> None:
    rules = some_rules(accounts_claim="accounts", unscoped_sees_all=True)

    assert grant({"accounts": ["", "123456789012"]}, rules=rules).accounts == ["123456789012"]
    assert grant({"accounts": ["", "*"]}, rules=rules).accounts == ["*"]


def test_a_claim_that_is_not_configured_grants_nothing() -> None:
    assert grant({"": "*", "accounts": "*", "regions": "*", "clients": "*"}) == grant()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("*"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "token_use", "client_id", "accts", "places", "names"]
)


def granted_or_none(
    claims: Mapping[str, Any], rules: TokenRules, header: Mapping[str, object]
) -> Grant | None:
    try:
        return grant(claims, rules, header=header)
    except Denied:
        return None


@given(
    claims=st.dictionaries(names, json_values),
    header=st.dictionaries(st.sampled_from(["typ", "kid", "alg"]), json_values),
    kind=st.sampled_from(["access", "id"]),
    sees_all=st.booleans(),
)
def test_whatever_the_claims_are_they_are_granted_or_refused(
    claims: dict[str, Any], header: dict[str, Any], kind: str, *, sees_all: bool
) -> None:
    rules = some_rules(
        type=kind,
        accounts_claim="accts",
        regions_claim="places",
        clients_claim="names",
        unscoped_sees_all=sees_all,
    )

    granted = granted_or_none(claims, rules, header)

    assert granted is None or (
        granted.principal == claims.get("sub", PRINCIPAL)
        and granted.until is not None
        and granted.until + LEEWAY > NOON
    )
