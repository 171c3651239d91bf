"""Tokens from their text to their grant, with OpenSSL: good, broken and forged ones, and PyJWT's verdict.

PyJWT is the second judge. It has no clock that could be passed in, so the times
in here are the real clock's, and far from the borders (tests/unit/test_tokens.py
has those).
"""

import base64
import hashlib
import hmac
import json
import re
import traceback
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app.adapters.clock import SystemClock
from app.adapters.tokens.algorithm import Algorithm
from app.adapters.tokens.encoding import Malformed, bytes_in, object_in
from app.adapters.tokens.es256 import ES256
from app.adapters.tokens.keys import UnusableKey, usable_key
from app.adapters.tokens.rs256 import RS256
from app.adapters.tokens.signatures import MAX_TOKEN, TokenSignatures
from app.domain.admission import Reason
from app.domain.admitting import TokenGrants
from app.domain.errors import Denied, KeysUnavailable
from app.domain.tokens import LEEWAY, Key, TokenRules
from tests.builders import NOON
from tests.thoroughness import examples
from tests.tokens import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    PRINCIPAL,
    SigningKey,
    a_header,
    a_token,
    base64url,
    ec_key,
    rsa_key,
    seconds,
    signed,
    signed_parts,
    some_claims,
    some_rules,
    the_key,
)

ADMITTED = "admitted"
CANARY = "c4n4ry"
ENCODED = re.compile("[A-Za-z0-9_-]{20,}")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
MANY = timedelta(days=366 * 2000)

clock = SystemClock()
by_name: dict[str, Algorithm] = {"RS256": RS256(), "ES256": ES256()}


def kept_key(key_id: str, at: object, *, algorithm: str) -> Key | None:
    """The issuer's key, as the keys function keeps it."""
    key = the_key(algorithm)
    return usable_key(key.jwk(), by_name[algorithm]) if key_id == key.key_id else None


def verdict(
    token: str,
    algorithm: str,
    rules: TokenRules | None = None,
    find_key: Callable[..., Key | None] | None = None,
) -> str:
    """Why *token* is refused, or ADMITTED. A refusal must say nothing of it."""
    denied = refusal(token, algorithm, rules, find_key)
    return ADMITTED if denied is None else denied.reason


def refusal(
    token: str,
    algorithm: str,
    rules: TokenRules | None = None,
    find_key: Callable[..., Key | None] | None = None,
) -> Denied | None:
    """How *token* is refused, if it is."""
    signatures = TokenSignatures(by_name[algorithm], find_key or partial(kept_key, algorithm=algorithm))
    try:
        TokenGrants(signatures, rules or some_rules()).grant(token, clock.now())
    except Denied as denied:
        assert_says_nothing_of(token, denied)
        return denied
    return None


def assert_says_nothing_of(token: str, error: Exception) -> None:
    said = "\n".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])
    size = 8
    pieces = {run[i : i + size] for run in ENCODED.findall(token) for i in range(len(run) - size + 1)}

    assert CANARY not in said
    assert PRINCIPAL not in said
    assert not any(piece in said for piece in pieces)


def pyjwt_admits(token: str, algorithm: str) -> bool:
    """Whether PyJWT admits *token* by the same issuer, audience, leeway and keys."""
    key = the_key(algorithm)
    try:
        if jwt.get_unverified_header(token).get("kid") != key.key_id:
            return False
        jwt.decode(
            token,
            jwt.PyJWK(key.jwk(), algorithm),
            [algorithm],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "sub"], "verify_jti": False},  # jti is for those that keep it
        )
    except (jwt.PyJWTError, UnicodeEncodeError):
        return False
    return True


def good(algorithm: str, number: int = 0) -> str:
    """A good token: the same one each time, for each number another."""
    return _good(algorithm, number)


@cache
def _good(algorithm: str, number: int) -> str:
    return a_token(algorithm, clock.now(), header={"x": CANARY}, canary=CANARY, number=number)


def the_claims(**changes: Any) -> dict[str, Any]:
    return some_claims(clock.now(), canary=CANARY) | changes


# Good tokens


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_is_admitted(algorithm: str) -> None:
    assert verdict(good(algorithm), algorithm) == ADMITTED
    assert pyjwt_admits(good(algorithm), algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_grants_what_its_claims_say(algorithm: str) -> None:
    signatures = TokenSignatures(by_name[algorithm], partial(kept_key, algorithm=algorithm))
    rules = some_rules(clients_claim="names", accounts_claim="accts", regions_claim="places")
    token = a_token(algorithm, names="desk", accts=["123456789012"], places="eu-central-1 us-east-1")

    grant = TokenGrants(signatures, rules).grant(token, NOON)

    assert (grant.principal, *grant.clients) == (PRINCIPAL, "desk")
    assert (*grant.accounts, *grant.regions) == ("123456789012", "eu-central-1", "us-east-1")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "header",
    [
        {"typ": "at+jwt"},
        {"typ": ""},
        {"cty": "text"},
        {"jku": "https://evil.example/keys"},
        {"jwk": {"kty": "oct"}},
        {"x5u": "https://evil.example/x5u"},
        {"x5c": ["MII"]},
        {"x5t": "x"},
        {"zip": "DEF"},
    ],
)
def test_a_header_that_is_not_looked_at_makes_no_difference(
    algorithm: str, header: Mapping[str, object]
) -> None:
    token = a_token(algorithm, clock.now(), header=header)

    assert verdict(token, algorithm) == ADMITTED
    assert pyjwt_admits(token, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_texts_may_be_escaped_and_spaces_may_be_between(algorithm: str) -> None:
    escaped = json.dumps(the_claims(), indent=1).replace("https", r"\u0068ttps")
    token = signed(the_key(algorithm), a_header(the_key(algorithm)), escaped)

    assert verdict(token, algorithm) == ADMITTED
    assert pyjwt_admits(token, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_has_8_kb_at_most(algorithm: str) -> None:
    tokens = [a_token(algorithm, clock.now(), padding="x" * size) for size in range(5500, 6000)[::-1]]
    longest = next(token for token in tokens if len(token) <= MAX_TOKEN)
    too_long = next(token for token in reversed(tokens) if len(token) > MAX_TOKEN)

    assert MAX_TOKEN - 1 <= len(longest) < len(too_long) <= MAX_TOKEN + 2
    assert verdict(longest, algorithm) == ADMITTED
    assert verdict(too_long, algorithm) == Reason.MALFORMED


# Attacks: RFC 8725, 2.1 to 2.9, OWASP's JSON Web Token Cheat Sheet, and its Testing Guide, WSTG-SESS-10


class Attack(NamedTuple):
    """How a token is made of the issuer's key, why it is refused, and whether PyJWT refuses it, too."""

    token: Callable[[SigningKey], str]
    reason: str
    is_judged_by_pyjwt: bool = True


def good_of(key: SigningKey) -> str:
    return good(key.algorithm)


def with_header(text: str | None = None, **changes: Any) -> Callable[[SigningKey], str]:
    """A token whose signature holds, with another header."""
    return lambda key: signed(key, text or a_header(key, **changes), the_claims())


def with_claims(text: str | None = None, **changes: Any) -> Callable[[SigningKey], str]:
    """A token whose signature holds, with other claims."""
    return lambda key: signed(key, a_header(key), text or the_claims(**changes))


def with_member(member: str, without: str = "") -> Callable[[SigningKey], str]:
    """A token whose signature holds, with the text of one more member at the end of its claims."""

    def made(key: SigningKey) -> str:
        claims = {name: value for name, value in the_claims().items() if name != without}
        return signed(key, a_header(key), f"{json.dumps(claims)[:-1]},{member}}}")

    return made


def with_signature(change: Callable[[bytes], bytes]) -> Callable[[SigningKey], str]:
    """A good token with a changed signature."""
    return with_parts(
        lambda header, claims, signature: f"{header}.{claims}.{base64url(change(bytes_in(signature)))}"
    )


def with_parts(change: Callable[[str, str, str], str]) -> Callable[[SigningKey], str]:
    """Another text of the parts of a good token."""

    def made(key: SigningKey) -> str:
        header, claims, signature = good_of(key).split(".")
        return change(header, claims, signature)

    return made


def unsigned(algorithm: object, signature: str = "") -> Callable[[SigningKey], str]:
    """A token that says that it is signed by *algorithm*."""
    return lambda key: f"{base64url(a_header(key, alg=algorithm))}.{base64url(the_claims())}.{signature}"


def by_hmac(secret: Callable[[SigningKey], bytes], algorithm: str = "") -> Callable[[SigningKey], str]:
    """A token that is signed by HMAC, with what everybody knows for a secret."""

    def made(key: SigningKey) -> str:
        text = unsigned(algorithm or key.algorithm)(key).rstrip(".")
        return f"{text}.{base64url(hmac.digest(secret(key), text.encode(), hashlib.sha256))}"

    return made


def in_form(encoding: Encoding, form: PublicFormat) -> Callable[[SigningKey], bytes]:
    return lambda key: key.private.public_key().public_bytes(encoding, form)


def by_a_foreign_key(**changes: Any) -> Callable[[SigningKey], str]:
    """A token that somebody else has signed."""

    def made(key: SigningKey) -> str:
        other = the_key(key.algorithm, "somebody else")
        return signed(other, a_header(other, **changes), the_claims())

    return made


def with_its_key(**changes: Any) -> Callable[[SigningKey], str]:
    """A token that somebody else has signed and that has his key (CVE-2018-0114)."""

    def made(key: SigningKey) -> str:
        other = the_key(key.algorithm, "somebody else")
        return by_a_foreign_key(jwk=other.jwk(), **changes)(key)

    return made


def with_encoding(name: str) -> Callable[[SigningKey], str]:
    """A token whose signature holds, with claims that are not in UTF-8."""
    return lambda key: signed_parts(
        key, base64url(a_header(key)), base64url(json.dumps(the_claims()).encode(name))
    )


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def marked(mark: str, where: str) -> Callable[[SigningKey], str]:
    """A good token with one more character, or a few."""
    return lambda key: f"{mark}{good_of(key)}" if where == "before" else f"{good_of(key)}{mark}"


def with_other_bits(key: SigningKey) -> str:
    """A good token, with other bits behind those of its signature: many decoders drop them."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = good_of(key)
    return token[:-1] + digits[digits.index(token[-1]) ^ 1]


def short(text: str) -> str:
    return f"{text[:20]!a}, {len(text)} long"


LOOK_ALIKES = [
    ISSUER.upper(),
    ISSUER.rstrip("/"),
    f"{ISSUER} ",
    f" {ISSUER}",
    f"{ISSUER}\x00",
    f"{ISSUER}\u200b",
    f"{ISSUER}#",
    f"{ISSUER}?",
    ISSUER.replace("https", "http"),
    ISSUER.replace("e", "е", 1),  # Cyrillic
    ISSUER.replace("i", "ı", 1),
    ISSUER.replace("s", "ſ"),
    ISSUER.replace("/", "\uff0f"),
    ISSUER.replace(".", "\u3002"),
    ISSUER.replace("example", "e\u0301xample"),
    ISSUER.replace("example", "ｅｘａｍｐｌｅ"),
    ISSUER.replace("issuer", "issuer\u00ad"),
    "https://issuer.example.com@evil.example/",
    "https://issuer.example.com.evil.example/",
]
AUDIENCES = [
    AUDIENCE.upper(),
    f"{AUDIENCE} ",
    f"{AUDIENCE}\x00",
    AUDIENCE.replace("i", "і"),  # Cyrillic
    AUDIENCE.replace("s", "ſ"),
    AUDIENCE.replace("a", "ａ"),
    f"{AUDIENCE}\u200d",
    f"{AUDIENCE},other",
    f"other {AUDIENCE}",
    "*",
]

NONE: list[object] = ["none", "None", "NONE", "nOnE", "", "none ", None, 0, True, [], {}, ["none"]]
CRITICAL: list[object] = [["exp"], ["unknown"], ["alg"], [], [1], "exp", None, {}]

ATTACKS: dict[str, Attack] = {
    # 2.1: the algorithm is the token's choice
    **{f"algorithm {algorithm!r}": Attack(unsigned(algorithm), Reason.ALGORITHM) for algorithm in NONE},
    "none, with a signature": Attack(unsigned("none", "c2ln"), Reason.ALGORITHM),
    "no algorithm": Attack(with_header('{"kid":"rsa-1"}'), Reason.ALGORITHM),
    **{
        f"algorithm {algorithm!r} that holds": Attack(with_header(alg=algorithm), Reason.ALGORITHM)
        for algorithm in ("rs256", "es256", "RS256 ", "RS384", "PS256", "ES384", "ES256K", "EdDSA", "HS256")
    },
    "a list of algorithms": Attack(with_header(alg=["RS256", "ES256"]), Reason.ALGORITHM),
    "no signature": Attack(with_signature(lambda _: b""), Reason.MALFORMED),
    "a null signature": Attack(with_signature(lambda _: b"\0"), Reason.SIGNATURE),
    # 2.1 and 2.2: a secret that is none
    **{
        f"HS256 by {name}": Attack(by_hmac(secret, "HS256"), Reason.ALGORITHM)
        for name, secret in {
            "the public key in PEM": in_form(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "the public key in DER": in_form(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "the public key for SSH": in_form(Encoding.OpenSSH, PublicFormat.OpenSSH),
            "the JWK": lambda key: json.dumps(key.jwk()).encode(),
            "the member of the JWK": lambda key: bytes_in(str(key.jwk().get("n") or key.jwk()["x"])),
            "an empty secret": lambda key: b"",
            "a weak secret": lambda key: b"secret",
        }.items()
    },
    "HMAC that says to be no HMAC": Attack(
        by_hmac(in_form(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)), Reason.SIGNATURE
    ),
    # 2.3 and 2.4: encryption and compression
    "an encrypted token": Attack(
        with_parts(lambda *parts: ".".join([*parts, "aXY", "dGFn"])), Reason.MALFORMED
    ),
    "a token in a token": Attack(
        lambda key: signed(key, a_header(key, cty="JWT"), good_of(key)), Reason.MALFORMED
    ),
    "a token as a text of JSON": Attack(
        lambda key: signed(key, a_header(key, cty="JWT"), json.dumps(good_of(key))), Reason.MALFORMED
    ),
    "compressed claims": Attack(
        lambda key: signed_parts(
            key,
            base64url(a_header(key, zip="DEF")),
            base64url(zlib.compress(json.dumps(the_claims()).encode())),
        ),
        Reason.MALFORMED,
    ),
    # 2.5 and beyond: keys and signatures of another kind
    "a foreign key": Attack(by_a_foreign_key(), Reason.SIGNATURE),
    "an unknown key": Attack(by_a_foreign_key(kid="other"), Reason.UNKNOWN_KEY),
    # 2.6: other encodings
    **{
        f"claims in {encoding}": Attack(
            with_encoding(encoding),
            Reason.MALFORMED,
            is_judged_by_pyjwt=False,  # it takes them
        )
        for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig")
    },
    "claims in no encoding": Attack(
        lambda key: signed_parts(key, base64url(a_header(key)), base64url(b'{"sub":"\xff"}')),
        Reason.MALFORMED,
    ),
    # 2.7 and 2.8: a token for somebody or for something else
    **{f"issuer {it!a}": Attack(with_claims(iss=it), Reason.ISSUER) for it in LOOK_ALIKES},
    **{f"audience {it!a}": Attack(with_claims(aud=it), Reason.AUDIENCE) for it in AUDIENCES},
    "no issuer": Attack(with_claims(f'{{"aud":"{AUDIENCE}","sub":"x","exp":253370764799}}'), Reason.ISSUER),
    "several issuers": Attack(with_claims(iss=[ISSUER]), Reason.ISSUER),
    "several audiences": Attack(with_claims(aud=["other", "another"]), Reason.AUDIENCE),
    "an audience of another type": Attack(with_claims(aud={AUDIENCE: True}), Reason.AUDIENCE),
    **{
        f"type {kind!r}": Attack(with_header(typ=kind), Reason.TYPE, is_judged_by_pyjwt=False)
        for kind in ("logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", "JOSE", "at jwt", None, 1)
    },
    "an id token": Attack(with_claims(token_use="id"), Reason.TYPE, is_judged_by_pyjwt=False),
    "an expired token": Attack(with_claims(exp=1), Reason.EXPIRED),
    "a token of tomorrow": Attack(
        lambda key: a_token(key.algorithm, clock.now() + timedelta(days=1)), Reason.NOT_YET
    ),
    "a token that never ends": Attack(
        with_claims(exp=253370764799), Reason.LIFETIME, is_judged_by_pyjwt=False
    ),
    "a token without an end": Attack(
        lambda key: a_token(key.algorithm, clock.now(), without={"exp"}), Reason.MALFORMED
    ),
    "a token of nobody": Attack(
        lambda key: a_token(key.algorithm, clock.now(), without={"sub"}), Reason.MALFORMED
    ),
    # 2.9: what the token names is not followed, nor looked up anywhere but among the keys
    **{
        f"kid {kid!a}": Attack(with_its_key(kid=kid), Reason.UNKNOWN_KEY)
        for kid in (
            "",
            "../../../../dev/null",
            "/dev/null",
            "file:///etc/passwd",
            "' OR '1'='1",
            "x' UNION SELECT 'key';--",
            "| sleep 10",
            "rsa-1\x00",
            "RSA-1",
            "ec-1 ",
            "\ud800",
            "x" * 4000,
            "https://evil.example/keys",
            "__class__",
        )
    },
    **{
        f"kid of type {type(kid).__name__}": Attack(with_header(kid=kid), Reason.UNKNOWN_KEY)
        for kid in (None, 1, True, ["rsa-1"], {"rsa-1": 1})
    },
    "no kid": Attack(lambda key: signed(key, {"alg": key.algorithm}, the_claims()), Reason.UNKNOWN_KEY),
    "the attacker's key in the token": Attack(with_its_key(), Reason.SIGNATURE),
    "the attacker's key without kid": Attack(with_its_key(kid=None), Reason.UNKNOWN_KEY),
    "the attacker's keys elsewhere": Attack(
        by_a_foreign_key(jku="https://evil.example/keys.json", x5u="https://evil.example/x5u"),
        Reason.SIGNATURE,
    ),
    "the attacker's certificate": Attack(by_a_foreign_key(x5c=["TUlJ"], x5t="x"), Reason.SIGNATURE),
    # RFC 7515, 4.1.11, and RFC 7797
    **{f"critical {crit!r}": Attack(with_header(crit=crit, exp=1), Reason.MALFORMED) for crit in CRITICAL},
    "critical b64": Attack(with_header(crit=["b64"], b64=True), Reason.MALFORMED, is_judged_by_pyjwt=False),
    "b64": Attack(with_header(b64=True), Reason.MALFORMED, is_judged_by_pyjwt=False),
    "b64, which is false": Attack(with_header(b64=False), Reason.MALFORMED),
    "claims that are not encoded": Attack(
        lambda key: signed_parts(key, base64url(a_header(key, b64=False, crit=["b64"])), '{"sub":"x"}'),
        Reason.MALFORMED,
    ),
    # RFC 8259, 4: members twice; parsers differ in which one counts
    **{
        f"twice {member}": Attack(with_member(member), Reason.MALFORMED, is_judged_by_pyjwt=False)
        for member in (
            '"sub":"admin"',
            f'"iss":"{ISSUER}"',
            f'"aud":"{AUDIENCE}"',
            '"exp":253370764799',
            '"canary":1',
            r'"\u0073ub":"admin"',
            '"x":{"y":1,"y":2}',
        )
    },
    "alg twice": Attack(
        lambda key: signed(
            key, f'{{"alg":"none","alg":"{key.algorithm}","kid":"{key.key_id}"}}', the_claims()
        ),
        Reason.MALFORMED,
        is_judged_by_pyjwt=False,
    ),
    "kid twice": Attack(
        lambda key: signed(key, f'{{"kid":"x","alg":"{key.algorithm}","kid":"{key.key_id}"}}', the_claims()),
        Reason.MALFORMED,
        is_judged_by_pyjwt=False,
    ),
    # numbers
    **{
        f"exp {short(exp)}": Attack(
            with_member(f'"exp":{exp}', without="exp"), Reason.MALFORMED, is_judged_by_pyjwt=False
        )
        for exp in (
            "1e400",
            "1e300",
            "253370764800",
            "1" + "0" * 400,
            "1" + "0" * 5000,
            "NaN",
            "Infinity",
            "-Infinity",
            "-1",
            '"4102444800"',
            "true",
            "null",
            "[4102444800]",
            "0x7fffffff",
            "1_000",
            "+1",
            "01",
            ".5",
        )
    },
    **{
        f"number {short(text)}": Attack(
            with_member(f'"x":{text}'), Reason.MALFORMED, is_judged_by_pyjwt=False
        )
        for text in ("NaN", "Infinity", "-Infinity", "[NaN]", "1" + "0" * 5000)
    },
    "NaN in the header": Attack(
        lambda key: signed(key, f'{{"alg":"{key.algorithm}","kid":"{key.key_id}","x":NaN}}', the_claims()),
        Reason.MALFORMED,
        is_judged_by_pyjwt=False,
    ),
    # JSON that is none, or no object
    **{
        f"claims {short(text)}": Attack(with_claims(text), Reason.MALFORMED)
        for text in (
            "[]",
            "null",
            "1",
            '"x"',
            "{",
            "{}{}",
            "{'a':1}",
            '{"a":1,}',
            '{"a"}',
            "//",
            "\0",
            " ",
            nested(2700),
            nested(2700)[:-1],
            '{"a":' * 950,
        )
    },
    **{
        f"header {short(text)}": Attack(with_header(text), Reason.MALFORMED)
        for text in ("[]", "null", "1", '"x"', "{", "{}x", nested(2500), '{"a":' * 950)
    },
    # parts
    "nothing": Attack(lambda key: "", Reason.MALFORMED),
    "dots": Attack(lambda key: "..", Reason.MALFORMED),
    "many dots": Attack(lambda key: "." * 5000, Reason.MALFORMED),
    "two parts": Attack(with_parts(lambda header, claims, _: f"{header}.{claims}"), Reason.MALFORMED),
    "one part": Attack(with_parts(lambda header, *_: header), Reason.MALFORMED),
    "no header": Attack(with_parts(lambda _, claims, signature: f".{claims}.{signature}"), Reason.MALFORMED),
    "no claims": Attack(with_parts(lambda header, _, signature: f"{header}..{signature}"), Reason.MALFORMED),
    "claims twice": Attack(
        with_parts(lambda header, claims, signature: f"{header}.{claims}.{claims}.{signature}"),
        Reason.MALFORMED,
    ),
    "other order": Attack(
        with_parts(lambda header, claims, signature: f"{claims}.{header}.{signature}"), Reason.ALGORITHM
    ),
    "in JSON": Attack(
        with_parts(
            lambda header, claims, signature: json.dumps(
                {"protected": header, "payload": claims, "signature": signature}
            )
        ),
        Reason.MALFORMED,
    ),
    **{
        f"{mark!a} {where} a token": Attack(marked(mark, where), Reason.MALFORMED)
        for mark in (" ", "\n", "\t", "\0", "=", "+", "/", "é", "\ud800", "%2E", ".", "Bearer ", '"')
        for where in ("before", "behind")
    },
    "padding": Attack(marked("==", "behind"), Reason.MALFORMED, is_judged_by_pyjwt=False),
    "a space in a token": Attack(
        with_parts(lambda header, claims, signature: f"{header}. {claims}.{signature}"), Reason.MALFORMED
    ),
    "other bits at the end": Attack(with_other_bits, Reason.MALFORMED),
    "too long": Attack(with_claims(padding="x" * MAX_TOKEN), Reason.MALFORMED, is_judged_by_pyjwt=False),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name: str, algorithm: str) -> None:
    attack = ATTACKS[name]
    token = attack.token(the_key(algorithm))

    assert verdict(token, algorithm) == attack.reason
    if attack.is_judged_by_pyjwt:
        assert not pyjwt_admits(token, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("depth", [100, 900, 2500])
def test_deep_claims_are_judged_as_by_pyjwt(algorithm: str, depth: int) -> None:
    token = with_member(f'"deep":{nested(depth)}')(the_key(algorithm))

    assert (verdict(token, algorithm) == ADMITTED) is pyjwt_admits(token, algorithm)


# Signatures


def integers(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def changed(r: int | None = None, s: int | None = None) -> Callable[[SigningKey, bytes], bytes]:
    """An ES256 signature with other integers."""

    def change(_: SigningKey, signed: bytes) -> bytes:
        signature = ec_key().signature(signed)
        return integers(
            int.from_bytes(signature[:32]) if r is None else r,
            int.from_bytes(signature[32:]) if s is None else s,
        )

    return change


def padded(change: Callable[[bytes], bytes]) -> Callable[[SigningKey, bytes], bytes]:
    """An RS256 signature of something else than the padded hash (RFC 8017, 9.2), by the issuer's key."""

    def signature(key: SigningKey, signed: bytes) -> bytes:
        assert isinstance(key.private, rsa.RSAPrivateKey)
        numbers = key.private.private_numbers()
        message = change(pkcs1(hashlib.sha256(signed).digest()))
        return pow(int.from_bytes(message), numbers.d, numbers.public_numbers.n).to_bytes(256)

    return signature


def pkcs1(digest: bytes) -> bytes:
    whole = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    return b"\x00\x01" + b"\xff" * (256 - 3 - len(whole)) + b"\x00" + whole


def by_rsa(form: padding.AsymmetricPadding, digest: Any) -> Callable[[SigningKey, bytes], bytes]:
    def signature(key: SigningKey, signed: bytes) -> bytes:
        assert isinstance(key.private, rsa.RSAPrivateKey)
        return key.private.sign(signed, form, digest)

    return signature


def as_number(change: Callable[[int, int], int], size: int = 256) -> Callable[[SigningKey, bytes], bytes]:
    """An RS256 signature as a number, changed with the modulus."""

    def signature(key: SigningKey, signed: bytes) -> bytes:
        assert isinstance(key.private, rsa.RSAPrivateKey)
        modulus = key.private.public_key().public_numbers().n
        return change(int.from_bytes(key.signature(signed)), modulus).to_bytes(size)

    return signature


SIGNATURES: dict[str, tuple[str, Callable[[SigningKey, bytes], bytes]]] = {
    "ES256 in DER": ("ES256", lambda key, signed: key.der_signature(signed)),
    "ES256 with r = 0": ("ES256", changed(r=0)),
    "ES256 with s = 0": ("ES256", changed(s=0)),
    "ES256 with r = s = 0": ("ES256", changed(0, 0)),
    "ES256 with r = s = 1": ("ES256", changed(1, 1)),
    "ES256 with r = n": ("ES256", changed(r=P256_ORDER)),
    "ES256 with s = n": ("ES256", changed(s=P256_ORDER)),
    "ES256 with r = s = n": ("ES256", changed(P256_ORDER, P256_ORDER)),
    "ES256 with r = 0 and s = n": ("ES256", changed(0, P256_ORDER)),
    "ES256 with all bits": ("ES256", changed(2**256 - 1, 2**256 - 1)),
    "ES256 one byte short": ("ES256", lambda key, signed: key.signature(signed)[:-1]),
    "ES256 one byte long": ("ES256", lambda key, signed: key.signature(signed) + b"\0"),
    "ES256 with a zero before s": (
        "ES256",
        lambda key, signed: (it := key.signature(signed))[:32] + b"\0" + it[32:],
    ),
    "ES256 with zeros before both": (
        "ES256",
        lambda key, signed: b"\0" + (it := key.signature(signed))[:32] + b"\0" + it[32:],
    ),
    "ES256 twice": ("ES256", lambda key, signed: key.signature(signed) * 2),
    "ES256 with r and s exchanged": (
        "ES256",
        lambda key, signed: (it := key.signature(signed))[32:] + it[:32],
    ),
    "ES256 by P-384": ("ES256", lambda _, signed: ec_key(curve=ec.SECP384R1).signature(signed)),
    "ES256 by secp256k1": ("ES256", lambda _, signed: ec_key(curve=ec.SECP256K1).signature(signed)),
    "ES256 by RSA": ("ES256", lambda _, signed: rsa_key().signature(signed)),
    "RS256 by P-256": ("RS256", lambda _, signed: ec_key().signature(signed)),
    "RS256 one byte short": ("RS256", lambda key, signed: key.signature(signed)[1:]),
    "RS256 with a zero before": ("RS256", lambda key, signed: b"\0" + key.signature(signed)),
    "RS256 with a zero behind": ("RS256", lambda key, signed: key.signature(signed) + b"\0"),
    "RS256 = 0": ("RS256", as_number(lambda *_: 0)),
    "RS256 = 1": ("RS256", as_number(lambda *_: 1)),
    "RS256 = n": ("RS256", as_number(lambda _, modulus: modulus)),
    "RS256 = n - 1": ("RS256", as_number(lambda _, modulus: modulus - 1)),
    "RS256 negated": ("RS256", as_number(lambda number, modulus: modulus - number)),
    "RS256 plus n": ("RS256", as_number(lambda number, modulus: modulus + number, 257)),
    "RS256 with all bits": ("RS256", as_number(lambda *_: 2**2048 - 1)),
    "RS256 with SHA-1": ("RS256", by_rsa(padding.PKCS1v15(), SHA1())),  # noqa: S303 - what is refused
    "RS256 with SHA-384": ("RS256", by_rsa(padding.PKCS1v15(), SHA384())),
    "RS256 with SHA-512": ("RS256", by_rsa(padding.PKCS1v15(), SHA512())),
    "RS256 that is PS256": ("RS256", by_rsa(padding.PSS(padding.MGF1(SHA256()), 32), SHA256())),
    "RS256 of the bare hash": ("RS256", padded(lambda message: message[-32:])),
    "RS256 with block type 2": ("RS256", padded(lambda message: b"\x00\x02" + message[2:])),
    "RS256 with other padding": ("RS256", padded(lambda message: message[:9] + b"\xfe" + message[10:])),
    "RS256 with garbage behind the hash": (
        "RS256",  # Bleichenbacher's attack of 2006
        padded(lambda message: message[:10] + message[-52:] + b"x" * (256 - 10 - 52)),
    ),
    "RS256 of another hash": ("RS256", padded(lambda message: message[:-1] + bytes([message[-1] ^ 1]))),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_that_is_none_is_refused(name: str) -> None:
    algorithm, signature = SIGNATURES[name]
    key = the_key(algorithm)
    text = f"{base64url(a_header(key))}.{base64url(the_claims())}"
    token = f"{text}.{base64url(signature(key, text.encode()))}"

    assert verdict(token, algorithm) == Reason.SIGNATURE
    assert not pyjwt_admits(token, algorithm)


def test_the_paddings_of_these_tests_are_those_of_rs256() -> None:
    signature = padded(lambda message: message)(rsa_key(), b"text")

    assert signature == rsa_key().signature(b"text")


def test_an_es256_signature_with_the_other_s_holds_as_for_pyjwt() -> None:
    text, _, signature = good("ES256").rpartition(".")
    whole = bytes_in(signature)
    other = integers(int.from_bytes(whole[:32]), P256_ORDER - int.from_bytes(whole[32:]))
    token = f"{text}.{base64url(other)}"

    assert verdict(token, "ES256") == ADMITTED
    assert pyjwt_admits(token, "ES256")


# Keys


def without(name: str, key: SigningKey) -> dict[str, Any]:
    return {member: value for member, value in key.jwk().items() if member != name}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_a_published_key_what_is_needed_is_kept(algorithm: str) -> None:
    key = the_key(algorithm)
    published = key.jwk(x5c=["MII"], x5t="x", d="secret", issuer="x", key_ops=["verify"])

    assert usable_key(published, by_name[algorithm]) == key.key()
    assert by_name[algorithm].holds(key.key(), key.signature(b"text"), b"text")
    assert not by_name[algorithm].holds(key.key(), key.signature(b"text"), b"other")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["use", "alg", "key_ops", "kid"])
def test_a_published_key_need_not_say_what_it_is_for(algorithm: str, name: str) -> None:
    key = the_key(algorithm)

    assert usable_key(without(name, key), by_name[algorithm]) == key.key()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"use": None},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"alg": None},
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"key_ops": None},
        {"kty": "oct"},
        {"kty": "OKP"},
        {"kty": None},
        {"kty": 1},
    ],
)
def test_a_published_key_for_something_else_is_not_usable(algorithm: str, change: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey):
        usable_key(the_key(algorithm).jwk(**change), by_name[algorithm])


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("RS256", "kty"),
        ("RS256", "n"),
        ("RS256", "e"),
        ("ES256", "kty"),
        ("ES256", "crv"),
        ("ES256", "x"),
        ("ES256", "y"),
    ],
)
@pytest.mark.parametrize("value", ["missing", "", "=", "AA==", "é", "A", None, 1, ["AQAB"]])
def test_a_published_key_that_lacks_something_is_not_usable(algorithm: str, name: str, value: object) -> None:
    key = the_key(algorithm)
    published = without(name, key) if value == "missing" else key.jwk(**{name: value})

    with pytest.raises(UnusableKey):
        usable_key(published, by_name[algorithm])


def an_odd_number(bits: int) -> str:
    return base64url(((1 << (bits - 1)) + 1).to_bytes((bits + 7) // 8))


UNUSABLE: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "RSA of 1024 bits": ("RS256", lambda: rsa_key(bits=1024).key()),
    "RSA of 2047 bits": ("RS256", lambda: rsa_key().key() | {"n": an_odd_number(2047)}),
    "RSA of 1 bit": ("RS256", lambda: rsa_key().key() | {"n": "AQ"}),
    "RSA of 8193 bits": ("RS256", lambda: rsa_key().key() | {"n": an_odd_number(8193)}),
    "RSA with zeros before": ("RS256", lambda: rsa_key().key() | {"n": base64url(bytes(256) + b"\1")}),
    "RSA with e = 0": ("RS256", lambda: rsa_key().key() | {"e": "AA"}),
    "RSA with e = 1": ("RS256", lambda: rsa_key().key() | {"e": "AQ"}),
    "RSA with e = 2": ("RS256", lambda: rsa_key().key() | {"e": "Ag"}),
    "RSA with an even e": ("RS256", lambda: rsa_key().key() | {"e": "AQAA"}),
    "RSA with e = n": ("RS256", lambda: rsa_key().key() | {"e": rsa_key().key()["n"]}),
    "a P-256 key for RS256": ("RS256", lambda: ec_key().key()),
    "RSA that says EC": ("RS256", lambda: rsa_key().key() | {"kty": "EC"}),
    "an RSA key for ES256": ("ES256", lambda: rsa_key().key()),
    "P-384": ("ES256", lambda: ec_key(curve=ec.SECP384R1).key()),
    "P-384 that says P-256": ("ES256", lambda: ec_key(curve=ec.SECP384R1).key() | {"crv": "P-256"}),
    "secp256k1": ("ES256", lambda: ec_key(curve=ec.SECP256K1).key()),
    "secp256k1 that says P-256": ("ES256", lambda: ec_key(curve=ec.SECP256K1).key() | {"crv": "P-256"}),
    "P-256 that says P-384": ("ES256", lambda: ec_key().key() | {"crv": "P-384"}),
    "EC that says RSA": ("ES256", lambda: ec_key().key() | {"kty": "RSA"}),
    "a point that is not on the curve": (
        "ES256",
        lambda: ec_key().key() | {"y": base64url(bytes(31) + b"\1")},
    ),
    "the point at infinity": ("ES256", lambda: ec_key().key() | dict.fromkeys("xy", base64url(bytes(32)))),
    "a coordinate that is too large": ("ES256", lambda: ec_key().key() | {"x": base64url(b"\xff" * 32)}),
    "a coordinate that is too long": (
        "ES256",
        lambda: ec_key().key() | {"x": base64url(b"\0" + bytes_in(ec_key().key()["x"]))},
    ),
    "a coordinate that is too short": (
        "ES256",
        lambda: ec_key().key() | {"x": base64url(bytes_in(ec_key().key()["x"])[:-1])},
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_weak_or_wrong_key_checks_no_token(name: str) -> None:
    algorithm, key = UNUSABLE[name]

    with pytest.raises(UnusableKey):
        by_name[algorithm].check_key(key())
    assert verdict(good(algorithm), algorithm, find_key=lambda *_: key()) == Reason.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (lambda: rsa_key(bits=1024), "RS256"),
        (lambda: ec_key(curve=ec.SECP384R1), "ES256"),
        (lambda: ec_key(curve=ec.SECP256K1), "ES256"),
    ],
)
def test_a_token_that_a_weak_or_wrong_key_has_signed_is_refused(
    key: Callable[[], SigningKey], algorithm: str
) -> None:
    token = signed(key(), a_header(key()), the_claims())

    assert verdict(token, algorithm, find_key=lambda *_: key().key()) == Reason.UNKNOWN_KEY
    assert verdict(token, algorithm) == Reason.SIGNATURE


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_longer_rsa_keys_are_good(bits: int) -> None:
    key = rsa_key(bits=bits)
    token = signed(key, a_header(key), the_claims())

    assert verdict(token, "RS256", find_key=lambda *_: key.key()) == ADMITTED


def test_the_key_is_looked_for_by_its_id_and_at_that_time() -> None:
    asked: list[tuple[str, object]] = []

    def find_key(key_id: str, at: object) -> Key:
        asked.append((key_id, at))
        return ec_key().key()

    TokenSignatures(by_name["ES256"], find_key).verify(a_token("ES256"), NOON)

    assert asked == [("ec-1", NOON)]


@pytest.mark.parametrize("token", ["", "x.y.z", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.AA"])
def test_no_key_is_looked_for_by_what_is_no_token(token: str) -> None:
    with pytest.raises(Denied):
        TokenSignatures(by_name["ES256"], no_key).verify(token, NOON)


def no_key(key_id: str, at: object) -> Key:
    raise KeysUnavailable("NeverFetched")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_keys_a_token_is_neither_good_nor_bad(algorithm: str) -> None:
    signatures = TokenSignatures(by_name[algorithm], no_key)

    with pytest.raises(KeysUnavailable) as unavailable:
        signatures.verify(good(algorithm), NOON)

    assert_says_nothing_of(good(algorithm), unavailable.value)


# Whatever somebody makes without the issuer's key


DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
EDITS: dict[str, Callable[[str, int, str], str]] = {
    "replace": lambda text, i, it: text[:i] + it + text[i + 1 :],
    "insert": lambda text, i, it: text[:i] + it + text[i:],
    "drop": lambda text, i, _: text[:i] + text[i + 1 :],
    "double": lambda text, i, _: text[:i] + text[i : i + 1] + text[i:],
    "exchange": lambda text, i, _: text[:i] + text[i + 1 : i + 2] + text[i : i + 1] + text[i + 2 :],
    "flip a bit": lambda text, i, it: text[:i] + chr(ord(text[i]) ^ 1 << ord(it) % 7) + text[i + 1 :],
    "other case": lambda text, i, _: text[:i] + text[i].swapcase() + text[i + 1 :],
    "cut off": lambda text, i, _: text[:i],
    "cut the start": lambda text, i, _: text[i + 1 :],
    "repeat": lambda text, i, _: text + text[i:],
}
edits = st.tuples(
    st.sampled_from(list(EDITS)),
    st.integers(0, MAX_TOKEN),
    st.sampled_from(DIGITS + "+/=. \n%") | st.characters(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ODD: list[Any] = [None, True, 0, -1, 1e300, "", "é", "\ud800", [], {}, [""], {"a": 1}, "admin", CANARY]
headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS256", "RS256", "ES256", "PS256", "ES384", *ODD]),
        "kid": st.sampled_from(["rsa-1", "ec-1", "../../dev/null", *ODD]),
        "typ": st.sampled_from(["JWT", "at+jwt", "logout+jwt", *ODD]),
        "crit": st.sampled_from([["b64"], ["exp"], *ODD]),
        "b64": st.booleans(),
    },
)
some_claim_names = st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "client_id", "token_use", "x"])


def edited(draw: st.DrawFn, algorithm: str) -> str:
    """A good token with a few edits."""
    token = good(algorithm)
    for name, at, character in draw(st.lists(edits, min_size=1, max_size=3)):
        token = EDITS[name](token, at % len(token), character) if token else character
    return token


def spliced(draw: st.DrawFn, algorithm: str) -> str:
    """The parts of several good tokens."""
    pool = [good(it, number).split(".") for it in ALGORITHMS for number in range(3)]
    return ".".join(
        draw(st.sampled_from(pool))[i] for i in draw(st.sampled_from([(0, 1, 2), (1, 0, 2), (0, 0, 2)]))
    )


def made_anew(draw: st.DrawFn, algorithm: str) -> str:
    """Another header and other claims, with a signature that somebody could make, or find."""
    key = the_key(algorithm)
    header = a_header(key) | draw(headers)
    claims = the_claims() | draw(st.dictionaries(some_claim_names, st.sampled_from(ODD), max_size=2))
    text = f"{base64url(header)}.{base64url(claims)}"
    secrets = [in_form(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)(key), b"", b"secret"]
    signatures: list[Callable[[], bytes]] = [
        lambda: bytes_in(good(algorithm).rpartition(".")[2]),
        lambda: the_key(algorithm, "somebody else").signature(text.encode()),
        *(partial(hmac.digest, secret, text.encode(), "sha256") for secret in secrets),
        bytes,
        lambda: bytes(64),
        lambda: bytes(256),
        lambda: draw(st.binary(max_size=70)),
    ]
    return f"{text}.{base64url(draw(st.sampled_from(signatures))())}"


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[str, str]:
    """An algorithm, and a token that the issuer has not signed."""
    algorithm = draw(st.sampled_from(ALGORITHMS))
    token = draw(st.sampled_from([edited, edited, spliced, made_anew]))(draw, algorithm)
    assume(token not in {good(it, number) for it in ALGORITHMS for number in range(3)})
    return algorithm, token


REASONS_WITHOUT_A_SIGNATURE = {Reason.MALFORMED, Reason.ALGORITHM, Reason.UNKNOWN_KEY, Reason.SIGNATURE}


@settings(max_examples=examples(400), suppress_health_check=list(HealthCheck))
@given(
    many=st.lists(forgeries(), min_size=25, max_size=25)
)  # 10,000 in CI; an example takes as long as ten of them
def test_whatever_the_issuer_has_not_signed_is_refused(many: list[tuple[str, str]]) -> None:
    for algorithm, token in many:
        denied = refusal(token, algorithm)

        assert denied is not None
        assert denied.reason in REASONS_WITHOUT_A_SIGNATURE
        assert denied.principal is None
        if "=" not in token:  # PyJWT takes padding
            assert not pyjwt_admits(token, algorithm)


# Whatever the issuer signs


ABSENT = "absent"
judged_by_both = st.fixed_dictionaries(
    {
        "iss": st.sampled_from([ISSUER] * 8 + [*LOOK_ALIKES, ABSENT, None, 1, [ISSUER]]),
        "aud": st.sampled_from(
            [AUDIENCE, [AUDIENCE], [AUDIENCE, "other"]] * 4
            + [*AUDIENCES, [], ["other"], [AUDIENCE, 1], {AUDIENCE: 1}, "", ABSENT, None, 1, True]
        ),
        "sub": st.sampled_from([PRINCIPAL] * 6 + ["ü/é", "x" * 128, ABSENT, None, 1, [], True]),
        # seconds from now; no border is within 25 s
        "exp": st.sampled_from([3600, 300, -30, 5.5] * 2 + [-90, -3600, ABSENT, None, [], {}]),
        "iat": st.sampled_from([0, -300, 30, -3.25, ABSENT] * 2 + [90, 3600, None, []]),
        "nbf": st.sampled_from([0, -300, 30, -3.25, ABSENT] * 2 + [90, 3600, None, []]),
        "x": json_values.filter(lambda it: "NaN" not in (text := json.dumps(it)) and "Infinity" not in text),
    }
)


@settings(max_examples=examples(1000))
@given(claims=judged_by_both, algorithm=st.sampled_from(ALGORITHMS))
def test_whatever_the_issuer_signs_has_the_verdict_of_pyjwt(claims: dict[str, Any], algorithm: str) -> None:
    now = seconds(clock.now())
    for name in ("exp", "iat", "nbf"):
        if isinstance(claims[name], int | float):
            claims[name] += now
    key = the_key(algorithm)
    token = signed(key, a_header(key), {name: it for name, it in claims.items() if it != ABSENT})

    admitted = verdict(token, algorithm, some_rules(max_lifetime=MANY)) == ADMITTED

    assert admitted is pyjwt_admits(token, algorithm)


@settings(max_examples=examples(1000))
@given(
    claims=st.dictionaries(some_claim_names.filter(lambda it: it != "client_id"), json_values, max_size=3),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_whatever_is_admitted_pyjwt_admits(claims: dict[str, Any], algorithm: str) -> None:
    key = the_key(algorithm)
    token = signed(key, a_header(key), the_claims() | claims)

    if verdict(token, algorithm, some_rules(max_lifetime=MANY)) == ADMITTED:
        assert pyjwt_admits(token, algorithm)


# Base64url and JSON


BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def is_canonical(text: str) -> bool:
    """Whether *text* is the one Base64url of its bytes, by the standard library."""
    if not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return False
    return base64url(base64.urlsafe_b64decode(text + "==")) == text


@given(data=st.binary(min_size=1))
def test_bytes_are_read_from_their_base64url(data: bytes) -> None:
    assert bytes_in(base64url(data)) == data


@settings(max_examples=examples(1000))
@given(
    text=st.text(DIGITS, max_size=9)
    | st.text(DIGITS + "+/=.\n é", max_size=9)
    | st.text(max_size=5)
    | st.binary(max_size=9).map(base64url).map("{}=".format)
)
def test_only_canonical_base64url_is_read(text: str) -> None:
    assert bytes_or_none(text) == (base64.urlsafe_b64decode(text + "==") if is_canonical(text) else None)


def bytes_or_none(text: str) -> bytes | None:
    try:
        return bytes_in(text)
    except Malformed:
        return None


json_objects = st.dictionaries(
    st.text(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
)


@given(value=json_objects, indent=st.none() | st.integers(0, 2))
def test_an_object_is_read_from_its_json(value: dict[str, Any], indent: int | None) -> None:
    assert object_in(base64url(json.dumps(value, indent=indent))) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"[]",
        b"1",
        b"null",
        b'"{}"',
        b"{}{}",
        b"{} x",
        b"{'a':1}",
        b'{"a":1,}',
        b"{a:1}",
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":[-Infinity]}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":"\n"}',
        b'{"a":/**/1}',
        b'{"\xff":1}',
        b'{"\xed\xa0\x80":1}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":1' + b"0" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_object_of_json_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        object_in(base64url(data))
