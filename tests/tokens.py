"""An issuer of tokens: its keys, tokens that are good, texts that are signed as they are, and fakes.

Keys are made once per process. No token is written down: one that is found in a
file would be reported as a leak.
"""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from app.domain.admission import Grant, Reason
from app.domain.errors import Denied
from app.domain.tokens import Key, TokenRules
from app.settings.tokens import jwks_url, token_algorithm, token_rules
from tests.builders import NOON

ISSUER = "https://issuer.example.com/"
AUDIENCE = "switchboard"
PRINCIPAL = "user-42"
LIFETIME = timedelta(hours=1)

ALGORITHMS = ("RS256", "ES256")

TOKENS = {
    "ADMISSION": "token",
    "TOKEN_ISSUER": ISSUER,
    "TOKEN_AUDIENCE": AUDIENCE,
    "KEYS_TABLE": "Keys",
    "STORE_ATTEMPTS": "1",  # the keys are read while the parts are built
}
"""The variables by which $connect asks for tokens."""
TICKETS = {"ADMISSION": "ticket", "TICKETS_TABLE": "Tickets"}
"""Those by which it asks for tickets."""

REASONS: Sequence[str] = [value for name, value in vars(Reason).items() if name.isupper()]
"""Every reason of a refusal."""

type Json = Mapping[str, Any]
type Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the issuer."""

    algorithm: str
    key_id: str
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    def jwk(self, **changes: Any) -> Changes:
        """The public key, as the issuer publishes it."""
        own = {"kid": self.key_id, "use": "sig", "alg": self.algorithm}
        return own | self.key() | changes

    def key(self) -> dict[str, str]:
        """The public key, as it is kept for the handshakes."""
        numbers = self.private.public_key().public_numbers()
        if isinstance(numbers, rsa.RSAPublicNumbers):
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp256k1": "secp256k1"}[numbers.curve.name]
        size = (numbers.curve.key_size + 7) // 8
        return {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}

    def signature(self, signed: bytes) -> bytes:
        """The signature of *signed* as tokens have it; ES256 has two integers in a row (RFC 7518, 3.4)."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(signed, PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self.der_signature(signed))
        size = (self.private.curve.key_size + 7) // 8
        return r.to_bytes(size) + s.to_bytes(size)

    def der_signature(self, signed: bytes) -> bytes:
        """The signature of *signed* as OpenSSL gives it; of an elliptic curve only."""
        assert isinstance(self.private, ec.EllipticCurvePrivateKey)
        return self.private.sign(signed, ec.ECDSA(SHA256()))


def rsa_key(key_id: str = "rsa-1", *, bits: int = 2048, owner: str = ISSUER) -> SigningKey:
    """The RSA key of that id, size and owner: the same one each time."""
    return SigningKey("RS256", key_id, _rsa(key_id, bits, owner))


@cache
def _rsa(key_id: str, bits: int, owner: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key(
    key_id: str = "ec-1", *, curve: type[ec.EllipticCurve] = ec.SECP256R1, owner: str = ISSUER
) -> SigningKey:
    """The key of that id, curve and owner: the same one each time."""
    return SigningKey("ES256", key_id, _ec(key_id, curve, owner))


@cache
def _ec(key_id: str, curve: type[ec.EllipticCurve], owner: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def the_key(algorithm: str, owner: str = ISSUER) -> SigningKey:
    """The issuer's key of *algorithm*, or one of somebody else with the same id."""
    return rsa_key(owner=owner) if algorithm == "RS256" else ec_key(owner=owner)


class TokenSettings(NamedTuple):
    """All settings of tokens."""

    rules: Mapping[str, object]
    algorithm: str
    jwks_url: str


def token_settings(environ: Mapping[str, str], *, unscoped_sees_all: bool = False) -> TokenSettings:
    """Read the settings of tokens."""
    rules = token_rules(environ, unscoped_sees_all=unscoped_sees_all)
    return TokenSettings(vars(rules), token_algorithm(environ), jwks_url(environ))


def some_rules(**changes: Any) -> TokenRules:
    """Rules that a token of ``a_token`` keeps."""
    whole: Changes = {
        "issuer": ISSUER,
        "audiences": (AUDIENCE,),
        "type": "access",
        "max_lifetime": timedelta(hours=24),
    }
    return TokenRules(**whole | changes)


def some_claims(at: datetime = NOON, *, without: Collection[str] = (), **changes: Any) -> Changes:
    """The claims of a good token that is issued *at* a time."""
    whole: Changes = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": PRINCIPAL,
        "iat": seconds(at),
        "nbf": seconds(at),
        "exp": seconds(at + LIFETIME),
        "jti": "t-1",
    }
    return {name: value for name, value in (whole | changes).items() if name not in without}


def a_token(
    algorithm: str = "RS256",
    at: datetime = NOON,
    *,
    header: Json | None = None,
    without: Collection[str] = (),
    **claims: Any,
) -> str:
    """A good token that is issued *at* a time, signed by PyJWT, with those members and claims changed."""
    key = the_key(algorithm)
    return jwt.encode(
        some_claims(at, without=without, **claims),
        key.private,
        algorithm,
        headers={"kid": key.key_id} | dict(header or {}),
    )


def signed(key: SigningKey, header: Json | str, claims: Json | str) -> str:
    """A token of *header* and *claims*, each as it is if it is a text. The signature holds."""
    return signed_parts(key, base64url(header), base64url(claims))


def signed_parts(key: SigningKey, header: str, claims: str) -> str:
    """A token of two parts that are encoded already, or are not. The signature holds."""
    text = f"{header}.{claims}"
    return f"{text}.{base64url(key.signature(text.encode()))}"


def a_header(key: SigningKey, **changes: Any) -> Changes:
    """The header of a good token."""
    return {"alg": key.algorithm, "kid": key.key_id, "typ": "JWT"} | changes


def base64url(value: Json | str | bytes) -> str:
    """Bytes, a text or a JSON object in Base64url."""
    if isinstance(value, Mapping):
        value = json.dumps(value, separators=(",", ":"))
    if isinstance(value, str):
        value = value.encode()
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def seconds(at: datetime) -> int:
    """A NumericDate (RFC 7519, 2)."""
    return int(at.timestamp())


def _number(value: int, size: int | None = None) -> str:
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8))


class FakeIssuer:
    """Issuer with these ``keys_now``; ``error`` is what it raises instead."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self.keys_now = keys
        self.error: Exception | None = None
        self.requests = 0

    def keys(self) -> Mapping[str, Key]:
        self.requests += 1
        if self.error is not None:
            raise self.error
        return self.keys_now


class FakeTokens:
    """Tokens of which *grants* has what each one grants; any other is refused."""

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self._grants = grants
        self.asked: list[tuple[str, datetime]] = []

    def grant(self, token: str, at: datetime) -> Grant:
        self.asked.append((token, at))
        try:
            return self._grants[token]
        except KeyError:
            raise Denied(Reason.MALFORMED) from None
